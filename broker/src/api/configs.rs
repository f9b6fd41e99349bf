//! What DescribeConfigs, AlterConfigs and IncrementalAlterConfigs share: the resources whose configs
//! can be named, and how a change of them goes through.

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use ottla_controller::alter_configs::{AlterConfigs, Change, Resource};
use ottla_proto::ids::NodeId;

use super::errors::{NONE, Refusal};
use crate::services::Services;

// Kafka's ConfigResource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// The resource that a request names, if it has configs here. As in Kafka a broker answers for itself
/// and for what all brokers share (the empty name).
/// `others`: of which other brokers the request may be.
pub(super) fn resource(
    kind: i8,
    name: &str,
    node_id: NodeId,
    others: impl Fn(NodeId) -> bool,
) -> Result<Resource, Refusal> {
    let invalid = |message: String| Err(Refusal::new(ResponseError::InvalidRequest, message));
    match (kind, name) {
        (TOPIC, _) => Ok(Resource::Topic(name.to_owned())),
        (BROKER, "") => Ok(Resource::Broker(None)),
        (BROKER, _) => match name.parse() {
            Ok(id) if id == node_id || others(id) => Ok(Resource::Broker(Some(id))),
            Ok(id) => invalid(format!(
                "Unexpected broker id, expected {node_id} or empty string, but received {id}"
            )),
            Err(_) => invalid("Broker id must be an integer".to_owned()),
        },
        (BROKER_LOGGER, _) => {
            invalid("The log levels of this broker are set by RUST_LOG when it starts".to_owned())
        }
        (kind, _) => invalid(format!("Unsupported resource type: {kind}")),
    }
}

/// One resource of a request to alter.
pub(super) struct Asked {
    pub kind: i8,
    pub name: StrBytes,
    /// Or why it is no change.
    pub change: Result<Change, Refusal>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub kind: i8,
    pub name: StrBytes,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
}

/// Each resource is altered as a whole or not at all, whatever becomes of the others.
pub(super) async fn alter(
    services: &Services,
    asked: Vec<Asked>,
    validate_only: bool,
) -> Vec<Answer> {
    let node_id = services.metadata.node_id();
    // Whoever decides may not be the broker that is meant, to which clients send this.
    let image = services.metadata.current();
    let others = |id| image.broker(id).is_some();
    let mut request = AlterConfigs {
        resources: Vec::new(),
        validate_only,
    };
    let mut answers = Vec::with_capacity(asked.len());
    // Positions of the answers that the controller gives, in its order.
    let mut decided = Vec::with_capacity(asked.len());
    for Asked { kind, name, change } in asked {
        let taken =
            resource(kind, &name, node_id, others).and_then(|resource| Ok((resource, change?)));
        let refusal = match taken {
            Ok(taken) => {
                request.resources.push(taken);
                decided.push(answers.len());
                None
            }
            Err(refusal) => Some(refusal),
        };
        answers.push((kind, name, refusal));
    }
    if !decided.is_empty() {
        match services.controller.alter_configs(&request).await {
            Ok(reply) => {
                assert_eq!(
                    reply.len(),
                    decided.len(),
                    "the controller answers for each resource"
                );
                for (position, (_, result)) in decided.into_iter().zip(reply) {
                    answers[position].2 = result.err().map(|error| Refusal::from(&error));
                }
            }
            Err(error) => decided
                .into_iter()
                .for_each(|position| answers[position].2 = Some(Refusal::from(&error))),
        }
    }
    answers
        .into_iter()
        .map(|(kind, name, refusal)| answer(kind, name, refusal))
        .collect()
}

fn answer(kind: i8, name: StrBytes, refusal: Option<Refusal>) -> Answer {
    let error_code = refusal.as_ref().map_or(NONE, |refusal| refusal.code);
    Answer {
        kind,
        name,
        error_code,
        error_message: refusal.and_then(Refusal::text),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{int8, refusal, str_bytes};
    use super::*;

    pub(in crate::api) fn answer() -> impl Strategy<Value = Answer> {
        (int8(), str_bytes(), option::of(refusal()))
            .prop_map(|(kind, name, refusal)| super::answer(kind, name, refusal))
    }

    #[test]
    fn names_what_has_configs() {
        let found = |kind, name| resource(kind, name, 3, |_| false).map_err(|refusal| refusal.code);
        assert_eq!(found(TOPIC, "a"), Ok(Resource::Topic("a".to_owned())));
        assert_eq!(found(BROKER, ""), Ok(Resource::Broker(None)));
        assert_eq!(found(BROKER, "3"), Ok(Resource::Broker(Some(3))));
        for (kind, name) in [
            (BROKER, "4"),
            (BROKER, "x"),
            (BROKER_LOGGER, "3"),
            (16, "m"),
            (32, "g"),
            (0, ""),
            (-1, "a"),
        ] {
            assert_eq!(
                found(kind, name),
                Err(ResponseError::InvalidRequest.code()),
                "{kind} {name}"
            );
        }
    }
}
