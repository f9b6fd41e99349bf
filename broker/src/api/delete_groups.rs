//! DeleteGroups v0 to v2 (KIP-229).

use futures_util::future::join_all;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use ottla_coordinator::{Command, Response};

use super::RequestContext;
use super::errors::{Refusal, group_code};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let delete = |id: GroupId| async move {
        let command = Command::DeleteGroups(vec![id.to_string()]);
        let code = match services.coordinators.send(&id, command).await {
            Ok(Response::DeleteGroups(outcomes)) => {
                let (_, error) = outcomes
                    .into_iter()
                    .next()
                    .expect("one answer for one group");
                group_code(error)
            }
            Ok(other) => unreachable!("DeleteGroups was answered with {other:?}"),
            Err(error) => Refusal::from(error).code,
        };
        DeletableGroupResult::default()
            .with_group_id(id)
            .with_error_code(code)
    };
    let results = join_all(request.groups_names.into_iter().map(delete)).await;
    DeleteGroupsResponse::default().with_results(results)
}
