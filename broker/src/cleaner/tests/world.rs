//! A partition's log, what was ever written to it, and what must therefore be in it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_log::{MemoryStore, Op, RocksStore, StateKey, Store, StoreOptions};
use ottla_proto::config::Compaction;
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::INDEX_INTERVAL_BYTES;
use ottla_proto::memory::MemoryShares;
use ottla_raft::{BatchMeta, EntryContext, PartitionState, last_row_before};
use ottla_wire::batch::{BatchBuilder, BatchHeader, HEADER_BYTES, intact, patch_head, records};
use ottla_wire::compress::Codec;

use super::super::offset_map::SLOT_BYTES;
use super::super::pass::{self, Log, Pace, PassError, Report, Task};
use super::super::recall::measure;
use super::super::state::{CleanerState, Left, Place};
use super::super::survey::{self, Extent};

pub const PARTITION: PartitionId = PartitionId(7);
const GROUP: GroupId = GroupId(3);
pub const START_MS: i64 = 1_000_000;

/// A store that can be closed and opened again.
pub enum Disk {
    Memory(Arc<MemoryStore>),
    Rocks(Option<RocksStore>, tempfile::TempDir),
}

impl Disk {
    pub fn memory() -> Disk {
        Disk::Memory(Arc::default())
    }

    pub fn rocks() -> Disk {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = Disk::Rocks(None, folder);
        disk.reopen();
        disk
    }

    pub fn store(&self) -> &dyn Store {
        match self {
            Disk::Memory(store) => &**store,
            Disk::Rocks(store, _) => store.as_ref().expect("open"),
        }
    }

    fn reopen(&mut self) {
        if let Disk::Rocks(store, folder) = self {
            drop(store.take());
            let options = StoreOptions::new(MemoryShares::of(256 << 20));
            *store = Some(RocksStore::open(folder.path(), &options).expect("it opens"));
        }
    }
}

/// A record to write.
#[derive(Clone, Debug)]
pub struct Written {
    pub key: u8,
    /// A tombstone has none.
    pub value_bytes: Option<usize>,
    pub age_ms: i64,
}

/// A record as it was written or is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp_ms: i64,
}

impl Kept {
    fn of(batch: &Bytes) -> Vec<Kept> {
        let read = records(batch, 64 << 20).expect("it decompresses");
        let record = |r: Result<ottla_wire::batch::RecordView<'_>, _>| {
            let r = r.expect("well formed");
            Kept {
                offset: r.offset,
                key: r.key.map(<[u8]>::to_vec),
                value: r.value.map(<[u8]>::to_vec),
                timestamp_ms: r.timestamp,
            }
        };
        read.iter().map(record).collect()
    }

    pub fn transactional(key: u8, value: Option<&[u8]>, timestamp_ms: i64) -> Bytes {
        let mut builder = BatchBuilder::new();
        builder.producer(7, 0, 0).transactional();
        builder.append(Some(&[key]), value, timestamp_ms);
        builder.build()
    }
}

pub struct World {
    pub disk: Disk,
    settings: Compaction,
    pub now_ms: i64,
    state: PartitionState,
    history: Vec<Kept>,
    /// Batches as they were written, by base offset.
    written: BTreeMap<i64, Bytes>,
    /// When the pass was through that first went past a tombstone.
    cleaned_at_ms: HashMap<i64, i64>,
    /// Offsets of tombstones that a pass was free to drop.
    free_to_go: HashSet<i64>,
    /// Offsets of tombstones that must be gone.
    gone: HashSet<i64>,
    /// How far any pass went: one that has lost its row may go less far.
    cleaned_to: Cell<i64>,
    /// A pass ended within a batch: its position is only near.
    pub split_a_batch: bool,
    /// A pass ended before what was known did: sizes are a little too low.
    stopped_short: bool,
    pub removed: bool,
    /// The pass finds the partition removed, after so many looks.
    pub removed_after_looks: Cell<Option<u32>>,
    /// The pass finds the log start offset raised, after so many looks.
    pub trimmed_after_looks: Cell<Option<(u32, i64)>>,
    /// After so many writes the data is other data.
    pub replaced_after_writes: Cell<Option<u32>>,
}

impl Log for World {
    fn unless_replaced(&self, submit: &mut dyn FnMut()) -> bool {
        if self.replaced_after_writes.get() == Some(0) {
            return false;
        }
        let left = self.replaced_after_writes.get().map(|writes| writes - 1);
        self.replaced_after_writes.set(left);
        submit();
        true
    }

    fn log_start_offset(&self) -> Option<i64> {
        let mut start = self.state.log_start_offset;
        match self.removed_after_looks.get() {
            Some(0) => return None,
            Some(looks) => self.removed_after_looks.set(Some(looks - 1)),
            None => {}
        }
        match self.trimmed_after_looks.get() {
            Some((0, offset)) => start = offset,
            Some((looks, offset)) => self.trimmed_after_looks.set(Some((looks - 1, offset))),
            None => {}
        }
        (!self.removed).then_some(start)
    }
}

struct Pieces(u64);

impl Pace for Pieces {
    fn worked(&mut self, _: u64) -> bool {
        let more = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        more
    }
}

impl World {
    pub fn new(disk: Disk, settings: Compaction) -> World {
        World {
            disk,
            settings,
            now_ms: START_MS,
            state: PartitionState::new(),
            history: Vec::new(),
            written: BTreeMap::new(),
            cleaned_to: Cell::new(0),
            cleaned_at_ms: HashMap::new(),
            free_to_go: HashSet::new(),
            gone: HashSet::new(),
            split_a_batch: false,
            stopped_short: false,
            removed: false,
            removed_after_looks: Cell::new(None),
            trimmed_after_looks: Cell::new(None),
            replaced_after_writes: Cell::new(None),
        }
    }

    pub fn produce(&mut self, list: &[Written], codec: Codec) {
        let mut builder = BatchBuilder::new();
        for (i, record) in list.iter().enumerate() {
            // Not all alike, so that a mix-up shows; not random, so that codecs have something to do.
            let byte = (self.state.log_end_offset as usize + i) as u8;
            let value = record.value_bytes.map(|bytes| vec![byte; bytes]);
            builder.append(
                Some(&[record.key]),
                value.as_deref(),
                self.now_ms - record.age_ms,
            );
        }
        self.append(builder.codec(codec).build());
    }

    pub fn append(&mut self, batch: Bytes) {
        let base_offset = self.state.log_end_offset;
        let mut batch = batch.to_vec();
        patch_head(&mut batch, base_offset, 1);
        let batch = Bytes::from(batch);
        let header = BatchHeader::parse(&batch).expect("built");
        let meta = BatchMeta {
            partition: PARTITION,
            offsets: header.last_offset_delta + 1,
            max_timestamp_ms: header.max_timestamp,
            size_bytes: batch.len() as u32,
            producer: None,
        };
        let context = EntryContext {
            leader_epoch: 1,
            time_ms: self.now_ms,
            producer_expiration_ms: 1000,
        };
        let mut ops = vec![Op::PutBatch {
            partition: PARTITION,
            base_offset,
            head: batch.slice(..16),
            body: batch.slice(16..),
        }];
        let row = self.state.append(&meta, base_offset, &context);
        ops.extend(row.map(|row| Op::PutIndex {
            partition: PARTITION,
            row,
        }));
        self.disk.store().write(ops).expect("written");
        self.history.extend(Kept::of(&batch));
        self.written.insert(base_offset, batch);
    }

    pub fn trim(&mut self, part: i64) {
        let (start, end) = (self.state.log_start_offset, self.state.log_end_offset);
        let to = start + (end - start) * part / 1000;
        self.state.trim(to);
        let holder = self
            .disk
            .store()
            .batches(PARTITION, to, to + 1, 1)
            .expect("read");
        let base = holder
            .first()
            .map_or(to, |b| BatchHeader::parse(b).expect("whole").base_offset);
        // As it is done where a log's front is freed.
        let kept = self.disk.store().index_at(PARTITION, base.min(to));
        let before = kept.expect("read").map_or(0, |row| row.position_bytes);
        self.state.start_position_bytes = self.state.start_position_bytes.max(before);
        let ops = vec![Op::DeleteBatches {
            partition: PARTITION,
            from: 0,
            to: base.min(to),
            bytes: 0,
        }];
        self.disk.store().write(ops).expect("written");
    }

    pub fn restart(&mut self) {
        self.disk.reopen();
    }

    fn key(&self) -> StateKey {
        StateKey::cleaner(GROUP, PARTITION)
    }

    pub fn row(&self) -> Option<CleanerState> {
        let row = self.disk.store().state(self.key()).expect("read");
        row.map(|row| CleanerState::decode(&row).expect("whole"))
    }

    fn extent(&self) -> Extent {
        Extent {
            log_start_offset: self.state.log_start_offset,
            start_position_bytes: self.state.start_position_bytes,
            end: Place {
                offset: self.state.log_end_offset,
                position_bytes: self.state.position_bytes,
            },
            max_timestamp_ms: self.state.max_timestamp_ms(),
        }
    }

    /// Compacts if it is due, until it is not, or once if the passes are cut short.
    pub fn clean(&mut self, map_slots: usize, pieces: u64) {
        while self.clean_once(map_slots, pieces) && pieces == u64::MAX {}
    }

    fn clean_once(&mut self, map_slots: usize, pieces: u64) -> bool {
        let log = self.extent();
        if log.log_start_offset == log.end.offset {
            return false;
        }
        let mut state = self.row().unwrap_or_default();
        assert!(survey::is_row_of(&log, &state));
        // As retention does it, at times.
        if state.left.sizes().is_none() && self.now_ms % 2 == 0 {
            let measured = measure(self.disk.store(), PARTITION, &log);
            state.left = Left::Known(measured.expect("read"));
        }
        let store = self.disk.store();
        let first = survey::first_dirty(store, PARTITION, &log, &state).expect("read");
        let first = first.expect("the last batch is always there");
        let look = survey::look(
            store,
            PARTITION,
            &log,
            &state,
            &first,
            &self.settings,
            self.now_ms,
        );
        let found = look.expect("read");
        let settings = &self.settings;
        let no = survey::is_out_of_question(&log, &state, &first, settings, self.now_ms);
        assert!(!(no && found.due), "{log:?} {state:?} {first:?} {found:?}");
        if !found.due {
            return false;
        }
        let before = self.batches();
        let bounds = (first.place, found.end.offset);
        let report = self
            .pass_over(&state, bounds, map_slots, pieces)
            .expect("not damaged");
        self.check_untouched(&before, found.end.offset);
        if let Some(report) = &report {
            self.check_pass(first.place.offset, found.end.offset, report);
        }
        report.is_some()
    }

    /// One pass, over all but the last batch.
    pub fn pass(&mut self, map_slots: usize) -> Result<Option<Report>, PassError> {
        let state = self.row().unwrap_or_default();
        let end = *self
            .written
            .keys()
            .next_back()
            .expect("something was written");
        self.pass_over(&state, (state.first_dirty, end), map_slots, u64::MAX)
    }

    fn pass_over(
        &self,
        state: &CleanerState,
        (first_dirty, end): (Place, i64),
        map_slots: usize,
        pieces: u64,
    ) -> Result<Option<Report>, PassError> {
        let now_ms = self.now_ms;
        let task = Task {
            store: self.disk.store(),
            partition: PARTITION,
            row: self.key(),
            log: self,
            clock: &|| now_ms,
            state,
            first_dirty,
            end,
            delete_retention_ms: self.settings.delete_retention_ms,
            map_bytes: map_slots * SLOT_BYTES,
            load_factor: 0.9,
        };
        pass::run(&task, &mut Pieces(pieces))
    }

    fn batches(&self) -> Vec<Bytes> {
        let end = self.state.log_end_offset;
        let read = self.disk.store().batches(PARTITION, 0, end, usize::MAX);
        read.expect("read")
    }

    /// Every record that a reader gets from the log start offset on.
    pub fn read(&self) -> Vec<Kept> {
        let mut read = Vec::new();
        let mut next = self.state.log_start_offset;
        while next < self.state.log_end_offset {
            let store = self.disk.store();
            let found = store.batches(PARTITION, next, self.state.log_end_offset, 50_000);
            let found = found.expect("read");
            assert!(
                !found.is_empty(),
                "a reader at {next} does not get to the end"
            );
            for batch in &found {
                let header = intact(batch).expect("whole");
                assert!(header.last_offset() >= next, "{header:?} at {next}");
                next = header.last_offset() + 1;
                read.extend(Kept::of(batch));
            }
        }
        let start = self.state.log_start_offset;
        read.retain(|record| record.offset >= start);
        read
    }

    /// Nothing younger than the lag, nor anything from the cleanable end on, is other than before.
    fn check_untouched(&self, before: &[Bytes], end: i64) {
        let after: BTreeMap<i64, Bytes> = by_offset(&self.batches());
        let young_ms = self.now_ms - self.settings.min_lag_ms as i64;
        let mut young = false;
        for (base, batch) in by_offset(before) {
            let max_timestamp = BatchHeader::parse(&batch).expect("whole").max_timestamp;
            young |= self.settings.min_lag_ms > 0 && max_timestamp >= young_ms;
            if young || base >= end {
                assert_eq!(after.get(&base), Some(&batch), "touched at {base}");
                let compacted = base < end || base < self.cleaned_to.get();
                assert!(compacted || self.written[&base] == batch);
            }
        }
        self.cleaned_to.set(self.cleaned_to.get().max(end));
        let (last, batch) = self.written.last_key_value().expect("not empty");
        assert_eq!(after.get(last), Some(batch), "the last batch was touched");
    }

    /// What a pass that is through has achieved.
    fn check_pass(&mut self, from: i64, end: i64, report: &Report) {
        let clean_end = report.state.first_dirty.offset;
        assert!(
            clean_end <= end && (clean_end > from || end == from),
            "{from} {clean_end} {end}"
        );
        assert_eq!(Some(&report.state), self.row().as_ref());
        let known = report.state.left.sizes();
        self.stopped_short = known.is_some_and(|sizes| sizes.end_offset > clean_end);
        self.split_a_batch |= clean_end < end && !self.written.contains_key(&clean_end);
        let left = self.read();
        let mut keys = HashSet::new();
        for record in left.iter().filter(|r| r.offset < clean_end) {
            assert!(
                keys.insert(record.key.clone()),
                "{record:?} is there twice before {clean_end}"
            );
        }
        let retention_ms = self.settings.delete_retention_ms as i64;
        for record in self.history.iter().filter(|r| r.value.is_none()) {
            let known = self.cleaned_at_ms.get(&record.offset).copied();
            if let Some(at) = known {
                if self.now_ms >= at + retention_ms {
                    self.free_to_go.insert(record.offset);
                }
                if self.now_ms > at + retention_ms + retention_ms / 16 {
                    self.gone.insert(record.offset);
                }
            } else if record.offset < clean_end {
                self.cleaned_at_ms.insert(record.offset, self.now_ms);
            }
        }
    }

    /// The log read back agrees with everything that was ever written.
    pub fn check(&self) {
        let read = self.read();
        let start = self.state.log_start_offset;
        assert!(
            read.is_sorted_by(|a, b| a.offset < b.offset),
            "order is kept"
        );
        let present: HashSet<i64> = read.iter().map(|r| r.offset).collect();
        for record in &read {
            assert_eq!(
                record, &self.history[record.offset as usize],
                "offsets never change"
            );
            assert!(
                !self.gone.contains(&record.offset),
                "{record:?} stays for ever"
            );
        }
        let mut last: HashMap<&Option<Vec<u8>>, i64> = HashMap::new();
        for record in &self.history {
            last.insert(&record.key, record.offset);
        }
        for record in self.history.iter().filter(|r| r.offset >= start) {
            let is_last = last[&record.key] == record.offset;
            let may_go = record.value.is_none() && self.free_to_go.contains(&record.offset);
            assert!(
                !is_last || may_go || present.contains(&record.offset),
                "the last record of its key is lost: {record:?}"
            );
        }
        self.check_index(&read);
        self.check_sizes();
    }

    /// The row's sizes are those of the batches that are there.
    fn check_sizes(&self) {
        let row = self.row().unwrap_or_default();
        let Some(sizes) = row.left.sizes() else {
            return;
        };
        let batches = by_offset(&self.batches());
        let bytes = |from: i64, to: i64| -> u64 {
            let inside = batches.range(from..to.max(from));
            inside.map(|(_, batch)| batch.len() as u64).sum()
        };
        let (start, end) = (self.state.log_start_offset, sizes.end_offset);
        for (offset, left) in sizes.points().iter().filter(|(at, _)| *at >= start) {
            let there = bytes(*offset, end);
            assert!(*left <= there, "{offset} of {sizes:?}: {there}");
            assert!(
                self.stopped_short || *left == there,
                "{offset} of {sizes:?}: {there}"
            );
        }
        let rest = self.state.position_bytes - sizes.end_position_bytes;
        let appended = bytes(end, i64::MAX);
        assert!(rest >= appended, "{rest} {appended} {sizes:?}");
        // Where the log start offset overtook compaction, the position is that of an index row.
        let batch = self.written.values().map(Bytes::len).max().unwrap_or(0) as u64;
        let grain = INDEX_INTERVAL_BYTES + batch;
        if start <= end && !self.split_a_batch {
            assert!(rest <= appended + grain, "{rest} {appended} {sizes:?}");
        }
    }

    /// Loses the row, as damage does: what is left is measured, and compaction begins anew.
    pub fn lose_row(&mut self) {
        let log = self.extent();
        self.stopped_short = false;
        let left = measure(self.disk.store(), PARTITION, &log).expect("read");
        let state = CleanerState {
            left: Left::Known(left),
            ..CleanerState::default()
        };
        let value = state.encode();
        let op = Op::PutState {
            key: self.key(),
            value,
        };
        self.disk.store().write(vec![op]).expect("written");
        // Their time begins anew.
        self.cleaned_at_ms.clear();
    }

    fn check_index(&self, read: &[Kept]) {
        let (start, end) = (self.state.log_start_offset, self.state.log_end_offset);
        let store = self.disk.store();
        let rows = store.index_rows(PARTITION, start, 10_000).expect("read");
        assert!(rows.is_sorted_by(|a, b| a.position_bytes < b.position_bytes));
        assert!(rows.len() <= self.batches().len() + 1, "{rows:?}");
        for target_ms in read.iter().map(|r| r.timestamp_ms) {
            let row = last_row_before(store, PARTITION, start..end, target_ms);
            let from = row.expect("read").map_or(start, |row| row.base_offset);
            let first = read.iter().find(|r| r.timestamp_ms >= target_ms);
            assert!(
                first.is_some_and(|r| r.offset >= from),
                "a search by time begins too late"
            );
        }
    }
}

fn by_offset(batches: &[Bytes]) -> BTreeMap<i64, Bytes> {
    let base = |b: &Bytes| i64::from_be_bytes(b[..8].try_into().expect("a header"));
    let whole = batches.iter().filter(|b| b.len() > HEADER_BYTES);
    whole.map(|b| (base(b), b.clone())).collect()
}
