//! Brokers talk to each other by gRPC on the port that Kafka clients use.

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ottla_proto::limits::PEER_STREAMS;
use ottla_proto::peer::peer_server;
use ottla_proto::peer::{self, HelloReply, HelloRequest, PeerInfo};
use tokio::net::TcpStream;
use tonic::{Request, Response, Status};

/// Answers peers. Cheap to clone: one per connection.
#[derive(Clone)]
pub struct PeerServer(PeerInfo);

impl PeerServer {
    pub fn new(info: PeerInfo) -> PeerServer {
        PeerServer(info)
    }

    /// Serves one connection until it ends.
    pub async fn serve(self, stream: TcpStream) {
        let service = TowerToHyperService::new(peer_server::PeerServer::new(self));
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(PEER_STREAMS);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "peer connection closed");
        }
    }
}

#[tonic::async_trait]
impl peer_server::Peer for PeerServer {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        peer::answer_hello(&self.0, request.get_ref()).map(Response::new)
    }
}
