//! DescribeGroups v0 to v6 (KIP-430: authorized operations from v3, KIP-345: group instance ids from
//! v4, KIP-1043: GROUP_ID_NOT_FOUND from v6; until v5 an unknown group is Dead, without an error).

use futures_util::future::join_all;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator::{self as coordinator, Command, DescribedMember, Response};

use super::RequestContext;
use super::errors::Refusal;
use crate::services::Services;

/// Everything that can be done to a group, which is what one may do without an authorizer: READ,
/// DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS, each the bit of its AclOperation.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let with_operations = context.version >= 3 && request.include_authorized_operations;
    let describe = |id: GroupId| async move {
        let command = Command::DescribeGroups(vec![id.to_string()]);
        match services.coordinators.send(&id, command).await {
            Ok(Response::DescribeGroups(groups)) => {
                let group = groups.into_iter().next().expect("one answer for one group");
                described(context.version, with_operations, group)
            }
            Ok(other) => unreachable!("DescribeGroups was answered with {other:?}"),
            Err(error) => refused(context.version, id, error.into()),
        }
    };
    let groups = join_all(request.groups.into_iter().map(describe)).await;
    DescribeGroupsResponse::default().with_groups(groups)
}

fn described(version: i16, operations: bool, group: coordinator::DescribedGroup) -> DescribedGroup {
    let described = DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state.as_str()))
        .with_protocol_type(StrBytes::from_string(group.protocol_type))
        .with_protocol_data(StrBytes::from_string(group.protocol))
        .with_members(group.members.into_iter().map(member).collect());
    let described = match group.error.filter(|_| version >= 6) {
        Some(error) => {
            let message = format!("Group {} not found.", group.group_id);
            let code = Refusal::from(error).code;
            let refusal = Refusal {
                code,
                message: Some(message),
            };
            described
                .with_error_code(code)
                .with_error_message(refusal.text())
        }
        None if operations => described.with_authorized_operations(ALL_OPERATIONS),
        None => described,
    };
    described.with_group_id(GroupId(StrBytes::from_string(group.group_id)))
}

fn refused(version: i16, id: GroupId, refusal: Refusal) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(id)
        .with_error_code(refusal.code)
        .with_error_message(refusal.text().filter(|_| version >= 6))
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(StrBytes::from_string(member.member_id))
        .with_group_instance_id(member.group_instance_id.map(StrBytes::from_string))
        .with_client_id(StrBytes::from_string(member.client_id))
        .with_client_host(StrBytes::from_string(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::protocol::{Decodable, Encodable};
    use ottla_coordinator::{GroupError, GroupState};

    use super::*;

    fn round_trip(version: i16, group: DescribedGroup) -> DescribedGroup {
        let response = DescribeGroupsResponse::default().with_groups(vec![group]);
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).expect("encodes");
        let decoded = DescribeGroupsResponse::decode(&mut bytes.freeze(), version);
        decoded.expect("decodes").groups.remove(0)
    }

    fn group(error: Option<GroupError>, state: GroupState) -> coordinator::DescribedGroup {
        let member = DescribedMember {
            member_id: "m".into(),
            group_instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            metadata: Bytes::from_static(b"x"),
            assignment: Bytes::from_static(b"y"),
        };
        coordinator::DescribedGroup {
            group_id: "g".into(),
            error,
            state,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![member],
        }
    }

    #[test]
    fn a_stable_group_in_every_version() {
        for version in 0..=6 {
            let stable = described(version, version >= 3, group(None, GroupState::Stable));
            let decoded = round_trip(version, stable);
            assert_eq!((&*decoded.group_state, decoded.error_code), ("Stable", 0));
            assert_eq!(decoded.members[0].member_assignment, "y");
            let operations = if version >= 3 { 3400 } else { i32::MIN };
            assert_eq!(decoded.authorized_operations, operations);
        }
    }

    #[test]
    fn an_unknown_group_is_dead_and_an_error_from_v6() {
        for version in 0..=6 {
            let dead = group(Some(GroupError::GroupIdNotFound), GroupState::Dead);
            let decoded = round_trip(version, described(version, false, dead));
            assert_eq!(&*decoded.group_state, "Dead");
            assert_eq!(decoded.error_code, if version >= 6 { 69 } else { 0 });
            let message = decoded.error_message.as_deref();
            assert_eq!(message, (version >= 6).then_some("Group g not found."));
        }
    }

    #[test]
    fn a_refusal_encodes_in_every_version() {
        for version in 0..=6 {
            let id = GroupId(StrBytes::from_static_str("g"));
            let refusal = crate::coordinator::CoordinatorError::LoadInProgress.into();
            let decoded = round_trip(version, refused(version, id, refusal));
            assert_eq!(decoded.error_code, 14);
        }
    }
}
