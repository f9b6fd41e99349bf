//! DescribeCluster v0 to v2 (KIP-700, KIP-919, KIP-1073). Controllers are not described: this is a
//! broker's listener.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::RequestContext;
use super::brokers::{self, Endpoint};
use super::errors::{NONE, Refusal};
use crate::services::Services;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if let Err(refusal) = check(request.endpoint_type) {
        return DescribeClusterResponse::default()
            .with_endpoint_type(request.endpoint_type)
            .with_error_code(refusal.code)
            .with_error_message(refusal.text());
    }
    let image = services.metadata.current();
    let told = brokers::endpoints(
        &image,
        &context.peer.listener,
        request.include_fenced_brokers,
    );
    let asked_operations = request.include_cluster_authorized_operations;
    DescribeClusterResponse::default()
        .with_error_code(NONE)
        .with_endpoint_type(BROKERS)
        .with_cluster_id(brokers::cluster_id(&image))
        .with_controller_id(brokers::controller_id(services, &image))
        .with_brokers(told.into_iter().map(broker).collect())
        .with_cluster_authorized_operations(if asked_operations {
            brokers::CLUSTER_OPERATIONS
        } else {
            brokers::NOT_ASKED
        })
}

fn check(endpoint_type: i8) -> Result<(), Refusal> {
    match endpoint_type {
        BROKERS => Ok(()),
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
mod tests {
    use super::*;
    use kafka_protocol::protocol::Encodable;

    #[test]
    fn describes_brokers_only() {
        assert!(check(BROKERS).is_ok());
        for (endpoint_type, error) in [
            (CONTROLLERS, ResponseError::MismatchedEndpointType),
            (0, ResponseError::UnsupportedEndpointType),
            (3, ResponseError::UnsupportedEndpointType),
        ] {
            assert_eq!(
                check(endpoint_type).err().map(|refusal| refusal.code),
                Some(error.code())
            );
        }
    }

    #[test]
    fn encodes_in_every_version() {
        let image = brokers::tests::image(&[(1, false), (2, true)]);
        for version in 0..=2 {
            let told = brokers::endpoints(&image, "PLAINTEXT", version >= 2);
            let response = DescribeClusterResponse::default()
                .with_brokers(told.into_iter().map(broker).collect());
            response
                .encode(&mut bytes::BytesMut::new(), version)
                .unwrap();
        }
    }
}
