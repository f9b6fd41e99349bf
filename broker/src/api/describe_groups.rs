//! DescribeGroups v0 to v6 (KIP-430: authorized operations from v3, KIP-345: group instance ids from
//! v4, KIP-1043: GROUP_ID_NOT_FOUND from v6; until v5 an unknown group is Dead, without an error).

use std::collections::HashSet;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator::{self as coordinator, Command, DescribedMember, Response};

use super::RequestContext;
use super::errors::Refusal;
use super::reply::Space;
use crate::coordinator::CoordinatorError;
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
    context.wait_for_place(services).await;
    let mut space = Space::new(&services.fetch_room, context.version);
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    // A group that is named twice is answered once.
    for id in request.groups.into_iter().filter(|id| seen.insert(id.clone())) {
        let command = Command::DescribeGroups(vec![id.to_string()]);
        let answer = services.coordinators.send(&id, command).await;
        let answer = group(context.version, with_operations, id.clone(), answer);
        groups.push(space.fit(answer, |refusal| refused(context.version, id, refusal)));
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn group(
    version: i16,
    operations: bool,
    id: GroupId,
    answer: Result<Response, CoordinatorError>,
) -> DescribedGroup {
    match answer {
        Ok(Response::DescribeGroups(groups)) => {
            let group = groups.into_iter().next();
            let group = group.expect("one answer for one group");
            described(version, operations, group)
        }
        Ok(other) => unreachable!("DescribeGroups was answered with {other:?}"),
        Err(error) => refused(version, id, error.into()),
    }
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
pub(super) mod tests {
    use ottla_coordinator::{GroupError, GroupState};
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_state, list, payload, str_bytes, text};
    use super::*;

    fn found() -> impl Strategy<Value = coordinator::DescribedGroup> {
        let member = (text(), option::of(text()), text(), text(), payload(), payload());
        let member = member.prop_map(
            |(member_id, group_instance_id, client_id, client_host, metadata, assignment)| {
                DescribedMember {
                    member_id,
                    group_instance_id,
                    client_id,
                    client_host,
                    metadata,
                    assignment,
                }
            },
        );
        let error = option::of(Just(GroupError::GroupIdNotFound));
        let texts = (text(), text(), text());
        (texts, error, group_state(), list(member)).prop_map(|(texts, error, state, members)| {
            coordinator::DescribedGroup {
                group_id: texts.0,
                error,
                state,
                protocol_type: texts.1,
                protocol: texts.2,
                members,
            }
        })
    }

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<DescribeGroupsResponse> {
        let answer = coordinated(found().prop_map(|found| Response::DescribeGroups(vec![found])));
        // Requests before v3 cannot ask for operations.
        let one = (any::<bool>(), str_bytes(), answer).prop_map(move |(operations, id, answer)| {
            group(version, operations && version >= 3, GroupId(id), answer)
        });
        list(one)
            .prop_map(|groups| DescribeGroupsResponse::default().with_groups(groups))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: DescribeGroupsResponse,
    ) -> DescribeGroupsResponse {
        if version < 4 {
            let members = response.groups.iter_mut().flat_map(|group| &mut group.members);
            members.for_each(|member| member.group_instance_id = None);
        }
        response
    }

    #[test]
    fn an_unknown_group_is_dead_and_an_error_from_v6() {
        for version in 0..=6 {
            let dead = coordinator::DescribedGroup {
                group_id: "g".into(),
                error: Some(GroupError::GroupIdNotFound),
                state: GroupState::Dead,
                protocol_type: String::new(),
                protocol: String::new(),
                members: vec![],
            };
            let told = described(version, true, dead);
            assert_eq!(&*told.group_state, "Dead");
            assert_eq!(told.error_code, if version >= 6 { 69 } else { 0 });
            let message = told.error_message.as_deref();
            assert_eq!(message, (version >= 6).then_some("Group g not found."));
        }
    }

    #[test]
    fn everything_may_be_done_to_a_group() {
        assert_eq!(ALL_OPERATIONS, 3400);
    }
}
