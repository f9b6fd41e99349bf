//! Workers that share connectors: what they tell each other, who runs what, and what their topics say.
//!
//! - [`protocol`]: subscriptions and assignments as bytes (KIP-415).
//! - [`assign`]: which worker runs which unit, decided by the group's leader.
//! - [`configs`]: the topic of configurations, replayed into an image.
//! - [`statuses`]: the topic of states, replayed into an image.
//!
//! Nothing here talks: time is an argument, and what is written is a value.

pub mod assign;
pub mod configs;
pub mod protocol;
pub mod statuses;

use std::fmt;

/// What is handed to one worker at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Who says what state a connector has.
    Connector(String),
    Task(String, u32),
}

impl Unit {
    pub fn connector(&self) -> &str {
        match self {
            Unit::Connector(name) | Unit::Task(name, _) => name,
        }
    }

    pub fn is_task(&self) -> bool {
        matches!(self, Unit::Task(..))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Connector(name) => f.write_str(name),
            Unit::Task(name, index) => write!(f, "{name}-{index}"),
        }
    }
}

/// A record of one of the workers' topics: its key, and its value or none where it takes the key away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Option<Vec<u8>>,
}

impl Entry {
    fn set(key: String, value: &serde_json::Value) -> Entry {
        Entry {
            key,
            value: Some(value.to_string().into_bytes()),
        }
    }

    fn gone(key: String) -> Entry {
        Entry { key, value: None }
    }
}
