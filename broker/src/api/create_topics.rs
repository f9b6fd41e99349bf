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
use ottla_controller::create_topics::{CreateTopics, CreatedTopic, NewTopic};
use ottla_proto::config::{self, ConfigEntry, ServerConfig};

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
    let server = services.metadata.config();
    let results = reply.into_iter().map(|(name, result)| match result {
        Ok(topic) if late.contains(&topic.topic_id) => {
            let message = "The topic is made, but not ready yet";
            refused(name, Refusal::new(ResponseError::RequestTimedOut, message))
        }
        Ok(topic) => {
            if !validate_only {
                tracing::info!(topic = %name, partitions = topic.num_partitions, "made a topic");
            }
            created(context.version, &server, name, topic)
        }
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
mod tests {
    use super::*;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_topics_request::{
        CreatableReplicaAssignment, CreatableTopicConfig,
    };
    use kafka_protocol::protocol::{Decodable, Encodable};
    use uuid::Uuid;

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
    fn encodes_in_every_version() {
        let topic = CreatedTopic {
            topic_id: Uuid::from_u128(7),
            num_partitions: 3,
            replication_factor: 1,
            configs: [("retention.ms".to_owned(), "5".to_owned())].into(),
            note: None,
        };
        for version in 2..=7 {
            let results = vec![
                created(version, &server(), "a".to_owned(), topic.clone()),
                refused(
                    "b".to_owned(),
                    Refusal::new(ResponseError::InvalidPartitions, "no"),
                ),
            ];
            let mut bytes = bytes::BytesMut::new();
            CreateTopicsResponse::default()
                .with_topics(results)
                .encode(&mut bytes, version)
                .unwrap();
            let read = CreateTopicsResponse::decode(&mut bytes, version).unwrap();
            assert_eq!(read.topics[0].topic_id.is_nil(), version < 7);
            if version >= 5 {
                assert!(read.topics.iter().all(|topic| topic.configs.is_some()));
                let configs = read.topics[0].configs.as_ref().unwrap();
                let retention = configs
                    .iter()
                    .find(|config| &*config.name == "retention.ms")
                    .unwrap();
                assert_eq!(
                    (retention.value.as_deref(), retention.config_source),
                    (Some("5"), 1)
                );
            }
        }
    }
}
