//! JoinGroup v0 to v9 (KIP-62: rebalance timeout from v1, KIP-394: known member ids from v4, KIP-345:
//! group instance ids from v5, KIP-559: protocol type from v7, KIP-800: reason from v8, KIP-814:
//! skip_assignment from v9).
//!
//! The answer waits for the group's other members, up to the rebalance timeout.

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator::{Command, JoinGroup, Joined, JoinedMember, Protocol, Response};

use super::RequestContext;
use super::errors::Refusal;
use super::leave_group::reason;
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group_id = request.group_id.to_string();
    let member_id = request.member_id.to_string();
    let command = Command::JoinGroup(join(context, request));
    let version = context.version;
    let answer = services.coordinators.send(&group_id, command).await;
    response(version, member_id, answer)
}

/// `member_id` is the request's.
fn response(
    version: i16,
    member_id: String,
    answer: Result<Response, CoordinatorError>,
) -> JoinGroupResponse {
    match answer {
        Ok(Response::Join(Ok(joined))) => accepted(version, joined),
        Ok(Response::Join(Err(refused))) => {
            let code = Refusal::from(refused.error).code;
            failed(version, code, refused.member_id)
        }
        Ok(other) => unreachable!("JoinGroup was answered with {other:?}"),
        Err(error) => failed(version, Refusal::from(error).code, member_id),
    }
}

fn join(context: &RequestContext, request: JoinGroupRequest) -> JoinGroup {
    let protocols = request.protocols.iter().map(|p| Protocol {
        name: p.name.to_string(),
        metadata: Bytes::copy_from_slice(&p.metadata),
    });
    let rebalance_timeout_ms = match context.version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    JoinGroup {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        client_id: context.client_id.clone().unwrap_or_default(),
        // As Java prints an address without a host name.
        client_host: format!("/{}", context.peer.address.to_canonical()),
        requires_known_member_id: context.version >= 4,
        supports_skip_assignment: context.version >= 9,
        reason: reason(request.reason),
    }
}

fn accepted(version: i16, joined: Joined) -> JoinGroupResponse {
    let member = |member: JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(member.member_id))
            .with_group_instance_id(member.group_instance_id.map(StrBytes::from_string))
            .with_metadata(member.metadata)
    };
    JoinGroupResponse::default()
        .with_generation_id(joined.generation_id)
        .with_protocol_type(joined.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(protocol_name(version, joined.protocol_name))
        .with_leader(StrBytes::from_string(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(StrBytes::from_string(joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect())
}

fn failed(version: i16, code: i16, member_id: String) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(code)
        .with_generation_id(-1)
        .with_protocol_type(None)
        .with_protocol_name(protocol_name(version, None))
        .with_member_id(StrBytes::from_string(member_id))
}

/// Before v7 the name is never null.
fn protocol_name(version: i16, name: Option<String>) -> Option<StrBytes> {
    match name {
        None if version < 7 => Some(StrBytes::default()),
        name => name.map(StrBytes::from_string),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ottla_coordinator::{GroupError, JoinRefused};
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_error, int32, list, payload, text};
    use super::*;

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<JoinGroupResponse> {
        let member = (text(), option::of(text()), payload());
        let member = member.prop_map(|(member_id, group_instance_id, metadata)| JoinedMember {
            member_id,
            group_instance_id,
            metadata,
        });
        let protocol = (option::of(text()), option::of(text()));
        let joined = (text(), int32(), protocol, text(), any::<bool>(), list(member));
        let joined = joined.prop_map(move |(member_id, generation_id, protocol, leader, skip, members)| Joined {
            member_id,
            generation_id,
            protocol_type: protocol.0,
            protocol_name: protocol.1,
            leader,
            // The request says whether the client understands it.
            skip_assignment: skip && version >= 9,
            members,
        });
        let refused = (group_error(), text())
            .prop_map(|(error, member_id)| JoinRefused { error, member_id });
        let outcome = prop_oneof![joined.prop_map(Ok), refused.prop_map(Err)];
        (text(), coordinated(outcome.prop_map(Response::Join)))
            .prop_map(move |(member_id, answer)| response(version, member_id, answer))
            .boxed()
    }

    pub(in crate::api) fn as_of(version: i16, mut response: JoinGroupResponse) -> JoinGroupResponse {
        if version < 7 {
            response.protocol_type = None;
            assert!(response.protocol_name.is_some(), "null only from v7");
        }
        if version < 5 {
            let members = response.members.iter_mut();
            members.for_each(|member| member.group_instance_id = None);
        }
        response
    }

    #[test]
    fn a_refusal_names_the_member_and_no_generation() {
        for version in 0..=9 {
            let refused = JoinRefused {
                error: GroupError::MemberIdRequired,
                member_id: "drawn".into(),
            };
            let answer = Ok(Response::Join(Err(refused)));
            let response = response(version, "asked".into(), answer);
            assert_eq!((response.error_code, response.generation_id), (79, -1));
            assert_eq!(&*response.member_id, "drawn");
            let none_yet = (version < 7).then_some("");
            assert_eq!(response.protocol_name.as_deref(), none_yet);
        }
        let unknown = Err(CoordinatorError::NotCoordinator);
        let response = response(9, "asked".into(), unknown);
        assert_eq!((response.error_code, &*response.member_id), (16, "asked"));
    }
}
