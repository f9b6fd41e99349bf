//! Dials peers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use ottla_proto::config::HostPort;
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{
    PEER_CONNECTION_WINDOW_BYTES, PEER_MESSAGE_BYTES, PEER_NEXT_ADDRESS_MS,
    PEER_STREAM_WINDOW_BYTES,
};
use ottla_proto::peer::peer_client::PeerClient;
use ottla_proto::peer::{self, IntroduceReply, IntroduceRequest, PeerInfo};
use ottla_raft::{Channel, ConnectError, Connection, Transport};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::codegen::{Service, http::Uri};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel as TonicChannel, Endpoint};

use crate::{CHANNEL, CLUSTER, DEPTH, NODE, pump};

/// Where a node may listen for its peers, as far as it is known now, the likeliest first. A node that has
/// moved answers at one of them: who answers is checked.
pub type Addresses = Arc<dyn Fn(NodeId) -> Vec<HostPort> + Send + Sync>;

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
        let (me, addresses) = (self.me.clone(), (self.addresses)(node));
        Box::pin(async move {
            let mut client = greet(&me, node, addresses).await?;
            open(&me, &mut client, channel).await
        })
    }
}

impl GrpcTransport {
    /// A connection for calls: the node has said that it is who was looked for.
    pub async fn call(&self, node: NodeId) -> Result<PeerClient<TonicChannel>, ConnectError> {
        greet(&self.me, node, (self.addresses)(node)).await
    }
}

/// Asks whoever listens there who it is, before either belongs to a cluster.
pub async fn introduce(
    address: &HostPort,
    request: IntroduceRequest,
) -> Result<IntroduceReply, ConnectError> {
    let mut client = dial(address).await?;
    let reply = client.introduce(request).await.map_err(unreachable)?;
    Ok(reply.into_inner())
}

/// Tries the addresses, each a moment after the one before it, and takes the first where the node answers.
async fn greet(
    me: &PeerInfo,
    node: NodeId,
    addresses: Vec<HostPort>,
) -> Result<PeerClient<TonicChannel>, ConnectError> {
    let greet = |address: HostPort| async move {
        let mut client = dial(&address).await?;
        let reply = client.hello(me.hello()).await.map_err(unreachable)?;
        peer::check_reply(me, node, reply.get_ref()).map_err(unreachable)?;
        Ok(client)
    };
    let mut failure = None;
    let (mut waiting, mut tries) = (addresses.into_iter().peekable(), FuturesUnordered::new());
    while !tries.is_empty() || waiting.peek().is_some() {
        let is_last = match waiting.next() {
            Some(address) => {
                tries.push(greet(address));
                waiting.peek().is_none()
            }
            None => true,
        };
        let pause = tokio::time::sleep(Duration::from_millis(PEER_NEXT_ADDRESS_MS));
        tokio::select! {
            Some(tried) = tries.next() => match tried {
                Ok(client) => return Ok(client),
                // A refusal says something only if every address refuses.
                Err(ConnectError::Refused) => failure = failure.or(Some(ConnectError::Refused)),
                Err(error) => failure = Some(error),
            },
            () = pause, if !is_last => {}
        }
    }
    let unknown = || ConnectError::Unreachable(format!("node {node} has no known address"));
    Err(failure.unwrap_or_else(unknown))
}

fn unreachable(why: impl ToString) -> ConnectError {
    ConnectError::Unreachable(why.to_string())
}

async fn dial(address: &HostPort) -> Result<PeerClient<TonicChannel>, ConnectError> {
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
    let client = PeerClient::new(http.map_err(unreachable)?);
    Ok(client
        .max_decoding_message_size(PEER_MESSAGE_BYTES)
        .max_encoding_message_size(PEER_MESSAGE_BYTES))
}

async fn open(
    me: &PeerInfo,
    client: &mut PeerClient<TonicChannel>,
    channel: Channel,
) -> Result<Connection, ConnectError> {
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
