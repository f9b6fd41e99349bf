//! The rows a group keeps: one per log entry, one per partition and one for the group at each
//! checkpoint, and its vote. An entry's row holds its decisions, never record data.

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use ottla_log::StoreError;
use ottla_proto::ids::PartitionId;

use crate::codec::{RowReader, RowWriter};
use crate::command::{BatchMeta, Command, GroupEntry, Outcome, Payload, ProducerMeta};
use crate::id_set::IdSet;
use crate::maxima::{Maxima, Maximum};
use crate::producers::{ProducerState, RememberedBatch};
use crate::state::{EpochStart, PartitionState};
use crate::types::{self, Entry, EntryPayload, LogId, Membership, StoredMembership, Vote};

const VERSION: u8 = 1;
type Result<T> = std::result::Result<T, StoreError>;

/// Encodes an entry that this replica has appended.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    match &entry.payload {
        EntryPayload::Blank => header(entry, 0, 0).finish(),
        EntryPayload::Membership(membership) => {
            let mut row = header(entry, 2, 64);
            put_membership(&mut row, membership);
            row.finish()
        }
        EntryPayload::Normal(payload) => {
            let group_entry = &payload.0;
            let mut row = header(entry, 1, 20 + group_entry.commands.len() * 64);
            row.i64(group_entry.time_ms)
                .i64(group_entry.producer_expiration_ms);
            row.u32(group_entry.commands.len() as u32);
            for (command, outcome) in group_entry.commands.iter().zip(group_entry.outcomes()) {
                put_command(&mut row, command);
                put_outcome(&mut row, outcome);
            }
            row.finish()
        }
    }
}

fn header(entry: &Entry, kind: u8, capacity: usize) -> RowWriter {
    let mut row = RowWriter::new(VERSION, 9 + capacity);
    row.u64(entry.log_id.leader_id.term).u8(kind);
    row
}

/// Decodes a row. Bodies of appends are empty: the record data stands in the `log` rows.
pub(crate) fn decode_entry(index: u64, row: &[u8]) -> Result<Entry> {
    let mut row = RowReader::new("a raft row", VERSION, row)?;
    let log_id = types::log_id(row.u64()?, index);
    let payload = match row.u8()? {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Normal(Payload(decode_group_entry(&mut row)?.into())),
        2 => EntryPayload::Membership(get_membership(&mut row)?),
        kind => return Err(row.damaged(&format!("kind {kind} is not known"))),
    };
    row.end()?;
    Ok(Entry { log_id, payload })
}

/// Only the log id of a row.
pub(crate) fn decode_log_id(index: u64, row: &[u8]) -> Result<LogId> {
    let mut row = RowReader::new("a raft row", VERSION, row)?;
    Ok(types::log_id(row.u64()?, index))
}

fn decode_group_entry(row: &mut RowReader) -> Result<GroupEntry> {
    let (time_ms, producer_expiration_ms) = (row.i64()?, row.i64()?);
    let count = row.count(18)?;
    let mut commands = Vec::with_capacity(count);
    let mut outcomes = Vec::with_capacity(count);
    for _ in 0..count {
        commands.push(get_command(row)?);
        outcomes.push(get_outcome(row)?);
    }
    Ok(GroupEntry::new(time_ms, producer_expiration_ms, commands).decided(outcomes))
}

fn put_command(row: &mut RowWriter, command: &Command) {
    match command {
        Command::Append { meta, .. } => {
            row.u8(0)
                .u64(meta.partition.0)
                .i32(meta.offsets)
                .i64(meta.max_timestamp_ms);
            row.u32(meta.size_bytes).u8(meta.producer.is_some() as u8);
            if let Some(p) = &meta.producer {
                row.i64(p.id)
                    .i16(p.epoch)
                    .i32(p.base_sequence)
                    .i32(p.last_sequence);
            }
        }
        Command::Trim {
            partition,
            log_start_offset,
        } => {
            row.u8(1).u64(partition.0).i64(*log_start_offset);
        }
        Command::Remove { partition } => {
            row.u8(2).u64(partition.0);
        }
        Command::ForgetProducers {
            partition,
            silent_since_ms,
        } => {
            row.u8(3).u64(partition.0).i64(*silent_since_ms);
        }
    }
}

fn get_command(row: &mut RowReader) -> Result<Command> {
    let tag = row.u8()?;
    let partition = PartitionId(row.u64()?);
    match tag {
        0 => {
            let (offsets, max_timestamp_ms, size_bytes) = (row.i32()?, row.i64()?, row.u32()?);
            let producer = match row.u8()? {
                0 => None,
                _ => Some(ProducerMeta {
                    id: row.i64()?,
                    epoch: row.i16()?,
                    base_sequence: row.i32()?,
                    last_sequence: row.i32()?,
                }),
            };
            let meta = BatchMeta {
                partition,
                offsets,
                max_timestamp_ms,
                size_bytes,
                producer,
            };
            Ok(Command::Append {
                meta,
                body: Bytes::new(),
            })
        }
        1 => Ok(Command::Trim {
            partition,
            log_start_offset: row.i64()?,
        }),
        2 => Ok(Command::Remove { partition }),
        3 => Ok(Command::ForgetProducers {
            partition,
            silent_since_ms: row.i64()?,
        }),
        tag => Err(row.damaged(&format!("command {tag} is not known"))),
    }
}

fn put_outcome(row: &mut RowWriter, outcome: &Outcome) {
    let (tag, value) = match *outcome {
        Outcome::Appended { base_offset } => (0, base_offset),
        Outcome::Duplicate { base_offset } => (1, base_offset),
        Outcome::OutOfOrderSequence { expected } => (2, expected as i64),
        Outcome::InvalidProducerEpoch { current } => (3, current as i64),
        Outcome::Trimmed { log_start_offset } => (4, log_start_offset),
        Outcome::OffsetOutOfRange => (5, 0),
        Outcome::Removed => (6, 0),
        Outcome::UnknownPartition => (7, 0),
        Outcome::TooManyProducers => (8, 0),
        Outcome::ProducersForgotten => (9, 0),
    };
    row.u8(tag).i64(value);
}

fn get_outcome(row: &mut RowReader) -> Result<Outcome> {
    let (tag, value) = (row.u8()?, row.i64()?);
    Ok(match tag {
        0 => Outcome::Appended { base_offset: value },
        1 => Outcome::Duplicate { base_offset: value },
        2 => Outcome::OutOfOrderSequence {
            expected: value as i32,
        },
        3 => Outcome::InvalidProducerEpoch {
            current: value as i16,
        },
        4 => Outcome::Trimmed {
            log_start_offset: value,
        },
        5 => Outcome::OffsetOutOfRange,
        6 => Outcome::Removed,
        7 => Outcome::UnknownPartition,
        8 => Outcome::TooManyProducers,
        9 => Outcome::ProducersForgotten,
        tag => return Err(row.damaged(&format!("outcome {tag} is not known"))),
    })
}

fn put_membership(row: &mut RowWriter, membership: &Membership) {
    row.u32(membership.get_joint_config().len() as u32);
    for config in membership.get_joint_config() {
        row.u32(config.len() as u32);
        for id in config {
            row.u64(*id);
        }
    }
    row.u32(membership.nodes().count() as u32);
    for (id, _) in membership.nodes() {
        row.u64(*id);
    }
}

fn get_membership(row: &mut RowReader) -> Result<Membership> {
    let configs = (0..row.count(4)?)
        .map(|_| get_ids(row))
        .collect::<Result<Vec<_>>>()?;
    let nodes = get_ids(row)?;
    types::membership(configs, nodes).ok_or_else(|| row.damaged("a voter is not a member"))
}

fn get_ids(row: &mut RowReader) -> Result<BTreeSet<u64>> {
    (0..row.count(8)?).map(|_| row.u64()).collect()
}

fn put_log_id(row: &mut RowWriter, log_id: Option<&LogId>) {
    let (term, index) = log_id.map_or((0, 0), |id| (id.leader_id.term, id.index));
    row.u8(log_id.is_some() as u8).u64(term).u64(index);
}

fn get_log_id(row: &mut RowReader) -> Result<Option<LogId>> {
    let (present, term, index) = (row.u8()?, row.u64()?, row.u64()?);
    Ok((present != 0).then(|| types::log_id(term, index)))
}

pub(crate) fn encode_log_id(log_id: &LogId) -> Bytes {
    let mut row = RowWriter::new(VERSION, 17);
    put_log_id(&mut row, Some(log_id));
    row.finish()
}

pub(crate) fn decode_purged(row: &[u8]) -> Result<Option<LogId>> {
    get_log_id(&mut RowReader::new("a purge mark", VERSION, row)?)
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut row = RowWriter::new(VERSION, 17);
    let leader = vote.leader_id();
    row.u64(leader.term())
        .u64(*leader.node_id())
        .u8(vote.is_committed() as u8);
    row.finish()
}

pub(crate) fn decode_vote(row: &[u8]) -> Result<Vote> {
    let mut row = RowReader::new("a vote", VERSION, row)?;
    let (term, node, committed) = (row.u64()?, row.u64()?, row.u8()?);
    Ok(if committed != 0 {
        Vote::new_committed(term, node)
    } else {
        Vote::new(term, node)
    })
}

/// A group's checkpoint: what its partitions' rows stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
}

pub(crate) fn encode_checkpoint(checkpoint: &Checkpoint) -> Bytes {
    let mut row = RowWriter::new(VERSION, 128);
    put_log_id(&mut row, checkpoint.applied.as_ref());
    put_log_id(&mut row, checkpoint.membership.log_id().as_ref());
    put_membership(&mut row, checkpoint.membership.membership());
    row.finish()
}

pub(crate) fn decode_checkpoint(row: &[u8]) -> Result<Checkpoint> {
    let mut row = RowReader::new("a checkpoint", VERSION, row)?;
    let applied = get_log_id(&mut row)?;
    let log_id = get_log_id(&mut row)?;
    let membership = StoredMembership::new(log_id, get_membership(&mut row)?);
    row.end()?;
    Ok(Checkpoint {
        applied,
        membership,
    })
}

pub(crate) fn encode_removed(removed: &IdSet) -> Bytes {
    let ranges = removed.ranges();
    let mut row = RowWriter::new(VERSION, 4 + ranges.len() * 16);
    row.u32(ranges.len() as u32);
    for (first, end) in ranges {
        row.u64(first).u64(end);
    }
    row.finish()
}

pub(crate) fn decode_removed(row: &[u8]) -> Result<IdSet> {
    let mut row = RowReader::new("the removed partitions", VERSION, row)?;
    let ranges = (0..row.count(16)?).map(|_| Ok((row.u64()?, row.u64()?)));
    let ranges = ranges.collect::<Result<Vec<_>>>()?;
    row.end()?;
    IdSet::of(ranges).ok_or_else(|| row.damaged("its ranges are out of order"))
}

pub(crate) fn encode_partition(state: &PartitionState) -> Bytes {
    let mut row = RowWriter::new(VERSION, 80 + state.producers.len() * 160);
    row.i64(state.log_start_offset).i64(state.log_end_offset);
    row.i64(state.max_timestamp_ms())
        .i64(state.max_timestamp_offset());
    row.u64(state.position_bytes)
        .u64(state.start_position_bytes);
    row.u64(state.indexed_position_bytes.map_or(u64::MAX, |p| p));
    row.u32(state.epochs.len() as u32);
    for e in &state.epochs {
        row.i32(e.epoch).i64(e.start_offset);
    }
    row.u32(state.producers.len() as u32);
    for (id, producer) in state.producers.iter() {
        row.i64(id)
            .i16(producer.epoch)
            .i64(producer.last_time_ms)
            .i64(producer.last_timestamp_ms);
        row.u32(producer.batches.len() as u32);
        for b in &producer.batches {
            row.i32(b.base_sequence)
                .i32(b.last_sequence)
                .i64(b.base_offset)
                .i32(b.offsets);
        }
    }
    put_maxima(&mut row, state);
    row.finish()
}

fn put_maxima(row: &mut RowWriter, state: &PartitionState) {
    let maxima = state.maxima.list();
    row.i64(state.unindexed_timestamp_ms)
        .u32(maxima.len() as u32);
    for max in maxima {
        row.i64(max.timestamp_ms)
            .i64(max.offset)
            .i64(max.last_offset);
    }
}

fn get_maxima(row: &mut RowReader, state: &mut PartitionState) -> Result<()> {
    state.unindexed_timestamp_ms = row.i64()?;
    let mut maxima = Vec::new();
    for _ in 0..row.count(24)? {
        maxima.push(Maximum {
            timestamp_ms: row.i64()?,
            offset: row.i64()?,
            last_offset: row.i64()?,
        });
    }
    state.maxima = Maxima::of(maxima);
    Ok(())
}

/// Rows of earlier builds end with the highest timestamp ever: it holds for the whole log.
fn old_maxima(timestamp_ms: i64, offset: i64, state: &mut PartitionState) {
    state.unindexed_timestamp_ms = timestamp_ms;
    state
        .maxima
        .append(timestamp_ms, offset, state.log_end_offset - 1);
}

pub(crate) fn decode_partition(row: &[u8]) -> Result<PartitionState> {
    let mut row = RowReader::new("a partition's checkpoint", VERSION, row)?;
    let (log_start_offset, log_end_offset) = (row.i64()?, row.i64()?);
    let (max_timestamp_ms, max_timestamp_offset) = (row.i64()?, row.i64()?);
    let mut state = PartitionState {
        log_start_offset,
        log_end_offset,
        position_bytes: row.u64()?,
        start_position_bytes: row.u64()?,
        indexed_position_bytes: Some(row.u64()?).filter(|p| *p != u64::MAX),
        ..PartitionState::new()
    };
    for _ in 0..row.count(12)? {
        state.epochs.push(EpochStart {
            epoch: row.i32()?,
            start_offset: row.i64()?,
        });
    }
    for _ in 0..row.count(30)? {
        let id = row.i64()?;
        let mut producer = ProducerState {
            epoch: row.i16()?,
            last_time_ms: row.i64()?,
            last_timestamp_ms: row.i64()?,
            batches: Vec::new(),
        };
        let count = row.count(20)?;
        producer.batches.reserve_exact(count);
        for _ in 0..count {
            producer.batches.push(RememberedBatch {
                base_sequence: row.i32()?,
                last_sequence: row.i32()?,
                base_offset: row.i64()?,
                offsets: row.i32()?,
            });
        }
        state.producers.insert(id, producer);
    }
    match row.end() {
        Ok(()) => old_maxima(max_timestamp_ms, max_timestamp_offset, &mut state),
        Err(_) => get_maxima(&mut row, &mut state)?,
    }
    row.end()?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn producer() -> impl Strategy<Value = Option<ProducerMeta>> {
        prop::option::of(
            (any::<i64>(), any::<i16>(), any::<i32>(), any::<i32>()).prop_map(
                |(id, epoch, base_sequence, last_sequence)| ProducerMeta {
                    id,
                    epoch,
                    base_sequence,
                    last_sequence,
                },
            ),
        )
    }

    fn command() -> impl Strategy<Value = Command> {
        let append = (
            any::<u64>(),
            any::<i32>(),
            any::<i64>(),
            any::<u32>(),
            producer(),
        )
            .prop_map(|(p, offsets, max_timestamp_ms, size_bytes, producer)| {
                Command::Append {
                    meta: BatchMeta {
                        partition: PartitionId(p),
                        offsets,
                        max_timestamp_ms,
                        size_bytes,
                        producer,
                    },
                    body: Bytes::new(),
                }
            });
        let trim = (any::<u64>(), any::<i64>()).prop_map(|(p, o)| Command::Trim {
            partition: PartitionId(p),
            log_start_offset: o,
        });
        let remove = any::<u64>().prop_map(|p| Command::Remove {
            partition: PartitionId(p),
        });
        let forget = any::<(u64, i64)>().prop_map(|(p, t)| Command::ForgetProducers {
            partition: PartitionId(p),
            silent_since_ms: t,
        });
        prop_oneof![append, trim, remove, forget]
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<i64>().prop_map(|base_offset| Outcome::Appended { base_offset }),
            any::<i64>().prop_map(|base_offset| Outcome::Duplicate { base_offset }),
            any::<i32>().prop_map(|expected| Outcome::OutOfOrderSequence { expected }),
            any::<i16>().prop_map(|current| Outcome::InvalidProducerEpoch { current }),
            any::<i64>().prop_map(|log_start_offset| Outcome::Trimmed { log_start_offset }),
            Just(Outcome::OffsetOutOfRange),
            Just(Outcome::Removed),
            Just(Outcome::UnknownPartition),
            Just(Outcome::TooManyProducers),
            Just(Outcome::ProducersForgotten),
        ]
    }

    proptest! {
        #[test]
        fn entries_round_trip(time: i64, index: u64, term: u64, steps in prop::collection::vec((command(), outcome()), 0..20)) {
            let (commands, outcomes): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
            let payload = Payload(GroupEntry::new(time, 5, commands.clone()).decided(outcomes.clone()).into());
            let entry = Entry { log_id: types::log_id(term, index), payload: EntryPayload::Normal(payload) };
            let row = encode_entry(&entry);
            let read = decode_entry(index, &row).unwrap();
            prop_assert_eq!(read.log_id, entry.log_id);
            let EntryPayload::Normal(read) = read.payload else { panic!("a normal entry") };
            prop_assert_eq!(&read.0.commands, &commands);
            prop_assert_eq!(read.0.outcomes(), &outcomes[..]);
            prop_assert_eq!(read.0.time_ms, time);
        }

        #[test]
        fn damaged_rows_are_refused(row in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_entry(0, &row).is_err());
            prop_assert!(decode_partition(&row).is_err());
            prop_assert!(decode_checkpoint(&row).is_err());
            prop_assert!(decode_removed(&row).is_err());
        }

        #[test]
        fn partitions_round_trip(steps in prop::collection::vec((producer(), 1..5i32, 0..100i64), 0..50)) {
            let mut state = PartitionState::new();
            let partition = PartitionId(3);
            for (i, (producer, offsets, max_timestamp_ms)) in steps.into_iter().enumerate() {
                let context = crate::state::EntryContext { leader_epoch: i as i32 / 4, time_ms: i as i64, producer_expiration_ms: 10 };
                let meta = BatchMeta { partition, offsets, max_timestamp_ms, size_bytes: 40_000, producer };
                if let Outcome::Appended { base_offset } = state.decide_append(&meta, &context) {
                    state.append(&meta, base_offset, &context);
                }
            }
            state.trim(2);
            prop_assert_eq!(decode_partition(&encode_partition(&state)).unwrap(), state);
        }
    }

    #[test]
    fn removed_partitions_round_trip() {
        let mut removed = IdSet::default();
        [4, 5, 9, 6].into_iter().for_each(|id| {
            removed.insert(id);
        });
        assert_eq!(decode_removed(&encode_removed(&removed)).unwrap(), removed);
    }

    #[test]
    fn votes_and_checkpoints_round_trip() {
        for vote in [Vote::new(3, 9), Vote::new_committed(3, 9)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        let nodes: BTreeSet<u64> = [1, 2, 3].into();
        let configs = vec![[1, 2].into(), [2, 3].into()];
        let membership = StoredMembership::new(
            Some(types::log_id(2, 5)),
            types::membership(configs, nodes).unwrap(),
        );
        let checkpoint = Checkpoint {
            applied: Some(types::log_id(2, 8)),
            membership,
        };
        let read = decode_checkpoint(&encode_checkpoint(&checkpoint)).unwrap();
        assert_eq!(
            (read.applied, read.membership),
            (checkpoint.applied, checkpoint.membership)
        );
    }
}
