//! Every bound and default that is not an operator's configuration key, in one place. Units are
//! the last word of each name.

/// Target size of one replication group log entry: what one fsync carries under load.
pub const GROUP_ENTRY_BYTES: usize = 1 << 20;
/// Batches in one group log entry, whatever their size.
pub const GROUP_ENTRY_BATCHES: usize = 4096;
/// Batches remembered per producer and partition to recognise a retry (Kafka's number).
pub const PRODUCER_REMEMBERED_BATCHES: usize = 5;
/// Bytes the writer thread gives to RocksDB at a time: what stays in the cache while it is copied.
pub const WRITE_BATCH_BYTES: usize = 1 << 20;
/// Bytes the writer thread makes durable with one fsync, at most.
pub const SYNC_BYTES: usize = 8 << 20;
/// A partition's sparse index has about one row per this many bytes of its log.
pub const INDEX_INTERVAL_BYTES: u64 = 64 << 10;
/// Idempotent producers one partition remembers. Above it, new ones are refused.
pub const PRODUCERS_PER_PARTITION: usize = 10_000;
/// Where there is no room for a new producer, those are forgotten that have been silent for this long:
/// many times the two minutes of clients' `delivery.timeout.ms`, after which none of them retries.
pub const PRODUCER_SILENT_MS: i64 = 900_000;
/// How often expired producers are looked for, and how often at most where new ones are refused.
pub const PRODUCER_SWEEP_MS: u64 = 60_000;
pub const PRODUCER_SWEEP_PRESSED_MS: u64 = 1000;
/// What one producer costs in memory in one partition, with five batches and its places in two maps.
pub const PRODUCER_MEMORY_BYTES: usize = 320;
/// Full entries of one group on their way to the disk at a time.
pub const GROUP_ENTRIES_IN_FLIGHT: usize = 4;
/// Record bytes handed to replication or apply in one read of a group's log.
pub const RAFT_READ_BYTES: usize = 4 << 20;
/// Bytes of rows, or of batches, read at a time where what is stored is examined after a loss.
pub const MEND_READ_BYTES: usize = 1 << 20;
/// Entries between two checkpoints of a group: what a start after a crash replays at most.
pub const CHECKPOINT_ENTRIES: u64 = 1000;
/// Longest value of a configuration key. Kafka has no such bound, but a string of its older encodings
/// holds no more, and DescribeConfigs and Metadata must be answered in those too.
pub const CONFIG_VALUE_BYTES: usize = i16::MAX as usize;
/// Longest secret, which no answer shows: a key with its chain of certificates.
pub const CONFIG_SECRET_BYTES: usize = 64 << 10;
/// Longest cluster id; Kafka's have 22 characters.
pub const CLUSTER_ID_BYTES: usize = 255;
/// Longest error message in a response; a string of Kafka's older encodings ends at 32767 bytes.
pub const ERROR_MESSAGE_BYTES: usize = 4096;
/// Characters kept of a member's reason to join or leave (Kafka's number).
pub const GROUP_REASON_CHARS: usize = 255;
/// How long a Metadata answer waits for topics that it made. Clients come back sooner or later than
/// this.
pub const TOPIC_CREATION_WAIT_MS: u64 = 2000;
/// Longest metadata record.
pub const METADATA_RECORD_BYTES: usize = 128 << 10;
/// All records of one decision, which the metadata quorum replicates as one batch.
pub const METADATA_BATCH_BYTES: usize = 960 << 10;
/// One batch of a snapshot of the metadata.
pub const METADATA_SNAPSHOT_BATCH_BYTES: usize = 256 << 10;
/// New partitions of one request (Kafka's number).
pub const PARTITIONS_PER_REQUEST: usize = 10_000;
pub const PARTITIONS_PER_TOPIC: usize = 50_000;
pub const PARTITIONS_PER_CLUSTER: usize = 200_000;
/// Replication groups that the controller makes per replication factor and broker, for that broker
/// to lead. One writer serves all groups of a broker, so more of them were no faster.
pub const GROUPS_PER_BROKER: usize = 1;
/// How long `ottla broker` waits for an answer, how large that may be, and how often it looks again.
pub const ADMIN_CALL_WAIT_MS: u64 = 30_000;
pub const ADMIN_ANSWER_BYTES: usize = 256 << 20;
pub const ADMIN_LOOK_MS: u64 = 500;
/// Groups that move at a time where the controller moves them by itself.
pub const GROUP_MOVES: usize = 4;
/// Replication groups that a broker may be a member of; each costs about 1.3 MB and 8 tasks.
pub const GROUP_MEMBERSHIPS_PER_BROKER: usize = 64;
/// Members of the largest replication group.
pub const GROUP_MEMBERS: usize = 5;
/// Producer ids handed to a broker at a time (Kafka's number).
pub const PRODUCER_ID_BLOCK: i64 = 1000;
/// Record bytes one partition gives to one read from disk.
pub const FETCH_READ_BYTES: usize = 4 << 20;
/// How long the controller waits to see its own committed change.
pub const METADATA_COMMIT_WAIT_MS: u64 = 10_000;
/// What one record batch may decompress to where the broker must look inside, at most: on a small
/// budget it is less.
pub const DECOMPRESSED_BATCH_BYTES: usize = 64 << 20;
/// Batches that are decompressed at a time, if one may become as large as that.
pub const BATCH_INSPECTIONS: usize = 2;
/// What a batch may decompress to among many others; one that needs more waits for its turn.
pub const SMALL_INSPECTION_BYTES: usize = 1 << 20;
pub const SMALL_INSPECTIONS: usize = 16;
/// A compressed batch up to this size is looked into where its request is handled.
pub const INSPECTION_IN_PLACE_BYTES: usize = 32 << 10;
/// Time that a Produce with acks=all has at least, whatever it asks for.
pub const PRODUCE_WAIT_MS_MIN: u64 = 1000;
/// Answers that can be much larger than their requests and are made at a time.
pub const LARGE_ANSWERS: usize = 2;
/// The largest of them; a part that does not fit gets POLICY_VIOLATION.
pub const LARGE_ANSWER_BYTES: usize = 32 << 20;
/// What is asked for by name and is not more than this never counts as one of them.
pub const SMALL_ANSWER_PARTS: usize = 100;
/// How long an answer waits for room in memory before its connection is closed.
pub const ANSWER_ROOM_WAIT_MS: u64 = 10_000;
/// Requests of one connection that are read but not answered. Above it the client is not read.
pub const REQUESTS_IN_FLIGHT_PER_CONNECTION: usize = 64;
/// Requests that one connection may have in memory, unanswered, without asking for room. A larger one
/// waits until all before it are answered, but for Produce, whose records the sequencers account for.
pub const READ_BUFFER_BYTES: usize = 16 << 10;
/// Produce requests up to this size take room as their bytes come.
pub const ORDINARY_REQUEST_BYTES: usize = 4 << 20;
/// The largest request that is no Produce.
pub const OTHER_REQUEST_BYTES: usize = 16 << 20;
/// How often a connection that is not read is looked at: its client may have closed it.
pub const CLOSED_CHECK_MS: u64 = 1000;
/// How long an answer may take for a client that has closed its side; then the connection goes.
pub const CLOSED_CLIENT_WAIT_MS: u64 = 10_000;
/// The same once one answer has taken longer.
pub const CLOSED_CLIENT_LATE_WAIT_MS: u64 = 100;
/// A client that takes no byte of its answer for this long is disconnected.
pub const RESPONSE_WAIT_MS: u64 = 60_000;
/// An answer that takes longer to send is a slow client's: what it keeps in memory counts.
pub const SLOW_ANSWER_MS: u64 = 5000;
/// A slow client takes so much in that time, or is disconnected when the room is needed.
pub const SLOW_ANSWER_BYTES_MIN: usize = 320 << 10;
/// Fetches that can read from disk as much as one may. Those above it read less.
pub const FETCHES_OF_FULL_SIZE: usize = 16;
/// A fetch that gets no more room than this to read from disk still reads.
pub const FETCH_ROOM_BYTES_MIN: usize = 64 << 10;
/// Pause between looks at a first frame of which one to three bytes have come.
pub const PREFACE_WAIT_MS: u64 = 10;
/// The first `READ_BUFFER_BYTES` of a frame must have come after this long.
pub const FRAME_WAIT_MS: u64 = 60_000;
/// From there on, a twelfth of the frame comes in each of these, and at least so much.
pub const FRAME_STEP_MS: u64 = 5000;
pub const FRAME_STEPS: usize = 12;
pub const FRAME_STEP_BYTES_MIN: usize = 16 << 10;
/// Partitions of which the record with the highest timestamp is remembered.
pub const NEWEST_RECORDS: usize = 10_000;
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
/// A scraper must have taken its answer after this long.
pub const METRICS_CONNECTION_WAIT_MS: u64 = 10_000;
/// Longest request line and headers of a scraper together.
pub const METRICS_REQUEST_BYTES: usize = 16 << 10;
/// Pause after a connection that could not be accepted: mostly there are no file descriptors left.
pub const ACCEPT_RETRY_MS: u64 = 100;
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
/// What a committed offset, a group and a member cost in memory, besides what a member sends.
pub const OFFSET_MEMORY_BYTES: usize = 128;
pub const GROUP_MEMORY_BYTES: usize = 512;
pub const MEMBER_MEMORY_BYTES: usize = 512;
/// Pause before a partition of `__consumer_offsets` that could not be loaded is tried again.
pub const COORDINATOR_RELOAD_WAIT_MS: u64 = 1000;
/// What a record batch adds to a group record, which must stay below `max.message.bytes`.
pub const GROUP_RECORD_OVERHEAD_BYTES: usize = 512;
/// How long a broker waits to serve `__consumer_offsets` once it was made.
pub const OFFSETS_TOPIC_WAIT_MS: u64 = 5000;
/// After a failure to make `__consumer_offsets`, clients are told so for this long.
pub const OFFSETS_TOPIC_RETRY_MS: i64 = 1000;
/// Slices of responses given to one system call. Linux takes 1,024.
pub const WRITE_SLICES: usize = 256;
/// Frames up to this size are read into one buffer from the start.
pub const WHOLE_FRAME_BYTES: usize = 1 << 20;
/// Frames up to this size are copied out of the connection's buffer: a small batch that is kept must not
/// keep what was read with it. Larger ones have a buffer of their own.
pub const COPIED_FRAME_BYTES: usize = 4 << 10;
/// Read of a connection at first: most requests are smaller, and an idle one keeps no more.
pub const SMALL_READ_BYTES: usize = 512;
/// A peer must have made its first call after this long.
pub const PEER_HELLO_WAIT_MS: u64 = 10_000;
/// How often a silent peer is asked whether it is there, and how long it may take to say so.
pub const PEER_PING_MS: u64 = 10_000;
pub const PEER_PING_WAIT_MS: u64 = 10_000;
/// How long a stopping broker waits for the calls of one peer.
pub const PEER_SHUTDOWN_WAIT_MS: u64 = 2000;
/// Calls of one peer connection that may be open at a time.
pub const PEER_STREAMS: u32 = 256;
/// What a batch in memory costs beside its bytes: its places in queues and caches, and the rest of the
/// read buffer that it keeps alive.
pub const BATCH_OVERHEAD_BYTES: usize = 512;
/// Connections a broker takes, whatever `max.connections` says: fewer than `OPEN_FILES`.
pub const CONNECTIONS: u32 = 60_000;
/// Deleted record bytes from which on their disk space is given back at once.
pub const RECLAIM_BYTES: u64 = 256 << 20;
/// Fewer deleted bytes wait this long for more.
pub const RECLAIM_WAIT_MS: u64 = 60_000;
/// How often it is looked whether deleted bytes are enough.
pub const RECLAIM_LOOK_MS: u64 = 1000;
/// A pass that failed is tried again after this long, and then after twice as long, so many times.
pub const RECLAIM_RETRY_MS: u64 = 5000;
pub const RECLAIM_RETRY_DOUBLINGS: u32 = 7;
/// Partitions that retention looks at in one step, and trims with one entry per group.
pub const RETENTION_STEP_PARTITIONS: usize = 512;
/// Places of a compacted partition at which it is noted how much is left behind them.
pub const SIZE_POINTS: usize = 128;
/// Record bytes that compaction reads at a time.
pub const CLEANER_READ_BYTES: usize = 1 << 20;
/// What compaction writes at a time: little, so that no acknowledgement waits for much of it.
pub const CLEANER_WRITE_BYTES: usize = 256 << 10;
/// Operations in one of these writes.
pub const CLEANER_WRITE_OPS: usize = 1024;
/// Neighbouring batches that are deleted as a range, which costs every read of the partition a little.
pub const CLEANER_RANGE_BATCHES: usize = 16;
/// Compaction rests this many times as long as it works.
pub const CLEANER_REST_FACTOR: u32 = 3;
/// Stretches of a partition for which it is noted when they were compacted.
pub const CLEANER_MARKS: usize = 64;
/// A partition that could not be compacted is tried again after this long, and where it was for damage after
/// this long.
pub const CLEANER_RETRY_MS: u64 = 15_000;
pub const CLEANER_DAMAGE_RETRY_MS: u64 = 600_000;
/// How often free disk space is measured.
pub const SPACE_CHECK_MS: u64 = 100;
/// Least and most of the volume that `ottla.disk.reserve.bytes` keeps free by default, and its share.
pub const DISK_RESERVE_BYTES_MIN: u64 = 64 << 20;
pub const DISK_RESERVE_BYTES_MAX: u64 = 4 << 30;
pub const DISK_RESERVE_PERCENT: u64 = 5;
/// A file that is given up when the disk is full all the same.
pub const BALLAST_BYTES_MAX: u64 = 64 << 20;
/// Free space beyond the memtables with which writing goes on after the disk was full.
pub const SPACE_TO_RESUME_BYTES: u64 = 16 << 20;
/// A resume that failed is tried again after this long.
pub const RESUME_RETRY_MS: u64 = 1000;
/// How often the file that says how far the store is synced is itself synced.
pub const DURABLE_SYNC_MS: u64 = 1000;
/// Places of damaged data that are logged once each; more are only counted.
pub const DAMAGES_REMEMBERED: usize = 1000;
/// Compactions that met damaged data are tried again after this long.
pub const DAMAGED_COMPACTION_RETRY_MS: u64 = 600_000;
/// Threads of `ottla doctor`.
pub const DOCTOR_THREADS: usize = 4;
/// What `ottla doctor` may use for the tables and memtables of the folder it checks.
pub const DOCTOR_MEMORY_BYTES: u64 = 256 << 20;
/// Findings of `ottla doctor` that are told, altogether and of one partition; more are counted.
pub const DOCTOR_FINDINGS: usize = 1000;
pub const DOCTOR_FINDINGS_PER_PARTITION: usize = 20;
/// Partitions up to which `ottla doctor` lists each.
pub const DOCTOR_TABLE_ROWS: usize = 40;
/// Places of one partition where reading is tried again after damage.
pub const DOCTOR_RETRIES_PER_PARTITION: usize = 10_000;
/// Bytes of appends that gather in one message to a peer.
pub const PEER_FRAME_BYTES: usize = 1 << 20;
/// Longest message of somebody who is not known to be a peer, and of a call that is no link.
pub const PEER_HELLO_BYTES: usize = 2 << 20;
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
pub const PEER_LINK_PING_MS: u64 = 1000;
pub const PEER_SILENCE_MS: u64 = 3000;
/// How long a dial may take.
pub const PEER_DIAL_MS: u64 = 1000;
/// How long a dial of one of a peer's addresses has for itself before the next one is tried, too.
pub const PEER_NEXT_ADDRESS_MS: u64 = 200;
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
/// How long another voter has to say who it is, while a cluster is being formed; and how often it is asked.
pub const FORMATION_CALL_WAIT_MS: u64 = 1000;
pub const FORMATION_PAUSE_MS: u64 = 100;
/// Pause between two tries of a call to the active controller, and how long one try may take.
pub const CONTROL_PAUSE_MS: u64 = 50;
pub const CONTROL_CALL_WAIT_MS: u64 = 10_000;
/// How often a broker looks at which groups it leads, and how often a leader looks at who is in sync.
pub const LEADERSHIP_LOOK_MS: u64 = 50;
pub const IN_SYNC_LOOK_MS: u64 = 500;
/// How often a coordinator looks how far its groups are behind, for `/metrics`.
pub const GROUP_LAG_LOOK_MS: u64 = 5000;
/// How often a group's leader compares its members with what the metadata says.
pub const MEMBERSHIP_LOOK_MS: u64 = 500;
/// How long one step of a change of members may take before it is looked at anew.
pub const MEMBERSHIP_STEP_WAIT_MS: u64 = 30_000;
/// How long a broker that stops waits until others lead what it led.
pub const LEADER_HANDOVER_WAIT_MS: u64 = 5000;
/// How often a broker looks at whether the preferred replicas of what it leads are in sync, for how long they
/// have to be before leaderships move back to them, and how far behind they may be then.
pub const PREFERRED_LOOK_MS: u64 = 1000;
pub const PREFERRED_STEADY_MS: u64 = 10_000;
pub const PREFERRED_LAG_MS: u64 = 2000;
/// How long an election on request waits until the metadata tells of the new leader.
pub const ELECTION_TOLD_WAIT_MS: u64 = 3000;
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
/// Snapshots on their way to one peer; those of other groups wait.
pub const SNAPSHOT_TRANSFERS: usize = 2;
/// How long the other side of a snapshot transfer may be silent.
pub const SNAPSHOT_SILENCE_MS: u64 = 30_000;
