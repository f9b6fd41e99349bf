//! The keys of `server.properties`, by area. Between them the areas hold every key that a Kafka 4.1
//! broker or controller in KRaft mode knows; [`recognise`] also knows what older versions had.

mod absent;
mod coordinator;
mod log;
mod network;
mod node;
mod replication;
mod sasl;
mod security;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::{ConfigDef, Kind};

const THREADS: &str = "threads follow the number of cores";
const FIXED_QUORUM: &str = "Raft's own timers apply";
const PERIODIC: &str = "the controller's times are metrics";
const METADATA_KEPT: &str = "what a snapshot of the metadata covers goes at once";
const ROWS_NOT_FILES: &str = "the metadata log is rows of RocksDB, not files";
const NO_ZOOKEEPER: &str = "there is no ZooKeeper";
const BOUNDED_WAITS: &str = "a request that waits is removed when it is answered";
const NO_JVM_METRICS: &str = "metrics are served for Prometheus, see ottla.metrics.listener";

const fn list_unset(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(Kind::List, name, None, doc)
}

/// What a key of `server.properties` turns out to be.
#[derive(Clone, Copy, Debug)]
pub enum Recognised {
    Known(&'static ConfigDef),
    /// `listener.name.<listener>.<key>`, for a key that exists.
    PerListener(&'static ConfigDef),
    /// A key of an older Kafka or of another distribution: accepted, without effect.
    Foreign(&'static str),
    /// A key of a plug-in for a part that is not built.
    NotBuilt(&'static str),
    Unknown,
}

fn table() -> &'static BTreeMap<&'static str, &'static ConfigDef> {
    static TABLE: OnceLock<BTreeMap<&'static str, &'static ConfigDef>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = BTreeMap::new();
        for def in AREAS.iter().flat_map(|area| area.iter()) {
            let previous = table.insert(def.name, def);
            assert!(previous.is_none(), "{} is defined twice", def.name);
        }
        table
    })
}

static AREAS: [&[ConfigDef]; 8] = [
    node::DEFS,
    network::DEFS,
    log::DEFS,
    coordinator::DEFS,
    replication::DEFS,
    security::DEFS,
    sasl::DEFS,
    absent::DEFS,
];

/// The definition of a broker key.
pub fn find(name: &str) -> Option<&'static ConfigDef> {
    table().get(name).copied()
}

/// All broker keys, sorted by name.
pub fn all() -> impl Iterator<Item = &'static ConfigDef> {
    table().values().copied()
}

/// Says what a key is, whether or not it is in the table.
pub fn recognise(name: &str) -> Recognised {
    if let Some(def) = find(name) {
        return Recognised::Known(def);
    }
    if let Some(rest) = name.strip_prefix("listener.name.") {
        return match per_listener(rest) {
            Some(def) => Recognised::PerListener(def),
            None => Recognised::Unknown,
        };
    }
    let starts = |(prefix, _): &&(&str, &'static str)| name.starts_with(prefix);
    if let Some((_, what)) = NOT_BUILT_PREFIXES.iter().find(starts) {
        return Recognised::NotBuilt(what);
    }
    if let Some((_, why)) = FOREIGN_PREFIXES.iter().find(starts) {
        return Recognised::Foreign(why);
    }
    match REMOVED.binary_search(&name) {
        Ok(_) => Recognised::Foreign("removed from Kafka before 4.1"),
        Err(_) => Recognised::Unknown,
    }
}

/// The listener's name in `listener.name.<listener>.<key>`.
pub fn listener_of(name: &str) -> Option<&str> {
    let (listener, _) = name.strip_prefix("listener.name.")?.split_once('.')?;
    Some(listener)
}

/// `rest` is `<listener>.<key>` or `<listener>.<SASL mechanism>.<key>`.
fn per_listener(rest: &str) -> Option<&'static ConfigDef> {
    let (_, key) = rest.split_once('.')?;
    find(key).or_else(|| find(key.split_once('.')?.1))
}

const NOT_BUILT_PREFIXES: &[(&str, &str)] = &[
    ("ssl.", "TLS"),
    ("sasl.", "SASL authentication"),
    ("rsm.config.", super::TIERED),
    ("rlmm.config.", super::TIERED),
    ("config.providers.", "configuration providers"),
];

const FOREIGN_PREFIXES: &[(&str, &str)] = &[
    ("zookeeper.", NO_ZOOKEEPER),
    ("password.encoder.", NO_ZOOKEEPER),
    ("metrics.jmx.", NO_JVM_METRICS),
    ("metrics.context.", NO_JVM_METRICS),
    ("confluent.", "a key of another distribution"),
];

/// Keys of Kafka 0.8 to 4.0 that 4.1 no longer has and ignores. Sorted.
const REMOVED: &[&str] = &[
    "advertised.host.name",
    "advertised.port",
    "auto.include.jmx.reporter",
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "controlled.shutdown.max.retries",
    "controlled.shutdown.retry.backoff.ms",
    "group.coordinator.new.enable",
    "host.name",
    "inter.broker.protocol.version",
    "leader.imbalance.per.broker.percentage",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "port",
    "quota.consumer.default",
    "quota.producer.default",
    "replica.lag.max.messages",
    "reserved.broker.max.id",
];
