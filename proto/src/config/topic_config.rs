//! The configs that are in force for a topic: its own, else the broker's defaults.

use std::collections::BTreeMap;

use super::check::{self, check};
use super::definitions::topic;
use super::error::ConfigError;
use super::server::ServerConfig;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What a partition and its housekeeping need to know of a topic. Keys that have no effect are not
/// here; batches are always kept as the producer compressed them.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub cleanup_compact: bool,
    /// Neither this nor `cleanup_compact`: nothing is ever removed.
    pub cleanup_delete: bool,
    /// `None` is for ever.
    pub retention_ms: Option<u64>,
    /// `None` is without bound.
    pub retention_bytes: Option<u64>,
    pub max_message_bytes: u32,
    pub message_timestamp_type: TimestampType,
    pub message_timestamp_before_max_ms: u64,
    pub message_timestamp_after_max_ms: u64,
    pub min_insync_replicas: u32,
    pub min_compaction_lag_ms: u64,
    pub max_compaction_lag_ms: u64,
    pub delete_retention_ms: u64,
    pub min_cleanable_dirty_ratio: f64,
}

/// The configs in force for a topic with these configs of its own. Fails if one of them is unknown
/// or wrong. Where two do not fit each other, which a change of the broker's defaults can bring
/// about, it does not fail: `max_compaction_lag_ms` is then the stronger.
pub fn topic_config(
    server: &ServerConfig,
    overrides: &BTreeMap<String, String>,
) -> Result<TopicConfig, ConfigError> {
    for (key, value) in overrides {
        validate_topic_config(key, value)?;
    }
    let values = Effective { server, overrides };
    let policy = values.text("cleanup.policy");
    let config = TopicConfig {
        cleanup_compact: check::list(&policy).any(|policy| policy == "compact"),
        cleanup_delete: check::list(&policy).any(|policy| policy == "delete"),
        retention_ms: u64::try_from(values.long("retention.ms")).ok(),
        retention_bytes: u64::try_from(values.long("retention.bytes")).ok(),
        max_message_bytes: u32::try_from(values.long("max.message.bytes")).unwrap_or(u32::MAX),
        message_timestamp_type: match values.text("message.timestamp.type").as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        message_timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
        message_timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
        min_insync_replicas: u32::try_from(values.long("min.insync.replicas")).unwrap_or(u32::MAX),
        min_compaction_lag_ms: values.number("min.compaction.lag.ms"),
        max_compaction_lag_ms: values.number("max.compaction.lag.ms"),
        delete_retention_ms: values.number("delete.retention.ms"),
        min_cleanable_dirty_ratio: values.read("min.cleanable.dirty.ratio"),
    };
    Ok(config)
}

/// Checks the configs that somebody asks for, each on its own and all together, and returns what
/// would be in force.
pub fn validate_topic_configs(
    server: &ServerConfig,
    overrides: &BTreeMap<String, String>,
) -> Result<TopicConfig, ConfigError> {
    let config = topic_config(server, overrides)?;
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        return Err(ConfigError::Conflict {
            low: "min.compaction.lag.ms",
            low_value: config.min_compaction_lag_ms,
            high: "max.compaction.lag.ms",
            high_value: config.max_compaction_lag_ms,
        });
    }
    Ok(config)
}

/// Checks one config of a topic on its own.
pub fn validate_topic_config(key: &str, value: &str) -> Result<(), ConfigError> {
    let def = topic::find(key).ok_or_else(|| ConfigError::unknown_topic(key))?;
    check(def, value).map_err(|fault| ConfigError::invalid(def, value, fault))
}

/// The text in force for each topic config.
pub(super) struct Effective<'a> {
    pub server: &'a ServerConfig,
    pub overrides: &'a BTreeMap<String, String>,
}

impl Effective<'_> {
    /// The value of a topic config: its own, else the broker's, else the definition's.
    pub fn text(&self, key: &str) -> String {
        let def = topic::find(key).unwrap_or_else(|| panic!("{key} is no topic config"));
        match self.overrides.get(key) {
            Some(value) => check::canonical(def, value),
            None => self
                .server
                .values()
                .first_of(def.synonyms)
                .or_else(|| def.default.map(str::to_owned))
                .unwrap_or_default(),
        }
    }

    /// Reads a value that was checked, here or when the server started.
    fn read<T: std::str::FromStr>(&self, key: &str) -> T {
        let parsed = self.text(key).parse();
        parsed.unwrap_or_else(|_| panic!("{key} was not checked"))
    }

    fn long(&self, key: &str) -> i64 {
        self.read(key)
    }

    /// A number whose definition rules negative ones out.
    fn number(&self, key: &str) -> u64 {
        self.read(key)
    }
}
