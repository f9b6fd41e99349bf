//! Why a config of a topic or broker is not taken.

use super::check::Fault;
use super::definitions::{ConfigDef, broker, topic};
use super::nearest::nearest;

/// The texts are for the administrator who sent the request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("Unknown topic config name: {key}{hint}")]
    UnknownTopic { key: String, hint: String },
    #[error("Unknown broker config name: {key}{hint}")]
    UnknownBroker { key: String, hint: String },
    #[error("Invalid value {value} for configuration {key}: {fault}")]
    Invalid {
        key: String,
        value: String,
        fault: Fault,
    },
    #[error("conflicting configs: {low} ({low_value}) is more than {high} ({high_value})")]
    Conflict {
        low: &'static str,
        low_value: u64,
        high: &'static str,
        high_value: u64,
    },
    #[error("Can't {op} to key {key} because its type is not LIST.")]
    NotList { op: &'static str, key: String },
    #[error("Cannot update these configs dynamically: {0}. This broker reads it at start-up only")]
    ReadOnly(String),
    #[error("Cannot update these configs at default cluster level: {0}")]
    PerBrokerOnly(String),
    #[error("Error due to duplicate config keys: {0}")]
    Duplicate(String),
    #[error("Null value not supported for: {0}")]
    NullValue(String),
}

impl ConfigError {
    /// Whether the request is at fault (INVALID_REQUEST), not a value in it (INVALID_CONFIG).
    pub fn is_invalid_request(&self) -> bool {
        matches!(
            self,
            Self::ReadOnly(_) | Self::PerBrokerOnly(_) | Self::Duplicate(_) | Self::NullValue(_)
        )
    }

    pub(super) fn unknown_topic(key: &str) -> Self {
        let hint = hint(key, topic::TOPIC.iter().map(|def| def.name));
        Self::UnknownTopic {
            key: shortened(key),
            hint,
        }
    }

    pub(super) fn unknown_broker(key: &str) -> Self {
        let hint = hint(key, broker::all().map(|def| def.name));
        Self::UnknownBroker {
            key: shortened(key),
            hint,
        }
    }

    pub(super) fn invalid(def: &ConfigDef, value: &str, fault: Fault) -> Self {
        let value = match def.is_sensitive() {
            true => "[hidden]".to_owned(),
            false => shortened(value.trim()),
        };
        Self::Invalid {
            key: def.name.to_owned(),
            value,
            fault,
        }
    }
}

fn hint<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest(key, names).map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

/// Enough of a text to know it by.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
