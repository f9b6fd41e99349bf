//! How much of a partition may be compacted, and whether it is worth it.
//!
//! Compacted are offsets from the log start offset to the *cleanable end*, the least of: the high
//! watermark; the last batch, which is never touched, so that a reader always gets to the end; the
//! first batch with a timestamp younger than `min.compaction.lag.ms`; and the end of what is sealed.
//! Kafka never touches the segment that is being written. Here a log has no segments: sealed is what lies
//! before the last multiple of `segment.bytes` that the log's position has passed, and what is older
//! than `segment.ms` (or `max.compaction.lag.ms`, if that is less). Kafka closes a segment by age only
//! when the next record comes; here nothing has to come.

use std::ops::Range;

use ottla_log::{IndexRow, Store, StoreError, batch_span};
use ottla_proto::config::Compaction;
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::CLEANER_READ_BYTES;
use ottla_raft::{last_row_before, last_row_where};
use ottla_wire::batch::BatchHeader;

use super::state::{CleanerState, Place};

/// A partition's log as memory tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub log_start_offset: i64,
    /// Bytes before it, or less.
    pub start_position_bytes: u64,
    /// The high watermark.
    pub end: Place,
    /// The highest timestamp up to there, ms.
    pub max_timestamp_ms: i64,
}

/// What a look at a partition found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub end: Place,
    /// The uncompacted share of what may be compacted, with tombstones that may go counted in; 0 to 1.
    pub dirty_ratio: f64,
    /// Worth a pass now.
    pub due: bool,
    /// The last batch is all that is not compacted: nothing to do until there is more.
    pub settled: bool,
}

/// The oldest offset that is not compacted, and the timestamp of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstDirty {
    pub place: Place,
    pub timestamp_ms: i64,
}

/// Where uncompacted records begin: what the row says, unless the log begins later.
pub fn first_dirty(
    store: &dyn Store,
    partition: PartitionId,
    log: &Extent,
    state: &CleanerState,
) -> Result<Option<FirstDirty>, StoreError> {
    let mut place = state.first_dirty;
    if place.offset < log.log_start_offset {
        let row = store.index_at(partition, log.log_start_offset)?;
        // The rows before it may be gone.
        let position_bytes = row.map_or(0, |row| row.position_bytes);
        let position_bytes = position_bytes.max(log.start_position_bytes);
        place = Place {
            offset: log.log_start_offset,
            position_bytes: position_bytes.max(place.position_bytes),
        };
    }
    let first = store.batches(partition, place.offset, log.end.offset, 1)?;
    let Some(header) = first.first().and_then(|b| BatchHeader::parse(b).ok()) else {
        return Ok(None);
    };
    let timestamp_ms = header.max_timestamp;
    // Of a log that was compacted once, the front may be gone.
    place.offset = place.offset.max(header.base_offset);
    Ok(Some(FirstDirty {
        place,
        timestamp_ms,
    }))
}

/// Whether a row can be of this log: it speaks of nothing beyond its end.
pub fn is_row_of(log: &Extent, state: &CleanerState) -> bool {
    let sizes = state.left.sizes();
    state.first_dirty.offset <= log.end.offset
        && state.first_dirty.position_bytes <= log.end.position_bytes
        && sizes.is_none_or(|sizes| {
            sizes.end_offset <= log.end.offset && sizes.end_position_bytes <= log.end.position_bytes
        })
}

/// Whether memory alone says that a pass cannot be due. `first_dirty` as it was last looked up.
pub fn is_out_of_question(
    log: &Extent,
    state: &CleanerState,
    first_dirty: &FirstDirty,
    settings: &Compaction,
    now_ms: i64,
) -> bool {
    if state
        .marks
        .expired_bytes(now_ms, settings.delete_retention_ms)
        > 0
    {
        return false;
    }
    let young = |ms: u64| first_dirty.timestamp_ms >= before(now_ms, ms);
    if settings.min_lag_ms > 0 && young(settings.min_lag_ms) {
        return true;
    }
    let sealed_bytes = sealed_position(log, settings);
    if sealed_bytes <= first_dirty.place.position_bytes && young(sealed_age_ms(settings)) {
        return true;
    }
    let dirty = log.end.position_bytes - first_dirty.place.position_bytes;
    let overdue = !young(settings.max_lag_ms);
    !overdue && ratio(dirty, state.clean_bytes) <= settings.min_dirty_ratio
}

/// Looks up how far the log may be compacted, and whether it should be.
pub fn look(
    store: &dyn Store,
    partition: PartitionId,
    log: &Extent,
    state: &CleanerState,
    first_dirty: &FirstDirty,
    settings: &Compaction,
    now_ms: i64,
) -> Result<Found, StoreError> {
    let from = first_dirty.place;
    let last = last_batch(store, partition, log)?;
    let look = Look {
        store,
        partition,
        log,
        from,
    };
    let sealed = later(
        look.by_position(sealed_position(log, settings))?,
        look.by_age(before(now_ms, sealed_age_ms(settings)))?,
    );
    let mut end = earlier(last, sealed);
    if settings.min_lag_ms > 0 {
        end = earlier(end, look.by_age(before(now_ms, settings.min_lag_ms))?);
    }
    // What was compacted under other settings stays compacted.
    let end = later(end, from);
    let dirty_bytes = match end.offset > from.offset {
        true => end
            .position_bytes
            .saturating_sub(from.position_bytes)
            .max(1),
        false => 0,
    };
    let expired_bytes = state
        .marks
        .expired_bytes(now_ms, settings.delete_retention_ms)
        .min(state.clean_bytes);
    let dirty_ratio = match dirty_bytes + expired_bytes {
        0 => 0.0,
        bytes => bytes as f64 / (dirty_bytes + state.clean_bytes).max(1) as f64,
    };
    let overdue = dirty_bytes > 0 && first_dirty.timestamp_ms < before(now_ms, settings.max_lag_ms);
    Ok(Found {
        end,
        dirty_ratio: dirty_ratio.min(1.0),
        due: overdue || dirty_ratio > settings.min_dirty_ratio,
        settled: from.offset >= last.offset && expired_bytes == 0,
    })
}

fn ratio(dirty_bytes: u64, clean_bytes: u64) -> f64 {
    dirty_bytes as f64 / (dirty_bytes + clean_bytes).max(1) as f64
}

/// The moment `ms` ago; the beginning of time if that is too long.
fn before(now_ms: i64, ms: u64) -> i64 {
    i64::try_from(ms).map_or(i64::MIN, |ms| now_ms.saturating_sub(ms))
}

/// Bytes of the log that lie before the last multiple of `segment.bytes`.
fn sealed_position(log: &Extent, settings: &Compaction) -> u64 {
    let segment_bytes = settings.segment_bytes.max(1);
    log.end.position_bytes / segment_bytes * segment_bytes
}

fn sealed_age_ms(settings: &Compaction) -> u64 {
    settings.segment_ms.min(settings.max_lag_ms)
}

fn later(a: Place, b: Place) -> Place {
    if b.offset > a.offset { b } else { a }
}

fn earlier(a: Place, b: Place) -> Place {
    if b.offset < a.offset { b } else { a }
}

/// Where the last batch begins.
fn last_batch(
    store: &dyn Store,
    partition: PartitionId,
    log: &Extent,
) -> Result<Place, StoreError> {
    let end = log.end.offset;
    let found = store.batches(partition, end - 1, end, 1)?;
    let last = found
        .first()
        .and_then(|b| Some((batch_span(b)?.0, b.len())));
    let (offset, bytes) = last.unwrap_or((log.log_start_offset, 0));
    Ok(Place {
        offset,
        position_bytes: log.end.position_bytes.saturating_sub(bytes as u64),
    })
}

fn place(row: IndexRow) -> Place {
    Place {
        offset: row.base_offset,
        position_bytes: row.position_bytes,
    }
}

struct Look<'a> {
    store: &'a dyn Store,
    partition: PartitionId,
    log: &'a Extent,
    /// Nothing before it is of interest.
    from: Place,
}

impl Look<'_> {
    fn offsets(&self) -> Range<i64> {
        self.from.offset..self.log.end.offset
    }

    /// The last indexed batch that begins at or before a position.
    fn by_position(&self, position_bytes: u64) -> Result<Place, StoreError> {
        if position_bytes <= self.from.position_bytes {
            return Ok(self.from);
        }
        let early = |row: &IndexRow| row.position_bytes <= position_bytes;
        let row = last_row_where(self.store, self.partition, self.offsets(), early)?;
        Ok(row.map_or(self.from, place))
    }

    /// The first batch with a timestamp of at least `cutoff_ms`; the high watermark if there is none.
    fn by_age(&self, cutoff_ms: i64) -> Result<Place, StoreError> {
        if self.log.max_timestamp_ms < cutoff_ms {
            return Ok(self.log.end);
        }
        let row = last_row_before(self.store, self.partition, self.offsets(), cutoff_ms)?;
        let mut place = row.map_or(self.from, place);
        // The next row is not early any more, so this reads about one interval of the index.
        loop {
            let end = self.log.end.offset;
            let batches =
                self.store
                    .batches(self.partition, place.offset, end, CLEANER_READ_BYTES)?;
            if batches.is_empty() {
                return Ok(self.log.end);
            }
            for batch in &batches {
                let Ok(header) = BatchHeader::parse(batch) else {
                    return Ok(place);
                };
                if header.max_timestamp >= cutoff_ms {
                    // A batch that began before it may hold the place; whole batches count.
                    place.offset = header.base_offset.max(self.from.offset);
                    return Ok(place);
                }
                place.offset = header.last_offset() + 1;
                place.position_bytes += batch.len() as u64;
            }
        }
    }
}
