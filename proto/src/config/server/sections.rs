//! The parts of a server's configuration that belong together, so that a component is handed the
//! part it needs. Each `read` takes values that were checked one by one, and checks those that must
//! fit each other.

use std::collections::BTreeMap;

use super::{Problems, listeners};
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
    pub setup_timeout_ms: u64,
    pub max_connections: u32,
    pub max_connections_per_ip: u32,
    /// Limits for some addresses or host names instead of `max_connections_per_ip`.
    pub max_connections_per_ip_overrides: BTreeMap<String, u32>,
    pub max_connections_per_second: u32,
    /// `None` is never.
    pub max_idle_ms: Option<u64>,
    pub queued_max_requests: u32,
    /// `None` leaves the bound to the server.
    pub queued_max_request_bytes: Option<u64>,
    /// For requests to other nodes.
    pub request_timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub max_bytes: u32,
    pub session_slots: u32,
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

/// Periodic work on partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Housekeeping {
    pub retention_check_interval_ms: u64,
    pub compaction_backoff_ms: u64,
    pub replica_lag_max_ms: u64,
}

/// `__consumer_offsets` and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub retention_ms: u64,
    pub retention_check_interval_ms: u64,
    pub metadata_max_bytes: u32,
    pub commit_timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    Bidirectional,
    Upgrade,
    Downgrade,
    Disabled,
}

/// Group membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// KIP-848.
    pub consumer_enabled: bool,
    pub min_session_timeout_ms: u64,
    pub max_session_timeout_ms: u64,
    pub initial_rebalance_delay_ms: u64,
    pub max_size: u32,
    pub consumer_session_timeout_ms: u64,
    pub consumer_min_session_timeout_ms: u64,
    pub consumer_max_session_timeout_ms: u64,
    pub consumer_heartbeat_interval_ms: u64,
    pub consumer_min_heartbeat_interval_ms: u64,
    pub consumer_max_heartbeat_interval_ms: u64,
    pub consumer_max_size: u32,
    /// Not empty; the first is the default.
    pub consumer_assignors: Vec<String>,
    pub consumer_migration_policy: MigrationPolicy,
    pub consumer_regex_refresh_interval_ms: u64,
}

/// Producers, transactions and `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transactions {
    pub max_timeout_ms: u64,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub min_insync_replicas: i32,
    pub abort_check_interval_ms: u64,
    pub expiration_check_interval_ms: u64,
    pub transactional_id_expiration_ms: u64,
    pub producer_id_expiration_ms: u64,
    pub producer_id_expiration_check_interval_ms: u64,
}

/// How a process comes, stays and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    pub registration_timeout_ms: u64,
    pub heartbeat_interval_ms: u64,
    pub session_timeout_ms: u64,
    pub controlled_shutdown: bool,
    pub quorum_election_timeout_ms: u64,
    pub quorum_request_timeout_ms: u64,
    pub snapshot_after_bytes: u64,
    /// `None` is never.
    pub snapshot_after_ms: Option<u64>,
    /// `None` leaves leaderships where they are.
    pub leader_rebalance_interval_ms: Option<u64>,
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
            setup_timeout_ms: number(values, "socket.connection.setup.timeout.ms"),
            max_connections: small(values, "max.connections"),
            max_connections_per_ip: small(values, "max.connections.per.ip"),
            max_connections_per_ip_overrides: listeners::limits_per_host(
                values, overrides, problems,
            ),
            max_connections_per_second: small(values, "max.connection.creation.rate"),
            max_idle_ms: optional(values, "connections.max.idle.ms"),
            queued_max_requests: small(values, "queued.max.requests"),
            queued_max_request_bytes: optional(values, queued).filter(|bytes| *bytes > 0),
            request_timeout_ms: number(values, "request.timeout.ms"),
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
            session_slots: small(values, "max.incremental.fetch.session.cache.slots"),
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

impl Housekeeping {
    pub(super) fn read(values: &Values, problems: &mut Problems) -> Self {
        // Topics take these as defaults; see `topic_config`.
        let (min, max) = (
            "log.cleaner.min.compaction.lag.ms",
            "log.cleaner.max.compaction.lag.ms",
        );
        if values.long(min) > values.long(max) {
            problems.add(&[min, max], format!("must not be more than {max}"));
        }
        for key in [
            "log.retention.ms",
            "log.retention.minutes",
            "log.retention.hours",
        ] {
            // Kafka refuses 0 too: every record would be deleted as it arrives.
            if values.get(key) == Some("0") {
                problems.add(&[key], "must be -1, or at least 1".into());
            }
        }
        Self {
            retention_check_interval_ms: number(values, "log.retention.check.interval.ms"),
            compaction_backoff_ms: number(values, "log.cleaner.backoff.ms"),
            replica_lag_max_ms: number(values, "replica.lag.time.max.ms"),
        }
    }
}

impl Offsets {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            num_partitions: values.int("offsets.topic.num.partitions"),
            replication_factor: values.short("offsets.topic.replication.factor"),
            retention_ms: number(values, "offsets.retention.minutes") * 60_000,
            retention_check_interval_ms: number(values, "offsets.retention.check.interval.ms"),
            metadata_max_bytes: small(values, "offset.metadata.max.bytes"),
            commit_timeout_ms: number(values, "offsets.commit.timeout.ms"),
        }
    }
}

impl MigrationPolicy {
    fn read(values: &Values) -> Self {
        match values.text("group.consumer.migration.policy") {
            Some("upgrade") => Self::Upgrade,
            Some("downgrade") => Self::Downgrade,
            Some("disabled") => Self::Disabled,
            _ => Self::Bidirectional,
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
];

impl Groups {
    pub(super) fn read(values: &Values, problems: &mut Problems) -> Self {
        for pair in ASCENDING.iter().flat_map(|row| row.windows(2)) {
            let (low, high) = (pair[0], pair[1]);
            if values.int(low) > values.int(high) {
                let (a, b) = (values.int(low), values.int(high));
                problems.add(
                    &[low, high],
                    format!("{a} is more than {high}, which is {b}"),
                );
            }
        }
        let assignors = "group.consumer.assignors";
        let protocols_key = "group.coordinator.rebalance.protocols";
        let consumer_assignors = values.list(assignors);
        if consumer_assignors.is_empty() {
            problems.add(&[assignors], "must name at least one".into());
        }
        let protocols = values.list(protocols_key);
        let has = |protocol: &str| protocols.iter().any(|p| p == protocol);
        if !has("classic") {
            // Kafka asks for the same.
            problems.add(&[protocols_key], "must have classic in it".into());
        }
        Self {
            consumer_enabled: has("consumer"),
            min_session_timeout_ms: number(values, "group.min.session.timeout.ms"),
            max_session_timeout_ms: number(values, "group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: number(values, "group.initial.rebalance.delay.ms"),
            max_size: small(values, "group.max.size"),
            consumer_session_timeout_ms: number(values, "group.consumer.session.timeout.ms"),
            consumer_min_session_timeout_ms: number(
                values,
                "group.consumer.min.session.timeout.ms",
            ),
            consumer_max_session_timeout_ms: number(
                values,
                "group.consumer.max.session.timeout.ms",
            ),
            consumer_heartbeat_interval_ms: number(values, "group.consumer.heartbeat.interval.ms"),
            consumer_min_heartbeat_interval_ms: number(
                values,
                "group.consumer.min.heartbeat.interval.ms",
            ),
            consumer_max_heartbeat_interval_ms: number(
                values,
                "group.consumer.max.heartbeat.interval.ms",
            ),
            consumer_max_size: small(values, "group.consumer.max.size"),
            consumer_assignors,
            consumer_migration_policy: MigrationPolicy::read(values),
            consumer_regex_refresh_interval_ms: number(
                values,
                "group.consumer.regex.refresh.interval.ms",
            ),
        }
    }
}

impl Transactions {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            max_timeout_ms: number(values, "transaction.max.timeout.ms"),
            num_partitions: values.int("transaction.state.log.num.partitions"),
            replication_factor: values.short("transaction.state.log.replication.factor"),
            min_insync_replicas: values.int("transaction.state.log.min.isr"),
            abort_check_interval_ms: number(
                values,
                "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            ),
            expiration_check_interval_ms: number(
                values,
                "transaction.remove.expired.transaction.cleanup.interval.ms",
            ),
            transactional_id_expiration_ms: number(values, "transactional.id.expiration.ms"),
            producer_id_expiration_ms: number(values, "producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: number(
                values,
                "producer.id.expiration.check.interval.ms",
            ),
        }
    }
}

impl Lifecycle {
    pub(super) fn read(values: &Values, problems: &mut Problems) -> Self {
        let (heartbeat, session) = ("broker.heartbeat.interval.ms", "broker.session.timeout.ms");
        let rebalance = values.boolean("auto.leader.rebalance.enable");
        let interval = "leader.imbalance.check.interval.seconds";
        let lifecycle = Self {
            registration_timeout_ms: number(values, "initial.broker.registration.timeout.ms"),
            heartbeat_interval_ms: number(values, heartbeat),
            session_timeout_ms: number(values, session),
            controlled_shutdown: values.boolean("controlled.shutdown.enable"),
            quorum_election_timeout_ms: number(values, "controller.quorum.election.timeout.ms"),
            quorum_request_timeout_ms: number(values, "controller.quorum.request.timeout.ms"),
            snapshot_after_bytes: number(values, "metadata.log.max.record.bytes.between.snapshots"),
            snapshot_after_ms: Some(number(values, "metadata.log.max.snapshot.interval.ms"))
                .filter(|ms| *ms > 0),
            leader_rebalance_interval_ms: rebalance.then(|| number(values, interval) * 1_000),
        };
        if lifecycle.heartbeat_interval_ms >= lifecycle.session_timeout_ms {
            let text = format!("must be less than {session}, or every broker is fenced");
            problems.add(&[heartbeat, session], text);
        }
        lifecycle
    }
}
