//! The configuration of a server: read from a file, the environment and the command line, checked
//! as a whole, and resolved into typed values. Reading it creates and writes nothing.

mod listeners;
mod load;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::PathBuf;

pub use listeners::{HostPort, Listener, Listeners, QuorumVoter, SecurityProtocol};
pub use load::{Notice, notices_line};
pub use sections::{
    Cleaner, Connections, Fetch, Groups, Lifecycle, LogFormat, MetadataSnapshots, Offsets,
    Replication, Retention, Storage, TopicCreation, Transactions,
};

use super::values::{Origin, Values};

const ROLES: &str = "process.roles";
const NODE_ID: &str = "node.id";
const BROKER_ID: &str = "broker.id";
const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
const LOG_DIRS: &str = "log.dirs";
const LOG_DIR: &str = "log.dir";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub broker: bool,
    pub controller: bool,
}

/// Everything that a server reads from its configuration. Configs of topics come from
/// [`topic_config`](super::topic_config), which also knows the broker's defaults for them.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    pub node_id: i32,
    pub roles: Roles,
    pub rack: Option<String>,
    pub listeners: Listeners,
    /// Empty if the quorum is found through `quorum_bootstrap_servers`, or is this process alone.
    pub quorum_voters: Vec<QuorumVoter>,
    pub quorum_bootstrap_servers: Vec<HostPort>,
    /// The one directory that holds all data. It may not exist yet.
    pub log_dir: PathBuf,
    pub metrics_listener: Option<HostPort>,
    pub log_format: LogFormat,
    /// `None` leaves it to the machine or control group.
    pub memory_bytes: Option<u64>,
    pub connections: Connections,
    pub fetch: Fetch,
    pub topic_creation: TopicCreation,
    pub retention: Retention,
    pub cleaner: Cleaner,
    pub offsets: Offsets,
    pub groups: Groups,
    pub transactions: Transactions,
    pub lifecycle: Lifecycle,
    pub replication: Replication,
    pub storage: Storage,
    pub metadata_snapshots: MetadataSnapshots,
    values: Values,
}

impl ServerConfig {
    /// Every key's value and where it comes from.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Fills in this host's name wherever a listener is advertised without a host. Kafka takes the
    /// canonical name of the host.
    pub fn set_own_host(&mut self, host: &str) {
        let Listeners {
            advertised,
            advertised_controller,
            ..
        } = &mut self.listeners;
        for listener in advertised.iter_mut().chain(advertised_controller) {
            if listener.host.is_empty() {
                host.clone_into(&mut listener.host);
            }
        }
    }

    /// This configuration with the dynamic configs of all brokers and of this one laid over it;
    /// dynamic configs from before are forgotten. A key that may not change while the broker runs
    /// is refused.
    pub fn with_dynamic(
        &self,
        cluster: &BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> Result<ServerConfig, ConfigErrors> {
        load::with_dynamic(self, cluster, broker)
    }

    fn build(values: Values, problems: &mut Problems) -> ServerConfig {
        let roles = roles(&values, problems);
        let listeners = listeners::resolve(&values, roles, problems);
        let config = ServerConfig {
            node_id: node_id(&values, problems),
            roles,
            rack: values.text("broker.rack").map(str::to_owned),
            listeners,
            quorum_voters: listeners::voters(&values, problems),
            quorum_bootstrap_servers: listeners::addresses(&values, BOOTSTRAP, problems),
            log_dir: log_dir(&values, problems),
            metrics_listener: listeners::bind_address(&values, "ottla.metrics.listener", problems),
            log_format: LogFormat::read(&values),
            memory_bytes: values
                .get("ottla.memory.bytes")
                .and_then(|v| v.parse().ok()),
            connections: Connections::read(&values, problems),
            fetch: Fetch::read(&values),
            topic_creation: TopicCreation::read(&values),
            retention: Retention::read(&values),
            cleaner: Cleaner::read(&values),
            offsets: Offsets::read(&values),
            groups: Groups::read(&values),
            transactions: Transactions::read(&values),
            lifecycle: Lifecycle::read(&values, problems),
            replication: Replication::read(&values),
            storage: Storage::read(&values),
            metadata_snapshots: MetadataSnapshots::read(&values),
            values,
        };
        check_quorum(&config, problems);
        sections::check_together(&config.values, problems);
        config
    }
}

fn roles(values: &Values, problems: &mut Problems) -> Roles {
    let names = values.list(ROLES);
    let has = |role: &str| names.iter().any(|name| name == role);
    if names.is_empty() {
        let text = if values.is_set("zookeeper.connect") {
            "is required: this file is for a Kafka with ZooKeeper; set it to broker, controller or \
             broker,controller, and node.id to the broker's id"
        } else {
            "is required: broker, controller or broker,controller"
        };
        problems.add(&[ROLES], text.into());
        // What a process without a role lacks besides says nothing.
        problems.failed.insert(ROLES.into());
    }
    Roles {
        broker: has("broker"),
        controller: has("controller"),
    }
}

/// `node.id`, or the older `broker.id`.
fn node_id(values: &Values, problems: &mut Problems) -> i32 {
    let (node_id, broker_id) = (values.int(NODE_ID), values.int(BROKER_ID));
    if node_id >= 0 && broker_id >= 0 && node_id != broker_id {
        let text = format!("node.id is {node_id} and broker.id is {broker_id}: they must be equal");
        problems.add(&[BROKER_ID, NODE_ID], text);
    }
    let id = node_id.max(broker_id);
    if id < 0 {
        problems.add(
            &[NODE_ID, BROKER_ID],
            "is required: a number from 0 up".into(),
        );
    }
    id
}

fn log_dir(values: &Values, problems: &mut Problems) -> PathBuf {
    let key = if values.is_set(LOG_DIRS) {
        LOG_DIRS
    } else {
        LOG_DIR
    };
    let dirs = values.list(key);
    if dirs.len() != 1 {
        let text = format!(
            "names {} directories, and a broker keeps everything in one; put several disks under \
             one file system",
            dirs.len()
        );
        problems.add(&[key], text);
    }
    dirs.first().map(PathBuf::from).unwrap_or_default()
}

fn check_quorum(config: &ServerConfig, problems: &mut Problems) {
    let voters = &config.quorum_voters;
    let keys = [VOTERS, NODE_ID, ROLES, BOOTSTRAP];
    if !voters.is_empty() && config.node_id >= 0 {
        let votes = voters.iter().any(|voter| voter.id == config.node_id);
        if config.roles.controller && !votes {
            let text = format!(
                "a controller must be a voter; none has the id {}",
                config.node_id
            );
            problems.add(&keys, text);
        }
        if !config.roles.controller && config.roles.broker && votes {
            let id = config.node_id;
            let text = format!("the voter {id} is this process, which is only a broker");
            problems.add(&keys, text);
        }
    }
    if config.roles.broker
        && !config.roles.controller
        && voters.is_empty()
        && config.quorum_bootstrap_servers.is_empty()
    {
        let text = format!("a broker needs the addresses of the controllers: set {VOTERS} or this");
        problems.add(&[BOOTSTRAP, VOTERS, ROLES], text);
    }
}

/// Gathers what is wrong. Problems that only follow from an earlier one are left out.
pub(super) struct Problems {
    /// Keys whose values were dropped because they are wrong in themselves.
    failed: BTreeSet<String>,
    found: Vec<(&'static str, String)>,
}

impl Problems {
    fn new(failed: BTreeSet<String>) -> Self {
        Self {
            failed,
            found: Vec::new(),
        }
    }

    /// Notes a problem with these keys, reported as one of the first of them.
    fn add(&mut self, keys: &[&'static str], text: String) {
        if !keys.iter().any(|key| self.failed.contains(*key)) {
            self.found.push((keys[0], text));
        }
    }

    /// Whether one of these keys has a problem already, of which others may only be consequences.
    fn has(&self, keys: &[&str]) -> bool {
        let has = |key: &&str| {
            self.failed.contains(*key) || self.found.iter().any(|(found, _)| found == key)
        };
        keys.iter().any(has)
    }

    fn into_errors(self, values: &Values) -> Vec<ConfigProblem> {
        let each = |(key, text): (&'static str, String)| ConfigProblem {
            origin: values
                .origin(key)
                .filter(|o| **o != Origin::Embedded)
                .cloned(),
            text: format!("{key}: {text}"),
        };
        self.found.into_iter().map(each).collect()
    }
}

/// One thing that is wrong with a configuration, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where it was written; `None` for what nobody wrote.
    pub origin: Option<Origin>,
    pub text: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        // What was pasted into a file does not break a log line or drive a terminal.
        self.text
            .chars()
            .try_for_each(|c| f.write_char(if c.is_control() { '?' } else { c }))
    }
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
