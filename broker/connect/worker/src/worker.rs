//! What a worker has, whether it is alone or one of many.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ottla_connect::config::providers::{Providers, Resolved};
use ottla_connect::config::tables::{DISTRIBUTED, STANDALONE, WORKER};
use ottla_connect::config::validate::ConfigInfos;
use ottla_connect::config::{Definition, Problem, Props, Settings, with_prefix};
use ottla_connect::converter::{self, Converters};
use ottla_connect::error::ConnectError;
use ottla_connect::errors::{ErrorHandler, ErrorPolicy, Pipeline};
use ottla_connect::transform::Chain;
use tokio::runtime::Handle;

use crate::dead_letters::DeadLetters;
use crate::kafka::{Role, client_config, client_keys};
use crate::net::Guard;
use crate::plugins::{self, Surroundings};
use crate::system::System;
use crate::task::Spec;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    #[error("{}", .0.iter().map(|p| p.message.clone()).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Problem>),
    #[error("{0}")]
    Client(String),
    #[error("Connector {0} not found")]
    NotFound(String),
    #[error("Connector {0} already exists")]
    Exists(String),
    #[error("No status found for task {0}-{1}")]
    NoTask(String, u32),
    #[error("Connector {0} must be in the STOPPED state before its offsets can be changed")]
    NotStopped(String),
    /// The group of workers is not ready, or has changed under the request.
    #[error("{0}")]
    Rebalancing(String),
    #[error("{0}")]
    Other(String),
}

impl From<ConnectError> for WorkerError {
    fn from(error: ConnectError) -> WorkerError {
        WorkerError::Other(error.to_string())
    }
}

/// What kind of worker it is: which keys it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Standalone,
    Distributed,
}

impl Mode {
    fn table(self) -> &'static [Definition] {
        match self {
            Mode::Standalone => STANDALONE,
            Mode::Distributed => DISTRIBUTED,
        }
    }
}

/// What every kind of worker does: it knows its keys, checks connectors', and makes tasks of them.
pub struct Worker {
    props: Props,
    settings: Settings,
    providers: Providers,
    around: Surroundings,
    /// The group's `session.timeout.ms`, if there is a group: for the tasks' consumers too, so that a dead
    /// worker's topic-partitions are given away as soon as its tasks.
    session_timeout_ms: Option<i64>,
}

impl Worker {
    /// From the text of `worker.properties`.
    pub fn new(mode: Mode, props: Props, runtime: Handle) -> Result<Worker, WorkerError> {
        let providers = Providers::of_worker(&props)?;
        let resolved = providers
            .resolve(&props, &System)
            .map_err(WorkerError::Config)?;
        let props = resolved.reveal().clone();
        check_worker(mode, &props)?;
        let settings = Settings::parse(WORKER, &props).map_err(WorkerError::Config)?;
        let session_timeout_ms = match mode {
            Mode::Standalone => None,
            Mode::Distributed => {
                let own = Settings::parse(DISTRIBUTED, &props).map_err(WorkerError::Config)?;
                Some(own.long("session.timeout.ms"))
            }
        };
        let spool = settings.text("ottla.connect.spool.dir").map(PathBuf::from);
        let spool = spool.unwrap_or_else(|| std::env::temp_dir().join("ottla-connect"));
        std::fs::create_dir_all(&spool)
            .map_err(|e| WorkerError::Other(format!("{}: {e}", spool.display())))?;
        remove_orphans(&spool);
        let around = Surroundings {
            runtime,
            guard: Guard {
                allow_link_local: settings.boolean("ottla.connect.allow.link.local"),
                allowed_hosts: settings.list("ottla.connect.allowed.hosts").to_vec(),
            },
            held_bytes: Arc::new(AtomicUsize::new(0)),
            memory_bytes: settings.long("ottla.connect.memory.bytes") as usize,
            spool_dir: spool,
            commit_interval_ms: settings.long("offset.flush.interval.ms"),
        };
        Ok(Worker {
            props,
            settings,
            providers,
            around,
            session_timeout_ms,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The worker's keys, with secrets: for its clients.
    pub(crate) fn props(&self) -> &Props {
        &self.props
    }

    fn resolve(&self, shown: &Props) -> Result<Resolved, WorkerError> {
        self.providers
            .resolve(shown, &System)
            .map_err(WorkerError::Config)
    }

    pub fn validate(&self, shown: &Props) -> Result<ConfigInfos, WorkerError> {
        let resolved = self.resolve(shown)?;
        let mut infos = plugins::validate(shown, &resolved, &self.around.guard);
        // The clients' keys are known to the clients alone.
        for role in [Role::Consumer, Role::Producer, Role::Admin] {
            let keys = client_keys(role, &self.props, resolved.reveal());
            if let Err(error) = keys.and_then(|keys| client_config(role, &keys)) {
                let class = infos
                    .configs
                    .iter_mut()
                    .find(|c| c.value.name == "connector.class");
                if let Some(class) = class {
                    class.value.errors.push(error.to_string());
                    infos.error_count += 1;
                }
            }
        }
        Ok(infos)
    }

    /// Whether a connector may be started so.
    pub(crate) fn accept(&self, shown: &Props) -> Result<(), WorkerError> {
        let infos = self.validate(shown)?;
        if infos.error_count == 0 {
            return Ok(());
        }
        let problems = infos.errors().map(|(key, message)| Problem {
            key: key.to_owned(),
            message: message.to_owned(),
        });
        Err(WorkerError::Config(problems.collect()))
    }

    /// What makes one task of a connector.
    pub(crate) fn spec(
        &self,
        name: &str,
        index: u32,
        shown: &Props,
        paused: bool,
    ) -> Result<Spec, WorkerError> {
        let resolved = self.resolve(shown)?;
        let props = Arc::new(resolved.reveal().clone());
        let config =
            |role| client_keys(role, &self.props, &props).and_then(|k| client_config(role, &k));
        let mut consumer = config(Role::Consumer)?;
        let mut producer = config(Role::Producer)?;
        let admin = config(Role::Admin)?;
        for (client, kind) in [(&mut consumer, "consumer"), (&mut producer, "dlq-producer")] {
            if client.get("client.id").is_none() {
                client.set("client.id", format!("connector-{kind}-{name}-{index}"));
            }
        }
        if let Some(ms) = self.session_timeout_ms
            && consumer.get("session.timeout.ms").is_none()
        {
            consumer.set("session.timeout.ms", ms.to_string());
        }
        let common = Settings::parse(ottla_connect::config::tables::CONNECTOR, &props);
        let policy = ErrorPolicy::of(&common.map_err(WorkerError::Config)?);
        let letters = (
            policy.dead_letter_topic.clone(),
            policy.dead_letter_replication_factor,
        );
        let class = plugins::class(&props)?;
        let (around, runtime) = (self.around.clone(), self.around.runtime.clone());
        let (for_sink, for_pipeline, worker) = (props.clone(), props.clone(), self.props.clone());
        Ok(Spec {
            connector: name.to_owned(),
            index,
            consumer,
            admin: admin.clone(),
            runtime: runtime.clone(),
            props,
            handler: ErrorHandler {
                policy,
                connector: name.to_owned(),
                task: index,
            },
            commit_interval_ms: self.around.commit_interval_ms,
            paused,
            pipeline: Box::new(move || pipeline(&worker, &for_pipeline)),
            sink: Box::new(move || plugins::build(class, &for_sink, around)),
            dead_letters: Box::new(move || {
                let (Some(topic), factor) = letters else {
                    return Ok(None);
                };
                DeadLetters::start(producer, &admin, &topic, factor, runtime).map(Some)
            }),
        })
    }
}

/// Spool files of processes that are gone.
fn remove_orphans(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let of = name
            .strip_suffix(".spool")
            .and_then(|n| n.split('-').next());
        if of.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn check_worker(mode: Mode, props: &Props) -> Result<(), WorkerError> {
    use ottla_connect::config::tables::worker::{CLIENT_PREFIXES, OTHER_PREFIXES};
    let mut problems = Vec::new();
    for table in [WORKER, mode.table()] {
        if let Err(wrong) = Settings::parse(table, props) {
            problems.extend(wrong);
        }
    }
    let known = || WORKER.iter().chain(mode.table()).map(|d| d.name);
    for key in props.keys() {
        let prefixes = CLIENT_PREFIXES.iter().chain(OTHER_PREFIXES);
        if known().any(|k| k == key) || prefixes.into_iter().any(|p| key.starts_with(p)) {
            continue;
        }
        let near = ottla_proto::config::nearest(key, known());
        let near = near.map_or(String::new(), |n| format!(". Did you mean {n}?"));
        problems.push(Problem {
            key: key.clone(),
            message: format!("Configuration is not defined: {key}{near}"),
        });
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(WorkerError::Config(problems))
    }
}

/// Converters and transforms: the connector's, else the worker's.
fn pipeline(worker: &Props, connector: &Props) -> Result<Pipeline, ConnectError> {
    let converter = |key: &str, default: &str, header: bool| {
        let owner = if connector.contains_key(key) {
            connector
        } else {
            worker
        };
        let class = owner.get(key).map_or(default, String::as_str);
        converter::build(class, &with_prefix(owner, &format!("{key}.")), header)
    };
    let problems = |problems: Vec<Problem>| {
        let messages: Vec<_> = problems.into_iter().map(|p| p.message).collect();
        ConnectError::config(messages.join("; "))
    };
    Ok(Pipeline {
        converters: Converters {
            key: converter("key.converter", "", false)?,
            value: converter("value.converter", "", false)?,
            header: converter(
                "header.converter",
                "org.apache.kafka.connect.storage.SimpleHeaderConverter",
                true,
            )?,
        },
        transforms: Chain::build(connector).map_err(problems)?,
    })
}
