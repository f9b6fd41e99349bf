//! DescribeProducers v0 (KIP-664): the producers that a partition's leader remembers. There are no
//! transactions here, so none has a coordinator epoch or an open transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::RequestContext;
use super::errors::{NONE, Refusal};
use super::reply::Space;
use crate::services::Services;
use crate::topics::{ServedTopic, Unavailable};

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    context.wait_for_place(services).await;
    let mut space = Space::new(&services.fetch_room, context.version);
    let expiration_ms = services
        .metadata
        .config()
        .transactions
        .producer_id_expiration_ms as i64;
    let silent_since_ms = services.topics.now_ms().saturating_sub(expiration_ms);
    let mut answered = BTreeSet::new();
    let topics = request.topics.into_iter().map(|topic| {
        let served = services.topics.by_name(&topic.name);
        // Each partition once: a partition can have many producers.
        let first = topic
            .partition_indexes
            .into_iter()
            .filter(|index| answered.insert((topic.name.clone(), *index)));
        let partitions = first
            .map(|index| {
                let answer = partition(index, producers(&served, index, silent_since_ms));
                space.fit(answer, |refusal| partition(index, Err(refusal)))
            })
            .collect();
        TopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producers(
    topic: &Result<Arc<ServedTopic>, Unavailable>,
    index: i32,
    silent_since_ms: i64,
) -> Result<Vec<ProducerState>, Refusal> {
    let replica = topic.as_ref().map_err(|error| *error)?.replica(index)?;
    replica.lead(-1)?;
    Ok(replica.partition.with_state(|state| {
        let active = state
            .producers
            .iter()
            .filter(|(_, producer)| producer.last_time_ms > silent_since_ms);
        active
            .map(|(id, producer)| described(id, producer))
            .collect()
    }))
}

fn described(id: i64, producer: &ottla_raft::ProducerState) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(producer.epoch.into())
        .with_last_sequence(producer.last_sequence().unwrap_or(-1))
        .with_last_timestamp(producer.last_timestamp_ms)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}

fn partition(index: i32, producers: Result<Vec<ProducerState>, Refusal>) -> PartitionResponse {
    let response = PartitionResponse::default().with_partition_index(index);
    match producers {
        Ok(producers) => response
            .with_error_code(NONE)
            .with_active_producers(producers),
        Err(refusal) => response
            .with_error_code(refusal.code)
            .with_error_message(refusal.text()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{int16, int32, int64, list, outcome, str_bytes};
    use super::*;
    use ottla_raft::RememberedBatch;
    use proptest::option;
    use proptest::prelude::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<DescribeProducersResponse> {
        let batch = option::of(int32()).prop_map(|last_sequence| {
            let batch = last_sequence.map(|last_sequence| RememberedBatch {
                base_sequence: 0,
                last_sequence,
                base_offset: 0,
                offsets: 1,
            });
            batch.into_iter().collect()
        });
        let producer = (int64(), int16(), int64(), batch);
        let producer = producer.prop_map(|(id, epoch, last_timestamp_ms, batches)| {
            let producer = ottla_raft::ProducerState {
                epoch,
                last_time_ms: 0,
                last_timestamp_ms,
                batches,
            };
            described(id, &producer)
        });
        let one = (int32(), outcome(list(producer)));
        let one = one.prop_map(|(index, producers)| partition(index, producers));
        let topic = (str_bytes(), list(one)).prop_map(|(name, partitions)| {
            TopicResponse::default()
                .with_name(name.into())
                .with_partitions(partitions)
        });
        list(topic)
            .prop_map(|topics| DescribeProducersResponse::default().with_topics(topics))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: DescribeProducersResponse,
    ) -> DescribeProducersResponse {
        response
    }

    #[test]
    fn tells_where_a_producer_stands() {
        let batch = RememberedBatch {
            base_sequence: 5,
            last_sequence: 9,
            base_offset: 100,
            offsets: 5,
        };
        let batches = [batch].into();
        let producer = ottla_raft::ProducerState {
            epoch: 2,
            last_time_ms: 50,
            last_timestamp_ms: 40,
            batches,
        };
        let described = described(7, &producer);
        assert_eq!((described.producer_id.0, described.producer_epoch), (7, 2));
        assert_eq!((described.last_sequence, described.last_timestamp), (9, 40));
        assert_eq!(
            (
                described.coordinator_epoch,
                described.current_txn_start_offset
            ),
            (-1, -1)
        );
    }
}
