//! Answers peers that dialled this node.

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
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
use ottla_proto::peer::{
    self, ControlReply, ControlRequest, Frame, HelloReply, HelloRequest, IntroduceReply,
    IntroduceRequest, PeerInfo,
};
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
///
/// A node answers its peers from the first moment, and says more as it comes to know more: who it is, then
/// that it belongs to a cluster, then what it controls.
#[derive(Clone)]
pub struct PeerServer(Arc<Stages>);

struct Stages {
    introduction: RwLock<IntroduceReply>,
    member: OnceLock<Member>,
    control: OnceLock<Arc<dyn Control>>,
}

/// A node of a cluster.
struct Member {
    me: PeerInfo,
    /// -1 until it has registered as a broker.
    broker_epoch: AtomicI64,
    groups: Arc<Groups>,
}

/// What a controller does for brokers.
pub trait Control: Send + Sync + 'static {
    /// `caller` has said hello, and is of this cluster.
    fn control(
        self: Arc<Self>,
        caller: NodeId,
        request: ControlRequest,
    ) -> BoxFuture<ControlReply, Infallible>;
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
    pub fn new(introduction: IntroduceReply) -> PeerServer {
        PeerServer(Arc::new(Stages {
            introduction: RwLock::new(introduction),
            member: OnceLock::new(),
            control: OnceLock::new(),
        }))
    }

    /// The node belongs to a cluster, and its groups may be talked to.
    pub fn join(&self, me: PeerInfo, groups: Arc<Groups>) {
        let joined = self.0.member.set(Member {
            broker_epoch: AtomicI64::new(me.broker_epoch),
            me,
            groups,
        });
        assert!(joined.is_ok(), "a node joins its cluster once");
    }

    /// The node is a broker of this epoch.
    pub fn registered(&self, broker_epoch: i64) {
        if let Some(member) = self.0.member.get() {
            member.broker_epoch.store(broker_epoch, Ordering::Relaxed);
        }
    }

    /// What is told to nodes that ask who this one is.
    pub fn introduce_as(&self, introduction: IntroduceReply) {
        let mut told = self.0.introduction.write().expect("never poisoned");
        *told = introduction;
    }

    /// Answers what brokers ask a controller.
    pub fn answer_with(&self, control: Arc<dyn Control>) {
        let first = self.0.control.set(control);
        assert!(first.is_ok(), "a node controls once");
    }

    fn member(&self) -> Result<&Member, Status> {
        let member = self.0.member.get();
        member.ok_or_else(|| Status::unavailable("this node does not belong to a cluster yet"))
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

/// Takes long messages from a peer that is known, and short ones from whoever else.
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
        let path = request.uri().path();
        let may_be_long = path.ends_with("/Link") || path.ends_with("/Control");
        match may_be_long && self.caller.get().is_some() {
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
        if text(CLUSTER) != Some(&self.server.member()?.me.cluster_id) {
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
        let (member, request) = (self.server.member()?, request.get_ref());
        let mut reply = peer::answer_hello(&member.me, request)?;
        reply.broker_epoch = member.broker_epoch.load(Ordering::Relaxed);
        if *self.caller.get_or_init(|| request.node_id) != request.node_id {
            let why = "another node has said hello on this connection";
            return Err(Status::failed_precondition(why));
        }
        Ok(Response::new(reply))
    }

    async fn introduce(
        &self,
        _: Request<IntroduceRequest>,
    ) -> Result<Response<IntroduceReply>, Status> {
        let told = self.server.0.introduction.read();
        Ok(Response::new(told.expect("never poisoned").clone()))
    }

    async fn control(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let Some(&caller) = self.caller.get() else {
            return Err(Status::failed_precondition("the first call is a hello"));
        };
        let Some(control) = self.server.0.control.get() else {
            return Err(Status::unavailable("this node is starting"));
        };
        let Ok(reply) = control.clone().control(caller, request.into_inner()).await;
        Ok(Response::new(reply))
    }

    async fn link(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (node, channel) = self.caller(request.metadata())?;
        let (sender, answers) = mpsc::channel(DEPTH);
        let receiver = pump(request.into_inner());
        let groups = self.server.member()?.groups.clone();
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
