//! Keys that only standalone or only distributed workers have.

use super::{NULL, REQUIRED, high, low, medium, text};
use crate::config::{Check, Definition, Kind};

const NO_SOURCES: &str = "there are no source connectors";

/// `connect-standalone` besides.
pub const STANDALONE: &[Definition] = &[high(
    "offset.storage.file.filename",
    Kind::String,
    NULL,
    "File for the offsets of source connectors.",
)
.without_effect(NO_SOURCES)];

/// `connect-distributed` besides.
pub const DISTRIBUTED: &[Definition] = &[
    high(
        "group.id",
        Kind::String,
        REQUIRED,
        "The workers with the same group.id share the work.",
    )
    .check(Check::NonEmpty),
    high(
        "session.timeout.ms",
        Kind::Int,
        text("10000"),
        "Milliseconds without a heartbeat after which a worker counts as dead.",
    )
    .check(Check::AtLeast(1)),
    high(
        "heartbeat.interval.ms",
        Kind::Int,
        text("3000"),
        "Milliseconds between two heartbeats.",
    )
    .check(Check::AtLeast(1)),
    high(
        "rebalance.timeout.ms",
        Kind::Int,
        text("60000"),
        "Milliseconds that a worker has to join a rebalance.",
    )
    .check(Check::AtLeast(1)),
    medium(
        "worker.sync.timeout.ms",
        Kind::Int,
        text("3000"),
        "Milliseconds to catch up with the others before leaving the group.",
    )
    .check(Check::AtLeast(0)),
    medium(
        "worker.unsync.backoff.ms",
        Kind::Int,
        text("300000"),
        "Milliseconds outside the group after failing to catch up.",
    )
    .check(Check::AtLeast(0)),
    high(
        "offset.storage.topic",
        Kind::String,
        REQUIRED,
        "Topic of the offsets.",
    )
    .check(Check::NonEmpty),
    low(
        "offset.storage.partitions",
        Kind::Int,
        text("25"),
        "Partitions with which that topic is made.",
    )
    .check(Check::By(partitions)),
    low(
        "offset.storage.replication.factor",
        Kind::Short,
        text("3"),
        "Replication factor with which that topic is made.",
    )
    .check(Check::By(partitions)),
    high(
        "config.storage.topic",
        Kind::String,
        REQUIRED,
        "Topic of the connectors' configurations.",
    )
    .check(Check::NonEmpty),
    low(
        "config.storage.replication.factor",
        Kind::Short,
        text("3"),
        "Replication factor with which that topic is made.",
    )
    .check(Check::By(partitions)),
    high(
        "status.storage.topic",
        Kind::String,
        REQUIRED,
        "Topic of the connectors' and tasks' states.",
    )
    .check(Check::NonEmpty),
    low(
        "status.storage.partitions",
        Kind::Int,
        text("5"),
        "Partitions with which that topic is made.",
    )
    .check(Check::By(partitions)),
    low(
        "status.storage.replication.factor",
        Kind::Short,
        text("3"),
        "Replication factor with which that topic is made.",
    )
    .check(Check::By(partitions)),
    low(
        "connect.protocol",
        Kind::String,
        text("sessioned"),
        "How the workers share the work.",
    )
    .only(
        &["sessioned", "compatible"],
        "eager rebalancing stops every task",
    ),
    low(
        "scheduled.rebalance.max.delay.ms",
        Kind::Int,
        text("300000"),
        "Milliseconds for which the work of a worker that left waits for its return.",
    )
    .check(Check::Between(0, i32::MAX as i64)),
    low(
        "inter.worker.key.generation.algorithm",
        Kind::String,
        text("HmacSHA256"),
        "Algorithm of the workers' shared key.",
    )
    .only(&["HmacSHA256"], "one algorithm is built"),
    low(
        "inter.worker.key.size",
        Kind::Int,
        NULL,
        "Bits of the workers' shared key.",
    )
    .without_effect("keys of HmacSHA256 have 256 bits"),
    low(
        "inter.worker.key.ttl.ms",
        Kind::Int,
        text("3600000"),
        "Milliseconds for which a shared key is used.",
    )
    .check(Check::AtLeast(0)),
    low(
        "inter.worker.signature.algorithm",
        Kind::String,
        text("HmacSHA256"),
        "Algorithm that signs requests between workers.",
    )
    .only(&["HmacSHA256"], "one algorithm is built"),
    low(
        "inter.worker.verification.algorithms",
        Kind::List,
        text("HmacSHA256"),
        "Algorithms that requests between workers may be signed with.",
    )
    .only(&["HmacSHA256"], "one algorithm is built"),
    low(
        "exactly.once.source.support",
        Kind::String,
        text("disabled"),
        "Whether source connectors write exactly once.",
    )
    .only(&["disabled"], NO_SOURCES),
];

/// -1 stands for the broker's default.
fn partitions(text: &str) -> Result<(), String> {
    match text.parse::<i64>() {
        Ok(n) if n < 1 && n != -1 => Err("Value must be -1, or at least 1".into()),
        _ => Ok(()),
    }
}
