//! The broker process: everything started in order, and stopped in the opposite one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla_controller::Controller;
use ottla_log::{RocksStore, StoreOptions};
use ottla_proto::config::{HostPort, ServerConfig};
use ottla_proto::ids::METADATA_GROUP;
use ottla_proto::limits::{GROUP_START_WAIT_MS, OPEN_FILES, SHUTDOWN_WAIT_MS};
use ottla_proto::memory::MemoryShares;
use ottla_proto::peer::PeerInfo;
use ottla_raft::Groups;
use ottla_wire::guard::GuardLimits;
use tokio::sync::{oneshot, watch};

use crate::board::Board;
use crate::cleaner::Cleaner;
use crate::coordinator::Coordinators;
use crate::identity::{Identity, IdentityError};
use crate::memory;
use crate::metadata::Metadata;
use crate::net::{Bound, Network, PeerServer};
use crate::newest::Newest;
use crate::producer_ids::ProducerIds;
use crate::reconcile::Reconciler;
use crate::registration::{Registration, RegistrationError};
use crate::retention::Retention;
use crate::room::{FetchRoom, RequestRoom};
use crate::services::Services;
use crate::telemetry::{self, Sources, Telemetry};
use crate::topics::Topics;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{listener} can't listen on {address}: {source}")]
    Bind {
        listener: String,
        address: String,
        source: io::Error,
    },
    #[error("{0}")]
    NotBuilt(String),
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
    Controller(#[from] ottla_controller::ControllerError),
    #[error(transparent)]
    Bootstrap(#[from] ottla_controller::bootstrap::BootstrapError),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
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
    services: Arc<Services>,
    groups: Arc<Groups>,
    store: Arc<RocksStore>,
    network: Network,
    telemetry: Arc<Telemetry>,
    cleaner: Cleaner,
    stopping: watch::Sender<bool>,
}

struct Ports {
    listeners: Vec<Bound>,
    metrics: Option<tokio::net::TcpListener>,
}

impl Server {
    /// Starts a broker. Nothing is written before the configuration has been found good, the ports
    /// are held and the data folder is known to be this node's.
    pub async fn start(mut config: ServerConfig) -> Result<Server, StartError> {
        check_alone(&config)?;
        config.set_own_host(&own_host());
        let ports = bind(&mut config).await?;
        let identity = Identity::load_or_format(&config.log_dir, config.node_id)?;
        raise_open_files();
        let telemetry = Telemetry::install().map_err(StartError::Telemetry)?;
        let path = Identity::database(&config.log_dir);
        let folder = config.log_dir.clone();
        let memory = memory::shares(config.memory_bytes);
        let options = StoreOptions {
            disk_reserve_bytes: config.storage.disk_reserve_bytes,
            accept_loss: config.storage.accept_loss,
            ..StoreOptions::new(memory)
        };
        let opened = tokio::task::spawn_blocking(move || RocksStore::open(&path, &options)).await;
        let opened = opened.map_err(|e| StartError::Telemetry(e.to_string()))?;
        let store = Arc::new(opened.map_err(|error| not_opened(folder, error))?);
        let clock: ottla_raft::Clock = Arc::new(now_ms);
        let groups = Arc::new(Groups::new(store.clone(), clock.clone(), &memory));
        groups.set_producer_expiration_ms(config.transactions.producer_id_expiration_ms as i64);
        if let Some(listener) = ports.metrics {
            let sources = Arc::new(Sources {
                store: store.clone(),
                groups: groups.clone(),
                memory,
            });
            tokio::spawn(telemetry.clone().serve(listener, sources));
        }

        let metadata = start_metadata(&config, &groups, &identity, clock.clone()).await?;
        let controller = Arc::new(Controller::new((*metadata).clone(), config.clone()));
        controller.bootstrap(&identity.cluster_id).await??;
        let registration = Arc::new(Registration::new(&identity, &config));
        registration.register(&controller).await?;
        tokio::spawn(registration.clone().keep_alive(controller.clone()));

        let topics = Arc::new(Topics::new(
            groups.clone(),
            clock.clone(),
            memory.decompressed_bytes,
        ));
        telemetry.set_board(Board {
            topics: topics.clone(),
            metadata: metadata.clone(),
        });
        let coordinators = Coordinators::new(
            topics.clone(),
            metadata.clone(),
            controller.clone(),
            clock,
            memory.group_bytes,
        );
        let reconciler = Reconciler {
            metadata: metadata.clone(),
            controller: controller.clone(),
            registration: registration.clone(),
            groups: groups.clone(),
            topics: topics.clone(),
            coordinators: coordinators.clone(),
            replica: identity.replica_id(),
        };
        let (first, served) = oneshot::channel();
        tokio::spawn(reconciler.run(first));
        served.await.map_err(|_| StartError::Metadata)?;
        tokio::spawn({
            let coordinators = coordinators.clone();
            async move { coordinators.load_all().await }
        });

        let (stopping, stopped) = watch::channel(false);
        let retention = Retention::new(store.clone(), topics.clone(), metadata.clone());
        tokio::spawn(retention.run(stopped.clone()));
        let cleaner = Cleaner::start(
            store.clone(),
            topics.clone(),
            &config.cleaner,
            memory.dedupe_bytes,
        )
        .map_err(StartError::Threads)?;
        let services = Arc::new(Services {
            producer_ids: ProducerIds::new(controller.clone(), registration.clone()),
            metadata,
            controller,
            topics,
            coordinators,
            guard_limits: GuardLimits::default(),
            newest: Newest::default(),
            fetch_room: FetchRoom::new(memory.fetch_bytes),
            request_room: request_room(&config, &memory),
            stopping: stopped,
        });
        let peers = PeerServer::new(PeerInfo {
            cluster_id: identity.cluster_id.clone(),
            node_id: identity.node_id,
            broker_epoch: registration.epoch(),
        });
        let network = Network::start(ports.listeners, services.clone(), peers);
        telemetry.set_ready(true);
        Ok(Server {
            config,
            services,
            groups,
            store,
            network,
            telemetry,
            cleaner,
            stopping,
        })
    }

    /// Stops accepting, answers what was asked, and leaves everything on disk.
    pub async fn stop(self) {
        self.telemetry.set_ready(false);
        self.stopping.send_replace(true);
        self.store.stop_waiting();
        self.services.coordinators.shutdown().await;
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

/// RocksDB holds a lock on its folder.
fn not_opened(path: PathBuf, error: ottla_log::StoreError) -> StartError {
    let detail = error.to_string();
    match detail.contains("lock") && detail.contains("LOCK") {
        true => StartError::InUse { path, detail },
        false => StartError::Store(error),
    }
}

/// One broker is a cluster of one; more are refused rather than run apart from each other.
fn check_alone(config: &ServerConfig) -> Result<(), StartError> {
    let refuse = |what: &str| {
        Err(StartError::NotBuilt(format!(
            "{what}: clusters of several nodes are not built yet"
        )))
    };
    if !(config.roles.broker && config.roles.controller) {
        return refuse("process.roles must be broker,controller");
    }
    if config.quorum_bootstrap_servers.len() > 1 {
        return refuse("controller.quorum.bootstrap.servers names several controllers");
    }
    match config.quorum_voters.iter().find(|v| v.id != config.node_id) {
        Some(other) => refuse(&format!("controller.quorum.voters names node {}", other.id)),
        None => Ok(()),
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

/// The metadata group, and an image that has caught up with it.
async fn start_metadata(
    config: &ServerConfig,
    groups: &Groups,
    identity: &Identity,
    clock: ottla_raft::Clock,
) -> Result<Arc<Metadata>, StartError> {
    let group = groups
        .start_alone(METADATA_GROUP, identity.replica_id())
        .await?;
    let wait = Duration::from_millis(GROUP_START_WAIT_MS);
    group
        .wait_for_leadership(wait)
        .await
        .ok_or(StartError::NoLeader)?;
    let metadata = Arc::new(Metadata::new(group, Arc::new(config.clone()), clock));
    let (caught_up, reached) = oneshot::channel();
    let follower = metadata.clone();
    tokio::spawn(async move {
        if let Err(error) = follower.follow(caught_up).await {
            // Going on with metadata that can't be read would be guessing.
            tracing::error!(%error, "stopping: the metadata log is not readable by this release");
            std::process::exit(1);
        }
    });
    reached.await.map_err(|_| StartError::Metadata)?;
    Ok(metadata)
}

fn own_host() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|n| n.into_string().ok());
    name.filter(|n| !n.is_empty())
        .unwrap_or_else(|| "127.0.0.1".to_owned())
}

/// Room of `queued.max.request.bytes`, or a share of the memory.
fn request_room(config: &ServerConfig, memory: &MemoryShares) -> RequestRoom {
    let connections = &config.connections;
    let set = connections.queued_max_request_bytes;
    let total_bytes = set.map_or(memory.request_bytes, |bytes| bytes as usize);
    let wanted = connections.request_max_bytes as usize;
    let room = RequestRoom::new(total_bytes, wanted);
    let largest_bytes = room.largest_bytes(true);
    if largest_bytes < wanted {
        tracing::warn!(
            largest_bytes,
            "socket.request.max.bytes is {wanted}, but the memory (ottla.memory.bytes, queued.max.request.bytes) \
             has no room for such requests; larger ones than largest_bytes are refused"
        );
    }
    room
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
