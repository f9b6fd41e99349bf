//! All replication groups of a broker, with what they share: storage, memory, peers, time.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, EmptyNode, SnapshotPolicy};
use ottla_log::{StateKey, Store, StoreError, Tag, Trouble};
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::{
    CHECKPOINT_ENTRIES, ELECTION_STAGGER_MS, ELECTION_TIMEOUT_MAX_MS, ELECTION_TIMEOUT_MIN_MS,
    HEARTBEAT_MS, RAFT_KEEP_BYTES, RAFT_PURGE_ENTRIES,
};
use ottla_proto::memory::MemoryShares;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::cut;
use crate::group::{Group, Raft};
use crate::group_log::GroupLog;
use crate::lease::Lease;
use crate::network::Network;
use crate::off_reactor;
use crate::partition::TailCache;
use crate::peers::Peers;
use crate::producer_memory::ProducerMemory;
use crate::sequencer;
use crate::serve;
use crate::storage::{LogStorage, StateMachine};
use crate::sweep;
use crate::transport::{Channel, Connection, NoTransport, Transport, node_of};
use crate::types;
use crate::watch as group_watch;

/// Milliseconds since the epoch. Injected, so that simulations own time.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("group {0} could not start: {1}")]
    Start(GroupId, String),
}

/// How fast groups notice and elect, and what they keep. Simulations and tests choose their own.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub heartbeat: Duration,
    /// Followers wait this long for their leader, at random between the two, and do not vote against it
    /// for the longer one.
    pub election_min: Duration,
    pub election_max: Duration,
    /// How long a leader serves without an answer of a majority: less than any member's `election_max`.
    pub lease: Duration,
    /// Between the votes of followers that see their leader's process gone.
    pub stagger: Duration,
    /// Entries between two checkpoints.
    pub checkpoint_entries: u64,
    /// Raft rows kept for followers that lag, bytes.
    pub keep_row_bytes: u64,
    /// Entries between two purges of them.
    pub purge_entries: u64,
    /// Where random numbers begin.
    pub seed: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            election_min: Duration::from_millis(ELECTION_TIMEOUT_MIN_MS),
            election_max: Duration::from_millis(ELECTION_TIMEOUT_MAX_MS),
            lease: Duration::from_millis(ELECTION_TIMEOUT_MIN_MS),
            stagger: Duration::from_millis(ELECTION_STAGGER_MS),
            checkpoint_entries: CHECKPOINT_ENTRIES,
            keep_row_bytes: RAFT_KEEP_BYTES,
            purge_entries: RAFT_PURGE_ENTRIES,
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}

impl Tuning {
    /// For simulations: nothing is left to chance but what follows from `seed`, and checkpoints, purges and
    /// snapshots happen within seconds.
    pub fn simulated(seed: u64) -> Tuning {
        Tuning {
            seed,
            checkpoint_entries: 20,
            keep_row_bytes: 4 << 10,
            purge_entries: 16,
            ..Tuning::default()
        }
    }
}

/// The groups that run here, by id.
#[derive(Default)]
pub(crate) struct Directory(RwLock<HashMap<GroupId, Arc<Group>>>);

impl Directory {
    pub fn get(&self, id: GroupId) -> Option<Arc<Group>> {
        self.0.read().expect("never poisoned").get(&id).cloned()
    }

    /// The group that a message of `node` is for, if replica `to` of it is what runs here, and `from`
    /// belongs to who says so.
    pub fn asked(
        &self,
        node: NodeId,
        id: GroupId,
        from: u64,
        to: u64,
    ) -> Result<Arc<Group>, String> {
        match node_of(from) == node {
            true => self.replica(id, to),
            false => Err(format!("node {node} speaks for replica {from} of another")),
        }
    }

    /// The group, if `replica` of it is what runs here.
    fn replica(&self, id: GroupId, replica: u64) -> Result<Arc<Group>, String> {
        match self.get(id) {
            None => Err(format!("group {id} does not run here")),
            Some(group) if group.replica != replica => {
                Err(format!("replica {replica} of group {id} is no longer here"))
            }
            Some(group) => Ok(group),
        }
    }
}

pub struct Groups {
    store: Arc<dyn Store>,
    tail_cache: Arc<TailCache>,
    producers: Arc<ProducerMemory>,
    permits: Arc<Semaphore>,
    append_queue_bytes: usize,
    clock: Clock,
    producer_expiration_ms: Arc<AtomicI64>,
    directory: Arc<Directory>,
    peers: Arc<Peers>,
    /// False for a node that runs alone: its groups keep nothing for followers.
    clustered: bool,
    tuning: Tuning,
}

impl Groups {
    /// Groups of a node that runs alone.
    pub fn new(store: Arc<dyn Store>, clock: Clock, memory: &MemoryShares) -> Groups {
        let (nobody, tuning) = (Arc::new(NoTransport), Tuning::default());
        let mut groups = Groups::clustered(store, clock, memory, nobody, tuning);
        groups.clustered = false;
        groups
    }

    /// Groups whose replicas on other nodes are reached over `transport`.
    pub fn clustered(
        store: Arc<dyn Store>,
        clock: Clock,
        memory: &MemoryShares,
        transport: Arc<dyn Transport>,
        tuning: Tuning,
    ) -> Groups {
        Groups {
            store,
            tail_cache: Arc::new(TailCache::new(memory.tail_cache_bytes)),
            producers: Arc::new(ProducerMemory::new(memory.producer_bytes)),
            permits: Arc::new(Semaphore::new(memory.append_queue_bytes)),
            append_queue_bytes: memory.append_queue_bytes,
            clock,
            producer_expiration_ms: Arc::new(AtomicI64::new(86_400_000)),
            directory: Arc::default(),
            peers: Peers::new(transport),
            clustered: true,
            tuning,
        }
    }

    /// Whether other nodes may have replicas of these groups.
    pub fn is_clustered(&self) -> bool {
        self.clustered
    }

    /// `producer.id.expiration.ms` for entries built from now on.
    pub fn set_producer_expiration_ms(&self, expiration_ms: i64) {
        self.producer_expiration_ms
            .store(expiration_ms, Ordering::Relaxed);
    }

    /// Bytes of snapshots that may leave this node in a second, to all peers together; `None`: no bound.
    pub fn set_snapshot_rate(&self, bytes_per_second: Option<u64>) {
        self.peers.throttle.set(bytes_per_second);
    }

    /// Asks the store for room for `bytes` of new records, before anything is appended.
    pub fn admit(&self, bytes: usize) -> Result<(), StoreError> {
        self.store.admit(bytes)
    }

    /// Why the store does not take every write now.
    pub fn trouble(&self) -> Option<Trouble> {
        self.store.trouble()
    }

    /// Bytes of records in the tail cache.
    pub fn tail_cache_bytes(&self) -> usize {
        self.tail_cache.bytes()
    }

    /// Bytes that idempotent producers take.
    pub fn producer_bytes(&self) -> usize {
        self.producers.bytes()
    }

    /// Waits for room for `bytes` of records. Taking it before [`Group::append`] bounds what is queued.
    pub async fn reserve(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = bytes.min(self.append_queue_bytes) as u32;
        self.permits
            .clone()
            .acquire_many_owned(bytes)
            .await
            .expect("the semaphore is never closed")
    }

    pub fn get(&self, id: GroupId) -> Option<Arc<Group>> {
        self.directory.get(id)
    }

    pub fn all(&self) -> Vec<Arc<Group>> {
        let groups = self.directory.0.read().expect("never poisoned");
        groups.values().cloned().collect()
    }

    /// Serves a connection that `node` has opened, until it ends.
    pub async fn serve(&self, node: NodeId, channel: Channel, connection: Connection) {
        let _inbound = self.clustered.then(|| self.peers.inbound(node));
        serve::serve(self.directory.clone(), node, channel, connection).await;
    }

    /// Starts a group whose only member is `replica`, or continues it if it was here before.
    pub async fn start_alone(&self, id: GroupId, replica: u64) -> Result<Arc<Group>, GroupError> {
        self.start(id, replica, &[replica]).await
    }

    /// Starts this node's replica of a group, or continues it. A group that has never run begins with
    /// `members`, which every one of them is given alike; the first is preferred to lead. Without
    /// members the replica waits until a leader adds it.
    pub async fn start(
        &self,
        id: GroupId,
        replica: u64,
        members: &[u64],
    ) -> Result<Arc<Group>, GroupError> {
        let fail = |e: String| GroupError::Start(id, e);
        let (store, cache) = (self.store.clone(), self.tail_cache.clone());
        let (producers, clustered) = (self.producers.clone(), self.clustered);
        let open = move || GroupLog::open(id, replica, store, cache, producers, clustered);
        let opened = off_reactor(open).await?;
        let log = Arc::new(opened);
        let config = self.config(id).map_err(|e| fail(e.to_string()))?;
        let (storage, machine) = (LogStorage(log.clone()), StateMachine(log.clone()));
        let lease = Arc::new(Lease::new(replica, self.tuning.lease));
        let network = Network {
            log: log.clone(),
            lease: lease.clone(),
            replica,
            peers: self.peers.clone(),
        };
        let seed = self.tuning.seed ^ replica ^ (id.0 as u64) << 48;
        let raft = Raft::new(replica, config, network, storage, machine);
        let raft = types::seeded(seed, raft).await;
        let raft = raft.map_err(|e| fail(e.to_string()))?;
        let known = raft
            .is_initialized()
            .await
            .map_err(|e| fail(e.to_string()))?;
        let group = self.run(id, lease, log, raft.clone(), known);
        if !known && members.contains(&replica) {
            let nodes: BTreeMap<_, _> = members.iter().map(|m| (*m, EmptyNode {})).collect();
            let began = raft.initialize(nodes).await;
            began.map_err(|e| fail(e.to_string()))?;
        }
        if known && group.is_alone() {
            // Nobody can be deposed by this.
            let elected = raft.trigger().elect(false).await;
            elected.map_err(|e| fail(e.to_string()))?;
        } else if !known && members.first() == Some(&replica) && members.len() > 1 {
            tokio::spawn(group_watch::lead_first(Arc::downgrade(&group)));
        }
        Ok(group)
    }

    fn run(
        &self,
        id: GroupId,
        lease: Arc<Lease>,
        log: Arc<GroupLog>,
        raft: Raft,
        known: bool,
    ) -> Arc<Group> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let lost = watch::Sender::new(0);
        let (clock, expiration) = (self.clock.clone(), self.producer_expiration_ms.clone());
        let proposer = sequencer::run(
            raft.clone(),
            receiver,
            clock.clone(),
            expiration.clone(),
            lost.subscribe(),
        );
        tokio::spawn(proposer);
        let group = Arc::new(Group {
            id,
            replica: lease.replica,
            log,
            raft,
            requests,
            peers: self.peers.clone(),
            tuning: self.tuning,
            lease,
            votes_from: match known {
                true => Instant::now() + self.tuning.lease,
                false => Instant::now(),
            },
            followers: Mutex::default(),
            lost,
            removed: watch::Sender::new(None),
            receiving: tokio::sync::Mutex::new(()),
            producers: self.producers.clone(),
        });
        let (swept, memory) = (Arc::downgrade(&group), self.producers.clone());
        tokio::spawn(sweep::run(swept, memory, clock, expiration));
        if self.clustered {
            tokio::spawn(group_watch::run(Arc::downgrade(&group)));
        }
        let mut groups = self.directory.0.write().expect("never poisoned");
        groups.insert(id, group.clone());
        group
    }

    fn config(&self, id: GroupId) -> Result<Arc<Config>, openraft::ConfigError> {
        let ms = |d: Duration| d.as_millis() as u64;
        // Alone, a checkpoint purges. With followers the group's watch does: they may still need rows.
        let keep = if self.clustered { u64::MAX } else { 0 };
        let config = Config {
            cluster_name: id.to_string(),
            heartbeat_interval: ms(self.tuning.heartbeat),
            election_timeout_min: ms(self.tuning.election_min),
            election_timeout_max: ms(self.tuning.election_max),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.tuning.checkpoint_entries),
            max_in_snapshot_log_to_keep: keep,
            purge_batch_size: 256,
            enable_pre_vote: Some(true),
            // Its own election at start gives each life of a leader its own leader epoch.
            enable_leader_restore: Some(false),
            // Followers get an entry while the leader syncs it.
            broadcast_submitted_on_append: self.clustered.then_some(true),
            ..Config::default()
        };
        Ok(Arc::new(config.validate()?))
    }

    /// Whether this node's disk has anything of a group.
    pub async fn has_rows(&self, id: GroupId) -> Result<bool, StoreError> {
        let store = self.store.clone();
        off_reactor(move || {
            let has = |tag| Ok(store.state(StateKey::group(tag, id))?.is_some());
            Ok(has(Tag::Replica)? || has(Tag::Checkpoint)? || store.last_raft_row(id)?.is_some())
        })
        .await
    }

    /// Stops one group here, after a last checkpoint. Its rows stay.
    pub async fn stop(&self, id: GroupId) {
        self.stopped(id).await;
    }

    async fn stopped(&self, id: GroupId) -> Option<Arc<Group>> {
        let group = self
            .directory
            .0
            .write()
            .expect("never poisoned")
            .remove(&id)?;
        group.shutdown().await;
        Some(group)
    }

    /// Stops a group that this node is no member of any more, and deletes its rows and all of its
    /// partitions' data. Its vote stays: if it comes back, an old leader must not find it without memory.
    pub async fn remove(&self, id: GroupId) -> Result<(), StoreError> {
        if let Some(group) = self.stopped(id).await {
            // A pass of compaction that is under way writes nothing any more.
            let partitions = group.log.partitions();
            partitions.iter().for_each(|p| p.begin_life());
        }
        let store = self.store.clone();
        off_reactor(move || store.write(cut::leave(id, &*store)?)).await
    }

    /// Stops every group after a last checkpoint, so that the next start replays nothing.
    pub async fn shutdown(&self) {
        let groups: Vec<_> = {
            let mut groups = self.directory.0.write().expect("never poisoned");
            groups.drain().collect()
        };
        for (_, group) in groups {
            group.shutdown().await;
        }
        self.peers.close();
    }
}

impl Group {
    async fn shutdown(&self) {
        self.log.close();
        self.checkpoint().await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, group = %self.id, "a group did not stop cleanly");
        }
    }

    /// True if this replica is the only voter there is.
    pub(crate) fn is_alone(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let seen = metrics.borrow_watched();
        let mut voters = seen.membership_config.membership().voter_ids();
        voters.next() == Some(self.replica) && voters.next().is_none()
    }

    /// The node this replica lives on.
    pub fn node(&self) -> NodeId {
        node_of(self.replica)
    }
}
