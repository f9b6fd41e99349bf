//! The real store: RocksDB behind [`Store`].

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use ottla_proto::ids::{GroupId, PartitionId};
use rocksdb::{
    BoundColumnFamily, DBWithThreadMode, Direction, FlushOptions, IteratorMode, MultiThreaded,
    ReadOptions,
};

use crate::batch::batch_span;
use crate::health::{Health, Trouble};
use crate::keys::{self, StateKey, Tag};
use crate::listener::Listener;
use crate::open::{self, Opened};
use crate::options::StoreOptions;
use crate::reclaim::{self, Freed, Reclaimer};
use crate::space::Monitor;
use crate::store::{IndexRow, Store, StoreError, Write};
use crate::verify::find_damaged;
use crate::writer::Writer;

type KeyValue = (Box<[u8]>, Box<[u8]>);

pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

pub(crate) struct Database {
    pub(crate) inner: Db,
}

pub(crate) fn family<'a>(db: &'a Db, name: &str) -> Arc<BoundColumnFamily<'a>> {
    db.cf_handle(name)
        .expect("every column family was opened with the database")
}

/// A row of the node that is a number, 0 where there is none.
pub(crate) fn number(db: &Db, tag: Tag) -> Result<u64, rocksdb::Error> {
    let row = db.get_cf(&family(db, keys::STATE), StateKey::node(tag).encode())?;
    let number = row.and_then(|row| Some(u64::from_be_bytes(row.try_into().ok()?)));
    Ok(number.unwrap_or(0))
}

impl Database {
    fn family(&self, name: &str) -> Arc<BoundColumnFamily<'_>> {
        family(&self.inner, name)
    }
    pub(crate) fn raft(&self) -> Arc<BoundColumnFamily<'_>> {
        self.family(keys::RAFT)
    }
    pub(crate) fn log(&self) -> Arc<BoundColumnFamily<'_>> {
        self.family(keys::LOG)
    }
    pub(crate) fn index(&self) -> Arc<BoundColumnFamily<'_>> {
        self.family(keys::INDEX)
    }
    pub(crate) fn state(&self) -> Arc<BoundColumnFamily<'_>> {
        self.family(keys::STATE)
    }

    /// Writes all memtables to files, and waits for that.
    pub(crate) fn flush(&self) -> Result<(), rocksdb::Error> {
        let families = keys::ALL.map(|name| self.family(name));
        let families: Vec<_> = families.iter().collect();
        self.inner
            .flush_cfs_opt(&families, &FlushOptions::default())
    }
}

/// RocksDB with its writer thread, and one that gives disk space back. Dropping it waits until all
/// submitted writes are on disk.
pub struct RocksStore {
    db: Arc<Database>,
    health: Arc<Health>,
    queue: Option<Sender<Write>>,
    freed: Arc<Freed>,
    #[cfg(test)]
    failed_compactions: Arc<AtomicU64>,
    /// Ends the space monitor when it is dropped.
    monitoring: Option<Sender<()>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Who looks for the place of damage.
    looking: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
    losses: u64,
    accepts_loss: bool,
}

/// Sizes for metrics and DescribeLogDirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreStats {
    pub disk_bytes: u64,
    pub memtable_bytes: u64,
    pub block_cache_bytes: u64,
}

impl RocksStore {
    /// Opens or creates the database in `path`. The folder must be on a local file system.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<RocksStore, StoreError> {
        let health = Arc::new(Health::new(path));
        let damaged_compactions = Arc::new(AtomicU64::new(0));
        let failed_compactions = Arc::new(AtomicU64::new(0));
        let Opened {
            db,
            durable,
            syncs,
            losses,
        } = open::open(path, options, |database| {
            database.add_event_listener(Listener {
                health: health.clone(),
                damaged_compactions: damaged_compactions.clone(),
                failed_compactions: failed_compactions.clone(),
            });
        })?;
        let (db, durable) = (Arc::new(Database { inner: db }), Arc::new(durable));
        let freed = Arc::new(Freed::new(reclaim::left_by_last_run(&db)?));
        let writer = Writer::new(
            db.clone(),
            health.clone(),
            durable.clone(),
            syncs,
            freed.clone(),
        );
        let monitor = Monitor {
            path: path.to_owned(),
            db: db.clone(),
            health: health.clone(),
            durable,
            reserve_bytes: options.disk_reserve_bytes,
            log_ahead_bytes: options.log_ahead_bytes(),
            damaged_compactions,
        };
        let reclaimer = Reclaimer {
            db: db.clone(),
            health: health.clone(),
            freed: freed.clone(),
            failed_compactions: failed_compactions.clone(),
        };
        let (queue, writes) = channel();
        let (monitoring, stop) = channel();
        let threads = [
            spawn("log-writer", move || writer.run(writes))?,
            spawn("log-space", move || monitor.run(stop))?,
            spawn("log-reclaim", move || reclaimer.run())?,
        ];
        Ok(RocksStore {
            db,
            health,
            queue: Some(queue),
            freed,
            #[cfg(test)]
            failed_compactions,
            monitoring: Some(monitoring),
            threads: Mutex::new(threads.into()),
            looking: Mutex::default(),
            path: path.to_owned(),
            losses,
            accepts_loss: options.accept_loss,
        })
    }

    /// Writes that wait for space on a full disk fail from now on, so that the process can end.
    pub fn stop_waiting(&self) {
        self.health.stop_waiting();
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn stats(&self) -> StoreStats {
        let sum = |property: &str| -> u64 {
            [keys::RAFT, keys::LOG, keys::INDEX, keys::STATE]
                .iter()
                .filter_map(|name| {
                    let family = self.db.family(name);
                    self.db
                        .inner
                        .property_int_value_cf(&family, property)
                        .ok()
                        .flatten()
                })
                .sum()
        };
        let cache = self
            .db
            .inner
            .property_int_value_cf(&self.db.log(), "rocksdb.block-cache-usage");
        StoreStats {
            disk_bytes: sum("rocksdb.total-sst-files-size") + sum("rocksdb.total-blob-file-size"),
            memtable_bytes: sum("rocksdb.size-all-mem-tables"),
            block_cache_bytes: cache.ok().flatten().unwrap_or(0),
        }
    }

    /// Looks for the file and the byte of a damaged batch, off the caller's way, one at a time.
    fn tell_place(&self, partition: PartitionId, offset: i64) {
        let mut looking = self.looking.lock().expect("never poisoned");
        if looking.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let path = self.path.clone();
        let look = move || {
            if let Some(found) = find_damaged(&path, partition, offset) {
                let file = path.join(found.file);
                tracing::error!(%partition, offset, file = %file.display(), byte = found.byte, "the damaged batch is there");
            }
        };
        // Without a thread for it, `ottla doctor` tells the place.
        *looking = spawn("log-damage", look).ok();
    }

    /// An error of a read: damage, or a disk that does not give back what it holds.
    fn unreadable(&self, error: rocksdb::Error) -> StoreError {
        self.health.note_damage(error.as_ref());
        io(error)
    }

    fn scan<'a>(
        &'a self,
        family: &Arc<BoundColumnFamily<'a>>,
        from: &[u8],
        to: Vec<u8>,
    ) -> impl Iterator<Item = Result<KeyValue, StoreError>> + 'a {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mode = IteratorMode::From(from, Direction::Forward);
        self.db
            .inner
            .iterator_cf_opt(family, options, mode)
            .map(|item| item.map_err(|e| self.unreadable(e)))
    }

    /// The last row of `family` at or below `key` that shares its first 8 bytes.
    fn at_or_below<'a>(
        &'a self,
        family: &Arc<BoundColumnFamily<'a>>,
        key: &[u8],
    ) -> Result<Option<Box<[u8]>>, StoreError> {
        let mut options = ReadOptions::default();
        let mut lower = key[..8].to_vec();
        lower.extend_from_slice(&[0; 8]);
        options.set_iterate_lower_bound(lower);
        let mut rows = self.db.inner.raw_iterator_cf_opt(family, options);
        rows.seek_for_prev(key);
        rows.status().map_err(|e| self.unreadable(e))?;
        Ok(rows.key().map(Box::from))
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.health.stop_waiting();
        self.queue = None;
        self.freed.close();
        // A pass under way would be waited for: it goes on after the next start.
        self.db.inner.disable_manual_compaction();
        self.monitoring = None;
        for thread in self.threads.get_mut().into_iter().flat_map(|t| t.drain(..)) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|e| StoreError::Io(e.to_string().into()))
}

/// An error of a read. A checksum that does not fit is damage; what it is of, RocksDB says: mostly
/// the file and the offset in it.
pub(crate) fn io(error: rocksdb::Error) -> StoreError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => damaged("the database", error),
        _ => StoreError::Io(error.to_string().into()),
    }
}

fn damaged(what: &str, detail: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged {
        what: what.to_owned(),
        detail: detail.to_string(),
    }
}

pub(crate) fn index_row(key: &[u8], value: &[u8]) -> Result<IndexRow, StoreError> {
    let bad = || {
        damaged(
            "an index row",
            format!("key {key:02x?}, {} bytes", value.len()),
        )
    };
    let (_, base_offset) = keys::batch_offset(key).ok_or_else(bad)?;
    let (fields, rest) = value.as_chunks::<8>();
    let (max_timestamp, position, interval) = match (fields, rest) {
        // Rows of earlier builds do not tell it.
        ([max_timestamp, position], []) => (max_timestamp, position, max_timestamp),
        ([max_timestamp, position, interval], []) => (max_timestamp, position, interval),
        _ => return Err(bad()),
    };
    Ok(IndexRow {
        base_offset,
        max_timestamp_ms: i64::from_be_bytes(*max_timestamp),
        interval_timestamp_ms: i64::from_be_bytes(*interval),
        position_bytes: u64::from_be_bytes(*position),
    })
}

impl Store for RocksStore {
    fn submit(&self, write: Write) {
        let Some(queue) = &self.queue else {
            return (write.done)(Err(StoreError::Closed));
        };
        if let Err(refused) = queue.send(write) {
            (refused.0.done)(Err(StoreError::Closed));
        }
    }

    fn admit(&self, bytes: usize) -> Result<(), StoreError> {
        self.health.admit(bytes)
    }

    fn admit_small(&self) -> Result<(), StoreError> {
        self.health.admit_small()
    }

    fn trouble(&self) -> Option<Trouble> {
        self.health.trouble()
    }

    fn losses(&self) -> u64 {
        self.losses
    }

    fn accepts_loss(&self) -> bool {
        self.accepts_loss
    }

    fn raft_rows(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        let family = self.db.raft();
        for item in self.scan(
            &family,
            &keys::raft(group, from),
            keys::raft(group, to).to_vec(),
        ) {
            let (key, row) = item?;
            let (_, index) = keys::raft_index(&key)
                .ok_or_else(|| damaged("a raft key", format!("{key:02x?}")))?;
            if !rows.is_empty() && bytes + row.len() > max_bytes {
                break;
            }
            bytes += row.len();
            rows.push((index, Bytes::from(row)));
        }
        Ok(rows)
    }

    fn last_raft_row(&self, group: GroupId) -> Result<Option<(u64, Bytes)>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::raft(group, 0).to_vec());
        let mut rows = self.db.inner.raw_iterator_cf_opt(&self.db.raft(), options);
        rows.seek_for_prev(keys::raft(group, u64::MAX));
        rows.status().map_err(|e| self.unreadable(e))?;
        let Some((key, row)) = rows.item() else {
            return Ok(None);
        };
        let (_, index) =
            keys::raft_index(key).ok_or_else(|| damaged("a raft key", format!("{key:02x?}")))?;
        Ok(Some((index, Bytes::copy_from_slice(row))))
    }

    fn batches(
        &self,
        partition: PartitionId,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::batch(partition, 0).to_vec());
        options.set_iterate_upper_bound(keys::batch(partition, end_offset).to_vec());
        let mut rows = self.db.inner.raw_iterator_cf_opt(&self.db.log(), options);
        let check = |rows: &rocksdb::DBRawIteratorWithThreadMode<'_, _>, from: i64| {
            rows.status().map_err(|error| {
                let what = format!("partition {partition}, from offset {from}: {error}");
                let names_file = [".sst", ".blob"].iter().any(|e| what.contains(e));
                if self.health.note_damage(&what) && !names_file {
                    self.tell_place(partition, from);
                }
                match io(error) {
                    StoreError::Io(_) => StoreError::Io(what.into()),
                    _ => damaged("a batch", what),
                }
            })
        };
        rows.seek_for_prev(keys::batch(partition, offset));
        // Not valid because of an error is not the same as nothing there: the damaged batch would
        // be passed over.
        check(&rows, offset)?;
        if !rows.valid() {
            rows.seek(keys::batch(partition, offset));
        }
        let mut next = offset;
        let mut found = Vec::new();
        let mut bytes = 0;
        while let Some((key, batch)) = rows.item() {
            let at = || format!("the batch of {partition} at key {key:02x?}");
            let span = batch_span(batch).ok_or_else(|| damaged(&at(), "too short"))?;
            if keys::batch_offset(key) != Some((partition, span.0)) {
                return Err(damaged(&at(), format!("its header says offset {}", span.0)));
            }
            if span.1 >= offset {
                if !found.is_empty() && bytes + batch.len() > max_bytes {
                    break;
                }
                bytes += batch.len();
                next = span.1 + 1;
                found.push(Bytes::copy_from_slice(batch));
                if bytes >= max_bytes {
                    break;
                }
            }
            rows.next();
        }
        match check(&rows, next) {
            // What is whole before the damage is served; the next read begins at the damage.
            Err(_) if !found.is_empty() => Ok(found),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    fn index_at(
        &self,
        partition: PartitionId,
        offset: i64,
    ) -> Result<Option<IndexRow>, StoreError> {
        let family = self.db.index();
        let Some(key) = self.at_or_below(&family, &keys::batch(partition, offset))? else {
            return Ok(None);
        };
        let value = self
            .db
            .inner
            .get_pinned_cf(&family, &key)
            .map_err(|e| self.unreadable(e))?;
        value.map(|v| index_row(&key, &v)).transpose()
    }

    fn index_rows(
        &self,
        partition: PartitionId,
        from: i64,
        max_rows: usize,
    ) -> Result<Vec<IndexRow>, StoreError> {
        let family = self.db.index();
        let to = keys::batch(partition, i64::MAX).to_vec();
        let rows = self
            .scan(&family, &keys::batch(partition, from), to)
            .take(max_rows);
        rows.map(|item| item.and_then(|(key, value)| index_row(&key, &value)))
            .collect()
    }

    fn state(&self, key: StateKey) -> Result<Option<Bytes>, StoreError> {
        let value = self
            .db
            .inner
            .get_cf(&self.db.state(), key.encode())
            .map_err(|e| self.unreadable(e))?;
        Ok(value.map(Bytes::from))
    }

    fn states(&self, tag: Tag, group: GroupId) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let from = StateKey { tag, group, id: 0 }.encode();
        let mut to = StateKey {
            tag,
            group,
            id: u64::MAX,
        }
        .encode()
        .to_vec();
        to.push(0);
        let family = self.db.state();
        self.scan(&family, &from, to)
            .map(|item| {
                let (key, value) = item?;
                let key = StateKey::decode(&key)
                    .ok_or_else(|| damaged("a state key", format!("{key:02x?}")))?;
                Ok((key.id, Bytes::from(value)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
