//! What a partition must show, as plainly as it can be said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_tests::batch::{Record, now_ms};

/// The grain at which retention finds places in a log: an interval of the sparse index, and the batch
/// that ends it.
const GRAIN_BYTES: usize = 64 * 1024 + 250_000;
const RETENTION_MS: i64 = 3_600_000;
const RETENTION_BYTES: usize = 300_000;
const DELETE_RETENTION: Duration = Duration::from_millis(1000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    by_age: bool,
    by_size: bool,
    compact: bool,
    delete: bool,
    /// The broker sets timestamps.
    append_time: bool,
}

impl Policy {
    pub const KEEP: Policy = Policy {
        by_age: false,
        by_size: false,
        compact: false,
        delete: true,
        append_time: false,
    };
    pub const SIZE: Policy = Policy {
        by_size: true,
        ..Policy::KEEP
    };
    pub const AGE: Policy = Policy {
        by_age: true,
        ..Policy::KEEP
    };
    pub const COMPACT: Policy = Policy {
        compact: true,
        delete: false,
        ..Policy::KEEP
    };
    pub const BOTH: Policy = Policy {
        compact: true,
        by_age: true,
        ..Policy::KEEP
    };

    pub const BOTH_BY_SIZE: Policy = Policy {
        compact: true,
        by_size: true,
        ..Policy::KEEP
    };
    pub const APPEND_TIME: Policy = Policy {
        by_age: true,
        append_time: true,
        ..Policy::KEEP
    };

    pub fn is_compacted(self) -> bool {
        self.compact
    }

    pub fn allows_delete_records(self) -> bool {
        self.delete
    }

    /// What is left in a complete read that should be gone: one line for each rule that is not met yet.
    pub fn left(self, model: &Model, start: i64, read: &BTreeMap<i64, Record>) -> Vec<String> {
        let mut left = Vec::new();
        let value_bytes = |r: &Record| r.value.as_ref().map_or(0, |v| v.len());
        let bytes = match self.compact {
            true => read.values().map(value_bytes).sum(),
            false => model.bytes_from(start),
        };
        if self.by_size && bytes > RETENTION_BYTES + GRAIN_BYTES {
            left.push(format!("{bytes} bytes"));
        }
        let limit_ms = now_ms() - RETENTION_MS;
        let old = read.values().take_while(|r| r.timestamp_ms < limit_ms);
        let old_bytes: usize = old.map(value_bytes).sum();
        if self.by_age && old_bytes > GRAIN_BYTES {
            left.push(format!("{old_bytes} bytes of old records"));
        }
        if self.compact {
            left.extend(self.left_to_compact(model, start, read));
        }
        left
    }

    fn left_to_compact(
        self,
        model: &Model,
        start: i64,
        read: &BTreeMap<i64, Record>,
    ) -> Option<String> {
        let latest = model.latest_from(start);
        let last = model.batches.last_key_value().map_or(0, |(base, _)| *base);
        let superseded = |(offset, record): &(&i64, &Record)| {
            record.key.as_ref().and_then(|key| latest.get(key)) != Some(*offset)
        };
        // The batch that holds the log start offset is read whole; what lies before is no reader's.
        let before_last = || read.range(start.min(last)..last);
        let outdated: Vec<_> = before_last().filter(superseded).map(|(o, _)| o).collect();
        let tombstones: Vec<_> = before_last()
            .filter(|(_, record)| record.value.is_none())
            .map(|(offset, _)| offset)
            .collect();
        (!outdated.is_empty() || !tombstones.is_empty())
            .then(|| format!("outdated {outdated:?}, tombstones {tombstones:?}"))
    }
}

struct Appended {
    records: Vec<Record>,
    bytes: usize,
    /// It was sent after this.
    sent: Instant,
}

pub struct Model {
    policy: Policy,
    /// By base offset.
    batches: BTreeMap<i64, Appended>,
    end: i64,
    /// Asked for by DeleteRecords.
    deleted_before: i64,
    /// The highest log start offset seen.
    start: i64,
    /// Offsets that compaction was seen to have removed.
    gone: BTreeSet<i64>,
}

impl Model {
    pub fn new(policy: Policy) -> Model {
        Model {
            policy,
            batches: BTreeMap::new(),
            end: 0,
            deleted_before: 0,
            start: 0,
            gone: BTreeSet::new(),
        }
    }

    pub fn appended(
        &mut self,
        base_offset: i64,
        mut records: Vec<Record>,
        bytes: usize,
        sent: Instant,
    ) {
        if self.policy.append_time {
            records.iter_mut().for_each(|r| r.timestamp_ms = now_ms());
        }
        assert_eq!(base_offset, self.end, "offsets are dense");
        self.end += records.len() as i64;
        self.batches.insert(
            base_offset,
            Appended {
                records,
                bytes,
                sent,
            },
        );
    }

    pub fn deleted_before(&mut self, offset: i64) {
        self.deleted_before = self.deleted_before.max(offset);
    }

    fn records(&self) -> impl Iterator<Item = (i64, &Record)> {
        let numbered =
            |(base, batch): (&i64, &'_ Appended)| *base..*base + batch.records.len() as i64;
        self.batches
            .iter()
            .flat_map(move |(base, batch)| numbered((base, batch)).zip(&batch.records))
    }

    /// The record at this offset was sent after this.
    fn sent(&self, offset: i64) -> Instant {
        let batch = self.batches.range(..=offset).next_back();
        batch.expect("it was written").1.sent
    }

    fn bytes_from(&self, start: i64) -> usize {
        let held = self
            .batches
            .iter()
            .filter(|(base, batch)| *base + batch.records.len() as i64 > start);
        held.map(|(_, batch)| batch.bytes).sum()
    }

    /// The last offset of each key.
    fn latest_from(&self, start: i64) -> BTreeMap<Bytes, i64> {
        let keyed = self.records().filter(|(offset, _)| *offset >= start);
        keyed
            .filter_map(|(offset, record)| Some((record.key.clone()?, offset)))
            .collect()
    }

    /// The log may start where DeleteRecords or retention has allowed it, and never earlier than before.
    pub fn check_edges(&mut self, start: i64, end: i64) {
        assert_eq!(end, self.end, "the log's end");
        assert!(
            start >= self.start,
            "the log start offset went back from {} to {start}",
            self.start
        );
        self.start = start;
        assert!(
            start >= self.deleted_before,
            "{start}: deleted records are back"
        );
        if start == self.deleted_before {
            return;
        }
        let limit = now_ms() - RETENTION_MS;
        let gone = self.records().take_while(|(offset, _)| *offset < start);
        let gone = gone.filter(|(offset, _)| *offset >= self.deleted_before);
        // What a later record of its key outdates may have gone before, and is not waited for.
        let latest = self.latest_from(0);
        let is_latest = |(offset, record): &(i64, &Record)| {
            let newest = record.key.as_ref().and_then(|key| latest.get(key));
            newest == Some(offset)
        };
        // So may a tombstone, after its time.
        let is_done = |(offset, record): &(i64, &Record)| {
            record.value.is_none() && self.sent(*offset).elapsed() >= DELETE_RETENTION
        };
        let gone = gone.filter(|row| !self.policy.compact || is_latest(row) && !is_done(row));
        let by_age = self.policy.by_age && gone.map(|(_, r)| r.timestamp_ms).all(|ms| ms < limit);
        let by_size = self.policy.by_size && self.bytes_from(start) >= RETENTION_BYTES;
        assert!(
            by_age || by_size,
            "{:?}: records before {start} must not be gone",
            self.policy
        );
    }

    /// Everything read is what was written there; what is missing is allowed to be, and stays so. `took`:
    /// when the read began and ended.
    pub fn check_read(
        &mut self,
        start: i64,
        read: &BTreeMap<i64, Record>,
        took: (Instant, Instant),
    ) {
        let latest = self.latest_from(0);
        let mut gone = BTreeSet::new();
        for (offset, record) in self.records() {
            match read.get(&offset) {
                Some(found) => self.check_found(offset, found, record),
                None if offset < start => {}
                None => {
                    gone.insert(offset);
                    let last_of_key =
                        record.key.as_ref().and_then(|key| latest.get(key)) == Some(&offset);
                    let may_go = self.policy.compact && (!last_of_key || record.value.is_none());
                    assert!(may_go, "{:?}: offset {offset} is missing", self.policy);
                    if last_of_key {
                        self.check_tombstone(offset, record, read, took);
                    }
                }
            }
        }
        self.gone.extend(gone);
        assert!(
            read.keys().all(|offset| *offset < self.end),
            "more than was written"
        );
    }

    fn check_found(&self, offset: i64, found: &Record, written: &Record) {
        let mut expected = written.clone();
        if self.policy.append_time {
            expected.timestamp_ms = found.timestamp_ms;
        }
        assert_eq!(*found, expected, "offset {offset}");
        assert!(!self.gone.contains(&offset), "offset {offset} is back");
    }

    /// The last record of its key is a tombstone, and gone: that must have been late enough for every
    /// reader to see it.
    fn check_tombstone(
        &self,
        offset: i64,
        tombstone: &Record,
        read: &BTreeMap<i64, Record>,
        (began, ended): (Instant, Instant),
    ) {
        assert!(
            ended - self.sent(offset) >= DELETE_RETENTION,
            "the tombstone at {offset} went too early"
        );
        // What it deleted was gone that long before it.
        if ended - began < DELETE_RETENTION {
            let older = read.range(..offset).find(|(_, r)| r.key == tombstone.key);
            assert_eq!(older, None, "without its tombstone at {offset}");
        }
    }
}
