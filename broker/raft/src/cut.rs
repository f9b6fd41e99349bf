//! Letting go of entries: of a tail that was never committed, of rows that nobody needs any more, and of
//! what another replica id left behind.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_log::{Op, StateKey, Store, StoreError, Tag, Write};
use ottla_proto::ids::{GroupId, PartitionId};

use crate::command::{Command, Outcome};
use crate::group_log::{GroupLog, REPLAY_READ_BYTES, lock};
use crate::install;
use crate::rows;
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
        let all = self.all_partitions();
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
/// rest of its log go, and the replica starts as a learner.
pub(crate) fn adopt(id: GroupId, replica: u64, store: &dyn Store) -> Result<(), StoreError> {
    let key = StateKey::group(Tag::Replica, id);
    let mut ops = vec![Op::PutState {
        key,
        value: rows::encode_replica(replica),
    }];
    match store.state(key)? {
        Some(row) if rows::decode_replica(&row)? == replica => return Ok(()),
        Some(_) => {
            let key = StateKey::group(Tag::Vote, id);
            ops.push(Op::DeleteState { key });
            let (from, to) = (0, u64::MAX);
            ops.push(Op::DeleteRaft {
                group: id,
                from,
                to,
            });
            let checkpoint = store.state(StateKey::group(Tag::Checkpoint, id))?;
            let checkpoint = checkpoint
                .map(|r| rows::decode_checkpoint(&r))
                .transpose()?;
            let key = StateKey::group(Tag::Purged, id);
            ops.push(match checkpoint.and_then(|c| c.applied) {
                Some(applied) => Op::PutState {
                    key,
                    value: rows::encode_log_id(&applied),
                },
                None => Op::DeleteState { key },
            });
            for (number, row) in store.states(Tag::Staged, id)? {
                let key = StateKey {
                    tag: Tag::Staged,
                    group: id,
                    id: number,
                };
                let staged = rows::decode_staged(&row)?;
                // An installed snapshot is part of the checkpoint: the start goes on moving it.
                if !staged.moving {
                    ops.extend(install::discard(PartitionId(number), &staged));
                    ops.push(Op::DeleteState { key });
                }
            }
            for (number, row) in store.states(Tag::Partition, id)? {
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
        }
        // Rows from before replica ids were kept belong to whoever has the directory.
        None => {}
    }
    store.write(ops)
}
