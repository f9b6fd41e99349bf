//! One group's log and partitions on this replica: what openraft's storage traits act upon.
//! Hot path: `append` and `apply`. Reading entries back is in `read_back.rs`, letting go of
//! them in `cut.rs`, snapshots in `install.rs`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use bytes::BytesMut;
use ottla_log::{BATCH_HEAD_BYTES, Done, Op, StateKey, Store, StoreError, Tag, Write};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::BATCH_OVERHEAD_BYTES;
use tokio::sync::watch;

use crate::command::{Command, GroupEntry, Outcome};
use crate::cut;
use crate::id_set::IdSet;
use crate::install::Staging;
use crate::mend;
use crate::partition::{CachedAt, Partition, TailCache};
use crate::producer_memory::ProducerMemory;
use crate::restored::Restored;
use crate::rows::{self, Checkpoint};
use crate::state::PartitionState;
use crate::step::{advance, context, decide, partition_of, producer_of, put_head};
use crate::types::{Entry, EntryPayload, LogId, Membership, StoredMembership, Vote};

/// Bytes of rows read at a time when the log is replayed.
pub(crate) const REPLAY_READ_BYTES: usize = 1 << 20;

/// Entries between two marks of how many bytes of rows there were.
const ROW_MARK_ENTRIES: u64 = 16;

/// The log's ends, and the entries that are not applied yet.
#[derive(Default)]
pub(crate) struct Tail {
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// Contiguous, ending at `last`; those before are read from their rows.
    pub(crate) recent: VecDeque<Entry>,
    /// Bytes of rows appended since the start, and how many there were before some of the entries.
    pub(crate) row_bytes: u64,
    pub(crate) row_marks: VecDeque<(u64, u64)>,
}

#[derive(Default)]
pub(crate) struct Applied {
    pub(crate) checkpoint: Checkpoint,
    /// Changed since the last checkpoint.
    pub(crate) dirty: HashSet<PartitionId>,
    /// Whether partitions were removed since the last checkpoint.
    pub(crate) removed: bool,
}

#[derive(Default)]
pub(crate) struct Partitions {
    pub(crate) live: HashMap<PartitionId, Arc<Partition>>,
    /// Removed at the high watermark. Their ids are never given again, and nothing is appended to them.
    pub(crate) removed: IdSet,
}

pub(crate) struct GroupLog {
    pub(crate) id: GroupId,
    pub(crate) store: Arc<dyn Store>,
    tail_cache: Arc<TailCache>,
    pub(crate) partitions: RwLock<Partitions>,
    producers: Arc<ProducerMemory>,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) applied: Mutex<Applied>,
    /// This replica is the group's only member.
    pub(crate) is_alone: AtomicBool,
    vote: Mutex<Option<Vote>>,
    /// Term of the last applied entry: a leader serves once it has applied one of its own.
    pub(crate) applied_term: AtomicU64,
    /// What the last checkpoint on disk covers.
    pub(crate) stored_checkpoint: Mutex<Checkpoint>,
    /// Entries below this index are in the store: what was submitted can't be read until then.
    pub(crate) written: Arc<AtomicU64>,
    pub(crate) is_closed: AtomicBool,
    /// A snapshot that is being received.
    pub(crate) staging: Mutex<Option<Staging>>,
    /// Index up to which the log is purged for a snapshot whose installation is not finished.
    pub(crate) installing: watch::Sender<Option<u64>>,
    /// The highest entry that could not be read back with its record data, plus one; 0: none.
    pub(crate) unreadable: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds a group's lock")
}

impl GroupLog {
    /// Restores the group from its checkpoint and the rows after it. Blocks on the disk. `replica` is
    /// this replica's id; `clustered`, whether other nodes may have replicas.
    pub(crate) fn open(
        id: GroupId,
        replica: u64,
        store: Arc<dyn Store>,
        tail_cache: Arc<TailCache>,
        producers: Arc<ProducerMemory>,
        clustered: bool,
    ) -> Result<GroupLog, StoreError> {
        cut::adopt(id, replica, &*store)?;
        let mut restored = Restored::read(id, &*store)?;
        let is_broken = store.accepts_loss() && restored.hole(id, &*store)?.is_some();
        if is_broken || Restored::needs_mending(id, &*store)? {
            restored = mend::mend(id, replica, &*store, restored, clustered)?;
        }
        let Restored {
            checkpoint,
            vote,
            purged,
            last,
            partitions,
            removed,
        } = restored;
        let new = |p, state| Arc::new(Partition::new(p, id, state, producers.clone()));
        let live = partitions.into_iter().map(|(p, state)| (p, new(p, state)));
        let live = live.collect();
        let applied_term = checkpoint.applied.map_or(0, |id| id.leader_id.term);
        let log = GroupLog {
            id,
            store,
            tail_cache,
            partitions: RwLock::new(Partitions { live, removed }),
            producers,
            is_alone: AtomicBool::new(!clustered || is_one(checkpoint.membership.membership())),
            tail: Mutex::new(Tail {
                last,
                purged,
                ..Tail::default()
            }),
            applied: Mutex::new(Applied {
                checkpoint: checkpoint.clone(),
                ..Applied::default()
            }),
            vote: Mutex::new(vote),
            applied_term: AtomicU64::new(applied_term),
            stored_checkpoint: Mutex::new(checkpoint),
            written: Arc::new(AtomicU64::new(last.map_or(0, |id| id.index + 1))),
            is_closed: AtomicBool::new(false),
            staging: Mutex::new(None),
            installing: watch::Sender::new(None),
            unreadable: AtomicU64::new(0),
        };
        log.replay_tail()?;
        log.restore_staging()?;
        Ok(log)
    }

    /// Brings every partition's tail from the high watermark to the end of the log.
    pub(crate) fn replay_tail(&self) -> Result<(), StoreError> {
        let (applied, last) = (
            lock(&self.applied).checkpoint.applied,
            lock(&self.tail).last,
        );
        let mut next = applied.map_or(0, |id| id.index + 1);
        let end = last.map_or(0, |id| id.index + 1);
        while next < end {
            let found = self
                .store
                .raft_rows(self.id, next, end, REPLAY_READ_BYTES)?;
            for (index, row) in &found {
                if *index != next {
                    break;
                }
                let entry = rows::decode_entry(*index, row)?;
                self.note_members(&entry);
                if let EntryPayload::Normal(payload) = &entry.payload {
                    let context = context(&entry, &payload.0);
                    for (command, outcome) in payload.0.commands.iter().zip(payload.0.outcomes()) {
                        // Its rows begin here, so nothing of it is stored that they do not tell of.
                        let new = PartitionState::new;
                        self.partition_or(partition_of(command), new)
                            .stage(|s| advance(s, command, outcome, &context));
                    }
                }
                next += 1;
            }
            if found.is_empty() || next < found.last().map_or(0, |(i, _)| *i) {
                let detail = format!(
                    "entry {next} is missing, the log ends at {}. To start with what is whole: ottla \
                     server --override ottla.storage.accept.loss=true",
                    end - 1
                );
                return Err(StoreError::Damaged {
                    what: format!("the log of group {}", self.id),
                    detail,
                });
            }
        }
        Ok(())
    }

    /// The partition, made empty if the log has not seen it.
    pub(crate) fn partition(&self, id: PartitionId) -> Arc<Partition> {
        self.partition_or(id, || self.new_partition(id))
    }

    fn partition_or(
        &self,
        id: PartitionId,
        state: impl FnOnce() -> PartitionState,
    ) -> Arc<Partition> {
        let new = |state| Arc::new(Partition::new(id, self.id, state, self.producers.clone()));
        {
            let partitions = self.partitions.read().expect("never poisoned");
            if let Some(found) = partitions.live.get(&id) {
                return found.clone();
            }
            if partitions.removed.contains(id.0) {
                return new(PartitionState::gone());
            }
        }
        let mut partitions = self.partitions.write().expect("never poisoned");
        // Removed a moment ago.
        if partitions.removed.contains(id.0) {
            return new(PartitionState::gone());
        }
        let live = &mut partitions.live;
        live.entry(id).or_insert_with(|| new(state())).clone()
    }

    /// The state of a partition that no row knows: empty, unless its rows are among what was lost.
    fn new_partition(&self, id: PartitionId) -> PartitionState {
        // With others, what is stored and not known is of a snapshot that is being received.
        if self.store.losses() == 0 || !self.is_alone.load(Ordering::Acquire) {
            return PartitionState::new();
        }
        match mend::unknown_partition(self.id, id, &*self.store) {
            Ok((state, ops)) => {
                if !ops.is_empty() {
                    self.store.submit(Write {
                        ops,
                        sync: true,
                        done: Box::new(|_| ()),
                    });
                }
                state
            }
            Err(error) => {
                tracing::error!(partition = %id, %error, "begun empty");
                PartitionState::new()
            }
        }
    }

    pub(crate) fn partition_ids(&self) -> Vec<PartitionId> {
        let partitions = self.partitions.read().expect("never poisoned");
        partitions.live.keys().copied().collect()
    }

    /// Every partition that is not removed.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.read().expect("never poisoned");
        partitions.live.values().cloned().collect()
    }

    pub(crate) fn applied_term(&self) -> u64 {
        self.applied_term.load(Ordering::Acquire)
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        *lock(&self.vote)
    }

    /// The vote is on disk when this returns.
    pub(crate) async fn save_vote(&self, vote: &Vote) -> Result<(), StoreError> {
        let key = StateKey::group(Tag::Vote, self.id);
        let value = rows::encode_vote(vote);
        self.write(vec![Op::PutState { key, value }]).await?;
        *lock(&self.vote) = Some(*vote);
        Ok(())
    }

    /// Writes and waits until it is on disk.
    pub(crate) async fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        let sync = true;
        self.store.submit(Write { ops, sync, done });
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// (last purged, last)
    pub(crate) fn log_state(&self) -> (Option<LogId>, Option<LogId>) {
        let tail = lock(&self.tail);
        (tail.purged, tail.last)
    }

    /// Decides and queues entries. They can be read when this returns; `done` tells when they are
    /// on disk.
    pub(crate) fn append(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        done: Done,
    ) -> Result<(), StoreError> {
        // What is appended now takes the place of what was staged.
        let mut ops = self.discard_staging();
        let mut cached = Vec::new();
        let mut tail = lock(&self.tail);
        for entry in entries {
            self.note_members(&entry);
            if let EntryPayload::Normal(payload) = &entry.payload {
                self.decide(&entry, &payload.0, &mut ops, &mut cached)?;
            }
            let row = rows::encode_entry(&entry);
            tail.count(entry.log_id.index, row.len());
            ops.push(Op::PutRaft {
                group: self.id,
                index: entry.log_id.index,
                row,
            });
            tail.last = Some(entry.log_id);
            tail.recent.push_back(entry);
        }
        let end = tail.last.map_or(0, |id| id.index + 1);
        drop(tail);
        self.tail_cache.added(cached.into_iter());
        let written = self.written.clone();
        let done: Done = Box::new(move |result: Result<(), StoreError>| {
            if result.is_ok() {
                written.fetch_max(end, Ordering::AcqRel);
            }
            done(result);
        });
        self.store.submit(Write {
            ops,
            sync: true,
            done,
        });
        Ok(())
    }

    fn decide(
        &self,
        entry: &Entry,
        group_entry: &GroupEntry,
        ops: &mut Vec<Op>,
        cached: &mut Vec<CachedAt>,
    ) -> Result<(), StoreError> {
        let context = context(entry, group_entry);
        // One allocation holds the heads of all batches of the entry.
        let mut heads = BytesMut::with_capacity(group_entry.commands.len() * BATCH_HEAD_BYTES);
        let mut outcomes = Vec::with_capacity(group_entry.commands.len());
        for command in &group_entry.commands {
            let id = partition_of(command);
            let partition = self.partition(id);
            let (outcome, index_row) = partition.stage(|state| {
                let outcome = decide(state, command, &context);
                (outcome, advance(state, command, &outcome, &context))
            });
            if outcome == Outcome::TooManyProducers {
                self.producers.refused("a partition is");
            }
            outcomes.push(outcome);
            if let (Command::Append { meta, body }, Outcome::Appended { base_offset }) =
                (command, outcome)
            {
                let head = put_head(&mut heads, base_offset, meta, context.leader_epoch);
                let last_offset = base_offset + meta.offsets as i64 - 1;
                partition.cache(base_offset, last_offset, head.clone(), body.clone());
                let size = BATCH_HEAD_BYTES + body.len() + BATCH_OVERHEAD_BYTES;
                cached.push((partition, base_offset, size));
                ops.push(Op::PutBatch {
                    partition: id,
                    base_offset,
                    head,
                    body: body.clone(),
                });
            }
            ops.extend(index_row.map(|row| Op::PutIndex { partition: id, row }));
        }
        // An entry without data is in the log already, and is not appended again.
        match group_entry.set_outcomes(outcomes) && !group_entry.without_data {
            true => Ok(()),
            false => Err(StoreError::Damaged {
                what: format!("the log of group {}", self.id),
                detail: format!("entry {} was decided in two ways", entry.log_id.index),
            }),
        }
    }

    /// Takes a committed entry into what clients see.
    pub(crate) fn apply(&self, entry: &Entry) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut applied = lock(&self.applied);
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                applied.checkpoint.membership =
                    StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            EntryPayload::Normal(payload) => {
                let context = context(entry, &payload.0);
                outcomes = payload.0.outcomes().to_vec();
                for (command, outcome) in payload.0.commands.iter().zip(&outcomes) {
                    let partition = self.partition(partition_of(command));
                    let removed = *outcome == Outcome::Removed;
                    let bytes = removed.then(|| partition.with_state(|s| s.size_bytes()));
                    partition.commit(producer_of(command), |state| {
                        advance(state, command, outcome, &context);
                    });
                    // Only now: whoever writes later can see that the partition is gone.
                    if let Some(bytes) = bytes {
                        self.drop_data(&partition, bytes);
                        let mut all = self.partitions.write().expect("never poisoned");
                        all.live.remove(&partition.id);
                        applied.removed |= all.removed.insert(partition.id.0);
                    }
                    applied.dirty.insert(partition.id);
                }
            }
        }
        applied.checkpoint.applied = Some(entry.log_id);
        self.applied_term
            .store(entry.log_id.leader_id.term, Ordering::Release);
        drop(applied);
        let kept_from = (entry.log_id.index + 1).min(self.written.load(Ordering::Acquire));
        let recent = &mut lock(&self.tail).recent;
        while recent.front().is_some_and(|e| e.log_id.index < kept_from) {
            recent.pop_front();
        }
        outcomes
    }

    /// A removed partition's rows go at once; trimmed ones when the owner asks (`Group::reclaim`).
    fn drop_data(&self, partition: &Partition, bytes: u64) {
        let ops = vec![
            Op::DeleteBatches {
                partition: partition.id,
                from: 0,
                to: i64::MAX,
                bytes,
            },
            Op::DeleteState {
                key: StateKey::cleaner(self.id, partition.id),
            },
        ];
        self.store.submit(Write {
            ops,
            sync: false,
            done: Box::new(|_| ()),
        });
    }

    fn note_members(&self, entry: &Entry) {
        if let EntryPayload::Membership(membership) = &entry.payload {
            self.is_alone.store(is_one(membership), Ordering::Release);
        }
    }

    pub(crate) fn applied(&self) -> Checkpoint {
        lock(&self.applied).checkpoint.clone()
    }

    pub(crate) fn stored_checkpoint(&self) -> Checkpoint {
        lock(&self.stored_checkpoint).clone()
    }

    /// The operations that bring the checkpoint on disk to what is applied now.
    pub(crate) fn checkpoint_ops(&self) -> (Checkpoint, Vec<Op>) {
        let mut applied = lock(&self.applied);
        let checkpoint = applied.checkpoint.clone();
        let key = StateKey::group(Tag::Checkpoint, self.id);
        let mut ops = vec![Op::PutState {
            key,
            value: rows::encode_checkpoint(&checkpoint),
        }];
        if std::mem::take(&mut applied.removed) {
            let partitions = self.partitions.read().expect("never poisoned");
            ops.push(Op::PutState {
                key: StateKey::group(Tag::Removed, self.id),
                value: rows::encode_removed(&partitions.removed),
            });
        }
        for id in applied.dirty.drain() {
            let key = StateKey::partition(self.id, id);
            ops.push(self.partition(id).with_state(|state| match state.removed {
                true => Op::DeleteState { key },
                false => Op::PutState {
                    key,
                    value: rows::encode_partition(state),
                },
            }));
        }
        (checkpoint, ops)
    }

    pub(crate) fn checkpoint_stored(&self, checkpoint: Checkpoint) {
        *lock(&self.stored_checkpoint) = checkpoint;
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

pub(crate) fn is_one(membership: &Membership) -> bool {
    membership.nodes().count() == 1
}

impl Tail {
    fn count(&mut self, index: u64, bytes: usize) {
        if self
            .row_marks
            .back()
            .is_none_or(|(last, _)| index >= last + ROW_MARK_ENTRIES)
        {
            self.row_marks.push_back((index, self.row_bytes));
        }
        self.row_bytes += bytes as u64;
    }
}
