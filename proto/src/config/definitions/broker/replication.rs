//! Replicas, quotas and metrics.

use super::super::{
    ConfigDef, RACK_AWARE_SELECTOR, THROTTLES, Valid, boolean, class_unset, int, int_unset, list,
    long, text,
};
use super::NO_JVM_METRICS;

const RAFT_STREAMS: &str = "replicas are fed by Raft streams, not by fetches";
const QUOTAS: &str = "client quotas";
const TELEMETRY: &str = "client telemetry (KIP-714)";

pub(super) static DEFS: &[ConfigDef] = &[
    long(
        "replica.lag.time.max.ms",
        "30000",
        "How long a replica may lag before it is no longer in sync.",
    )
    .at_least(1)
    .high(),
    int(
        "num.replica.fetchers",
        "1",
        "Threads that fetch from each leader.",
    )
    .at_least(1)
    .high()
    .no_effect(RAFT_STREAMS),
    int_unset(
        "num.replica.alter.log.dirs.threads",
        "Threads that move replicas between directories.",
    )
    .no_effect("a broker has one log directory"),
    int(
        "replica.fetch.max.bytes",
        "1048576",
        "Bytes per partition that a follower fetches.",
    )
    .at_least(0)
    .no_effect(RAFT_STREAMS),
    int(
        "replica.fetch.min.bytes",
        "1",
        "Bytes that a follower waits for.",
    )
    .high()
    .no_effect(RAFT_STREAMS),
    int(
        "replica.fetch.response.max.bytes",
        "10485760",
        "Bytes that one fetch of a follower returns.",
    )
    .at_least(0)
    .no_effect(RAFT_STREAMS),
    int(
        "replica.fetch.wait.max.ms",
        "500",
        "How long a follower's fetch waits for data.",
    )
    .high()
    .no_effect(RAFT_STREAMS),
    int(
        "replica.fetch.backoff.ms",
        "1000",
        "The wait after a follower's failed fetch.",
    )
    .at_least(0)
    .no_effect(RAFT_STREAMS),
    long(
        "replica.high.watermark.checkpoint.interval.ms",
        "5000",
        "How often Kafka writes the high watermarks down.",
    )
    .high()
    .no_effect("the high watermark is Raft's commit index"),
    int(
        "replica.socket.timeout.ms",
        "30000",
        "How long a follower waits for an answer.",
    )
    .high()
    .no_effect(RAFT_STREAMS),
    int(
        "replica.socket.receive.buffer.bytes",
        "65536",
        "SO_RCVBUF of a follower's connection.",
    )
    .high()
    .no_effect(RAFT_STREAMS),
    boolean(
        "ottla.broker.drain",
        "false",
        "Whether the broker is to be emptied: it hands over what it leads, takes no new replicas, and those \
         that it has move to other brokers. `ottla broker drain` sets it. A key of Ottla.",
    )
    .per_broker(),
    long(
        "ottla.broker.replace.after.ms",
        "1800000",
        "A broker that has been gone for so long is replaced: its replicas are made anew on other brokers, \
         where there are any. -1: never. A key of Ottla.",
    )
    .valid(Valid::AtLeast(-1))
    .cluster_wide(),
    boolean(
        "ottla.rebalance.enable",
        "true",
        "Whether replicas move by themselves to brokers that have fewer, such as new ones. A key of Ottla.",
    )
    .cluster_wide(),
    class_unset(
        "replica.selector.class",
        "Which replica a consumer reads from (KIP-392): the leader, or with RackAwareReplicaSelector an in-sync one \
         in the consumer's rack (`client.rack`, `broker.rack`).",
    )
    .only(
        &[
            "org.apache.kafka.common.replica.LeaderSelector",
            RACK_AWARE_SELECTOR,
        ],
        "a Java class can't be loaded",
    ),
    int(
        "replication.quota.window.num",
        "11",
        "Samples that a replication throttle looks back on.",
    )
    .at_least(1)
    .low()
    .no_effect("replication is not throttled"),
    int(
        "replication.quota.window.size.seconds",
        "1",
        "The length of such a sample.",
    )
    .at_least(1)
    .low()
    .no_effect("replication is not throttled"),
    int(
        "alter.log.dirs.replication.quota.window.num",
        "11",
        "Samples that a throttle between directories looks back on.",
    )
    .at_least(1)
    .low()
    .no_effect("a broker has one log directory"),
    int(
        "alter.log.dirs.replication.quota.window.size.seconds",
        "1",
        "The length of such a sample.",
    )
    .at_least(1)
    .low()
    .no_effect("a broker has one log directory"),
    long(
        "leader.replication.throttled.rate",
        "9223372036854775807",
        "Bytes a second of snapshots that leave this broker, all replicas together: those that are new, or were \
         away for long.",
    )
    .at_least(0)
    .per_broker(),
    long(
        "follower.replication.throttled.rate",
        "9223372036854775807",
        "Bytes a second that throttled replicas on this broker read.",
    )
    .at_least(0)
    .per_broker()
    .not_built(THROTTLES),
    long(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        "9223372036854775807",
        "Bytes a second that move between directories.",
    )
    .at_least(0)
    .per_broker()
    .not_built("several log directories"),
    int(
        "quota.window.num",
        "11",
        "Samples that a client quota looks back on.",
    )
    .at_least(1)
    .low()
    .not_built(QUOTAS),
    int(
        "quota.window.size.seconds",
        "1",
        "The length of such a sample.",
    )
    .at_least(1)
    .low()
    .not_built(QUOTAS),
    int(
        "controller.quota.window.num",
        "11",
        "Samples that a quota of topic changes looks back on.",
    )
    .at_least(1)
    .low()
    .not_built(QUOTAS),
    int(
        "controller.quota.window.size.seconds",
        "1",
        "The length of such a sample.",
    )
    .at_least(1)
    .low()
    .not_built(QUOTAS),
    class_unset(
        "client.quota.callback.class",
        "A Java class that decides client quotas.",
    )
    .low()
    .not_built(QUOTAS),
    list(
        "metric.reporters",
        "org.apache.kafka.common.metrics.JmxReporter",
        "Java classes that report metrics.",
    )
    .low()
    .no_effect(NO_JVM_METRICS),
    int("metrics.num.samples", "2", "Samples behind a metric.")
        .at_least(1)
        .low()
        .no_effect(NO_JVM_METRICS),
    text(
        "metrics.recording.level",
        "INFO",
        "How many metrics are kept.",
    )
    .valid(Valid::OneOf(&["INFO", "DEBUG", "TRACE"]))
    .low()
    .no_effect(NO_JVM_METRICS),
    long(
        "metrics.sample.window.ms",
        "30000",
        "The length of a sample.",
    )
    .at_least(1)
    .low()
    .no_effect(NO_JVM_METRICS),
    list(
        "kafka.metrics.reporters",
        "",
        "Java classes that report the older kind of metrics.",
    )
    .low()
    .no_effect(NO_JVM_METRICS),
    int(
        "kafka.metrics.polling.interval.secs",
        "10",
        "How often those are polled.",
    )
    .at_least(1)
    .low()
    .no_effect(NO_JVM_METRICS),
    int(
        "telemetry.max.bytes",
        "1048576",
        "The largest metrics push of a client.",
    )
    .at_least(1)
    .low()
    .not_built(TELEMETRY),
    list(
        "config.providers",
        "",
        "Java classes that resolve variables in configuration values.",
    )
    .low()
    .not_built("configuration providers"),
];
