//! The connectors of one process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_connect::config::files::InitialState;
use ottla_connect::config::providers::{Providers, Resolved};
use ottla_connect::config::tables::{STANDALONE, WORKER};
use ottla_connect::config::validate::ConfigInfos;
use ottla_connect::config::{Problem, Props, Settings, with_prefix};
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
use crate::task::{Control, Spec, State, Status, Task};

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
    #[error("{0}")]
    Other(String),
}

impl From<ConnectError> for WorkerError {
    fn from(error: ConnectError) -> WorkerError {
        WorkerError::Other(error.to_string())
    }
}

/// What a connector is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Running,
    Paused,
    Stopped,
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Target::Running => "RUNNING",
            Target::Paused => "PAUSED",
            Target::Stopped => "STOPPED",
        }
    }
}

struct Connector {
    /// As it was given, with references to secrets.
    shown: Props,
    target: Target,
    tasks: Vec<Task>,
}

/// What is said about a connector.
#[derive(Clone, Debug)]
pub struct Info {
    pub name: String,
    pub config: Props,
    pub target: Target,
    pub tasks: Vec<Status>,
}

pub struct Worker {
    props: Props,
    settings: Settings,
    providers: Providers,
    around: Surroundings,
    connectors: Mutex<BTreeMap<String, Connector>>,
}

impl Worker {
    /// From the text of `worker.properties`.
    pub fn standalone(props: Props, runtime: Handle) -> Result<Worker, WorkerError> {
        let providers = Providers::of_worker(&props)?;
        let resolved = providers
            .resolve(&props, &System)
            .map_err(WorkerError::Config)?;
        let props = resolved.reveal().clone();
        check_worker(&props)?;
        let settings = Settings::parse(WORKER, &props).map_err(WorkerError::Config)?;
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
            connectors: Mutex::new(BTreeMap::new()),
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The worker's keys, with secrets: for its clients.
    pub(crate) fn props(&self) -> &Props {
        &self.props
    }

    fn connectors(&self) -> MutexGuard<'_, BTreeMap<String, Connector>> {
        self.connectors.lock().expect("no panic while it is held")
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

    /// Starts a connector, or starts it anew with another configuration. Whether it is new.
    pub fn put(
        &self,
        name: &str,
        shown: Props,
        state: Option<InitialState>,
        replace: bool,
    ) -> Result<bool, WorkerError> {
        if !replace && self.connectors().contains_key(name) {
            return Err(WorkerError::Exists(name.to_owned()));
        }
        let infos = self.validate(&shown)?;
        if infos.error_count > 0 {
            let problems = infos.errors().map(|(key, message)| Problem {
                key: key.to_owned(),
                message: message.to_owned(),
            });
            return Err(WorkerError::Config(problems.collect()));
        }
        let old = self.connectors().remove(name);
        let target = match (state, &old) {
            (Some(InitialState::Paused), _) => Target::Paused,
            (Some(InitialState::Stopped), _) => Target::Stopped,
            (None, Some(old)) => old.target,
            _ => Target::Running,
        };
        let new = old.is_none();
        drop(old);
        let tasks = self.tasks(name, &shown, target)?;
        let connector = Connector {
            shown,
            target,
            tasks,
        };
        self.connectors().insert(name.to_owned(), connector);
        tracing::info!("connector {name} is {}", target.name());
        Ok(new)
    }

    fn tasks(&self, name: &str, shown: &Props, target: Target) -> Result<Vec<Task>, WorkerError> {
        if target == Target::Stopped {
            return Ok(Vec::new());
        }
        let max: u32 = shown
            .get("tasks.max")
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(1);
        let specs = (0..max).map(|i| self.spec(name, i, shown, target == Target::Paused));
        let specs: Vec<Spec> = specs.collect::<Result<_, _>>()?;
        Ok(specs.into_iter().map(Task::start).collect())
    }

    fn spec(
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

    pub fn names(&self) -> Vec<String> {
        self.connectors().keys().cloned().collect()
    }

    pub fn info(&self, name: &str) -> Result<Info, WorkerError> {
        let connectors = self.connectors();
        let found = connectors.get(name);
        let found = found.ok_or_else(|| WorkerError::NotFound(name.to_owned()))?;
        Ok(Info {
            name: name.to_owned(),
            config: found.shown.clone(),
            target: found.target,
            tasks: found.tasks.iter().map(Task::status).collect(),
        })
    }

    pub fn remove(&self, name: &str) -> Result<(), WorkerError> {
        let removed = self.connectors().remove(name);
        removed
            .map(drop)
            .ok_or_else(|| WorkerError::NotFound(name.to_owned()))
    }

    pub fn set_target(&self, name: &str, target: Target) -> Result<(), WorkerError> {
        let info = self.info(name)?;
        if info.target == target {
            return Ok(());
        }
        // Threads are started and waited for outside of the lock.
        let new = if info.target == Target::Stopped {
            Some(self.tasks(name, &info.config, target)?)
        } else {
            None
        };
        let mut old = Vec::new();
        let mut connectors = self.connectors();
        let Some(connector) = connectors.get_mut(name) else {
            return Err(WorkerError::NotFound(name.to_owned()));
        };
        connector.target = target;
        match (target, new) {
            (_, Some(tasks)) => connector.tasks = tasks,
            (Target::Stopped, None) => old = std::mem::take(&mut connector.tasks),
            (Target::Paused, None) => connector.tasks.iter().for_each(|t| t.tell(Control::Pause)),
            (Target::Running, None) => connector.tasks.iter().for_each(|t| t.tell(Control::Resume)),
        }
        drop(connectors);
        drop(old);
        Ok(())
    }

    /// Starts tasks anew: one, or all, or those that have failed. How many.
    pub fn restart(
        &self,
        name: &str,
        task: Option<u32>,
        only_failed: bool,
    ) -> Result<usize, WorkerError> {
        let info = self.info(name)?;
        let wanted = |i: usize| {
            let failed = info.tasks[i].state == State::Failed;
            task.is_none_or(|t| t as usize == i) && (!only_failed || failed)
        };
        if let Some(task) = task
            && task as usize >= info.tasks.len()
        {
            return Err(WorkerError::NoTask(name.to_owned(), task));
        }
        let chosen: Vec<usize> = (0..info.tasks.len()).filter(|i| wanted(*i)).collect();
        for i in &chosen {
            let spec = self.spec(name, *i as u32, &info.config, info.target == Target::Paused)?;
            let new = Task::start(spec);
            let mut connectors = self.connectors();
            let place = connectors.get_mut(name).and_then(|c| c.tasks.get_mut(*i));
            let old = place.map(|place| std::mem::replace(place, new));
            drop(connectors);
            drop(old);
        }
        Ok(chosen.len())
    }

    /// Stops all tasks, each after it has finished what it can.
    pub fn stop(&self) {
        let connectors = std::mem::take(&mut *self.connectors());
        let tasks = connectors.into_values().flat_map(|c| c.tasks);
        let tasks: Vec<Task> = tasks.collect();
        tasks.iter().for_each(|t| t.tell(Control::Stop));
        drop(tasks);
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

fn check_worker(props: &Props) -> Result<(), WorkerError> {
    use ottla_connect::config::tables::worker::{CLIENT_PREFIXES, OTHER_PREFIXES};
    let mut problems = Vec::new();
    for table in [WORKER, STANDALONE] {
        if let Err(wrong) = Settings::parse(table, props) {
            problems.extend(wrong);
        }
    }
    let known = || WORKER.iter().chain(STANDALONE).map(|d| d.name);
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
