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
    match services.coordinators.send(&group_id, command).await {
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
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;

    fn round_trip(version: i16, response: &JoinGroupResponse) -> JoinGroupResponse {
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).expect("encodes");
        JoinGroupResponse::decode(&mut bytes.freeze(), version).expect("decodes")
    }

    #[test]
    fn a_generation_in_every_version() {
        for version in 0..=9 {
            let joined = Joined {
                member_id: "m".into(),
                generation_id: 3,
                protocol_type: Some("consumer".into()),
                protocol_name: Some("range".into()),
                leader: "m".into(),
                skip_assignment: version >= 9,
                members: vec![JoinedMember {
                    member_id: "m".into(),
                    group_instance_id: Some("i".into()),
                    metadata: Bytes::from_static(b"x"),
                }],
            };
            let decoded = round_trip(version, &accepted(version, joined));
            assert_eq!(decoded.protocol_name.as_deref(), Some("range"));
            assert_eq!(decoded.members[0].metadata, "x");
            let instance = decoded.members[0].group_instance_id.is_some();
            assert_eq!(instance, version >= 5);
        }
    }

    #[test]
    fn a_refusal_names_no_protocol_and_is_never_null_before_v7() {
        for version in 0..=9 {
            let decoded = round_trip(version, &failed(version, 79, "m".into()));
            assert_eq!((decoded.error_code, decoded.generation_id), (79, -1));
            assert_eq!(&*decoded.member_id, "m");
            let expected = (version < 7).then_some("");
            assert_eq!(decoded.protocol_name.as_deref(), expected);
        }
    }
}
