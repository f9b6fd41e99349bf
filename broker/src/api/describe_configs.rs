//! DescribeConfigs v1 to v4 (KIP-133, KIP-226, KIP-569) of topics, of this broker, and of what all
//! brokers share (the broker resource without a name).
//!
//! A resource that is named twice is answered once, so that a small request has no huge answer.

use std::collections::HashSet;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::alter_configs::Resource;
use ottla_proto::config::{self, ConfigEntry};

use super::RequestContext;
use super::brokers::unknown_topic;
use super::configs;
use super::errors::{NONE, Refusal};
use super::reply::Space;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    context.wait_for_place(services).await;
    let mut space = Space::new(&services.fetch_room, context.version);
    let mut seen = HashSet::new();
    let shown = Shown {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let first = request
        .resources
        .into_iter()
        .filter(|r| seen.insert((r.resource_type, r.resource_name.clone())));
    let results = first.map(|resource| {
        let entries = entries(services, &resource);
        let answer = result(resource, entries, &shown);
        let (kind, name) = (answer.resource_type, answer.resource_name.clone());
        space.fit(answer, |refusal| {
            let asked = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(name);
            result(asked, Err(refusal), &shown)
        })
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn entries(
    services: &Services,
    asked: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let image = services.metadata.current();
    let server = services.metadata.config();
    match configs::resource(
        asked.resource_type,
        &asked.resource_name,
        services.metadata.node_id(),
    )? {
        Resource::Topic(name) if image.topic(&name).is_none() => Err(unknown_topic(&name).into()),
        Resource::Topic(name) => Ok(config::describe_topic(&server, image.topic_configs(&name))),
        Resource::Broker(Some(_)) => Ok(config::describe_broker(&server)),
        Resource::Broker(None) => Ok(config::describe_cluster_default(image.broker_configs(None))),
    }
}

/// What is told of a config besides its value.
#[derive(Debug)]
struct Shown {
    synonyms: bool,
    documentation: bool,
}

fn result(
    asked: DescribeConfigsResource,
    entries: Result<Vec<ConfigEntry>, Refusal>,
    shown: &Shown,
) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name);
    let entries = match entries {
        Ok(entries) => entries,
        Err(refusal) => {
            return result
                .with_error_code(refusal.code)
                .with_error_message(refusal.text());
        }
    };
    // Null asks for all, and so does, as in Kafka, an empty list.
    let keys: HashSet<StrBytes> = asked.configuration_keys.into_iter().flatten().collect();
    let wanted = |entry: &ConfigEntry| {
        keys.is_empty() || keys.contains(&StrBytes::from_static_str(entry.name))
    };
    let entries = entries
        .into_iter()
        .filter(wanted)
        .map(|entry| described(entry, shown));
    result.with_error_code(NONE).with_configs(entries.collect())
}

fn described(entry: ConfigEntry, shown: &Shown) -> DescribeConfigsResourceResult {
    let synonyms = entry
        .synonyms
        .into_iter()
        .filter(|_| shown.synonyms)
        .map(|synonym| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(synonym.name))
                .with_value(synonym.value.map(StrBytes::from_string))
                .with_source(synonym.source as i8)
        });
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(entry.value.map(StrBytes::from_string))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.is_sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(entry.kind as i8)
        .with_documentation(
            shown
                .documentation
                .then(|| StrBytes::from_static_str(entry.doc)),
        )
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{int8, list, outcome, str_bytes, text};
    use super::*;
    use ottla_proto::config::definitions::Kind;
    use ottla_proto::config::{ConfigSynonym, Source};
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn entries() -> impl Strategy<Value = Vec<ConfigEntry>> {
        let source = select(vec![
            Source::DynamicTopic,
            Source::DynamicDefaultBroker,
            Source::StaticBroker,
            Source::Default,
        ]);
        // No value is longer: the definitions are checked against it.
        let value = || option::of(text());
        let name = || select(vec!["retention.ms", "log.retention.hours"]);
        let synonym = (name(), value(), source.clone());
        let synonym = synonym.prop_map(|(name, value, source)| ConfigSynonym {
            name,
            value,
            source,
        });
        let kind = select(vec![Kind::Boolean, Kind::List, Kind::Password]);
        let flags = (any::<bool>(), any::<bool>());
        let entry = (name(), value(), source, flags, kind, list(synonym));
        list(entry.prop_map(|(name, value, source, flags, kind, synonyms)| ConfigEntry {
            name,
            value,
            source,
            is_sensitive: flags.0,
            read_only: flags.1,
            kind,
            doc: "How long.",
            synonyms,
        }))
    }

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<DescribeConfigsResponse> {
        let asked = (int8(), str_bytes()).prop_map(|(kind, name)| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(name)
                .with_configuration_keys(None)
        });
        let shown = (any::<bool>(), any::<bool>()).prop_map(|(synonyms, documentation)| Shown {
            synonyms,
            documentation,
        });
        let one = (asked, outcome(entries()), shown);
        let one = one.prop_map(|(asked, entries, shown)| result(asked, entries, &shown));
        list(one)
            .prop_map(|results| DescribeConfigsResponse::default().with_results(results))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: DescribeConfigsResponse,
    ) -> DescribeConfigsResponse {
        if version < 3 {
            let configs = response.results.iter_mut().flat_map(|result| &mut result.configs);
            for config in configs {
                config.config_type = 0;
                config.documentation = DescribeConfigsResourceResult::default().documentation;
            }
        }
        response
    }

    fn entry(name: &'static str) -> ConfigEntry {
        let source = Source::DynamicTopic;
        ConfigEntry {
            name,
            value: Some("5".to_owned()),
            source,
            is_sensitive: false,
            read_only: false,
            kind: Kind::Long,
            doc: "How long.",
            synonyms: vec![ConfigSynonym {
                name,
                value: None,
                source,
            }],
        }
    }

    fn ask(keys: Option<&[&'static str]>) -> DescribeConfigsResource {
        let keys = keys.map(|keys| {
            keys.iter()
                .map(|key| StrBytes::from_static_str(key))
                .collect()
        });
        DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_configuration_keys(keys)
    }

    #[test]
    fn keys_choose() {
        let shown = Shown {
            synonyms: false,
            documentation: false,
        };
        let names = |keys: Option<&[&'static str]>| -> Vec<String> {
            let described = result(ask(keys), Ok(vec![entry("a"), entry("b")]), &shown);
            described
                .configs
                .iter()
                .map(|config| config.name.to_string())
                .collect()
        };
        assert_eq!(names(None), ["a", "b"]);
        assert_eq!(names(Some(&[])), ["a", "b"]);
        assert_eq!(names(Some(&["b", "x"])), ["b"]);
    }

    #[test]
    fn tells_what_is_asked_for() {
        for (synonyms, documentation) in [(false, false), (true, true)] {
            let shown = Shown {
                synonyms,
                documentation,
            };
            let found = result(ask(None), Ok(vec![entry("a")]), &shown);
            let config = &found.configs[0];
            assert_eq!((config.config_source, config.config_type), (1, 5));
            assert_eq!(
                (!config.synonyms.is_empty(), config.documentation.is_some()),
                (synonyms, documentation)
            );
        }
    }
}
