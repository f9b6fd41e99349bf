//! What a pass does to a log, batch by batch: decisions without a disk.
//!
//! A record goes if a later one has its key, or if it is a tombstone that was kept for its time. A
//! record without a key goes too, as in Kafka: it was written before the topic was compacted, and
//! nothing could ever take its place. Control batches stay. So do tombstones of transactional batches,
//! and records of such batches take nobody's place: whether they count is not known here.

use bytes::Bytes;
use ottla_log::{IndexRow, Op};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::{CLEANER_RANGE_BATCHES, DECOMPRESSED_BATCH_BYTES};
use ottla_wire::batch::{self, BatchError, BatchHeader, RecordView};

use super::offset_map::{Full, OffsetMap};
use super::state::Marks;

/// Notes the keys of one batch from offset `from` on. `Some` is the offset of the first record for
/// which there was no room.
pub fn collect(batch: &Bytes, from: i64, map: &mut OffsetMap) -> Result<Option<i64>, BatchError> {
    let header = batch::intact(batch)?;
    if header.is_control() || header.is_transactional() {
        return Ok(None);
    }
    let records = batch::records(batch, DECOMPRESSED_BATCH_BYTES)?;
    for record in &records {
        let record = record?;
        let (Some(key), true) = (record.key, record.offset >= from) else {
            continue;
        };
        if map.put(key, record.offset) == Err(Full) {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
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
    /// Bytes of tombstones left: under each mark, and under the one that this pass makes.
    pub tombstone_bytes: Vec<u64>,
}

/// Goes through a log from front to back, and gathers the operations that compact it.
pub struct Sweep<'a> {
    partition: PartitionId,
    rules: Rules<'a>,
    pub tally: Tally,
    ops: Vec<Op>,
    ops_bytes: usize,
    /// Deleted neighbours that are not among `ops` yet.
    run: Vec<(i64, u64)>,
    /// The row of a batch that went, for the next one that stays.
    homeless: Option<IndexRow>,
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
            ops: Vec::new(),
            ops_bytes: 0,
            run: Vec::new(),
            homeless: None,
        }
    }

    /// Takes the next batch. `rows` are the index rows from the end of the batch before up to this
    /// one's base offset.
    pub fn batch(&mut self, batch: &Bytes, rows: &[IndexRow]) -> Result<(), BatchError> {
        let header = batch::intact(batch)?;
        let (stays, replacement) = self.decide(batch, &header)?;
        self.tally.read_bytes += batch.len() as u64;
        self.place_rows(&header, rows, stays);
        if !stays {
            self.run.push((header.base_offset, batch.len() as u64));
            return Ok(());
        }
        self.end_run();
        let kept = replacement.as_ref().unwrap_or(batch).len();
        self.tally.kept_bytes += kept as u64;
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
    fn decide(
        &mut self,
        batch: &Bytes,
        header: &BatchHeader,
    ) -> Result<(bool, Option<Bytes>), BatchError> {
        if header.is_control() {
            return Ok((true, None));
        }
        let (rules, tally) = (&self.rules, &mut self.tally);
        let (mut kept, mut dropped) = (0, 0);
        let replacement = batch::retain(batch, DECOMPRESSED_BATCH_BYTES, |record| {
            let keep = rules.keeps(header, record);
            match keep {
                true => kept += 1,
                false => dropped += 1,
            }
            if keep && record.value.is_none() && !header.is_transactional() {
                let mark = rules.marks.index(record.offset);
                let mark = mark.unwrap_or(rules.marks.len());
                tally.tombstone_bytes[mark] += record.raw.len() as u64;
            }
            keep
        })?;
        tally.records_kept += kept;
        tally.records_dropped += dropped;
        Ok((kept > 0, replacement))
    }

    /// A row whose batch goes moves on to the next batch that stays, so that the index has never more
    /// rows than the log has batches.
    fn place_rows(&mut self, header: &BatchHeader, rows: &[IndexRow], stays: bool) {
        let mut own = false;
        for row in rows {
            own |= stays && row.base_offset == header.base_offset;
            if row.base_offset < header.base_offset || !stays {
                self.ops.push(Op::DeleteIndex {
                    partition: self.partition,
                    base_offset: row.base_offset,
                });
                self.homeless = Some(*row);
            }
        }
        let Some(homeless) = self.homeless.filter(|_| stays) else {
            return;
        };
        self.homeless = None;
        if !own {
            self.ops.push(moved(self.partition, homeless, header));
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
    pub fn finish(&mut self, next: Option<(&BatchHeader, bool)>) -> Vec<Op> {
        if let (Some(homeless), Some((header, false))) = (self.homeless.take(), next) {
            self.ops.push(moved(self.partition, homeless, header));
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

/// The row of a batch that went, put to a later one. It stays an upper bound of the timestamps so far,
/// and a lower bound of the position.
fn moved(partition: PartitionId, row: IndexRow, header: &BatchHeader) -> Op {
    Op::PutIndex {
        partition,
        row: IndexRow {
            base_offset: header.base_offset,
            max_timestamp_ms: row.max_timestamp_ms.max(header.max_timestamp),
            ..row
        },
    }
}
