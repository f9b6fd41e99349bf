//! FindCoordinator v0 to v6 (KIP-98: key types from v1, KIP-699: several keys from v4, KIP-890: v5,
//! KIP-932: v6).
//!
//! Only groups have coordinators. Transactions are not served, so nobody may use a transactional id:
//! its coordinator is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED. It is the one code on which
//! every client gives up at once; librdkafka repeats its question after any other.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::RequestContext;
use super::errors::Refusal;
use crate::services::Services;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// A broker's id and its address on the client's listener.
#[derive(Debug)]
struct Address {
    node_id: i32,
    host: String,
    port: i32,
}

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let key_type = match context.version {
        0 => GROUP,
        _ => request.key_type,
    };
    if context.version >= 4 {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            let found = find(services, context, key_type, &key).await;
            coordinators.push(one_of_several(key, found));
        }
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    only_one(find(services, context, key_type, &request.key).await)
}

/// Until v3.
fn only_one(found: Result<Address, Refusal>) -> FindCoordinatorResponse {
    match found {
        Ok(address) => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(address.node_id))
            .with_host(StrBytes::from_string(address.host))
            .with_port(address.port)
            .with_error_message(None),
        Err(refusal) => FindCoordinatorResponse::default()
            .with_error_code(refusal.code)
            .with_error_message(refusal.text())
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}

/// From v4.
fn one_of_several(key: StrBytes, found: Result<Address, Refusal>) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key);
    match found {
        Ok(address) => coordinator
            .with_node_id(BrokerId(address.node_id))
            .with_host(StrBytes::from_string(address.host))
            .with_port(address.port)
            .with_error_message(None),
        Err(refusal) => coordinator
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(refusal.code)
            .with_error_message(refusal.text()),
    }
}

async fn find(
    services: &Services,
    context: &RequestContext,
    key_type: i8,
    key: &str,
) -> Result<Address, Refusal> {
    match key_type {
        GROUP => {}
        TRANSACTION => {
            let client = context.client_id.as_deref().unwrap_or_default();
            tracing::warn!(
                client,
                "a client asked for transactions, which are not supported"
            );
            let error = ResponseError::TransactionalIdAuthorizationFailed;
            return Err(Refusal::new(error, "Transactions are not supported."));
        }
        other => {
            let message = format!("Coordinators of type {other} are not supported.");
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
    }
    let node_id = services.coordinators.find(key).await?;
    let image = services.metadata.current();
    let broker = image.live_broker(node_id);
    let listeners = broker.into_iter().flat_map(|b| &b.listeners);
    let mut fitting = listeners.filter(|l| *l.name == *context.peer.listener);
    let unreachable = || {
        let listener = &context.peer.listener;
        let message = format!("the coordinator, broker {node_id}, has no listener {listener} now");
        Refusal::new(ResponseError::CoordinatorNotAvailable, message)
    };
    let listener = fitting.next().ok_or_else(unreachable)?;
    Ok(Address {
        node_id,
        host: listener.host.clone(),
        port: i32::from(listener.port),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{int32, list, outcome, str_bytes, text};
    use super::*;

    fn found() -> impl Strategy<Value = Result<Address, Refusal>> {
        let address = (int32(), text(), int32());
        outcome(address.prop_map(|(node_id, host, port)| Address {
            node_id,
            host,
            port,
        }))
    }

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<FindCoordinatorResponse> {
        if version < 4 {
            return found().prop_map(only_one).boxed();
        }
        let one = (str_bytes(), found()).prop_map(|(key, found)| one_of_several(key, found));
        list(one)
            .prop_map(|all| FindCoordinatorResponse::default().with_coordinators(all))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: FindCoordinatorResponse,
    ) -> FindCoordinatorResponse {
        if !(1..=3).contains(&version) {
            response.error_message = FindCoordinatorResponse::default().error_message;
        }
        response
    }
}
