//! Finding places in a partition's log by time and by size, and freeing what lies before its start.
//!
//! All go by the sparse index, so their grain is one of its intervals
//! ([`INDEX_INTERVAL_BYTES`](ottla_proto::limits::INDEX_INTERVAL_BYTES)), and none reads records, but
//! for the headers of one interval.
//! They block on the disk.

use std::ops::Range;

use ottla_log::{IndexRow, Op, Store, StoreError, Write, batch_max_timestamp, batch_span};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::INDEX_INTERVAL_BYTES;

use crate::group::Group;
use crate::partition::{Partition, Reclaimed};
use crate::sizes::Cut;

/// Index rows read at a time.
const ROWS: usize = 64;

impl Group {
    /// Where to begin to look for the first record with a timestamp of at least `timestamp_ms`: the
    /// base offset of a batch before which no record has one.
    pub fn seek_timestamp(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
        start: i64,
        end: i64,
    ) -> Result<i64, StoreError> {
        let store = &**self.log.store();
        let row = last_row_before(store, partition, start..end, timestamp_ms)?;
        Ok(row.map_or(start, |row| row.base_offset))
    }

    /// The base offset of a batch from which on the partition has at least `keep_bytes`, and hardly
    /// more; `start` if it has less, or if it is not known what compaction has left of it.
    pub fn seek_size(
        &self,
        partition: &Partition,
        keep_bytes: u64,
        start: i64,
        end: i64,
    ) -> Result<i64, StoreError> {
        match partition.cut_before_last(keep_bytes) {
            None => Ok(start),
            Some(Cut::Offset(offset)) => Ok(offset.clamp(start, end)),
            Some(Cut::PositionBytes(cut)) => {
                let row = last_row_where(&**self.log.store(), partition.id, start..end, |row| {
                    row.position_bytes <= cut
                })?;
                Ok(row.map_or(start, |row| row.base_offset))
            }
        }
    }

    /// The highest timestamp from `start` up to and with the batch of the next index row, ms; `None`
    /// where no row follows.
    pub fn first_timestamp(
        &self,
        partition: PartitionId,
        start: i64,
        end: i64,
    ) -> Result<Option<i64>, StoreError> {
        let first = first_interval(&**self.log.store(), partition, start..end, i64::MIN)?;
        Ok(first.map(|(_, highest)| highest))
    }

    /// Frees the disk space of records before the log start offset. Does nothing where that was done.
    pub fn reclaim(&self, partition: &Partition) -> Result<(), StoreError> {
        let life = partition.life();
        let start = partition.bounds().log_start_offset;
        let store = self.log.store();
        if !partition.needs_reclaim() {
            return Ok(());
        }
        let from = partition.reclaimed().offset;
        // The batch that holds the log start offset stays whole.
        let first = store.batches(partition.id, start, start + 1, 1)?;
        let keep_from = first
            .first()
            .and_then(|b| batch_span(b))
            .map_or(start, |(base, _)| base.min(start));
        let kept = store.index_at(partition.id, keep_from)?;
        // After a start nobody knows what was deleted; mostly all of it was.
        let done = from == 0 && store.batches(partition.id, 0, keep_from, 1)?.is_empty();
        let (everything, before) = partition.with_state(|s| {
            let all = s.log_end_offset == start;
            (
                if all { s.position_bytes } else { 0 },
                s.start_position_bytes,
            )
        });
        let start_position = kept.map_or(0, |row| row.position_bytes).max(everything);
        let reclaimed = Reclaimed {
            log_start_offset: start,
            offset: keep_from,
        };
        let ops = vec![Op::DeleteBatches {
            partition: partition.id,
            from,
            to: keep_from,
            bytes: start_position.saturating_sub(before),
        }];
        // Losing this write leaves rows that the first look after a start removes.
        let write = Write {
            ops,
            sync: false,
            done: Box::new(|_| ()),
        };
        partition.unless_replaced(life, || {
            partition.note_reclaimed(reclaimed, start_position);
            if !done && keep_from != from {
                store.submit(write);
            }
        });
        Ok(())
    }
}

/// The last index row in `offsets` up to which no record from their start on has a timestamp of at least
/// `timestamp_ms`.
///
/// The highest timestamps so far are searched by halving. Where they do not say enough, because the record
/// that had one is gone, the rows are taken one by one. Of the first interval only a part may be left: if its
/// row does not say enough, its batches are looked at.
pub fn last_row_before(
    store: &dyn Store,
    partition: PartitionId,
    offsets: Range<i64>,
    timestamp_ms: i64,
) -> Result<Option<IndexRow>, StoreError> {
    let mut found = last_row_where(store, partition, offsets.clone(), |row| {
        row.max_timestamp_ms < timestamp_ms
    })?;
    if found.is_none() {
        let first = first_interval(store, partition, offsets.clone(), timestamp_ms)?;
        found = first
            .filter(|(_, highest)| *highest < timestamp_ms)
            .map(|(row, _)| row);
        if found.is_none() {
            return Ok(None);
        }
    }
    loop {
        let from = found.map_or(offsets.start, |row| row.base_offset + 1);
        let rows = store.index_rows(partition, from, ROWS)?;
        let early = |row: &&IndexRow| {
            row.base_offset < offsets.end && row.interval_timestamp_ms < timestamp_ms
        };
        let last = rows.iter().take_while(early).last();
        found = last.copied().or(found);
        if rows.len() < ROWS || last != rows.last() {
            return Ok(found);
        }
    }
}

/// The first row behind the start of `offsets`, and the highest timestamp from there up to and with its
/// batch; where that is below `timestamp_ms`, perhaps a higher one that is below it, too.
fn first_interval(
    store: &dyn Store,
    partition: PartitionId,
    offsets: Range<i64>,
    timestamp_ms: i64,
) -> Result<Option<(IndexRow, i64)>, StoreError> {
    let start = offsets.start;
    let rows = store.index_rows(partition, start + 1, 1)?;
    let Some(row) = rows.first().filter(|r| r.base_offset < offsets.end) else {
        return Ok(None);
    };
    // It tells of what came after the row before it, and that row of its own batch, which may hold the start.
    // Both tell of batches before the start as well.
    let before = store.index_at(partition, start)?;
    let before_ms = before.map_or(-1, |r| r.interval_timestamp_ms);
    let told = row.interval_timestamp_ms.max(before_ms);
    let highest = match told < timestamp_ms {
        true => told,
        false => highest(store, partition, start..row.base_offset + 1)?,
    };
    Ok(Some((*row, highest)))
}

/// The highest timestamp of the batches that hold `offsets`, ms.
fn highest(
    store: &dyn Store,
    partition: PartitionId,
    offsets: Range<i64>,
) -> Result<i64, StoreError> {
    let (mut next, mut highest) = (offsets.start, -1);
    while next < offsets.end {
        let batches = store.batches(partition, next, offsets.end, INDEX_INTERVAL_BYTES as usize)?;
        for batch in &batches {
            let (Some((_, last)), Some(ms)) = (batch_span(batch), batch_max_timestamp(batch))
            else {
                // Nobody knows what it holds.
                return Ok(i64::MAX);
            };
            highest = highest.max(ms);
            next = last + 1;
        }
        if batches.is_empty() {
            break;
        }
    }
    Ok(highest)
}

/// The last index row with a base offset in `offsets` for which `early` holds, by halving: it must
/// hold for all rows before that one, too.
pub fn last_row_where(
    store: &dyn Store,
    partition: PartitionId,
    offsets: Range<i64>,
    early: impl Fn(&IndexRow) -> bool,
) -> Result<Option<IndexRow>, StoreError> {
    // `found` is the last row known to be early; rows from `high` on are known not to be.
    let (mut found, mut low, mut high) = (None, offsets.start, offsets.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = store.index_rows(partition, middle, 1)?;
        match row.first().filter(|row| row.base_offset < high) {
            Some(row) if early(row) => {
                found = Some(*row);
                low = row.base_offset + 1;
            }
            _ => high = middle,
        }
    }
    Ok(found)
}
