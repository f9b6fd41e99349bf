//! One partition's state as a pure function of its group's log: offsets, leader epochs, producers.
//!
//! Each replica keeps it twice: at the end of its log (it decides what comes next) and at the high
//! watermark (it is what clients see and what a checkpoint holds). Truncating the log copies the
//! second over the first and decides the rest again.

use ottla_log::IndexRow;
use ottla_proto::limits::INDEX_INTERVAL_BYTES;

use crate::command::{BatchMeta, Outcome};
use crate::maxima::Maxima;
use crate::producers::{Producers, RememberedBatch};

/// Where a leader epoch (a Raft term) began in a partition (KIP-101).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    pub epoch: i32,
    pub start_offset: i64,
}

/// The clock and settings that came with the entry being decided.
#[derive(Clone, Copy, Debug)]
pub struct EntryContext {
    pub leader_epoch: i32,
    pub time_ms: i64,
    pub producer_expiration_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    /// Ascending in both fields; the first may begin before the log start offset.
    pub epochs: Vec<EpochStart>,
    pub producers: Producers,
    /// Highest record timestamps from the log start offset on.
    pub maxima: Maxima,
    /// Highest record timestamp behind the last row of the sparse index, ms; -1 while there is none.
    pub unindexed_timestamp_ms: i64,
    /// Bytes ever appended.
    pub position_bytes: u64,
    /// Bytes that lay before the log start offset when it was last raised (to the index's grain).
    pub start_position_bytes: u64,
    /// Position of the last row written to the sparse index.
    pub indexed_position_bytes: Option<u64>,
    pub removed: bool,
}

impl Default for PartitionState {
    /// An empty partition.
    fn default() -> PartitionState {
        PartitionState {
            log_start_offset: 0,
            log_end_offset: 0,
            epochs: Vec::new(),
            producers: Producers::default(),
            maxima: Maxima::default(),
            unindexed_timestamp_ms: -1,
            position_bytes: 0,
            start_position_bytes: 0,
            indexed_position_bytes: None,
            removed: false,
        }
    }
}

impl PartitionState {
    pub fn new() -> PartitionState {
        PartitionState::default()
    }

    /// Of a partition that was removed.
    pub fn gone() -> PartitionState {
        PartitionState {
            removed: true,
            ..PartitionState::new()
        }
    }

    /// What an append of this batch becomes. Changes nothing.
    pub fn decide_append(&self, meta: &BatchMeta, context: &EntryContext) -> Outcome {
        if self.removed {
            return Outcome::UnknownPartition;
        }
        let check = |p| {
            self.producers
                .check(&p, context.time_ms, context.producer_expiration_ms)
        };
        let refused = meta.producer.and_then(check);
        refused.unwrap_or(Outcome::Appended {
            base_offset: self.log_end_offset,
        })
    }

    /// What a trim to `offset` becomes; -1 stands for the log end offset.
    pub fn decide_trim(&self, offset: i64) -> Outcome {
        let offset = if offset == -1 {
            self.log_end_offset
        } else {
            offset
        };
        match offset {
            _ if self.removed => Outcome::UnknownPartition,
            o if o < 0 || o > self.log_end_offset => Outcome::OffsetOutOfRange,
            o => Outcome::Trimmed {
                log_start_offset: o.max(self.log_start_offset),
            },
        }
    }

    /// Highest timestamp of the records that are left, ms, or a little more; -1 while there is none.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.maxima.first().0
    }

    /// Base offset of the first batch that has it, which may be gone.
    pub fn max_timestamp_offset(&self) -> i64 {
        self.maxima.first().1
    }

    /// Takes in a batch that was decided to stand at `base_offset`; the index row that it gets.
    pub fn append(
        &mut self,
        meta: &BatchMeta,
        base_offset: i64,
        context: &EntryContext,
    ) -> Option<IndexRow> {
        assert_eq!(base_offset, self.log_end_offset, "offsets are dense");
        if self
            .epochs
            .last()
            .is_none_or(|e| e.epoch < context.leader_epoch)
        {
            self.epochs.push(EpochStart {
                epoch: context.leader_epoch,
                start_offset: base_offset,
            });
        }
        if let Some(producer) = &meta.producer {
            let batch = RememberedBatch {
                base_sequence: producer.base_sequence,
                last_sequence: producer.last_sequence,
                base_offset,
                offsets: meta.offsets,
            };
            let (now_ms, expiration_ms) = (context.time_ms, context.producer_expiration_ms);
            self.producers.remember(
                producer,
                batch,
                meta.max_timestamp_ms,
                now_ms,
                expiration_ms,
            );
        }
        let last_offset = base_offset + i64::from(meta.offsets) - 1;
        self.maxima
            .append(meta.max_timestamp_ms, base_offset, last_offset);
        self.unindexed_timestamp_ms = self.unindexed_timestamp_ms.max(meta.max_timestamp_ms);
        let position = self.position_bytes;
        let due = |last| position - last >= INDEX_INTERVAL_BYTES;
        let row = self.indexed_position_bytes.is_none_or(due).then(|| {
            self.indexed_position_bytes = Some(position);
            IndexRow {
                base_offset,
                max_timestamp_ms: self.max_timestamp_ms(),
                interval_timestamp_ms: std::mem::replace(&mut self.unindexed_timestamp_ms, -1),
                position_bytes: position,
            }
        });
        self.position_bytes += meta.size_bytes as u64;
        self.log_end_offset += meta.offsets as i64;
        row
    }

    pub fn trim(&mut self, log_start_offset: i64) {
        self.log_start_offset = self.log_start_offset.max(log_start_offset);
        let kept = self
            .epochs
            .partition_point(|e| e.start_offset <= self.log_start_offset);
        self.epochs.drain(..kept.saturating_sub(1));
        self.maxima.trim(self.log_start_offset);
    }

    /// Bytes between log start offset and log end offset, to the grain of the index.
    pub fn size_bytes(&self) -> u64 {
        self.position_bytes
            .saturating_sub(self.start_position_bytes)
    }

    /// The last epoch at or below `epoch` and the offset where it ended (KIP-101, KIP-279):
    /// what OffsetForLeaderEpoch answers. An epoch from before those that are left ended where the log
    /// starts now, so that a consumer that was there reads on. `None` for an epoch that is none, or not
    /// yet.
    pub fn epoch_end(&self, epoch: i32, current_epoch: i32) -> Option<(i32, i64)> {
        if epoch < 0 || epoch > current_epoch {
            return None;
        }
        if epoch == current_epoch {
            return Some((epoch, self.log_end_offset));
        }
        let next = self.epochs.partition_point(|e| e.epoch <= epoch);
        let found = next.checked_sub(1).map_or(epoch, |i| self.epochs[i].epoch);
        let end = self.epochs.get(next);
        let end = end.map_or(self.log_end_offset, |e| e.start_offset);
        Some((found, end.max(self.log_start_offset)))
    }

    /// The leader epoch in which `offset` was written; -1 if the log does not know.
    pub fn epoch_at(&self, offset: i64) -> i32 {
        let next = self.epochs.partition_point(|e| e.start_offset <= offset);
        next.checked_sub(1).map_or(-1, |i| self.epochs[i].epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ProducerMeta;
    use ottla_proto::ids::PartitionId;
    use proptest::prelude::*;

    fn context(leader_epoch: i32) -> EntryContext {
        EntryContext {
            leader_epoch,
            time_ms: 0,
            producer_expiration_ms: 1000,
        }
    }

    fn meta(offsets: i32) -> BatchMeta {
        let partition = PartitionId(1);
        BatchMeta {
            partition,
            offsets,
            max_timestamp_ms: 5,
            size_bytes: 100,
            producer: None,
        }
    }

    #[test]
    fn epochs_answer_where_they_ended() {
        let mut s = PartitionState::new();
        for (epoch, offsets) in [(1, 10), (1, 5), (4, 7)] {
            let base = s.log_end_offset;
            s.append(&meta(offsets), base, &context(epoch));
        }
        assert_eq!(s.epoch_end(-1, 4), None);
        assert_eq!(s.epoch_end(0, 4), Some((0, 0)));
        assert_eq!(s.epoch_end(1, 4), Some((1, 15)));
        assert_eq!(s.epoch_end(2, 4), Some((1, 15)));
        assert_eq!(s.epoch_end(4, 4), Some((4, 22)));
        assert_eq!(s.epoch_end(4, 6), Some((4, 22)));
        assert_eq!(s.epoch_end(7, 6), None);
        assert_eq!((s.epoch_at(0), s.epoch_at(14), s.epoch_at(15)), (1, 1, 4));
        s.trim(16);
        assert_eq!(
            s.epochs,
            vec![EpochStart {
                epoch: 4,
                start_offset: 15
            }]
        );
        // A consumer that read the last record of epoch 1 reads on at 16, not at the end.
        assert_eq!(s.epoch_end(1, 4), Some((1, 16)));
        assert_eq!(s.epoch_end(4, 5), Some((4, 22)));
        s.trim(22);
        assert_eq!(s.epoch_end(1, 6), Some((1, 22)));
    }

    #[test]
    fn an_empty_log_ended_every_epoch_where_it_stands() {
        let s = PartitionState::new();
        assert_eq!(s.epoch_end(3, 5), Some((3, 0)));
        assert_eq!(s.epoch_end(6, 5), None);
    }

    #[test]
    fn trims_stay_within_the_log_and_never_go_back() {
        let mut s = PartitionState::new();
        s.append(&meta(10), 0, &context(1));
        assert_eq!(s.decide_trim(11), Outcome::OffsetOutOfRange);
        assert_eq!(s.decide_trim(-2), Outcome::OffsetOutOfRange);
        assert_eq!(
            s.decide_trim(-1),
            Outcome::Trimmed {
                log_start_offset: 10
            }
        );
        s.trim(4);
        assert_eq!(
            s.decide_trim(2),
            Outcome::Trimmed {
                log_start_offset: 4
            }
        );
    }

    proptest! {
        /// Any interleaving of appends of several producers, retries and nonsense among them, gives
        /// dense offsets, and deciding the same steps again gives the same outcomes.
        #[test]
        fn offsets_are_dense_and_replay_is_equal(
            steps in prop::collection::vec((0..3i64, 0..3i16, 0..40i32, 1..4i32, 0..3i32), 1..200)
        ) {
            let run = || {
                let mut state = PartitionState::new();
                let mut outcomes = Vec::new();
                for (i, (id, epoch, base_sequence, offsets, new_epoch)) in steps.iter().enumerate() {
                    let producer = (*id > 0).then_some(ProducerMeta {
                        id: *id, epoch: *epoch, base_sequence: *base_sequence, last_sequence: base_sequence + offsets - 1,
                    });
                    let m = BatchMeta { producer, ..meta(*offsets) };
                    let c = EntryContext { time_ms: i as i64, ..context((i as i32 + new_epoch) / 10) };
                    let outcome = state.decide_append(&m, &c);
                    if let Outcome::Appended { base_offset } = outcome {
                        state.append(&m, base_offset, &c);
                    }
                    outcomes.push((outcome, *offsets));
                }
                (state, outcomes)
            };
            let (state, outcomes) = run();
            let mut next = 0;
            for (outcome, offsets) in &outcomes {
                match outcome {
                    Outcome::Appended { base_offset } => {
                        prop_assert_eq!(*base_offset, next);
                        next += *offsets as i64;
                    }
                    Outcome::Duplicate { base_offset } => prop_assert!(*base_offset < next),
                    _ => {}
                }
            }
            prop_assert_eq!(state.log_end_offset, next);
            prop_assert!(state.epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset));
            prop_assert_eq!(run(), (state, outcomes));
        }
    }
}
