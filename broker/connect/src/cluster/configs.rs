//! The topic of configurations (`config.storage.topic`), in Kafka Connect's own form
//! (`KafkaConfigBackingStore`; values are JSON without schemas).
//!
//! | key | value |
//! | --- | --- |
//! | `connector-NAME` | `{"properties": {..}}`; none: the connector is deleted |
//! | `task-NAME-N` | `{"properties": {..}}`, in force once committed |
//! | `commit-NAME` | `{"tasks": n}`: tasks 0 to n - 1 were written before it |
//! | `target-state-NAME` | `{"state": "STARTED" or "PAUSED", "state.v2": "STOPPED" too}` |
//! | `restart-connector-NAME` | `{"include-tasks": .., "only-failed": ..}` (KIP-745) |
//!
//! Other keys (`session-key`, `task-count-record-NAME`, `logger-cluster-NAME`) say nothing to this runtime, and
//! stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Entry, Unit};
use crate::config::Props;

/// Tasks of one connector at most: each has a record and a consumer of its own.
pub const TASKS_MAX: usize = 1000;

/// What a connector is meant to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    #[default]
    Running,
    Paused,
    Stopped,
}

impl Target {
    /// As statuses say it.
    pub fn name(self) -> &'static str {
        match self {
            Target::Running => "RUNNING",
            Target::Paused => "PAUSED",
            Target::Stopped => "STOPPED",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connector {
    /// As it was given, with references to secrets.
    pub config: Props,
    pub target: Target,
    /// Configurations of tasks that are in force.
    pub tasks: Vec<Props>,
    /// The connector's configuration when they came into force.
    pub applied: Props,
    /// A commit came without all tasks before it: compaction took some while it was read. None runs.
    pub inconsistent: bool,
    /// Written, but not committed yet.
    pending: BTreeMap<u32, Props>,
}

/// Somebody asked for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub connector: String,
    pub include_tasks: bool,
    pub only_failed: bool,
}

/// What the topic says, up to an offset.
#[derive(Clone, Debug, Default)]
pub struct Configs {
    connectors: BTreeMap<String, Connector>,
    /// Of connectors that are not there: Kafka Connect writes a first state before the configuration.
    targets: BTreeMap<String, Target>,
    /// Of the next record.
    offset: i64,
}

impl Configs {
    /// Takes one record. A restart is answered, for it is no state.
    ///
    /// What cannot be read is an error, and leaves the image as it was but for the offset.
    pub fn replay(
        &mut self,
        offset: i64,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<Option<Restart>, String> {
        self.offset = offset + 1;
        let value = match value {
            None => None,
            Some(bytes) => {
                let value = serde_json::from_slice::<Value>(bytes);
                Some(value.map_err(|e| format!("{key} at offset {offset}: {e}"))?)
            }
        };
        let value = value.filter(|v| !v.is_null());
        let wrong = |what: &str| format!("{key} at offset {offset}: no {what}");
        if let Some(name) = key.strip_prefix("connector-") {
            match value {
                None => {
                    self.connectors.remove(name);
                }
                Some(value) => {
                    let config = properties(&value).ok_or_else(|| wrong("properties"))?;
                    let target = self.targets.remove(name);
                    let connector = self.connectors.entry(name.to_owned()).or_default();
                    connector.config = config;
                    connector.target = target.unwrap_or(connector.target);
                }
            }
        } else if let Some((name, index)) = key.strip_prefix("task-").and_then(task_of) {
            if let (Some(value), Some(connector)) = (value, self.connectors.get_mut(name)) {
                let config = properties(&value).ok_or_else(|| wrong("properties"))?;
                connector.pending.insert(index, config);
            }
        } else if let Some(name) = key.strip_prefix("commit-") {
            if let (Some(value), Some(connector)) = (value, self.connectors.get_mut(name)) {
                let count = value.get("tasks").and_then(Value::as_u64);
                let count = count.ok_or_else(|| wrong("tasks"))?;
                commit(connector, count);
            }
        } else if let Some(name) = key.strip_prefix("target-state-") {
            let target = match &value {
                None => Target::Running,
                Some(value) => target(value).ok_or_else(|| wrong("state"))?,
            };
            match self.connectors.get_mut(name) {
                Some(connector) => connector.target = target,
                None if value.is_some() => {
                    self.targets.insert(name.to_owned(), target);
                }
                None => {
                    self.targets.remove(name);
                }
            }
        } else if let (Some(name), Some(value)) = (key.strip_prefix("restart-connector-"), value) {
            let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
            return Ok(Some(Restart {
                connector: name.to_owned(),
                include_tasks: flag("include-tasks"),
                only_failed: flag("only-failed"),
            }));
        }
        Ok(None)
    }

    /// Of the next record: all before it have been taken.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    pub fn names(&self) -> Vec<String> {
        self.connectors.keys().cloned().collect()
    }

    pub fn get(&self, name: &str) -> Option<&Connector> {
        self.connectors.get(name)
    }

    /// What there is to run.
    pub fn units(&self) -> BTreeSet<Unit> {
        let mut units = BTreeSet::new();
        for (name, connector) in &self.connectors {
            units.insert(Unit::Connector(name.clone()));
            units.extend((0..connector.task_count()).map(|i| Unit::Task(name.clone(), i)));
        }
        units
    }
}

impl Connector {
    /// Tasks that may run.
    pub fn task_count(&self) -> u32 {
        if self.inconsistent {
            0
        } else {
            self.tasks.len() as u32
        }
    }

    /// Configurations of the tasks that it should have: each task has the connector's.
    pub fn wanted_tasks(&self) -> Vec<Props> {
        if self.target == Target::Stopped {
            return Vec::new();
        }
        let max = self
            .config
            .get("tasks.max")
            .and_then(|t| t.trim().parse().ok());
        let mut task = self.config.clone();
        // What Kafka Connect's own workers look for, should they read the topic again.
        let class = task
            .get("connector.class")
            .and_then(|c| c.strip_suffix("Connector"));
        if let Some(class) = class {
            task.insert("task.class".into(), format!("{class}Task"));
        }
        vec![task; max.unwrap_or(1).min(TASKS_MAX)]
    }

    /// Whether tasks have to be written: a leader has gone in between, or the topic comes from Kafka Connect.
    pub fn is_behind(&self) -> bool {
        self.inconsistent || self.tasks != self.wanted_tasks()
    }
}

/// `NAME-N`, of which the name may have dashes.
fn task_of(text: &str) -> Option<(&str, u32)> {
    let (name, index) = text.rsplit_once('-')?;
    Some((name, index.parse().ok()?))
}

fn properties(value: &Value) -> Option<Props> {
    let entries = value.get("properties")?.as_object()?.iter();
    // Kafka Connect's are texts; null is a key without a value.
    let entries = entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
    Some(entries.collect())
}

fn target(value: &Value) -> Option<Target> {
    let state = value.get("state.v2").filter(|s| !s.is_null());
    match state.or_else(|| value.get("state"))?.as_str()? {
        "STARTED" => Some(Target::Running),
        "PAUSED" => Some(Target::Paused),
        "STOPPED" => Some(Target::Stopped),
        _ => None,
    }
}

fn commit(connector: &mut Connector, count: u64) {
    let mut pending = std::mem::take(&mut connector.pending);
    let mut tasks = Vec::new();
    for index in 0..count {
        let new = u32::try_from(index).ok().and_then(|i| pending.remove(&i));
        let old = || connector.tasks.get(index as usize).cloned();
        let Some(task) = new.or_else(old) else {
            connector.inconsistent = true;
            return;
        };
        tasks.push(task);
    }
    connector.tasks = tasks;
    connector.applied = connector.config.clone();
    connector.inconsistent = false;
}

fn props_json(props: &Props) -> Value {
    let entries = props
        .iter()
        .map(|(k, v)| (k.clone(), Value::from(v.as_str())));
    json!({"properties": entries.collect::<Map<_, _>>()})
}

/// A connector, new or changed.
pub fn connector_entry(name: &str, config: &Props) -> Entry {
    Entry::set(format!("connector-{name}"), &props_json(config))
}

/// Its tasks, to be written in this order.
pub fn task_entries(name: &str, tasks: &[Props]) -> Vec<Entry> {
    let each = tasks.iter().enumerate();
    let mut entries: Vec<_> = each
        .map(|(i, task)| Entry::set(format!("task-{name}-{i}"), &props_json(task)))
        .collect();
    entries.push(Entry::set(
        format!("commit-{name}"),
        &json!({"tasks": tasks.len()}),
    ));
    entries
}

pub fn target_entry(name: &str, target: Target) -> Entry {
    // Workers before Kafka 3.5 know no STOPPED.
    let (state, newer) = match target {
        Target::Running => ("STARTED", "STARTED"),
        Target::Paused => ("PAUSED", "PAUSED"),
        Target::Stopped => ("PAUSED", "STOPPED"),
    };
    let value = json!({"state": state, "state.v2": newer});
    Entry::set(format!("target-state-{name}"), &value)
}

pub fn restart_entry(restart: &Restart) -> Entry {
    let value = json!({"include-tasks": restart.include_tasks, "only-failed": restart.only_failed});
    Entry::set(format!("restart-connector-{}", restart.connector), &value)
}

/// What takes a connector away.
pub fn removal(name: &str) -> [Entry; 2] {
    [
        Entry::gone(format!("connector-{name}")),
        Entry::gone(format!("target-state-{name}")),
    ]
}

#[cfg(test)]
#[path = "configs_tests.rs"]
mod tests;
