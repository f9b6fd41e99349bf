//! DescribeCluster v0 to v2 (KIP-700, KIP-919, KIP-1073). The voters of the metadata quorum are described on
//! the listeners that `controller.listener.names` names.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_proto::config::QuorumVoter;

use super::RequestContext;
use super::brokers::{self, Endpoint, NOBODY};
use super::errors::{NONE, Refusal};
use crate::services::Services;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let config = services.metadata.config();
    let listener = &*context.peer.listener;
    let is_controllers = config.listeners.controller_names.iter().any(|n| n == listener);
    if let Err(refusal) = check(request.endpoint_type, is_controllers) {
        return refused(request.endpoint_type, refusal);
    }
    let image = services.metadata.current();
    let (told, controller_id) = match request.endpoint_type {
        CONTROLLERS => {
            let leader = services.metadata.leader_node();
            let voters = config.quorum_voters.iter().map(voter);
            (voters.collect(), BrokerId(leader.unwrap_or(NOBODY)))
        }
        _ => (
            brokers::endpoints(&image, listener, request.include_fenced_brokers),
            brokers::controller_id(services, &image),
        ),
    };
    response(
        request.endpoint_type,
        brokers::cluster_id(&image),
        controller_id,
        told,
        request.include_cluster_authorized_operations,
    )
}

fn voter(voter: &QuorumVoter) -> Endpoint {
    Endpoint {
        id: BrokerId(voter.id),
        host: StrBytes::from_string(voter.host.clone()),
        port: voter.port.into(),
        rack: None,
        fenced: false,
    }
}

fn response(
    endpoint_type: i8,
    cluster_id: StrBytes,
    controller_id: BrokerId,
    brokers: Vec<Endpoint>,
    with_operations: bool,
) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(NONE)
        .with_endpoint_type(endpoint_type)
        .with_cluster_id(cluster_id)
        .with_controller_id(controller_id)
        .with_brokers(brokers.into_iter().map(broker).collect())
        .with_cluster_authorized_operations(if with_operations {
            brokers::CLUSTER_OPERATIONS
        } else {
            brokers::NOT_ASKED
        })
}

fn refused(endpoint_type: i8, refusal: Refusal) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_endpoint_type(endpoint_type)
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
}

/// `is_controllers`: whether the listener is one of controllers.
fn check(endpoint_type: i8, is_controllers: bool) -> Result<(), Refusal> {
    match endpoint_type {
        BROKERS => Ok(()),
        CONTROLLERS if is_controllers => Ok(()),
        CONTROLLERS => {
            let message = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            Err(Refusal::new(ResponseError::MismatchedEndpointType, message))
        }
        other => Err(Refusal::new(
            ResponseError::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        )),
    }
}

/// Fenced ones are there only where the request, from v2 on, asked for them.
fn broker(endpoint: Endpoint) -> DescribeClusterBroker {
    DescribeClusterBroker::default()
        .with_broker_id(endpoint.id)
        .with_host(endpoint.host)
        .with_port(endpoint.port)
        .with_rack(endpoint.rack)
        .with_is_fenced(endpoint.fenced)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{endpoint, int8, int32, list, str_bytes};
    use super::*;

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<DescribeClusterResponse> {
        // Fenced brokers are told to those who ask, which is possible from v2 on.
        let told = endpoint().prop_map(move |endpoint| Endpoint {
            fenced: endpoint.fenced && version >= 2,
            ..endpoint
        });
        let described = (str_bytes(), int32(), list(told), any::<bool>());
        let described = described.prop_map(|(id, controller, brokers, operations)| {
            response(BROKERS, id, BrokerId(controller), brokers, operations)
        });
        // v0 cannot ask for another type of endpoint.
        let refused = int8().prop_filter_map("is served", |asked| {
            Some(super::refused(asked, check(asked, false).err()?))
        });
        match version {
            0 => described.boxed(),
            _ => prop_oneof![2 => described, 1 => refused].boxed(),
        }
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: DescribeClusterResponse,
    ) -> DescribeClusterResponse {
        response
    }

    #[test]
    fn controllers_are_described_where_they_listen() {
        assert!(check(BROKERS, false).is_ok() && check(CONTROLLERS, true).is_ok());
        for (endpoint_type, error) in [
            (CONTROLLERS, ResponseError::MismatchedEndpointType),
            (0, ResponseError::UnsupportedEndpointType),
            (3, ResponseError::UnsupportedEndpointType),
        ] {
            assert_eq!(
                check(endpoint_type, false).err().map(|refusal| refusal.code),
                Some(error.code())
            );
        }
    }
}
