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

/// What a partition needs to know of a topic. Keys that have no effect are not here.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// Every record needs a key.
    pub cleanup_compact: bool,
    /// DeleteRecords may remove records.
    pub cleanup_delete: bool,
    pub max_message_bytes: u32,
    /// Age at which records are deleted; `None` is never.
    pub retention_ms: Option<u64>,
    /// Size of a partition above which its oldest records are deleted; `None` is no limit.
    pub retention_bytes: Option<u64>,
    pub message_timestamp_type: TimestampType,
    pub message_timestamp_before_max_ms: u64,
    pub message_timestamp_after_max_ms: u64,
    /// Replicas that must be in sync for acks=all.
    pub min_insync_replicas: usize,
    pub compaction: Compaction,
}

/// How a topic with `cleanup.policy=compact` is compacted.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    /// The uncompacted share of a log above which it is compacted.
    pub min_dirty_ratio: f64,
    /// Younger records are not touched.
    pub min_lag_ms: u64,
    /// Older records are compacted whatever the dirty ratio.
    pub max_lag_ms: u64,
    /// How long a tombstone stays once nothing older than it is left of its key.
    pub delete_retention_ms: u64,
    pub segment_bytes: u64,
    pub segment_ms: u64,
}

/// The configs in force for a topic with these configs of its own. Fails if one of them is unknown
/// or wrong. Where two do not fit each other, which a change of the broker's defaults can bring
/// about, it does not fail.
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
        max_message_bytes: u32::try_from(values.number("max.message.bytes")).unwrap_or(u32::MAX),
        retention_ms: values.optional("retention.ms"),
        retention_bytes: values.optional("retention.bytes"),
        message_timestamp_type: match values.text("message.timestamp.type").as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        message_timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
        message_timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
        min_insync_replicas: values.number("min.insync.replicas") as usize,
        compaction: Compaction {
            min_dirty_ratio: values.ratio("min.cleanable.dirty.ratio"),
            min_lag_ms: values.number("min.compaction.lag.ms"),
            max_lag_ms: values.number("max.compaction.lag.ms"),
            delete_retention_ms: values.number("delete.retention.ms"),
            segment_bytes: values.number("segment.bytes"),
            segment_ms: values.number("segment.ms"),
        },
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
    let values = Effective { server, overrides };
    let (low, high) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    let (low_value, high_value) = (values.number(low), values.number(high));
    if low_value > high_value {
        return Err(ConfigError::Conflict {
            low,
            low_value,
            high,
            high_value,
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

    /// A number for which a negative one says that there is none.
    fn optional(&self, key: &str) -> Option<u64> {
        self.text(key).parse().ok()
    }

    fn ratio(&self, key: &str) -> f64 {
        // Checked, here or when the server started.
        let parsed = self.text(key).parse();
        parsed.unwrap_or_else(|_| panic!("{key} was not checked"))
    }

    /// A number whose definition rules negative ones out.
    fn number(&self, key: &str) -> u64 {
        // Checked, here or when the server started.
        let parsed = self.text(key).parse();
        parsed.unwrap_or_else(|_| panic!("{key} was not checked"))
    }
}
