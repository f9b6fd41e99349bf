//! OffsetFetch v1 to v9 (KIP-88: null topics ask for all from v2, KIP-320: leader epochs from v5,
//! KIP-447: require_stable from v7, KIP-709: several groups from v8, KIP-848: member ids from v9).
//!
//! A group that is not known has no offsets: -1 and no error. Member ids and epochs are for groups of
//! the consumer protocol, which is not served, and are not looked at.

use std::collections::HashSet;

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator::{
    Command, FetchGroup, FetchOffsets, PartitionOffset, Response, TopicOffsets, TopicPartitions,
};
use ottla_proto::limits::SMALL_ANSWER_PARTS;

use super::RequestContext;
use super::errors::{Refusal, group_code};
use super::reply::Space;
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version < 8 {
        return one_group(services, context, request).await;
    }
    let mut space = Space::new(&services.fetch_room, context.version);
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    for group in request.groups {
        // A group that is named twice is answered once.
        if !seen.insert(group.group_id.clone()) {
            continue;
        }
        let topics = group.topics.map(|topics| {
            each_once(topics.iter().map(|t| (&t.name, &t.partition_indexes[..])))
        });
        if is_large(&topics) || seen.len() > 1 {
            context.wait_for_place(services).await;
        }
        let answer = offsets(services, &group.group_id, topics, request.require_stable).await;
        let answer = one_of_several(group.group_id, answer);
        let id = answer.group_id.clone();
        groups.push(space.fit(answer, |refusal| {
            OffsetFetchResponseGroup::default()
                .with_group_id(id)
                .with_error_code(refusal.code)
        }));
    }
    OffsetFetchResponse::default().with_groups(groups)
}

/// Until v7.
async fn one_group(
    services: &Services,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let topics = request.topics.as_ref().map(|topics| {
        each_once(topics.iter().map(|t| (&t.name, &t.partition_indexes[..])))
    });
    if is_large(&topics) {
        context.wait_for_place(services).await;
    }
    let stable = request.require_stable;
    let answer = offsets(services, &request.group_id, topics.clone(), stable).await;
    let answer = only_one(context.version, topics.unwrap_or_default(), answer);
    let mut space = Space::new(&services.fetch_room, context.version);
    space.fit(answer, |refusal| {
        OffsetFetchResponse::default().with_error_code(refusal.code)
    })
}

/// Whether the answer may be large: partitions can have long metadata.
fn is_large(topics: &Option<Vec<TopicPartitions>>) -> bool {
    let parts = |topics: &[TopicPartitions]| -> usize {
        topics.iter().map(|t| t.partitions.len()).sum()
    };
    topics.as_ref().is_none_or(|t| parts(t) > SMALL_ANSWER_PARTS)
}

/// A partition that is named twice is answered once.
fn each_once<'a>(
    topics: impl Iterator<Item = (&'a TopicName, &'a [i32])>,
) -> Vec<TopicPartitions> {
    let mut seen = HashSet::new();
    let topic = |(name, partitions): (&'a TopicName, &'a [i32])| {
        let first = partitions.iter().filter(|index| seen.insert((name, **index)));
        let partitions: Vec<i32> = first.copied().collect();
        (!partitions.is_empty()).then(|| TopicPartitions {
            name: name.to_string(),
            partitions,
        })
    };
    topics.filter_map(topic).collect()
}

/// Until v7.
fn only_one(
    version: i16,
    asked: Vec<TopicPartitions>,
    answer: Result<Response, CoordinatorError>,
) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    match found(answer) {
        Ok(topics) => response.with_topics(topics.into_iter().map(old_topic).collect()),
        Err(code) if version >= 2 => response.with_error_code(code),
        // v1 has no error but the partitions' own.
        Err(code) => {
            response.with_topics(asked.into_iter().map(|t| old_refusal(t, code)).collect())
        }
    }
}

/// From v8.
fn one_of_several(
    id: GroupId,
    answer: Result<Response, CoordinatorError>,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(id);
    match found(answer) {
        Ok(topics) => response.with_topics(topics.into_iter().map(new_topic).collect()),
        Err(code) => response.with_error_code(code),
    }
}

async fn offsets(
    services: &Services,
    group_id: &str,
    topics: Option<Vec<TopicPartitions>>,
    require_stable: bool,
) -> Result<Response, CoordinatorError> {
    let group = FetchGroup {
        group_id: group_id.to_owned(),
        topics,
    };
    let command = Command::FetchOffsets(FetchOffsets {
        groups: vec![group],
        require_stable,
    });
    services.coordinators.send(group_id, command).await
}

/// The offsets of one group, or the error code of the group.
fn found(answer: Result<Response, CoordinatorError>) -> Result<Vec<TopicOffsets>, i16> {
    match answer {
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
pub(super) mod tests {
    use ottla_coordinator::GroupOffsets;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{
        coordinated, group_error, int32, int64, list, str_bytes, text,
    };
    use super::*;

    fn fetched() -> impl Strategy<Value = Result<Response, CoordinatorError>> {
        let numbers = (int32(), int64(), int32());
        let partition = (numbers, text(), option::of(group_error()));
        let partition = partition.prop_map(|(numbers, metadata, error)| PartitionOffset {
            partition: numbers.0,
            offset: numbers.1,
            leader_epoch: numbers.2,
            metadata,
            error,
        });
        let topic = (text(), list(partition));
        let topic = topic.prop_map(|(name, partitions)| TopicOffsets { name, partitions });
        coordinated(list(topic).prop_map(|topics| {
            let group_id = String::new();
            Response::FetchOffsets(vec![GroupOffsets { group_id, topics }])
        }))
    }

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<OffsetFetchResponse> {
        if version >= 8 {
            let group = (str_bytes(), fetched());
            let group = group.prop_map(|(id, answer)| one_of_several(GroupId(id), answer));
            return list(group)
                .prop_map(|groups| OffsetFetchResponse::default().with_groups(groups))
                .boxed();
        }
        let asked = (text(), list(int32()));
        let asked = asked.prop_map(|(name, partitions)| TopicPartitions { name, partitions });
        (list(asked), fetched())
            .prop_map(move |(asked, answer)| only_one(version, asked, answer))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: OffsetFetchResponse,
    ) -> OffsetFetchResponse {
        if version < 5 {
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.committed_leader_epoch = -1);
        }
        response
    }

    #[test]
    fn v1_tells_a_groups_error_in_its_partitions() {
        let asked = || {
            vec![TopicPartitions {
                name: "orders".into(),
                partitions: vec![2],
            }]
        };
        let refused = |version| only_one(version, asked(), Err(CoordinatorError::NotCoordinator));
        let partition = &refused(1).topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.committed_offset), (16, -1));
        for version in 2..=7 {
            let response = refused(version);
            assert_eq!((response.error_code, response.topics.len()), (16, 0));
        }
    }
}
