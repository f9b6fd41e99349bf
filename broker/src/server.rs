//! The broker process: everything started in order, and stopped in the opposite one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ottla_controller::Controller;
use ottla_log::{RocksStore, StoreOptions};
use ottla_peer::{Addresses, GrpcTransport, PeerServer};
use ottla_proto::config::{HostPort, QuorumVoter, ServerConfig};
use ottla_proto::ids::METADATA_GROUP;
use ottla_proto::limits::{GROUP_START_WAIT_MS, OPEN_FILES, SHUTDOWN_WAIT_MS};
use ottla_proto::memory::MemoryShares;
use ottla_proto::peer::{IntroduceReply, IntroduceRequest, PeerInfo};
use ottla_raft::{Groups, Tuning};
use ottla_wire::guard::GuardLimits;
use tokio::sync::{oneshot, watch};

use crate::board::Board;
use crate::cleaner::Cleaner;
use crate::control::ControlService;
use crate::controllers::{ControlError, Controllers, LateMetadata};
use crate::coordinator::Coordinators;
use crate::duty;
use crate::formation::{self, FormationError};
use crate::identity::{Folder, Identity, IdentityError};
use crate::lag::Lags;
use crate::leaderships::{self, Leaderships};
use crate::membership::Membership;
use crate::memory;
use crate::metadata::Metadata;
use crate::net::{Bound, Network};
use crate::newest::Newest;
use crate::preferred::Preferred;
use crate::producer_ids::ProducerIds;
use crate::reconcile::Reconciler;
use crate::registration::Registration;
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
    services: Arc<Services>,
    registration: Arc<Registration>,
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
        check_roles(&config)?;
        config.set_own_host(&own_host());
        let ports = bind(&mut config).await?;
        let folder = Folder::open(&config.log_dir, config.node_id)?;
        raise_open_files();
        let telemetry = Telemetry::install().map_err(StartError::Telemetry)?;
        let config_now = Arc::new(config.clone());
        // Other nodes are answered from here on; clients wait.
        let peers = PeerServer::new(introduction(&folder));
        let network = Network::start(ports.listeners, config_now.clone(), peers.clone());
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

        let metadata = start_metadata(config_now, &groups, &identity, clock.clone()).await?;
        let first = late_metadata.set(metadata.clone());
        assert!(first.is_ok(), "metadata starts once");
        let controller = Arc::new(Controller::new((*metadata).clone(), config.clone()));
        let control = ControlService::new(
            identity.cluster_id.clone(),
            controller.clone(),
            metadata.clone(),
            groups.clone(),
        );
        let control = Arc::new(control);
        peers.answer_with(control.clone());
        let controllers = Arc::new(Controllers::new(
            identity.cluster_id.clone(),
            control.clone(),
            metadata.clone(),
            transport.clone(),
            config.quorum_voters.iter().map(|voter| voter.id).collect(),
        ));
        tokio::spawn(duty::run(
            controller.clone(),
            metadata.clone(),
            identity.cluster_id.clone(),
        ));
        if transport.is_some() {
            let membership = Membership {
                metadata: metadata.clone(),
                groups: groups.clone(),
                voters: config.quorum_voters.clone(),
                busy: Default::default(),
            };
            tokio::spawn(membership.run());
            let preferred = Preferred {
                metadata: metadata.clone(),
                groups: groups.clone(),
            };
            tokio::spawn(preferred.run());
        }
        let registration = Arc::new(Registration::new(&identity, &config));
        let is_broker = config.roles.broker;
        if is_broker {
            registration.register(&controllers).await?;
            peers.registered(registration.epoch());
            metadata.wait_for_broker(registration.epoch()).await;
        }

        let topics = Arc::new(Topics::new(
            groups.clone(),
            clock.clone(),
            memory.decompressed_bytes,
        ));
        let lags = Arc::new(Lags::default());
        telemetry.set_board(Board {
            topics: topics.clone(),
            metadata: metadata.clone(),
            lags: lags.clone(),
        });
        let coordinators = Coordinators::new(
            topics.clone(),
            metadata.clone(),
            controllers.clone(),
            clock,
            memory.group_bytes,
        );
        if is_broker {
            let reconciler = Reconciler {
                metadata: metadata.clone(),
                groups: groups.clone(),
                topics: topics.clone(),
                coordinators: coordinators.clone(),
                replica: identity.replica_id(),
            };
            let (first, served) = oneshot::channel();
            tokio::spawn(reconciler.run(first));
            served.await.map_err(|_| StartError::Metadata)?;
            let leaderships = Leaderships {
                metadata: metadata.clone(),
                controllers: controllers.clone(),
                registration: registration.clone(),
                groups: groups.clone(),
                coordinators: coordinators.clone(),
                reporting: Default::default(),
            };
            tokio::spawn(leaderships.run());
            registration.ready(&controllers).await;
            tokio::spawn(registration.clone().keep_alive(controllers.clone()));
        }

        let (stopping, stopped) = watch::channel(false);
        let retention = Retention::new(store.clone(), topics.clone(), metadata.clone());
        tokio::spawn(retention.run(stopped.clone()));
        tokio::spawn(lags.run(coordinators.clone(), topics.clone(), stopped.clone()));
        let cleaner = Cleaner::start(
            store.clone(),
            topics.clone(),
            &config.cleaner,
            memory.dedupe_bytes,
        )
        .map_err(StartError::Threads)?;
        let services = Arc::new(Services {
            producer_ids: ProducerIds::new(controllers.clone(), registration.clone()),
            metadata,
            controller,
            controllers,
            topics,
            coordinators,
            guard_limits: GuardLimits::default(),
            newest: Newest::default(),
            fetch_room: FetchRoom::new(memory.fetch_bytes),
            request_room: request_room(&config, &memory),
            stopping: stopped,
        });
        control.serve(&services);
        network.serve_clients(services.clone());
        telemetry.set_ready(true);
        Ok(Server {
            config,
            services,
            registration,
            groups,
            store,
            network,
            telemetry,
            cleaner,
            stopping,
        })
    }

    /// Hands over what it leads, stops accepting, answers what was asked, and leaves everything on disk.
    pub async fn stop(self) {
        self.telemetry.set_ready(false);
        if is_clustered(&self.config) && self.config.lifecycle.controlled_shutdown {
            if self.config.roles.broker {
                self.registration.leave(&self.services.controllers).await;
            }
            let config = self.services.metadata.config();
            let max_lag = Duration::from_millis(config.replication.lag_time_max_ms);
            leaderships::hand_over(self.groups.all(), max_lag, &|_| true).await;
        }
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

/// Whether there may be other nodes: voters, or the brokers of a controller that is none.
fn is_clustered(config: &ServerConfig) -> bool {
    let mut voters = config.quorum_voters.iter();
    !config.roles.broker || voters.any(|voter| voter.id != config.node_id)
}

fn introduction(folder: &Folder) -> IntroduceReply {
    match folder {
        Folder::Formed(identity) => IntroduceReply {
            node_id: identity.node_id,
            replica: identity.replica_id(),
            cluster_id: identity.cluster_id.clone(),
            founders: identity.founders.clone(),
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
    let ask = |voter: &QuorumVoter| -> BoxFuture<'static, Option<IntroduceReply>> {
        let address = HostPort {
            host: voter.host.clone(),
            port: voter.port,
        };
        let asked =
            async move { ottla_peer::introduce(&address, IntroduceRequest { node_id }).await };
        Box::pin(asked.map(Result::ok))
    };
    Ok(formation::form(prepared, &config.quorum_voters, &ask).await?)
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

fn check_roles(config: &ServerConfig) -> Result<(), StartError> {
    let refuse = |what: &str| Err(StartError::NotBuilt(format!("{what} is not built yet")));
    if !config.roles.controller && config.quorum_voters.is_empty() {
        return refuse("finding the controllers by controller.quorum.bootstrap.servers alone");
    }
    match config.quorum_bootstrap_servers.len() > 1 && config.quorum_voters.is_empty() {
        true => refuse("finding other controllers by controller.quorum.bootstrap.servers alone"),
        false => Ok(()),
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

/// The metadata group, and an image that follows it.
async fn start_metadata(
    config: Arc<ServerConfig>,
    groups: &Groups,
    identity: &Identity,
    clock: ottla_raft::Clock,
) -> Result<Arc<Metadata>, StartError> {
    let alone = !is_clustered(&config);
    let replica = identity.replica_id();
    let founders = match alone {
        true => &[replica],
        false => &*identity.founders,
    };
    let group = groups.start(METADATA_GROUP, replica, founders).await?;
    if alone {
        let wait = Duration::from_millis(GROUP_START_WAIT_MS);
        let leads = group.wait_for_leadership(wait).await;
        leads.ok_or(StartError::NoLeader)?;
    }
    let metadata = Arc::new(Metadata::new(group, config, clock));
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
