//! OffsetCommit v2 to v9 (KIP-211: no retention time from v5, KIP-320: leader epochs from v6, KIP-345:
//! group instance ids from v7).
//!
//! Topics must exist; partition indexes are not looked at, as in Kafka.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use ottla_coordinator::{Command, CommitOffsets, CommitPartition, CommitTopic, Response};

use super::RequestContext;
use super::errors::{Refusal, group_code};
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let exists = |t: &OffsetCommitRequestTopic| services.topics.by_name(&t.name).is_ok();
    let known: Vec<bool> = request.topics.iter().map(exists).collect();
    let asked = request.topics.iter().zip(&known);
    let topics: Vec<CommitTopic> = asked
        .filter(|(_, known)| **known)
        .map(|(t, _)| topic(t))
        .collect();
    let answer = if topics.is_empty() {
        Ok(Response::CommitOffsets(Vec::new()))
    } else {
        commit(services, context.version, &request, topics).await
    };
    response(request.topics, known, answer)
}

/// `known` says for each topic whether it exists; those that do are answered, in order.
fn response(
    topics: Vec<OffsetCommitRequestTopic>,
    known: Vec<bool>,
    answer: Result<Response, CoordinatorError>,
) -> OffsetCommitResponse {
    let answer = match answer {
        Ok(Response::CommitOffsets(results)) => Ok(results),
        Ok(other) => unreachable!("OffsetCommit was answered with {other:?}"),
        Err(error) => Err(Refusal::from(error).code),
    };
    let mut results = answer.map(Vec::into_iter);
    let mut response = Vec::with_capacity(known.len());
    for (topic, known) in topics.into_iter().zip(known) {
        let all = |code| {
            topic
                .partitions
                .iter()
                .map(|p| partition(p.partition_index, code))
                .collect()
        };
        let partitions = match &mut results {
            _ if !known => all(ResponseError::UnknownTopicOrPartition.code()),
            Err(code) => all(*code),
            Ok(results) => {
                let result = results.next().expect("one answer for each topic asked for");
                let outcomes = result.partitions.into_iter();
                outcomes.map(|(index, error)| partition(index, group_code(error))).collect()
            }
        };
        response.push(named(topic.name, partitions));
    }
    OffsetCommitResponse::default().with_topics(response)
}

async fn commit(
    services: &Services,
    version: i16,
    request: &OffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Response, CoordinatorError> {
    let group_id = request.group_id.to_string();
    let has_retention = (2..=4).contains(&version) && request.retention_time_ms >= 0;
    let command = Command::CommitOffsets(CommitOffsets {
        group_id: group_id.clone(),
        generation_id: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
        producer: None,
        retention_time_ms: has_retention.then_some(request.retention_time_ms),
        topics,
    });
    services.coordinators.send(&group_id, command).await
}

fn topic(topic: &OffsetCommitRequestTopic) -> CommitTopic {
    let partitions = topic.partitions.iter().map(|p| CommitPartition {
        partition: p.partition_index,
        offset: p.committed_offset,
        leader_epoch: p.committed_leader_epoch,
        // Null and empty are one, as in Kafka.
        metadata: p
            .committed_metadata
            .as_ref()
            .map(|m| m.to_string())
            .unwrap_or_default(),
    });
    CommitTopic {
        name: topic.name.to_string(),
        partitions: partitions.collect(),
    }
}

fn named(
    name: TopicName,
    partitions: Vec<OffsetCommitResponsePartition>,
) -> OffsetCommitResponseTopic {
    OffsetCommitResponseTopic::default()
        .with_name(name)
        .with_partitions(partitions)
}

fn partition(index: i32, code: i16) -> OffsetCommitResponsePartition {
    OffsetCommitResponsePartition::default()
        .with_partition_index(index)
        .with_error_code(code)
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
    use ottla_coordinator::TopicResult;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{coordinator_error, group_error, int32, list, str_bytes};
    use super::*;

    /// A topic, whether it exists, and what became of each of its partitions.
    type Outcome = (OffsetCommitRequestTopic, bool, TopicResult);

    fn outcome() -> impl Strategy<Value = Outcome> {
        let partition = (int32(), option::of(group_error()));
        (str_bytes(), list(partition), any::<bool>()).prop_map(|(name, partitions, known)| {
            let asked = partitions
                .iter()
                .map(|(i, _)| OffsetCommitRequestPartition::default().with_partition_index(*i));
            let topic = OffsetCommitRequestTopic::default()
                .with_partitions(asked.collect())
                .with_name(TopicName(name.clone()));
            let name = name.to_string();
            (topic, known, TopicResult { name, partitions })
        })
    }

    fn answered(outcomes: Vec<Outcome>, error: Option<CoordinatorError>) -> OffsetCommitResponse {
        let known = outcomes.iter().map(|(_, known, _)| *known).collect();
        let results = outcomes.iter().filter(|(_, known, _)| *known);
        let results = results.map(|(_, _, result)| result.clone()).collect();
        let topics = outcomes.into_iter().map(|(topic, _, _)| topic).collect();
        let answer = error.map_or(Ok(Response::CommitOffsets(results)), Err);
        response(topics, known, answer)
    }

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<OffsetCommitResponse> {
        (list(outcome()), option::of(coordinator_error()))
            .prop_map(|(outcomes, error)| answered(outcomes, error))
            .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: OffsetCommitResponse) -> OffsetCommitResponse {
        response
    }
}
