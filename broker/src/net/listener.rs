//! Listeners: bind, accept, refuse over the bounds, tell Kafka clients from peers, and stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_peer::PeerServer;
use ottla_proto::config::{Connections, ServerConfig};
use ottla_proto::limits::{ACCEPT_RETRY_MS, CONNECTIONS, PREFACE_WAIT_MS};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection;
use super::limits::{ConnectionLimits, CreationRate, Place};
use crate::services::Services;

/// A listener that holds its port but does not accept yet.
pub struct Bound {
    pub name: Arc<str>,
    pub port: u16,
    /// One for each of the host's addresses.
    sockets: Vec<TcpListener>,
}

impl Bound {
    /// Binds `host:port` on all addresses that the host has; an empty host means every interface, of
    /// IPv6 and IPv4. An address that this machine does not have now is passed over if another one
    /// can be had: `localhost` often has an IPv6 address where there is no IPv6.
    pub async fn bind(
        name: &str,
        host: &str,
        port: u16,
        config: &Connections,
    ) -> io::Result<Bound> {
        let every = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        let addresses: Vec<IpAddr> = match host {
            "" => every.to_vec(),
            host => lookup_host((host, port)).await?.map(|a| a.ip()).collect(),
        };
        let mut bound = Bound {
            name: name.into(),
            port,
            sockets: Vec::new(),
        };
        let mut failed = io::Error::other("the host has no address");
        for address in addresses {
            match listen((address, bound.port).into(), config) {
                Ok(socket) => {
                    // The system may have chosen it; all addresses have the same.
                    bound.port = socket.local_addr()?.port();
                    bound.sockets.push(socket);
                    // It takes IPv4, too.
                    if host.is_empty() && address.is_ipv6() {
                        break;
                    }
                }
                Err(error) if is_absent(&error) => failed = error,
                Err(error) => return Err(error),
            }
        }
        match bound.sockets.is_empty() {
            true => Err(failed),
            false => Ok(bound),
        }
    }
}

/// The machine does not have the address, or none of its kind.
fn is_absent(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = nix::libc::EAFNOSUPPORT;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn listen(address: SocketAddr, config: &Connections) -> io::Result<TcpListener> {
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
    socket.listen(config.listen_backlog)
}

/// All accepting listeners and their connections.
pub struct Network {
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
    services: watch::Sender<Option<Arc<Services>>>,
}

impl Network {
    /// Accepts, and serves peers. Clients wait until they are served, too.
    pub fn start(
        listeners: Vec<Bound>,
        config: Arc<ServerConfig>,
        peer_server: PeerServer,
    ) -> Network {
        let (stop, stopped) = watch::channel(false);
        let (services, served) = watch::channel(None);
        let limits = Arc::new(ConnectionLimits::default());
        let rate = Arc::new(CreationRate::new(Instant::now()));
        let mut accepting = JoinSet::new();
        for bound in listeners {
            let listener = Listener {
                name: bound.name,
                config: config.clone(),
                served: served.clone(),
                limits: limits.clone(),
                rate: rate.clone(),
                peers: peer_server.clone(),
                stopped: stopped.clone(),
            };
            for socket in bound.sockets {
                accepting.spawn(listener.clone().accept(socket));
            }
        }
        Network {
            stop,
            accepting,
            services,
        }
    }

    /// Serves clients from now on.
    pub fn serve_clients(&self, services: Arc<Services>) {
        self.services.send_replace(Some(services));
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
    /// In force until there is metadata.
    config: Arc<ServerConfig>,
    served: watch::Receiver<Option<Arc<Services>>>,
    limits: Arc<ConnectionLimits>,
    rate: Arc<CreationRate>,
    peers: PeerServer,
    stopped: watch::Receiver<bool>,
}

impl Listener {
    fn config(&self) -> Arc<ServerConfig> {
        match &*self.served.borrow() {
            Some(services) => services.metadata.config(),
            None => self.config.clone(),
        }
    }

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
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
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
            let config = self.config();
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
        let config = self.config();
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
        let idle = self.config().connections.max_idle_ms;
        let peer_or_client = tokio::select! {
            answer = is_peer(&stream, idle) => answer,
            _ = self.stopped.wait_for(|s| *s) => return,
        };
        match peer_or_client {
            Ok(true) => self.peers.serve(stream, self.stopped).await,
            Ok(false) => {
                let services = tokio::select! {
                    services = self.served.wait_for(Option::is_some) => services.ok().and_then(|s| s.clone()),
                    _ = self.stopped.wait_for(|s| *s) => None,
                };
                if let Some(services) = services {
                    let name = self.name.clone();
                    let served =
                        connection::serve(stream, from.ip(), name, services, self.stopped).await;
                    if let Err(error) = served {
                        tracing::debug!(%from, %error, "connection closed");
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn bind(host: &str) -> io::Result<Bound> {
        let server = ServerConfig::load(None, [], &[]);
        let config = server.expect("the defaults are valid").0.connections;
        Bound::bind("PLAINTEXT", host, 0, &config).await
    }

    #[tokio::test]
    async fn all_addresses_of_a_host_are_bound() {
        for host in ["", "localhost", "127.0.0.1"] {
            let bound = bind(host).await.expect("a port is free");
            let address = (Ipv4Addr::LOCALHOST, bound.port);
            let connected = TcpStream::connect(address).await;
            assert!(connected.is_ok(), "{host}: {connected:?}");
            let v6 = TcpSocket::new_v6().and_then(|s| s.bind((Ipv6Addr::LOCALHOST, 0).into()));
            if host.is_empty() && v6.is_ok() {
                let connected = TcpStream::connect((Ipv6Addr::LOCALHOST, bound.port)).await;
                assert!(connected.is_ok(), "{connected:?}");
            }
        }
        assert!(bind("192.0.2.1").await.is_err(), "another machine's");
    }
}
