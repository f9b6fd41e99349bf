//! A store that no process has open, read without changing it: what `ottla doctor` needs.
//!
//! The database is opened read-only: what its write-ahead logs hold is replayed into memory (as much as
//! a broker's start would replay), nothing is flushed, no file is made, renamed or deleted.

mod blobs;
mod files;
mod lock;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::{DOCTOR_MEMORY_BYTES, DOCTOR_RETRIES_PER_PARTITION};
use ottla_proto::memory::MemoryShares;
use rocksdb::{
    BoundColumnFamily, DBRawIteratorWithThreadMode, DBRecoveryMode, DBWithThreadMode,
    MultiThreaded, ReadOptions,
};

pub(crate) use blobs::find_damaged;
pub use blobs::{BlobDamage, scan_blobs};
pub use files::{Files, LogFile, check_files};
pub use lock::{Held, LockError, hold};

use crate::durable::Mark;
use crate::keys::{self, StateKey, Tag};
use crate::open::check_manifest;
use crate::options::{self, StoreOptions};
use crate::rocks::index_row;
use crate::store::IndexRow;

type Db = DBWithThreadMode<MultiThreaded>;
type Rows<'a> = DBRawIteratorWithThreadMode<'a, Db>;

/// The database, open for reading only.
pub struct Offline {
    db: Db,
    path: PathBuf,
}

/// A stretch of a partition's log that could not be read: base offsets after `after` and before
/// `before`, where `None` is the beginning and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub after: Option<i64>,
    pub before: Option<i64>,
    pub error: String,
}

/// What a walk over a partition's batches meets.
pub trait Visitor {
    /// A batch, under the base offset that its key says.
    fn batch(&mut self, key_offset: i64, batch: &[u8]);
    fn unreadable(&mut self, range: Unreadable);
}

impl Offline {
    /// Opens what is there. Each way that failed is told in `failures`; `None` if none worked.
    pub fn open(path: &Path, failures: &mut Vec<String>) -> Option<Offline> {
        if let Err(error) = check_manifest(path, &Mark::default()) {
            failures.push(error.to_string());
            return None;
        }
        // As a broker opens it; then with tables that cannot be read; then over damaged logs.
        let mut opened = None;
        for (later, skipping) in [(false, false), (true, false), (true, true)] {
            match open(path, later, skipping) {
                Ok(db) => {
                    opened = Some(db);
                    break;
                }
                Err(error) => {
                    let error = error.to_string();
                    if failures.last() != Some(&error) {
                        failures.push(error);
                    }
                }
            }
        }
        opened.map(|db| Offline {
            db,
            path: path.to_owned(),
        })
    }

    fn family(&self, name: &str) -> Arc<BoundColumnFamily<'_>> {
        self.db
            .cf_handle(name)
            .expect("every column family was opened with the database")
    }

    fn rows(&self, family: &str, from: &[u8], to: Option<Vec<u8>>) -> Rows<'_> {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_iterate_lower_bound(from);
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        self.db.raw_iterator_cf_opt(&self.family(family), options)
    }

    /// Bytes of the sorted tables.
    pub fn table_bytes(&self) -> u64 {
        self.sum("rocksdb.live-sst-files-size")
    }

    /// Bytes of payload that a key leads to, about.
    pub fn payload_bytes(&self) -> u64 {
        let garbage = self.sum("rocksdb.live-blob-file-garbage-size");
        let memtables = self.sum("rocksdb.cur-size-all-mem-tables");
        (self.sum("rocksdb.live-blob-file-size") + memtables).saturating_sub(garbage)
    }

    fn sum(&self, property: &str) -> u64 {
        let read = |name: &&str| {
            let value = self.db.property_int_value_cf(&self.family(name), property);
            value.ok().flatten()
        };
        keys::ALL.iter().filter_map(read).sum()
    }

    /// The checksums of every block of every table, also of those that no row lies in. The first that
    /// is wrong.
    pub fn verify_tables(&self) -> Result<(), String> {
        self.db.verify_checksum().map_err(|e| e.to_string())
    }

    /// Sorted tables that the database needs and that are missing, or have another size.
    pub fn wrong_tables(&self) -> Vec<(String, String)> {
        let files = self.db.live_files().unwrap_or_default();
        let wrong = |file: rocksdb::LiveFile| {
            let name = file.name.trim_start_matches('/').to_owned();
            let found = std::fs::metadata(self.path.join(&name));
            match found {
                Ok(found) if found.len() == file.size as u64 => None,
                Ok(found) => {
                    let detail = format!("has {} bytes, not {}", found.len(), file.size);
                    Some((name, detail))
                }
                Err(error) => Some((name, error.to_string())),
            }
        };
        files.into_iter().filter_map(wrong).collect()
    }

    /// The oldest write-ahead log that is still needed.
    pub fn oldest_log(&self) -> Option<u64> {
        let property = "rocksdb.min-log-number-to-keep";
        self.db.property_int_value(property).ok().flatten()
    }

    /// How many syncs the database knows of.
    pub fn syncs(&self) -> Result<u64, String> {
        let key = StateKey::node(Tag::Synced).encode();
        let row = self
            .db
            .get_cf(&self.family(keys::STATE), key)
            .map_err(|e| e.to_string())?;
        let number = row.and_then(|r| Some(u64::from_be_bytes(r.try_into().ok()?)));
        Ok(number.unwrap_or(0))
    }

    /// Every `state` row. A key that is not known is `None`, with its bytes as the value.
    pub fn state_rows(&self, mut visit: impl FnMut(Option<StateKey>, &[u8])) -> Result<(), String> {
        let mut rows = self.rows(keys::STATE, &[], None);
        walk(&mut rows, |key, value| match StateKey::decode(key) {
            None => visit(None, key),
            known => visit(known, value),
        })
    }

    /// Every raft row, by group and index. A key that is none is told with its bytes as the value.
    pub fn raft_rows(
        &self,
        mut visit: impl FnMut(Option<(GroupId, u64)>, &[u8]),
    ) -> Result<(), String> {
        let mut rows = self.rows(keys::RAFT, &[], None);
        walk(&mut rows, |key, value| match keys::raft_index(key) {
            None => visit(None, key),
            known => visit(known, value),
        })
    }

    /// The first partition from `from` on, below `below`, that has batches or index rows; `Err`, if that
    /// could not be read.
    pub fn partition_between(
        &self,
        from: PartitionId,
        below: Option<PartitionId>,
    ) -> Result<Option<PartitionId>, String> {
        let to = below.map(|p| keys::batch(p, 0).to_vec());
        let mut first: Option<PartitionId> = None;
        for family in [keys::LOG, keys::INDEX] {
            let mut rows = self.rows(family, &keys::batch(from, 0), to.clone());
            rows.seek_to_first();
            rows.status().map_err(|e| e.to_string())?;
            if let Some(key) = rows.key() {
                let found = keys::batch_offset(key).map(|(partition, _)| partition);
                let found =
                    found.ok_or_else(|| format!("{family}: a key of {} bytes", key.len()))?;
                first = Some(first.map_or(found, |other| other.min(found)));
            }
        }
        Ok(first)
    }

    /// Index rows of a partition, one after the other.
    pub fn index(&self, partition: PartitionId) -> IndexRows<'_> {
        let mut rows = self.rows(keys::INDEX, &keys::batch(partition, 0), end_of(partition));
        rows.seek_to_first();
        IndexRows { rows, ended: false }
    }

    /// Every batch of a partition, in the order of their keys. Damage is passed over: reading goes on at
    /// the nearest batch behind it that can be read.
    pub fn batches(&self, partition: PartitionId, visitor: &mut dyn Visitor) {
        let mut rows = self.rows(keys::LOG, &keys::batch(partition, 0), end_of(partition));
        let mut last: Option<i64> = None;
        let mut retries = 0;
        rows.seek_to_first();
        loop {
            while let Some((key, batch)) = rows.item() {
                let offset = offset_of(key);
                visitor.batch(offset, batch);
                last = Some(offset);
                rows.next();
            }
            let Err(error) = rows.status() else { return };
            let before = self.resume(partition, last, &mut rows, &mut retries);
            visitor.unreadable(Unreadable {
                after: last,
                before,
                error: error.to_string(),
            });
            if before.is_none() {
                return;
            }
        }
    }

    /// Sets `rows` to the first batch behind the damage that follows `last`: forward along the index to
    /// one that can be read, and back from there to the damage.
    fn resume(
        &self,
        partition: PartitionId,
        last: Option<i64>,
        rows: &mut Rows<'_>,
        retries: &mut usize,
    ) -> Option<i64> {
        let behind = |offset: i64| last.is_none_or(|last| offset > last);
        let mut found = None;
        for row in self.index(partition) {
            let Ok(row) = row else { break };
            if !behind(row.base_offset) {
                continue;
            }
            *retries += 1;
            if *retries > DOCTOR_RETRIES_PER_PARTITION {
                return None;
            }
            rows.seek(keys::batch(partition, row.base_offset));
            if let Some(key) = rows.key() {
                found = Some(offset_of(key));
                break;
            }
        }
        let mut found = match found {
            Some(found) => found,
            None => {
                // Damage behind the last index row: the last batch may be whole.
                rows.seek_to_last();
                rows.key().map(offset_of).filter(|o| behind(*o))?
            }
        };
        loop {
            rows.prev();
            match rows.key().map(offset_of) {
                Some(offset) if behind(offset) => found = offset,
                _ => break,
            }
        }
        rows.seek(keys::batch(partition, found));
        rows.key().map(offset_of)
    }
}

/// An iterator over a partition's index rows. An error of reading is its end.
pub struct IndexRows<'a> {
    rows: Rows<'a>,
    ended: bool,
}

impl Iterator for IndexRows<'_> {
    type Item = Result<IndexRow, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let Some((key, value)) = self.rows.item() else {
            self.ended = true;
            return self.rows.status().err().map(|e| Err(e.to_string()));
        };
        let row = index_row(key, value).map_err(|e| e.to_string());
        self.rows.next();
        Some(row)
    }
}

fn walk(rows: &mut Rows<'_>, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), String> {
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        visit(key, value);
        rows.next();
    }
    rows.status().map_err(|e| e.to_string())
}

/// The offset that a key of the `log` column family says; -1 where the key is none.
fn offset_of(key: &[u8]) -> i64 {
    keys::batch_offset(key).map_or(-1, |(_, offset)| offset)
}

/// Above every key of a partition, also above those with offsets that cannot be.
fn end_of(partition: PartitionId) -> Option<Vec<u8>> {
    let mut end = keys::batch(partition, -1).to_vec();
    end.push(0);
    Some(end)
}

fn open(path: &Path, later: bool, skipping: bool) -> Result<Db, rocksdb::Error> {
    let options = StoreOptions::new(MemoryShares::of(DOCTOR_MEMORY_BYTES));
    let mut database = options::database(&options);
    database.create_if_missing(false);
    database.create_missing_column_families(false);
    database.set_open_files_async(later)?;
    if skipping {
        database.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
        database.set_track_and_verify_wals(false);
    }
    let families = options::column_families(&options, false);
    Db::open_cf_descriptors_read_only(&database, path, families, false)
}

#[cfg(test)]
mod tests;
