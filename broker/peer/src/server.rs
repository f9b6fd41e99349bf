//! Answers peers that dialled this node.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{
    PEER_CONNECTION_WINDOW_BYTES, PEER_HELLO_BYTES, PEER_HELLO_WAIT_MS, PEER_HTTP2_FRAME_BYTES,
    PEER_MESSAGE_BYTES, PEER_PING_MS, PEER_PING_WAIT_MS, PEER_SHUTDOWN_WAIT_MS,
    PEER_STREAM_WINDOW_BYTES, PEER_STREAMS,
};
use ottla_proto::peer::peer_server::{self, Peer};
use ottla_proto::peer::{self, Frame, HelloReply, HelloRequest, PeerInfo};
use ottla_raft::{Channel, Connection, Groups};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::{CHANNEL, CLUSTER, DEPTH, NODE, pump};

/// Answers peers. Cheap to clone: one per connection.
#[derive(Clone)]
pub struct PeerServer {
    me: Arc<PeerInfo>,
    groups: Arc<Groups>,
}

/// The service of one connection.
#[derive(Clone)]
struct Calls {
    server: PeerServer,
    /// Who said hello, and was answered.
    caller: Arc<OnceLock<NodeId>>,
    stopped: watch::Receiver<bool>,
}

impl PeerServer {
    pub fn new(me: PeerInfo, groups: Arc<Groups>) -> PeerServer {
        let me = Arc::new(me);
        PeerServer { me, groups }
    }

    /// Serves one connection until it ends, the node stops, or it turns out to be no peer's: the
    /// first call is a hello, and it comes soon.
    pub async fn serve(self, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
        let caller = Arc::new(OnceLock::new());
        let calls = Calls {
            server: self,
            caller: caller.clone(),
            stopped: stopped.clone(),
        };
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_millis(PEER_PING_MS))
            .keep_alive_timeout(Duration::from_millis(PEER_PING_WAIT_MS))
            .max_concurrent_streams(PEER_STREAMS)
            .max_frame_size(PEER_HTTP2_FRAME_BYTES)
            .initial_stream_window_size(PEER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(PEER_CONNECTION_WINDOW_BYTES);
        let service = TowerToHyperService::new(Gate::new(calls));
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let introduced = async {
            tokio::time::sleep(Duration::from_millis(PEER_HELLO_WAIT_MS)).await;
            if caller.get().is_some() {
                std::future::pending::<()>().await;
            }
        };
        let stop = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            _ = introduced => {
                tracing::debug!("a peer connection without a hello was closed");
                return;
            }
            _ = stop => {
                // Calls that have begun are answered, and no others taken; links end by themselves. A
                // silent peer never says that it has understood.
                connection.as_mut().graceful_shutdown();
                let wait = Duration::from_millis(PEER_SHUTDOWN_WAIT_MS);
                tokio::time::timeout(wait, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "peer connection closed");
        }
    }
}

/// Takes long messages on links of a peer that is known, and short ones from whoever else.
#[derive(Clone)]
struct Gate {
    caller: Arc<OnceLock<NodeId>>,
    known: peer_server::PeerServer<Calls>,
    unknown: peer_server::PeerServer<Calls>,
}

impl Gate {
    fn new(calls: Calls) -> Gate {
        let service = |bytes| {
            peer_server::PeerServer::new(calls.clone())
                .max_decoding_message_size(bytes)
                .max_encoding_message_size(PEER_MESSAGE_BYTES)
        };
        Gate {
            caller: calls.caller.clone(),
            known: service(PEER_MESSAGE_BYTES),
            unknown: service(PEER_HELLO_BYTES),
        }
    }
}

impl Service<http::Request<Incoming>> for Gate {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        let is_link = request.uri().path().ends_with("/Link");
        match is_link && self.caller.get().is_some() {
            true => self.known.call(request),
            false => self.unknown.call(request),
        }
    }
}

impl Calls {
    /// Who makes a call, and for which channel: the node that has said hello on this connection, and
    /// names itself and its cluster again.
    fn caller(&self, metadata: &MetadataMap) -> Result<(NodeId, Channel), Status> {
        let Some(&node) = self.caller.get() else {
            return Err(Status::failed_precondition("the first call is a hello"));
        };
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        if text(CLUSTER) != Some(&self.server.me.cluster_id) {
            return Err(Status::failed_precondition("a node of another cluster"));
        }
        if text(NODE).and_then(|node| node.parse().ok()) != Some(node) {
            let why = format!("the hello came from node {node}");
            return Err(Status::failed_precondition(why));
        }
        let channel = text(CHANNEL).and_then(Channel::from_name);
        let channel = channel.ok_or_else(|| Status::invalid_argument("a link names its channel"));
        Ok((node, channel?))
    }
}

#[tonic::async_trait]
impl Peer for Calls {
    type LinkStream = BoxStream<'static, Result<Frame, Status>>;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let (me, request) = (&self.server.me, request.get_ref());
        let reply = peer::answer_hello(me, request)?;
        if *self.caller.get_or_init(|| request.node_id) != request.node_id {
            let why = "another node has said hello on this connection";
            return Err(Status::failed_precondition(why));
        }
        Ok(Response::new(reply))
    }

    async fn link(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (node, channel) = self.caller(request.metadata())?;
        let (sender, answers) = mpsc::channel(DEPTH);
        let receiver = pump(request.into_inner());
        let groups = self.server.groups.clone();
        let mut stopped = self.stopped.clone();
        tokio::spawn(async move {
            let connection = Connection { sender, receiver };
            tokio::select! {
                () = groups.serve(node, channel, connection) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(answers).map(Ok).boxed()))
    }
}
