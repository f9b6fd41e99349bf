//! Heartbeat v0 to v4 (KIP-345: group instance ids from v3).

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ottla_coordinator::{Command, Heartbeat, Response};

use super::RequestContext;
use super::errors::{Refusal, group_code};
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
    let code = match services.coordinators.send(&group_id, command).await {
        Ok(Response::Heartbeat(outcome)) => group_code(outcome.err()),
        Ok(other) => unreachable!("Heartbeat was answered with {other:?}"),
        Err(error) => Refusal::from(error).code,
    };
    HeartbeatResponse::default().with_error_code(code)
}
