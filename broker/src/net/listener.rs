//! Listeners: bind, accept, refuse over the bounds, tell Kafka clients from peers, and stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_peer::PeerServer;
use ottla_proto::config::Connections;
use ottla_proto::limits::{CONNECTIONS, PREFACE_WAIT_MS};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection;
use super::limits::{ConnectionLimits, CreationRate, Place};
use crate::api::Peer;
use crate::services::Services;

/// A listener that holds its port but does not accept yet.
pub struct Bound {
    pub name: Arc<str>,
    pub address: SocketAddr,
    listener: TcpListener,
}

impl Bound {
    /// Binds `host:port`; an empty host means every interface.
    pub async fn bind(
        name: &str,
        host: &str,
        port: u16,
        config: &Connections,
    ) -> io::Result<Bound> {
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        let address = lookup_host((host, port)).await?.next();
        let address = address.ok_or_else(|| io::Error::other("the host has no address"))?;
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        // Connections inherit them. Set before they are accepted, so that the window fits (tcp(7)).
        if let Some(bytes) = config.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = config.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(address)?;
        let listener = socket.listen(config.listen_backlog)?;
        Ok(Bound {
            name: name.into(),
            address: listener.local_addr()?,
            listener,
        })
    }
}

/// All accepting listeners and their connections.
pub struct Network {
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

impl Network {
    pub fn start(
        listeners: Vec<Bound>,
        services: Arc<Services>,
        peer_server: PeerServer,
    ) -> Network {
        let (stop, stopped) = watch::channel(false);
        let limits = Arc::new(ConnectionLimits::default());
        let rate = Arc::new(CreationRate::new(Instant::now()));
        let mut accepting = JoinSet::new();
        for bound in listeners {
            let listener = Listener {
                name: bound.name,
                services: services.clone(),
                limits: limits.clone(),
                rate: rate.clone(),
                peers: peer_server.clone(),
                stopped: stopped.clone(),
            };
            accepting.spawn(listener.accept(bound.listener));
        }
        Network { stop, accepting }
    }

    /// Stops accepting and reading; waits until what was read is answered.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.accepting.join_next().await.is_some() {}
    }
}

#[derive(Clone)]
struct Listener {
    name: Arc<str>,
    services: Arc<Services>,
    limits: Arc<ConnectionLimits>,
    rate: Arc<CreationRate>,
    peers: PeerServer,
    stopped: watch::Receiver<bool>,
}

impl Listener {
    async fn accept(mut self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = self.stopped.changed() => break,
            };
            match accepted {
                Ok((stream, from)) => {
                    if !self.wait_for_turn().await {
                        break;
                    }
                    if let Some(place) = self.admit(from) {
                        connections.spawn(self.clone().serve(stream, from, place));
                    }
                }
                Err(error) => {
                    // Out of file descriptors, mostly: those that close will let us go on.
                    tracing::warn!(%error, listener = %self.name, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// Waits while new connections come faster than `max.connection.creation.rate`: those behind
    /// stay in the backlog. False if the broker stops.
    async fn wait_for_turn(&mut self) -> bool {
        loop {
            let config = self.services.metadata.config();
            let per_second = config.connections.max_connections_per_second;
            let Err(wait) = self.rate.take(per_second, Instant::now()) else {
                return true;
            };
            tokio::select! {
                _ = tokio::time::sleep(wait) => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return false,
            }
        }
    }

    fn admit(&self, from: SocketAddr) -> Option<Place> {
        let config = self.services.metadata.config();
        let bounds = &config.connections;
        let per_address = bounds
            .max_connections_per_ip_overrides
            .get(&from.ip().to_canonical());
        let per_address = per_address
            .copied()
            .unwrap_or(bounds.max_connections_per_ip);
        let place = self.limits.take(
            from.ip(),
            bounds.max_connections.min(CONNECTIONS),
            per_address,
        );
        match &place {
            Some(_) => metrics::gauge!("kafka_server_socketservermetrics_connection_count")
                .set(self.limits.total()),
            None => {
                metrics::counter!("ottla_connections_refused_total").increment(1);
                tracing::debug!(%from, "refused: too many connections");
            }
        }
        place
    }

    async fn serve(mut self, stream: TcpStream, from: SocketAddr, place: Place) {
        let _ = stream.set_nodelay(true);
        let idle = self.services.metadata.config().connections.max_idle_ms;
        let peer_or_client = tokio::select! {
            answer = is_peer(&stream, idle) => answer,
            _ = self.stopped.wait_for(|s| *s) => return,
        };
        match peer_or_client {
            Ok(true) => self.peers.serve(stream).await,
            Ok(false) => {
                let peer = Arc::new(Peer {
                    address: from.ip(),
                    listener: self.name.clone(),
                });
                if let Err(error) =
                    connection::serve(stream, peer, self.services, self.stopped).await
                {
                    tracing::debug!(%from, %error, "connection closed");
                }
            }
            Err(error) => {
                tracing::debug!(%from, %error, "connection closed before its first request")
            }
        }
        drop(place);
        metrics::gauge!("kafka_server_socketservermetrics_connection_count")
            .set(self.limits.total());
    }
}

/// An HTTP/2 preface begins `PRI `, which as a frame length would be 1.3 GB: no Kafka request is that
/// long, so the first four bytes tell a peer from a client.
async fn is_peer(stream: &TcpStream, max_idle_ms: Option<u64>) -> io::Result<bool> {
    const PREFACE: &[u8; 4] = b"PRI ";
    let mut first = [0; 4];
    let peek = async {
        loop {
            match stream.peek(&mut first).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n if first[..n] != PREFACE[..n] => return Ok(false),
                4 => return Ok(true),
                // One to three bytes that fit so far: the rest is on its way.
                _ => tokio::time::sleep(Duration::from_millis(PREFACE_WAIT_MS)).await,
            }
        }
    };
    match max_idle_ms {
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), peek).await?,
        None => peek.await,
    }
}
