//! CreatePartitions v0 to v3 (KIP-195, KIP-599). Answers once the new partitions can be worked with on
//! this broker; REQUEST_TIMED_OUT if that takes longer than the request's timeout.

use std::collections::HashMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::create_partitions::{CreatePartitions, MorePartitions, Reply};
use uuid::Uuid;

use super::RequestContext;
use super::brokers;
use super::errors::{NONE, Refusal};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let deadline = brokers::deadline(request.timeout_ms);
    let validate_only = request.validate_only;
    let topics: Vec<_> = request.topics.into_iter().map(more_partitions).collect();
    let asked = CreatePartitions {
        topics,
        validate_only,
    };
    let reply = match services.controller.create_partitions(&asked).await {
        Ok(reply) => reply,
        Err(error) => {
            let results = asked
                .topics
                .into_iter()
                .map(|topic| result(topic.name, Some(Refusal::from(&error))));
            return CreatePartitionsResponse::default().with_results(results.collect());
        }
    };
    let counts: HashMap<_, _> = asked
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.count))
        .collect();
    let image = services.metadata.current();
    let id_of = |name: &str| image.topic(name).map_or(Uuid::nil(), |topic| topic.id);
    let mut late = Vec::new();
    if !validate_only {
        let grown = reply.iter().filter(|(_, result)| result.is_ok());
        let grown = grown
            .map(|(name, _)| (id_of(name), counts[name.as_str()] as usize))
            .collect();
        late = brokers::wait_until_served(services, grown, deadline).await;
    }
    response(reply, |name| late.contains(&id_of(name)))
}

/// `is_late`: the partitions are made and cannot be worked with yet.
fn response(reply: Reply, is_late: impl Fn(&str) -> bool) -> CreatePartitionsResponse {
    let results = reply.into_iter().map(|(name, grown)| {
        let refusal = match grown {
            Err(error) => Some(Refusal::from(&error)),
            Ok(()) if is_late(&name) => Some(Refusal::new(
                ResponseError::RequestTimedOut,
                "The partitions are made, but not ready yet",
            )),
            Ok(()) => None,
        };
        result(name, refusal)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn more_partitions(topic: CreatePartitionsTopic) -> MorePartitions {
    let replicas = |assignments: Vec<_>| {
        let ids = |assignment: kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment| {
            assignment.broker_ids.into_iter().map(|id| id.0).collect()
        };
        assignments.into_iter().map(ids).collect()
    };
    MorePartitions {
        name: topic.name.to_string(),
        count: topic.count,
        assignments: topic.assignments.map(replicas),
    }
}

fn result(name: String, refusal: Option<Refusal>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(TopicName(StrBytes::from_string(name)))
        .with_error_code(refusal.as_ref().map_or(NONE, |refusal| refusal.code))
        .with_error_message(refusal.and_then(Refusal::text))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{int32, list, text};
    use super::*;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;
    use ottla_controller::create_partitions::CreatePartitionsError;
    use proptest::prelude::*;
    use proptest::sample::select;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<CreatePartitionsResponse> {
        use CreatePartitionsError as E;
        let others = vec![E::UnknownTopic, E::Duplicate, E::RequestTooLarge, E::ClusterFull];
        let no_increase = (text(), any::<u16>(), int32());
        let no_increase = no_increase.prop_map(|(name, current, asked)| E::NoIncrease {
            name,
            current: current.into(),
            asked,
        });
        let result = prop_oneof![
            Just(Ok(())),
            select(others).prop_map(Err),
            no_increase.prop_map(Err),
        ];
        (list((text(), result)), any::<bool>())
            .prop_map(|(reply, late)| response(reply, |_| late))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: CreatePartitionsResponse,
    ) -> CreatePartitionsResponse {
        response
    }

    #[test]
    fn no_assignments_are_not_an_empty_list() {
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("a")))
            .with_count(3);
        let read =
            |assignments| more_partitions(topic.clone().with_assignments(assignments)).assignments;
        assert_eq!(read(None), None);
        assert_eq!(read(Some(vec![])), Some(vec![]));
        let one =
            CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(2), BrokerId(1)]);
        assert_eq!(read(Some(vec![one])), Some(vec![vec![2, 1]]));
    }
}
