//! IncrementalAlterConfigs (KIP-339) and the older AlterConfigs, of topics and brokers.
use std::fmt;

use ottla_proto::config::{self, Alteration, ConfigError, ConfigErrors, Scope, ServerConfig};
use ottla_proto::ids::NodeId;
use ottla_proto::limits::METADATA_RECORD_BYTES;
use ottla_proto::metadata::{ConfigMap, Image, MetadataRecord, encoded_len, records};
use thiserror::Error;

use crate::Decision;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Topic(String),
    /// `None`: the defaults of all brokers.
    Broker(Option<NodeId>),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(Some(id)) => write!(f, "broker {id}"),
            Self::Broker(None) => write!(f, "the default of all brokers"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Incremental(Vec<Alteration>),
    /// Everything that is not named goes back to its default.
    Replace(Vec<(String, Option<String>)>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlterConfigs {
    pub resources: Vec<(Resource, Change)>,
    pub validate_only: bool,
}

/// One per resource, in the order of the request.
pub type Reply = Vec<(Resource, Result<(), AlterConfigError>)>;

#[derive(Clone, Debug, Error, PartialEq)]
pub enum AlterConfigError {
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    /// BROKER_NOT_AVAILABLE
    #[error("No broker with id {0} found.")]
    UnknownBroker(NodeId),
    /// INVALID_REQUEST
    #[error("The request names {0} more than once")]
    Duplicate(Resource),
    /// INVALID_CONFIG, or INVALID_REQUEST if [`ConfigError::is_invalid_request`]
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// INVALID_CONFIG
    #[error("The broker could not run with these configs: {0}")]
    Together(String),
    /// INVALID_CONFIG
    #[error("The value of {key} has {bytes} bytes, too many for a metadata record")]
    TooLong { key: String, bytes: usize },
}

impl From<ConfigErrors> for AlterConfigError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Together(errors.to_string())
    }
}

/// Each resource is altered as a whole or not at all, whatever becomes of the others.
pub fn decide(image: &Image, server: &ServerConfig, request: &AlterConfigs) -> Decision<Reply> {
    let mut records = Vec::new();
    let mut reply = Vec::with_capacity(request.resources.len());
    let mut named: Vec<_> = request.resources.iter().map(|(r, _)| r).collect();
    named.sort_unstable();
    for (resource, change) in &request.resources {
        let first = named.partition_point(|other| *other < resource);
        let result = match named.get(first + 1) == Some(&resource) {
            true => Err(AlterConfigError::Duplicate(resource.clone())),
            false => alter(image, server, resource, change),
        };
        reply.push((
            resource.clone(),
            result.map(|mut new| records.append(&mut new)),
        ));
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn alter(
    image: &Image,
    server: &ServerConfig,
    resource: &Resource,
    change: &Change,
) -> Result<Vec<MetadataRecord>, AlterConfigError> {
    let (current, scope) = match resource {
        Resource::Topic(name) if image.topic(name).is_none() => {
            return Err(AlterConfigError::UnknownTopic(name.clone()));
        }
        Resource::Topic(name) => (image.topic_configs(name), Scope::Topic),
        Resource::Broker(Some(id)) if image.broker(*id).is_none() => {
            return Err(AlterConfigError::UnknownBroker(*id));
        }
        Resource::Broker(Some(id)) => (image.broker_configs(Some(*id)), Scope::Broker),
        Resource::Broker(None) => (image.broker_configs(None), Scope::ClusterDefault),
    };
    let configs = match change {
        Change::Incremental(alterations) => config::alter(current, alterations, scope)?,
        Change::Replace(configs) => config::replace(configs, scope)?,
    };
    match resource {
        Resource::Topic(_) => {
            config::validate_topic_configs(server, &configs)?;
        }
        Resource::Broker(Some(_)) => {
            server.with_dynamic(image.broker_configs(None), &configs)?;
        }
        Resource::Broker(None) => {
            server.with_dynamic(&configs, &ConfigMap::new())?;
        }
    }
    let (resource_type, name) = match resource {
        Resource::Topic(name) => (records::ConfigResource::Topic, name.clone()),
        Resource::Broker(id) => {
            let name = id.map(|id| id.to_string()).unwrap_or_default();
            (records::ConfigResource::Broker, name)
        }
    };
    differences(resource_type, &name, current, &configs)
}

/// The records that turn the configs `before` into those `after`.
fn differences(
    resource_type: records::ConfigResource,
    name: &str,
    before: &ConfigMap,
    after: &ConfigMap,
) -> Result<Vec<MetadataRecord>, AlterConfigError> {
    let set = after.iter().filter(|(k, v)| before.get(*k) != Some(*v));
    let unset = before.keys().filter(|k| !after.contains_key(*k));
    let record = |key: &str, value| config_record(resource_type, name, key, value);
    let mut records: Vec<_> = unset.map(|key| record(key, None)).collect();
    for (key, value) in set {
        let record = record(key, Some(value));
        if encoded_len(&record) > METADATA_RECORD_BYTES {
            let (key, bytes) = (key.clone(), value.len());
            return Err(AlterConfigError::TooLong { key, bytes });
        }
        records.push(record);
    }
    Ok(records)
}

pub(crate) fn config_record(
    resource_type: records::ConfigResource,
    name: &str,
    key: &str,
    value: Option<&str>,
) -> MetadataRecord {
    MetadataRecord::Config(records::Config {
        resource_type: resource_type.into(),
        resource_name: name.to_owned(),
        key: key.to_owned(),
        value: value.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{ClusterImage, server};
    use config::AlterOp;

    fn topic(name: &str) -> Resource {
        Resource::Topic(name.to_owned())
    }

    fn set(key: &str, value: &str) -> Alteration {
        op(AlterOp::Set, key, value)
    }

    fn op(op: AlterOp, key: &str, value: &str) -> Alteration {
        let (key, value) = (key.to_owned(), Some(value.to_owned()));
        Alteration { op, key, value }
    }

    fn alter(
        cluster: &mut ClusterImage,
        resource: Resource,
        change: Change,
    ) -> Result<(), AlterConfigError> {
        let (resources, validate_only) = (vec![(resource, change)], false);
        let request = AlterConfigs {
            resources,
            validate_only,
        };
        let decision = decide(&cluster.image(), &server(&[]), &request);
        let [(_, result)] = cluster.apply(decision).try_into().unwrap();
        result
    }

    #[test]
    fn incremental_changes_add_up() {
        let mut cluster = ClusterImage::with_brokers(1);
        cluster.create("a", 1, 1);
        let mut change = |changes: &[Alteration]| {
            alter(
                &mut cluster,
                topic("a"),
                Change::Incremental(changes.to_vec()),
            )
            .unwrap();
            cluster.image().topic_configs("a").clone()
        };
        let configs = change(&[set("retention.ms", "5"), set("max.message.bytes", "9")]);
        assert_eq!(
            (&*configs["retention.ms"], &*configs["max.message.bytes"]),
            ("5", "9")
        );
        let configs = change(&[op(AlterOp::Append, "cleanup.policy", "compact")]);
        assert_eq!(
            (configs.len(), &*configs["cleanup.policy"]),
            (3, "delete,compact")
        );
        let configs = change(&[op(AlterOp::Delete, "retention.ms", "")]);
        assert!(!configs.contains_key("retention.ms") && configs.len() == 2);
    }

    #[test]
    fn replacing_forgets_the_rest() {
        let mut cluster = ClusterImage::with_brokers(1);
        cluster.create("a", 1, 1);
        let first = vec![set("retention.ms", "5"), set("max.message.bytes", "9")];
        alter(&mut cluster, topic("a"), Change::Incremental(first)).unwrap();
        let second = vec![("retention.ms".to_owned(), Some("6".to_owned()))];
        alter(&mut cluster, topic("a"), Change::Replace(second)).unwrap();
        let expected: ConfigMap = [("retention.ms".to_owned(), "6".to_owned())].into();
        assert_eq!(cluster.image().topic_configs("a"), &expected);
        alter(&mut cluster, topic("a"), Change::Replace(vec![])).unwrap();
        assert!(cluster.image().topic_configs("a").is_empty());
    }

    #[test]
    fn broker_configs_are_apart_from_their_defaults() {
        let mut cluster = ClusterImage::with_brokers(1);
        for (id, value) in [(Some(1), "2097152"), (None, "3145728")] {
            let change = Change::Incremental(vec![set("message.max.bytes", value)]);
            alter(&mut cluster, Resource::Broker(id), change).unwrap();
        }
        let image = cluster.image();
        assert_eq!(
            image.broker_configs(Some(1))["message.max.bytes"],
            "2097152"
        );
        assert_eq!(image.broker_configs(None)["message.max.bytes"], "3145728");
        assert!(image.broker_configs(Some(2)).is_empty());
    }

    #[test]
    fn refuses() {
        let mut cluster = ClusterImage::with_brokers(1);
        cluster.create("a", 1, 1);
        let mut refused = |resource, changes: &[Alteration]| {
            alter(
                &mut cluster,
                resource,
                Change::Incremental(changes.to_vec()),
            )
            .unwrap_err()
        };
        let unknown = AlterConfigError::UnknownTopic("b".to_owned());
        assert_eq!(refused(topic("b"), &[]), unknown);
        let broker = refused(Resource::Broker(Some(7)), &[]);
        assert_eq!(broker, AlterConfigError::UnknownBroker(7));
        for (changes, request_at_fault) in [
            (vec![set("retention.ms", "soon")], false),
            (vec![set("retention.mss", "5")], false),
            (
                vec![set("retention.ms", "5"), set("retention.ms", "6")],
                true,
            ),
        ] {
            match refused(topic("a"), &changes) {
                AlterConfigError::Config(e) => assert_eq!(e.is_invalid_request(), request_at_fault),
                other => panic!("{other}"),
            }
        }
        assert!(cluster.image().topic_configs("a").is_empty());
    }

    #[test]
    fn one_bad_resource_does_not_stop_the_others() {
        let mut cluster = ClusterImage::with_brokers(1);
        for name in ["a", "b", "c"] {
            cluster.create(name, 1, 1);
        }
        let change = || Change::Incremental(vec![set("retention.ms", "5")]);
        let names = ["b", "a", "x", "b", "c"];
        let resources = names.map(|name| (topic(name), change())).to_vec();
        let mut request = AlterConfigs {
            resources,
            validate_only: true,
        };
        let server = server(&[]);
        let validated = decide(&cluster.image(), &server, &request);
        assert!(validated.records.is_empty());
        request.validate_only = false;
        let decision = decide(&cluster.image(), &server, &request);
        assert_eq!(validated.reply, decision.reply);
        let fine: Vec<_> = decision
            .reply
            .iter()
            .map(|(_, result)| result.is_ok())
            .collect();
        assert_eq!(fine, [false, true, false, false, true]);
        assert_eq!(decision.records.len(), 2);
    }
}
