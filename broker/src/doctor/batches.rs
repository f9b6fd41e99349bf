//! One partition: its batches and index rows against each other, and against the rows of its group.

use std::iter::Peekable;

use ottla_log::verify::{IndexRows, Offline, Unreadable, Visitor};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::DOCTOR_FINDINGS_PER_PARTITION;
use ottla_raft::verify::PartitionEnd;
use ottla_wire::batch::{self, BatchHeader};

use super::catalog::{Catalog, Standing};
use super::report::{Check, Finding, PartitionFound, PartitionRow};
use super::rows::Stored;
use crate::progress::Progress;

/// Reads all of a partition.
pub fn check(
    store: &Offline,
    stored: &Stored,
    catalog: &Catalog,
    id: PartitionId,
    progress: &Progress,
) -> PartitionFound {
    let standing = catalog.standing(id);
    let (end, is_certain) = stored.end(id, standing);
    let is_gone = end.removed || standing == Standing::Removed;
    let is_compacted = stored.was_compacted(id) || catalog.may_be_compacted(id);
    let mut walk = Walk {
        row: PartitionRow {
            id,
            name: catalog.name(id),
            log_start_offset: end.log_start_offset,
            log_end_offset: end.log_end_offset,
            is_compacted: is_compacted && standing != Standing::Unknown,
            ..PartitionRow::default()
        },
        is_dense: !is_compacted && !is_gone && standing != Standing::Unclear,
        is_certain: is_certain && !is_gone,
        is_gone,
        end,
        index: store.index(id).peekable(),
        next: None,
        position: None,
        max_timestamp_ms: i64::MIN,
        interval_ms: i64::MIN,
        findings: Vec::new(),
        more: 0,
        notes: Vec::new(),
        progress,
    };
    store.batches(id, &mut walk);
    walk.finish(standing)
}

struct Walk<'a> {
    row: PartitionRow,
    end: PartitionEnd,
    /// No offset may be missing: it was never compacted.
    is_dense: bool,
    /// Where it starts and ends is known.
    is_certain: bool,
    /// Deleted: what is left of it goes with the next start.
    is_gone: bool,
    index: Peekable<IndexRows<'a>>,
    /// The offset after the last batch.
    next: Option<i64>,
    /// Bytes appended before the next batch, as far as the index tells.
    position: Option<u64>,
    /// Of the batches so far, and of those since the last index row.
    max_timestamp_ms: i64,
    interval_ms: i64,
    findings: Vec<Finding>,
    more: u64,
    notes: Vec<String>,
    progress: &'a Progress,
}

impl Walk<'_> {
    fn find(&mut self, finding: Finding) {
        match self.findings.len() < DOCTOR_FINDINGS_PER_PARTITION {
            true => self.findings.push(finding.of(self.row.id, &self.row.name)),
            false => self.more += 1,
        }
    }

    fn wrong(&mut self, check: Check, offset: i64, detail: String) {
        self.find(Finding::new(check, detail).at(offset, offset));
    }

    /// Offsets `from..to` are not stored. Before the log start offset they need not be.
    fn missing(&mut self, from: i64, to: i64) {
        let from = match self.is_certain {
            true => from.max(self.end.log_start_offset),
            false => from,
        };
        if self.is_dense {
            self.tell_missing(from, to);
        }
    }

    fn tell_missing(&mut self, from: i64, to: i64) {
        if from < to {
            let finding = Finding::new(Check::Batches, "missing from the log");
            self.find(finding.at(from, to - 1));
            self.position = None;
        }
    }

    /// The place of a batch in the log.
    fn place(&mut self, key_offset: i64, header: &BatchHeader) {
        if header.base_offset != key_offset {
            let detail = format!("its header says offset {}", header.base_offset);
            self.wrong(Check::Batches, key_offset, detail);
        }
        match self.next {
            Some(next) if key_offset < next => {
                let detail = format!("overlaps the batch before it, which ends at {}", next - 1);
                self.wrong(Check::Batches, key_offset, detail);
            }
            Some(next) => self.missing(next, key_offset),
            None if self.is_certain => self.missing(self.end.log_start_offset, key_offset),
            None => {}
        }
        let end = key_offset.saturating_add(i64::from(header.last_offset_delta) + 1);
        self.next = Some(self.next.map_or(end, |next| next.max(end)));
        let epoch = self.end.epoch_at(key_offset);
        if self.is_certain
            && key_offset >= self.end.log_start_offset
            && key_offset < self.end.log_end_offset
            && header.partition_leader_epoch != epoch
        {
            let found = header.partition_leader_epoch;
            let detail = format!("its header says leader epoch {found}, its group's log {epoch}");
            self.wrong(Check::Batches, key_offset, detail);
        }
    }

    fn count(&mut self, key_offset: i64, header: &BatchHeader) {
        let (offsets, records) = (i64::from(header.last_offset_delta) + 1, header.record_count);
        let least = match self.is_dense && !stands_for_lost(header) {
            true => offsets,
            false => 0,
        };
        if !(least..=offsets).contains(&i64::from(records)) {
            let detail = format!("{records} records take {offsets} offsets");
            self.wrong(Check::Batches, key_offset, detail);
        }
        self.row.records += records.max(0) as u64;
    }

    /// Index rows up to the batch at `offset`.
    fn index_to(&mut self, offset: i64, header: Option<&BatchHeader>) {
        let mut indexed = false;
        while let Some(row) = self.index.next_if(|row| match row {
            Ok(row) => row.base_offset <= offset,
            Err(_) => true,
        }) {
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    self.find(Finding::new(Check::Index, error));
                    continue;
                }
            };
            let at = row.base_offset;
            if at < offset {
                self.no_batch(at);
                continue;
            }
            if let Some(position) = self
                .position
                .filter(|p| self.is_dense && *p != row.position_bytes)
            {
                let detail = format!("{} bytes before it, and not {position}", row.position_bytes);
                self.wrong(Check::Index, at, detail);
            }
            self.position = Some(row.position_bytes);
            let latest = header.map_or(i64::MIN, |h| h.max_timestamp);
            let told = [
                (row.max_timestamp_ms, latest.max(self.max_timestamp_ms)),
                (row.interval_timestamp_ms, latest.max(self.interval_ms)),
            ];
            for (ms, _) in told.into_iter().filter(|(told, found)| told < found) {
                let detail = format!("its highest timestamp {ms} is too low");
                self.wrong(Check::Index, at, detail);
            }
            indexed = true;
        }
        self.interval_ms = if indexed { i64::MIN } else { self.interval_ms };
        // What is deleted and still there does not count.
        let counts =
            |h: &&BatchHeader| self.is_certain && h.last_offset() >= self.end.log_start_offset;
        if let Some(header) = header.filter(counts) {
            self.max_timestamp_ms = self.max_timestamp_ms.max(header.max_timestamp);
            if !indexed {
                self.interval_ms = self.interval_ms.max(header.max_timestamp);
            }
        }
    }

    /// Behind the end, where a snapshot that is being received puts data. The next start uses it or
    /// throws it away.
    fn is_staged(&self, offset: i64) -> bool {
        let staged = self.end.log_end_offset..self.end.staged_end.unwrap_or(i64::MIN);
        staged.contains(&offset)
    }

    /// An index row that leads to no batch.
    fn no_batch(&mut self, offset: i64) {
        let trimmed =
            !self.is_certain || offset < self.end.log_start_offset || self.is_staged(offset);
        if self.is_dense && !trimmed {
            self.wrong(Check::Index, offset, "leads to no batch".into());
        }
    }

    fn finish(mut self, standing: Standing) -> PartitionFound {
        self.index_to(i64::MAX, None);
        if standing == Standing::Unknown && self.row.batches > 0 {
            let detail = "data of a partition that the metadata does not know";
            self.find(Finding::new(Check::Metadata, detail));
        }
        if self.is_certain {
            self.check_end(standing);
        }
        PartitionFound {
            row: self.row,
            findings: self.findings,
            more: self.more,
            notes: self.notes,
        }
    }

    fn check_end(&mut self, standing: Standing) {
        let (start, end) = (self.end.log_start_offset, self.end.log_end_offset);
        let stored = self.next.unwrap_or(start);
        if stored > end && self.next.is_some() {
            let detail = format!("stored behind the end of its group's log, {end}");
            self.find(Finding::new(Check::Batches, detail).at(end, stored - 1));
        }
        // Compaction leaves the last batch of a log, too.
        if standing != Standing::Unclear {
            self.tell_missing(stored.max(start), end);
        }
        let (position, expected) = (self.position, self.end.position_bytes);
        if let Some(position) =
            position.filter(|p| self.is_dense && *p != expected && stored == end)
        {
            let detail =
                format!("{position} bytes up to the end, its group's log counts {expected}");
            self.find(Finding::new(Check::Index, detail));
        }
    }
}

/// What an accepted loss leaves in the place of batches (`broker/raft/src/mend.rs`).
fn stands_for_lost(header: &BatchHeader) -> bool {
    header.record_count == 0
        && (
            header.producer_id,
            header.base_timestamp,
            header.max_timestamp,
        ) == (-1, -1, -1)
}

impl Visitor for Walk<'_> {
    fn batch(&mut self, key_offset: i64, batch: &[u8]) {
        self.progress.read(batch.len() as u64);
        self.row.batches += 1;
        self.row.bytes += batch.len() as u64;
        let header = match batch::intact(batch) {
            Ok(header) => header,
            Err(error) => {
                self.wrong(Check::Batches, key_offset, error.to_string());
                match BatchHeader::parse(batch) {
                    Ok(header) if header.last_offset_delta >= 0 => header,
                    _ => {
                        // What follows cannot be judged by it.
                        (self.next, self.position) = (None, None);
                        return;
                    }
                }
            }
        };
        if self.is_staged(key_offset) {
            return;
        }
        self.place(key_offset, &header);
        self.count(key_offset, &header);
        self.index_to(key_offset, Some(&header));
        self.position = self.position.map(|p| p.saturating_add(batch.len() as u64));
        if stands_for_lost(&header) {
            // How many bytes it stands for, nobody knows.
            self.position = None;
            let (first, last) = (header.base_offset, header.last_offset());
            let name = &self.row.name;
            if self.notes.len() < DOCTOR_FINDINGS_PER_PARTITION {
                let note =
                    format!("{name}: offsets {first} to {last} were lost, and that was accepted");
                self.notes.push(note);
            }
        }
        let behind_start =
            key_offset.saturating_add(header.last_offset_delta.into()) >= self.end.log_start_offset;
        if self.is_gone || !behind_start {
            self.row.reclaimable_bytes += batch.len() as u64;
        }
    }

    fn unreadable(&mut self, range: Unreadable) {
        let first = self.next.or(range.after.map(|a| a.saturating_add(1)));
        let first = first.unwrap_or(self.end.log_start_offset);
        let last = range
            .before
            .map_or(i64::MAX, |before| before.saturating_sub(1));
        let mut finding = Finding::new(Check::Batches, range.error).at(first, last.max(first));
        finding.is_unreadable = true;
        self.find(finding);
        // Told already: no more is missing there.
        self.next = Some(match range.before {
            Some(before) => before,
            None => self.end.log_end_offset.max(first),
        });
        self.position = None;
        while self
            .index
            .next_if(|row| match row {
                Ok(row) => range.before.is_none_or(|before| row.base_offset < before),
                Err(_) => false,
            })
            .is_some()
        {}
    }
}
