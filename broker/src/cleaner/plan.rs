//! What a pass does to a log, batch by batch: decisions without a disk.
//!
//! A record goes if a later one has its key, or if it is a tombstone that was kept for its time. A
//! record without a key goes too, as in Kafka: it was written before the topic was compacted, and
//! nothing could ever take its place. Control batches stay. So do tombstones of transactional batches,
//! and records of such batches take nobody's place: whether they count is not known here.
//!
//! A batch whose checksum is right is what a producer once sent, and while its topic was not compacted nobody
//! looked inside. If its records cannot be read it stays as it is, and takes nobody's place.

use bytes::Bytes;
use ottla_log::{IndexRow, Op};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::{CLEANER_RANGE_BATCHES, DECOMPRESSED_BATCH_BYTES};
use ottla_raft::Measure;
use ottla_wire::batch::{self, BatchError, BatchHeader, RecordView, Records};

use super::offset_map::{Full, OffsetMap};
use super::state::Marks;

/// Notes the keys of one batch from offset `from` on. `Some` is the offset of the first record for
/// which there was no room.
pub fn collect(batch: &Bytes, from: i64, map: &mut OffsetMap) -> Result<Option<i64>, BatchError> {
    let header = batch::intact(batch)?;
    if header.is_control() || header.is_transactional() {
        return Ok(None);
    }
    let Some(records) = readable(batch) else {
        return Ok(None);
    };
    for record in records.iter().flatten() {
        let (Some(key), true) = (record.key, record.offset >= from) else {
            continue;
        };
        if map.put(key, record.offset) == Err(Full) {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}

/// The records of a batch, if each of them can be read.
fn readable(batch: &Bytes) -> Option<Records> {
    let records = batch::records(batch, DECOMPRESSED_BATCH_BYTES).ok()?;
    let whole = records.iter().all(|record| record.is_ok());
    whole.then_some(records)
}

/// What a pass knows when it comes to a record.
pub struct Rules<'a> {
    pub map: &'a OffsetMap,
    pub marks: &'a Marks,
    pub now_ms: i64,
    pub delete_retention_ms: u64,
}

impl Rules<'_> {
    fn keeps(&self, header: &BatchHeader, record: &RecordView<'_>) -> bool {
        let Some(key) = record.key else {
            return false;
        };
        if self.map.get(key).is_some_and(|last| last > record.offset) {
            return false;
        }
        record.value.is_some()
            || header.is_transactional()
            || !self
                .marks
                .is_expired(record.offset, self.now_ms, self.delete_retention_ms)
    }
}

/// What became of the batches so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub read_bytes: u64,
    pub kept_bytes: u64,
    pub rewritten_bytes: u64,
    pub records_kept: u64,
    pub records_dropped: u64,
    /// Batches that stay because their records cannot be read.
    pub unreadable_batches: u64,
    /// Bytes of tombstones left: under each mark, and under the one that this pass makes.
    pub tombstone_bytes: Vec<u64>,
}

/// Goes through a log from front to back, and gathers the operations that compact it.
pub struct Sweep<'a> {
    partition: PartitionId,
    rules: Rules<'a>,
    pub tally: Tally,
    /// What stays.
    pub left: Measure,
    ops: Vec<Op>,
    ops_bytes: usize,
    /// Deleted neighbours that are not among `ops` yet.
    run: Vec<(i64, u64)>,
    /// The row of a batch that went, for the next one that stays.
    homeless: Option<IndexRow>,
    /// Highest timestamp of what stays since the last row that stays, ms.
    interval_ms: i64,
    last_base: i64,
}

impl<'a> Sweep<'a> {
    pub fn new(partition: PartitionId, rules: Rules<'a>) -> Sweep<'a> {
        let tally = Tally {
            tombstone_bytes: vec![0; rules.marks.len() + 1],
            ..Tally::default()
        };
        Sweep {
            partition,
            rules,
            tally,
            left: Measure::default(),
            ops: Vec::new(),
            ops_bytes: 0,
            run: Vec::new(),
            homeless: None,
            interval_ms: -1,
            last_base: -1,
        }
    }

    /// Takes the next batch. `rows` are the index rows from the end of the batch before up to this
    /// one's base offset.
    pub fn batch(&mut self, batch: &Bytes, rows: &[IndexRow]) -> Result<(), BatchError> {
        let header = batch::intact(batch)?;
        let (stays, replacement) = self.decide(batch, &header);
        self.tally.read_bytes += batch.len() as u64;
        let left = replacement
            .as_ref()
            .map_or(Ok(header), |b| BatchHeader::parse(b))?;
        self.place_rows(&left, rows, stays);
        self.last_base = header.base_offset;
        if !stays {
            self.run.push((header.base_offset, batch.len() as u64));
            return Ok(());
        }
        self.end_run();
        let kept = replacement.as_ref().unwrap_or(batch).len();
        self.tally.kept_bytes += kept as u64;
        self.left.batch(header.base_offset, kept as u64);
        if let Some(replacement) = replacement {
            self.tally.rewritten_bytes += kept as u64;
            self.ops_bytes += kept;
            self.ops.push(Op::ReplaceBatch {
                partition: self.partition,
                base_offset: header.base_offset,
                freed_bytes: (batch.len() as u64).saturating_sub(kept as u64),
                batch: replacement,
            });
        }
        Ok(())
    }

    /// Whether the batch stays, and what takes its place if records of it go.
    fn decide(&mut self, batch: &Bytes, header: &BatchHeader) -> (bool, Option<Bytes>) {
        if header.is_control() {
            return (true, None);
        }
        let (rules, tally) = (&self.rules, &mut self.tally);
        let (mut kept, mut dropped) = (0, 0);
        let mut tombstones = vec![0; tally.tombstone_bytes.len()];
        let retained = batch::retain(batch, DECOMPRESSED_BATCH_BYTES, |record| {
            let keep = rules.keeps(header, record);
            match keep {
                true => kept += 1,
                false => dropped += 1,
            }
            if keep && record.value.is_none() && !header.is_transactional() {
                let mark = rules.marks.index(record.offset);
                tombstones[mark.unwrap_or(rules.marks.len())] += record.raw.len() as u64;
            }
            keep
        });
        let Ok(replacement) = retained else {
            tally.unreadable_batches += 1;
            return (true, None);
        };
        tally.records_kept += kept;
        tally.records_dropped += dropped;
        let sums = tally.tombstone_bytes.iter_mut().zip(tombstones);
        sums.for_each(|(sum, bytes)| *sum += bytes);
        (kept > 0, replacement)
    }

    /// A row whose batch goes moves on to the next batch that stays, so that the index has never more
    /// rows than the log has batches. Each row's interval is told anew.
    fn place_rows(&mut self, header: &BatchHeader, rows: &[IndexRow], stays: bool) {
        let mut own = None;
        for row in rows {
            if stays && row.base_offset == header.base_offset {
                own = Some(*row);
            }
            if row.base_offset < header.base_offset || !stays {
                self.ops.push(Op::DeleteIndex {
                    partition: self.partition,
                    base_offset: row.base_offset,
                });
                self.homeless = Some(*row);
            }
        }
        if stays {
            self.settle(header, own);
        }
    }

    /// Puts the row that a batch which stays is to have.
    fn settle(&mut self, header: &BatchHeader, own: Option<IndexRow>) {
        self.interval_ms = self.interval_ms.max(header.max_timestamp);
        let Some(row) = own.or(self.homeless) else {
            return;
        };
        self.homeless = None;
        let interval_timestamp_ms = std::mem::replace(&mut self.interval_ms, -1);
        // One that moves stays an upper bound of the timestamps so far, and a lower bound of the position.
        let settled = IndexRow {
            base_offset: header.base_offset,
            max_timestamp_ms: row.max_timestamp_ms.max(header.max_timestamp),
            interval_timestamp_ms,
            ..row
        };
        if own != Some(settled) {
            self.ops.push(Op::PutIndex {
                partition: self.partition,
                row: settled,
            });
        }
    }

    /// How many bytes and operations wait to be written.
    pub fn pending(&self) -> (usize, usize) {
        (self.ops_bytes, self.ops.len() + self.run.len())
    }

    /// The operations so far. They may be written on their own: each only removes what something else
    /// makes superfluous.
    pub fn take(&mut self) -> Vec<Op> {
        self.end_run();
        self.ops_bytes = 0;
        std::mem::take(&mut self.ops)
    }

    /// Ends the sweep before a batch that is not touched, which may have an index row.
    pub fn finish(&mut self, next: Option<(&BatchHeader, Option<IndexRow>)>) -> Vec<Op> {
        // A sweep that ended within a batch has seen it.
        if let Some((header, own)) = next.filter(|(h, _)| h.base_offset > self.last_base) {
            self.settle(header, own);
        }
        self.take()
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else {
            return;
        };
        if run.len() >= CLEANER_RANGE_BATCHES {
            self.ops.push(Op::DeleteBatches {
                partition: self.partition,
                from: *first,
                to: last + 1,
                bytes: run.iter().map(|(_, bytes)| bytes).sum(),
            });
            return;
        }
        self.ops
            .extend(run.iter().map(|(base_offset, bytes)| Op::DeleteBatch {
                partition: self.partition,
                base_offset: *base_offset,
                bytes: *bytes,
            }));
    }
}
