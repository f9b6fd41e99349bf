//! The one writer thread. Hot path: every acknowledged byte goes through here once.
//!
//! It takes all writes that queued while the last sync ran and syncs once for them. Under load what is
//! synced together grows by itself; there is no timer. Within one sync, RocksDB is given a chunk at a
//! time that fits the processor's cache, because it copies each chunk three times (batch, WAL,
//! memtable); the batch's buffer is used again, so that it neither grows nor faults in anew.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use ottla_proto::limits::{SYNC_BYTES, WRITE_BATCH_BYTES};
use rocksdb::{BoundColumnFamily, WriteBatch, WriteOptions};

use crate::durable::Durable;
use crate::health::Health;
use crate::keys::{self, StateKey, Tag};
use crate::listener::{is_no_space, kind};
use crate::reclaim::Freed;
use crate::rocks::Database;
use crate::store::{Done, Op, StoreError, Write};

pub(crate) struct Writer {
    db: Arc<Database>,
    health: Arc<Health>,
    durable: Arc<Durable>,
    /// Syncs so far; each writes its number.
    syncs: u64,
    batch: WriteBatch,
    freed: Arc<Freed>,
}

impl Writer {
    pub(crate) fn new(
        db: Arc<Database>,
        health: Arc<Health>,
        durable: Arc<Durable>,
        syncs: u64,
        freed: Arc<Freed>,
    ) -> Writer {
        Writer {
            db,
            health,
            durable,
            syncs,
            batch: WriteBatch::default(),
            freed,
        }
    }

    /// Writes until the store is dropped.
    pub(crate) fn run(mut self, queue: Receiver<Write>) {
        let mut waiting: Vec<Done> = Vec::new();
        while let Ok(first) = queue.recv() {
            let result = self.write_queued(first, &queue, &mut waiting);
            waiting.drain(..).for_each(|done| done(result.clone()));
        }
        // What was given back since the last write need not be given back again.
        self.put_freed(0);
        let _ = self.commit(false);
    }

    /// Adds the row that says how many deleted bytes are not given back, if it changes.
    fn put_freed(&mut self, freed_bytes: u64) {
        if let Some(bytes) = self.freed.to_write(freed_bytes) {
            let key = StateKey::node(Tag::Freed).encode();
            self.batch
                .put_cf(&self.db.state(), key, bytes.to_be_bytes());
        }
    }

    /// Writes `first` and what is queued behind it, and syncs if any of them asks for it.
    fn write_queued(
        &mut self,
        first: Write,
        queue: &Receiver<Write>,
        waiting: &mut Vec<Done>,
    ) -> Result<(), StoreError> {
        let (mut bytes, mut chunk, mut sync) = (0, 0, false);
        let mut freed = 0;
        let mut next = Some(first);
        // After an error the writes already taken fail with it; none is skipped over.
        let mut result = Ok(());
        while let Some(write) = next {
            sync |= write.sync;
            for op in &write.ops {
                chunk += op.size_bytes();
                freed += op.freed_bytes();
                add(&self.db, &mut self.batch, op);
            }
            waiting.push(write.done);
            next = if bytes + chunk < SYNC_BYTES {
                queue.try_recv().ok()
            } else {
                None
            };
            if next.is_some() && chunk >= WRITE_BATCH_BYTES {
                result = result.and_then(|()| self.commit(false));
                bytes += std::mem::take(&mut chunk);
            }
        }
        bytes += chunk;
        if sync {
            let number = (self.syncs + 1).to_be_bytes();
            let key = StateKey::node(Tag::Synced).encode();
            self.batch.put_cf(&self.db.state(), key, number);
        }
        self.put_freed(freed);
        result = result.and_then(|()| self.commit(sync));
        if sync && result.is_ok() {
            result = self.note_sync();
        }
        self.freed.add(freed);
        // What follows a failed write is not written with the next one.
        self.batch.clear();
        metrics::counter!("ottla_log_write_bytes_total").increment(bytes as u64);
        metrics::counter!("ottla_log_flush_total").increment(sync as u64);
        result
    }

    /// Writes the batch. A sync covers every write before it, too.
    ///
    /// On a full disk it waits for space and tries again: the failed write is not in the memtable, and
    /// RocksDB goes on in a new log after it has flushed all that is. Any other error is final.
    fn commit(&mut self, sync: bool) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let result = loop {
            if let Some(failure) = self.health.failure() {
                break Err(failure);
            }
            let began = Instant::now();
            match self.db.inner.write_opt(&self.batch, &options) {
                Ok(()) => {
                    if sync {
                        let micros = began.elapsed().as_micros() as u64;
                        metrics::counter!("ottla_log_flush_micros_total").increment(micros);
                    }
                    break Ok(());
                }
                Err(error) if is_no_space(error.as_ref()) => {
                    self.health.ran_out_of_space(error.as_ref());
                    if let Err(gave_up) = self.health.wait_for_space() {
                        break Err(gave_up);
                    }
                }
                Err(error) => break Err(self.health.fail(kind(error.as_ref()), error.as_ref())),
            }
        };
        match self.batch.size_in_bytes() > 4 * WRITE_BATCH_BYTES {
            true => self.batch = WriteBatch::default(),
            false => self.batch.clear(),
        }
        result
    }

    /// Notes outside the database that it is synced this far.
    fn note_sync(&mut self) -> Result<(), StoreError> {
        self.syncs += 1;
        let syncs = self.syncs;
        match self.durable.set(|mark| mark.syncs = syncs) {
            // The next one tells as much, once there is space.
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(self.health.fail("write", &error.to_string())),
            Ok(()) => Ok(()),
        }
    }
}

/// An empty range is left out: RocksDB gives it no sequence number when it is written, but counts one when it replays
/// its log for a family that is flushed already, and then refuses the next log.
fn delete_range(
    batch: &mut WriteBatch,
    family: &Arc<BoundColumnFamily<'_>>,
    from: &[u8],
    to: &[u8],
) {
    if from < to {
        batch.delete_range_cf(family, from, to);
    }
}

/// The only way into a `WriteBatch`. The two puts that copy payload take it in its parts, so that a
/// batch is copied once here (into the WAL's buffer form) and once by RocksDB into the memtable.
fn add(db: &Database, batch: &mut WriteBatch, op: &Op) {
    match op {
        Op::PutRaft { group, index, row } => {
            batch.put_cf(&db.raft(), keys::raft(*group, *index), row);
        }
        Op::DeleteRaft { group, from, to } => {
            let (from, to) = (keys::raft(*group, *from), keys::raft(*group, *to));
            delete_range(batch, &db.raft(), &from, &to);
        }
        Op::PutBatch {
            partition,
            base_offset,
            head,
            body,
        } => {
            let key = keys::batch(*partition, *base_offset);
            batch
                .put_cf_vectored(
                    &db.log(),
                    &[IoSlice::new(&key)],
                    &[IoSlice::new(head), IoSlice::new(body)],
                )
                .expect("a batch is far below RocksDB's 4 GiB value limit");
        }
        Op::PutIndex { partition, row } => {
            let mut value = [0; 24];
            value[..8].copy_from_slice(&row.max_timestamp_ms.to_be_bytes());
            value[8..16].copy_from_slice(&row.position_bytes.to_be_bytes());
            value[16..].copy_from_slice(&row.interval_timestamp_ms.to_be_bytes());
            batch.put_cf(&db.index(), keys::batch(*partition, row.base_offset), value);
        }
        Op::DeleteBatches {
            partition,
            from,
            to,
            ..
        } => {
            let (from, to) = (keys::batch(*partition, *from), keys::batch(*partition, *to));
            delete_range(batch, &db.log(), &from, &to);
            delete_range(batch, &db.index(), &from, &to);
        }
        Op::ReplaceBatch {
            partition,
            base_offset,
            batch: replacement,
            ..
        } => batch.put_cf(
            &db.log(),
            keys::batch(*partition, *base_offset),
            replacement,
        ),
        Op::DeleteBatch {
            partition,
            base_offset,
            ..
        } => batch.delete_cf(&db.log(), keys::batch(*partition, *base_offset)),
        Op::DeleteIndex {
            partition,
            base_offset,
        } => batch.delete_cf(&db.index(), keys::batch(*partition, *base_offset)),
        Op::PutState { key, value } => batch.put_cf(&db.state(), key.encode(), value),
        Op::DeleteState { key } => batch.delete_cf(&db.state(), key.encode()),
    }
}
