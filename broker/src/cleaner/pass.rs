//! One pass over one partition: the keys of its uncompacted part into memory, then the whole log up to
//! there past them.
//!
//! What is written in between is harmless on its own: a record goes only where a later one with its key
//! is there. The first write says that the sizes of what is left are not known any more, the last one what
//! they are. How far the partition is compacted is written with that last one, in one atomic write, so
//! that after a crash the pass is made again. None of it is synced on its own account: the
//! write-ahead log keeps the order, so the row is never there without the data it speaks of.

use bytes::Bytes;
use ottla_log::{Op, StateKey, Store, StoreError, Write, batch_span};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::{CLEANER_READ_BYTES, CLEANER_WRITE_BYTES, CLEANER_WRITE_OPS};
use ottla_wire::batch::{BatchError, BatchHeader};

use super::offset_map::OffsetMap;
use super::plan::{Rules, Sweep, Tally, collect};
use super::state::{CleanerState, Place};

#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error("reading at offset {0}: {1}")]
    Read(i64, StoreError),
    #[error("the batch at offset {0}: {1}")]
    Batch(i64, BatchError),
    #[error("writing: {0}")]
    Write(StoreError),
    #[error("looking: {0}")]
    Look(#[from] StoreError),
    #[error("a panic, which was told before")]
    Panic,
}

impl PassError {
    /// Whether what lies on the disk is damaged, which no second try makes whole.
    pub fn is_damage(&self) -> bool {
        match self {
            PassError::Batch(..) => true,
            PassError::Read(_, error) | PassError::Write(error) | PassError::Look(error) => {
                match error {
                    StoreError::Damaged { .. } => true,
                    // As RocksDB says it.
                    StoreError::Io(text) => text.starts_with("Corruption"),
                    _ => false,
                }
            }
            PassError::Panic => false,
        }
    }
}

/// The partition while the pass goes on.
pub trait Log {
    /// `None` once the partition is removed.
    fn log_start_offset(&self) -> Option<i64>;

    /// Runs what hands a write to the store, unless the data is other data than the pass has begun
    /// with: a snapshot may replace it. False then.
    fn unless_replaced(&self, submit: &mut dyn FnMut()) -> bool;
}

/// Who lets the pass work, and when.
pub trait Pace {
    /// So many bytes were read or written. Returns when the pass may go on; false if it is to end.
    fn worked(&mut self, bytes: u64) -> bool;
}

/// What to do.
pub struct Task<'a> {
    pub store: &'a dyn Store,
    pub partition: PartitionId,
    pub row: StateKey,
    pub log: &'a dyn Log,
    pub clock: &'a dyn Fn() -> i64,
    /// The partition's row.
    pub state: &'a CleanerState,
    pub first_dirty: Place,
    /// Where the cleanable part ends: the base offset of a batch.
    pub end: i64,
    pub delete_retention_ms: u64,
    pub map_bytes: usize,
    pub load_factor: f64,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    pub state: CleanerState,
    pub tally: Tally,
    pub map_utilization: f64,
}

/// `None` if the pass was ended before it was through; the next one makes good for it.
pub fn run(task: &Task<'_>, pace: &mut dyn Pace) -> Result<Option<Report>, PassError> {
    let keys = (task.end - task.first_dirty.offset).max(0) as u64;
    let mut map = OffsetMap::new(task.map_bytes, task.load_factor, keys);
    let Some(end) = task.collect(&mut map, pace)? else {
        return Ok(None);
    };
    let marks = &task.state.marks;
    let rules = Rules {
        map: &map,
        marks,
        now_ms: (task.clock)(),
        delete_retention_ms: task.delete_retention_ms,
    };
    let mut sweep = Sweep::new(task.partition, rules);
    if !task.sweep(&mut sweep, end.offset, pace)? {
        return Ok(None);
    }
    let measured = sweep.left.end(end.offset, end.position_bytes);
    let state = CleanerState {
        first_dirty: end,
        left: task.state.left.after_pass(measured),
        clean_bytes: sweep.tally.kept_bytes,
        marks: marks.after_pass(
            &sweep.tally.tombstone_bytes,
            end.offset,
            (task.clock)(),
            task.delete_retention_ms,
        ),
    };
    let mut ops = task.finish(&mut sweep, end.offset)?;
    ops.push(Op::PutState {
        key: task.row,
        value: state.encode(),
    });
    if !task.write(ops)? {
        return Ok(None);
    }
    Ok(Some(Report {
        state,
        tally: sweep.tally,
        map_utilization: map.utilization(),
    }))
}

impl Task<'_> {
    fn read(&self, from: i64, end: i64) -> Result<Vec<Bytes>, PassError> {
        self.store
            .batches(self.partition, from, end, CLEANER_READ_BYTES)
            .map_err(|e| PassError::Read(from, e))
    }

    /// Fills the map from the uncompacted part. Where this pass will end: before the first batch that
    /// had no room (in the middle of it, if it is the only one), or at the cleanable end.
    fn collect(
        &self,
        map: &mut OffsetMap,
        pace: &mut dyn Pace,
    ) -> Result<Option<Place>, PassError> {
        let mut place = self.first_dirty;
        while place.offset < self.end {
            let batches = self.read(place.offset, self.end)?;
            let mut read_bytes = 0;
            for batch in &batches {
                let (base, last) = span(batch, place.offset)?;
                self.correct(&mut place, base);
                let full = collect(batch, self.first_dirty.offset, map)
                    .map_err(|e| PassError::Batch(base, e))?;
                if let Some(offset) = full {
                    let only = base <= self.first_dirty.offset;
                    place.offset = if only { offset } else { base };
                    return Ok(Some(place));
                }
                place.offset = last + 1;
                place.position_bytes += batch.len() as u64;
                read_bytes += batch.len() as u64;
            }
            if batches.is_empty() {
                place.offset = self.end;
            }
            if !pace.worked(read_bytes) {
                return Ok(None);
            }
        }
        // The last batch read may end within a hole; the end is known to be a batch's beginning.
        place.offset = self.end.max(self.first_dirty.offset);
        self.correct(&mut place, self.end);
        Ok(Some(place))
    }

    /// Batches that are compacted again have less than was appended. Where sizes are known, so is the
    /// position.
    fn correct(&self, place: &mut Place, offset: i64) {
        if let Some(sizes) = self.state.left.sizes()
            && offset >= sizes.end_offset
        {
            place.position_bytes = place.position_bytes.max(sizes.end_position_bytes);
        }
    }

    /// The operations of a pass that goes on. The first come with the row that says so.
    fn on_the_way(&self, mut ops: Vec<Op>, end: i64, begun: &mut bool) -> Vec<Op> {
        if !std::mem::replace(begun, true) {
            let state = CleanerState {
                left: self.state.left.changing(end),
                ..self.state.clone()
            };
            let value = state.encode();
            ops.push(Op::PutState {
                key: self.row,
                value,
            });
        }
        ops
    }

    /// Goes past all batches before `end`. False if it was ended.
    fn sweep(
        &self,
        sweep: &mut Sweep<'_>,
        end: i64,
        pace: &mut dyn Pace,
    ) -> Result<bool, PassError> {
        let Some(mut next) = self.log.log_start_offset() else {
            return Ok(false);
        };
        let (mut rows_from, mut begun) = (next, false);
        while next < end {
            let batches = self.read(next, end)?;
            let Some(last) = batches.last() else { break };
            let (_, last) = span(last, next)?;
            let rows = self.index_rows(rows_from, last)?;
            let mut rows = &rows[..];
            let mut worked = 0;
            for batch in &batches {
                let (base, batch_last) = span(batch, next)?;
                let own = rows.partition_point(|row| row.base_offset <= base);
                let (before, after) = rows.split_at(own);
                rows = after;
                sweep
                    .batch(batch, before)
                    .map_err(|e| PassError::Batch(base, e))?;
                worked += batch.len() as u64;
                next = batch_last + 1;
                let (bytes, ops) = sweep.pending();
                if bytes >= CLEANER_WRITE_BYTES || ops >= CLEANER_WRITE_OPS {
                    worked += bytes as u64;
                    if !self.write(self.on_the_way(sweep.take(), end, &mut begun))? {
                        return Ok(false);
                    }
                }
            }
            rows_from = next;
            if !pace.worked(worked) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn index_rows(&self, from: i64, last: i64) -> Result<Vec<ottla_log::IndexRow>, PassError> {
        const ROWS: usize = 256;
        let mut rows: Vec<ottla_log::IndexRow> = Vec::new();
        loop {
            let from = rows.last().map_or(from, |row| row.base_offset + 1);
            let found = self.store.index_rows(self.partition, from, ROWS);
            let found = found.map_err(|e| PassError::Read(from, e))?;
            let more = found.len() == ROWS;
            let inside = found.into_iter().take_while(|row| row.base_offset <= last);
            let before = rows.len();
            rows.extend(inside);
            if !more || rows.len() < before + ROWS {
                return Ok(rows);
            }
        }
    }

    /// The last operations, with an index row that is left over put to the next batch.
    fn finish(&self, sweep: &mut Sweep<'_>, end: i64) -> Result<Vec<Op>, PassError> {
        let next = self
            .store
            .batches(self.partition, end, i64::MAX, 1)
            .map_err(|e| PassError::Read(end, e))?;
        let header = next.first().and_then(|b| BatchHeader::parse(b).ok());
        let Some(header) = header else {
            return Ok(sweep.finish(None));
        };
        let at = header.base_offset;
        let rows = self.store.index_rows(self.partition, at, 1);
        let rows = rows.map_err(|e| PassError::Read(at, e))?;
        let own = rows.first().filter(|row| row.base_offset == at).copied();
        Ok(sweep.finish(Some((&header, own))))
    }

    /// Writes, and takes back what was meanwhile deleted. False if the partition is gone.
    fn write(&self, ops: Vec<Op>) -> Result<bool, PassError> {
        if ops.is_empty() {
            return Ok(self.log.log_start_offset().is_some());
        }
        let first = ops.iter().filter_map(replaced).min();
        if !self.submit(ops)? {
            return Ok(false);
        }
        let Some(log_start_offset) = self.log.log_start_offset() else {
            let everything = Op::DeleteBatches {
                partition: self.partition,
                from: 0,
                to: i64::MAX,
                bytes: 0,
            };
            self.submit(vec![everything, Op::DeleteState { key: self.row }])?;
            return Ok(false);
        };
        if first.is_some_and(|first| first < log_start_offset) {
            let found = self
                .store
                .batches(self.partition, log_start_offset, log_start_offset + 1, 1)
                .map_err(|e| PassError::Read(log_start_offset, e))?;
            let holder = found.first().and_then(|b| batch_span(b));
            let deleted = Op::DeleteBatches {
                partition: self.partition,
                from: 0,
                to: holder.map_or(log_start_offset, |(base, _)| base.min(log_start_offset)),
                bytes: 0,
            };
            return self.submit(vec![deleted]);
        }
        Ok(true)
    }

    /// False if the pass is to end, because what it read was replaced.
    fn submit(&self, ops: Vec<Op>) -> Result<bool, PassError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let mut write = Some(Write {
            ops,
            sync: false,
            done: Box::new(move |result| drop(sender.send(result))),
        });
        let mut submit = || write.take().into_iter().for_each(|w| self.store.submit(w));
        if !self.log.unless_replaced(&mut submit) {
            return Ok(false);
        }
        let written = receiver.recv().unwrap_or(Err(StoreError::Closed));
        written.map(|()| true).map_err(PassError::Write)
    }
}

/// The offset at which an operation puts something.
fn replaced(op: &Op) -> Option<i64> {
    match op {
        Op::ReplaceBatch { base_offset, .. } => Some(*base_offset),
        Op::PutIndex { row, .. } => Some(row.base_offset),
        _ => None,
    }
}

fn span(batch: &Bytes, at: i64) -> Result<(i64, i64), PassError> {
    let damaged = PassError::Batch(at, BatchError::Corrupt("shorter than its header"));
    batch_span(batch).ok_or(damaged)
}
