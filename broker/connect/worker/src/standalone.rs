//! The connectors of a worker that is alone: they are in its memory, and end with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_connect::cluster::configs::Target;
use ottla_connect::config::Props;
use ottla_connect::config::files::InitialState;

use crate::herder::{Herder, Info, Place, Restart, TaskInfo};
use crate::task::{Control, Spec, State, Task};
use crate::worker::{Worker, WorkerError};

struct Connector {
    /// As it was given, with references to secrets.
    shown: Props,
    target: Target,
    tasks: Vec<Task>,
}

pub struct Standalone {
    worker: Arc<Worker>,
    /// `host:port` of its REST API, as statuses name it.
    id: String,
    connectors: Mutex<BTreeMap<String, Connector>>,
}

fn found<'a>(
    connectors: &'a BTreeMap<String, Connector>,
    name: &str,
) -> Result<&'a Connector, WorkerError> {
    let found = connectors.get(name);
    found.ok_or_else(|| WorkerError::NotFound(name.to_owned()))
}

impl Standalone {
    pub fn new(worker: Arc<Worker>, id: String) -> Standalone {
        Standalone {
            worker,
            id,
            connectors: Mutex::new(BTreeMap::new()),
        }
    }

    fn connectors(&self) -> MutexGuard<'_, BTreeMap<String, Connector>> {
        self.connectors.lock().expect("no panic while it is held")
    }

    /// Its configuration as it was given, and what it is meant to do.
    fn configured(&self, name: &str) -> Result<(Props, Target), WorkerError> {
        let connectors = self.connectors();
        let connector = found(&connectors, name)?;
        Ok((connector.shown.clone(), connector.target))
    }

    fn tasks(&self, name: &str, shown: &Props, target: Target) -> Result<Vec<Task>, WorkerError> {
        if target == Target::Stopped {
            return Ok(Vec::new());
        }
        let max: u32 = shown
            .get("tasks.max")
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(1);
        let specs = (0..max).map(|i| self.worker.spec(name, i, shown, target == Target::Paused));
        let specs: Vec<Spec> = specs.collect::<Result<_, _>>()?;
        Ok(specs.into_iter().map(Task::start).collect())
    }
}

impl Herder for Standalone {
    fn worker(&self) -> &Worker {
        &self.worker
    }

    fn place(&self, _: Option<(&str, u32)>) -> Place {
        Place::Here
    }

    /// Starts a connector, or starts it anew with another configuration. Whether it is new.
    fn put(
        &self,
        name: &str,
        shown: Props,
        state: Option<InitialState>,
        replace: bool,
    ) -> Result<bool, WorkerError> {
        if !replace && self.connectors().contains_key(name) {
            return Err(WorkerError::Exists(name.to_owned()));
        }
        self.worker.accept(&shown)?;
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

    fn names(&self) -> Vec<String> {
        self.connectors().keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Result<Info, WorkerError> {
        let connectors = self.connectors();
        let connector = found(&connectors, name)?;
        let tasks = connector.tasks.iter().zip(0..);
        let tasks = tasks.map(|(task, id)| {
            let status = task.status();
            TaskInfo {
                id,
                state: status.state.name().to_owned(),
                trace: status.trace,
                worker_id: self.id.clone(),
                counts: Some(status.counts),
            }
        });
        Ok(Info {
            name: name.to_owned(),
            config: connector.shown.clone(),
            state: connector.target.name().to_owned(),
            worker_id: self.id.clone(),
            tasks: tasks.collect(),
        })
    }

    fn remove(&self, name: &str) -> Result<(), WorkerError> {
        let removed = self.connectors().remove(name);
        removed
            .map(drop)
            .ok_or_else(|| WorkerError::NotFound(name.to_owned()))
    }

    fn set_target(&self, name: &str, target: Target) -> Result<(), WorkerError> {
        let (config, before) = self.configured(name)?;
        if before == target {
            return Ok(());
        }
        // Threads are started and waited for outside of the lock.
        let new = if before == Target::Stopped {
            Some(self.tasks(name, &config, target)?)
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

    /// Starts tasks anew: one, or all, or those that have failed. A connector alone has nothing to restart.
    fn restart(&self, name: &str, what: Restart) -> Result<(), WorkerError> {
        let (config, target) = self.configured(name)?;
        let states: Vec<State> = {
            let connectors = self.connectors();
            let tasks = found(&connectors, name)?.tasks.iter();
            tasks.map(|t| t.status().state).collect()
        };
        let chosen: Vec<usize> = match what {
            Restart::Task(task) if (task as usize) < states.len() => vec![task as usize],
            Restart::Task(task) => return Err(WorkerError::NoTask(name.to_owned(), task)),
            Restart::Connector {
                include_tasks,
                only_failed,
            } => {
                let all = 0..states.len();
                all.filter(|i| include_tasks && (!only_failed || states[*i] == State::Failed))
                    .collect()
            }
        };
        for i in chosen {
            let spec = self
                .worker
                .spec(name, i as u32, &config, target == Target::Paused)?;
            let new = Task::start(spec);
            let mut connectors = self.connectors();
            let place = connectors.get_mut(name).and_then(|c| c.tasks.get_mut(i));
            let old = place.map(|place| std::mem::replace(place, new));
            drop(connectors);
            drop(old);
        }
        Ok(())
    }

    /// Stops all tasks, each after it has finished what it can.
    fn stop(&self) {
        let connectors = std::mem::take(&mut *self.connectors());
        let tasks = connectors.into_values().flat_map(|c| c.tasks);
        let tasks: Vec<Task> = tasks.collect();
        tasks.iter().for_each(|t| t.tell(Control::Stop));
        drop(tasks);
    }
}
