//! An encoder for Fetch responses, versions 4 to 18, that leaves the records where they are.
//!
//! `kafka-protocol` copies every record batch into its buffer. Here the fields between the records
//! are written into one buffer, and the answer is that buffer cut where the records go, with the
//! record slices in between: one vectored write sends it.
//!
//! What a version lacks is left out: error code and session id before 7, log start offset before 5,
//! the preferred read replica before 11, the tagged fields before 12, node endpoints before 16; a
//! topic is told by name up to 12 and by id from 13 on (KIP-516). Records are never null: no record
//! is a length of zero, because librdkafka does not take -1.

mod encode;

use std::ops::RangeInclusive;

use bytes::Bytes;
use uuid::Uuid;

pub use encode::encode;

/// The versions that [`encode`] writes.
pub const VERSIONS: RangeInclusive<i16> = 4..=18;

/// The whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchResponse<'a> {
    pub throttle_time_ms: i32,
    /// Kafka's code for an error of the request or the session.
    pub error_code: i16,
    /// 0 for no session.
    pub session_id: i32,
    pub topics: Vec<Topic<'a>>,
    /// Where the leaders named in [`Partition::current_leader`] listen (KIP-951).
    pub node_endpoints: Vec<NodeEndpoint<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topic<'a> {
    /// At most `i16::MAX` bytes.
    pub name: &'a str,
    pub id: Uuid,
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    /// Kafka's error code; 0 for none.
    pub error_code: i16,
    /// -1 where it is not known, as beside an error.
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Under read_committed the aborted transactions that overlap the records, by first offset;
    /// `None` under read_uncommitted.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The broker to fetch from instead (KIP-392); -1 for this one.
    pub preferred_read_replica: i32,
    /// Where the log of the fetcher and this one part (KIP-595).
    pub diverging_epoch: Option<EpochEndOffset>,
    /// The leader, where it is not this broker (KIP-951).
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// The snapshot to fetch first (KIP-595).
    pub snapshot_id: Option<SnapshotId>,
    /// Whole batches, in order.
    pub records: Vec<Bytes>,
}

impl Default for Partition {
    fn default() -> Self {
        Partition {
            index: 0,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            records: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotId {
    pub end_offset: i64,
    pub epoch: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    pub node_id: i32,
    pub host: &'a str,
    pub port: i32,
    pub rack: Option<&'a str>,
}

/// An encoded answer: what goes to the socket, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// The first begins with the frame's length and the response header.
    pub segments: Vec<Bytes>,
    /// All segments together.
    pub size_bytes: usize,
}
