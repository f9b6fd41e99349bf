//! The door to storage: what can be written and read, and nothing about how.

use std::sync::Arc;

use bytes::Bytes;
use ottla_proto::ids::{GroupId, PartitionId};

use crate::health::Trouble;
use crate::keys::StateKey;

/// The part of a record batch that the broker sets: base offset i64, length i32, leader epoch i32.
/// It lies outside the batch's CRC (KIP-98).
pub const BATCH_HEAD_BYTES: usize = 16;

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("storage failed: {0}")]
    Io(Arc<str>),
    #[error("{what} is damaged: {detail}")]
    Damaged { what: String, detail: String },
    /// There is too little space for it now; later there may be.
    #[error("the disk is full: new records are refused until there is space")]
    DiskFull,
    /// A write or sync failed: none is taken until the process is started again.
    #[error("storage takes no writes since this failed: {0}")]
    Failed(Arc<str>),
    /// Acknowledged data is not there any more. The message says what an operator can do.
    #[error("{0}")]
    Lost(String),
    #[error("storage is closed")]
    Closed,
}

impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> std::io::Error {
        std::io::Error::other(error)
    }
}

/// A row of the sparse index of one partition: about one in `INDEX_INTERVAL_BYTES` of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRow {
    pub base_offset: i64,
    /// Highest record timestamp from the log start offset, as it was then, up to and with this batch, ms.
    /// Mostly it rises from row to row; it falls where the record that had it was deleted.
    pub max_timestamp_ms: i64,
    /// Highest record timestamp from the row before up to and with this batch, ms; of the row's own batch
    /// that one tells.
    pub interval_timestamp_ms: i64,
    /// Bytes of the partition's log before this batch, since its first record ever.
    pub position_bytes: u64,
}

#[derive(Clone, Debug)]
pub enum Op {
    PutRaft {
        group: GroupId,
        index: u64,
        row: Bytes,
    },
    /// Raft rows `from..to`.
    DeleteRaft {
        group: GroupId,
        from: u64,
        to: u64,
    },
    /// One batch: `head` is its first 16 bytes, `body` the rest.
    PutBatch {
        partition: PartitionId,
        base_offset: i64,
        head: Bytes,
        body: Bytes,
    },
    PutIndex {
        partition: PartitionId,
        row: IndexRow,
    },
    /// Batches and index rows with base offsets `from..to`, about `bytes` of them.
    DeleteBatches {
        partition: PartitionId,
        from: i64,
        to: i64,
        bytes: u64,
    },
    /// Another batch in the place of the one at `base_offset`, which took `freed_bytes` more.
    ReplaceBatch {
        partition: PartitionId,
        base_offset: i64,
        batch: Bytes,
        freed_bytes: u64,
    },
    /// One batch of `bytes`. Its index row stays; for many in a row see [`Op::DeleteBatches`].
    DeleteBatch {
        partition: PartitionId,
        base_offset: i64,
        bytes: u64,
    },
    DeleteIndex {
        partition: PartitionId,
        base_offset: i64,
    },
    PutState {
        key: StateKey,
        value: Bytes,
    },
    DeleteState {
        key: StateKey,
    },
}

impl Op {
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Op::PutRaft { row, .. } => row.len(),
            Op::PutBatch { body, .. } => BATCH_HEAD_BYTES + body.len(),
            Op::ReplaceBatch { batch, .. } => batch.len(),
            Op::PutState { value, .. } => value.len(),
            _ => 32,
        }
    }

    pub(crate) fn freed_bytes(&self) -> u64 {
        match self {
            Op::DeleteBatches { bytes, .. } | Op::DeleteBatch { bytes, .. } => *bytes,
            Op::ReplaceBatch { freed_bytes, .. } => *freed_bytes,
            _ => 0,
        }
    }
}

/// Called once, from the writer thread, with the outcome of a write. Must be quick.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// An atomic set of operations.
pub struct Write {
    pub ops: Vec<Op>,
    /// False only for what may be lost without harm; it still keeps its place in the order.
    pub sync: bool,
    pub done: Done,
}

/// Ordered durable writes, and reads of what was written. Reads block: call them off the reactor.
pub trait Store: Send + Sync + 'static {
    /// Queues a write. Reads may see it any time from now on; it is durable when `done` says so.
    fn submit(&self, write: Write);

    /// Submits and waits. For start-up, votes and shutdown; not for the hot path.
    fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |result| drop(sender.send(result)));
        self.submit(Write {
            ops,
            sync: true,
            done,
        });
        receiver.recv().map_err(|_| StoreError::Closed)?
    }

    /// Asks for leave to write little, as committed offsets are. What frees space need not ask.
    fn admit_small(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Asks for room for `bytes` of new records.
    fn admit(&self, _bytes: usize) -> Result<(), StoreError> {
        Ok(())
    }

    /// How often an operator accepted that acknowledged data is lost.
    fn losses(&self) -> u64 {
        0
    }

    /// Whether the operator accepts it at this start.
    fn accepts_loss(&self) -> bool {
        false
    }

    /// Why not every write is taken now.
    fn trouble(&self) -> Option<Trouble> {
        None
    }

    /// Raft rows from `from` up to (not with) `to`, at least one if there is one, then up to `max_bytes`.
    fn raft_rows(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// The last raft row of a group.
    fn last_raft_row(&self, group: GroupId) -> Result<Option<(u64, Bytes)>, StoreError>;

    /// Whole batches from the one that holds `offset` (or the next one after it), with base offsets
    /// below `end_offset`. The first is returned whatever its size, more while they fit `max_bytes`.
    fn batches(
        &self,
        partition: PartitionId,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError>;

    /// The last index row at or below `offset`.
    fn index_at(&self, partition: PartitionId, offset: i64)
    -> Result<Option<IndexRow>, StoreError>;

    /// Index rows from base offset `from` on, at most `max_rows`.
    fn index_rows(
        &self,
        partition: PartitionId,
        from: i64,
        max_rows: usize,
    ) -> Result<Vec<IndexRow>, StoreError>;

    fn state(&self, key: StateKey) -> Result<Option<Bytes>, StoreError>;

    /// All `state` rows of a tag and group, by id.
    fn states(&self, tag: crate::Tag, group: GroupId) -> Result<Vec<(u64, Bytes)>, StoreError>;
}
