//! The store in memory: the same contract without a disk, for unit tests and simulations.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use ottla_proto::ids::{GroupId, PartitionId};

use crate::Tag;
use crate::batch::batch_span;
use crate::keys::StateKey;
use crate::store::{IndexRow, Op, Store, StoreError, Write};

#[derive(Default)]
struct Tables {
    raft: BTreeMap<(GroupId, u64), Bytes>,
    log: BTreeMap<(PartitionId, i64), Bytes>,
    index: BTreeMap<(PartitionId, i64), IndexRow>,
    state: BTreeMap<StateKey, Bytes>,
    losses: u64,
}

/// Writes apply at once and count as durable.
#[derive(Default)]
pub struct MemoryStore(Mutex<Tables>);

impl MemoryStore {
    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0
            .lock()
            .expect("no code panics while it holds the tables")
    }

    /// Does to the rows what a loss of data would, and counts it as accepted.
    pub fn lose(&self, ops: Vec<Op>) {
        let mut tables = self.tables();
        ops.into_iter().for_each(|op| apply(&mut tables, op));
        tables.losses += 1;
    }
}

fn apply(tables: &mut Tables, op: Op) {
    match op {
        Op::PutRaft { group, index, row } => drop(tables.raft.insert((group, index), row)),
        Op::DeleteRaft { group, from, to } => {
            tables
                .raft
                .retain(|(g, i), _| *g != group || *i < from || *i >= to);
        }
        Op::PutBatch {
            partition,
            base_offset,
            head,
            body,
        } => {
            let mut batch = BytesMut::with_capacity(head.len() + body.len());
            batch.extend_from_slice(&head);
            batch.extend_from_slice(&body);
            tables.log.insert((partition, base_offset), batch.freeze());
        }
        Op::PutIndex { partition, row } => {
            tables.index.insert((partition, row.base_offset), row);
        }
        Op::DeleteBatches {
            partition,
            from,
            to,
            ..
        } => {
            let keep = |p: PartitionId, o: i64| p != partition || o < from || o >= to;
            tables.log.retain(|(p, o), _| keep(*p, *o));
            tables.index.retain(|(p, o), _| keep(*p, *o));
        }
        Op::ReplaceBatch {
            partition,
            base_offset,
            batch,
            ..
        } => {
            tables.log.insert((partition, base_offset), batch);
        }
        Op::DeleteBatch {
            partition,
            base_offset,
            ..
        } => {
            tables.log.remove(&(partition, base_offset));
        }
        Op::DeleteIndex {
            partition,
            base_offset,
        } => {
            tables.index.remove(&(partition, base_offset));
        }
        Op::PutState { key, value } => drop(tables.state.insert(key, value)),
        Op::DeleteState { key } => drop(tables.state.remove(&key)),
    }
}

impl Store for MemoryStore {
    fn submit(&self, write: Write) {
        let mut tables = self.tables();
        write.ops.into_iter().for_each(|op| apply(&mut tables, op));
        drop(tables);
        (write.done)(Ok(()));
    }

    fn losses(&self) -> u64 {
        self.tables().losses
    }

    fn raft_rows(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let tables = self.tables();
        let mut rows = Vec::new();
        let mut bytes = 0;
        for ((_, index), row) in tables.raft.range((group, from)..(group, to.max(from))) {
            if !rows.is_empty() && bytes + row.len() > max_bytes {
                break;
            }
            bytes += row.len();
            rows.push((*index, row.clone()));
        }
        Ok(rows)
    }

    fn last_raft_row(&self, group: GroupId) -> Result<Option<(u64, Bytes)>, StoreError> {
        let tables = self.tables();
        let last = tables
            .raft
            .range((group, 0)..=(group, u64::MAX))
            .next_back();
        Ok(last.map(|((_, index), row)| (*index, row.clone())))
    }

    fn batches(
        &self,
        partition: PartitionId,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let tables = self.tables();
        let first = tables
            .log
            .range((partition, 0)..=(partition, offset))
            .next_back();
        let start = first.map_or(offset, |((_, base), _)| *base);
        let mut found = Vec::new();
        let mut bytes = 0;
        for (_, batch) in tables
            .log
            .range((partition, start)..(partition, end_offset.max(start)))
        {
            if batch_span(batch).is_some_and(|(_, last)| last < offset) {
                continue;
            }
            if !found.is_empty() && bytes + batch.len() > max_bytes {
                break;
            }
            bytes += batch.len();
            found.push(batch.clone());
        }
        Ok(found)
    }

    fn index_at(
        &self,
        partition: PartitionId,
        offset: i64,
    ) -> Result<Option<IndexRow>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .index
            .range((partition, 0)..=(partition, offset))
            .next_back()
            .map(|(_, r)| *r))
    }

    fn index_rows(
        &self,
        partition: PartitionId,
        from: i64,
        max_rows: usize,
    ) -> Result<Vec<IndexRow>, StoreError> {
        let tables = self.tables();
        let rows = tables
            .index
            .range((partition, from)..=(partition, i64::MAX));
        Ok(rows.take(max_rows).map(|(_, row)| *row).collect())
    }

    fn state(&self, key: StateKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.tables().state.get(&key).cloned())
    }

    fn states(&self, tag: Tag, group: GroupId) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let range = StateKey { tag, group, id: 0 }..=StateKey {
            tag,
            group,
            id: u64::MAX,
        };
        Ok(self
            .tables()
            .state
            .range(range)
            .map(|(k, v)| (k.id, v.clone()))
            .collect())
    }
}
