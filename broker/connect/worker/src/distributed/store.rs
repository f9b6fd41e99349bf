//! Writes configurations, as the leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_connect::cluster::configs::task_entries;
use ottla_connect::cluster::{Entry, Unit, statuses};
use rdkafka::producer::FutureProducer;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use super::shared::Shared;
use super::topics;
use crate::worker::WorkerError;

/// Longest wait for what was written to be read, as in Kafka Connect.
const WRITE_WAIT: Duration = Duration::from_secs(30);

pub struct Store {
    pub shared: Arc<Shared>,
    pub producer: FutureProducer,
    pub configs: String,
    pub states: String,
    pub runtime: Handle,
    /// One change at a time.
    writing: Mutex<()>,
}

impl Store {
    pub fn new(
        shared: Arc<Shared>,
        producer: FutureProducer,
        configs: String,
        states: String,
        runtime: Handle,
    ) -> Store {
        Store {
            shared,
            producer,
            configs,
            states,
            runtime,
            writing: Mutex::new(()),
        }
    }

    /// A turn to change something.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// Writes entries in their order, and waits until this worker has read them.
    pub async fn write(&self, entries: &[Entry]) -> Result<(), WorkerError> {
        let leads = self.shared.view().leads(Instant::now());
        if !leads {
            let why = "Request cannot be completed because a rebalance is expected";
            return Err(WorkerError::Rebalancing(why.into()));
        }
        let failed = |why: String| WorkerError::Client(format!("{}: {why}", self.configs));
        let mut sent = Vec::with_capacity(entries.len());
        for entry in entries {
            let one = topics::send(&self.producer, &self.configs, Some(0), entry);
            sent.push(one.map_err(WorkerError::Client)?);
        }
        let written = async {
            let mut last = -1;
            for one in sent {
                let delivery = one
                    .await
                    .map_err(|_| failed("the producer has ended".into()))?;
                last = delivery
                    .map_err(|(e, _)| failed(e.to_string()))?
                    .offset
                    .max(last);
            }
            let mut read = self.shared.read.subscribe();
            let _ = read.wait_for(|offset| *offset > last).await;
            Ok(())
        };
        let late = |_| failed(format!("not written after {WRITE_WAIT:?}"));
        tokio::time::timeout(WRITE_WAIT, written)
            .await
            .map_err(late)?
    }

    /// Writes the tasks of a connector if they are not what its configuration wants. With a turn.
    pub async fn write_tasks(&self, name: &str) -> Result<(), WorkerError> {
        let wanted = {
            let configs = self.shared.configs();
            let connector = configs.get(name).filter(|c| c.is_behind());
            connector.map(|c| task_entries(name, &c.wanted_tasks()))
        };
        match wanted {
            Some(entries) => self.write(&entries).await,
            None => Ok(()),
        }
    }

    /// Takes away the states of a connector that is deleted.
    pub async fn remove_states(&self, units: &[Unit]) -> Result<(), WorkerError> {
        for unit in units {
            let sent = topics::send(&self.producer, &self.states, None, &statuses::removal(unit));
            let sent = sent.map_err(WorkerError::Client)?.await;
            if let Ok(Err((error, _))) = sent {
                return Err(WorkerError::Client(error.to_string()));
            }
        }
        Ok(())
    }

    /// Writes what is behind: a leader has gone between a connector and its tasks, or the topic was written
    /// by Kafka Connect.
    pub fn tend(self: &Arc<Self>) {
        let store = self.clone();
        self.runtime.spawn(async move {
            // Whoever changes something now writes the tasks too.
            let Ok(_turn) = store.writing.try_lock() else {
                return;
            };
            let names = store.shared.configs().names();
            for name in names {
                if let Err(error) = store.write_tasks(&name).await {
                    tracing::warn!("tasks of connector {name}: {error}");
                    return;
                }
            }
        });
    }
}
