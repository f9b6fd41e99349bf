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
/// Bytes the writer thread gives to RocksDB at a time: what stays in the cache while it is copied.
pub const WRITE_BATCH_BYTES: usize = 1 << 20;
/// Bytes the writer thread makes durable with one fsync, at most.
pub const SYNC_BYTES: usize = 8 << 20;
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
/// Record bytes one partition gives to one read from disk.
pub const FETCH_READ_BYTES: usize = 4 << 20;
/// Bytes that fetches may hold from reads of the disk, over all connections.
pub const FETCH_MEMORY_BYTES: usize = 256 << 20;
/// How long the controller waits to see its own committed change.
pub const METADATA_COMMIT_WAIT_MS: u64 = 10_000;
/// What one record batch may decompress to where the broker must look inside.
pub const DECOMPRESSED_BATCH_BYTES: usize = 64 << 20;
/// Batches that are decompressed at a time.
pub const BATCH_INSPECTIONS: usize = 2;
/// Requests of one connection that are read but not answered. Above it the client is not read.
pub const REQUESTS_IN_FLIGHT_PER_CONNECTION: usize = 64;
/// Requests up to this size are read without asking for room.
pub const READ_BUFFER_BYTES: usize = 64 << 10;
/// A client that takes no byte of its answer for this long is disconnected.
pub const RESPONSE_WAIT_MS: u64 = 60_000;
/// Pause between looks at a first frame of which one to three bytes have come.
pub const PREFACE_WAIT_MS: u64 = 10;
/// Bytes of requests above `READ_BUFFER_BYTES` that are being read, over all connections.
pub const REQUEST_MEMORY_BYTES: usize = 512 << 20;
/// A frame that has begun must be whole after this long.
pub const FRAME_WAIT_MS: u64 = 60_000;
/// Parallel reads of the disk within one fetch.
pub const COLD_READS_PER_FETCH: usize = 4;
/// How long a starting group may take to elect before its partitions are served without a leader.
pub const GROUP_START_WAIT_MS: u64 = 10_000;
/// How long a stopping broker waits for requests that are being answered.
pub const SHUTDOWN_WAIT_MS: u64 = 10_000;
/// Scrapers that may ask for metrics at a time.
pub const METRICS_CONNECTIONS: usize = 16;
/// A scraper must have sent its request after this long.
pub const METRICS_HEADER_WAIT_MS: u64 = 5_000;
/// Files and sockets a broker asks the system for.
pub const OPEN_FILES: u64 = 65_536;
/// Commands that wait for one group coordinator shard. Above it their connections wait.
pub const COORDINATOR_QUEUE: usize = 256;
/// Commands whose records share one batch of `__consumer_offsets`.
pub const COORDINATOR_COMMANDS_PER_BATCH: usize = 256;
/// Keys and values of one batch of `__consumer_offsets`; a larger record has its own.
pub const COORDINATOR_BATCH_BYTES: usize = 256 << 10;
/// Batches of one shard on their way through replication. Above it its commands wait.
pub const COORDINATOR_APPENDS_IN_FLIGHT: usize = 16;
/// Partitions of `__consumer_offsets` that are loaded at a time.
pub const COORDINATOR_LOADS: usize = 4;
/// Pause before a partition of `__consumer_offsets` that could not be loaded is tried again.
pub const COORDINATOR_RELOAD_WAIT_MS: u64 = 1000;
/// What a record batch adds to a group record, which must stay below `max.message.bytes`.
pub const GROUP_RECORD_OVERHEAD_BYTES: usize = 512;
/// How long a broker waits to serve `__consumer_offsets` once it was made.
pub const OFFSETS_TOPIC_WAIT_MS: u64 = 5000;
/// After a failure to make `__consumer_offsets`, clients are told so for this long.
pub const OFFSETS_TOPIC_RETRY_MS: i64 = 1000;
/// Calls of one peer connection that may be open at a time.
pub const PEER_STREAMS: u32 = 256;
/// What a batch in memory costs beside its bytes: its places in queues and caches, and the rest of the
/// read buffer that it keeps alive.
pub const BATCH_OVERHEAD_BYTES: usize = 512;
/// Connections a broker takes, whatever `max.connections` says: fewer than `OPEN_FILES`.
pub const CONNECTIONS: u32 = 60_000;
/// Bytes of appends that gather in one message to a peer.
pub const PEER_FRAME_BYTES: usize = 1 << 20;
/// Longest message from a peer: one entry of the longest request, with room for what surrounds it.
pub const PEER_MESSAGE_BYTES: usize = 256 << 20;
/// Bytes of appends on their way to one peer, over all groups.
pub const PEER_IN_FLIGHT_BYTES: usize = 32 << 20;
/// Appends of one group on their way to one peer.
pub const PEER_SESSION_APPENDS: usize = 32;
/// Sessions of one connection that a node takes from a peer.
pub const PEER_SESSIONS: usize = 1024;
/// Calls of one connection that a node works on at a time.
pub const PEER_CALLS: usize = 1024;
/// HTTP/2: one call's window, a connection's window, a frame.
pub const PEER_STREAM_WINDOW_BYTES: u32 = 16 << 20;
pub const PEER_CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
pub const PEER_HTTP2_FRAME_BYTES: u32 = 1 << 20;
/// Silence on a link with open questions after which the peer is pinged, and given up.
pub const PEER_PING_MS: u64 = 1000;
pub const PEER_SILENCE_MS: u64 = 3000;
/// How long a dial may take.
pub const PEER_DIAL_MS: u64 = 1000;
/// Pauses between dials of a peer that does not answer: the first, the longest.
pub const PEER_REDIAL_MIN_MS: u64 = 20;
pub const PEER_REDIAL_MAX_MS: u64 = 500;
/// How often a leader tells its followers that it is there.
pub const HEARTBEAT_MS: u64 = 200;
/// Silence of a leader after which followers look for another one: drawn between the two.
/// A leader serves reads for the shorter one after a majority has answered it, and followers refuse
/// to vote for the longer one.
pub const ELECTION_TIMEOUT_MIN_MS: u64 = 600;
pub const ELECTION_TIMEOUT_MAX_MS: u64 = 1000;
/// Once a leader's process is seen to be gone, its followers ask for votes one after another, this far
/// apart; the first waits once, so that the others have seen it, too.
pub const ELECTION_STAGGER_MS: u64 = 50;
/// How often a leader looks at how far its followers are.
pub const GROUP_WATCH_MS: u64 = 200;
/// Raft rows (without record data) that a group keeps for followers that lag; then a snapshot serves them.
pub const RAFT_KEEP_BYTES: u64 = 16 << 20;
/// Entries between two purges of raft rows.
pub const RAFT_PURGE_ENTRIES: u64 = 256;
/// Partition states of one snapshot.
pub const SNAPSHOT_STATES_BYTES: usize = 512 << 20;
/// Snapshot data handed to the writer and not written yet.
pub const SNAPSHOT_WRITE_BYTES: usize = 16 << 20;
/// How long the other side of a snapshot transfer may be silent.
pub const SNAPSHOT_SILENCE_MS: u64 = 30_000;
