//! A replication group as the broker uses it.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use ottla_log::{IndexRow, StoreError};
use ottla_proto::ids::{GroupId, PartitionId};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::command::{Command, Outcome};
use crate::group_log::GroupLog;
use crate::groups::Tuning;
use crate::lease::Lease;
use crate::members::Followers;
use crate::partition::Partition;
use crate::peers::Peers;
use crate::producer_memory::ProducerMemory;
use crate::sequencer::Request;
use crate::storage::StateMachine;
use crate::types::{LogId, TypeConfig};

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

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

/// An append whose place in the log order is taken; await its outcome, one per command.
pub struct Ticket(oneshot::Receiver<Result<Vec<Outcome>, AppendError>>);

impl Ticket {
    pub async fn outcome(self) -> Result<Vec<Outcome>, AppendError> {
        self.0.await.unwrap_or(Err(AppendError::Stopped))
    }
}

pub struct Group {
    pub id: GroupId,
    /// This replica's id in the group.
    pub replica: u64,
    pub(crate) log: Arc<GroupLog>,
    pub(crate) raft: Raft,
    pub(crate) requests: mpsc::UnboundedSender<Request>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) tuning: Tuning,
    pub(crate) lease: Arc<Lease>,
    /// Until then this replica votes for nobody: it may have promised so before it started again.
    pub(crate) votes_from: Instant,
    /// Who follows, and how closely; kept while this replica leads.
    pub(crate) followers: Mutex<Followers>,
    /// Counts how often this replica led without a majority for too long.
    pub(crate) lost: watch::Sender<u64>,
    /// The membership that no longer has this replica, once its leader said so.
    pub(crate) removed: watch::Sender<Option<LogId>>,
    /// Held while a snapshot is received.
    pub(crate) receiving: tokio::sync::Mutex<()>,
    pub(crate) producers: Arc<ProducerMemory>,
}

impl Group {
    pub fn partition(&self, id: PartitionId) -> Arc<Partition> {
        self.log.partition(id)
    }

    /// Every partition that the group's log or a caller has named.
    pub fn partition_ids(&self) -> Vec<PartitionId> {
        self.log.partition_ids()
    }

    /// The leader epoch in which this replica serves: it leads, has applied an entry of that term, and
    /// a majority has answered it within the lease. A reader that must not see an old leader's answer
    /// asks once more after it has read: a process that was paused in between finds its lease over.
    ///
    /// openraft ends a group's instance when its storage fails, and leaves what it published of the
    /// server's state: a replica alone in its group goes on to serve reads of what is committed, as
    /// nobody else can have been elected. With others its lease is not renewed any more.
    pub fn leader_epoch(&self) -> Option<i32> {
        let term = self.log.applied_term();
        let alone = {
            let metrics = self.raft.server_metrics();
            let seen = metrics.borrow_watched();
            if !seen.state.is_leader() || seen.vote.leader_id().term != term {
                return None;
            }
            let voters = seen.membership_config.membership().get_joint_config();
            voters.len() == 1 && voters[0].len() == 1
        };
        (alone || self.lease.holds(&self.raft)).then_some(term as i32)
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

    /// Takes the next place in the group's order for these commands, in the leader epoch of now. `bytes`
    /// is their record data.
    pub fn append(
        &self,
        commands: Vec<Command>,
        bytes: usize,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Ticket {
        match self.leader_epoch() {
            Some(epoch) => self.append_in_epoch(epoch, commands, bytes, permit),
            None => {
                let (reply, receiver) = oneshot::channel();
                let _ = reply.send(Err(AppendError::NotLeader));
                Ticket(receiver)
            }
        }
    }

    /// As [`Group::append`], in the leader epoch that the caller has seen: under any other one nothing
    /// is appended, even if this replica leads again.
    pub fn append_in_epoch(
        &self,
        epoch: i32,
        commands: Vec<Command>,
        bytes: usize,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Ticket {
        let (reply, receiver) = oneshot::channel();
        // A refused send drops `reply`, and the ticket says that the group has stopped.
        let _ = self.requests.send(Request {
            epoch,
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
        match self.log.write(ops).await {
            Ok(()) => self.log.checkpoint_stored(checkpoint),
            Err(error) => {
                tracing::error!(%error, group = %self.id, "a checkpoint was not written");
            }
        }
    }
}
