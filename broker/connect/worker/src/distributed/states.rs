//! What this worker has said of its units in the topic of states.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_connect::cluster::statuses::{self, Status};
use ottla_connect::cluster::{Entry, Unit};
use rdkafka::producer::FutureProducer;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::topics;

/// Longest wait for states before a unit is given away.
const WAIT: Duration = Duration::from_secs(3);

pub struct States {
    producer: FutureProducer,
    topic: String,
    runtime: Handle,
    said: BTreeMap<Unit, Status>,
    /// On their way. Each says whether it is durable.
    sent: Vec<(Unit, JoinHandle<bool>)>,
}

impl States {
    pub fn new(producer: FutureProducer, topic: String, runtime: Handle) -> States {
        States {
            producer,
            topic,
            runtime,
            said: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn send(&mut self, unit: &Unit, entry: &Entry) {
        match topics::send(&self.producer, &self.topic, None, entry) {
            Ok(sent) => {
                let key = entry.key.clone();
                let durable = self.runtime.spawn(async move {
                    match sent.await {
                        Ok(Ok(_)) => true,
                        Ok(Err((error, _))) => {
                            tracing::warn!("{key}: {error}");
                            false
                        }
                        Err(_) => false,
                    }
                });
                self.sent.push((unit.clone(), durable));
            }
            Err(error) => {
                tracing::warn!("{}: {error}", entry.key);
                self.said.remove(unit);
            }
        }
    }

    /// Says a state unless it is what was said last.
    pub fn say(&mut self, unit: &Unit, status: &Status) {
        if self.said.get(unit) != Some(status) {
            self.said.insert(unit.clone(), status.clone());
            self.send(unit, &statuses::entry(unit, status));
        }
    }

    /// Says the last of a unit.
    pub fn take_back(&mut self, unit: &Unit, entry: &Entry) {
        self.send(unit, entry);
        self.said.remove(unit);
    }

    pub fn forget(&mut self, unit: &Unit) {
        self.said.remove(unit);
    }

    pub fn said(&self) -> impl Iterator<Item = &Unit> {
        self.said.keys()
    }

    /// What did not become durable is said again.
    pub fn look(&mut self) {
        let (done, open) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(_, sent)| sent.is_finished());
        self.sent = open;
        let done: Vec<(Unit, JoinHandle<bool>)> = done;
        for (unit, sent) in done {
            if !self.runtime.block_on(sent).unwrap_or(false) {
                self.said.remove(&unit);
            }
        }
    }

    /// Until all are durable, or it has taken too long.
    pub fn wait(&mut self) {
        let all = std::mem::take(&mut self.sent);
        let wait = async {
            for (_, sent) in all {
                let _ = sent.await;
            }
        };
        let waited = self
            .runtime
            .block_on(async { tokio::time::timeout(WAIT, wait).await });
        if waited.is_err() {
            tracing::warn!("states of units that are given away are not written after {WAIT:?}");
        }
    }
}
