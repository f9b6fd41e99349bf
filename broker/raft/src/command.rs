//! What a replication group's log carries, and what becomes of it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ottla_proto::ids::PartitionId;

/// The producer fields of a record batch (KIP-98). Absent for producers without idempotence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerMeta {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    pub last_sequence: i32,
}

/// What a group needs to know of a batch. The caller has validated it: these are facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    pub partition: PartitionId,
    /// Offsets the batch takes: its last offset delta plus one. At least 1.
    pub offsets: i32,
    pub max_timestamp_ms: i64,
    /// Size of the whole batch, its 16-byte head included.
    pub size_bytes: u32,
    pub producer: Option<ProducerMeta>,
}

/// One step of a group's log. Each is for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Appends one batch. `body` is the batch after its 16-byte head, which the group writes.
    Append { meta: BatchMeta, body: Bytes },
    /// Raises the log start offset; records before it are gone.
    Trim {
        partition: PartitionId,
        log_start_offset: i64,
    },
    /// Forgets producers that have written nothing since `silent_since_ms`, by the times of entries.
    ForgetProducers {
        partition: PartitionId,
        silent_since_ms: i64,
    },
    /// Forgets the partition and its data.
    Remove { partition: PartitionId },
}

/// What a command did. The same on every replica, because it follows from the log before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Appended {
        base_offset: i64,
    },
    /// A retry of one of the producer's last batches, which stands at this offset.
    Duplicate {
        base_offset: i64,
    },
    OutOfOrderSequence {
        expected: i32,
    },
    InvalidProducerEpoch {
        current: i16,
    },
    /// A producer that is not known, and there is no room for more.
    TooManyProducers,
    ProducersForgotten,
    Trimmed {
        log_start_offset: i64,
    },
    /// DeleteRecords beyond the log end offset.
    OffsetOutOfRange,
    Removed,
    /// The partition was removed before, in this log.
    UnknownPartition,
}

/// One entry of a group's log: commands of many partitions that share one fsync.
pub struct GroupEntry {
    /// The leader's clock when it built the entry: producer state ages by it, equally on each replica.
    pub time_ms: i64,
    /// The leader's `producer.id.expiration.ms` at that time, for the same reason.
    pub producer_expiration_ms: i64,
    pub commands: Vec<Command>,
    /// Set once, when the entry is appended to this replica's log.
    outcomes: OnceLock<Vec<Outcome>>,
}

impl GroupEntry {
    pub fn new(time_ms: i64, producer_expiration_ms: i64, commands: Vec<Command>) -> GroupEntry {
        GroupEntry {
            time_ms,
            producer_expiration_ms,
            commands,
            outcomes: OnceLock::new(),
        }
    }

    pub(crate) fn decided(self, outcomes: Vec<Outcome>) -> GroupEntry {
        GroupEntry {
            outcomes: outcomes.into(),
            ..self
        }
    }

    pub(crate) fn set_outcomes(&self, outcomes: Vec<Outcome>) {
        // A second append of the same entry (after a truncation) decides the same: the log before
        // it is the same. Otherwise Raft's log matching would be broken.
        let first = self.outcomes.get_or_init(|| outcomes.clone());
        assert_eq!(*first, outcomes, "one entry was decided in two ways");
    }

    pub(crate) fn outcomes(&self) -> &[Outcome] {
        self.outcomes
            .get()
            .expect("an entry is appended, and so decided, before anyone reads it")
    }
}

/// The form openraft carries: shared, because it stands in queue, log and tail cache at once.
#[derive(Clone)]
pub struct Payload(pub Arc<GroupEntry>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.commands.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.commands.len())
    }
}
