//! DeleteTopics v1 to v6 (KIP-4, KIP-322, KIP-516), by name, and from v6 by id.
//!
//! Answers once this broker serves the topics no more. Their data goes afterwards.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::delete_topics::{DeleteTopicError, DeletedTopic, TopicKey};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::RequestContext;
use super::brokers;
use super::errors::{NONE, Refusal};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let deadline = brokers::deadline(request.timeout_ms);
    let asked = match context.version {
        6.. => request.topics.into_iter().map(key).collect::<Vec<_>>(),
        _ => request
            .topic_names
            .into_iter()
            .map(|name| Ok(TopicKey::Name(name.to_string())))
            .collect(),
    };
    let keys: Vec<_> = asked
        .iter()
        .filter_map(|key| key.as_ref().ok())
        .cloned()
        .collect();
    let mut results: Vec<_> = asked.into_iter().filter_map(Result::err).collect();
    if keys.is_empty() {
        return DeleteTopicsResponse::default().with_responses(results);
    }
    match services.controller.delete_topics(&keys).await {
        Err(error) => results.extend(keys.iter().map(|key| refused(key, Refusal::from(&error)))),
        Ok(reply) => {
            let deleted = reply.iter().filter_map(|(_, result)| result.as_ref().ok());
            let late = wait_until_gone(
                services,
                deleted.map(|topic| topic.topic_id).collect(),
                deadline,
            )
            .await;
            let result =
                |(key, result): (TopicKey, Result<DeletedTopic, DeleteTopicError>)| match result {
                    Ok(topic) if late.contains(&topic.topic_id) => {
                        refused(&key, ResponseError::RequestTimedOut.into())
                    }
                    Ok(topic) => deleted_topic(topic),
                    Err(error) => refused(&key, refusal(context.version, &error)),
                };
            results.extend(reply.into_iter().map(result));
        }
    }
    DeleteTopicsResponse::default().with_responses(results)
}

/// The topic that is meant, or the answer to a request that means none.
fn key(topic: DeleteTopicState) -> Result<TopicKey, DeletableTopicResult> {
    let invalid = |name: Option<TopicName>, message| {
        let result = DeletableTopicResult::default()
            .with_name(name)
            .with_topic_id(topic.topic_id);
        let refusal = Refusal::new(ResponseError::InvalidRequest, message);
        Err(result
            .with_error_code(refusal.code)
            .with_error_message(refusal.text()))
    };
    match (topic.name, topic.topic_id.is_nil()) {
        (Some(name), true) => Ok(TopicKey::Name(name.to_string())),
        (None, false) => Ok(TopicKey::Id(topic.topic_id)),
        (None, true) => invalid(None, "Neither topic name nor id were specified."),
        (name, false) => invalid(name, "You may not specify both topic name and topic id."),
    }
}

async fn wait_until_gone(services: &Services, topics: Vec<Uuid>, deadline: Instant) -> Vec<Uuid> {
    let mut changes = services.topics.changes();
    let mut there = topics;
    loop {
        there.retain(|id| services.topics.by_id(*id).is_ok());
        if there.is_empty() || timeout_at(deadline, changes.changed()).await.is_err() {
            return there;
        }
    }
}

fn deleted_topic(topic: DeletedTopic) -> DeletableTopicResult {
    tracing::info!(topic = %topic.name, "deleted a topic");
    DeletableTopicResult::default()
        .with_error_code(NONE)
        .with_name(Some(TopicName(StrBytes::from_string(topic.name))))
        .with_topic_id(topic.topic_id)
}

/// TOPIC_DELETION_DISABLED came with v3.
fn refusal(version: i16, error: &DeleteTopicError) -> Refusal {
    match error {
        DeleteTopicError::Disabled if version < 3 => {
            Refusal::new(ResponseError::InvalidRequest, error.to_string())
        }
        error => error.into(),
    }
}

fn refused(key: &TopicKey, refusal: Refusal) -> DeletableTopicResult {
    let result = match key {
        TopicKey::Name(name) => DeletableTopicResult::default()
            .with_name(Some(TopicName(StrBytes::from_string(name.clone())))),
        TopicKey::Id(id) => DeletableTopicResult::default()
            .with_name(None)
            .with_topic_id(*id),
    };
    result
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::protocol::Encodable;

    fn state(name: Option<&'static str>, id: u128) -> DeleteTopicState {
        let name = name.map(|name| TopicName(StrBytes::from_static_str(name)));
        DeleteTopicState::default()
            .with_name(name)
            .with_topic_id(Uuid::from_u128(id))
    }

    #[test]
    fn a_name_or_an_id() {
        assert_eq!(key(state(Some("a"), 0)), Ok(TopicKey::Name("a".to_owned())));
        assert_eq!(key(state(None, 5)), Ok(TopicKey::Id(Uuid::from_u128(5))));
        for state in [state(Some("a"), 5), state(None, 0)] {
            let refused = key(state.clone()).unwrap_err();
            assert_eq!(refused.error_code, ResponseError::InvalidRequest.code());
            assert_eq!(
                (refused.name, refused.topic_id),
                (state.name, state.topic_id)
            );
        }
    }

    #[test]
    fn encodes_in_every_version() {
        let topic = DeletedTopic {
            name: "a".to_owned(),
            topic_id: Uuid::from_u128(5),
        };
        for version in 1..=6 {
            let disabled = refusal(version, &DeleteTopicError::Disabled);
            let expected = if version < 3 {
                ResponseError::InvalidRequest
            } else {
                ResponseError::TopicDeletionDisabled
            };
            assert_eq!(disabled.code, expected.code());
            let mut results = vec![
                deleted_topic(topic.clone()),
                refused(&TopicKey::Name("b".to_owned()), disabled),
            ];
            if version == 6 {
                results.push(refused(
                    &TopicKey::Id(topic.topic_id),
                    ResponseError::UnknownTopicId.into(),
                ));
            }
            let response = DeleteTopicsResponse::default().with_responses(results);
            response
                .encode(&mut bytes::BytesMut::new(), version)
                .unwrap();
        }
    }
}
