//! The broker process: everything started in order, and stopped in the opposite one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ottla_log::{RocksStore, StoreOptions};
use ottla_peer::{Addresses, GrpcTransport, PeerServer};
use ottla_proto::config::{HostPort, QuorumVoter, ServerConfig};
use ottla_proto::limits::{GROUP_START_WAIT_MS, OPEN_FILES, SHUTDOWN_WAIT_MS};
use ottla_proto::memory::MemoryShares;
use ottla_proto::peer::{IntroduceReply, IntroduceRequest, PeerInfo};
use ottla_raft::{Groups, Tuning};
use tokio::runtime::Handle;

use crate::board::Board;
use crate::calls::{Calls, GrpcCalls};
use crate::cleaner::Cleaner;
use crate::controllers::{ControlError, LateMetadata};
use crate::formation::{self, FormationError};
use crate::identity::{Folder, Identity, IdentityError};
use crate::lag::Lags;
use crate::memory;
use crate::net::{Bound, Network};
use crate::node::{Node, Quorum, is_clustered};
use crate::quorum;
use crate::retention::Retention;
use crate::telemetry::{self, Sources, Telemetry};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{listener} can't listen on {address}: {source}")]
    Bind {
        listener: String,
        address: String,
        source: io::Error,
    },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(ottla_log::StoreError),
    #[error("{} is in use: another process has this data folder open ({detail})", path.display())]
    InUse { path: PathBuf, detail: String },
    #[error(transparent)]
    Group(#[from] ottla_raft::GroupError),
    #[error("the metadata quorum has no leader after {GROUP_START_WAIT_MS} ms")]
    NoLeader,
    #[error(transparent)]
    Formation(#[from] FormationError),
    #[error(transparent)]
    Registration(#[from] ControlError),
    #[error("no thread for compaction: {0}")]
    Threads(io::Error),
    #[error("metrics: {0}")]
    Telemetry(String),
    #[error("the metadata could not be read; the log above says where")]
    Metadata,
}

/// A running broker.
pub struct Server {
    pub config: ServerConfig,
    node: Node,
    groups: Arc<Groups>,
    store: Arc<RocksStore>,
    network: Network,
    telemetry: Arc<Telemetry>,
    cleaner: Cleaner,
}

struct Ports {
    listeners: Vec<Bound>,
    metrics: Option<tokio::net::TcpListener>,
}

impl Server {
    /// Starts a broker. Nothing is written before the configuration has been found good, the ports
    /// are held and the data folder is known to be this node's.
    pub async fn start(mut config: ServerConfig) -> Result<Server, StartError> {
        config.set_own_host(&own_host());
        let ports = bind(&mut config).await?;
        let mut folder = Folder::open(&config.log_dir, config.node_id)?;
        raise_open_files();
        let telemetry = Telemetry::install().map_err(StartError::Telemetry)?;
        // Other nodes are answered from here on; clients wait.
        let peers = PeerServer::new(introduction(&folder));
        let network = Network::start(ports.listeners, Arc::new(config.clone()), peers.clone());
        if quorum::is_to_be_found(&config) {
            config.quorum_voters = find_quorum(&folder, &config).await?;
        }
        if let Folder::Formed(identity) = &mut folder {
            identity.learn_voters(&config.log_dir, &config.quorum_voters)?;
        }
        let config_now = Arc::new(config.clone());
        let identity = join_cluster(folder, &config).await?;
        peers.introduce_as(introduction(&Folder::Formed(identity.clone())));

        let memory = memory::shares(config.memory_bytes);
        let store = open_store(&config, memory).await?;
        let clock: ottla_raft::Clock = Arc::new(now_ms);
        let late_metadata = LateMetadata::default();
        let me = PeerInfo {
            cluster_id: identity.cluster_id.clone(),
            node_id: identity.node_id,
            broker_epoch: -1,
        };
        let transport = is_clustered(&config).then(|| {
            let addresses = addresses(&config, late_metadata.clone());
            Arc::new(GrpcTransport::new(me.clone(), addresses))
        });
        let groups = Arc::new(match &transport {
            Some(transport) => {
                let (store, transport) = (store.clone(), transport.clone());
                Groups::clustered(store, clock.clone(), &memory, transport, Tuning::default())
            }
            None => Groups::new(store.clone(), clock.clone(), &memory),
        });
        groups.set_producer_expiration_ms(config.transactions.producer_id_expiration_ms as i64);
        peers.join(me, groups.clone());
        if let Some(listener) = ports.metrics {
            let sources = Arc::new(Sources {
                store: store.clone(),
                groups: groups.clone(),
                memory,
            });
            tokio::spawn(telemetry.clone().serve(listener, sources));
        }

        let quorum = Quorum::start(config_now, &identity, &groups, clock).await?;
        let first = late_metadata.set(quorum.metadata.clone());
        assert!(first.is_ok(), "metadata starts once");
        peers.answer_with(quorum.control.clone());
        let calls =
            transport.map(|transport| -> Arc<dyn Calls> { Arc::new(GrpcCalls::new(transport)) });
        let registered = |epoch| peers.registered(epoch);
        let node = Node::start(quorum, &identity, calls, &memory, &registered).await?;
        let services = node.services.clone();
        let (topics, metadata) = (services.topics.clone(), services.metadata.clone());
        let lags = Arc::new(Lags::default());
        telemetry.set_board(Board {
            topics: topics.clone(),
            metadata: metadata.clone(),
            lags: lags.clone(),
        });
        let retention = Retention::new(store.clone(), topics.clone(), metadata);
        tokio::spawn(retention.run(node.stopping.subscribe()));
        let coordinators = services.coordinators.clone();
        tokio::spawn(lags.run(coordinators, topics.clone(), node.stopping.subscribe()));
        let cleaner = Cleaner::start(
            store.clone(),
            topics,
            &config.cleaner,
            memory.dedupe_bytes,
            Handle::current(),
        )
        .map_err(StartError::Threads)?;
        network.serve_clients(services);
        telemetry.set_ready(true);
        Ok(Server {
            config,
            node,
            groups,
            store,
            network,
            telemetry,
            cleaner,
        })
    }

    /// Hands over what it leads, stops accepting, answers what was asked, and leaves everything on disk.
    pub async fn stop(self) {
        self.telemetry.set_ready(false);
        if is_clustered(&self.config) && self.config.lifecycle.controlled_shutdown {
            self.node.leave().await;
        }
        self.node.stopping.send_replace(true);
        self.store.stop_waiting();
        self.node.services.coordinators.shutdown().await;
        let drained = self.network.shutdown();
        if tokio::time::timeout(Duration::from_millis(SHUTDOWN_WAIT_MS), drained)
            .await
            .is_err()
        {
            tracing::warn!("some connections did not take their answers in time");
        }
        if tokio::task::spawn_blocking(|| self.cleaner.stop())
            .await
            .is_err()
        {
            tracing::error!("compaction did not stop cleanly");
        }
        self.groups.shutdown().await;
    }
}

fn introduction(folder: &Folder) -> IntroduceReply {
    match folder {
        Folder::Formed(identity) => IntroduceReply {
            node_id: identity.node_id,
            replica: identity.replica_id(),
            cluster_id: identity.cluster_id.clone(),
            founders: identity.founders.clone(),
            voters: identity.voters.iter().map(QuorumVoter::to_string).collect(),
        },
        Folder::Prepared(prepared) => IntroduceReply {
            node_id: prepared.node_id,
            replica: prepared.replica_id(),
            ..IntroduceReply::default()
        },
    }
}

/// Waits until the node belongs to a cluster: that takes all voters once, and one of them ever after.
async fn join_cluster(folder: Folder, config: &ServerConfig) -> Result<Identity, StartError> {
    let prepared = match folder {
        Folder::Formed(identity) => return Ok(identity),
        Folder::Prepared(prepared) => prepared,
    };
    let node_id = prepared.node_id;
    let ask = |address: &HostPort| introduced(address.clone(), node_id);
    Ok(formation::form(prepared, &config.quorum_voters, &ask).await?)
}

/// Who listens there; `None`: no answer.
fn introduced(address: HostPort, node_id: i32) -> BoxFuture<'static, Option<IntroduceReply>> {
    let asked = async move { ottla_peer::introduce(&address, IntroduceRequest { node_id }).await };
    Box::pin(asked.map(Result::ok))
}

/// Waits until the voters are known.
async fn find_quorum(
    folder: &Folder,
    config: &ServerConfig,
) -> Result<Vec<QuorumVoter>, StartError> {
    let known = match folder {
        Folder::Formed(identity) => identity.voters.as_slice(),
        Folder::Prepared(_) => &[],
    };
    let ask = |address: &HostPort| introduced(address.clone(), config.node_id);
    Ok(quorum::find(config, known, &ask).await?)
}

/// Where nodes listen for each other: where the metadata says that they do, and where voters are known to.
fn addresses(config: &ServerConfig, metadata: LateMetadata) -> Addresses {
    let voters = config.quorum_voters.clone();
    let listener = config.listeners.inter_broker_name.clone();
    Arc::new(move |node| {
        let image = metadata.get().map(|metadata| metadata.current());
        let broker = image.as_ref().and_then(|image| image.broker(node));
        let listeners = broker.into_iter().flat_map(|broker| &broker.listeners);
        let of_broker = listeners.filter(|l| l.name.eq_ignore_ascii_case(&listener));
        let told = of_broker.map(|l| (l.host.clone(), l.port));
        let of_voter = voters.iter().filter(|voter| voter.id == node);
        let known = of_voter.map(|voter| (voter.host.clone(), voter.port));
        told.chain(known)
            .map(|(host, port)| HostPort { host, port })
            .collect()
    })
}

async fn open_store(
    config: &ServerConfig,
    memory: MemoryShares,
) -> Result<Arc<RocksStore>, StartError> {
    let path = Identity::database(&config.log_dir);
    let options = StoreOptions {
        disk_reserve_bytes: config.storage.disk_reserve_bytes,
        accept_loss: config.storage.accept_loss,
        ..StoreOptions::new(memory)
    };
    let opened = tokio::task::spawn_blocking(move || RocksStore::open(&path, &options)).await;
    let opened = opened.map_err(|e| StartError::Telemetry(e.to_string()))?;
    let folder = || config.log_dir.clone();
    Ok(Arc::new(
        opened.map_err(|error| not_opened(folder(), error))?,
    ))
}

/// RocksDB holds a lock on its folder.
fn not_opened(path: PathBuf, error: ottla_log::StoreError) -> StartError {
    let detail = error.to_string();
    match detail.contains("lock") && detail.contains("LOCK") {
        true => StartError::InUse { path, detail },
        false => StartError::Store(error),
    }
}

/// Holds every port, and writes the real numbers where the system chose them.
async fn bind(config: &mut ServerConfig) -> Result<Ports, StartError> {
    let connections = &config.connections;
    let all = config
        .listeners
        .broker
        .iter()
        .chain(&config.listeners.controller);
    let mut listeners: Vec<Bound> = Vec::new();
    for listener in all {
        let bound = Bound::bind(&listener.name, &listener.host, listener.port, connections).await;
        listeners.push(bound.map_err(|source| StartError::Bind {
            listener: listener.name.clone(),
            address: format!("{}:{}", listener.host, listener.port),
            source,
        })?);
    }
    let real = |name: &str| listeners.iter().find(|b| &*b.name == name).map(|b| b.port);
    let told = &mut config.listeners;
    for listener in told
        .broker
        .iter_mut()
        .chain(&mut told.advertised)
        .chain(&mut told.controller)
    {
        if listener.port == 0 {
            listener.port = real(&listener.name).unwrap_or(0);
        }
    }
    let metrics = match &mut config.metrics_listener {
        None => None,
        Some(HostPort { host, port }) => {
            let (listener, address) =
                telemetry::bind(host, *port)
                    .await
                    .map_err(|source| StartError::Bind {
                        listener: "ottla.metrics.listener".into(),
                        address: format!("{host}:{port}"),
                        source,
                    })?;
            *port = address.port();
            Some(listener)
        }
    };
    Ok(Ports { listeners, metrics })
}

fn own_host() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|n| n.into_string().ok());
    name.filter(|n| !n.is_empty())
        .unwrap_or_else(|| "127.0.0.1".to_owned())
}

/// Each connection takes a file: ask for what the system allows, up to `OPEN_FILES`.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = OPEN_FILES.min(hard);
        if soft >= wanted {
            Ok(())
        } else {
            setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
        }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}
