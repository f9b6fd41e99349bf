//! Heartbeat v0 to v4 (KIP-345: group instance ids from v3).

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ottla_coordinator::{Command, Heartbeat, Response};

use super::RequestContext;
use super::errors::{NONE, Refusal, group_code};
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _context: &RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let group_id = request.group_id.to_string();
    let command = Command::Heartbeat(Heartbeat {
        group_id: group_id.clone(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
    });
    response(services.coordinators.send(&group_id, command).await)
}

fn response(answer: Result<Response, CoordinatorError>) -> HeartbeatResponse {
    let code = match answer {
        Ok(Response::Heartbeat(outcome)) => group_code(outcome.err()),
        Ok(other) => unreachable!("Heartbeat was answered with {other:?}"),
        // As Kafka does: sessions begin anew once the group is loaded, and some clients take this error
        // for the end of their membership.
        Err(CoordinatorError::LoadInProgress) => NONE,
        Err(error) => Refusal::from(error).code,
    };
    HeartbeatResponse::default().with_error_code(code)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_error};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<HeartbeatResponse> {
        let outcome = prop_oneof![Just(Ok(())), group_error().prop_map(Err)];
        coordinated(outcome.prop_map(Response::Heartbeat))
            .prop_map(response)
            .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: HeartbeatResponse) -> HeartbeatResponse {
        response
    }

    #[test]
    fn a_group_that_is_being_loaded_takes_heartbeats_blindly() {
        let loading = response(Err(CoordinatorError::LoadInProgress));
        assert_eq!(loading.error_code, NONE);
        let gone = response(Err(CoordinatorError::NotCoordinator));
        assert_eq!(gone.error_code, 16);
    }
}
