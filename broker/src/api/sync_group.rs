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
    match services.coordinators.send(&group_id, command).await {
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
