//! Brokers talk to each other by gRPC on the port that Kafka clients use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ottla_proto::limits::{
    PEER_HELLO_WAIT_MS, PEER_PING_MS, PEER_PING_WAIT_MS, PEER_SHUTDOWN_WAIT_MS, PEER_STREAMS,
};
use ottla_proto::peer::peer_server;
use ottla_proto::peer::{self, HelloReply, HelloRequest, PeerInfo};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// Answers peers. Cheap to clone: one per connection.
#[derive(Clone)]
pub struct PeerServer(PeerInfo);

/// The service of one connection.
#[derive(Clone)]
struct Connection {
    me: PeerInfo,
    /// Its first call came and was answered.
    is_known: Arc<AtomicBool>,
}

impl PeerServer {
    pub fn new(info: PeerInfo) -> PeerServer {
        PeerServer(info)
    }

    /// Serves one connection until it ends, the broker stops, or it turns out to be no peer's: the
    /// first call is a hello, and it comes soon.
    pub async fn serve(self, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
        let is_known = Arc::new(AtomicBool::new(false));
        let service = Connection {
            me: self.0,
            is_known: is_known.clone(),
        };
        let service = TowerToHyperService::new(peer_server::PeerServer::new(service));
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_millis(PEER_PING_MS))
            .keep_alive_timeout(Duration::from_millis(PEER_PING_WAIT_MS))
            .max_concurrent_streams(PEER_STREAMS);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let introduced = async {
            tokio::time::sleep(Duration::from_millis(PEER_HELLO_WAIT_MS)).await;
            if is_known.load(Ordering::Acquire) {
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
                // Calls that have begun are answered, and no others taken. A silent peer never says
                // that it has understood.
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

#[tonic::async_trait]
impl peer_server::Peer for Connection {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let reply = peer::answer_hello(&self.me, request.get_ref())?;
        self.is_known.store(true, Ordering::Release);
        Ok(Response::new(reply))
    }
}
