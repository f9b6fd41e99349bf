//! Snapshots at the receiving end: data that is missing comes in, and then the state that says what it
//! means, in one write.
//!
//! Until that write the replica is what it was. Data at offsets behind the end of its log goes to its
//! place at once: nothing refers to it yet. Data at offsets where the replica has an uncommitted tail
//! waits beside it, under a partition number of its own (the top bit is set), because the tail may
//! count towards a majority until the snapshot is installed. A row per partition says how far it has
//! come, so that a transfer that broke off goes on where it was, after a crash, too. If the log grows
//! by other means meanwhile (a new leader sends entries), everything staged is thrown away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_log::{
    BATCH_HEAD_BYTES, Done, IndexRow, Op, StateKey, StoreError, Tag, Write, batch_span,
};
use ottla_proto::ids::PartitionId;

use crate::group_log::{GroupLog, lock};
use crate::rows::{self, Checkpoint, StagedRow};
use crate::state::PartitionState;
use crate::types::LogId;

/// Bytes moved from beside a partition into it at a time.
const MOVE_BYTES: usize = 4 << 20;

/// Where data waits that must not be in its place yet.
fn beside(partition: PartitionId) -> PartitionId {
    PartitionId(partition.0 | 1 << 63)
}

/// What a snapshot says: the group's state after a committed entry.
pub(crate) struct Image {
    pub checkpoint: Checkpoint,
    pub partitions: Vec<(PartitionId, PartitionState)>,
}

/// A snapshot that is being received.
#[derive(Default)]
pub(crate) struct Staging {
    partitions: HashMap<PartitionId, StagedRow>,
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
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl GroupLog {
    /// The group's applied state, to be sent.
    pub(crate) fn image(&self) -> Image {
        let applied = lock(&self.applied);
        let mut partitions = self.all_partitions();
        partitions.sort_by_key(|p| p.id);
        Image {
            checkpoint: applied.checkpoint.clone(),
            partitions: partitions
                .iter()
                .map(|p| (p.id, p.with_state(PartitionState::clone)))
                .collect(),
        }
    }

    pub(crate) fn restore_staging(&self) -> Result<(), StoreError> {
        let mut staging = Staging::default();
        for (number, row) in self.store.states(Tag::Staged, self.id)? {
            let row = rows::decode_staged(&row)?;
            staging.partitions.insert(PartitionId(number), row);
        }
        if !staging.partitions.is_empty() {
            *lock(&self.staging) = Some(staging);
        }
        Ok(())
    }

    /// Begins to receive a snapshot, or goes on: what this replica has of these partitions.
    pub(crate) fn stage(&self, partitions: &[PartitionId]) -> Result<Vec<Have>, StoreError> {
        let mut guard = lock(&self.staging);
        let staging = guard.get_or_insert_default();
        let mut haves = Vec::with_capacity(partitions.len());
        for id in partitions {
            let partition = self.partition(*id);
            let (end_offset, leader_epoch) = partition.with_state(|s| {
                let end = s.log_end_offset;
                (end, if end > 0 { s.epoch_at(end - 1) } else { -1 })
            });
            let mut have = Have {
                end_offset,
                leader_epoch,
            };
            if let Some(staged) = staging.partitions.get(id)
                && staged.next_offset > end_offset
            {
                have.end_offset = staged.next_offset;
                have.leader_epoch = staged.leader_epoch;
            }
            haves.push(have);
        }
        Ok(haves)
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
        let staging = guard.as_mut().ok_or(StageError::Superseded)?;
        let mut ops = Vec::new();
        let here = self.partition(partition);
        let fresh = || StagedRow {
            tail_end: here.tail_end(),
            next_offset: here.bounds().high_watermark,
            leader_epoch: -1,
            replace: false,
        };
        let staged = staging.partitions.entry(partition).or_insert_with(fresh);
        if replace && !staged.replace {
            ops.extend(discard(partition, staged));
            (staged.replace, staged.next_offset) = (true, 0);
        }
        let place = |offset: i64| match staged.replace || offset < staged.tail_end {
            true => beside(partition),
            false => partition,
        };
        let mut next = staged.next_offset;
        for batch in batches {
            let (base_offset, last) = batch_span(&batch).ok_or(StageError::Order)?;
            if base_offset < next || batch.len() <= BATCH_HEAD_BYTES {
                return Err(StageError::Order);
            }
            next = last.checked_add(1).ok_or(StageError::Order)?;
            staged.leader_epoch = batch_epoch(&batch);
            ops.push(Op::PutBatch {
                partition: place(base_offset),
                base_offset,
                head: batch.slice(..BATCH_HEAD_BYTES),
                body: batch.slice(BATCH_HEAD_BYTES..),
            });
        }
        ops.extend(index.into_iter().map(|row| Op::PutIndex {
            partition: place(row.base_offset),
            row,
        }));
        staged.next_offset = next;
        ops.push(Op::PutState {
            key: staged_key(self, partition),
            value: rows::encode_staged(staged),
        });
        // The write that installs the snapshot syncs this, too.
        let sync = false;
        self.store.submit(Write { ops, sync, done });
        Ok(())
    }

    /// Forgets what was staged; the operations that delete it.
    pub(crate) fn discard_staging(&self) -> Vec<Op> {
        let Some(staging) = lock(&self.staging).take() else {
            return Vec::new();
        };
        let mut ops = Vec::new();
        for (partition, staged) in &staging.partitions {
            ops.extend(discard(*partition, staged));
            let key = staged_key(self, *partition);
            ops.push(Op::DeleteState { key });
        }
        ops
    }

    /// Makes the replica what the snapshot says. One write: before it the replica is what it was.
    pub(crate) async fn install(&self, image: Arc<Image>) -> Result<(), StoreError> {
        let last = image
            .checkpoint
            .applied
            .expect("a snapshot covers an entry");
        let ops = self.install_ops(&image, last)?;
        self.write(ops).await?;
        *lock(&self.staging) = None;
        let kept = {
            let mut applied = lock(&self.applied);
            applied.checkpoint = image.checkpoint.clone();
            for (id, state) in &image.partitions {
                self.partition(*id).install(state.clone());
                applied.dirty.remove(id);
            }
            *lock(&self.stored_checkpoint) = image.checkpoint.clone();
            self.applied_term
                .store(last.leader_id.term, Ordering::Release);
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
            tail.last > Some(last)
        };
        if kept {
            // The log goes on behind the snapshot and fits it.
            self.replay_tail()?;
            self.all_partitions()
                .iter()
                .for_each(|p| p.drop_broken_cache());
        }
        self.installing.send_replace(None);
        Ok(())
    }

    fn install_ops(&self, image: &Image, last: LogId) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::new();
        let log_goes_on = lock(&self.tail).last > Some(last);
        let staging = lock(&self.staging);
        for (id, state) in &image.partitions {
            if let Some(staged) = staging.as_ref().and_then(|s| s.partitions.get(id)) {
                let (from, to) = match staged.replace {
                    true if log_goes_on => (0, state.log_end_offset),
                    true => (0, i64::MAX),
                    false => {
                        let committed = self.partition(*id).bounds().high_watermark;
                        (committed, staged.tail_end.min(state.log_end_offset))
                    }
                };
                if from < to {
                    let partition = *id;
                    ops.push(Op::DeleteBatches {
                        partition,
                        from,
                        to,
                    });
                }
                self.move_ops(*id, state.log_end_offset, &mut ops)?;
                let key = staged_key(self, *id);
                ops.push(Op::DeleteState { key });
            }
            ops.push(Op::PutState {
                key: StateKey::partition(self.id, *id),
                value: rows::encode_partition(state),
            });
        }
        ops.push(Op::PutState {
            key: StateKey::group(Tag::Checkpoint, self.id),
            value: rows::encode_checkpoint(&image.checkpoint),
        });
        ops.push(Op::PutState {
            key: StateKey::group(Tag::Purged, self.id),
            value: rows::encode_log_id(&last),
        });
        ops.push(Op::DeleteRaft {
            group: self.id,
            from: 0,
            to: last.index + 1,
        });
        Ok(ops)
    }

    /// Moves what waits beside a partition into it.
    fn move_ops(&self, id: PartitionId, end: i64, ops: &mut Vec<Op>) -> Result<(), StoreError> {
        let mut next = 0;
        loop {
            let batches = self.store.batches(beside(id), next, end, MOVE_BYTES)?;
            let Some((_, last)) = batches.last().and_then(|b| batch_span(b)) else {
                break;
            };
            for batch in batches {
                let Some((base_offset, _)) = batch_span(&batch) else {
                    continue;
                };
                ops.push(Op::PutBatch {
                    partition: id,
                    base_offset,
                    head: batch.slice(..BATCH_HEAD_BYTES),
                    body: batch.slice(BATCH_HEAD_BYTES..),
                });
            }
            let mut from = next;
            loop {
                let rows = self.store.index_rows(beside(id), from, 1024)?;
                let within: Vec<_> = rows
                    .into_iter()
                    .take_while(|r| r.base_offset <= last)
                    .collect();
                let Some(row) = within.last() else { break };
                from = row.base_offset + 1;
                let put = |row| Op::PutIndex { partition: id, row };
                ops.extend(within.into_iter().map(put));
            }
            next = last + 1;
        }
        let (partition, from, to) = (beside(id), 0, i64::MAX);
        ops.push(Op::DeleteBatches {
            partition,
            from,
            to,
        });
        Ok(())
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

fn staged_key(log: &GroupLog, partition: PartitionId) -> StateKey {
    StateKey {
        tag: Tag::Staged,
        group: log.id,
        id: partition.0,
    }
}

pub(crate) fn discard(partition: PartitionId, staged: &StagedRow) -> [Op; 2] {
    let in_place = match staged.replace {
        // Everything waits beside.
        true => i64::MAX,
        false => staged.tail_end,
    };
    [
        Op::DeleteBatches {
            partition,
            from: in_place,
            to: i64::MAX,
        },
        Op::DeleteBatches {
            partition: beside(partition),
            from: 0,
            to: i64::MAX,
        },
    ]
}

/// The leader epoch that a batch's head carries.
fn batch_epoch(batch: &[u8]) -> i32 {
    let epoch = batch.get(12..16).and_then(|e| e.try_into().ok());
    epoch.map_or(-1, i32::from_be_bytes)
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
