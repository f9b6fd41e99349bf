//! ListPartitionReassignments v0 (KIP-455): the partitions whose groups move, as the active controller knows
//! it. Partitions that do not move, or do not exist, are left out.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    BrokerId, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::reassignments::{self, Reassignment};

use super::RequestContext;
use super::errors::{NONE, Refusal};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    if !services.metadata.is_leader() {
        return refused(ResponseError::NotController.into());
    }
    let asked = request.topics.map(named);
    let found = reassignments::list(&services.metadata.current(), asked.as_ref());
    response(found)
}

fn named(topics: Vec<ListPartitionReassignmentsTopics>) -> BTreeMap<String, BTreeSet<i32>> {
    let mut named: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for topic in topics {
        let indexes = named.entry(topic.name.to_string()).or_default();
        indexes.extend(topic.partition_indexes);
    }
    named
}

fn response(found: Vec<Reassignment>) -> ListPartitionReassignmentsResponse {
    let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let mut topics: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for moving in found {
        let partition = OngoingPartitionReassignment::default()
            .with_partition_index(moving.index)
            .with_replicas(ids(moving.replicas))
            .with_adding_replicas(ids(moving.adding))
            .with_removing_replicas(ids(moving.removing));
        topics.entry(moving.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OngoingTopicReassignment::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(partitions)
    });
    ListPartitionReassignmentsResponse::default()
        .with_error_code(NONE)
        .with_error_message(None)
        .with_topics(topics.collect())
}

fn refused(refusal: Refusal) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{int32, list, refusal, text};
    use super::*;
    use proptest::prelude::*;

    pub(in crate::api) fn responses(
        _: i16,
    ) -> BoxedStrategy<ListPartitionReassignmentsResponse> {
        let ids = || list(int32());
        let moving = (text(), int32(), ids(), ids(), ids());
        let moving = moving.prop_map(|(topic, index, replicas, adding, removing)| Reassignment {
            topic,
            index,
            replicas,
            adding,
            removing,
        });
        let told = list(moving).prop_map(response);
        prop_oneof![3 => told, 1 => refusal().prop_map(refused)].boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: ListPartitionReassignmentsResponse,
    ) -> ListPartitionReassignmentsResponse {
        response
    }
}
