//! Control calls to other nodes: one request, one answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use ottla_peer::GrpcTransport;
use ottla_proto::ids::NodeId;
use ottla_proto::peer::{ControlReply, ControlRequest, peer_client::PeerClient};
use tokio::time::{Instant, timeout_at};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing happened there.
    #[error("not reached: {0}")]
    NotTaken(String),
    /// It may have happened.
    #[error("{0}")]
    Unknown(String),
}

/// The way to other nodes. Sockets, or memory in a simulation.
pub trait Calls: Send + Sync + 'static {
    /// An answer, or why there is none by `deadline`.
    fn call(
        &self,
        node: NodeId,
        request: ControlRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<ControlReply, CallError>>;
}

type Client = PeerClient<tonic::transport::Channel>;

/// Calls by gRPC. A connection is kept until something goes wrong on it.
pub struct GrpcCalls {
    transport: Arc<GrpcTransport>,
    clients: Mutex<HashMap<NodeId, Client>>,
}

impl GrpcCalls {
    pub fn new(transport: Arc<GrpcTransport>) -> GrpcCalls {
        GrpcCalls {
            transport,
            clients: Mutex::default(),
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<NodeId, Client>> {
        self.clients.lock().expect("never poisoned")
    }

    async fn dial(&self, node: NodeId, deadline: Instant) -> Result<Client, CallError> {
        let dialled = timeout_at(deadline, self.transport.call(node)).await;
        let late = |_| CallError::NotTaken("no connection in time".into());
        let client = dialled
            .map_err(late)?
            .map_err(|error| CallError::NotTaken(error.to_string()))?;
        self.clients().insert(node, client.clone());
        Ok(client)
    }
}

impl Calls for GrpcCalls {
    fn call(
        &self,
        node: NodeId,
        request: ControlRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<ControlReply, CallError>> {
        Box::pin(async move {
            let kept = self.clients().get(&node).cloned();
            let (mut client, was_kept) = match kept {
                Some(client) => (client, true),
                None => (self.dial(node, deadline).await?, false),
            };
            let asked = client.control(request.clone());
            let error = match timeout_at(deadline, asked).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) if starting(&status) => {
                    return Err(CallError::NotTaken(status.to_string()));
                }
                Ok(Err(status)) if never_left(&status) => {
                    self.clients().remove(&node);
                    return match was_kept {
                        true => self.call(node, request, deadline).await,
                        false => Err(CallError::NotTaken(status.to_string())),
                    };
                }
                Ok(Err(status)) => CallError::Unknown(status.to_string()),
                Err(_) => CallError::Unknown("no answer in time".into()),
            };
            self.clients().remove(&node);
            Err(error)
        })
    }
}

/// The node has told so itself.
fn starting(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable && std::error::Error::source(status).is_none()
}

/// The connection had ended before the request was written to it, and is not made anew by itself.
fn never_left(status: &tonic::Status) -> bool {
    let first = std::error::Error::source(status);
    let mut causes = std::iter::successors(first, |cause| cause.source());
    let io_kind = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<std::io::Error>()?;
        Some(error.kind())
    };
    causes.any(|cause| io_kind(cause) == Some(std::io::ErrorKind::NotConnected))
}
