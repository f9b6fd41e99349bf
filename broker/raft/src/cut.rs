//! Letting go of entries: of a tail that was never committed, of rows that nobody needs any more, and of
//! what another replica id left behind.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_log::{Op, StateKey, Store, StoreError, Tag, Write};
use ottla_proto::ids::{GroupId, PartitionId};

use crate::command::{Command, Outcome};
use crate::group_log::{GroupLog, REPLAY_READ_BYTES, lock};
use crate::restored::Restored;
use crate::rows;
use crate::staged;
use crate::step::partition_of;
use crate::types::{Entry, EntryPayload, LogId};

impl GroupLog {
    /// Cuts off everything after `last`.
    pub(crate) async fn truncate_after(&self, last: Option<LogId>) -> Result<(), StoreError> {
        let from = last.map_or(0, |id| id.index + 1);
        let mut ops = vec![Op::DeleteRaft {
            group: self.id,
            from,
            to: u64::MAX,
        }];
        let end = lock(&self.tail).last.map_or(0, |id| id.index + 1);
        let mut next = from;
        while next < end {
            let entries = self.entries(next, end, REPLAY_READ_BYTES)?;
            let Some(read) = entries.last() else { break };
            next = read.log_id.index + 1;
            entries
                .iter()
                .for_each(|entry| delete_data(entry, &mut ops));
        }
        {
            let mut tail = lock(&self.tail);
            tail.last = last;
            while tail.recent.back().is_some_and(|e| e.log_id.index >= from) {
                tail.recent.pop_back();
            }
        }
        // What was written before is on disk then, too, and can be replayed.
        self.write(ops).await?;
        self.written.fetch_min(from, Ordering::AcqRel);
        let all = self.partitions();
        all.iter().for_each(|p| p.rewind());
        self.replay_tail()?;
        all.iter().for_each(|p| p.drop_broken_cache());
        Ok(())
    }

    /// Forgets rows up to and with `upto`; a checkpoint covers them.
    pub(crate) fn purge(&self, upto: LogId) {
        {
            let mut tail = lock(&self.tail);
            tail.purged = Some(upto);
            tail.last = tail.last.max(Some(upto));
            while tail
                .recent
                .front()
                .is_some_and(|e| e.log_id.index <= upto.index)
            {
                tail.recent.pop_front();
            }
            while tail
                .row_marks
                .front()
                .is_some_and(|(i, _)| *i <= upto.index)
            {
                tail.row_marks.pop_front();
            }
        }
        if lock(&self.applied).checkpoint.applied < Some(upto) {
            // A snapshot is about to be installed. Its one write deletes the rows, too.
            self.installing.send_replace(Some(upto.index));
            return;
        }
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

    /// The last entry that rows may be purged up to so that those kept take `keep_bytes` at most.
    pub(crate) fn purgeable(&self, keep_bytes: u64) -> Option<u64> {
        let tail = lock(&self.tail);
        let over = tail.row_bytes.checked_sub(keep_bytes)?;
        let marks = tail
            .row_marks
            .iter()
            .take_while(|(_, before)| *before <= over);
        marks.last().and_then(|(index, _)| index.checked_sub(1))
    }
}

/// Deletes the batches of an entry. No more: staged data of a snapshot may lie behind the log's end.
fn delete_data(entry: &Entry, ops: &mut Vec<Op>) {
    let EntryPayload::Normal(payload) = &entry.payload else {
        return;
    };
    for (command, outcome) in payload.0.commands.iter().zip(payload.0.outcomes()) {
        if let (Command::Append { meta, .. }, Outcome::Appended { base_offset }) =
            (command, outcome)
        {
            ops.push(Op::DeleteBatches {
                partition: meta.partition,
                from: *base_offset,
                to: *base_offset + meta.offsets as i64,
                bytes: 0,
            });
        }
    }
}

/// Makes the group's rows this replica's. Rows of another replica id are those of a data directory
/// that has lost something since: what its checkpoint covers is whole and stays, its vote and the
/// rest of its log go, and the replica starts as a learner. Where an operator has accepted that data is
/// lost, nothing is known to be whole, and all goes.
pub(crate) fn adopt(id: GroupId, replica: u64, store: &dyn Store) -> Result<(), StoreError> {
    let key = StateKey::group(Tag::Replica, id);
    let mut ops = match store.state(key)? {
        Some(row) if rows::decode_replica(&row)? == replica => return Ok(()),
        Some(_) if Restored::needs_mending(id, store)? => {
            let mut ops = wipe(id, store)?;
            let losses = store.losses().to_be_bytes();
            ops.push(Op::PutState {
                key: StateKey::group(Tag::Mended, id),
                value: losses.to_vec().into(),
            });
            ops
        }
        Some(_) => beyond_checkpoint(id, store)?,
        // Rows from before replica ids were kept belong to whoever has the directory.
        None => Vec::new(),
    };
    ops.push(Op::PutState {
        key,
        value: rows::encode_replica(replica),
    });
    store.write(ops)
}

/// Deletes what the group's checkpoint does not cover.
fn beyond_checkpoint(id: GroupId, store: &dyn Store) -> Result<Vec<Op>, StoreError> {
    let checkpoint = store.state(StateKey::group(Tag::Checkpoint, id))?;
    let checkpoint = checkpoint
        .map(|r| rows::decode_checkpoint(&r))
        .transpose()?;
    let applied = checkpoint.and_then(|c| c.applied);
    let known = store.states(Tag::Partition, id)?;
    let mut ops = vec![Op::DeleteState {
        key: StateKey::group(Tag::Vote, id),
    }];
    let from = applied.map_or(0, |id| id.index + 1);
    let known_ids: BTreeSet<u64> = known.iter().map(|(number, _)| *number).collect();
    for partition in appended(id, from, store)? {
        if !known_ids.contains(&partition.0) {
            ops.push(all_of(partition));
        }
    }
    ops.push(Op::DeleteRaft {
        group: id,
        from: 0,
        to: u64::MAX,
    });
    let key = StateKey::group(Tag::Purged, id);
    ops.push(match applied {
        Some(applied) => Op::PutState {
            key,
            value: rows::encode_log_id(&applied),
        },
        None => Op::DeleteState { key },
    });
    for (number, row) in store.states(Tag::Staged, id)? {
        let staged = staged::decode(&row)?;
        // An installed snapshot is part of the checkpoint: the start goes on moving it.
        if !staged.moving {
            ops.extend(staged::discard(PartitionId(number), &staged));
            let key = staged::key(id, PartitionId(number));
            ops.push(Op::DeleteState { key });
        }
    }
    for (number, row) in known {
        let partition = PartitionId(number);
        ops.push(Op::DeleteBatches {
            partition,
            from: rows::decode_partition(&row)?.log_end_offset,
            to: i64::MAX,
            bytes: 0,
        });
        // How far it was compacted may lie behind that.
        let key = StateKey::cleaner(id, partition);
        if store.state(key)?.is_some() {
            let value = Bytes::new();
            ops.push(Op::PutState { key, value });
        }
    }
    Ok(ops)
}

/// Deletes everything of a group: its rows, and all of its partitions.
pub(crate) fn wipe(id: GroupId, store: &dyn Store) -> Result<Vec<Op>, StoreError> {
    let mut ops = leave(id, store)?;
    let key = StateKey::group(Tag::Vote, id);
    ops.push(Op::DeleteState { key });
    Ok(ops)
}

/// Deletes everything of a group but its vote.
pub(crate) fn leave(id: GroupId, store: &dyn Store) -> Result<Vec<Op>, StoreError> {
    let mut partitions = appended(id, 0, store)?;
    let mut ops = Vec::new();
    for tag in [Tag::Partition, Tag::Staged, Tag::Cleaner] {
        for (number, _) in store.states(tag, id)? {
            partitions.insert(PartitionId(number));
            ops.push(Op::DeleteState {
                key: StateKey {
                    tag,
                    group: id,
                    id: number,
                },
            });
        }
    }
    for partition in partitions {
        ops.push(all_of(partition));
        ops.push(all_of(staged::beside(partition)));
    }
    ops.push(Op::DeleteRaft {
        group: id,
        from: 0,
        to: u64::MAX,
    });
    let tags = [
        Tag::Checkpoint,
        Tag::Purged,
        Tag::Mended,
        Tag::Removed,
        Tag::Replica,
    ];
    ops.extend(tags.map(|tag| Op::DeleteState {
        key: StateKey::group(tag, id),
    }));
    Ok(ops)
}

fn all_of(partition: PartitionId) -> Op {
    Op::DeleteBatches {
        partition,
        from: 0,
        to: i64::MAX,
        bytes: 0,
    }
}

/// The partitions that entries from `from` on speak of.
fn appended(
    id: GroupId,
    from: u64,
    store: &dyn Store,
) -> Result<BTreeSet<PartitionId>, StoreError> {
    let mut found = BTreeSet::new();
    let mut next = from;
    loop {
        let read = store.raft_rows(id, next, u64::MAX, REPLAY_READ_BYTES)?;
        let Some((last, _)) = read.last() else {
            return Ok(found);
        };
        next = last + 1;
        for (index, row) in &read {
            // What is damaged goes unread.
            if let Ok(entry) = rows::decode_entry(*index, row)
                && let EntryPayload::Normal(payload) = &entry.payload
            {
                found.extend(payload.0.commands.iter().map(partition_of));
            }
        }
    }
}
