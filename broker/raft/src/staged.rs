//! Data of a snapshot that has come and is not installed: where it lies, the row that says how far it is,
//! and its way to its place.

use bytes::Bytes;
use ottla_log::{BATCH_HEAD_BYTES, Op, StateKey, Store, StoreError, Tag, batch_span};
use ottla_proto::ids::{GroupId, PartitionId};

use crate::codec::{RowReader, RowWriter};
use crate::rows::VERSION;

type Result<T> = std::result::Result<T, StoreError>;

/// Bytes moved from beside a partition into it at a time.
pub(crate) const MOVE_BYTES: usize = 4 << 20;

const BESIDE: u64 = 1 << 63;

/// Where data waits that must not be in its place yet.
pub(crate) fn beside(partition: PartitionId) -> PartitionId {
    PartitionId(partition.0 | BESIDE)
}

/// The partition whose snapshot data waits under this number, if it is such a number.
pub fn staged_for(id: PartitionId) -> Option<PartitionId> {
    (id.0 & BESIDE != 0).then_some(PartitionId(id.0 & !BESIDE))
}

/// How far a partition's data of a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StagedRow {
    /// Where it began: data before it was here, and committed.
    pub from: i64,
    /// Data from here on lies in its place.
    pub tail_end: i64,
    pub next_offset: i64,
    /// Of the last batch.
    pub leader_epoch: i32,
    /// All of the partition is replaced; nothing lies in its place.
    pub replace: bool,
    /// Of some records only the offsets are left: the sender has compacted it.
    pub holes: bool,
    /// The snapshot is installed; what waits beside the partition belongs to it and is being moved.
    pub moving: bool,
}

pub(crate) fn encode(staged: &StagedRow) -> Bytes {
    let mut row = RowWriter::new(VERSION, 29);
    row.i64(staged.from)
        .i64(staged.tail_end)
        .i64(staged.next_offset);
    let flags = staged.replace as u8 | (staged.holes as u8) << 1 | (staged.moving as u8) << 2;
    row.i32(staged.leader_epoch).u8(flags);
    row.finish()
}

pub(crate) fn decode(row: &[u8]) -> Result<StagedRow> {
    let mut row = RowReader::new("a staged partition", VERSION, row)?;
    let (from, tail_end) = (row.i64()?, row.i64()?);
    let (next_offset, leader_epoch) = (row.i64()?, row.i32()?);
    let flags = row.u8()?;
    row.end()?;
    Ok(StagedRow {
        from,
        tail_end,
        next_offset,
        leader_epoch,
        replace: flags & 1 != 0,
        holes: flags & 2 != 0,
        moving: flags & 4 != 0,
    })
}

/// The next piece of what waits beside a partition, on its way into it. The last one deletes the row that
/// says so; `None` if it is gone. Blocks on the disk.
pub(crate) fn next_move(
    store: &dyn Store,
    group: GroupId,
    id: PartitionId,
) -> Result<Option<Vec<Op>>> {
    let row = key(group, id);
    if store.state(row)?.is_none() {
        return Ok(None);
    }
    let batches = store.batches(beside(id), 0, i64::MAX, MOVE_BYTES)?;
    let end = batches.last().and_then(|b| batch_span(b));
    let end = end.map_or(i64::MAX, |(_, last)| last.saturating_add(1));
    let mut ops = Vec::with_capacity(batches.len() + 2);
    let mut bytes = 0;
    for batch in &batches {
        let Some((base_offset, _)) = batch_span(batch) else {
            continue;
        };
        bytes += batch.len() as u64;
        ops.push(Op::PutBatch {
            partition: id,
            base_offset,
            head: batch.slice(..BATCH_HEAD_BYTES),
            body: batch.slice(BATCH_HEAD_BYTES..),
        });
    }
    let mut from = 0;
    loop {
        let rows = store.index_rows(beside(id), from, 1024)?;
        let within = rows.into_iter().take_while(|r| r.base_offset < end);
        let before = ops.len();
        ops.extend(within.map(|row| {
            from = row.base_offset + 1;
            Op::PutIndex { partition: id, row }
        }));
        if ops.len() == before {
            break;
        }
    }
    ops.push(Op::DeleteBatches {
        partition: beside(id),
        from: 0,
        to: end,
        bytes,
    });
    if batches.is_empty() {
        ops.push(Op::DeleteState { key: row });
    }
    Ok(Some(ops))
}

/// The length in a batch's head, which leaves itself and the offset before it out.
pub(crate) fn is_as_long_as_it_says(batch: &[u8]) -> bool {
    let length = batch.get(8..12).and_then(|l| l.try_into().ok());
    let length = length.map(i32::from_be_bytes);
    batch.len() > BATCH_HEAD_BYTES && length.is_some_and(|l| l as usize == batch.len() - 12)
}

pub(crate) fn key(group: GroupId, partition: PartitionId) -> StateKey {
    StateKey {
        tag: Tag::Staged,
        group,
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
            bytes: 0,
        },
        Op::DeleteBatches {
            partition: beside(partition),
            from: 0,
            to: i64::MAX,
            bytes: 0,
        },
    ]
}

/// The leader epoch that a batch's head carries.
pub(crate) fn batch_epoch(batch: &[u8]) -> i32 {
    let epoch = batch.get(12..16).and_then(|e| e.try_into().ok());
    epoch.map_or(-1, i32::from_be_bytes)
}
