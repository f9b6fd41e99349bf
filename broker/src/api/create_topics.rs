//! CreateTopics v2 to v7 (KIP-4, KIP-464, KIP-516, KIP-525).
//!
//! Answers once the new topics can be worked with on this broker, so that what a client does next
//! finds them; REQUEST_TIMED_OUT if that takes longer than the request's timeout. They are made all
//! the same then.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::create_topics::{CreateTopics, CreatedTopic, NewTopic, Reply};
use ottla_proto::config::{self, ConfigEntry, ServerConfig};
use uuid::Uuid;

use super::RequestContext;
use super::brokers;
use super::errors::{NONE, Refusal};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let deadline = brokers::deadline(request.timeout_ms);
    let validate_only = request.validate_only;
    let asked = CreateTopics {
        topics: request.topics.into_iter().map(new_topic).collect(),
        validate_only,
    };
    let reply = match services.controller.create_topics(&asked).await {
        Ok(reply) => reply,
        Err(error) => {
            let topics = asked
                .topics
                .into_iter()
                .map(|topic| refused(topic.name, Refusal::from(&error)));
            return CreateTopicsResponse::default().with_topics(topics.collect());
        }
    };
    let mut late = Vec::new();
    if !validate_only {
        let made = reply.iter().filter_map(|(_, result)| result.as_ref().ok());
        let made = made
            .map(|topic| (topic.topic_id, topic.num_partitions as usize))
            .collect();
        late = brokers::wait_until_served(services, made, deadline).await;
    }
    for (name, result) in reply.iter().filter(|_| !validate_only) {
        if let Ok(topic) = result {
            tracing::info!(topic = %name, partitions = topic.num_partitions, "made a topic");
        }
    }
    response(context.version, &services.metadata.config(), reply, &late)
}

/// `late` are the topics that are made and cannot be worked with yet.
fn response(
    version: i16,
    server: &ServerConfig,
    reply: Reply,
    late: &[Uuid],
) -> CreateTopicsResponse {
    let results = reply.into_iter().map(|(name, result)| match result {
        Ok(topic) if late.contains(&topic.topic_id) => {
            let message = "The topic is made, but not ready yet";
            refused(name, Refusal::new(ResponseError::RequestTimedOut, message))
        }
        Ok(topic) => created(version, server, name, topic),
        Err(error) => refused(name, Refusal::from(&error)),
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| {
        let replicas = assignment.broker_ids.into_iter().map(|id| id.0).collect();
        (assignment.partition_index, replicas)
    });
    let configs = topic
        .configs
        .into_iter()
        .map(|c| (c.name.to_string(), c.value.map(|value| value.to_string())));
    NewTopic {
        name: topic.name.to_string(),
        num_partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

/// The configs are a list even where there is nothing to tell: Java's admin client fails on null.
fn refused(name: String, refusal: Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(TopicName(StrBytes::from_string(name)))
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

fn created(
    version: i16,
    server: &ServerConfig,
    name: String,
    topic: CreatedTopic,
) -> CreatableTopicResult {
    if let Some(note) = &topic.note {
        tracing::warn!(topic = %name, "{note}");
    }
    let entries = if version >= 5 {
        config::describe_topic(server, &topic.configs)
    } else {
        Vec::new()
    };
    CreatableTopicResult::default()
        .with_name(TopicName(StrBytes::from_string(name)))
        .with_topic_id(topic.topic_id)
        .with_error_code(NONE)
        .with_num_partitions(topic.num_partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(Some(entries.into_iter().map(described).collect()))
}

fn described(entry: ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(entry.value.map(StrBytes::from_string))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.is_sensitive)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{id, int16, int32, list, text};
    use super::*;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_topics_request::{
        CreatableReplicaAssignment, CreatableTopicConfig,
    };
    use ottla_controller::create_topics::CreateTopicError;
    use ottla_controller::{AssignmentError, NameError, PlacementError};
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn not_created() -> impl Strategy<Value = CreateTopicError> {
        use CreateTopicError as E;
        let others = vec![
            E::Prohibited,
            E::Duplicate,
            E::CountsWithAssignments,
            E::RequestTooLarge,
            E::ClusterFull,
            E::Name(NameError::Empty),
            E::Placement(PlacementError::TooMany(99)),
            E::Assignment(AssignmentError::Empty(3)),
        ];
        prop_oneof![
            select(others),
            text().prop_map(E::Exists),
            text().prop_map(|name| E::Name(NameError::Collides(name))),
        ]
    }

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<CreateTopicsResponse> {
        let configs = text().prop_map(|value| ("retention.ms".to_owned(), value));
        let created = (id(), int32(), int16(), option::of(configs), any::<bool>());
        let created = created.prop_map(|(topic_id, num_partitions, factor, configs, late)| {
            let topic = CreatedTopic {
                topic_id,
                num_partitions,
                replication_factor: factor,
                configs: configs.into_iter().collect(),
                note: None,
            };
            (Ok(topic), late)
        });
        let result = prop_oneof![created, not_created().prop_map(|error| (Err(error), false))];
        list((text(), result))
            .prop_map(move |results| {
                let late = results.iter().filter(|(_, (_, late))| *late);
                let late = late.filter_map(|(_, (topic, _))| Some(topic.as_ref().ok()?.topic_id));
                let late: Vec<_> = late.collect();
                let reply = results.into_iter().map(|(name, (result, _))| (name, result));
                response(version, &server(), reply.collect(), &late)
            })
            .boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: CreateTopicsResponse,
    ) -> CreateTopicsResponse {
        for topic in &mut response.topics {
            if version < 7 {
                topic.topic_id = Uuid::nil();
            }
            if version < 5 {
                let lacking = CreatableTopicResult::default();
                topic.num_partitions = lacking.num_partitions;
                topic.replication_factor = lacking.replication_factor;
                topic.configs = lacking.configs;
            }
        }
        response
    }

    fn server() -> ServerConfig {
        ServerConfig::load(None, [], &[]).unwrap().0
    }

    #[test]
    fn reads_assignments_and_configs() {
        let name = StrBytes::from_static_str;
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(0)
            .with_broker_ids(vec![BrokerId(2), BrokerId(1)]);
        let config = CreatableTopicConfig::default()
            .with_name(name("retention.ms"))
            .with_value(Some(name("5")));
        let topic = CreatableTopic::default()
            .with_name(TopicName(name("a")))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment])
            .with_configs(vec![config]);
        let expected = NewTopic {
            name: "a".to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![(0, vec![2, 1])],
            configs: vec![("retention.ms".to_owned(), Some("5".to_owned()))],
        };
        assert_eq!(new_topic(topic), expected);
    }

    #[test]
    fn configs_are_told_from_v5_and_never_null() {
        for version in 2..=7 {
            let retention = [("retention.ms".to_owned(), "5".to_owned())];
            let topic = CreatedTopic {
                topic_id: Uuid::from_u128(7),
                num_partitions: 3,
                replication_factor: 1,
                configs: retention.into(),
                note: None,
            };
            let told = created(version, &server(), "a".to_owned(), topic);
            let configs = told.configs.expect("Java's admin client fails on null");
            let mut configs = configs.iter();
            let retention = configs.find(|config| &*config.name == "retention.ms");
            let value = retention.map(|c| (c.value.as_deref(), c.config_source));
            assert_eq!(value, (version >= 5).then_some((Some("5"), 1)));
            let no = Refusal::new(ResponseError::InvalidPartitions, "no");
            assert_eq!(refused("b".to_owned(), no).configs, Some(vec![]));
        }
    }
}
