//! InitProducerId v0 to v5 (KIP-98, KIP-360, KIP-588, KIP-890).
//!
//! A producer without a transactional id always gets a new producer id with epoch 0; so does one that
//! names the id and epoch it had: to an idempotent producer a new id is as good as a new epoch, and
//! Kafka answers the same.
//!
//! There are no transactions here. A transactional id is answered with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED: it is the one error of this API that every client takes for
//! final and passes to the application at once. COORDINATOR_NOT_AVAILABLE and its kind make clients
//! ask again for ever, and UNSUPPORTED_VERSION is not expected here by all of them.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::RequestContext;
use super::errors::NONE;
use crate::services::Services;

const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if let Err(error) = check(&request) {
        return refused(error);
    }
    match services.producer_ids.next().await {
        Ok(id) => given(id),
        Err(error) => {
            tracing::warn!(%error, "no producer id to give");
            // What Kafka answers while it has no block of ids: the client asks again.
            refused(ResponseError::CoordinatorLoadInProgress)
        }
    }
}

fn given(id: i64) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(NONE)
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(0)
}

fn check(request: &InitProducerIdRequest) -> Result<(), ResponseError> {
    match request.transactional_id.as_ref().map(|id| id.is_empty()) {
        Some(true) => return Err(ResponseError::InvalidRequest),
        Some(false) => return Err(ResponseError::TransactionalIdAuthorizationFailed),
        None => {}
    }
    let has_id = request.producer_id.0 != NO_PRODUCER_ID;
    let has_epoch = request.producer_epoch != NO_PRODUCER_EPOCH;
    if has_id == has_epoch {
        Ok(())
    } else {
        Err(ResponseError::InvalidRequest)
    }
}

fn refused(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(ProducerId(NO_PRODUCER_ID))
        .with_producer_epoch(NO_PRODUCER_EPOCH)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{error, int64};
    use super::*;
    use kafka_protocol::messages::TransactionalId;
    use kafka_protocol::protocol::StrBytes;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<InitProducerIdResponse> {
        prop_oneof![int64().prop_map(given), error().prop_map(refused)].boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: InitProducerIdResponse,
    ) -> InitProducerIdResponse {
        response
    }

    #[test]
    fn producers_without_transactions_are_served() {
        let request = |id, epoch| {
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch)
        };
        assert_eq!(check(&request(-1, -1)), Ok(()));
        assert_eq!(check(&request(7, 3)), Ok(()));
        assert_eq!(check(&request(7, -1)), Err(ResponseError::InvalidRequest));
        assert_eq!(check(&request(-1, 3)), Err(ResponseError::InvalidRequest));
    }

    #[test]
    fn transactional_ids_are_refused_for_good() {
        let request = |id| {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str(id))))
        };
        assert_eq!(check(&request("")), Err(ResponseError::InvalidRequest));
        let error = check(&request("t")).unwrap_err();
        assert!(!error.is_retriable());
    }
}
