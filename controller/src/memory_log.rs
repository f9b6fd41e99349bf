//! A metadata log in memory, for tests: one voter, and the failures of a real one on demand.
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_proto::metadata::{Image, MetadataRecord, replay_all};

use crate::log::{AppendError, MetadataLog};

/// A clone is another handle to the same log.
#[derive(Clone)]
pub struct MemoryLog(Arc<Mutex<State>>);

struct State {
    leader_epoch: Option<i32>,
    image: Arc<Image>,
    /// Committed, in order.
    batches: Vec<Vec<MetadataRecord>>,
    /// Appended; its appender was told of a timeout.
    undecided: Option<Vec<MetadataRecord>>,
    fail_next: bool,
    barriers: usize,
}

impl Default for MemoryLog {
    /// Empty, and led by this node in epoch 1.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            leader_epoch: Some(1),
            image: Arc::default(),
            batches: Vec::new(),
            undecided: None,
            fail_next: false,
            barriers: 0,
        })))
    }
}

impl MemoryLog {
    /// The next append answers `Timeout`, and commits only before the next barrier returns.
    pub fn time_out_next(&self) {
        self.state().fail_next = true;
    }

    /// An election: `None` if another node won it.
    pub fn set_leader_epoch(&self, leader_epoch: Option<i32>) {
        self.state().leader_epoch = leader_epoch;
    }

    /// Committed batches, in log order.
    pub fn batches(&self) -> Vec<Vec<MetadataRecord>> {
        self.state().batches.clone()
    }

    /// How many barriers were asked for.
    pub fn barriers(&self) -> usize {
        self.state().barriers
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

impl State {
    fn check_epoch(&self, leader_epoch: i32) -> Result<(), AppendError> {
        match self.leader_epoch == Some(leader_epoch) {
            true => Ok(()),
            false => Err(AppendError::NotController),
        }
    }

    fn commit(&mut self, batch: Vec<MetadataRecord>) -> Result<(), AppendError> {
        let next = replay_all(&self.image, self.image.applied_offset() + 1, &batch);
        self.image = next.map_err(|error| AppendError::Storage(error.to_string()))?;
        self.batches.push(batch);
        Ok(())
    }
}

impl MetadataLog for MemoryLog {
    fn image(&self) -> Arc<Image> {
        self.state().image.clone()
    }

    fn leader_epoch(&self) -> Option<i32> {
        self.state().leader_epoch
    }

    async fn barrier(&self, leader_epoch: i32) -> Result<(), AppendError> {
        let mut state = self.state();
        state.check_epoch(leader_epoch)?;
        state.barriers += 1;
        match state.undecided.take() {
            Some(batch) => state.commit(batch),
            None => Ok(()),
        }
    }

    async fn append(
        &self,
        leader_epoch: i32,
        records: Vec<MetadataRecord>,
    ) -> Result<(), AppendError> {
        let mut state = self.state();
        state.check_epoch(leader_epoch)?;
        if let Some(batch) = state.undecided.take() {
            state.commit(batch)?;
        }
        if std::mem::take(&mut state.fail_next) {
            state.undecided = Some(records);
            return Err(AppendError::Timeout);
        }
        state.commit(records)
    }
}
