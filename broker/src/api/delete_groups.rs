//! DeleteGroups v0 to v2 (KIP-229).

use futures_util::future::join_all;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use ottla_coordinator::{Command, Response};

use super::RequestContext;
use super::errors::{Refusal, group_code};
use crate::coordinator::CoordinatorError;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let delete = |id: GroupId| async move {
        let command = Command::DeleteGroups(vec![id.to_string()]);
        let answer = services.coordinators.send(&id, command).await;
        result(id, answer)
    };
    let results = join_all(request.groups_names.into_iter().map(delete)).await;
    DeleteGroupsResponse::default().with_results(results)
}

fn result(id: GroupId, answer: Result<Response, CoordinatorError>) -> DeletableGroupResult {
    let code = match answer {
        Ok(Response::DeleteGroups(outcomes)) => {
            let outcome = outcomes.into_iter().next();
            group_code(outcome.expect("one answer for one group").1)
        }
        Ok(other) => unreachable!("DeleteGroups was answered with {other:?}"),
        Err(error) => Refusal::from(error).code,
    };
    DeletableGroupResult::default()
        .with_group_id(id)
        .with_error_code(code)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{coordinated, group_error, list, str_bytes};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<DeleteGroupsResponse> {
        let outcome = option::of(group_error());
        let answer = coordinated(outcome.prop_map(|e| Response::DeleteGroups(vec![(String::new(), e)])));
        let group = (str_bytes(), answer).prop_map(|(id, answer)| result(GroupId(id), answer));
        list(group)
            .prop_map(|results| DeleteGroupsResponse::default().with_results(results))
            .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: DeleteGroupsResponse) -> DeleteGroupsResponse {
        response
    }
}
