//! The topic of states (`status.storage.topic`), in Kafka Connect's own form (`KafkaStatusBackingStore`; values
//! are JSON without schemas).
//!
//! | key | value |
//! | --- | --- |
//! | `status-connector-NAME` | `{"state", "trace", "worker_id", "generation", "version"}`; none: it is deleted |
//! | `status-task-NAME-N` | the same |
//!
//! `status-topic-TOPIC:connector-NAME` (KIP-558) says nothing to this runtime, and stays as it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Entry, Unit};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// RUNNING, PAUSED, STOPPED, FAILED, UNASSIGNED; Kafka Connect has RESTARTING too.
    pub state: String,
    /// Why it failed.
    pub trace: Option<String>,
    /// `host:port` of the worker's REST API.
    pub worker_id: String,
    /// Of the workers' group.
    pub generation: i32,
}

/// What the topic says.
#[derive(Clone, Debug, Default)]
pub struct Statuses {
    units: BTreeMap<Unit, Status>,
}

impl Statuses {
    /// Takes one record. What cannot be read is an error, and changes nothing.
    pub fn replay(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), String> {
        let Some(unit) = unit(key) else {
            return Ok(());
        };
        let value = match value {
            None => Value::Null,
            Some(bytes) => serde_json::from_slice(bytes).map_err(|e| format!("{key}: {e}"))?,
        };
        if value.is_null() {
            self.units.remove(&unit);
            return Ok(());
        }
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let status = Status {
            state: text("state").ok_or_else(|| format!("{key}: no state"))?,
            trace: text("trace"),
            worker_id: text("worker_id").ok_or_else(|| format!("{key}: no worker_id"))?,
            generation: value
                .get("generation")
                .and_then(Value::as_i64)
                .and_then(|g| i32::try_from(g).ok())
                .ok_or_else(|| format!("{key}: no generation"))?,
        };
        self.units.insert(unit, status);
        Ok(())
    }

    pub fn get(&self, unit: &Unit) -> Option<&Status> {
        self.units.get(unit)
    }

    /// All that there is of a connector.
    pub fn of(&self, connector: &str) -> Vec<Unit> {
        let units = self.units.keys().filter(|u| u.connector() == connector);
        units.cloned().collect()
    }
}

fn unit(key: &str) -> Option<Unit> {
    if let Some(name) = key.strip_prefix("status-connector-") {
        return Some(Unit::Connector(name.to_owned()));
    }
    let (name, index) = key.strip_prefix("status-task-")?.rsplit_once('-')?;
    Some(Unit::Task(name.to_owned(), index.parse().ok()?))
}

fn key(unit: &Unit) -> String {
    match unit {
        Unit::Connector(name) => format!("status-connector-{name}"),
        Unit::Task(name, index) => format!("status-task-{name}-{index}"),
    }
}

pub fn entry(unit: &Unit, status: &Status) -> Entry {
    let value = json!({
        "state": status.state,
        "trace": status.trace,
        "worker_id": status.worker_id,
        "generation": status.generation,
        "version": env!("CARGO_PKG_VERSION"),
    });
    Entry::set(key(unit), &value)
}

pub fn removal(unit: &Unit) -> Entry {
    Entry::gone(key(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_kafka_connect_are_read_and_ours_are_like_them() {
        let mut image = Statuses::default();
        let value = br#"{"state":"FAILED","trace":"java.lang.X","worker_id":"10.0.0.1:8083","generation":7}"#;
        image.replay("status-task-a-b-3", Some(value)).unwrap();
        image
            .replay("status-topic-t:connector-a-b", Some(b"{}"))
            .unwrap();
        let unit = Unit::Task("a-b".into(), 3);
        let status = image.get(&unit).unwrap().clone();
        assert_eq!(
            (status.generation, status.worker_id.as_str()),
            (7, "10.0.0.1:8083")
        );
        let written = entry(&unit, &status);
        assert_eq!(written.key, "status-task-a-b-3");
        let text = String::from_utf8(written.value.unwrap()).unwrap();
        assert!(text.starts_with(r#"{"state":"FAILED","trace":"java.lang.X","worker_id":"10.0.0.1:8083","generation":7,"#), "{text}");
        assert!(image.replay("status-task-a-b-3", Some(b"{}")).is_err());
        assert_eq!(image.of("a-b"), std::slice::from_ref(&unit));
        let gone = removal(&unit);
        image.replay(&gone.key, gone.value.as_deref()).unwrap();
        assert!(image.of("a-b").is_empty());
    }
}
