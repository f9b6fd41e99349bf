//! What the runtime asks of a sink. The runtime knows no sink, and a sink knows no runtime.
//!
//! The runtime calls one task's methods one after the other, from one thread:
//!
//! 1. [`SinkTask::open`] when topic-partitions are assigned, with what is committed for each.
//! 2. [`SinkTask::put`] with records of open topic-partitions, in the order of their offsets. Records that
//!    were filtered or dead-lettered do not come; [`SinkTask::passed`] says how far the runtime is.
//! 3. [`SinkTask::pre_commit`] at times: what to commit. The runtime commits it under its group
//!    generation, and says [`SinkTask::committed`] once that is durable. A stale task's commit is fenced
//!    there, so that its plan never becomes durable and its objects are never written.
//! 4. [`SinkTask::flush`] does the work that needs no new records: writes what may be written, closes what
//!    the clock says.
//! 5. [`SinkTask::close`] when topic-partitions are taken away; [`SinkTask::stop`] at the end.
//!
//! All methods return without waiting for the network: a sink that talks keeps its requests in flight and
//! says what became of them in `flush` and `pre_commit`. Time is an argument.

use std::sync::Arc;

use crate::data::{RawRecord, SinkRecord};
use crate::error::ConnectError;
use crate::rotate::Commit;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// How a sink's operation failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SinkError {
    /// It may work later: the same call is made again. Nothing of the call was done. `put` never says
    /// so: a sink that takes records tries again by itself.
    #[error("{0}")]
    Retriable(ConnectError),
    /// The task cannot go on: it is shown FAILED with this.
    #[error("{0}")]
    Fatal(ConnectError),
}

/// A record that the sink cannot write, however often it is tried. By `errors.tolerance` it becomes a dead
/// letter, or the task fails.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRecord {
    pub record: Arc<RawRecord>,
    pub error: ConnectError,
}

/// What became of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Records that cannot be written, of this batch or an earlier one. All others are taken.
    pub bad: Vec<BadRecord>,
    /// Topic-partitions from which nothing more should come for now, because the sink is behind.
    pub pause: Vec<TopicPartition>,
    pub resume: Vec<TopicPartition>,
    /// When the sink has something to do next, in milliseconds since 1970.
    pub wake_ms: Option<i64>,
    /// Whether what `pre_commit` has to say should not wait for the next interval.
    pub commit: bool,
    /// Records of which the output was there already, from before a crash.
    pub duplicates: u64,
    /// Manifests that were written.
    pub manifests: u64,
}

/// A topic-partition as it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    pub partition: TopicPartition,
    /// Where reading begins: the committed offset and its metadata.
    pub committed: Commit,
    /// Of the brokers; `None` if they have not told.
    pub cluster_id: Option<String>,
}

pub trait SinkTask: Send {
    /// Whether a record that the brokers compact away would be missed. Compacted topics are refused then, before
    /// [`SinkTask::open`].
    fn needs_every_record(&self) -> bool {
        false
    }

    fn open(&mut self, partitions: Vec<Assigned>, now_ms: i64) -> Result<(), SinkError>;

    /// Takes records, of any open topic-partitions. An empty batch is allowed.
    fn put(&mut self, records: Vec<SinkRecord>, now_ms: i64) -> Result<Report, SinkError>;

    /// The offsets from where the last call ended up to `position`, which is not one of them, were not put, all
    /// for this reason.
    fn passed(
        &mut self,
        partition: &TopicPartition,
        position: i64,
        why: Passed,
    ) -> Result<(), SinkError>;

    /// Writes what may be written, and looks at what was. `deadline_ms` is set when the task must be done
    /// by then, because topic-partitions are about to be taken away.
    fn flush(&mut self, now_ms: i64, deadline_ms: Option<i64>) -> Result<Report, SinkError>;

    /// What to commit now, for topic-partitions where it differs from what was committed last.
    fn pre_commit(&mut self, now_ms: i64) -> Result<Vec<(TopicPartition, Commit)>, SinkError>;

    /// The last answer of `pre_commit` is durable.
    fn committed(&mut self, now_ms: i64) -> Result<(), SinkError>;

    /// Forgets these topic-partitions. What is not written is read again by whoever gets them.
    fn close(&mut self, partitions: &[TopicPartition]) -> Result<(), SinkError>;

    fn stop(&mut self);
}

/// Why an offset has no record in any output: for manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Dropped by a transform.
    Filtered,
    /// It failed, and its dead letter is acknowledged.
    DeadLettered,
    /// It failed, and is tolerated without a dead letter; or the sink is told to leave such records out.
    Skipped,
    /// The brokers have no record there for a consumer: a transaction's marker, an aborted one's records, or
    /// records that are compacted away or deleted.
    NoRecord,
}
