//! Making a group consistent again after an operator accepted that data is lost (`loss.rs` in the log
//! crate): raft rows, checkpoints and batches may each have holes of their own.
//!
//! What is stored decides. The raft rows that are left bring every partition forward from its
//! checkpoint; batches that are stored where no row tells of them are taken in by their own headers; and
//! where a row, or a later batch, shows that offsets were given to batches that are gone, a batch without
//! records takes their place ([`lost_batch`]), so that offsets stay dense and none is given twice. The
//! whole becomes a checkpoint at the end of the log, which begins anew behind it in a higher term.
//! It is written at once, so that a start which is cut short begins it again.
//!
//! Only for a group of this one replica: with others, theirs is what counts.

use std::ops::Range;

use openraft::vote::RaftLeaderId;
use ottla_log::{BatchFacts, IndexRow, Op, StateKey, Store, StoreError, Tag, lost_batch};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::{DOCTOR_RETRIES_PER_PARTITION, MEND_READ_BYTES};

use crate::command::{BatchMeta, Command, Outcome, ProducerMeta};
use crate::restored::Restored;
use crate::rows;
use crate::state::{EntryContext, PartitionState};
use crate::step::{advance, context, partition_of};
use crate::types::{self, Entry, EntryPayload, LogId, StoredMembership, Vote};

/// Brings the group to what is stored, and writes that. Blocks on the disk, and reads every batch once.
pub(crate) fn mend(
    id: GroupId,
    replica: u64,
    store: &dyn Store,
    restored: Restored,
) -> Result<Restored, StoreError> {
    let mut mend = Mend {
        id,
        store,
        restored,
        time_ms: 0,
        ops: Vec::new(),
    };
    // Where no entry is left, a vote tells that there were some.
    let voted = mend.restored.vote.map(|vote| vote.leader_id().term());
    let last = mend.raft_rows()?;
    let last = last.or(voted.map(|term| types::log_id(term, 0)));
    mend.membership(replica, last)?;
    let ids: Vec<PartitionId> = mend.restored.partitions.keys().copied().collect();
    for partition in ids {
        let mut state = mend.take(partition);
        if !state.removed {
            mend.batches(partition, &mut state)?;
        }
        mend.restored.partitions.insert(partition, state);
    }
    mend.finish(replica, last)
}

/// A partition of which no row tells: its state by the batches that are stored, and what to write for it.
/// For a group that was mended before the metadata named all of its partitions.
pub(crate) fn unknown_partition(
    id: GroupId,
    partition: PartitionId,
    store: &dyn Store,
) -> Result<(PartitionState, Vec<Op>), StoreError> {
    let mut state = PartitionState::new();
    if store.batches(partition, 0, i64::MAX, 1)?.is_empty() {
        return Ok((state, Vec::new()));
    }
    let mut mend = Mend {
        id,
        store,
        restored: Restored::default(),
        time_ms: 0,
        ops: Vec::new(),
    };
    mend.batches(partition, &mut state)?;
    mend.ops.push(Op::PutState {
        key: StateKey::partition(id, partition),
        value: rows::encode_partition(&state),
    });
    Ok((state, mend.ops))
}

struct Mend<'a> {
    id: GroupId,
    store: &'a dyn Store,
    restored: Restored,
    /// Of the newest entry that is left, ms.
    time_ms: i64,
    ops: Vec<Op>,
}

impl Mend<'_> {
    fn take(&mut self, partition: PartitionId) -> PartitionState {
        let found = self.restored.partitions.remove(&partition);
        found.unwrap_or_default()
    }

    /// Takes in what is left of the rows; the end of the log. Rows before the checkpoint count, too: a
    /// partition's own row may be older than that, and nothing else may tell of its last offsets.
    fn raft_rows(&mut self) -> Result<Option<LogId>, StoreError> {
        let applied = self.restored.checkpoint.applied;
        let behind = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
        let checkpointed = behind(applied);
        let mut next = behind(self.restored.purged);
        let mut last = applied.max(self.restored.purged);
        loop {
            let found = self
                .store
                .raft_rows(self.id, next, u64::MAX, MEND_READ_BYTES)?;
            let Some((end, _)) = found.last() else { break };
            let end = *end;
            for (index, row) in found {
                let lost = next.max(checkpointed)..index;
                if !lost.is_empty() {
                    self.lost_entries(lost);
                }
                next = index + 1;
                match rows::decode_entry(index, &row) {
                    Ok(entry) => {
                        last = last.max(Some(entry.log_id));
                        self.entry(&entry)?;
                    }
                    Err(error) => {
                        tracing::warn!(group = %self.id, index, %error, "an entry is lost");
                    }
                }
            }
            next = end + 1;
        }
        Ok(last)
    }

    fn lost_entries(&self, lost: Range<u64>) {
        let (group, first, last) = (self.id, lost.start, lost.end - 1);
        tracing::warn!(%group, "entries {first} to {last} of the group's log are lost");
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), StoreError> {
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(_)
                if Some(entry.log_id) <= self.restored.checkpoint.applied => {}
            EntryPayload::Membership(membership) => {
                self.restored.checkpoint.membership =
                    StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            EntryPayload::Normal(payload) => {
                let context = context(entry, &payload.0);
                self.time_ms = self.time_ms.max(context.time_ms);
                for (command, outcome) in payload.0.commands.iter().zip(payload.0.outcomes()) {
                    let id = partition_of(command);
                    let mut state = self.take(id);
                    self.command(id, &mut state, command, outcome, &context)?;
                    self.restored.partitions.insert(id, state);
                }
            }
        }
        Ok(())
    }

    fn command(
        &mut self,
        id: PartitionId,
        state: &mut PartitionState,
        command: &Command,
        outcome: &Outcome,
        context: &EntryContext,
    ) -> Result<(), StoreError> {
        if let Outcome::Appended { base_offset } = outcome {
            if *base_offset < state.log_end_offset || state.removed {
                return Ok(()); // its checkpoint is newer than the group's
            }
            self.stored(id, state, *base_offset)?;
            state.log_end_offset = *base_offset;
        }
        let indexed = advance(state, command, outcome, context);
        self.index(id, indexed);
        Ok(())
    }

    fn index(&mut self, partition: PartitionId, row: Option<IndexRow>) {
        self.ops
            .extend(row.map(|row| Op::PutIndex { partition, row }));
    }

    /// Takes in stored batches from the state's end up to `to`, of which no row tells.
    fn stored(
        &mut self,
        id: PartitionId,
        state: &mut PartitionState,
        to: i64,
    ) -> Result<(), StoreError> {
        let mut from = state.log_end_offset;
        while from < to {
            let found = self.store.batches(id, from, to, MEND_READ_BYTES)?;
            let before = from;
            for facts in found.iter().filter_map(|batch| BatchFacts::of(batch)) {
                if facts.base_offset >= state.log_end_offset {
                    self.take_stored(id, state, &facts)?;
                    from = facts.end();
                }
            }
            if from == before {
                break;
            }
        }
        Ok(())
    }

    fn take_stored(
        &mut self,
        id: PartitionId,
        state: &mut PartitionState,
        facts: &BatchFacts,
    ) -> Result<(), StoreError> {
        state.log_end_offset = facts.base_offset;
        // How many bytes were before it, where bytes are lost, only the index knows.
        if let Some(row) = self.store.index_rows(id, facts.base_offset, 1)?.first()
            && row.base_offset == facts.base_offset
        {
            state.position_bytes = state.position_bytes.max(row.position_bytes);
        }
        let producer = (facts.producer_id >= 0).then(|| ProducerMeta {
            id: facts.producer_id,
            epoch: facts.producer_epoch,
            base_sequence: facts.base_sequence,
            last_sequence: last_sequence(facts),
        });
        let meta = BatchMeta {
            partition: id,
            offsets: facts.offsets,
            max_timestamp_ms: facts.max_timestamp_ms,
            size_bytes: facts.size_bytes,
            producer,
        };
        let context = EntryContext {
            leader_epoch: facts.leader_epoch,
            time_ms: self.time_ms.max(facts.max_timestamp_ms),
            producer_expiration_ms: i64::MAX,
        };
        let command = Command::Append {
            meta,
            body: Default::default(),
        };
        let base_offset = facts.base_offset;
        let indexed = advance(
            state,
            &command,
            &Outcome::Appended { base_offset },
            &context,
        );
        self.index(id, indexed);
        Ok(())
    }

    /// Compares a partition's state with all of its batches: takes in those behind its end, and puts
    /// something in the place of those that are lost.
    fn batches(&mut self, id: PartitionId, state: &mut PartitionState) -> Result<(), StoreError> {
        self.stored(id, state, i64::MAX)?;
        // A row of the index may be all that is left of the last batches.
        if let Some(row) = self.store.index_at(id, i64::MAX)?
            && row.base_offset >= state.log_end_offset
        {
            state.log_end_offset = row.base_offset + 1;
            state.position_bytes = state.position_bytes.max(row.position_bytes);
        }
        let key = StateKey::cleaner(self.id, id);
        let is_compacted = self.store.state(key)?.is_some();
        let (start, end) = (state.log_start_offset, state.log_end_offset);
        let mut next = start;
        let mut is_first = true;
        let mut retries = 0;
        while next < end {
            let found = match self.store.batches(id, next, end, MEND_READ_BYTES) {
                Ok(found) => found,
                // Damaged, not lost: readers are told so. The index leads behind it.
                Err(error) => {
                    tracing::warn!(partition = %id, offset = next, %error, "not examined");
                    retries += 1;
                    let behind = self.store.index_rows(id, next + 1, 1)?;
                    match behind.first() {
                        Some(row) if retries <= DOCTOR_RETRIES_PER_PARTITION => {
                            next = row.base_offset;
                            continue;
                        }
                        _ => return Ok(()),
                    }
                }
            };
            if found.is_empty() {
                break;
            }
            for facts in found.iter().filter_map(|batch| BatchFacts::of(batch)) {
                match facts.base_offset > next {
                    // Deleted, or lost: what is first is where the log starts.
                    true if is_first && !is_compacted => {
                        self.say_lost(id, next..facts.base_offset);
                        state.trim(facts.base_offset);
                    }
                    // What compaction took out cannot be told from what is lost.
                    true if !is_compacted => self.fill(id, state, next..facts.base_offset)?,
                    _ => {}
                }
                is_first = false;
                next = facts.end();
            }
        }
        // The last batch of a log never goes, so what is missing at its end is lost.
        if next < end {
            self.fill(id, state, next..end)?;
        }
        Ok(())
    }

    fn say_lost(&self, partition: PartitionId, lost: Range<i64>) {
        let (first, last) = (lost.start, lost.end - 1);
        tracing::warn!(
            group = %self.id, %partition,
            "offsets {first} to {last} of partition {partition} are lost"
        );
    }

    fn fill(
        &mut self,
        partition: PartitionId,
        state: &PartitionState,
        lost: Range<i64>,
    ) -> Result<(), StoreError> {
        self.say_lost(partition, lost.clone());
        let leader_epoch = state.epoch_at(lost.start);
        let mut from = lost.start;
        while from < lost.end {
            let offsets = i32::try_from(lost.end - from).unwrap_or(i32::MAX);
            self.ops.push(Op::ReplaceBatch {
                partition,
                base_offset: from,
                batch: lost_batch(from, offsets, leader_epoch),
                freed_bytes: 0,
            });
            from += i64::from(offsets);
        }
        // Rows of the index that led to what is lost.
        let mut next = lost.start + 1;
        while let Some(row) = self.store.index_rows(partition, next, 1)?.first()
            && row.base_offset < lost.end
        {
            let base_offset = row.base_offset;
            self.ops.push(Op::DeleteIndex {
                partition,
                base_offset,
            });
            next = base_offset + 1;
        }
        Ok(())
    }

    /// A group whose first entries are lost still is a group of this replica alone.
    fn membership(&mut self, replica: u64, last: Option<LogId>) -> Result<(), StoreError> {
        let known = &self.restored.checkpoint.membership;
        let members: Vec<u64> = known.membership().nodes().map(|(id, _)| *id).collect();
        if members.iter().any(|member| *member != replica) {
            return Err(StoreError::Lost(format!(
                "group {} has other replicas ({members:?}): they have what is lost here",
                self.id
            )));
        }
        if members.is_empty() && last.is_some() {
            let alone = types::membership(vec![[replica].into()], [replica].into());
            let alone = alone.expect("its voter is its member");
            self.restored.checkpoint.membership = StoredMembership::new(last, alone);
        }
        Ok(())
    }

    /// Writes all of it as a checkpoint at the end of the log.
    fn finish(mut self, replica: u64, last: Option<LogId>) -> Result<Restored, StoreError> {
        let (id, restored) = (self.id, &mut self.restored);
        let ops = &mut self.ops;
        let mut put = |key, value| ops.push(Op::PutState { key, value });
        let group = |tag| StateKey::group(tag, id);
        if let Some(last) = last {
            let epochs = restored.partitions.values().filter_map(|s| s.epochs.last());
            let epoch = epochs.map(|e| e.epoch.max(0) as u64).max().unwrap_or(0);
            let voted = restored.vote.map_or(0, |vote| vote.leader_id().term());
            let term = voted.max(last.leader_id.term).max(epoch);
            // Its own election begins the next term: none that was lost can come again.
            let vote = Vote::new(term, replica);
            put(group(Tag::Vote), rows::encode_vote(&vote));
            restored.vote = Some(vote);
            restored.checkpoint.applied = Some(last);
            let checkpoint = rows::encode_checkpoint(&restored.checkpoint);
            put(group(Tag::Checkpoint), checkpoint);
            put(group(Tag::Purged), rows::encode_log_id(&last));
            restored.purged = Some(last);
        }
        let losses = self.store.losses().to_be_bytes();
        put(group(Tag::Mended), losses.to_vec().into());
        for (partition, state) in &restored.partitions {
            let key = StateKey::partition(id, *partition);
            if !state.removed {
                put(key, rows::encode_partition(state));
            }
        }
        restored.partitions.retain(|partition, state| {
            if state.removed {
                let key = StateKey::partition(id, *partition);
                ops.push(Op::DeleteState { key });
                restored.removed.insert(partition.0);
            }
            !state.removed
        });
        ops.push(Op::PutState {
            key: group(Tag::Removed),
            value: rows::encode_removed(&restored.removed),
        });
        restored.last = last;
        ops.push(Op::DeleteRaft {
            group: id,
            from: 0,
            to: u64::MAX,
        });
        self.store.write(self.ops)?;
        Ok(self.restored)
    }
}

fn last_sequence(facts: &BatchFacts) -> i32 {
    let last = i64::from(facts.base_sequence) + i64::from(facts.offsets) - 1;
    // Sequences wrap from `i32::MAX` to 0.
    (last % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests;
