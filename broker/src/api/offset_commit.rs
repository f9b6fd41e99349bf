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
    let answers = if topics.is_empty() {
        Ok(Vec::new())
    } else {
        commit(services, context.version, &request, topics).await
    };

    let mut answers = answers.map(Vec::into_iter);
    let mut response = Vec::with_capacity(known.len());
    for (topic, known) in request.topics.into_iter().zip(known) {
        let all = |code| {
            topic
                .partitions
                .iter()
                .map(|p| partition(p.partition_index, code))
                .collect()
        };
        let partitions = match &mut answers {
            _ if !known => all(ResponseError::UnknownTopicOrPartition.code()),
            Err(code) => all(*code),
            Ok(answers) => answers.next().expect("one answer for each topic asked for"),
        };
        response.push(named(topic.name, partitions));
    }
    OffsetCommitResponse::default().with_topics(response)
}

/// The answers for each of the topics, in order, or the error code for all of them.
async fn commit(
    services: &Services,
    version: i16,
    request: &OffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Vec<Vec<OffsetCommitResponsePartition>>, i16> {
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
    match services.coordinators.send(&group_id, command).await {
        Ok(Response::CommitOffsets(results)) => {
            let answer = |&(index, error): &(i32, _)| partition(index, group_code(error));
            let answers = results
                .iter()
                .map(|t| t.partitions.iter().map(answer).collect());
            Ok(answers.collect())
        }
        Ok(other) => unreachable!("OffsetCommit was answered with {other:?}"),
        Err(error) => Err(Refusal::from(error).code),
    }
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
