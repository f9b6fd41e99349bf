//! IncrementalAlterConfigs v0 to v1 (KIP-339): set, delete, append and subtract.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_controller::alter_configs::Change;
use ottla_proto::config::{AlterOp, Alteration};

use super::RequestContext;
use super::configs::{self, Answer, Asked};
use super::errors::Refusal;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.into_iter().map(asked).collect();
    let answers = configs::alter(services, asked, request.validate_only).await;
    responses(answers)
}

fn responses(answers: Vec<Answer>) -> IncrementalAlterConfigsResponse {
    IncrementalAlterConfigsResponse::default()
        .with_responses(answers.into_iter().map(response).collect())
}

fn asked(resource: AlterConfigsResource) -> Asked {
    let alterations: Result<Vec<_>, _> = resource.configs.into_iter().map(alteration).collect();
    Asked {
        kind: resource.resource_type,
        name: resource.resource_name,
        change: alterations.map(Change::Incremental),
    }
}

fn alteration(config: AlterableConfig) -> Result<Alteration, Refusal> {
    let ops = [
        AlterOp::Set,
        AlterOp::Delete,
        AlterOp::Append,
        AlterOp::Subtract,
    ];
    let op = ops
        .into_iter()
        .find(|op| *op as i8 == config.config_operation);
    let unknown = || {
        format!(
            "Unknown operation type {} for {}",
            config.config_operation, &*config.name
        )
    };
    let op = op.ok_or_else(|| Refusal::new(ResponseError::InvalidRequest, unknown()))?;
    Ok(Alteration {
        op,
        key: config.name.to_string(),
        value: config.value.map(|value| value.to_string()),
    })
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
    use kafka_protocol::protocol::StrBytes;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<IncrementalAlterConfigsResponse> {
        list(configs::tests::answer())
            .prop_map(super::responses)
            .boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: IncrementalAlterConfigsResponse,
    ) -> IncrementalAlterConfigsResponse {
        response
    }

    #[test]
    fn knows_four_operations() {
        let config = |op| {
            AlterableConfig::default()
                .with_name(StrBytes::from_static_str("a"))
                .with_config_operation(op)
        };
        for op in 0..4 {
            assert_eq!(alteration(config(op)).ok().map(|a| a.op as i8), Some(op));
        }
        for op in [-1, 4] {
            assert_eq!(
                alteration(config(op)).err().map(|r| r.code),
                Some(ResponseError::InvalidRequest.code())
            );
        }
    }
}
