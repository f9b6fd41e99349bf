//! A replication group as the broker uses it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, EmptyNode, SnapshotPolicy};
use ottla_log::{IndexRow, Store, StoreError, Trouble, Write};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::CHECKPOINT_ENTRIES;
use ottla_proto::memory::MemoryShares;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::command::{Command, Outcome};
use crate::group_log::GroupLog;
use crate::network::NoPeers;
use crate::partition::{Partition, TailCache};
use crate::producer_memory::ProducerMemory;
use crate::sequencer::{self, Request};
use crate::storage::{LogStorage, StateMachine};
use crate::sweep;
use crate::types::TypeConfig;

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
/// Milliseconds since the epoch. Injected, so that simulations own time.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("this replica does not lead the group")]
    NotLeader,
    /// It may or may not be in the log: the client must try again, and idempotence sorts it out.
    #[error("leadership changed before the outcome was known")]
    Unknown,
    #[error("the group has stopped")]
    Stopped,
    #[error("there is no room for more idempotent producers")]
    TooManyProducers,
}

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("group {0} could not start: {1}")]
    Start(GroupId, String),
}

/// An append whose place in the log order is taken; await its outcome, one per command.
pub struct Ticket(oneshot::Receiver<Result<Vec<Outcome>, AppendError>>);

impl Ticket {
    pub async fn outcome(self) -> Result<Vec<Outcome>, AppendError> {
        self.0.await.unwrap_or(Err(AppendError::Stopped))
    }
}

/// All replication groups of a broker, with what they share.
pub struct Groups {
    store: Arc<dyn Store>,
    tail_cache: Arc<TailCache>,
    producers: Arc<ProducerMemory>,
    permits: Arc<Semaphore>,
    append_queue_bytes: usize,
    clock: Clock,
    producer_expiration_ms: Arc<AtomicI64>,
    groups: RwLock<HashMap<GroupId, Arc<Group>>>,
}

impl Groups {
    pub fn new(store: Arc<dyn Store>, clock: Clock, memory: &MemoryShares) -> Groups {
        Groups {
            store,
            tail_cache: Arc::new(TailCache::new(memory.tail_cache_bytes)),
            producers: Arc::new(ProducerMemory::new(memory.producer_bytes)),
            permits: Arc::new(Semaphore::new(memory.append_queue_bytes)),
            append_queue_bytes: memory.append_queue_bytes,
            clock,
            producer_expiration_ms: Arc::new(AtomicI64::new(86_400_000)),
            groups: RwLock::default(),
        }
    }

    /// `producer.id.expiration.ms` for entries built from now on.
    pub fn set_producer_expiration_ms(&self, expiration_ms: i64) {
        self.producer_expiration_ms
            .store(expiration_ms, Ordering::Relaxed);
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
        self.groups
            .read()
            .expect("never poisoned")
            .get(&id)
            .cloned()
    }

    /// Starts a group whose only member is `replica`, or continues it if it was here before.
    pub async fn start_alone(&self, id: GroupId, replica: u64) -> Result<Arc<Group>, GroupError> {
        let (store, cache) = (self.store.clone(), self.tail_cache.clone());
        let producers = self.producers.clone();
        let open = move || GroupLog::open(id, replica, store, cache, producers);
        let opened = tokio::task::spawn_blocking(open).await;
        let log = Arc::new(opened.map_err(|e| GroupError::Start(id, e.to_string()))??);
        let fail = |e: String| GroupError::Start(id, e);
        let config = config(id).map_err(|e| fail(e.to_string()))?;
        let raft = Raft::new(
            replica,
            config,
            NoPeers,
            LogStorage(log.clone()),
            StateMachine(log.clone()),
        )
        .await
        .map_err(|e| fail(e.to_string()))?;
        if raft
            .is_initialized()
            .await
            .map_err(|e| fail(e.to_string()))?
        {
            // Alone in its group: nobody can be deposed by this.
            raft.trigger()
                .elect(false)
                .await
                .map_err(|e| fail(e.to_string()))?;
        } else {
            let members = BTreeMap::from([(replica, EmptyNode {})]);
            raft.initialize(members)
                .await
                .map_err(|e| fail(e.to_string()))?;
        }
        let (requests, receiver) = mpsc::unbounded_channel();
        let (clock, expiration) = (self.clock.clone(), self.producer_expiration_ms.clone());
        tokio::spawn(sequencer::run(
            raft.clone(),
            receiver,
            clock.clone(),
            expiration.clone(),
        ));
        let group = Arc::new(Group {
            id,
            log,
            raft,
            requests,
            producers: self.producers.clone(),
        });
        let weak = Arc::downgrade(&group);
        let memory = self.producers.clone();
        tokio::spawn(sweep::run(weak, memory, clock, expiration));
        self.groups
            .write()
            .expect("never poisoned")
            .insert(id, group.clone());
        Ok(group)
    }

    /// Stops every group after a last checkpoint, so that the next start replays nothing.
    pub async fn shutdown(&self) {
        let groups: Vec<_> = self
            .groups
            .write()
            .expect("never poisoned")
            .drain()
            .collect();
        for (_, group) in groups {
            group.checkpoint().await;
            if let Err(error) = group.raft.shutdown().await {
                tracing::error!(%error, group = %group.id, "a group did not stop cleanly");
            }
        }
    }
}

fn config(id: GroupId) -> Result<Arc<Config>, openraft::ConfigError> {
    let config = Config {
        cluster_name: id.to_string(),
        heartbeat_interval: 250,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(CHECKPOINT_ENTRIES),
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 256,
        enable_pre_vote: Some(true),
        // Its own election at start gives each life of a leader its own leader epoch.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    Ok(Arc::new(config.validate()?))
}

pub struct Group {
    pub id: GroupId,
    pub(crate) log: Arc<GroupLog>,
    raft: Raft,
    requests: mpsc::UnboundedSender<Request>,
    producers: Arc<ProducerMemory>,
}

impl Group {
    pub fn partition(&self, id: PartitionId) -> Arc<Partition> {
        self.log.partition(id)
    }

    /// Every partition that the group's log or a caller has named.
    pub fn partition_ids(&self) -> Vec<PartitionId> {
        self.log.partition_ids()
    }

    /// The leader epoch in which this replica serves: it leads, and has applied an entry of that term.
    ///
    /// openraft ends a group's instance when its storage fails, and leaves what it published of the
    /// server's state: a replica alone in its group goes on to serve reads of what is committed, as
    /// nobody else can have been elected.
    pub fn leader_epoch(&self) -> Option<i32> {
        let term = self.log.applied_term();
        let metrics = self.raft.server_metrics();
        let leads = {
            let seen = metrics.borrow_watched();
            seen.state.is_leader() && seen.vote.leader_id().term == term
        };
        leads.then_some(term as i32)
    }

    /// Waits until this replica serves as leader; the leader epoch.
    pub async fn wait_for_leadership(&self, timeout: Duration) -> Option<i32> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut applied = self.raft.metrics();
        loop {
            if let Some(epoch) = self.leader_epoch() {
                return Some(epoch);
            }
            // Applying is published after it happened, so a change may come a moment late.
            let soon = (tokio::time::Instant::now() + Duration::from_millis(20)).min(deadline);
            let _ = tokio::time::timeout_at(soon, applied.changed()).await;
            if tokio::time::Instant::now() >= deadline {
                return self.leader_epoch();
            }
        }
    }

    /// Takes the next place in the group's order for these commands. `bytes` is their record data.
    pub fn append(
        &self,
        commands: Vec<Command>,
        bytes: usize,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Ticket {
        let (reply, receiver) = oneshot::channel();
        // A refused send drops `reply`, and the ticket says that the group has stopped.
        let _ = self.requests.send(Request {
            commands,
            bytes,
            reply,
            permit,
        });
        Ticket(receiver)
    }

    /// Asks for room for a batch's producer, before anything is appended: one that is not known finds
    /// none when all producers of the process together take their share of the memory.
    pub fn admit_producer(
        &self,
        partition: &Partition,
        producer_id: i64,
    ) -> Result<(), AppendError> {
        if self.producers.has_room() || partition.knows_producer(producer_id) {
            return Ok(());
        }
        self.producers.refused("the share of the memory is");
        Err(AppendError::TooManyProducers)
    }

    /// Asks the store for leave to write little.
    pub fn admit_small(&self) -> Result<(), StoreError> {
        self.log.store().admit_small()
    }

    /// Reads committed batches: the cache first, then the disk. Blocks on the disk; see
    /// [`Partition::read_cached`] for what is returned.
    pub fn read(
        &self,
        partition: &Partition,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        match partition.read_cached(offset, end_offset, max_bytes) {
            Some(found) => Ok(found),
            None => self
                .log
                .store()
                .batches(partition.id, offset, end_offset, max_bytes),
        }
    }

    /// The last row of the sparse index at or below `offset`. Blocks on the disk.
    pub fn index_at(
        &self,
        partition: PartitionId,
        offset: i64,
    ) -> Result<Option<IndexRow>, StoreError> {
        self.log.store().index_at(partition, offset)
    }

    /// Writes a checkpoint now.
    pub async fn checkpoint(&self) {
        let (checkpoint, ops) = self.log.checkpoint_ops();
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        self.log.store().submit(Write {
            ops,
            sync: true,
            done,
        });
        match receiver.await {
            Ok(Ok(())) => self.log.checkpoint_stored(checkpoint),
            _ => tracing::error!(group = %self.id, "a checkpoint was not written"),
        }
    }
}
