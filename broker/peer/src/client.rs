//! Dials peers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use ottla_proto::config::HostPort;
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{
    PEER_CONNECTION_WINDOW_BYTES, PEER_MESSAGE_BYTES, PEER_STREAM_WINDOW_BYTES,
};
use ottla_proto::peer::peer_client::PeerClient;
use ottla_proto::peer::{self, PeerInfo};
use ottla_raft::{Channel, ConnectError, Connection, Transport};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::codegen::{Service, http::Uri};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Endpoint;

use crate::{CHANNEL, CLUSTER, DEPTH, NODE, pump};

/// Where a node listens for its peers, as far as it is known now.
pub type Addresses = Arc<dyn Fn(NodeId) -> Option<HostPort> + Send + Sync>;

/// Connections to peers over TCP and HTTP/2.
pub struct GrpcTransport {
    me: Arc<PeerInfo>,
    addresses: Addresses,
}

impl GrpcTransport {
    pub fn new(me: PeerInfo, addresses: Addresses) -> GrpcTransport {
        let me = Arc::new(me);
        GrpcTransport { me, addresses }
    }
}

impl Transport for GrpcTransport {
    fn connect(
        &self,
        node: NodeId,
        channel: Channel,
    ) -> BoxFuture<'static, Result<Connection, ConnectError>> {
        let (me, address) = (self.me.clone(), (self.addresses)(node));
        Box::pin(async move {
            let unknown = || ConnectError::Unreachable(format!("node {node} has no known address"));
            connect(&me, node, address.ok_or_else(unknown)?, channel).await
        })
    }
}

fn unreachable(why: impl ToString) -> ConnectError {
    ConnectError::Unreachable(why.to_string())
}

async fn connect(
    me: &PeerInfo,
    node: NodeId,
    address: HostPort,
    channel: Channel,
) -> Result<Connection, ConnectError> {
    let socket = TcpStream::connect((address.host.as_str(), address.port)).await;
    let socket = socket.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        _ => unreachable(error),
    })?;
    socket.set_nodelay(true).map_err(unreachable)?;
    // The name only fills a header: the connection is there already.
    let endpoint = Endpoint::from_static("http://peer")
        .initial_stream_window_size(PEER_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(PEER_CONNECTION_WINDOW_BYTES);
    let http = endpoint.connect_with_connector(Dialled(Some(socket))).await;
    let mut client = PeerClient::new(http.map_err(unreachable)?)
        .max_decoding_message_size(PEER_MESSAGE_BYTES)
        .max_encoding_message_size(PEER_MESSAGE_BYTES);
    let reply = client.hello(me.hello()).await.map_err(unreachable)?;
    peer::check_reply(me, node, reply.get_ref()).map_err(unreachable)?;

    let (sender, frames) = mpsc::channel(DEPTH);
    let mut request = Request::new(ReceiverStream::new(frames));
    let metadata = request.metadata_mut();
    metadata.insert(NODE, AsciiMetadataValue::from(me.node_id));
    metadata.insert(CLUSTER, me.cluster_id.parse().map_err(unreachable)?);
    metadata.insert(CHANNEL, AsciiMetadataValue::from_static(channel.name()));
    let answers = client.link(request).await.map_err(unreachable)?;
    let receiver = pump(answers.into_inner());
    Ok(Connection { sender, receiver })
}

/// A connector that has dialled already: how it went wrong must be known exactly.
struct Dialled(Option<TcpStream>);

impl Service<Uri> for Dialled {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        // A second call would be a reconnection: links end with their connection.
        let socket = self.0.take().ok_or(io::ErrorKind::NotConnected.into());
        Box::pin(std::future::ready(socket.map(TokioIo::new)))
    }
}
