//! UnregisterBroker v0 (KIP-631): forgets a broker that is gone for good. Groups keep it as a member until
//! their partitions are reassigned; a broker that still runs registers again.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::RequestContext;
use super::errors::{NONE, Refusal};
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let id = request.broker_id.0;
    let refusal = match services.controller.unregister_broker(id).await {
        Ok(Ok(())) => {
            tracing::info!(broker = id, "unregistered a broker");
            None
        }
        Ok(Err(error)) => Some(Refusal::new(
            ResponseError::BrokerIdNotRegistered,
            error.to_string(),
        )),
        Err(error) => Some(Refusal::from(&error)),
    };
    response(refusal)
}

fn response(refusal: Option<Refusal>) -> UnregisterBrokerResponse {
    UnregisterBrokerResponse::default()
        .with_error_code(refusal.as_ref().map_or(NONE, |refusal| refusal.code))
        .with_error_message(refusal.and_then(Refusal::text))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::refusal;
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<UnregisterBrokerResponse> {
        option::of(refusal()).prop_map(response).boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: UnregisterBrokerResponse,
    ) -> UnregisterBrokerResponse {
        response
    }
}
