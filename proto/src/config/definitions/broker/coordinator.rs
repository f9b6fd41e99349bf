//! Consumer groups, their offsets, producers and transactions.

use super::super::{ConfigDef, Valid, boolean, int, list, long, short, text};
use super::THREADS;
use crate::limits::PARTITIONS_PER_REQUEST;

/// The topics are made in one request.
const PARTITIONS: Valid = Valid::Between(1, PARTITIONS_PER_REQUEST as i64);
const LOADED_FROM_STATE: &str = "coordinators read their state in bounded batches";
const CLASSIC_ONLY: &str = "groups are classic: the consumer protocol (KIP-848) is not built yet";
const NO_TRANSACTIONS: &str = "transactions are not built yet: a transactional id is refused";
const TRANSACTION_STATE: &str =
    "transactions are not built yet; the topic exists only if a client asks for it by name";
const APPEND_GATHERING: &str = "writes are gathered while the previous one syncs";

pub(super) static DEFS: &[ConfigDef] = &[
    int(
        "offsets.topic.num.partitions",
        "50",
        "Partitions of `__consumer_offsets`. Never change it once the topic exists.",
    )
    .valid(PARTITIONS)
    .high(),
    short(
        "offsets.topic.replication.factor",
        "3",
        "Replicas of `__consumer_offsets`.",
    )
    .at_least(1)
    .high(),
    int(
        "offsets.topic.segment.bytes",
        "104857600",
        "`segment.bytes` of `__consumer_offsets` when it is made, at least 1 MiB.",
    )
    .at_least(1)
    .high(),
    int(
        "offsets.topic.compression.codec",
        "0",
        "Compression of `__consumer_offsets`.",
    )
    .high()
    .only(&["0"], "committed offsets are stored uncompressed"),
    int(
        "offsets.retention.minutes",
        "10080",
        "How long the offsets of an empty group are kept.",
    )
    .at_least(1)
    .high(),
    long(
        "offsets.retention.check.interval.ms",
        "600000",
        "How often the broker looks for expired offsets.",
    )
    .at_least(1)
    .high(),
    int(
        "offset.metadata.max.bytes",
        "4096",
        "The longest text that a client may store with an offset.",
    )
    .at_least(0)
    .high(),
    int(
        "offsets.commit.timeout.ms",
        "5000",
        "How long a coordinator waits until what it wrote is committed.",
    )
    .at_least(1)
    .high()
    .no_effect("a commit is answered when it is on disk, however long that takes"),
    int(
        "offsets.load.buffer.size",
        "5242880",
        "Bytes that a coordinator reads at once when it loads its state.",
    )
    .at_least(1)
    .high()
    .no_effect(LOADED_FROM_STATE),
    int(
        "group.min.session.timeout.ms",
        "6000",
        "The shortest session timeout a member may ask for.",
    )
    .at_least(0),
    int(
        "group.max.session.timeout.ms",
        "1800000",
        "The longest session timeout a member may ask for.",
    )
    .at_least(0),
    int(
        "group.initial.rebalance.delay.ms",
        "3000",
        "How long a new group waits for more members before its first rebalance.",
    )
    .at_least(0),
    int(
        "group.max.size",
        "2147483647",
        "Members that a classic group may have.",
    )
    .at_least(1),
    list(
        "group.coordinator.rebalance.protocols",
        "classic,consumer",
        "The group protocols on offer: `classic` and `consumer` (KIP-848).",
    )
    .valid(Valid::EachOf(&["classic", "consumer"]))
    .no_effect(CLASSIC_ONLY),
    int(
        "group.coordinator.threads",
        "4",
        "Threads that coordinate groups.",
    )
    .at_least(1)
    .high()
    .no_effect(THREADS),
    int(
        "group.coordinator.background.threads",
        "2",
        "Threads for the group coordinator's background work.",
    )
    .at_least(1)
    .high()
    .no_effect(THREADS),
    int(
        "group.coordinator.append.linger.ms",
        "5",
        "How long the group coordinator gathers records before it writes them.",
    )
    .at_least(-1)
    .no_effect(APPEND_GATHERING),
    int(
        "group.coordinator.cached.buffer.max.bytes",
        "1048588",
        "The largest buffer that the group coordinator keeps for reuse.",
    )
    .at_least(524_288)
    .no_effect(APPEND_GATHERING),
    int(
        "group.consumer.session.timeout.ms",
        "45000",
        "How long a member of a consumer group may be silent.",
    )
    .at_least(1)
    .no_effect(CLASSIC_ONLY),
    int(
        "group.consumer.min.session.timeout.ms",
        "45000",
        "The least that a group may set its session timeout to.",
    )
    .at_least(1)
    .no_effect(CLASSIC_ONLY),
    int(
        "group.consumer.max.session.timeout.ms",
        "60000",
        "The most that a group may set its session timeout to.",
    )
    .at_least(1)
    .no_effect(CLASSIC_ONLY),
    int(
        "group.consumer.heartbeat.interval.ms",
        "5000",
        "How often members of a consumer group are told to heartbeat.",
    )
    .at_least(1)
    .no_effect(CLASSIC_ONLY),
    int(
        "group.consumer.min.heartbeat.interval.ms",
        "5000",
        "The least that a group may set its heartbeat interval to.",
    )
    .at_least(1)
    .no_effect(CLASSIC_ONLY),
    int(
        "group.consumer.max.heartbeat.interval.ms",
        "15000",
        "The most that a group may set its heartbeat interval to.",
    )
    .at_least(1)
    .no_effect(CLASSIC_ONLY),
    int(
        "group.consumer.max.size",
        "2147483647",
        "Members that a consumer group may have.",
    )
    .at_least(1)
    .no_effect(CLASSIC_ONLY),
    list(
        "group.consumer.assignors",
        "uniform,range",
        "The server-side assignors on offer; the first is the default.",
    )
    .valid(Valid::EachOf(&["uniform", "range"]))
    .no_effect(CLASSIC_ONLY),
    text(
        "group.consumer.migration.policy",
        "bidirectional",
        "Which way a group that has members may change between the classic and the consumer \
         protocol.",
    )
    .valid(Valid::OneOf(&[
        "bidirectional",
        "upgrade",
        "downgrade",
        "disabled",
    ]))
    .no_effect(CLASSIC_ONLY),
    int(
        "group.consumer.regex.refresh.interval.ms",
        "600000",
        "How often topics that match a group's patterns are looked up again.",
    )
    .at_least(10_000)
    .no_effect(CLASSIC_ONLY),
    int(
        "transaction.max.timeout.ms",
        "900000",
        "The longest transaction timeout a producer may ask for.",
    )
    .at_least(1)
    .high()
    .no_effect(NO_TRANSACTIONS),
    int(
        "transaction.state.log.num.partitions",
        "50",
        "Partitions of `__transaction_state`. Never change it once the topic exists.",
    )
    .valid(PARTITIONS)
    .high()
    .partly(TRANSACTION_STATE),
    short(
        "transaction.state.log.replication.factor",
        "3",
        "Replicas of `__transaction_state`.",
    )
    .at_least(1)
    .high()
    .partly(TRANSACTION_STATE),
    int(
        "transaction.state.log.min.isr",
        "2",
        "`min.insync.replicas` of `__transaction_state`.",
    )
    .at_least(1)
    .high()
    .no_effect(NO_TRANSACTIONS),
    int(
        "transaction.state.log.segment.bytes",
        "104857600",
        "The size of a file of `__transaction_state`.",
    )
    .at_least(1)
    .high()
    .no_effect(NO_TRANSACTIONS),
    int(
        "transaction.state.log.load.buffer.size",
        "5242880",
        "Bytes that the transaction coordinator reads at once when it loads its state.",
    )
    .at_least(1)
    .high()
    .no_effect(NO_TRANSACTIONS),
    int(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "10000",
        "How often transactions that have timed out are aborted.",
    )
    .at_least(1)
    .low()
    .no_effect(NO_TRANSACTIONS),
    int(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "3600000",
        "How often expired transactional ids are removed.",
    )
    .at_least(1)
    .low()
    .no_effect(NO_TRANSACTIONS),
    boolean(
        "transaction.partition.verification.enable",
        "true",
        "Whether a partition checks that a transaction is open before it takes its records.",
    )
    .low()
    .no_effect(NO_TRANSACTIONS),
    boolean(
        "transaction.two.phase.commit.enable",
        "false",
        "Whether producers may take part in two-phase commits (KIP-939).",
    )
    .low()
    .not_built("two-phase commit"),
    int(
        "transactional.id.expiration.ms",
        "604800000",
        "How long a transactional id without a transaction is remembered.",
    )
    .at_least(1)
    .high()
    .no_effect(NO_TRANSACTIONS),
    int(
        "producer.id.expiration.ms",
        "86400000",
        "How long a partition remembers a producer that sends nothing.",
    )
    .at_least(1)
    .low()
    .cluster_wide(),
    int(
        "producer.id.expiration.check.interval.ms",
        "600000",
        "How often partitions look for producers to forget.",
    )
    .at_least(1)
    .low()
    .no_effect("a partition looks at a producer's age when it sends"),
    int(
        "add.partitions.to.txn.retry.backoff.ms",
        "20",
        "The wait before a broker asks again whether a transaction is open.",
    )
    .at_least(0)
    .low()
    .no_effect(NO_TRANSACTIONS),
    int(
        "add.partitions.to.txn.retry.backoff.max.ms",
        "100",
        "The longest that the previous wait grows to.",
    )
    .at_least(0)
    .low()
    .no_effect(NO_TRANSACTIONS),
];
