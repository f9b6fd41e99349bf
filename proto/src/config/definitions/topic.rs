//! The configs of a topic, in the order of their names.

use super::{
    ALWAYS_SYNCED, ConfigDef, FLUSH, KEEPS_COMPRESSION, NO_SEGMENTS, NO_UNCLEAN, RETENTION, ROLL,
    ROLL_JITTER, THROTTLES, TIERED, Valid, boolean, double, int, list, long, synonym, text,
};

const NO_LEVEL: &str = "the broker never compresses; the producer's level stands";

/// The definition of a topic config.
pub fn find(name: &str) -> Option<&'static ConfigDef> {
    let at = TOPIC.binary_search_by(|def| def.name.cmp(name)).ok()?;
    Some(&TOPIC[at])
}

/// All topic configs, sorted by name.
pub static TOPIC: &[ConfigDef] = &[
    list(
        "cleanup.policy",
        "delete",
        "What happens to old records: `delete` removes them by age and size, `compact` keeps the \
         newest record of each key, both together do both.",
    )
    .valid(Valid::EachOf(&["compact", "delete"]))
    .supplied_by(&[synonym("log.cleanup.policy")]),
    int(
        "compression.gzip.level",
        "-1",
        "The level at which a broker would compress with gzip.",
    )
    .no_effect(NO_LEVEL)
    .supplied_by(&[synonym("compression.gzip.level")]),
    int(
        "compression.lz4.level",
        "9",
        "The level at which a broker would compress with LZ4.",
    )
    .valid(Valid::Between(1, 17))
    .no_effect(NO_LEVEL)
    .supplied_by(&[synonym("compression.lz4.level")]),
    text(
        "compression.type",
        "producer",
        "How stored batches are compressed: as the producer sent them.",
    )
    .valid(Valid::OneOf(COMPRESSION_TYPES))
    .only(&["producer"], KEEPS_COMPRESSION)
    .supplied_by(&[synonym("compression.type")]),
    int(
        "compression.zstd.level",
        "3",
        "The level at which a broker would compress with Zstandard.",
    )
    .valid(Valid::Between(-131_072, 22))
    .no_effect(NO_LEVEL)
    .supplied_by(&[synonym("compression.zstd.level")]),
    long(
        "delete.retention.ms",
        "86400000",
        "How long a compacted topic keeps the tombstone of a key, so that a reader that started \
         before it still sees the deletion.",
    )
    .at_least(0)
    .supplied_by(&[synonym("log.cleaner.delete.retention.ms")]),
    long(
        "file.delete.delay.ms",
        "60000",
        "How long Kafka waits before it unlinks a deleted file.",
    )
    .at_least(0)
    .no_effect(NO_SEGMENTS)
    .supplied_by(&[synonym("log.segment.delete.delay.ms")]),
    long(
        "flush.messages",
        "9223372036854775807",
        "Messages after which Kafka forces a sync to disk.",
    )
    .at_least(1)
    .no_effect(ALWAYS_SYNCED)
    .supplied_by(&[synonym("log.flush.interval.messages")]),
    long(
        "flush.ms",
        "9223372036854775807",
        "Time after which Kafka forces a sync to disk.",
    )
    .at_least(0)
    .no_effect(ALWAYS_SYNCED)
    .supplied_by(FLUSH),
    list(
        "follower.replication.throttled.replicas",
        "",
        "Replicas (`partition:broker`, or `*`) whose catching up is throttled on the follower.",
    )
    .not_built(THROTTLES),
    int(
        "index.interval.bytes",
        "4096",
        "Bytes between two entries of Kafka's offset index.",
    )
    .at_least(0)
    .no_effect(NO_SEGMENTS)
    .supplied_by(&[synonym("log.index.interval.bytes")]),
    list(
        "leader.replication.throttled.replicas",
        "",
        "Replicas (`partition:broker`, or `*`) whose catching up is throttled on the leader.",
    )
    .not_built(THROTTLES),
    long(
        "local.retention.bytes",
        "-2",
        "Bytes kept on local disks when older data is in remote storage; -2 follows \
         `retention.bytes`.",
    )
    .at_least(-2)
    .not_built(TIERED)
    .supplied_by(&[synonym("log.local.retention.bytes")]),
    long(
        "local.retention.ms",
        "-2",
        "How long data stays on local disks when older data is in remote storage; -2 follows \
         `retention.ms`.",
    )
    .at_least(-2)
    .not_built(TIERED)
    .supplied_by(&[synonym("log.local.retention.ms")]),
    long(
        "max.compaction.lag.ms",
        "9223372036854775807",
        "The longest time a record of a compacted topic may stay uncompacted.",
    )
    .at_least(1)
    .supplied_by(&[synonym("log.cleaner.max.compaction.lag.ms")]),
    int(
        "max.message.bytes",
        "1048588",
        "The largest record batch that is accepted, as it arrives (compressed).",
    )
    .at_least(0)
    .supplied_by(&[synonym("message.max.bytes")]),
    long(
        "message.timestamp.after.max.ms",
        "3600000",
        "How far a record's timestamp may lie ahead of the broker's clock. Applies to CreateTime.",
    )
    .at_least(0)
    .supplied_by(&[synonym("log.message.timestamp.after.max.ms")]),
    long(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        "How far a record's timestamp may lie behind the broker's clock. Applies to CreateTime.",
    )
    .at_least(0)
    .supplied_by(&[synonym("log.message.timestamp.before.max.ms")]),
    text(
        "message.timestamp.type",
        "CreateTime",
        "Whose clock a record's timestamp shows: the producer's or, with LogAppendTime, the \
         broker's.",
    )
    .valid(Valid::OneOf(&["CreateTime", "LogAppendTime"]))
    .supplied_by(&[synonym("log.message.timestamp.type")]),
    double(
        "min.cleanable.dirty.ratio",
        "0.5",
        "The share of a compacted log that must be uncompacted before it is compacted again.",
    )
    .valid(Valid::Ratio(0.0, 1.0))
    .supplied_by(&[synonym("log.cleaner.min.cleanable.ratio")]),
    long(
        "min.compaction.lag.ms",
        "0",
        "The shortest time a record of a compacted topic stays uncompacted.",
    )
    .at_least(0)
    .supplied_by(&[synonym("log.cleaner.min.compaction.lag.ms")]),
    int(
        "min.insync.replicas",
        "1",
        "Replicas that must be in sync for a write with acks=all to be accepted, or all if there are \
         fewer. A majority is always needed besides.",
    )
    .at_least(1)
    .supplied_by(&[synonym("min.insync.replicas")]),
    boolean(
        "preallocate",
        "false",
        "Whether Kafka allocates a segment file in full when it creates it.",
    )
    .no_effect(NO_SEGMENTS)
    .supplied_by(&[synonym("log.preallocate")]),
    boolean(
        "remote.log.copy.disable",
        "false",
        "Stops copying to remote storage while keeping it readable.",
    )
    .not_built(TIERED),
    boolean(
        "remote.log.delete.on.disable",
        "false",
        "Deletes remote data when remote storage is turned off for the topic.",
    )
    .not_built(TIERED),
    boolean(
        "remote.storage.enable",
        "false",
        "Moves old data of the topic to remote storage.",
    )
    .not_built(TIERED),
    long(
        "retention.bytes",
        "-1",
        "Bytes a partition may hold before its oldest records are deleted; -1 is no limit.",
    )
    .supplied_by(&[synonym("log.retention.bytes")]),
    long(
        "retention.ms",
        "604800000",
        "How long records are kept before they are deleted; -1 is forever.",
    )
    .at_least(-1)
    .supplied_by(RETENTION),
    int(
        "segment.bytes",
        "1073741824",
        "The grain of compaction by size: what was written since a partition last passed a multiple \
         of it stays uncompacted (there are no segment files). Retention has a finer grain.",
    )
    .at_least(1_048_576)
    .supplied_by(&[synonym("log.segment.bytes")]),
    int(
        "segment.index.bytes",
        "10485760",
        "The size of the index file of a Kafka segment.",
    )
    .at_least(4)
    .no_effect(NO_SEGMENTS)
    .supplied_by(&[synonym("log.index.size.max.bytes")]),
    long(
        "segment.jitter.ms",
        "0",
        "A random part of the time after which Kafka starts a new segment file.",
    )
    .at_least(0)
    .no_effect(NO_SEGMENTS)
    .supplied_by(ROLL_JITTER),
    long(
        "segment.ms",
        "604800000",
        "The grain of compaction by time: records that are older may be compacted though \
         `segment.bytes` would still hold them back. Retention has a finer grain.",
    )
    .at_least(1)
    .supplied_by(ROLL),
    boolean(
        "unclean.leader.election.enable",
        "false",
        "Whether a replica that misses acknowledged records may become leader.",
    )
    .only(&["false"], NO_UNCLEAN)
    .supplied_by(&[synonym("unclean.leader.election.enable")]),
];

/// Every value that Kafka knows for `compression.type`.
pub(super) const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
