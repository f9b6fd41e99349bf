//! DeleteRecords v0 to v2 (KIP-107): raises log start offsets. -1 stands for the high watermark.
//!
//! Answers once the new log start offset is durable. The disk space comes back afterwards.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_proto::config::TopicConfig;
use ottla_proto::metadata::is_internal_topic;
use ottla_raft::{Command, Ticket};
use tokio::time::Instant;

use super::RequestContext;
use super::brokers;
use super::errors::{NONE, Refusal, offset_of};
use crate::retention;
use crate::services::Services;
use crate::topics::{Replica, ServedTopic, Unavailable};

/// What a client cannot take for an offset.
const NO_LOW_WATERMARK: i64 = -1;
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let deadline = brokers::deadline(request.timeout_ms);
    // All are on their way before the first is waited for.
    let mut started = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let served = services.topics.by_name(&topic.name);
        let trims = topic.partitions.into_iter().map(|p| {
            (
                p.partition_index,
                trim(&served, p.partition_index, p.offset),
            )
        });
        started.push((topic.name, trims.collect::<Vec<_>>()));
    }
    let mut topics = Vec::with_capacity(started.len());
    for (name, trims) in started {
        let mut partitions = Vec::with_capacity(trims.len());
        for (index, started) in trims {
            let outcome = match started {
                Ok((replica, ticket)) => finish(replica, ticket, deadline).await,
                Err(refusal) => Err(refusal),
            };
            partitions.push(result(index, outcome));
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(name)
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn trim(
    topic: &Result<Arc<ServedTopic>, Unavailable>,
    index: i32,
    offset: i64,
) -> Result<(Replica, Ticket), Refusal> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    let replica = topic.replica(index)?;
    replica.lead(-1)?;
    check(&topic.topic.name, &topic.config)?;
    let log_start_offset = target(offset, replica.partition.bounds().high_watermark)?;
    let command = Command::Trim {
        partition: replica.partition.id,
        log_start_offset,
    };
    Ok((
        replica.clone(),
        replica.group.append(vec![command], 0, None),
    ))
}

/// Records that only compaction may take, and the coordinators' own, are not deleted.
fn check(topic: &str, config: &TopicConfig) -> Result<(), Refusal> {
    if is_internal_topic(topic) {
        let message = format!("Cannot delete records of internal topic {topic}");
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    match config.cleanup_delete {
        true => Ok(()),
        false => Err(ResponseError::PolicyViolation.into()),
    }
}

/// The log start offset that is asked for.
fn target(offset: i64, high_watermark: i64) -> Result<i64, Refusal> {
    match offset {
        HIGH_WATERMARK => Ok(high_watermark),
        offset if (0..=high_watermark).contains(&offset) => Ok(offset),
        _ => Err(ResponseError::OffsetOutOfRange.into()),
    }
}

async fn finish(replica: Replica, ticket: Ticket, deadline: Instant) -> Result<i64, Refusal> {
    let outcomes = match tokio::time::timeout_at(deadline, ticket.outcome()).await {
        Ok(outcomes) => outcomes?,
        Err(_) => return Err(ResponseError::RequestTimedOut.into()),
    };
    let log_start_offset = outcomes
        .first()
        .map_or(Err(ResponseError::UnknownServerError.into()), offset_of)?;
    tokio::task::spawn_blocking(move || retention::reclaim(&replica));
    Ok(log_start_offset)
}

fn result(index: i32, outcome: Result<i64, Refusal>) -> DeleteRecordsPartitionResult {
    let (low_watermark, error_code) = match outcome {
        Ok(log_start_offset) => (log_start_offset, NONE),
        Err(refusal) => (NO_LOW_WATERMARK, refusal.code),
    };
    DeleteRecordsPartitionResult::default()
        .with_partition_index(index)
        .with_low_watermark(low_watermark)
        .with_error_code(error_code)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{int32, int64, list, outcome, str_bytes};
    use super::*;
    use ottla_proto::config::{ServerConfig, topic_config};

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<DeleteRecordsResponse> {
        let partition = (int32(), outcome(int64()));
        let partition = partition.prop_map(|(index, outcome)| result(index, outcome));
        let topic = (str_bytes(), list(partition)).prop_map(|(name, partitions)| {
            DeleteRecordsTopicResult::default()
                .with_name(name.into())
                .with_partitions(partitions)
        });
        list(topic)
            .prop_map(|topics| DeleteRecordsResponse::default().with_topics(topics))
            .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: DeleteRecordsResponse) -> DeleteRecordsResponse {
        response
    }

    #[test]
    fn offsets_up_to_the_high_watermark() {
        let target = |offset| target(offset, 10).map_err(|refusal| refusal.code);
        assert_eq!((target(-1), target(0), target(10)), (Ok(10), Ok(0), Ok(10)));
        for offset in [-2, 11, i64::MIN, i64::MAX] {
            assert_eq!(target(offset), Err(ResponseError::OffsetOutOfRange.code()));
        }
    }

    #[test]
    fn the_topic_must_allow_it() {
        let server = ServerConfig::load(None, [], &[]).unwrap().0;
        let refused = |topic: &str, policy: &str| {
            let own = [("cleanup.policy".to_owned(), policy.to_owned())].into();
            check(topic, &topic_config(&server, &own).unwrap())
                .err()
                .map(|refusal| refusal.code)
        };
        assert_eq!(refused("a", "delete"), None);
        assert_eq!(refused("a", "compact,delete"), None);
        assert_eq!(
            refused("a", "compact"),
            Some(ResponseError::PolicyViolation.code())
        );
        assert_eq!(
            refused("__consumer_offsets", "delete"),
            Some(ResponseError::InvalidTopicException.code())
        );
    }
}
