//! The parts of a server's configuration that belong together, so that a component is handed the
//! part it needs. Each `read` takes values that were checked one by one, and checks those that must
//! fit each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Problems, listeners};
use crate::config::definitions::RACK_AWARE_SELECTOR;
use crate::config::values::Values;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
    /// Human on a terminal, JSON elsewhere.
    Auto,
}

/// Connections and the requests on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// `None` leaves SO_SNDBUF to the system.
    pub send_buffer_bytes: Option<u32>,
    /// `None` leaves SO_RCVBUF to the system.
    pub receive_buffer_bytes: Option<u32>,
    pub request_max_bytes: u32,
    pub listen_backlog: u32,
    pub max_connections: u32,
    pub max_connections_per_ip: u32,
    /// Limits for some addresses instead of `max_connections_per_ip`.
    pub max_connections_per_ip_overrides: BTreeMap<IpAddr, u32>,
    pub max_connections_per_second: u32,
    /// `None` is never.
    pub max_idle_ms: Option<u64>,
    /// `None` leaves the bound to the server. Not below `request_max_bytes`.
    pub queued_max_request_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub max_bytes: u32,
    /// Partitions in one answer to DescribeTopicPartitions.
    pub describe_partitions_max: u32,
}

/// What a new topic gets if nothing else is asked for, and who may make and delete topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreation {
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub auto_create: bool,
    pub delete_enabled: bool,
}

/// When old records are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    pub check_interval_ms: u64,
    /// Before the first look after start-up.
    pub initial_delay_ms: u64,
}

/// Compaction of the topics whose `cleanup.policy` asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cleaner {
    pub enabled: bool,
    pub threads: u32,
    /// Between two looks for something to compact.
    pub backoff_ms: u64,
    /// Memory for finding duplicate keys, over all threads.
    pub dedupe_buffer_bytes: u64,
    /// How full that memory may get: the part of its slots in use.
    pub load_factor: f64,
    /// Bytes read and written in a second, over all threads.
    pub io_max_bytes_per_second: f64,
}

/// `__consumer_offsets` and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub num_partitions: i32,
    pub segment_bytes: u64,
    pub replication_factor: i16,
    pub retention_ms: u64,
    pub retention_check_interval_ms: u64,
    pub metadata_max_bytes: u32,
}

/// Group membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    pub min_session_timeout_ms: u64,
    pub max_session_timeout_ms: u64,
    pub initial_rebalance_delay_ms: u64,
    pub max_size: u32,
}

/// Producers, transactions and `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transactions {
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub min_insync_replicas: i32,
    pub producer_id_expiration_ms: u64,
}

/// How a broker keeps in touch with the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    pub heartbeat_interval_ms: u64,
    pub session_timeout_ms: u64,
    pub registration_timeout_ms: u64,
    /// Whether a broker hands over what it leads before it stops.
    pub controlled_shutdown: bool,
}

/// How followers are judged, and leaders chosen among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    pub lag_time_max_ms: u64,
    /// Whether leaderships go back to the preferred replicas by themselves, and how often is looked.
    pub leader_rebalance: bool,
    pub leader_check_interval_s: u32,
    /// Whether consumers are sent to replicas in their racks.
    pub nearest_replica: bool,
    /// Whether this broker is to be emptied.
    pub drain: bool,
    /// `None`: never.
    pub replace_after_ms: Option<u64>,
    /// Whether replicas move to brokers that have fewer.
    pub rebalance: bool,
    /// Of snapshots that leave this broker. `None`: no bound.
    pub snapshot_bytes_per_s: Option<u64>,
}

/// When the metadata log is cut behind a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataSnapshots {
    /// Bytes of changes since the last one.
    pub max_change_bytes: u64,
    /// Age of the oldest change since the last one; 0: whatever it is.
    pub max_age_ms: u64,
}

impl MetadataSnapshots {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            max_change_bytes: number(values, "metadata.log.max.record.bytes.between.snapshots"),
            max_age_ms: number(values, "metadata.log.max.snapshot.interval.ms"),
        }
    }
}

/// What the store asks of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `None`: a share of the volume.
    pub disk_reserve_bytes: Option<u64>,
    pub accept_loss: bool,
}

impl Storage {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            disk_reserve_bytes: optional(values, "ottla.disk.reserve.bytes"),
            accept_loss: values.boolean("ottla.storage.accept.loss"),
        }
    }
}

/// A number whose definition rules negative ones out.
fn number(values: &Values, key: &str) -> u64 {
    u64::try_from(values.long(key)).unwrap_or_else(|_| panic!("{key} was not checked"))
}

/// A number whose definition makes it an INT and rules negative ones out.
fn small(values: &Values, key: &str) -> u32 {
    u32::try_from(values.int(key)).unwrap_or_else(|_| panic!("{key} was not checked"))
}

/// A number for which -1 says that there is none.
fn optional(values: &Values, key: &str) -> Option<u64> {
    u64::try_from(values.long(key)).ok()
}

impl LogFormat {
    pub(super) fn read(values: &Values) -> Self {
        match values.text("ottla.log.format") {
            Some("human") => Self::Human,
            Some("json") => Self::Json,
            _ => Self::Auto,
        }
    }
}

impl Connections {
    pub(super) fn read(values: &Values, problems: &mut Problems) -> Self {
        let buffer = |key| {
            u32::try_from(values.int(key))
                .ok()
                .filter(|bytes| *bytes > 0)
        };
        let overrides = "max.connections.per.ip.overrides";
        let queued = "queued.max.request.bytes";
        let request_max = "socket.request.max.bytes";
        let connections = Self {
            send_buffer_bytes: buffer("socket.send.buffer.bytes"),
            receive_buffer_bytes: buffer("socket.receive.buffer.bytes"),
            request_max_bytes: small(values, request_max),
            listen_backlog: small(values, "socket.listen.backlog.size"),
            max_connections: small(values, "max.connections"),
            max_connections_per_ip: small(values, "max.connections.per.ip"),
            max_connections_per_ip_overrides: listeners::limits_per_address(
                values, overrides, problems,
            ),
            max_connections_per_second: small(values, "max.connection.creation.rate"),
            max_idle_ms: optional(values, "connections.max.idle.ms"),
            queued_max_request_bytes: optional(values, queued).filter(|bytes| *bytes > 0),
        };
        let too_small = |bytes: u64| bytes < u64::from(connections.request_max_bytes);
        if connections.queued_max_request_bytes.is_some_and(too_small) {
            let text = format!("must be at least {request_max}, or -1");
            problems.add(&[queued, request_max], text);
        }
        connections
    }
}

impl Fetch {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            max_bytes: small(values, "fetch.max.bytes"),
            describe_partitions_max: small(values, "max.request.partition.size.limit"),
        }
    }
}

impl TopicCreation {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            num_partitions: values.int("num.partitions"),
            replication_factor: values.short("default.replication.factor"),
            auto_create: values.boolean("auto.create.topics.enable"),
            delete_enabled: values.boolean("delete.topic.enable"),
        }
    }
}

impl Retention {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            check_interval_ms: number(values, "log.retention.check.interval.ms"),
            initial_delay_ms: number(values, "log.initial.task.delay.ms"),
        }
    }
}

impl Cleaner {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            enabled: values.boolean("log.cleaner.enable"),
            threads: small(values, "log.cleaner.threads"),
            backoff_ms: number(values, "log.cleaner.backoff.ms"),
            dedupe_buffer_bytes: values
                .long("log.cleaner.dedupe.buffer.size")
                .max(0)
                .unsigned_abs(),
            load_factor: values.double("log.cleaner.io.buffer.load.factor"),
            io_max_bytes_per_second: values.double("log.cleaner.io.max.bytes.per.second"),
        }
    }
}

impl Offsets {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            segment_bytes: number(values, "offsets.topic.segment.bytes"),
            num_partitions: values.int("offsets.topic.num.partitions"),
            replication_factor: values.short("offsets.topic.replication.factor"),
            retention_ms: number(values, "offsets.retention.minutes") * 60_000,
            retention_check_interval_ms: number(values, "offsets.retention.check.interval.ms"),
            metadata_max_bytes: small(values, "offset.metadata.max.bytes"),
        }
    }
}

/// Each row must not descend.
const ASCENDING: &[&[&str]] = &[
    &[
        "group.min.session.timeout.ms",
        "group.max.session.timeout.ms",
    ],
    &[
        "group.consumer.min.session.timeout.ms",
        "group.consumer.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ],
    &[
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ],
    &[
        "log.cleaner.min.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
    ],
    &["replica.fetch.wait.max.ms", "replica.socket.timeout.ms"],
    &["replica.fetch.wait.max.ms", "replica.lag.time.max.ms"],
];

/// Checks of several keys, or beyond one key's range, that Kafka makes too. They hold for keys
/// without effect as well.
pub(super) fn check_together(values: &Values, problems: &mut Problems) {
    for pair in ASCENDING.iter().flat_map(|row| row.windows(2)) {
        let (low, high) = (pair[0], pair[1]);
        let (a, b) = (values.long(low), values.long(high));
        if a > b {
            let text = format!("{a} is more than {high}, which is {b}");
            problems.add(&[low, high], text);
        }
    }
    for key in [
        "log.retention.ms",
        "log.retention.minutes",
        "log.retention.hours",
    ] {
        // Every record would be deleted as it arrives.
        if values.get(key) == Some("0") {
            problems.add(&[key], "must be -1, or at least 1".into());
        }
    }
    let assignors = "group.consumer.assignors";
    if values.list(assignors).is_empty() {
        problems.add(&[assignors], "must name at least one".into());
    }
    let protocols = "group.coordinator.rebalance.protocols";
    if !values.list(protocols).iter().any(|p| p == "classic") {
        problems.add(&[protocols], "must have classic in it".into());
    }
}

impl Groups {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            min_session_timeout_ms: number(values, "group.min.session.timeout.ms"),
            max_session_timeout_ms: number(values, "group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: number(values, "group.initial.rebalance.delay.ms"),
            max_size: small(values, "group.max.size"),
        }
    }
}

impl Transactions {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            num_partitions: values.int("transaction.state.log.num.partitions"),
            replication_factor: values.short("transaction.state.log.replication.factor"),
            min_insync_replicas: values.int("transaction.state.log.min.isr"),
            producer_id_expiration_ms: number(values, "producer.id.expiration.ms"),
        }
    }
}

impl Replication {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            lag_time_max_ms: number(values, "replica.lag.time.max.ms"),
            leader_rebalance: values.boolean("auto.leader.rebalance.enable"),
            leader_check_interval_s: small(values, "leader.imbalance.check.interval.seconds"),
            nearest_replica: values.text("replica.selector.class") == Some(RACK_AWARE_SELECTOR),
            drain: values.boolean("ottla.broker.drain"),
            replace_after_ms: u64::try_from(values.long("ottla.broker.replace.after.ms")).ok(),
            rebalance: values.boolean("ottla.rebalance.enable"),
            snapshot_bytes_per_s: Some(number(values, "leader.replication.throttled.rate"))
                .filter(|rate| *rate < i64::MAX as u64),
        }
    }
}

impl Lifecycle {
    pub(super) fn read(values: &Values, problems: &mut Problems) -> Self {
        let (heartbeat, session) = ("broker.heartbeat.interval.ms", "broker.session.timeout.ms");
        let lifecycle = Self {
            heartbeat_interval_ms: number(values, heartbeat),
            session_timeout_ms: number(values, session),
            registration_timeout_ms: number(values, "initial.broker.registration.timeout.ms"),
            controlled_shutdown: values.boolean("controlled.shutdown.enable"),
        };
        if lifecycle.heartbeat_interval_ms >= lifecycle.session_timeout_ms {
            let text = format!("must be less than {session}, or every broker is fenced");
            problems.add(&[heartbeat, session], text);
        }
        lifecycle
    }
}
