//! AlterPartitionReassignments v0 and v1 (KIP-455, KIP-860). Answers once the move has begun;
//! ListPartitionReassignments tells when it is done.
//!
//! A partition's replicas are its group's members, and a group moves as a whole: what names some of its
//! partitions only, or gives them different replicas, gets INVALID_REPLICA_ASSIGNMENT.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::reassignments::{AlterReassignments, Reply};

use super::RequestContext;
use super::errors::{NONE, Refusal};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let allow_factor_change = request.allow_replication_factor_change;
    let asked = AlterReassignments {
        topics: wanted(request.topics),
        allow_factor_change,
    };
    match services.controller.alter_reassignments(&asked).await {
        Ok(reply) => response(context.version, allow_factor_change, reply),
        Err(error) => refused(Refusal::from(&error)),
    }
}

/// Of what is named twice the last counts.
fn wanted(topics: Vec<ReassignableTopic>) -> BTreeMap<String, BTreeMap<i32, Option<Vec<i32>>>> {
    let mut wanted: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
    for topic in topics {
        let partitions = topic.partitions.into_iter().map(|partition| {
            let replicas = partition.replicas;
            let replicas = replicas.map(|ids| ids.into_iter().map(|id| id.0).collect());
            (partition.partition_index, replicas)
        });
        let name = topic.name.to_string();
        wanted.entry(name).or_default().extend(partitions);
    }
    wanted
}

fn response(
    version: i16,
    allow_factor_change: bool,
    reply: Reply,
) -> AlterPartitionReassignmentsResponse {
    let mut topics: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (name, index, result) in reply {
        let refusal = result.err().map(|error| Refusal::from(&error));
        let partition = ReassignablePartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(refusal.as_ref().map_or(NONE, |refusal| refusal.code))
            .with_error_message(refusal.and_then(Refusal::text));
        topics.entry(name).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        ReassignableTopicResponse::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(partitions)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_error_code(NONE)
        .with_error_message(None)
        .with_allow_replication_factor_change(version < 1 || allow_factor_change)
        .with_responses(topics.collect())
}

fn refused(refusal: Refusal) -> AlterPartitionReassignmentsResponse {
    AlterPartitionReassignmentsResponse::default()
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{int32, list, refusal, text};
    use super::*;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
    use ottla_controller::reassignments::ReassignError;
    use proptest::prelude::*;

    pub(in crate::api) fn responses(
        version: i16,
    ) -> BoxedStrategy<AlterPartitionReassignmentsResponse> {
        use ReassignError as E;
        let result = prop_oneof![
            Just(Ok(())),
            Just(Err(E::UnknownTopic)),
            Just(Err(E::NotMoving)),
            text().prop_map(|names| Err(E::Shared(names))),
            int32().prop_map(|id| Err(E::TooManyGroups(id))),
        ];
        let told = (any::<bool>(), list((text(), int32(), result)));
        let told = told.prop_map(move |(allowed, reply)| response(version, allowed, reply));
        prop_oneof![3 => told, 1 => refusal().prop_map(refused)].boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: AlterPartitionReassignmentsResponse,
    ) -> AlterPartitionReassignmentsResponse {
        response
    }

    #[test]
    fn no_replicas_cancel_and_an_empty_list_does_not() {
        let partition = |index, replicas: Option<&[i32]>| {
            let replicas = replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
            ReassignablePartition::default()
                .with_partition_index(index)
                .with_replicas(replicas)
        };
        let topic = |partitions| {
            ReassignableTopic::default()
                .with_name(TopicName(StrBytes::from_static_str("a")))
                .with_partitions(partitions)
        };
        let wanted = wanted(vec![
            topic(vec![partition(0, None), partition(1, Some(&[]))]),
            topic(vec![partition(2, Some(&[3, 1])), partition(0, Some(&[2]))]),
        ]);
        let partitions = [
            (0, Some(vec![2])),
            (1, Some(vec![])),
            (2, Some(vec![3, 1])),
        ];
        assert_eq!(wanted["a"], BTreeMap::from(partitions));
    }
}
