//! Checks the rows of a group that nobody runs: what `ottla doctor` needs.
//!
//! Rows are given one at a time, first those of the `state` column family, then the raft rows in order.
//! What they amount to is what the partitions' stored batches are compared with. Nothing here asserts:
//! the rows may say anything. The memory it takes is what its partitions' states take without their
//! producers.

use std::collections::BTreeMap;

use openraft::vote::RaftLeaderId;
use ottla_log::{StateKey, Tag};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::{DOCTOR_FINDINGS, INDEX_INTERVAL_BYTES};

use crate::command::{Command, Outcome};
use crate::rows;
use crate::state::{EpochStart, PartitionState};
use crate::step::partition_of;
use crate::types::{Entry, EntryPayload, LogId};

/// Something wrong with a group's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub partition: Option<PartitionId>,
    pub detail: String,
}

/// Where a partition stands at the end of its group's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionEnd {
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    pub epochs: Vec<EpochStart>,
    /// Bytes ever appended.
    pub position_bytes: u64,
    /// Position of the last row of the sparse index.
    pub indexed_position_bytes: Option<u64>,
    pub removed: bool,
    /// Its own rows are missing or damaged, so that it may end elsewhere.
    pub is_unclear: bool,
}

impl PartitionEnd {
    /// The leader epoch in which `offset` was written; -1 if the log does not know.
    pub fn epoch_at(&self, offset: i64) -> i32 {
        let next = self.epochs.partition_point(|e| e.start_offset <= offset);
        next.checked_sub(1).map_or(-1, |i| self.epochs[i].epoch)
    }
}

/// What a group's rows say.
#[derive(Debug)]
pub struct GroupEnd {
    pub group: GroupId,
    pub rows: u64,
    /// Index of the last row, or of what was purged last.
    pub last_index: Option<u64>,
    pub applied_index: Option<u64>,
    pub vote_term: Option<u64>,
    /// Replica ids of the membership at the checkpoint.
    pub members: Vec<u64>,
    pub partitions: BTreeMap<PartitionId, PartitionEnd>,
    /// False where rows are missing or damaged, so that the partitions' ends are not known.
    pub is_certain: bool,
    pub problems: Vec<Problem>,
    /// Problems that are not told.
    pub more_problems: u64,
}

pub struct GroupCheck {
    end: GroupEnd,
    applied: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
}

impl GroupCheck {
    pub fn new(group: GroupId) -> GroupCheck {
        GroupCheck {
            end: GroupEnd {
                group,
                rows: 0,
                last_index: None,
                applied_index: None,
                vote_term: None,
                members: Vec::new(),
                partitions: BTreeMap::new(),
                is_certain: true,
                problems: Vec::new(),
                more_problems: 0,
            },
            applied: None,
            purged: None,
            last: None,
        }
    }

    fn problem(&mut self, partition: Option<PartitionId>, detail: String) {
        match self.end.problems.len() < DOCTOR_FINDINGS {
            true => self.end.problems.push(Problem { partition, detail }),
            false => self.end.more_problems += 1,
        }
    }

    /// A problem after which nobody knows where the partitions end.
    fn broken(&mut self, detail: String) {
        self.end.is_certain = false;
        self.problem(None, detail);
    }

    /// Takes a `state` row of the group; in the order of their keys.
    pub fn state_row(&mut self, key: StateKey, row: &[u8]) {
        let partition = PartitionId(key.id);
        match key.tag {
            Tag::Vote => match rows::decode_vote(row) {
                Ok(vote) => self.end.vote_term = Some(vote.leader_id().term()),
                Err(error) => self.problem(None, error.to_string()),
            },
            Tag::Checkpoint => match rows::decode_checkpoint(row) {
                Ok(checkpoint) => {
                    self.applied = checkpoint.applied;
                    let voters = checkpoint.membership.membership().voter_ids();
                    self.end.members = voters.collect();
                }
                Err(error) => self.broken(error.to_string()),
            },
            Tag::Purged => match rows::decode_purged(row) {
                Ok(purged) => self.purged = purged,
                Err(error) => self.broken(error.to_string()),
            },
            Tag::Removed => {
                if let Err(error) = rows::decode_removed(row) {
                    self.problem(None, error.to_string());
                }
            }
            Tag::Partition => match rows::decode_partition(row) {
                Ok(state) => self.partition_row(partition, state),
                Err(error) => {
                    let end = self.end.partitions.entry(partition).or_default();
                    end.is_unclear = true;
                    self.problem(Some(partition), error.to_string());
                }
            },
            _ => {}
        }
    }

    fn partition_row(&mut self, id: PartitionId, state: PartitionState) {
        for detail in contradictions(&state) {
            self.problem(
                Some(id),
                format!("its checkpoint contradicts itself: {detail}"),
            );
        }
        if let (Some(last), Some(applied)) = (state.epochs.last(), self.applied)
            && i64::from(last.epoch) > applied.leader_id.term as i64
        {
            let detail = format!(
                "its checkpoint has leader epoch {}, its group's checkpoint term {}",
                last.epoch, applied.leader_id.term
            );
            self.problem(Some(id), detail);
        }
        let end = PartitionEnd {
            log_start_offset: state.log_start_offset,
            log_end_offset: state.log_end_offset,
            epochs: state.epochs,
            position_bytes: state.position_bytes,
            indexed_position_bytes: state.indexed_position_bytes,
            removed: false,
            is_unclear: false,
        };
        self.end.partitions.insert(id, end);
    }

    /// Takes a raft row; in the order of their indexes.
    pub fn raft_row(&mut self, index: u64, row: &[u8]) {
        self.end.rows += 1;
        let previous = self.last.or(self.purged);
        let expected = previous.map_or(0, |id| id.index + 1);
        let first = self.last.is_none();
        if index != expected {
            match first && index < expected {
                true => self.problem(None, format!("row {index} is older than what was purged")),
                false => {
                    let last = index.saturating_sub(1);
                    self.broken(format!("rows {expected} to {last} of its log are missing"));
                }
            }
        }
        let entry = match rows::decode_entry(index, row) {
            Ok(entry) => entry,
            Err(error) => {
                self.broken(format!("row {index} of its log: {error}"));
                let term = previous.map_or(0, |id| id.leader_id.term);
                self.last = Some(crate::types::log_id(term, index));
                return;
            }
        };
        let term = entry.log_id.leader_id.term;
        if let Some(before) = previous.filter(|id| id.leader_id.term > term) {
            let detail = format!(
                "row {index} of its log has term {term}, the one before {}",
                before.leader_id.term
            );
            self.problem(None, detail);
        }
        if let Some(applied) = self.applied.filter(|a| a.index == index)
            && applied.leader_id.term != term
        {
            let detail = format!(
                "row {index} of its log has term {term}, the checkpoint {}",
                applied.leader_id.term
            );
            self.problem(None, detail);
        }
        self.last = Some(entry.log_id);
        if self.applied.is_none_or(|applied| applied.index < index) {
            self.take(&entry);
        }
    }

    /// Takes in what an entry behind the checkpoint did.
    fn take(&mut self, entry: &Entry) {
        let EntryPayload::Normal(payload) = &entry.payload else {
            return;
        };
        let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term as i32);
        for (command, outcome) in payload.0.commands.iter().zip(payload.0.outcomes()) {
            let id = partition_of(command);
            let partition = self.end.partitions.entry(id).or_default();
            match (command, outcome) {
                (Command::Append { meta, .. }, Outcome::Appended { base_offset }) => {
                    let expected = partition.log_end_offset;
                    append(partition, *base_offset, meta.offsets, meta.size_bytes, term);
                    let follows = *base_offset == expected && meta.offsets >= 1;
                    if !follows && !std::mem::replace(&mut partition.is_unclear, true) {
                        let detail = format!(
                            "row {index} of its group's log puts {} offsets at {base_offset}, after {expected}",
                            meta.offsets
                        );
                        self.problem(Some(id), detail);
                    }
                }
                (Command::Trim { .. }, Outcome::Trimmed { log_start_offset }) => {
                    let start = partition.log_start_offset.max(*log_start_offset);
                    partition.log_start_offset = start;
                    let end = partition.log_end_offset;
                    if start > end && !std::mem::replace(&mut partition.is_unclear, true) {
                        let detail = format!(
                            "row {index} of its group's log starts it at {start}, behind its end {end}"
                        );
                        self.problem(Some(id), detail);
                    }
                }
                (Command::Remove { .. }, Outcome::Removed) => {
                    *partition = PartitionEnd {
                        removed: true,
                        ..PartitionEnd::default()
                    };
                }
                _ => {}
            }
        }
    }

    pub fn finish(mut self) -> GroupEnd {
        let last = self.last.or(self.purged);
        if let (Some(purged), true) = (self.purged, self.applied < self.purged) {
            let applied = self.applied.map_or(-1, |id| id.index as i64);
            let detail = format!(
                "its log is purged up to {}, its checkpoint stands at {applied}",
                purged.index
            );
            self.broken(detail);
        }
        if let (Some(applied), true) = (self.applied, self.applied > last) {
            let end = last.map_or(-1, |id| id.index as i64);
            let detail = format!(
                "its checkpoint stands at {}, its log ends at {end}",
                applied.index
            );
            self.broken(detail);
        }
        let voted = self.end.vote_term.unwrap_or(0);
        if let Some(last) = last.filter(|id| id.leader_id.term > voted) {
            let detail = format!("its log has term {}, its vote {voted}", last.leader_id.term);
            self.problem(None, detail);
        }
        self.end.last_index = last.map(|id| id.index);
        self.end.applied_index = self.applied.map(|id| id.index);
        self.end
    }
}

fn append(
    partition: &mut PartitionEnd,
    base_offset: i64,
    offsets: i32,
    size_bytes: u32,
    epoch: i32,
) {
    if partition.epochs.last().is_none_or(|e| e.epoch < epoch) {
        partition.epochs.push(EpochStart {
            epoch,
            start_offset: base_offset,
        });
    }
    let position = partition.position_bytes;
    let due = |last: u64| position.saturating_sub(last) >= INDEX_INTERVAL_BYTES;
    if partition.indexed_position_bytes.is_none_or(due) {
        partition.indexed_position_bytes = Some(position);
    }
    partition.position_bytes = position.saturating_add(size_bytes.into());
    partition.log_end_offset = base_offset.saturating_add(offsets.max(0).into());
}

/// What cannot be, in a partition's state.
fn contradictions(state: &PartitionState) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |holds: bool, detail: String| {
        if !holds {
            found.push(detail);
        }
    };
    let (start, end) = (state.log_start_offset, state.log_end_offset);
    check(
        0 <= start && start <= end,
        format!("log start offset {start}, log end offset {end}"),
    );
    let rise =
        |a: &EpochStart, b: &EpochStart| a.epoch < b.epoch && a.start_offset <= b.start_offset;
    check(
        state.epochs.is_sorted_by(rise),
        "its leader epochs do not rise".into(),
    );
    let last = state.epochs.last();
    check(
        last.is_none_or(|e| e.start_offset <= end),
        format!("a leader epoch begins behind its end {end}"),
    );
    let (position, first) = (state.position_bytes, state.start_position_bytes);
    check(
        first <= position,
        format!("{first} bytes before its start, {position} in all"),
    );
    check(
        state.indexed_position_bytes.is_none_or(|p| p <= position),
        format!("indexed behind its {position} bytes"),
    );
    check(
        state.max_timestamp_offset() < end.max(1),
        format!(
            "its latest timestamp at offset {}",
            state.max_timestamp_offset()
        ),
    );
    for (id, producer) in state.producers.iter() {
        let within = |b: &crate::producers::RememberedBatch| {
            let last = b.base_offset.checked_add(b.offsets.into());
            b.base_offset >= 0 && b.offsets >= 1 && last.is_some_and(|last| last <= end)
        };
        check(
            producer.batches.iter().all(within),
            format!("producer {id} wrote behind its end {end}"),
        );
    }
    found
}

#[cfg(test)]
mod tests;
