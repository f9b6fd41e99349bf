//! A disk that takes its time to sync, and forgets what was not synced when its process dies.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ottla_log::{Done, IndexRow, MemoryStore, Op, StateKey, Store, StoreError, Tag, Write};
use ottla_proto::ids::{GroupId, PartitionId};

/// How a broken disk deceives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// What it calls synced is not: a crash forgets it, and keeps only what was there when the lie began.
    NeverSyncs,
}

#[derive(Default)]
struct Platter {
    /// Every write that survives, in order.
    synced: Vec<Vec<Op>>,
    waiting: VecDeque<(Vec<Op>, Done)>,
    sync_delay: Duration,
    syncing: bool,
    lie: Lie,
    /// Grows with each crash: what an earlier process submits goes nowhere.
    life: u64,
}

#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    pub fn set_sync_delay(&self, delay: Duration) {
        self.platter().sync_delay = delay;
    }

    /// The disk deceives from now on.
    pub fn set_lie(&self, lie: Lie) {
        self.platter().lie = lie;
    }

    /// The store of a process that starts now.
    pub fn open(&self) -> Arc<DiskStore> {
        let platter = self.platter();
        let memory = MemoryStore::default();
        for ops in &platter.synced {
            apply(&memory, ops.clone());
        }
        Arc::new(DiskStore {
            disk: self.clone(),
            life: platter.life,
            memory,
        })
    }

    /// The process dies. Of what was not synced, `lucky` writes made it all the same.
    pub fn crash(&self, lucky: usize) {
        let lost = {
            let mut platter = self.platter();
            platter.life += 1;
            platter.syncing = false;
            let mut waiting = std::mem::take(&mut platter.waiting);
            let kept = lucky.min(waiting.len());
            for (ops, done) in waiting.drain(..kept) {
                platter.synced.push(ops);
                drop(done);
            }
            waiting
        };
        drop(lost);
    }

    /// How many writes wait for their sync.
    pub fn unsynced(&self) -> usize {
        self.platter().waiting.len()
    }

    fn sync(&self, life: u64) {
        let done: Vec<Done> = {
            let mut platter = self.platter();
            if platter.life != life {
                return;
            }
            platter.syncing = false;
            let waiting = std::mem::take(&mut platter.waiting);
            let (ops, done): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
            if platter.lie == Lie::None {
                platter.synced.extend(ops);
            }
            done
        };
        done.into_iter().for_each(|done| done(Ok(())));
    }
}

fn apply(memory: &MemoryStore, ops: Vec<Op>) {
    memory.submit(Write {
        ops,
        sync: false,
        done: Box::new(|_| ()),
    });
}

pub struct DiskStore {
    disk: Disk,
    life: u64,
    memory: MemoryStore,
}

impl Store for DiskStore {
    fn submit(&self, write: Write) {
        let delay = {
            let mut platter = self.disk.platter();
            if platter.life != self.life {
                return drop(platter);
            }
            apply(&self.memory, write.ops.clone());
            platter.waiting.push_back((write.ops, write.done));
            if std::mem::replace(&mut platter.syncing, true) {
                return;
            }
            platter.sync_delay
        };
        let (disk, life) = (self.disk.clone(), self.life);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            disk.sync(life);
        });
    }

    fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let done: Done = Box::new(|_| ());
        self.submit(Write {
            ops,
            sync: true,
            done,
        });
        self.disk.sync(self.life);
        Ok(())
    }

    fn raft_rows(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.memory.raft_rows(group, from, to, max_bytes)
    }
    fn last_raft_row(&self, group: GroupId) -> Result<Option<(u64, Bytes)>, StoreError> {
        self.memory.last_raft_row(group)
    }
    fn batches(
        &self,
        partition: PartitionId,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.memory
            .batches(partition, offset, end_offset, max_bytes)
    }
    fn index_at(
        &self,
        partition: PartitionId,
        offset: i64,
    ) -> Result<Option<IndexRow>, StoreError> {
        self.memory.index_at(partition, offset)
    }
    fn index_rows(
        &self,
        partition: PartitionId,
        from: i64,
        max_rows: usize,
    ) -> Result<Vec<IndexRow>, StoreError> {
        self.memory.index_rows(partition, from, max_rows)
    }
    fn state(&self, key: StateKey) -> Result<Option<Bytes>, StoreError> {
        self.memory.state(key)
    }
    fn states(&self, tag: Tag, group: GroupId) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.memory.states(tag, group)
    }
}
