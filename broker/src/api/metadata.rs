//! Metadata v0 to v13 (KIP-4, KIP-78, KIP-110, KIP-320, KIP-430, KIP-516).
//!
//! A topic that is asked for and made on the way (`auto.create.topics.enable`, and from v4 the
//! request's consent) is waited for a moment, so that most clients never see it half made;
//! LEADER_NOT_AVAILABLE is what the others see, as in Kafka.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::create_topics::{CreateTopicError, CreateTopics, auto_topic};
use ottla_proto::limits::{SMALL_ANSWER_PARTS, TOPIC_CREATION_WAIT_MS};
use ottla_proto::metadata::{Image, Topic, is_internal_topic};
use tokio::time::Instant;
use uuid::Uuid;

use super::RequestContext;
use super::brokers::{self, ClusterView, Endpoint, Placement, unknown_topic};
use super::errors::{NONE, Refusal};
use crate::services::Services;

/// One topic of a request.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Name(StrBytes),
    Id(Uuid),
    /// Neither of these in a way that the version allows.
    Neither(MetadataRequestTopic),
}

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = context.version;
    let asked = asked(version, request.topics);
    let mut not_made = HashMap::new();
    if let Some(asked) = asked
        .as_ref()
        .filter(|_| version < 4 || request.allow_auto_topic_creation)
    {
        not_made = create_missing(services, asked).await;
    }
    let no_listener = if version < 6 {
        ResponseError::LeaderNotAvailable
    } else {
        ResponseError::ListenerNotFound
    };
    if is_large(&services.metadata.current(), asked.as_deref()) {
        context.wait_for_place(services).await;
    }
    let mut view = ClusterView::new(services, &context.peer.listener, no_listener);
    let image = view.image.clone();
    let mut describe = |topic: &Topic| {
        let partitions = view.placements(topic, 0..topic.partitions.len());
        described(
            topic,
            partitions,
            request.include_topic_authorized_operations,
        )
    };
    let answer = |asked| match asked {
        Asked::Name(name) => match image.topic(&name) {
            Some(topic) => describe(topic),
            None => unknown(&name, not_made.remove(&*name)),
        },
        Asked::Id(id) => match image.topic_by_id(id) {
            Some(topic) => describe(topic),
            None => refused(None, id, ResponseError::UnknownTopicId.code()),
        },
        Asked::Neither(topic) => {
            let name = topic.name.map_or_else(StrBytes::default, |name| name.0);
            refused(
                Some(name),
                topic.topic_id,
                ResponseError::InvalidRequest.code(),
            )
        }
    };
    let topics = match asked {
        Some(asked) => asked.into_iter().map(answer).collect(),
        None => image.topics().map(|topic| describe(topic)).collect(),
    };
    let cluster = Cluster {
        id: brokers::cluster_id(&image),
        controller: brokers::controller_id(services, &image),
        brokers: brokers::endpoints(&image, &context.peer.listener, false),
    };
    response(cluster, topics, request.include_cluster_authorized_operations)
}

/// Whether the answer has many partitions.
fn is_large(image: &Image, asked: Option<&[Asked]>) -> bool {
    let partitions = |asked: &Asked| match asked {
        Asked::Name(name) => image.topic(name).map_or(0, |t| t.partitions.len()),
        Asked::Id(id) => image.topic_by_id(*id).map_or(0, |t| t.partitions.len()),
        Asked::Neither(_) => 0,
    };
    let parts = match asked {
        None => image.partition_count(),
        Some(asked) => asked.len() + asked.iter().map(partitions).sum::<usize>(),
    };
    parts > SMALL_ANSWER_PARTS
}

/// What every answer tells, whatever it was asked.
#[derive(Debug)]
struct Cluster {
    id: StrBytes,
    controller: BrokerId,
    brokers: Vec<Endpoint>,
}

fn response(
    cluster: Cluster,
    topics: Vec<MetadataResponseTopic>,
    with_operations: bool,
) -> MetadataResponse {
    MetadataResponse::default()
        .with_brokers(cluster.brokers.into_iter().map(broker).collect())
        .with_cluster_id(Some(cluster.id))
        .with_controller_id(cluster.controller)
        .with_topics(topics)
        .with_cluster_authorized_operations(if with_operations {
            brokers::CLUSTER_OPERATIONS
        } else {
            brokers::NOT_ASKED
        })
}

/// What is asked for, each once; `None` is all topics.
fn asked(version: i16, topics: Option<Vec<MetadataRequestTopic>>) -> Option<Vec<Asked>> {
    let topics = topics.filter(|topics| version > 0 || !topics.is_empty())?;
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    let one = |topic: MetadataRequestTopic| match (topic.name, topic.topic_id) {
        (name, id) if version >= 12 && !id.is_nil() => {
            drop(name);
            ids.insert(id).then_some(Asked::Id(id))
        }
        (Some(name), id) if id.is_nil() => {
            names.insert(name.0.clone()).then_some(Asked::Name(name.0))
        }
        (None, id) if version >= 12 => ids.insert(id).then_some(Asked::Id(id)),
        (name, topic_id) => Some(Asked::Neither(
            MetadataRequestTopic::default()
                .with_name(name)
                .with_topic_id(topic_id),
        )),
    };
    Some(topics.into_iter().filter_map(one).collect())
}

/// Makes the topics that are asked for by name and aren't there, if the server may, and waits for
/// them. Answers why some could not be made.
async fn create_missing(services: &Services, asked: &[Asked]) -> HashMap<String, Refusal> {
    let config = services.metadata.config();
    if !config.topic_creation.auto_create {
        return HashMap::new();
    }
    let image = services.metadata.current();
    let missing = |asked: &Asked| match asked {
        Asked::Name(name) if image.topic(name).is_none() => Some(auto_topic(&config, name)),
        _ => None,
    };
    let topics: Vec<_> = asked.iter().filter_map(missing).collect();
    if topics.is_empty() {
        return HashMap::new();
    }
    let count = topics.len();
    let request = CreateTopics {
        topics,
        validate_only: false,
    };
    let reply = match services.controller.create_topics(&request).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::warn!(%error, topics = count, "topics that clients asked for were not made");
            return HashMap::new();
        }
    };
    let (mut made, mut not_made) = (Vec::new(), HashMap::new());
    let mut first_made = None;
    for (name, result) in reply {
        match result {
            Ok(topic) => {
                first_made.get_or_insert(name);
                made.push((topic.topic_id, topic.num_partitions as usize));
            }
            // Another client was faster.
            Err(CreateTopicError::Exists(_)) => {}
            Err(error) => drop(not_made.insert(name, Refusal::from(&error))),
        }
    }
    if let Some(first) = first_made {
        tracing::info!(topics = made.len(), %first, "made topics that a client asked for");
    }
    let wait = Duration::from_millis(TOPIC_CREATION_WAIT_MS);
    brokers::wait_until_served(services, made, Instant::now() + wait).await;
    not_made
}

fn unknown(name: &StrBytes, not_made: Option<Refusal>) -> MetadataResponseTopic {
    let code = not_made.map_or_else(|| unknown_topic(name).code(), |refusal| refusal.code);
    refused(Some(name.clone()), Uuid::nil(), code)
}

fn refused(name: Option<StrBytes>, id: Uuid, error_code: i16) -> MetadataResponseTopic {
    let is_internal = name.as_ref().is_some_and(|name| is_internal_topic(name));
    MetadataResponseTopic::default()
        .with_error_code(error_code)
        .with_name(name.map(TopicName))
        .with_topic_id(id)
        .with_is_internal(is_internal)
}

fn described(
    topic: &Topic,
    partitions: Vec<(i32, Placement)>,
    with_operations: bool,
) -> MetadataResponseTopic {
    let partition = |(index, placement): (i32, Placement)| {
        MetadataResponsePartition::default()
            .with_error_code(placement.error_code)
            .with_partition_index(index)
            .with_leader_id(placement.leader)
            .with_leader_epoch(placement.leader_epoch)
            .with_replica_nodes(placement.replicas)
            .with_isr_nodes(placement.in_sync)
            .with_offline_replicas(placement.offline)
    };
    MetadataResponseTopic::default()
        .with_error_code(NONE)
        .with_name(Some(TopicName(StrBytes::from_string(
            topic.name.to_string(),
        ))))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal_topic(&topic.name))
        .with_partitions(partitions.into_iter().map(partition).collect())
        .with_topic_authorized_operations(if with_operations {
            brokers::TOPIC_OPERATIONS
        } else {
            brokers::NOT_ASKED
        })
}

fn broker(endpoint: Endpoint) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(endpoint.id)
        .with_host(endpoint.host)
        .with_port(endpoint.port)
        .with_rack(endpoint.rack)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{
        endpoint, id, int16, int32, list, placement, refusal, str_bytes, text,
    };
    use super::*;

    fn told_topic(version: i16) -> impl Strategy<Value = MetadataResponseTopic> {
        let partitions = list((int32(), placement()));
        let found = (text(), id(), partitions, any::<bool>());
        let found = found.prop_map(move |(name, id, partitions, operations)| {
            let topic = Topic {
                name: name.into(),
                id,
                partitions: vec![],
            };
            // Requests before v8 cannot ask for operations.
            described(&topic, partitions, operations && version >= 8)
        });
        let unknown = (str_bytes(), option::of(refusal()));
        let unknown = unknown.prop_map(|(name, not_made)| super::unknown(&name, not_made));
        // Requests before v12 cannot ask by id alone.
        let nameless = (option::of(str_bytes()), id(), int16());
        let nameless = nameless.prop_map(move |(name, id, code)| {
            let name = name.or_else(|| (version < 12).then(StrBytes::default));
            refused(name, id, code)
        });
        prop_oneof![3 => found, 1 => unknown, 1 => nameless]
    }

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<MetadataResponse> {
        let cluster = (str_bytes(), int32(), list(endpoint()));
        let cluster = cluster.prop_map(|(id, controller, brokers)| Cluster {
            id,
            controller: BrokerId(controller),
            brokers,
        });
        // Only requests of v8 to v10 ask for operations on the cluster.
        let operations = any::<bool>().prop_map(move |asked| asked && (8..=10).contains(&version));
        (cluster, list(told_topic(version)), operations)
            .prop_map(|(cluster, topics, operations)| response(cluster, topics, operations))
            .boxed()
    }

    pub(in crate::api) fn as_of(version: i16, mut response: MetadataResponse) -> MetadataResponse {
        if version < 2 {
            response.cluster_id = None;
        }
        if version < 1 {
            response.controller_id = MetadataResponse::default().controller_id;
            response.brokers.iter_mut().for_each(|broker| broker.rack = None);
        }
        for topic in &mut response.topics {
            assert!(topic.name.is_some() || version >= 12, "null only from v12");
            if version < 10 {
                topic.topic_id = Uuid::nil();
            }
            if version < 1 {
                topic.is_internal = false;
            }
            for partition in &mut topic.partitions {
                if version < 7 {
                    partition.leader_epoch = -1;
                }
                if version < 5 {
                    partition.offline_replicas = Vec::new();
                }
            }
        }
        response
    }

    fn topic(name: Option<&'static str>, id: u128) -> MetadataRequestTopic {
        let name = name.map(|name| TopicName(StrBytes::from_static_str(name)));
        MetadataRequestTopic::default()
            .with_name(name)
            .with_topic_id(Uuid::from_u128(id))
    }

    fn name(name: &'static str) -> Asked {
        Asked::Name(StrBytes::from_static_str(name))
    }

    #[test]
    fn all_or_none() {
        assert_eq!(asked(0, Some(vec![])), None);
        assert_eq!(asked(1, Some(vec![])), Some(vec![]));
        for version in 1..=13 {
            assert_eq!(asked(version, None), None);
        }
    }

    #[test]
    fn each_topic_once() {
        let topics = || {
            Some(vec![
                topic(Some("a"), 0),
                topic(Some("b"), 0),
                topic(Some("a"), 0),
            ])
        };
        for version in 0..=13 {
            assert_eq!(asked(version, topics()), Some(vec![name("a"), name("b")]));
        }
        let ids = Some(vec![topic(None, 1), topic(Some("a"), 2), topic(None, 1)]);
        let expected = [1, 2].map(|id| Asked::Id(Uuid::from_u128(id)));
        assert_eq!(asked(12, ids), Some(expected.to_vec()));
    }

    #[test]
    fn ids_alone_only_from_version_12() {
        for (version, asked_topic) in [
            (10, topic(None, 1)),
            (11, topic(None, 0)),
            (11, topic(Some("a"), 1)),
        ] {
            let neither = Asked::Neither(asked_topic.clone());
            assert_eq!(asked(version, Some(vec![asked_topic])), Some(vec![neither]));
        }
    }
}
