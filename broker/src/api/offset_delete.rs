//! OffsetDelete v0 (KIP-496). Topics must exist, as in Kafka.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator::{Command, DeleteOffsets, Response, TopicPartitions, TopicResult};

use super::RequestContext;
use super::errors::{Refusal, group_code};
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _context: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let exists = |t: &OffsetDeleteRequestTopic| services.topics.by_name(&t.name).is_ok();
    let (known, unknown): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(exists);
    if known.is_empty() {
        return response(unknown, Ok(Response::DeleteOffsets(Ok(Vec::new()))));
    }
    let group_id = request.group_id.to_string();
    let command = Command::DeleteOffsets(DeleteOffsets {
        group_id: group_id.clone(),
        topics: known.iter().map(topic).collect(),
    });
    response(
        unknown,
        services.coordinators.send(&group_id, command).await,
    )
}

fn response(
    unknown: Vec<OffsetDeleteRequestTopic>,
    answered: Result<Response, CoordinatorError>,
) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default();
    match answered {
        Ok(Response::DeleteOffsets(Ok(results))) => {
            let known = results.into_iter().map(answer);
            response.with_topics(unknown.into_iter().map(not_found).chain(known).collect())
        }
        Ok(Response::DeleteOffsets(Err(error))) => {
            response.with_error_code(group_code(Some(error)))
        }
        Ok(other) => unreachable!("OffsetDelete was answered with {other:?}"),
        Err(error) => response.with_error_code(Refusal::from(error).code),
    }
}

fn topic(topic: &OffsetDeleteRequestTopic) -> TopicPartitions {
    TopicPartitions {
        name: topic.name.to_string(),
        partitions: topic.partitions.iter().map(|p| p.partition_index).collect(),
    }
}

fn answer(result: TopicResult) -> OffsetDeleteResponseTopic {
    let outcomes = result.partitions.into_iter();
    let partitions = outcomes.map(|(index, error)| partition(index, group_code(error)));
    OffsetDeleteResponseTopic::default()
        .with_name(TopicName(StrBytes::from_string(result.name)))
        .with_partitions(partitions.collect())
}

fn not_found(topic: OffsetDeleteRequestTopic) -> OffsetDeleteResponseTopic {
    let code = ResponseError::UnknownTopicOrPartition.code();
    let asked = topic.partitions.iter();
    let partitions = asked.map(|p| partition(p.partition_index, code));
    OffsetDeleteResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(partitions.collect())
}

fn partition(index: i32, code: i16) -> OffsetDeleteResponsePartition {
    OffsetDeleteResponsePartition::default()
        .with_partition_index(index)
        .with_error_code(code)
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestPartition;
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_error, int32, list, str_bytes, topic_results};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<OffsetDeleteResponse> {
        let partition =
            int32().prop_map(|i| OffsetDeleteRequestPartition::default().with_partition_index(i));
        let unknown = (str_bytes(), list(partition)).prop_map(|(name, partitions)| {
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(name))
                .with_partitions(partitions)
        });
        let outcome = prop_oneof![
            3 => topic_results().prop_map(Ok),
            1 => group_error().prop_map(Err),
        ];
        (list(unknown), coordinated(outcome.prop_map(Response::DeleteOffsets)))
            .prop_map(|(unknown, answered)| response(unknown, answered))
            .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: OffsetDeleteResponse) -> OffsetDeleteResponse {
        response
    }
}
