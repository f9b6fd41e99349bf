//! ListGroups v0 to v5 (KIP-518: states from v4, KIP-848: types from v5).
//!
//! Every group is a classic one. Names of states and types are compared without regard to case.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_coordinator as coordinator;

use super::RequestContext;
use super::errors::Refusal;
use crate::coordinator::CoordinatorError;
use crate::services::Services;

const CLASSIC: &str = "classic";

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let types = &request.types_filter;
    if !types.is_empty() && !types.iter().any(|t| t.eq_ignore_ascii_case(CLASSIC)) {
        return ListGroupsResponse::default();
    }
    let states: Vec<String> = request
        .states_filter
        .iter()
        .map(|s| s.to_string())
        .collect();
    context.wait_for_place(services).await;
    response(services.coordinators.list_groups(&states).await)
}

fn response(listed_groups: Result<Vec<coordinator::ListedGroup>, CoordinatorError>) -> ListGroupsResponse {
    match listed_groups {
        Ok(groups) => {
            let groups = groups.into_iter().map(listed).collect();
            ListGroupsResponse::default().with_groups(groups)
        }
        Err(error) => {
            let code = Refusal::from(error).code;
            ListGroupsResponse::default().with_error_code(code)
        }
    }
}

fn listed(group: coordinator::ListedGroup) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.group_id)))
        .with_protocol_type(StrBytes::from_string(group.protocol_type))
        .with_group_state(StrBytes::from_static_str(group.state.as_str()))
        .with_group_type(StrBytes::from_static_str(CLASSIC))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_state, list, text};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<ListGroupsResponse> {
        let group = (text(), text(), group_state());
        let group = group.prop_map(|(group_id, protocol_type, state)| coordinator::ListedGroup {
            group_id,
            protocol_type,
            state,
        });
        coordinated(list(group)).prop_map(response).boxed()
    }

    pub(in crate::api) fn as_of(version: i16, mut response: ListGroupsResponse) -> ListGroupsResponse {
        for group in &mut response.groups {
            if version < 5 {
                group.group_type = StrBytes::default();
            }
            if version < 4 {
                group.group_state = StrBytes::default();
            }
        }
        response
    }
}
