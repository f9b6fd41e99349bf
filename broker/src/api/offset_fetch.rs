//! OffsetFetch v1 to v9 (KIP-88: null topics ask for all from v2, KIP-320: leader epochs from v5,
//! KIP-447: require_stable from v7, KIP-709: several groups from v8, KIP-848: member ids from v9).
//!
//! A group that is not known has no offsets: -1 and no error. Member ids and epochs are for groups of
//! the consumer protocol, which is not served, and are not looked at.

use futures_util::future::join_all;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator::{
    Command, FetchGroup, FetchOffsets, PartitionOffset, Response, TopicOffsets, TopicPartitions,
};

use super::RequestContext;
use super::errors::{Refusal, group_code};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version < 8 {
        return one_group(services, context.version, request).await;
    }
    let require_stable = request.require_stable;
    let fetch = |group: OffsetFetchRequestGroup| async move {
        let topics = group.topics.map(|topics| {
            let topics = topics.iter();
            let topics = topics.map(|t| topic(&t.name, &t.partition_indexes));
            topics.collect()
        });
        let response = OffsetFetchResponseGroup::default();
        let answer = match offsets(services, &group.group_id, topics, require_stable).await {
            Ok(topics) => response.with_topics(topics.into_iter().map(new_topic).collect()),
            Err(code) => response.with_error_code(code),
        };
        answer.with_group_id(group.group_id)
    };
    let groups = join_all(request.groups.into_iter().map(fetch)).await;
    OffsetFetchResponse::default().with_groups(groups)
}

/// Until v7.
async fn one_group(
    services: &Services,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let topics = request.topics.as_ref().map(|topics| {
        let topics = topics.iter();
        let topics = topics.map(|t| topic(&t.name, &t.partition_indexes));
        topics.collect::<Vec<_>>()
    });
    let response = OffsetFetchResponse::default();
    let stable = request.require_stable;
    match offsets(services, &request.group_id, topics.clone(), stable).await {
        Ok(topics) => response.with_topics(topics.into_iter().map(old_topic).collect()),
        Err(code) if version >= 2 => response.with_error_code(code),
        // v1 has no error but the partitions' own.
        Err(code) => {
            let topics = topics.unwrap_or_default().into_iter();
            response.with_topics(topics.map(|t| old_refusal(t, code)).collect())
        }
    }
}

fn topic(name: &StrBytes, partitions: &[i32]) -> TopicPartitions {
    TopicPartitions {
        name: name.to_string(),
        partitions: partitions.to_vec(),
    }
}

/// The offsets of one group, or the error code of the group.
async fn offsets(
    services: &Services,
    group_id: &str,
    topics: Option<Vec<TopicPartitions>>,
    require_stable: bool,
) -> Result<Vec<TopicOffsets>, i16> {
    let group = FetchGroup {
        group_id: group_id.to_owned(),
        topics,
    };
    let command = Command::FetchOffsets(FetchOffsets {
        groups: vec![group],
        require_stable,
    });
    match services.coordinators.send(group_id, command).await {
        Ok(Response::FetchOffsets(groups)) => {
            let group = groups.into_iter().next();
            Ok(group.expect("one answer for one group").topics)
        }
        Ok(other) => unreachable!("OffsetFetch was answered with {other:?}"),
        Err(error) => Err(Refusal::from(error).code),
    }
}

fn old_topic(topic: TopicOffsets) -> OffsetFetchResponseTopic {
    let partition = |p: PartitionOffset| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(p.partition)
            .with_committed_offset(p.offset)
            .with_committed_leader_epoch(p.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(p.metadata)))
            .with_error_code(group_code(p.error))
    };
    OffsetFetchResponseTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name)))
        .with_partitions(topic.partitions.into_iter().map(partition).collect())
}

fn old_refusal(topic: TopicPartitions, code: i16) -> OffsetFetchResponseTopic {
    let partition = |index: i32| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::default()))
            .with_error_code(code)
    };
    OffsetFetchResponseTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name)))
        .with_partitions(topic.partitions.into_iter().map(partition).collect())
}

fn new_topic(topic: TopicOffsets) -> OffsetFetchResponseTopics {
    let partition = |p: PartitionOffset| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(p.partition)
            .with_committed_offset(p.offset)
            .with_committed_leader_epoch(p.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(p.metadata)))
            .with_error_code(group_code(p.error))
    };
    OffsetFetchResponseTopics::default()
        .with_name(TopicName(StrBytes::from_string(topic.name)))
        .with_partitions(topic.partitions.into_iter().map(partition).collect())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;

    fn found() -> TopicOffsets {
        TopicOffsets {
            name: "orders".into(),
            partitions: vec![PartitionOffset {
                partition: 2,
                offset: 7,
                leader_epoch: 5,
                metadata: "note".into(),
                error: None,
            }],
        }
    }

    fn round_trip(version: i16, response: &OffsetFetchResponse) -> OffsetFetchResponse {
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).expect("encodes");
        OffsetFetchResponse::decode(&mut bytes.freeze(), version).expect("decodes")
    }

    #[test]
    fn one_group_until_v7() {
        for version in 1..=7 {
            let response = OffsetFetchResponse::default().with_topics(vec![old_topic(found())]);
            let decoded = round_trip(version, &response);
            let partition = &decoded.topics[0].partitions[0];
            assert_eq!(
                (partition.partition_index, partition.committed_offset),
                (2, 7)
            );
            assert_eq!(partition.metadata.as_deref(), Some("note"));
            let epoch = if version >= 5 { 5 } else { -1 };
            assert_eq!(partition.committed_leader_epoch, epoch);
        }
    }

    #[test]
    fn several_groups_from_v8() {
        for version in 8..=9 {
            let group = OffsetFetchResponseGroup::default().with_topics(vec![new_topic(found())]);
            let response = OffsetFetchResponse::default().with_groups(vec![group]);
            let decoded = round_trip(version, &response);
            let partition = &decoded.groups[0].topics[0].partitions[0];
            assert_eq!(
                (partition.committed_offset, partition.committed_leader_epoch),
                (7, 5)
            );
            assert_eq!(partition.metadata.as_deref(), Some("note"));
        }
    }

    #[test]
    fn v1_tells_a_groups_error_in_its_partitions() {
        let asked = TopicPartitions {
            name: "orders".into(),
            partitions: vec![2],
        };
        let response = OffsetFetchResponse::default().with_topics(vec![old_refusal(asked, 16)]);
        let partition = &round_trip(1, &response).topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.committed_offset), (16, -1));
    }
}
