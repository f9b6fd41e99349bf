//! One command of a group's log and the state of its partition: what becomes of it, and its taking in.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_proto::ids::PartitionId;

use crate::command::{BatchMeta, Command, GroupEntry, Outcome};
use crate::state::{EntryContext, PartitionState};
use crate::types::Entry;

pub(crate) fn partition_of(command: &Command) -> PartitionId {
    match command {
        Command::Append { meta, .. } => meta.partition,
        Command::Trim { partition, .. }
        | Command::ForgetProducers { partition, .. }
        | Command::Remove { partition } => *partition,
    }
}

pub(crate) fn producer_of(command: &Command) -> Option<i64> {
    match command {
        Command::Append { meta, .. } => meta.producer.map(|producer| producer.id),
        _ => None,
    }
}

pub(crate) fn context(entry: &Entry, group_entry: &GroupEntry) -> EntryContext {
    EntryContext {
        leader_epoch: entry.log_id.leader_id.term as i32,
        time_ms: group_entry.time_ms,
        producer_expiration_ms: group_entry.producer_expiration_ms,
    }
}

pub(crate) fn decide(state: &PartitionState, command: &Command, context: &EntryContext) -> Outcome {
    match command {
        Command::Append { meta, .. } => state.decide_append(meta, context),
        Command::Trim {
            log_start_offset, ..
        } => state.decide_trim(*log_start_offset),
        Command::ForgetProducers { .. } => Outcome::ProducersForgotten,
        Command::Remove { .. } => Outcome::Removed,
    }
}

/// Takes a decided command into a state; returns the index row it brings.
pub(crate) fn advance(
    state: &mut PartitionState,
    command: &Command,
    outcome: &Outcome,
    context: &EntryContext,
) -> Option<ottla_log::IndexRow> {
    match (command, outcome) {
        (Command::Append { meta, .. }, Outcome::Appended { base_offset }) => {
            return state.append(meta, *base_offset, context);
        }
        (Command::Trim { .. }, Outcome::Trimmed { log_start_offset }) => {
            state.trim(*log_start_offset)
        }
        (Command::Remove { .. }, Outcome::Removed) => {
            *state = PartitionState::gone();
        }
        (
            Command::ForgetProducers {
                silent_since_ms, ..
            },
            Outcome::ProducersForgotten,
        ) => state.producers.forget_silent_since(*silent_since_ms),
        _ => {}
    }
    None
}

pub(crate) fn put_head(
    heads: &mut BytesMut,
    base_offset: i64,
    meta: &BatchMeta,
    leader_epoch: i32,
) -> Bytes {
    heads.put_i64(base_offset);
    heads.put_i32(meta.size_bytes as i32 - 12);
    heads.put_i32(leader_epoch);
    heads.split().freeze()
}
