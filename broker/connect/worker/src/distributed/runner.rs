//! Runs the units that are this worker's: what is assigned and configured runs, all else does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ottla_connect::cluster::configs::{Restart, Target};
use ottla_connect::cluster::statuses::{self, Status};
use ottla_connect::cluster::{Entry, Unit};
use ottla_connect::config::Props;
use tokio::sync::oneshot;

use super::shared::Shared;
use super::states::States;
use crate::task::{self, Control, Counts, State, Task};
use crate::worker::Worker;

/// Between two looks at what tasks say of themselves.
const LOOK: Duration = Duration::from_millis(200);

/// What the runner is told. `done` hears when it has happened.
pub enum Order {
    Change {
        generation: i32,
        assigned: Vec<Unit>,
        revoked: Vec<Unit>,
        done: oneshot::Sender<()>,
    },
    /// The worker is no member any more, or ends.
    DropAll {
        done: oneshot::Sender<()>,
    },
    /// The configurations have changed.
    Look,
    Restart(Restart),
    RestartTask {
        unit: Unit,
        done: oneshot::Sender<()>,
    },
}

struct Running {
    /// None: it could not be started, for this reason.
    task: Result<Task, String>,
    config: Props,
    paused: bool,
}

impl Running {
    fn status(&self) -> task::Status {
        match &self.task {
            Ok(task) => task.status(),
            Err(why) => task::Status {
                state: State::Failed,
                trace: Some(why.clone()),
                counts: Counts::default(),
            },
        }
    }

    fn tell(&self, control: Control) {
        if let Ok(task) = &self.task {
            task.tell(control);
        }
    }
}

pub struct Runner {
    worker: Arc<Worker>,
    shared: Arc<Shared>,
    states: States,
    running: BTreeMap<Unit, Running>,
    generation: i32,
    /// As statuses name this worker.
    id: String,
}

impl Runner {
    pub fn new(worker: Arc<Worker>, shared: Arc<Shared>, states: States, id: String) -> Runner {
        Runner {
            worker,
            shared,
            states,
            running: BTreeMap::new(),
            generation: 0,
            id,
        }
    }

    /// Until nobody can tell it anything any more.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(LOOK) {
                Ok(order) => self.follow(order),
                Err(RecvTimeoutError::Timeout) => self.reconcile(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.leave(&self.mine());
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Change {
                generation,
                assigned,
                revoked,
                done,
            } => {
                self.generation = generation;
                self.shared.mine().extend(assigned);
                self.leave(&revoked.into_iter().collect());
                let _ = done.send(());
                self.reconcile();
            }
            Order::DropAll { done } => {
                self.leave(&self.mine());
                let _ = done.send(());
            }
            Order::Look => self.reconcile(),
            Order::Restart(restart) => self.restart(&restart),
            Order::RestartTask { unit, done } => {
                self.stop(&BTreeSet::from([unit]));
                self.reconcile();
                let _ = done.send(());
            }
        }
    }

    fn mine(&self) -> BTreeSet<Unit> {
        self.shared.mine().clone()
    }

    /// What should run, with its configuration, and whether paused.
    fn desired(&self) -> BTreeMap<Unit, (Props, bool)> {
        let mut desired = BTreeMap::new();
        let mine = self.mine();
        let configs = self.shared.configs();
        for unit in mine {
            if let Unit::Task(name, index) = &unit
                && let Some(connector) = configs.get(name)
                && *index < connector.task_count()
                && connector.target != Target::Stopped
            {
                let paused = connector.target == Target::Paused;
                desired.insert(unit, (connector.applied.clone(), paused));
            }
        }
        desired
    }

    fn reconcile(&mut self) {
        let desired = self.desired();
        let running = self.running.iter();
        let wrong = running.filter(|(unit, r)| desired.get(unit).is_none_or(|d| d.0 != r.config));
        let wrong: BTreeSet<Unit> = wrong.map(|(unit, _)| unit.clone()).collect();
        self.stop(&wrong);
        for (unit, (config, paused)) in desired {
            match self.running.get_mut(&unit) {
                Some(running) if running.paused != paused => {
                    running.paused = paused;
                    running.tell(if paused {
                        Control::Pause
                    } else {
                        Control::Resume
                    });
                }
                Some(_) => {}
                None => {
                    let started = self.start(&unit, config, paused);
                    self.running.insert(unit, started);
                }
            }
        }
        self.say();
    }

    fn start(&self, unit: &Unit, config: Props, paused: bool) -> Running {
        let Unit::Task(name, index) = unit else {
            unreachable!("only tasks are started")
        };
        tracing::info!("task {unit} starts");
        let spec = self.worker.spec(name, *index, &config, paused);
        let task = spec.map(Task::start).map_err(|error| {
            tracing::error!("task {unit} cannot be started: {error}");
            format!("org.apache.kafka.connect.errors.ConnectException: {error}")
        });
        Running {
            task,
            config,
            paused,
        }
    }

    /// Stops tasks side by side, and waits for them.
    fn stop(&mut self, units: &BTreeSet<Unit>) {
        let stopped: Vec<_> = units
            .iter()
            .filter_map(|u| self.running.remove(u))
            .collect();
        stopped.iter().for_each(|r| r.tell(Control::Stop));
        drop(stopped);
    }

    /// Stops units that go to somebody else, and says so before anybody else can say otherwise.
    fn leave(&mut self, units: &BTreeSet<Unit>) {
        self.shared.mine().retain(|u| !units.contains(u));
        self.stop(units);
        let there = self.shared.configs().units();
        for unit in units {
            let entry = if there.contains(unit) {
                statuses::entry(unit, &self.status("UNASSIGNED", None))
            } else {
                statuses::removal(unit)
            };
            self.unsay(unit, &entry);
        }
        self.states.wait();
    }

    /// What another worker has said meanwhile stays.
    fn unsay(&mut self, unit: &Unit, entry: &Entry) {
        let other = self
            .shared
            .statuses()
            .get(unit)
            .is_some_and(|s| s.worker_id != self.id);
        if other {
            self.states.forget(unit);
        } else {
            self.states.take_back(unit, entry);
        }
    }

    fn status(&self, state: &str, trace: Option<String>) -> Status {
        Status {
            state: state.to_owned(),
            trace,
            worker_id: self.id.clone(),
            generation: self.generation,
        }
    }

    /// Writes states that have changed.
    fn say(&mut self) {
        self.states.look();
        let mut counts = BTreeMap::new();
        for unit in self.mine() {
            let (state, trace) = match &unit {
                Unit::Connector(name) => match self.shared.configs().get(name) {
                    Some(connector) => (connector.target.name(), None),
                    None => continue,
                },
                Unit::Task(..) => {
                    let Some(status) = self.running.get(&unit).map(Running::status) else {
                        continue;
                    };
                    counts.insert(unit.clone(), status.counts);
                    if status.state == State::Unassigned {
                        continue;
                    }
                    (status.state.name(), status.trace)
                }
            };
            let status = self.status(state, trace);
            self.states.say(&unit, &status);
        }
        *self.shared.counts() = counts;
        let gone = {
            let there = self.shared.configs().units();
            let said = self.states.said();
            said.filter(|u| !there.contains(*u))
                .cloned()
                .collect::<Vec<_>>()
        };
        for unit in gone {
            self.unsay(&unit, &statuses::removal(&unit));
        }
    }

    fn restart(&mut self, restart: &Restart) {
        let chosen = self.running.iter().filter(|(unit, running)| {
            unit.connector() == restart.connector
                && restart.include_tasks
                && (!restart.only_failed || running.status().state == State::Failed)
        });
        let chosen: BTreeSet<Unit> = chosen.map(|(unit, _)| unit.clone()).collect();
        self.stop(&chosen);
        self.reconcile();
    }
}
