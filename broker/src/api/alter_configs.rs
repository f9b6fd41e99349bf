//! AlterConfigs v0 to v2 (KIP-133): what is not named goes back to its default. Clients prefer
//! IncrementalAlterConfigs.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use ottla_controller::alter_configs::Change;

use super::RequestContext;
use super::configs::{self, Answer, Asked};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let asked = request.resources.into_iter().map(asked).collect();
    let answers = configs::alter(services, asked, request.validate_only).await;
    responses(answers)
}

fn responses(answers: Vec<Answer>) -> AlterConfigsResponse {
    AlterConfigsResponse::default().with_responses(answers.into_iter().map(response).collect())
}

fn asked(resource: AlterConfigsResource) -> Asked {
    let owned = resource
        .configs
        .into_iter()
        .map(|c| (c.name.to_string(), c.value.map(|value| value.to_string())));
    Asked {
        kind: resource.resource_type,
        name: resource.resource_name,
        change: Ok(Change::Replace(owned.collect())),
    }
}

fn response(answer: Answer) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_error_code(answer.error_code)
        .with_error_message(answer.error_message)
        .with_resource_type(answer.kind)
        .with_resource_name(answer.name)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::list;
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<AlterConfigsResponse> {
        list(configs::tests::answer())
            .prop_map(super::responses)
            .boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: AlterConfigsResponse,
    ) -> AlterConfigsResponse {
        response
    }
}
