//! The one writer thread. Hot path: every acknowledged byte goes through here once.
//!
//! It takes all writes that queued while the last sync ran, puts them into one `WriteBatch`, syncs
//! once, and completes them in order. Under load the batch grows by itself; there is no timer.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use ottla_proto::limits::WRITE_BATCH_BYTES;
use rocksdb::{WriteBatch, WriteOptions};

use crate::keys;
use crate::rocks::Database;
use crate::store::{Done, Op, StoreError, Write};

pub(crate) fn run(db: Arc<Database>, queue: Receiver<Write>) {
    let mut waiting: Vec<Done> = Vec::new();
    let mut next = queue.recv().ok();
    while let Some(first) = next.take() {
        let mut batch = WriteBatch::default();
        let mut bytes = 0;
        let mut sync = false;
        let mut write = Some(first);
        while let Some(current) = write {
            sync |= current.sync;
            for op in &current.ops {
                bytes += op.size_bytes();
                add(&db, &mut batch, op);
            }
            waiting.push(current.done);
            if bytes >= WRITE_BATCH_BYTES {
                break;
            }
            write = queue.try_recv().ok();
        }
        let result = commit(&db, &batch, sync);
        metrics::counter!("ottla_log_write_bytes_total").increment(bytes as u64);
        metrics::counter!("ottla_log_flush_total").increment(sync as u64);
        if let Err(error) = &result {
            tracing::error!(%error, "a write failed; nothing in it is acknowledged");
        }
        waiting.drain(..).for_each(|done| done(result.clone()));
        next = queue.recv().ok();
    }
}

fn commit(db: &Database, batch: &WriteBatch, sync: bool) -> Result<(), StoreError> {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    db.inner
        .write_opt(batch, &options)
        .map_err(|e| StoreError::Io(e.to_string().into()))
}

/// The only way into a `WriteBatch`. The two puts that copy payload take it in its parts, so that a
/// batch is copied once here (into the WAL's buffer form) and once by RocksDB into the memtable.
fn add(db: &Database, batch: &mut WriteBatch, op: &Op) {
    match op {
        Op::PutRaft { group, index, row } => {
            batch.put_cf(&db.raft(), keys::raft(*group, *index), row);
        }
        Op::DeleteRaft { group, from, to } => {
            batch.delete_range_cf(
                &db.raft(),
                keys::raft(*group, *from),
                keys::raft(*group, *to),
            );
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
            let mut value = [0; 16];
            value[..8].copy_from_slice(&row.max_timestamp_ms.to_be_bytes());
            value[8..].copy_from_slice(&row.position_bytes.to_be_bytes());
            batch.put_cf(&db.index(), keys::batch(*partition, row.base_offset), value);
        }
        Op::DeleteBatches {
            partition,
            from,
            to,
        } => {
            let (from, to) = (keys::batch(*partition, *from), keys::batch(*partition, *to));
            batch.delete_range_cf(&db.log(), from, to);
            batch.delete_range_cf(&db.index(), from, to);
        }
        Op::PutState { key, value } => batch.put_cf(&db.state(), key.encode(), value),
        Op::DeleteState { key } => batch.delete_cf(&db.state(), key.encode()),
    }
}
