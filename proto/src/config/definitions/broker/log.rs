//! Topics and their records: the defaults of topic configs, retention, compaction, files.

use super::super::{
    ALWAYS_SYNCED, ConfigDef, FLUSH, KEEPS_COMPRESSION, NO_SEGMENTS, RETENTION, ROLL, ROLL_JITTER,
    TIERED, Valid, boolean, class_unset, double, int, int_unset, list, long, long_unset, text,
    topic::COMPRESSION_TYPES,
};
use super::{THREADS, list_unset};

const CHECKPOINTS: &str = "offsets are in the log itself, not in checkpoint files";

pub(super) static DEFS: &[ConfigDef] = &[
    list(
        "log.dir",
        "/tmp/kafka-logs",
        "Where data lives, if `log.dirs` is unset.",
    )
    .high(),
    list_unset(
        "log.dirs",
        "Where data lives. One directory only: a broker keeps everything in one database.",
    )
    .high(),
    int(
        "num.partitions",
        "1",
        "Partitions of a topic that is created without saying how many.",
    )
    .at_least(1),
    int(
        "default.replication.factor",
        "1",
        "Replicas of a topic that is created without saying how many.",
    )
    .valid(Valid::Between(1, 32_767)),
    boolean(
        "auto.create.topics.enable",
        "true",
        "Whether a topic comes into being when a client first asks for it.",
    )
    .high(),
    int(
        "min.insync.replicas",
        "1",
        "Default of the topic config of this name.",
    )
    .at_least(1)
    .high()
    .cluster_wide(),
    int(
        "message.max.bytes",
        "1048588",
        "Default of `max.message.bytes`: the largest record batch, as it arrives.",
    )
    .at_least(0)
    .high()
    .cluster_wide(),
    text(
        "compression.type",
        "producer",
        "Default of the topic config of this name.",
    )
    .valid(Valid::OneOf(COMPRESSION_TYPES))
    .high()
    .cluster_wide()
    .only(&["producer"], KEEPS_COMPRESSION),
    int(
        "compression.gzip.level",
        "-1",
        "Default of the topic config of this name.",
    )
    .no_effect(KEEPS_COMPRESSION),
    int(
        "compression.lz4.level",
        "9",
        "Default of the topic config of this name.",
    )
    .valid(Valid::Between(1, 17))
    .no_effect(KEEPS_COMPRESSION),
    int(
        "compression.zstd.level",
        "3",
        "Default of the topic config of this name.",
    )
    .valid(Valid::Between(-131_072, 22))
    .no_effect(KEEPS_COMPRESSION),
    list(
        "log.cleanup.policy",
        "delete",
        "Default of `cleanup.policy`.",
    )
    .valid(Valid::EachOf(&["compact", "delete"]))
    .cluster_wide(),
    long_unset(
        "log.retention.ms",
        "Default of `retention.ms`; -1 is forever. Wins over minutes and hours.",
    )
    .at_least(-1)
    .high()
    .cluster_wide()
    .supplied_by(RETENTION),
    int_unset(
        "log.retention.minutes",
        "Default of `retention.ms` in minutes; -1 is forever. Wins over hours.",
    )
    .at_least(-1)
    .high()
    .supplied_by(RETENTION),
    int(
        "log.retention.hours",
        "168",
        "Default of `retention.ms` in hours; -1 is forever.",
    )
    .at_least(-1)
    .high()
    .supplied_by(RETENTION),
    long(
        "log.retention.bytes",
        "-1",
        "Default of `retention.bytes`, per partition; -1 is no limit.",
    )
    .high()
    .cluster_wide(),
    long(
        "log.retention.check.interval.ms",
        "300000",
        "How often the broker looks for records to delete.",
    )
    .at_least(1),
    text(
        "log.message.timestamp.type",
        "CreateTime",
        "Default of `message.timestamp.type`.",
    )
    .valid(Valid::OneOf(&["CreateTime", "LogAppendTime"]))
    .cluster_wide(),
    long(
        "log.message.timestamp.before.max.ms",
        "9223372036854775807",
        "Default of `message.timestamp.before.max.ms`.",
    )
    .at_least(0)
    .cluster_wide(),
    long(
        "log.message.timestamp.after.max.ms",
        "3600000",
        "Default of `message.timestamp.after.max.ms`.",
    )
    .at_least(0)
    .cluster_wide(),
    boolean("log.cleaner.enable", "true", "Whether the broker compacts."),
    long(
        "log.cleaner.backoff.ms",
        "15000",
        "How long compaction rests when there is nothing to compact.",
    )
    .at_least(0),
    long(
        "log.cleaner.delete.retention.ms",
        "86400000",
        "Default of `delete.retention.ms`.",
    )
    .at_least(0)
    .cluster_wide(),
    long(
        "log.cleaner.min.compaction.lag.ms",
        "0",
        "Default of `min.compaction.lag.ms`.",
    )
    .at_least(0)
    .cluster_wide(),
    long(
        "log.cleaner.max.compaction.lag.ms",
        "9223372036854775807",
        "Default of `max.compaction.lag.ms`.",
    )
    .at_least(1)
    .cluster_wide(),
    double(
        "log.cleaner.min.cleanable.ratio",
        "0.5",
        "Default of `min.cleanable.dirty.ratio`.",
    )
    .valid(Valid::Ratio(0.0, 1.0))
    .cluster_wide(),
    int("log.cleaner.threads", "1", "Threads that compact.").at_least(0),
    double(
        "log.cleaner.io.max.bytes.per.second",
        "1.7976931348623157E308",
        "Bytes that compaction reads and writes in a second, over all threads.",
    ),
    long(
        "log.cleaner.dedupe.buffer.size",
        "134217728",
        "Memory in which compaction finds duplicate keys, over all threads: 24 bytes per key. Not more \
         than a 32nd of `ottla.memory.bytes`.",
    ),
    double(
        "log.cleaner.io.buffer.load.factor",
        "0.9",
        "How full compaction fills the previous buffer.",
    ),
    int(
        "log.cleaner.io.buffer.size",
        "524288",
        "Memory for reading and writing while Kafka compacts.",
    )
    .at_least(0)
    .no_effect("compaction reads and writes in pieces of a fixed size"),
    int(
        "log.segment.bytes",
        "1073741824",
        "Default of `segment.bytes`.",
    )
    .at_least(1_048_576)
    .high(),
    long_unset("log.roll.ms", "Default of `segment.ms`. Wins over hours.")
        .at_least(1)
        .high()
        .supplied_by(ROLL),
    int("log.roll.hours", "168", "Default of `segment.ms` in hours.")
        .at_least(1)
        .high()
        .supplied_by(ROLL),
    long_unset(
        "log.roll.jitter.ms",
        "Default of `segment.jitter.ms`. Wins over hours.",
    )
    .at_least(0)
    .high()
    .no_effect(NO_SEGMENTS)
    .supplied_by(ROLL_JITTER),
    int(
        "log.roll.jitter.hours",
        "0",
        "Default of `segment.jitter.ms` in hours.",
    )
    .at_least(0)
    .high()
    .no_effect(NO_SEGMENTS)
    .supplied_by(ROLL_JITTER),
    long(
        "log.segment.delete.delay.ms",
        "60000",
        "Default of `file.delete.delay.ms`.",
    )
    .at_least(0)
    .high()
    .no_effect(NO_SEGMENTS),
    int(
        "log.index.interval.bytes",
        "4096",
        "Default of `index.interval.bytes`.",
    )
    .at_least(0)
    .no_effect(NO_SEGMENTS),
    int(
        "log.index.size.max.bytes",
        "10485760",
        "Default of `segment.index.bytes`.",
    )
    .at_least(4)
    .no_effect(NO_SEGMENTS),
    boolean("log.preallocate", "false", "Default of `preallocate`.").no_effect(NO_SEGMENTS),
    long(
        "log.flush.interval.messages",
        "9223372036854775807",
        "Default of `flush.messages`.",
    )
    .at_least(1)
    .high()
    .no_effect(ALWAYS_SYNCED),
    long_unset("log.flush.interval.ms", "Default of `flush.ms`.")
        .at_least(0)
        .high()
        .no_effect(ALWAYS_SYNCED)
        .supplied_by(FLUSH),
    long(
        "log.flush.scheduler.interval.ms",
        "9223372036854775807",
        "How often Kafka looks for logs to sync.",
    )
    .high()
    .no_effect(ALWAYS_SYNCED)
    .supplied_by(FLUSH),
    int(
        "log.flush.offset.checkpoint.interval.ms",
        "60000",
        "How often Kafka writes down up to where it has synced.",
    )
    .at_least(0)
    .high()
    .no_effect(CHECKPOINTS),
    int(
        "log.flush.start.offset.checkpoint.interval.ms",
        "60000",
        "How often Kafka writes down where logs start.",
    )
    .at_least(0)
    .high()
    .no_effect(CHECKPOINTS),
    long(
        "log.initial.task.delay.ms",
        "30000",
        "How long retention waits after start-up.",
    )
    .at_least(0)
    .low(),
    long(
        "log.dir.failure.timeout.ms",
        "30000",
        "How long a broker waits to report a failed directory before it stops.",
    )
    .at_least(1)
    .low()
    .no_effect("a broker has one directory and stops writing when it fails"),
    list(
        "cordoned.log.dirs",
        "",
        "Directories that take no new partitions (KIP-1066). A broker has one: `*`, or empty.",
    )
    .valid(Valid::OneOf(&["", "*"]))
    .per_broker(),
    int(
        "num.recovery.threads.per.data.dir",
        "2",
        "Threads that recover logs at start-up.",
    )
    .at_least(1)
    .high()
    .no_effect(THREADS),
    long(
        "log.local.retention.ms",
        "-2",
        "Default of `local.retention.ms`.",
    )
    .at_least(-2)
    .not_built(TIERED),
    long(
        "log.local.retention.bytes",
        "-2",
        "Default of `local.retention.bytes`.",
    )
    .at_least(-2)
    .not_built(TIERED),
    class_unset(
        "create.topic.policy.class.name",
        "A Java class that approves new topics.",
    )
    .low()
    .not_built("Java policy classes"),
    class_unset(
        "alter.config.policy.class.name",
        "A Java class that approves changed configs.",
    )
    .low()
    .not_built("Java policy classes"),
];
