//! Every bound and default that is not an operator's configuration key, in one place. Units are
//! the last word of each name.

/// Target size of one replication group log entry: what one fsync carries under load.
pub const GROUP_ENTRY_BYTES: usize = 1 << 20;
/// Batches in one group log entry, whatever their size.
pub const GROUP_ENTRY_BATCHES: usize = 4096;
/// Record bytes waiting in all sequencers of a broker; producers wait above it.
pub const APPEND_QUEUE_BYTES: usize = 256 << 20;
/// Recent record batches kept in memory for apply, followers and consumers at the tail.
pub const TAIL_CACHE_BYTES: usize = 256 << 20;
/// Batches remembered per producer and partition to recognise a retry (Kafka's number).
pub const PRODUCER_REMEMBERED_BATCHES: usize = 5;
/// Bytes the writer thread puts into one RocksDB write, and so into one fsync.
pub const WRITE_BATCH_BYTES: usize = 8 << 20;
/// A partition's sparse index has about one row per this many bytes of its log.
pub const INDEX_INTERVAL_BYTES: u64 = 64 << 10;
/// Idempotent producers one partition remembers; the longest silent goes first.
pub const PRODUCERS_PER_PARTITION: usize = 10_000;
/// Full entries of one group on their way to the disk at a time.
pub const GROUP_ENTRIES_IN_FLIGHT: usize = 4;
/// Record bytes handed to replication or apply in one read of a group's log.
pub const RAFT_READ_BYTES: usize = 4 << 20;
/// Entries between two checkpoints of a group: what a start after a crash replays at most.
pub const CHECKPOINT_ENTRIES: u64 = 1000;
/// Longest metadata record.
pub const METADATA_RECORD_BYTES: usize = 128 << 10;
/// All records of one decision, which the metadata quorum replicates as one batch.
pub const METADATA_BATCH_BYTES: usize = 960 << 10;
/// New partitions of one request (Kafka's number).
pub const PARTITIONS_PER_REQUEST: usize = 10_000;
pub const PARTITIONS_PER_TOPIC: usize = 50_000;
pub const PARTITIONS_PER_CLUSTER: usize = 200_000;
/// Replication groups that the controller makes per replication factor and broker, for that broker
/// to lead. One writer serves all groups of a broker, so more of them were no faster.
pub const GROUPS_PER_BROKER: usize = 1;
/// Replication groups that a broker may be a member of; each costs about 1.3 MB and 8 tasks.
pub const GROUP_MEMBERSHIPS_PER_BROKER: usize = 64;
/// Members of the largest replication group.
pub const GROUP_MEMBERS: usize = 5;
/// Producer ids handed to a broker at a time (Kafka's number).
pub const PRODUCER_ID_BLOCK: i64 = 1000;
