//! DeleteTopics v1 to v6 (KIP-4, KIP-322, KIP-516), by name, and from v6 by id.
//!
//! Answers once this broker serves the topics no more. Their data goes afterwards.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::delete_topics::{DeleteTopicError, DeletedTopic, Reply, TopicKey};
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
            let deleted = deleted.map(|topic| {
                tracing::info!(topic = %topic.name, "deleted a topic");
                topic.topic_id
            });
            let late = wait_until_gone(services, deleted.collect(), deadline).await;
            results.extend(answers(context.version, reply, &late));
        }
    }
    DeleteTopicsResponse::default().with_responses(results)
}

/// `late` are the topics that are deleted and still served here.
fn answers(
    version: i16,
    reply: Reply,
    late: &[Uuid],
) -> impl Iterator<Item = DeletableTopicResult> {
    reply.into_iter().map(move |(key, result)| match result {
        Ok(topic) if late.contains(&topic.topic_id) => {
            refused(&key, ResponseError::RequestTimedOut.into())
        }
        Ok(topic) => deleted_topic(topic),
        Err(error) => refused(&key, refusal(version, &error)),
    })
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
pub(super) mod tests {
    use super::super::responses::{id, list, str_bytes, text};
    use super::*;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Topics are named by id from v6 on, and then can be named wrongly.
    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<DeleteTopicsResponse> {
        use DeleteTopicError as E;
        let topic_key = prop_oneof![
            text().prop_map(TopicKey::Name),
            id().prop_map(move |id| match version {
                6.. => TopicKey::Id(id),
                _ => TopicKey::Name(id.to_string()),
            }),
        ];
        let deleted = (text(), id(), any::<bool>()).prop_map(|(name, topic_id, late)| {
            (Ok(DeletedTopic { name, topic_id }), late)
        });
        let errors = vec![E::UnknownName, E::UnknownId, E::Duplicate, E::Disabled];
        let result = prop_oneof![deleted, select(errors).prop_map(|error| (Err(error), false))];
        let wrong = (option::of(str_bytes()), id()).prop_map(|(name, id)| {
            DeleteTopicState::default()
                .with_name(name.map(TopicName))
                .with_topic_id(id)
        });
        let wrong = list(wrong).prop_map(move |asked| match version {
            6.. => asked.into_iter().filter_map(|state| key(state).err()).collect(),
            _ => Vec::new(),
        });
        (wrong, list((topic_key, result)))
            .prop_map(move |(mut all, results)| {
                let late = results.iter().filter(|(_, (_, late))| *late);
                let late = late.filter_map(|(_, (topic, _))| Some(topic.as_ref().ok()?.topic_id));
                let late: Vec<_> = late.collect();
                let reply = results.into_iter().map(|(key, (result, _))| (key, result));
                all.extend(answers(version, reply.collect(), &late));
                DeleteTopicsResponse::default().with_responses(all)
            })
            .boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: DeleteTopicsResponse,
    ) -> DeleteTopicsResponse {
        for topic in &mut response.responses {
            assert!(topic.name.is_some() || version >= 6, "null only from v6");
            if version < 6 {
                topic.topic_id = Uuid::nil();
            }
            if version < 5 {
                topic.error_message = None;
            }
        }
        response
    }

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
    fn deletion_is_disabled_as_the_version_can_tell() {
        for version in 1..=6 {
            let expected = if version < 3 {
                ResponseError::InvalidRequest
            } else {
                ResponseError::TopicDeletionDisabled
            };
            let disabled = refusal(version, &DeleteTopicError::Disabled);
            assert_eq!(disabled.code, expected.code());
        }
    }
}
