//! A shard from its partition's log: every record from the log start offset to the high watermark,
//! replayed in order.

use std::sync::Arc;

use bytes::Bytes;
use ottla_coordinator::{GroupConfig, Shard};
use ottla_log::StoreError;
use ottla_proto::limits::{DECOMPRESSED_BATCH_BYTES, FETCH_READ_BYTES};
use ottla_raft::off_reactor;
use ottla_wire::batch::{self, BatchError, BatchHeader, ControlType};
use tokio::sync::Semaphore;

use crate::topics::Replica;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("reading at offset {0}: {1}")]
    Read(i64, StoreError),
    #[error("the batch at offset {0}: {1}")]
    Batch(i64, BatchError),
}

/// What a load went through.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub records: u64,
    /// Records that nobody can read. They are passed over: no later load could read them either.
    pub unreadable: u64,
}

/// Reads and replays all that is committed. `permits` bounds how many partitions load at a time,
/// and so the memory it takes.
pub async fn load(
    replica: Replica,
    config: GroupConfig,
    clock: ottla_raft::Clock,
    permits: Arc<Semaphore>,
) -> Result<(Shard, Loaded), LoadError> {
    let mut shard = Shard::new(config);
    let mut loaded = Loaded::default();
    let bounds = replica.partition.bounds();
    let (mut next, end) = (bounds.log_start_offset, bounds.high_watermark);
    if next < end {
        let _permit = permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        while next < end {
            let read = replica.read_cold(next, end, FETCH_READ_BYTES).await;
            let read = read.map_err(|e| LoadError::Read(next, e))?;
            let (start, now_ms) = (bounds.log_start_offset, clock());
            // Decompressing and replaying takes a while: off the reactor.
            let work = move || {
                let replayed = replay_all(&mut shard, &mut loaded, read, start, now_ms);
                (shard, loaded, replayed)
            };
            let replayed;
            (shard, loaded, replayed) = off_reactor(move || Ok(work()))
                .await
                .expect("replaying does not panic");
            let after = replayed.map_err(|e| LoadError::Batch(next, e))?;
            // Nothing there: compaction may have left a hole up to the end.
            next = after.unwrap_or(end);
        }
    }
    shard.loaded(clock());
    Ok((shard, loaded))
}

/// Replays batches as they were read; the offset after them.
fn replay_all(
    shard: &mut Shard,
    loaded: &mut Loaded,
    segments: Vec<Bytes>,
    log_start_offset: i64,
    now_ms: i64,
) -> Result<Option<i64>, BatchError> {
    let mut next = None;
    for batch in batch::split(segments.concat().into())? {
        next = Some(replay(shard, loaded, &batch, log_start_offset, now_ms)?);
    }
    Ok(next)
}

/// Replays one batch; the offset after it.
fn replay(
    shard: &mut Shard,
    loaded: &mut Loaded,
    batch: &Bytes,
    log_start_offset: i64,
    now_ms: i64,
) -> Result<i64, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let records = batch::records(batch, DECOMPRESSED_BATCH_BYTES)?;
    for record in &records {
        let record = record?;
        if record.offset < log_start_offset {
            continue;
        }
        if header.is_control() {
            let committed = match batch::control_type(&record)? {
                ControlType::Commit => true,
                ControlType::Abort => false,
                ControlType::Other(_) => continue,
            };
            shard.end_transaction(now_ms, header.producer_id, committed);
            continue;
        }
        let key = record.key.unwrap_or_default();
        let replayed = if header.is_transactional() {
            shard.replay_transactional(now_ms, header.producer_id, key, record.value)
        } else {
            shard.replay(now_ms, key, record.value)
        };
        loaded.records += 1;
        if let Err(error) = replayed {
            loaded.unreadable += 1;
            tracing::warn!(offset = record.offset, %error, "a group record cannot be read");
        }
    }
    Ok(header.last_offset() + 1)
}

#[cfg(test)]
mod tests {
    use ottla_coordinator::{Command, CommitOffsets, CommitPartition, CommitTopic, Record};
    use ottla_wire::batch::{BatchBuilder, end_txn_marker};
    use ottla_wire::compress::Codec;

    use super::*;

    fn commit(group: &str, offset: i64) -> Vec<Record> {
        let partition = CommitPartition {
            partition: 3,
            offset,
            leader_epoch: 1,
            metadata: "m".into(),
        };
        let command = Command::CommitOffsets(CommitOffsets {
            group_id: group.into(),
            generation_id: -1,
            member_id: String::new(),
            group_instance_id: None,
            producer: None,
            retention_time_ms: None,
            topics: vec![CommitTopic {
                name: "orders".into(),
                partitions: vec![partition],
            }],
        });
        Shard::new(GroupConfig::default())
            .handle(1, 1, command)
            .records
    }

    fn batch(base_offset: i64, records: &[Record], change: fn(&mut BatchBuilder)) -> Bytes {
        let mut builder = BatchBuilder::new();
        builder.base_offset(base_offset);
        change(&mut builder);
        for record in records {
            builder.append(Some(&record.key), record.value.as_deref(), 1);
        }
        builder.build()
    }

    fn replayed(batches: &[Bytes], log_start_offset: i64) -> (Vec<Record>, Loaded, i64) {
        let mut shard = Shard::new(GroupConfig::default());
        let (mut loaded, mut next) = (Loaded::default(), 0);
        for batch in batches {
            next = replay(&mut shard, &mut loaded, batch, log_start_offset, 1).expect("replays");
        }
        (shard.snapshot(), loaded, next)
    }

    #[test]
    fn compressed_and_plain_batches_replay_in_order() {
        let (old, new, other) = (commit("a", 10), commit("a", 11), commit("b", 5));
        let first = batch(0, &[old[0].clone(), other[0].clone()], |b| {
            b.codec(Codec::Zstd);
        });
        let second = batch(2, &new, |_| ());
        let (state, loaded, next) = replayed(&[first, second], 0);
        assert_eq!(state, [new[0].clone(), other[0].clone()]);
        assert_eq!((loaded.records, loaded.unreadable, next), (3, 0, 3));
    }

    #[test]
    fn records_before_the_log_start_offset_do_not_count() {
        let records = [commit("a", 10), commit("b", 5)].concat();
        let (state, loaded, next) = replayed(&[batch(0, &records, |_| ())], 1);
        assert_eq!(state, [records[1].clone()]);
        assert_eq!((loaded.records, next), (1, 2));
    }

    #[test]
    fn a_transaction_counts_once_it_is_committed() {
        let transactional = |b: &mut BatchBuilder| {
            b.producer(7, 0, 0).transactional();
        };
        let open = batch(0, &commit("a", 10), transactional);
        let commit_marker = end_txn_marker(7, 0, 0, true, 1);
        let abort_marker = end_txn_marker(7, 0, 0, false, 1);
        assert_eq!(replayed(std::slice::from_ref(&open), 0).0, []);
        assert_eq!(replayed(&[open.clone(), abort_marker], 0).0, []);
        let committed = replayed(&[open, commit_marker], 0).0;
        assert_eq!(committed, commit("a", 10));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_passed_over() {
        let mut records = commit("a", 10);
        let bad = Record {
            key: Bytes::from_static(&[0, 1, 0]),
            value: None,
        };
        records.insert(0, bad);
        let (state, loaded, _) = replayed(&[batch(0, &records, |_| ())], 0);
        assert_eq!(state, [records[1].clone()]);
        assert_eq!((loaded.records, loaded.unreadable), (2, 1));
    }
}
