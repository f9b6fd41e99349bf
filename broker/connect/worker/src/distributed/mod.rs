//! One of many workers that share connectors: Kafka Connect's distributed mode.
//!
//! | file | what |
//! | --- | --- |
//! | `client.rs` | the group's requests, by which the client library speaks for consumers only |
//! | `member.rs` | joins the group, is told what to run, stops when it hears nothing; as the leader decides |
//! | `runner.rs` | the thread that starts and stops what is this worker's, and says how it goes |
//! | `states.rs` | what this worker has said of its units |
//! | `topics.rs` | the three topics: made, checked, read, written |
//! | `store.rs` | changes of connectors, written by the leader alone |
//! | `shared.rs` | what those know together: images of the topics, the place in the group |
//!
//! Who runs what and what a topic's records mean is decided in [`ottla_connect::cluster`].

mod client;
mod member;
mod runner;
mod shared;
mod states;
mod store;
mod topics;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_connect::cluster::Unit;
use ottla_connect::cluster::configs::{
    self, TASKS_MAX, Target, connector_entry, restart_entry, target_entry, task_entries,
};
use ottla_connect::config::files::InitialState;
use ottla_connect::config::tables::DISTRIBUTED;
use ottla_connect::config::{Props, Settings};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureProducer;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use self::member::{Keys, Member};
use self::runner::{Order, Runner};
use self::shared::Shared;
use self::states::States;
use self::store::Store;
use self::topics::Wanted;
use crate::herder::{Herder, Info, Place, Restart, TaskInfo};
use crate::kafka::{Role, client_config, client_keys};
use crate::worker::{Worker, WorkerError};

const NO_LEADER: &str = "Cannot complete request momentarily due to no known leader URL, likely because a \
                         rebalance was underway.";
/// Longest wait for the topics to be read at the start.
const READ_WAIT: Duration = Duration::from_secs(120);

pub struct Distributed {
    worker: Arc<Worker>,
    shared: Arc<Shared>,
    store: Arc<Store>,
    runtime: Handle,
    orders: Mutex<Option<Sender<Order>>>,
    stop: watch::Sender<bool>,
    stop_reading: Arc<AtomicBool>,
    member: Mutex<Option<tokio::task::JoinHandle<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// `host:port` of the REST API, as statuses name it.
    id: String,
}

fn duration(own: &Settings, key: &str) -> Duration {
    Duration::from_millis(u64::try_from(own.long(key)).unwrap_or(0))
}

fn wanted(own: &Settings, topic: &'static str, what: &'static str) -> Wanted {
    let (partitions, single) = match topic {
        // One partition, so that all changes have one order.
        "config" => (1, true),
        _ => (own.long(&format!("{topic}.storage.partitions")), false),
    };
    let key = match topic {
        "config" => "config.storage.topic",
        "offset" => "offset.storage.topic",
        _ => "status.storage.topic",
    };
    Wanted {
        key,
        name: own.text(key).unwrap_or_default().to_owned(),
        partitions: partitions as i32,
        replication: own.long(&format!("{topic}.storage.replication.factor")) as i32,
        what,
        single,
    }
}

impl Distributed {
    /// Makes or checks the topics, reads them, and joins the group. `id` is where others reach the REST API.
    pub fn start(
        worker: Arc<Worker>,
        id: String,
        runtime: Handle,
    ) -> Result<Distributed, WorkerError> {
        let own = Settings::parse(DISTRIBUTED, worker.props()).map_err(WorkerError::Config)?;
        let protocol = worker
            .settings()
            .text("security.protocol")
            .unwrap_or_default();
        if !protocol.eq_ignore_ascii_case("PLAINTEXT") {
            return Err(WorkerError::Other(format!(
                "security.protocol={protocol} is not built for connect-distributed: the group's requests are \
                 PLAINTEXT; connect-standalone speaks TLS and SASL"
            )));
        }
        let config = |role: Role| -> Result<ClientConfig, WorkerError> {
            let keys = client_keys(role, worker.props(), &Props::new())?;
            Ok(client_config(role, &keys)?)
        };
        let client = |e: KafkaError| WorkerError::Client(e.to_string());
        let consumer = config(Role::Consumer)?;
        let admin: AdminClient<DefaultClientContext> =
            config(Role::Admin)?.create().map_err(client)?;
        let looker: BaseConsumer = config(Role::Admin)?.create().map_err(client)?;
        let producer: FutureProducer = config(Role::Producer)?
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            // As Kafka's, so that a key stays in its partition when a topic is taken over.
            .set("partitioner", "murmur2_random")
            .create()
            .map_err(client)?;
        let configs = wanted(&own, "config", "connector configurations");
        let offsets = wanted(&own, "offset", "source connector offsets");
        let states = wanted(&own, "status", "connector and task statuses");
        let ensured = runtime.block_on(async {
            offsets.ensure(&admin, &looker).await?;
            configs.ensure(&admin, &looker).await?;
            states.ensure(&admin, &looker).await
        });
        let state_partitions = ensured.map_err(WorkerError::Other)?;

        let shared = Arc::new(Shared::new());
        let (orders, told) = mpsc::channel();
        let stop_reading = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let (image, tell, ready_one) = (shared.clone(), orders.clone(), ready.clone());
        let live = Arc::new(AtomicBool::new(false));
        let caught_up = live.clone();
        let configs_reader = topics::follow(
            consumer.clone(),
            &configs.name,
            1,
            stop_reading.clone(),
            move |offset, key, value| {
                let (replayed, next) = {
                    let mut configs = image.configs();
                    (configs.replay(offset, key, value), configs.offset())
                };
                match replayed {
                    // What was asked for before this worker began has been done.
                    Ok(Some(restart)) if live.load(Ordering::Relaxed) => {
                        let _ = tell.send(Order::Restart(restart));
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!("configurations: {error}"),
                }
                image.read.send_replace(next);
                let _ = tell.send(Order::Look);
            },
            move || {
                caught_up.store(true, Ordering::Relaxed);
                let _ = ready_one.send(());
            },
        );
        let image = shared.clone();
        let states_reader = topics::follow(
            consumer,
            &states.name,
            state_partitions,
            stop_reading.clone(),
            move |_, key, value| {
                if let Err(error) = image.statuses().replay(key, value) {
                    tracing::warn!("states: {error}");
                }
            },
            move || {
                let _ = ready.send(());
            },
        );
        let mut threads = vec![
            configs_reader.map_err(WorkerError::Client)?,
            states_reader.map_err(WorkerError::Client)?,
        ];
        for _ in 0..2 {
            if is_ready.recv_timeout(READ_WAIT).is_err() {
                stop_reading.store(true, Ordering::Relaxed);
                let why = format!("the worker's topics are not read after {READ_WAIT:?}");
                return Err(WorkerError::Client(why));
            }
        }
        tracing::info!(
            "{} connectors are configured",
            shared.configs().names().len()
        );

        let said = States::new(producer.clone(), states.name.clone(), runtime.clone());
        let runner = Runner::new(worker.clone(), shared.clone(), said, id.clone());
        let thread = std::thread::Builder::new().name("runner".into());
        let thread = thread.spawn(move || runner.run(&told));
        threads.push(thread.map_err(|e| WorkerError::Other(format!("no thread: {e}")))?);
        let store = Store::new(
            shared.clone(),
            producer,
            configs.name,
            states.name,
            runtime.clone(),
        );
        let store = Arc::new(store);
        let keys = Keys {
            bootstrap: worker.settings().list("bootstrap.servers").to_vec(),
            client_id: match worker.settings().text("client.id") {
                None | Some("") => format!("connect-{id}"),
                Some(client_id) => client_id.to_owned(),
            },
            group: own.text("group.id").unwrap_or_default().to_owned(),
            session: duration(&own, "session.timeout.ms"),
            heartbeat: duration(&own, "heartbeat.interval.ms"),
            rebalance: duration(&own, "rebalance.timeout.ms"),
            max_delay_ms: own.long("scheduled.rebalance.max.delay.ms"),
            sync: duration(&own, "worker.sync.timeout.ms"),
            url: format!("http://{id}/"),
        };
        let (stop, stopped) = watch::channel(false);
        let member = Member::new(keys, shared.clone(), store.clone(), orders.clone(), stopped);
        let member = runtime.spawn(member.run());
        Ok(Distributed {
            worker,
            shared,
            store,
            runtime,
            orders: Mutex::new(Some(orders)),
            stop,
            stop_reading,
            member: Mutex::new(Some(member)),
            threads: Mutex::new(threads),
            id,
        })
    }

    fn found(&self, name: &str) -> Result<configs::Connector, WorkerError> {
        let configs = self.shared.configs();
        let found = configs.get(name).cloned();
        found.ok_or_else(|| WorkerError::NotFound(name.to_owned()))
    }
}

impl Herder for Distributed {
    fn worker(&self) -> &Worker {
        &self.worker
    }

    fn place(&self, task: Option<(&str, u32)>) -> Place {
        if let Some((name, index)) = task {
            let unit = Unit::Task(name.to_owned(), index);
            if self.shared.mine().contains(&unit) || !self.shared.configs().units().contains(&unit)
            {
                return Place::Here;
            }
            let owner = self
                .shared
                .statuses()
                .get(&unit)
                .map(|s| s.worker_id.clone());
            return match owner {
                Some(owner) if owner != self.id => Place::There(format!("http://{owner}")),
                _ => Place::Nowhere(NO_LEADER.into()),
            };
        }
        let view = self.shared.view().clone();
        match view.leader_url {
            Some(_) if view.leads(Instant::now()) => Place::Here,
            Some(url) if !view.is_leader => Place::There(url),
            _ => Place::Nowhere(NO_LEADER.into()),
        }
    }

    fn names(&self) -> Vec<String> {
        self.shared.configs().names()
    }

    fn info(&self, name: &str) -> Result<Info, WorkerError> {
        let connector = self.found(name)?;
        let statuses = self.shared.statuses();
        let of = |unit: &Unit| match statuses.get(unit) {
            Some(status) => status.clone(),
            // Nobody has said anything of it yet.
            None => ottla_connect::cluster::statuses::Status {
                state: "UNASSIGNED".into(),
                trace: None,
                worker_id: String::new(),
                generation: 0,
            },
        };
        let counts = self.shared.counts().clone();
        let tasks = (0..connector.task_count()).map(|id| {
            let unit = Unit::Task(name.to_owned(), id);
            let status = of(&unit);
            TaskInfo {
                id,
                state: status.state,
                trace: status.trace,
                worker_id: status.worker_id,
                counts: counts.get(&unit).copied(),
            }
        });
        let own = of(&Unit::Connector(name.to_owned()));
        Ok(Info {
            name: name.to_owned(),
            config: connector.config,
            state: own.state,
            worker_id: own.worker_id,
            tasks: tasks.collect(),
        })
    }

    fn put(
        &self,
        name: &str,
        shown: Props,
        state: Option<InitialState>,
        replace: bool,
    ) -> Result<bool, WorkerError> {
        self.worker.accept(&shown)?;
        let max = shown
            .get("tasks.max")
            .and_then(|t| t.trim().parse::<usize>().ok());
        if max.is_some_and(|max| max > TASKS_MAX) {
            let why = format!("tasks.max: a connector has at most {TASKS_MAX} tasks");
            return Err(ottla_connect::error::ConnectError::config(why).into());
        }
        self.runtime.block_on(async {
            let _turn = self.store.turn().await;
            let new = self.shared.configs().get(name).is_none();
            if !new && !replace {
                return Err(WorkerError::Exists(name.to_owned()));
            }
            let given = match state {
                Some(InitialState::Paused) => Some(Target::Paused),
                Some(InitialState::Stopped) => Some(Target::Stopped),
                Some(InitialState::Running) | None => new.then_some(Target::Running),
            };
            let mut connector = self.found(name).unwrap_or_default();
            connector.target = given.unwrap_or(connector.target);
            connector.config = shown;
            let mut entries: Vec<_> = given.map(|t| target_entry(name, t)).into_iter().collect();
            entries.push(connector_entry(name, &connector.config));
            entries.extend(task_entries(name, &connector.wanted_tasks()));
            self.store.write(&entries).await?;
            Ok(new)
        })
    }

    fn remove(&self, name: &str) -> Result<(), WorkerError> {
        self.found(name)?;
        self.runtime.block_on(async {
            let _turn = self.store.turn().await;
            self.store.write(&configs::removal(name)).await?;
            let said = self.shared.statuses().of(name);
            self.store.remove_states(&said).await
        })
    }

    fn set_target(&self, name: &str, target: Target) -> Result<(), WorkerError> {
        self.runtime.block_on(async {
            let _turn = self.store.turn().await;
            let mut connector = self.found(name)?;
            connector.target = target;
            let mut entries = vec![target_entry(name, target)];
            if connector.is_behind() {
                entries.extend(task_entries(name, &connector.wanted_tasks()));
            }
            self.store.write(&entries).await
        })
    }

    fn restart(&self, name: &str, what: Restart) -> Result<(), WorkerError> {
        let connector = self.found(name)?;
        match what {
            Restart::Task(index) => {
                if index >= connector.task_count() {
                    return Err(WorkerError::NoTask(name.to_owned(), index));
                }
                let (done, restarted) = oneshot::channel();
                let unit = Unit::Task(name.to_owned(), index);
                let orders = self
                    .orders
                    .lock()
                    .expect("no panic while it is held")
                    .clone();
                let sent = orders.map(|o| o.send(Order::RestartTask { unit, done }));
                if !matches!(sent, Some(Ok(()))) || self.runtime.block_on(restarted).is_err() {
                    return Err(WorkerError::Rebalancing("the worker stops".into()));
                }
                Ok(())
            }
            Restart::Connector {
                include_tasks,
                only_failed,
            } => {
                let restart = configs::Restart {
                    connector: name.to_owned(),
                    include_tasks,
                    only_failed,
                };
                self.runtime.block_on(async {
                    let _turn = self.store.turn().await;
                    self.store.write(&[restart_entry(&restart)]).await
                })
            }
        }
    }

    /// Stops all tasks, leaves the group, stops reading.
    fn stop(&self) {
        self.stop.send_replace(true);
        let member = self
            .member
            .lock()
            .expect("no panic while it is held")
            .take();
        if let Some(member) = member
            && self.runtime.block_on(member).is_err()
        {
            tracing::error!("the group's member has panicked");
        }
        self.orders
            .lock()
            .expect("no panic while it is held")
            .take();
        self.stop_reading.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock().expect("no panic while it is held"));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the worker has panicked");
            }
        }
    }
}
