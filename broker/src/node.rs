//! What a broker consists of, above its store and below its sockets: the metadata quorum, the controller, and
//! what serves clients. `server.rs` runs it on RocksDB and TCP, the simulation on memory.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::Controller;
use ottla_proto::config::ServerConfig;
use ottla_proto::ids::METADATA_GROUP;
use ottla_proto::limits::GROUP_START_WAIT_MS;
use ottla_proto::memory::MemoryShares;
use ottla_raft::{Clock, Groups};
use ottla_wire::guard::GuardLimits;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::calls::Calls;
use crate::control::ControlService;
use crate::controllers::Controllers;
use crate::coordinator::Coordinators;
use crate::duty;
use crate::identity::Identity;
use crate::leaderships::{self, Leaderships};
use crate::membership::Membership;
use crate::metadata::Metadata;
use crate::newest::Newest;
use crate::preferred::Preferred;
use crate::producer_ids::ProducerIds;
use crate::reconcile::Reconciler;
use crate::registration::Registration;
use crate::room::{FetchRoom, RequestRoom};
use crate::server::StartError;
use crate::services::Services;
use crate::topics::Topics;

/// Whether there may be other nodes: voters, or the brokers of a controller that is none.
pub fn is_clustered(config: &ServerConfig) -> bool {
    let mut voters = config.quorum_voters.iter();
    !config.roles.broker || voters.any(|voter| voter.id != config.node_id)
}

/// A node that follows the metadata, and answers as their controller where it leads them.
pub struct Quorum {
    pub metadata: Arc<Metadata>,
    pub control: Arc<ControlService>,
    config: Arc<ServerConfig>,
    groups: Arc<Groups>,
    controller: Arc<Controller<Metadata>>,
    clock: Clock,
    tasks: JoinSet<()>,
}

impl Quorum {
    pub async fn start(
        config: Arc<ServerConfig>,
        identity: &Identity,
        groups: &Arc<Groups>,
        clock: Clock,
    ) -> Result<Quorum, StartError> {
        let mut tasks = JoinSet::new();
        let metadata =
            start_metadata(config.clone(), groups, identity, clock.clone(), &mut tasks).await?;
        let controller = Arc::new(Controller::new((*metadata).clone(), (*config).clone()));
        let control = Arc::new(ControlService::new(
            identity.cluster_id.clone(),
            controller.clone(),
            metadata.clone(),
            groups.clone(),
        ));
        Ok(Quorum {
            metadata,
            control,
            config,
            groups: groups.clone(),
            controller,
            clock,
            tasks,
        })
    }
}

/// A node at work. It stops looking after things when it is dropped.
pub struct Node {
    pub services: Arc<Services>,
    /// Long polls end, and what else waits for it.
    pub stopping: watch::Sender<bool>,
    registration: Arc<Registration>,
    groups: Arc<Groups>,
    _tasks: JoinSet<()>,
}

impl Node {
    /// Registers, serves what the metadata says, and asks for clients. `registered` is told the broker epoch.
    pub async fn start(
        quorum: Quorum,
        identity: &Identity,
        calls: Option<Arc<dyn Calls>>,
        memory: &MemoryShares,
        registered: &(dyn Fn(i64) + Sync),
    ) -> Result<Node, StartError> {
        let Quorum {
            metadata,
            control,
            config,
            groups,
            controller,
            clock,
            mut tasks,
        } = quorum;
        let controllers = Arc::new(Controllers::new(
            identity.cluster_id.clone(),
            control.clone(),
            metadata.clone(),
            calls,
            config.quorum_voters.iter().map(|voter| voter.id).collect(),
        ));
        tasks.spawn(duty::run(
            controller.clone(),
            metadata.clone(),
            identity.cluster_id.clone(),
        ));
        if is_clustered(&config) {
            let membership = Membership {
                metadata: metadata.clone(),
                groups: groups.clone(),
                voters: config.quorum_voters.clone(),
                busy: Default::default(),
            };
            tasks.spawn(membership.run());
            let preferred = Preferred {
                metadata: metadata.clone(),
                groups: groups.clone(),
            };
            tasks.spawn(preferred.run());
        }
        let registration = Arc::new(Registration::new(identity, &config));
        let is_broker = config.roles.broker;
        if is_broker {
            registration.register(&controllers).await?;
            registered(registration.epoch());
            metadata.wait_for_broker(registration.epoch()).await;
        }

        let topics = Arc::new(Topics::new(
            groups.clone(),
            clock.clone(),
            memory.decompressed_bytes,
        ));
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
            tasks.spawn(reconciler.run(first));
            served.await.map_err(|_| StartError::Metadata)?;
            let leaderships = Leaderships {
                metadata: metadata.clone(),
                controllers: controllers.clone(),
                registration: registration.clone(),
                groups: groups.clone(),
                coordinators: coordinators.clone(),
                reporting: Default::default(),
            };
            tasks.spawn(leaderships.run());
            registration.ready(&controllers).await;
            tasks.spawn(registration.clone().keep_alive(controllers.clone()));
        }

        let (stopping, stopped) = watch::channel(false);
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
            request_room: request_room(&config, memory),
            stopping: stopped,
        });
        control.serve(&services);
        Ok(Node {
            services,
            stopping,
            registration,
            groups,
            _tasks: tasks,
        })
    }

    /// Tells the controller that this node is about to stop, and hands over what it leads.
    pub async fn leave(&self) {
        let config = self.services.metadata.config();
        if config.roles.broker {
            self.registration.leave(&self.services.controllers).await;
        }
        let max_lag = Duration::from_millis(config.replication.lag_time_max_ms);
        leaderships::hand_over(self.groups.all(), max_lag, &|_| true).await;
    }
}

/// The metadata group, and an image that follows it.
async fn start_metadata(
    config: Arc<ServerConfig>,
    groups: &Groups,
    identity: &Identity,
    clock: Clock,
    tasks: &mut JoinSet<()>,
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
    tasks.spawn(async move {
        if let Err(error) = follower.follow(caught_up).await {
            // Going on with metadata that can't be read would be guessing.
            tracing::error!(%error, "stopping: the metadata log is not readable by this release");
            std::process::exit(1);
        }
    });
    reached.await.map_err(|_| StartError::Metadata)?;
    Ok(metadata)
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
