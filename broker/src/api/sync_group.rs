//! SyncGroup v0 to v5 (KIP-345: group instance ids from v3, KIP-559: protocol type and name from v5).
//!
//! A follower's answer waits for the leader's assignment.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator::{Command, Response, SyncGroup};

use super::RequestContext;
use super::errors::Refusal;
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    if context.version >= 5 && unnamed {
        return failed(ResponseError::InconsistentGroupProtocol.into());
    }
    let group_id = request.group_id.to_string();
    let command = Command::SyncGroup(sync(request));
    response(services.coordinators.send(&group_id, command).await)
}

fn response(answer: Result<Response, CoordinatorError>) -> SyncGroupResponse {
    match answer {
        Ok(Response::Sync(Ok(synced))) => SyncGroupResponse::default()
            .with_protocol_type(synced.protocol_type.map(StrBytes::from_string))
            .with_protocol_name(synced.protocol_name.map(StrBytes::from_string))
            .with_assignment(synced.assignment),
        Ok(Response::Sync(Err(error))) => failed(error.into()),
        Ok(other) => unreachable!("SyncGroup was answered with {other:?}"),
        Err(error) => failed(error.into()),
    }
}

fn sync(request: SyncGroupRequest) -> SyncGroup {
    let assignments = request.assignments.iter().map(|a| {
        let assignment = Bytes::copy_from_slice(&a.assignment);
        (a.member_id.to_string(), assignment)
    });
    SyncGroup {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        assignments: assignments.collect(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.map(|t| t.to_string()),
        protocol_name: request.protocol_name.map(|n| n.to_string()),
    }
}

fn failed(refusal: Refusal) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(refusal.code)
}

#[cfg(test)]
pub(super) mod tests {
    use ottla_coordinator::Synced;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_error, payload, text};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<SyncGroupResponse> {
        let synced = (option::of(text()), option::of(text()), payload());
        let synced = synced.prop_map(|(protocol_type, protocol_name, assignment)| Synced {
            protocol_type,
            protocol_name,
            assignment,
        });
        let outcome = prop_oneof![
            synced.prop_map(|synced| Response::Sync(Ok(synced))),
            group_error().prop_map(|error| Response::Sync(Err(error))),
        ];
        coordinated(outcome).prop_map(response).boxed()
    }

    pub(in crate::api) fn as_of(version: i16, response: SyncGroupResponse) -> SyncGroupResponse {
        match version {
            5.. => response,
            _ => response.with_protocol_type(None).with_protocol_name(None),
        }
    }
}
