//! Snapshots at the receiving end: data that is missing comes in, and then the state that says what it
//! means, in one write.
//!
//! Until that write the replica is what it was. Data at offsets behind the end of its log goes to its
//! place at once: nothing refers to it yet. Data at offsets where the replica has an uncommitted tail
//! waits beside it, under a partition number of its own (the top bit is set), because the tail may
//! count towards a majority until the snapshot is installed. A row per partition says how far it has
//! come, so that a transfer that broke off goes on where it was, after a crash, too. If the log grows
//! by other means meanwhile (a new leader sends entries), everything staged is thrown away.
//!
//! What waited beside a partition is moved into it after that write, a piece at a time, before anybody
//! is shown it; a start finishes what a crash left of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_log::{
    BATCH_HEAD_BYTES, Done, IndexRow, Op, StateKey, StoreError, Tag, Write, batch_span,
    has_lost_records,
};
use ottla_proto::ids::PartitionId;

use crate::group_log::{GroupLog, is_one, lock};
use crate::id_set::IdSet;
use crate::off_reactor;
use crate::partition::Partition;
use crate::rows::{self, Checkpoint};
use crate::staged::{self, StagedRow};
use crate::state::PartitionState;
use crate::types::LogId;

/// What a snapshot says: the group's state after a committed entry.
pub(crate) struct Image {
    pub checkpoint: Checkpoint,
    pub partitions: Vec<(PartitionId, PartitionState)>,
    pub removed: IdSet,
}

/// A snapshot that is being received.
#[derive(Default)]
pub(crate) struct Staging {
    partitions: BTreeMap<PartitionId, StagedRow>,
    /// Those that the snapshot has: data of no other is taken.
    announced: BTreeMap<PartitionId, Announced>,
}

/// A partition of the snapshot.
#[derive(Clone, Copy)]
struct Announced {
    /// Up to here this replica has it, committed.
    from: i64,
    log_start_offset: i64,
}

/// What this replica has of a partition, all of it committed.
pub(crate) struct Have {
    pub end_offset: i64,
    pub leader_epoch: i32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("the log has grown by other means")]
    Superseded,
    #[error("data came out of order")]
    Order,
    #[error("the group has stopped")]
    Stopped,
    #[error("data of partition {0}, which the snapshot does not have")]
    Unannounced(PartitionId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl GroupLog {
    /// The group's applied state, to be sent.
    pub(crate) fn image(&self) -> Image {
        let applied = lock(&self.applied);
        let mut partitions = self.partitions();
        partitions.sort_by_key(|p| p.id);
        let all = self.partitions.read().expect("never poisoned");
        Image {
            checkpoint: applied.checkpoint.clone(),
            removed: all.removed.clone(),
            partitions: partitions
                .iter()
                .map(|p| (p.id, p.with_state(PartitionState::clone)))
                .collect(),
        }
    }

    pub(crate) fn restore_staging(&self) -> Result<(), StoreError> {
        let mut staging = Staging::default();
        for (number, row) in self.store.states(Tag::Staged, self.id)? {
            let row = staged::decode(&row)?;
            let id = PartitionId(number);
            if row.moving {
                while let Some(ops) = staged::next_move(&*self.store, self.id, id)? {
                    self.store.write(ops)?;
                }
            } else {
                staging.partitions.insert(id, row);
            }
        }
        if !staging.partitions.is_empty() {
            *lock(&self.staging) = Some(staging);
        }
        Ok(())
    }

    /// Begins to receive a snapshot, or goes on: what this replica has of these partitions, which come
    /// with their log start offsets.
    pub(crate) fn stage(&self, partitions: &[(PartitionId, i64)]) -> Vec<Have> {
        let mut guard = lock(&self.staging);
        let staging = guard.get_or_insert_default();
        staging.announced.clear();
        let mut haves = Vec::with_capacity(partitions.len());
        for (id, log_start_offset) in partitions {
            let partition = self.partition(*id);
            let (end_offset, leader_epoch) = partition.with_state(|s| {
                let end = s.log_end_offset;
                (end, if end > 0 { s.epoch_at(end - 1) } else { -1 })
            });
            let announced = Announced {
                from: end_offset,
                log_start_offset: *log_start_offset,
            };
            staging.announced.insert(*id, announced);
            let mut have = Have {
                end_offset,
                leader_epoch,
            };
            // What has come of it counts, however little it is: what lies before it is told by its row.
            if let Some(staged) = staging.partitions.get(id) {
                have.end_offset = staged.next_offset;
                have.leader_epoch = staged.leader_epoch;
            }
            haves.push(have);
        }
        haves
    }

    /// Takes in batches of one partition, and rows of its index. `replace`: what is here of the
    /// partition is no prefix of the leader's log.
    pub(crate) fn stage_data(
        &self,
        partition: PartitionId,
        replace: bool,
        batches: Vec<Bytes>,
        index: Vec<IndexRow>,
        done: Done,
    ) -> Result<(), StageError> {
        let mut guard = lock(&self.staging);
        if self.is_closed.load(Ordering::Acquire) {
            return Err(StageError::Stopped);
        }
        let staging = guard.as_mut().ok_or(StageError::Superseded)?;
        let Some(&announced) = staging.announced.get(&partition) else {
            return Err(StageError::Unannounced(partition));
        };
        if batches.is_empty() && index.is_empty() && !replace {
            done(Ok(()));
            return Ok(());
        }
        let mut ops = Vec::new();
        let here = self.partition(partition);
        let fresh = || StagedRow {
            from: announced.from,
            tail_end: here.tail_end(),
            next_offset: announced.from,
            leader_epoch: -1,
            replace: false,
            holes: false,
            moving: false,
        };
        let mut staged = match staging.partitions.get(&partition) {
            Some(staged) => *staged,
            None => fresh(),
        };
        if replace {
            ops.extend(staged::discard(partition, &staged));
            staged = StagedRow {
                replace: true,
                from: 0,
                next_offset: 0,
                holes: false,
                ..staged
            };
        }
        let beside_all = staged.replace;
        let place = |offset: i64| match beside_all || offset < staged.tail_end {
            true => staged::beside(partition),
            false => partition,
        };
        let (first, mut next) = (staged.next_offset, staged.next_offset);
        for batch in batches {
            let (base_offset, last) = batch_span(&batch).ok_or(StageError::Order)?;
            if base_offset < next || !staged::is_as_long_as_it_says(&batch) {
                return Err(StageError::Order);
            }
            let follows = base_offset <= next.max(announced.log_start_offset);
            staged.holes |= !follows || has_lost_records(&batch) == Some(true);
            next = last.checked_add(1).ok_or(StageError::Order)?;
            staged.leader_epoch = staged::batch_epoch(&batch);
            ops.push(Op::PutBatch {
                partition: place(base_offset),
                base_offset,
                head: batch.slice(..BATCH_HEAD_BYTES),
                body: batch.slice(BATCH_HEAD_BYTES..),
            });
        }
        if index
            .iter()
            .any(|r| !(first..next).contains(&r.base_offset))
        {
            return Err(StageError::Order);
        }
        ops.extend(index.into_iter().map(|row| Op::PutIndex {
            partition: place(row.base_offset),
            row,
        }));
        staged.next_offset = next;
        staging.partitions.insert(partition, staged);
        ops.push(Op::PutState {
            key: staged::key(self.id, partition),
            value: staged::encode(&staged),
        });
        // The write that installs the snapshot syncs this, too.
        let sync = false;
        self.store.submit(Write { ops, sync, done });
        Ok(())
    }

    /// Takes no more data: whoever runs the group next must not find it come from elsewhere.
    pub(crate) fn close(&self) {
        let _no_data_now = lock(&self.staging);
        self.is_closed.store(true, Ordering::Release);
    }

    /// Forgets what was staged; the operations that delete it.
    pub(crate) fn discard_staging(&self) -> Vec<Op> {
        let Some(staging) = lock(&self.staging).take() else {
            return Vec::new();
        };
        let mut ops = Vec::new();
        for (partition, staged) in &staging.partitions {
            ops.extend(staged::discard(*partition, staged));
            let key = staged::key(self.id, *partition);
            ops.push(Op::DeleteState { key });
        }
        ops
    }

    /// Makes the replica what the snapshot says. One write: before it the replica is what it was.
    pub(crate) async fn install(self: &Arc<Self>, image: Arc<Image>) -> Result<(), StoreError> {
        let last = image.checkpoint.applied;
        let last = last.expect("a snapshot covers an entry");
        let (log, planned) = (self.clone(), image.clone());
        let plan = off_reactor(move || log.plan(&planned, last)).await?;
        for id in &plan.renewed {
            self.partition(*id).begin_life();
        }
        self.write(plan.ops).await?;
        for id in plan.moving {
            loop {
                let (store, group) = (self.store.clone(), self.id);
                match off_reactor(move || staged::next_move(&*store, group, id)).await? {
                    Some(ops) => self.write(ops).await?,
                    None => break,
                }
            }
        }
        *lock(&self.staging) = None;
        self.become_what(&image, last, &plan.renewed)?;
        self.installing.send_replace(None);
        Ok(())
    }

    /// Takes over in memory what the snapshot has made of the disk.
    fn become_what(
        &self,
        image: &Image,
        last: LogId,
        renewed: &BTreeSet<PartitionId>,
    ) -> Result<(), StoreError> {
        let mut applied = lock(&self.applied);
        applied.checkpoint = image.checkpoint.clone();
        // What the log's end had made of others, the snapshot does not know.
        self.partitions().iter().for_each(|p| p.rewind());
        for (id, state) in &image.partitions {
            self.partition(*id)
                .install(state.clone(), renewed.contains(id));
        }
        for gone in self.partitions() {
            if image.removed.contains(gone.id.0) {
                gone.install(PartitionState::gone(), true);
            }
        }
        {
            let mut all = self.partitions.write().expect("never poisoned");
            all.live.retain(|id, _| !image.removed.contains(id.0));
            all.removed = image.removed.clone();
        }
        (applied.dirty, applied.removed) = Default::default();
        let alone = is_one(image.checkpoint.membership.membership());
        self.is_alone.store(alone, Ordering::Release);
        *lock(&self.stored_checkpoint) = image.checkpoint.clone();
        self.applied_term
            .store(last.leader_id.term, Ordering::Release);
        drop(applied);
        let mut tail = lock(&self.tail);
        tail.purged = tail.purged.max(Some(last));
        tail.last = tail.last.max(Some(last));
        while tail
            .recent
            .front()
            .is_some_and(|e| e.log_id.index <= last.index)
        {
            tail.recent.pop_front();
        }
        let goes_on = tail.last > Some(last);
        drop(tail);
        if goes_on {
            // The log goes on behind the snapshot and fits it.
            self.replay_tail()?;
            self.partitions().iter().for_each(|p| p.drop_broken_cache());
        }
        Ok(())
    }

    /// What is to be written so that the disk says what the snapshot does. Blocks on the disk.
    fn plan(&self, image: &Image, last: LogId) -> Result<Plan, StoreError> {
        let mut plan = Plan::default();
        let log_goes_on = lock(&self.tail).last > Some(last);
        let mut staged = lock(&self.staging)
            .as_ref()
            .map(|staging| staging.partitions.clone())
            .unwrap_or_default();
        for (id, state) in &image.partitions {
            let here = self.partition(*id);
            let staged = staged.remove(id);
            self.plan_data(&here, state, staged.as_ref(), log_goes_on, &mut plan);
            plan.ops.push(Op::PutState {
                key: StateKey::partition(self.id, *id),
                value: rows::encode_partition(state),
            });
        }
        for (id, row) in staged {
            plan.ops.extend(staged::discard(id, &row));
            let key = staged::key(self.id, id);
            plan.ops.push(Op::DeleteState { key });
        }
        let in_image: BTreeSet<_> = image.partitions.iter().map(|(id, _)| *id).collect();
        let others = self.partitions().into_iter();
        for other in others.filter(|p| !in_image.contains(&p.id)) {
            if image.removed.contains(other.id.0) {
                self.plan_removal(&other, &mut plan);
            } else if !log_goes_on {
                let from = other.bounds().high_watermark;
                plan.ops.extend(tail_of(&other, from, i64::MAX));
            }
        }
        plan.ops.push(Op::PutState {
            key: StateKey::group(Tag::Removed, self.id),
            value: rows::encode_removed(&image.removed),
        });
        plan.ops.push(Op::PutState {
            key: StateKey::group(Tag::Checkpoint, self.id),
            value: rows::encode_checkpoint(&image.checkpoint),
        });
        plan.ops.push(Op::PutState {
            key: StateKey::group(Tag::Purged, self.id),
            value: rows::encode_log_id(&last),
        });
        plan.ops.push(Op::DeleteRaft {
            group: self.id,
            from: 0,
            to: last.index + 1,
        });
        Ok(plan)
    }

    /// One partition's batches. Its uncommitted tail goes: as far as the snapshot covers the log, or all of
    /// it where the log ends before the snapshot does.
    fn plan_data(
        &self,
        here: &Partition,
        state: &PartitionState,
        staged: Option<&StagedRow>,
        log_goes_on: bool,
        plan: &mut Plan,
    ) {
        let id = here.id;
        let covered_end = match log_goes_on {
            true => state.log_end_offset,
            false => i64::MAX,
        };
        let replace = staged.is_some_and(|s| s.replace);
        let holes = staged.is_some_and(|s| s.holes);
        if replace {
            plan.ops.push(Op::DeleteBatches {
                partition: id,
                from: 0,
                to: covered_end,
                bytes: here.size_bytes(),
            });
        } else {
            let from = staged.map_or(here.bounds().high_watermark, |s| s.from);
            plan.ops.extend(tail_of(here, from, covered_end));
        }
        if replace || holes {
            plan.renewed.insert(id);
            let key = StateKey::cleaner(self.id, id);
            plan.ops.push(match holes {
                // Says no more than that something was compacted.
                true => Op::PutState {
                    key,
                    value: Bytes::new(),
                },
                false => Op::DeleteState { key },
            });
        }
        let Some(staged) = staged else { return };
        let key = staged::key(self.id, id);
        let waits_beside = staged.replace || staged.tail_end > staged.from;
        plan.ops.push(match waits_beside {
            true => {
                plan.moving.push(id);
                let moving = StagedRow {
                    moving: true,
                    ..*staged
                };
                let value = staged::encode(&moving);
                Op::PutState { key, value }
            }
            false => Op::DeleteState { key },
        });
    }

    /// A partition that the group has removed.
    fn plan_removal(&self, here: &Partition, plan: &mut Plan) {
        let (group, id) = (self.id, here.id);
        plan.renewed.insert(id);
        plan.ops.push(Op::DeleteBatches {
            partition: id,
            from: 0,
            to: i64::MAX,
            bytes: here.size_bytes(),
        });
        let rows = [StateKey::cleaner(group, id), StateKey::partition(group, id)];
        plan.ops.extend(rows.map(|key| Op::DeleteState { key }));
    }

    /// Waits until a snapshot that the log is already purged for is installed: what is appended next is
    /// decided on its state.
    pub(crate) async fn installed(&self) {
        if self.installing.borrow().is_some() {
            let mut installing = self.installing.subscribe();
            let _ = installing.wait_for(|upto| upto.is_none()).await;
        }
    }
}

/// What makes a snapshot the replica's state.
#[derive(Default)]
struct Plan {
    ops: Vec<Op>,
    /// What waits beside these has to be moved into them.
    moving: Vec<PartitionId>,
    /// Their data is not what it was, or has been compacted elsewhere.
    renewed: BTreeSet<PartitionId>,
}

/// Deletes a partition's batches from `from`, where the committed ones end, up to `to`.
fn tail_of(partition: &Partition, from: i64, to: i64) -> Option<Op> {
    let to = partition.tail_end().min(to);
    (from < to).then_some(Op::DeleteBatches {
        partition: partition.id,
        from,
        to,
        bytes: 0,
    })
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
