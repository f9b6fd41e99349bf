//! OffsetForLeaderEpoch v2 to v4 (KIP-101, KIP-279, KIP-320): where a leader epoch ended, so that a
//! consumer notices that its position was cut off by a change of leader.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::RequestContext;
use super::errors::Refusal;
use crate::services::Services;
use crate::topics::{ServedTopic, Unavailable};

pub(super) async fn handle(
    services: &Services,
    _context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let served = services.topics.by_name(&topic.topic);
        let partitions = topic.partitions.iter().map(|asked| {
            let served = served.as_ref().map_err(|error| *error);
            let end = served.and_then(|topic| end_of(topic, asked));
            answer(asked.partition, end.map_err(Refusal::from))
        });
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(topic.topic)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn answer(partition: i32, end: Result<(i32, i64), Refusal>) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(partition);
    match end {
        Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
        Err(refusal) => answer
            .with_error_code(refusal.code)
            .with_leader_epoch(-1)
            .with_end_offset(-1),
    }
}

/// (-1, -1) for an epoch the log knows nothing of.
fn end_of(
    topic: &ServedTopic,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), Unavailable> {
    let replica = topic.replica(asked.partition)?;
    let current = replica.lead(asked.current_leader_epoch)?;
    let end = replica
        .partition
        .with_state(|state| state.epoch_end(asked.leader_epoch, current));
    Ok(end.unwrap_or((-1, -1)))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{int32, int64, list, outcome, str_bytes};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<OffsetForLeaderEpochResponse> {
        let partition = (int32(), outcome((int32(), int64())));
        let partition = partition.prop_map(|(partition, end)| answer(partition, end));
        let topic = (str_bytes(), list(partition)).prop_map(|(name, partitions)| {
            OffsetForLeaderTopicResult::default()
                .with_topic(name.into())
                .with_partitions(partitions)
        });
        list(topic)
            .prop_map(|topics| OffsetForLeaderEpochResponse::default().with_topics(topics))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: OffsetForLeaderEpochResponse,
    ) -> OffsetForLeaderEpochResponse {
        response
    }
}
