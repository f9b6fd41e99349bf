//! One group's log and partitions on this replica: what openraft's storage traits act upon.
//! Hot path: `append` and `apply`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use bytes::BytesMut;
use ottla_log::{BATCH_HEAD_BYTES, Done, Op, StateKey, Store, StoreError, Tag, Write};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::BATCH_OVERHEAD_BYTES;

use crate::command::{Command, GroupEntry, Outcome};
use crate::id_set::IdSet;
use crate::mend;
use crate::partition::{CachedAt, Partition, TailCache};
use crate::producer_memory::ProducerMemory;
use crate::restored::Restored;
use crate::rows::{self, Checkpoint};
use crate::state::PartitionState;
use crate::step::{advance, context, decide, partition_of, producer_of, put_head};
use crate::types::{Entry, EntryPayload, LogId, StoredMembership, Vote};

/// Bytes of rows read at a time when the log is replayed.
const REPLAY_READ_BYTES: usize = 1 << 20;

/// The log's ends, and the entries that are not applied yet.
#[derive(Default)]
struct Tail {
    last: Option<LogId>,
    purged: Option<LogId>,
    /// Contiguous, ending at `last`; those before are read from their rows.
    recent: VecDeque<Entry>,
}

#[derive(Default)]
struct Applied {
    checkpoint: Checkpoint,
    /// Changed since the last checkpoint.
    dirty: HashSet<PartitionId>,
    /// Whether partitions were removed since the last checkpoint.
    removed: bool,
}

#[derive(Default)]
struct Partitions {
    live: HashMap<PartitionId, Arc<Partition>>,
    /// Removed at the high watermark. Their ids are never given again, and nothing is appended to them.
    removed: IdSet,
}

pub(crate) struct GroupLog {
    pub(crate) id: GroupId,
    store: Arc<dyn Store>,
    tail_cache: Arc<TailCache>,
    partitions: RwLock<Partitions>,
    producers: Arc<ProducerMemory>,
    tail: Mutex<Tail>,
    applied: Mutex<Applied>,
    vote: Mutex<Option<Vote>>,
    /// Term of the last applied entry: a leader serves once it has applied one of its own.
    applied_term: AtomicU64,
    /// What the last checkpoint on disk covers.
    stored_checkpoint: Mutex<Checkpoint>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds a group's lock")
}

impl GroupLog {
    /// Restores the group from its checkpoint and the rows after it. Blocks on the disk. `replica` is
    /// this replica's id.
    pub(crate) fn open(
        id: GroupId,
        replica: u64,
        store: Arc<dyn Store>,
        tail_cache: Arc<TailCache>,
        producers: Arc<ProducerMemory>,
    ) -> Result<GroupLog, StoreError> {
        let mut restored = Restored::read(id, &*store)?;
        let is_broken = store.accepts_loss() && restored.hole(id, &*store)?.is_some();
        if is_broken || Restored::needs_mending(id, &*store)? {
            restored = mend::mend(id, replica, &*store, restored)?;
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
            tail: Mutex::new(Tail {
                last,
                purged,
                recent: VecDeque::new(),
            }),
            applied: Mutex::new(Applied {
                checkpoint: checkpoint.clone(),
                ..Applied::default()
            }),
            vote: Mutex::new(vote),
            applied_term: AtomicU64::new(applied_term),
            stored_checkpoint: Mutex::new(checkpoint),
        };
        log.replay_tail()?;
        Ok(log)
    }

    /// Brings every partition's tail from the high watermark to the end of the log.
    fn replay_tail(&self) -> Result<(), StoreError> {
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
        if self.store.losses() == 0 {
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

    pub(crate) fn save_vote(&self, vote: &Vote) -> Result<(), StoreError> {
        let key = StateKey::group(Tag::Vote, self.id);
        self.store.write(vec![Op::PutState {
            key,
            value: rows::encode_vote(vote),
        }])?;
        *lock(&self.vote) = Some(*vote);
        Ok(())
    }

    /// (last purged, last)
    pub(crate) fn log_state(&self) -> (Option<LogId>, Option<LogId>) {
        let tail = lock(&self.tail);
        (tail.purged, tail.last)
    }

    /// Decides and queues entries. They can be read when this returns; `done` tells when they are
    /// on disk.
    pub(crate) fn append(&self, entries: impl IntoIterator<Item = Entry>, done: Done) {
        let mut ops = Vec::new();
        let mut cached = Vec::new();
        let mut tail = lock(&self.tail);
        for entry in entries {
            if let EntryPayload::Normal(payload) = &entry.payload {
                self.decide(&entry, &payload.0, &mut ops, &mut cached);
            }
            let row = rows::encode_entry(&entry);
            ops.push(Op::PutRaft {
                group: self.id,
                index: entry.log_id.index,
                row,
            });
            tail.last = Some(entry.log_id);
            tail.recent.push_back(entry);
        }
        drop(tail);
        self.tail_cache.added(cached.into_iter());
        self.store.submit(Write {
            ops,
            sync: true,
            done,
        });
    }

    fn decide(
        &self,
        entry: &Entry,
        group_entry: &GroupEntry,
        ops: &mut Vec<Op>,
        cached: &mut Vec<CachedAt>,
    ) {
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
        group_entry.set_outcomes(outcomes);
    }

    /// Entries `from..to` as far as the log has them. Those read from disk come without bodies.
    pub(crate) fn entries(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let first_recent = {
            let tail = lock(&self.tail);
            let first = tail.recent.front().map_or(u64::MAX, |e| e.log_id.index);
            if from >= first {
                let skip = (from - first) as usize;
                let wanted = to.saturating_sub(from) as usize;
                return Ok(within(
                    tail.recent.iter().skip(skip).take(wanted).cloned(),
                    max_bytes,
                ));
            }
            first
        };
        let found = self
            .store
            .raft_rows(self.id, from, to.min(first_recent), max_bytes)?;
        found
            .iter()
            .map(|(index, row)| rows::decode_entry(*index, row))
            .collect()
    }

    /// Cuts off everything after `last`. Blocks on the disk.
    pub(crate) fn truncate_after(&self, last: Option<LogId>) -> Result<(), StoreError> {
        let from = last.map_or(0, |id| id.index + 1);
        let mut ops = vec![Op::DeleteRaft {
            group: self.id,
            from,
            to: u64::MAX,
        }];
        for entry in self.entries(from, u64::MAX, usize::MAX)? {
            let EntryPayload::Normal(payload) = entry.payload else {
                continue;
            };
            for (command, outcome) in payload.0.commands.iter().zip(payload.0.outcomes()) {
                if let Outcome::Appended { base_offset } = outcome {
                    let partition = partition_of(command);
                    ops.push(Op::DeleteBatches {
                        partition,
                        from: *base_offset,
                        to: i64::MAX,
                        bytes: 0,
                    });
                }
            }
        }
        {
            let mut tail = lock(&self.tail);
            tail.last = last;
            while tail.recent.back().is_some_and(|e| e.log_id.index >= from) {
                tail.recent.pop_back();
            }
        }
        self.store.write(ops)?;
        self.partitions().iter().for_each(|p| p.rewind());
        self.replay_tail()
    }

    /// Forgets rows up to and with `upto`; a checkpoint covers them.
    pub(crate) fn purge(&self, upto: LogId) {
        lock(&self.tail).purged = Some(upto);
        let key = StateKey::group(Tag::Purged, self.id);
        let ops = vec![
            Op::DeleteRaft {
                group: self.id,
                from: 0,
                to: upto.index + 1,
            },
            Op::PutState {
                key,
                value: rows::encode_log_id(&upto),
            },
        ];
        // Losing this write leaves rows that the next purge removes.
        self.store.submit(Write {
            ops,
            sync: false,
            done: Box::new(|_| ()),
        });
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
        let recent = &mut lock(&self.tail).recent;
        while recent
            .front()
            .is_some_and(|e| e.log_id.index <= entry.log_id.index)
        {
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

fn within(entries: impl Iterator<Item = Entry>, max_bytes: usize) -> Vec<Entry> {
    let mut bytes = 0usize;
    let size = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(p) => {
            p.0.commands
                .iter()
                .map(|c| {
                    if let Command::Append { body, .. } = c {
                        body.len()
                    } else {
                        0
                    }
                })
                .sum()
        }
        _ => 0usize,
    };
    let fits = |entry: &Entry| {
        let first = bytes == 0;
        bytes = bytes.saturating_add(size(entry)).max(1);
        first || bytes <= max_bytes
    };
    let mut fits = fits;
    entries.take_while(|e| fits(e)).collect()
}
