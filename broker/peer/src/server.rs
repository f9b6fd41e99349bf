//! Answers peers that dialled this node.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{
    PEER_CONNECTION_WINDOW_BYTES, PEER_HTTP2_FRAME_BYTES, PEER_MESSAGE_BYTES,
    PEER_STREAM_WINDOW_BYTES, PEER_STREAMS,
};
use ottla_proto::peer::peer_server::{self, Peer};
use ottla_proto::peer::{self, Frame, HelloReply, HelloRequest, PeerInfo};
use ottla_raft::{Channel, Connection, Groups};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::{CHANNEL, CLUSTER, DEPTH, NODE, pump};

/// Answers peers. Cheap to clone: one per connection.
#[derive(Clone)]
pub struct PeerServer {
    me: Arc<PeerInfo>,
    groups: Arc<Groups>,
}

impl PeerServer {
    pub fn new(me: PeerInfo, groups: Arc<Groups>) -> PeerServer {
        let me = Arc::new(me);
        PeerServer { me, groups }
    }

    /// Serves one connection until it ends.
    pub async fn serve(self, stream: TcpStream) {
        let service = peer_server::PeerServer::new(self)
            .max_decoding_message_size(PEER_MESSAGE_BYTES)
            .max_encoding_message_size(PEER_MESSAGE_BYTES);
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(PEER_STREAMS)
            .max_frame_size(PEER_HTTP2_FRAME_BYTES)
            .initial_stream_window_size(PEER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(PEER_CONNECTION_WINDOW_BYTES);
        let service = TowerToHyperService::new(service);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "peer connection closed");
        }
    }

    /// Who opens a link, and for which channel.
    fn opener(&self, metadata: &MetadataMap) -> Result<(NodeId, Channel), Status> {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        if text(CLUSTER) != Some(&self.me.cluster_id) {
            return Err(Status::failed_precondition("a node of another cluster"));
        }
        let node = text(NODE).and_then(|node| node.parse().ok());
        let channel = text(CHANNEL).and_then(Channel::from_name);
        match (node, channel) {
            (Some(node), Some(channel)) => Ok((node, channel)),
            _ => Err(Status::invalid_argument(
                "a link names its node and its channel",
            )),
        }
    }
}

#[tonic::async_trait]
impl Peer for PeerServer {
    type LinkStream = BoxStream<'static, Result<Frame, Status>>;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        peer::answer_hello(&self.me, request.get_ref()).map(Response::new)
    }

    async fn link(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (node, channel) = self.opener(request.metadata())?;
        let (sender, answers) = mpsc::channel(DEPTH);
        let receiver = pump(request.into_inner());
        let groups = self.groups.clone();
        tokio::spawn(async move {
            groups
                .serve(node, channel, Connection { sender, receiver })
                .await;
        });
        Ok(Response::new(ReceiverStream::new(answers).map(Ok).boxed()))
    }
}
