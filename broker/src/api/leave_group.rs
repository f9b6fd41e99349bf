//! LeaveGroup v0 to v5 (KIP-345: several members from v3, KIP-800: reasons from v5).
//!
//! Until v2 the one member's error is the answer's; from v3 each member has its own.

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_proto::limits::GROUP_REASON_CHARS;
use ottla_coordinator::{Command, LeaveGroup, LeavingMember, LeftMember, Response};

use super::RequestContext;
use super::errors::{Refusal, group_code};
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group_id = request.group_id.to_string();
    let command = Command::LeaveGroup(leave(context.version, request));
    let answer = services.coordinators.send(&group_id, command).await;
    response(context.version, answer)
}

fn response(version: i16, answer: Result<Response, CoordinatorError>) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    match answer {
        Ok(Response::Leave(Ok(left))) if version < 3 => {
            let error = left.first().and_then(|member| member.error);
            response.with_error_code(group_code(error))
        }
        Ok(Response::Leave(Ok(left))) => {
            response.with_members(left.into_iter().map(member).collect())
        }
        Ok(Response::Leave(Err(error))) => response.with_error_code(group_code(Some(error))),
        Ok(other) => unreachable!("LeaveGroup was answered with {other:?}"),
        Err(error) => response.with_error_code(Refusal::from(error).code),
    }
}

fn leave(version: i16, request: LeaveGroupRequest) -> LeaveGroup {
    let one = LeavingMember {
        member_id: request.member_id.to_string(),
        group_instance_id: None,
        reason: None,
    };
    let several = request.members.into_iter().map(|member| LeavingMember {
        member_id: member.member_id.to_string(),
        group_instance_id: member.group_instance_id.map(|id| id.to_string()),
        reason: reason(member.reason),
    });
    LeaveGroup {
        group_id: request.group_id.to_string(),
        members: match version {
            0..=2 => vec![one],
            _ => several.collect(),
        },
    }
}

fn member(left: LeftMember) -> MemberResponse {
    MemberResponse::default()
        .with_member_id(StrBytes::from_string(left.member_id))
        .with_group_instance_id(left.group_instance_id.map(StrBytes::from_string))
        .with_error_code(group_code(left.error))
}

/// What is kept of why a member joins or leaves.
pub(super) fn reason(reason: Option<StrBytes>) -> Option<String> {
    reason.map(|reason| reason.chars().take(GROUP_REASON_CHARS).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_error, list, text};
    use super::*;

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<LeaveGroupResponse> {
        let left = (text(), option::of(text()), option::of(group_error()));
        let left = left.prop_map(|(member_id, group_instance_id, error)| LeftMember {
            member_id,
            group_instance_id,
            error,
        });
        let outcome = prop_oneof![
            list(left).prop_map(|left| Response::Leave(Ok(left))),
            group_error().prop_map(|error| Response::Leave(Err(error))),
        ];
        coordinated(outcome)
            .prop_map(move |answer| response(version, answer))
            .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: LeaveGroupResponse) -> LeaveGroupResponse {
        response
    }
}
