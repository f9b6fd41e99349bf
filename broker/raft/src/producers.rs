//! Idempotent producers of one partition (KIP-98): the last five batches of each, replicated.
//!
//! A pure function of the group's log: time comes with the entry. A retry of a remembered batch is
//! answered with the offset it got at first; anything else out of sequence is refused exactly.

use std::collections::{HashMap, VecDeque};

use ottla_proto::limits::{PRODUCER_REMEMBERED_BATCHES, PRODUCERS_PER_PARTITION};

use crate::command::{Outcome, ProducerMeta};

/// New producers between two sweeps of a partition.
const SWEEP_EVERY: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedBatch {
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    /// Offsets the batch took.
    pub offsets: i32,
}

/// One producer's state, as DescribeProducers shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub epoch: i16,
    /// Time of the entry that last changed it, ms.
    pub last_time_ms: i64,
    /// Highest record timestamp of its last batch, ms.
    pub last_timestamp_ms: i64,
    /// Oldest first, at most `PRODUCER_REMEMBERED_BATCHES`, all of `epoch`.
    pub batches: VecDeque<RememberedBatch>,
}

impl ProducerState {
    pub fn last_sequence(&self) -> Option<i32> {
        self.batches.back().map(|b| b.last_sequence)
    }
}

/// All producers of one partition. Empty costs eight bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::box_collection,
    reason = "most partitions have none, and every partition pays for the field"
)]
pub struct Producers(Option<Box<HashMap<i64, ProducerState>>>);

impl Producers {
    /// What a batch of this producer would become; `None` means that it may be appended.
    pub fn check(&self, meta: &ProducerMeta, now_ms: i64, expiration_ms: i64) -> Option<Outcome> {
        let state = self.get(meta.id)?;
        if state.last_time_ms.saturating_add(expiration_ms) <= now_ms {
            return None;
        }
        if meta.epoch < state.epoch {
            return Some(Outcome::InvalidProducerEpoch {
                current: state.epoch,
            });
        }
        if meta.epoch > state.epoch {
            let expected = 0;
            return (meta.base_sequence != expected)
                .then_some(Outcome::OutOfOrderSequence { expected });
        }
        let same = |b: &&RememberedBatch| {
            b.base_sequence == meta.base_sequence && b.last_sequence == meta.last_sequence
        };
        if let Some(batch) = state.batches.iter().find(same) {
            return Some(Outcome::Duplicate {
                base_offset: batch.base_offset,
            });
        }
        let expected = next_sequence(state.last_sequence()?);
        (meta.base_sequence != expected).then_some(Outcome::OutOfOrderSequence { expected })
    }

    /// Remembers a batch that was appended.
    pub fn remember(
        &mut self,
        meta: &ProducerMeta,
        batch: RememberedBatch,
        max_timestamp_ms: i64,
        now_ms: i64,
        expiration_ms: i64,
    ) {
        let producers = self.0.get_or_insert_default();
        // Now and then a new producer's coming clears out those that have expired: idle partitions
        // cost nothing, and busy ones stay small.
        let due = producers.len().is_multiple_of(SWEEP_EVERY)
            || producers.len() >= PRODUCERS_PER_PARTITION;
        if due && !producers.contains_key(&meta.id) {
            producers.retain(|_, s| s.last_time_ms.saturating_add(expiration_ms) > now_ms);
        }
        if producers.len() >= PRODUCERS_PER_PARTITION && !producers.contains_key(&meta.id) {
            forget_oldest(producers);
        }
        let state = producers.entry(meta.id).or_insert_with(|| ProducerState {
            epoch: meta.epoch,
            last_time_ms: now_ms,
            last_timestamp_ms: max_timestamp_ms,
            batches: VecDeque::with_capacity(1),
        });
        let expired = state.last_time_ms.saturating_add(expiration_ms) <= now_ms;
        if state.epoch != meta.epoch || expired {
            state.epoch = meta.epoch;
            state.batches.clear();
        }
        if state.batches.len() == PRODUCER_REMEMBERED_BATCHES {
            state.batches.pop_front();
        }
        state.batches.push_back(batch);
        state.last_time_ms = now_ms;
        state.last_timestamp_ms = max_timestamp_ms;
    }

    pub fn get(&self, producer_id: i64) -> Option<&ProducerState> {
        self.0.as_ref()?.get(&producer_id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.0
            .iter()
            .flat_map(|m| m.iter())
            .map(|(id, state)| (*id, state))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |m| m.len())
    }

    pub(crate) fn insert(&mut self, producer_id: i64, state: ProducerState) {
        self.0.get_or_insert_default().insert(producer_id, state);
    }
}

/// At the bound, the one silent for longest goes (the lowest id among equals).
fn forget_oldest(producers: &mut HashMap<i64, ProducerState>) {
    let oldest = producers.iter().map(|(id, s)| (s.last_time_ms, *id)).min();
    if let Some((_, id)) = oldest {
        producers.remove(&id);
    }
}

/// Sequences wrap from `i32::MAX` to 0.
pub fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX {
        0
    } else {
        sequence + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRATION_MS: i64 = 1000;

    fn meta(epoch: i16, base_sequence: i32, last_sequence: i32) -> ProducerMeta {
        ProducerMeta {
            id: 7,
            epoch,
            base_sequence,
            last_sequence,
        }
    }

    fn append(p: &mut Producers, m: ProducerMeta, base_offset: i64, now_ms: i64) {
        assert_eq!(p.check(&m, now_ms, EXPIRATION_MS), None);
        let (base_sequence, last_sequence) = (m.base_sequence, m.last_sequence);
        let offsets = last_sequence - base_sequence + 1;
        let batch = RememberedBatch {
            base_sequence,
            last_sequence,
            base_offset,
            offsets,
        };
        p.remember(&m, batch, 0, now_ms, EXPIRATION_MS);
    }

    #[test]
    fn five_batches_are_recognised_and_a_sixth_is_out_of_order() {
        let mut p = Producers::default();
        for i in 0..6 {
            append(&mut p, meta(0, i * 10, i * 10 + 9), 100 + i as i64 * 10, 0);
        }
        for i in 1..6 {
            let expected = Outcome::Duplicate {
                base_offset: 100 + i as i64 * 10,
            };
            assert_eq!(
                p.check(&meta(0, i * 10, i * 10 + 9), 0, EXPIRATION_MS),
                Some(expected)
            );
        }
        let forgotten = p.check(&meta(0, 0, 9), 0, EXPIRATION_MS);
        assert_eq!(
            forgotten,
            Some(Outcome::OutOfOrderSequence { expected: 60 })
        );
        let gap = p.check(&meta(0, 70, 79), 0, EXPIRATION_MS);
        assert_eq!(gap, Some(Outcome::OutOfOrderSequence { expected: 60 }));
    }

    #[test]
    fn epochs_fence_and_restart_the_sequence() {
        let mut p = Producers::default();
        append(&mut p, meta(1, 0, 0), 0, 0);
        let old = p.check(&meta(0, 1, 1), 0, EXPIRATION_MS);
        assert_eq!(old, Some(Outcome::InvalidProducerEpoch { current: 1 }));
        let not_zero = p.check(&meta(2, 1, 1), 0, EXPIRATION_MS);
        assert_eq!(not_zero, Some(Outcome::OutOfOrderSequence { expected: 0 }));
        append(&mut p, meta(2, 0, 0), 1, 0);
    }

    #[test]
    fn silent_producers_are_forgotten_and_their_number_is_bounded() {
        let mut p = Producers::default();
        let batch = RememberedBatch {
            base_sequence: 0,
            last_sequence: 0,
            base_offset: 0,
            offsets: 1,
        };
        for id in 0..PRODUCERS_PER_PARTITION as i64 + 100 {
            p.remember(
                &ProducerMeta {
                    id,
                    ..meta(0, 0, 0)
                },
                batch,
                0,
                0,
                EXPIRATION_MS,
            );
        }
        assert_eq!(p.len(), PRODUCERS_PER_PARTITION);
        for id in 0..SWEEP_EVERY as i64 {
            p.remember(
                &ProducerMeta {
                    id: -1 - id,
                    ..meta(0, 0, 0)
                },
                batch,
                0,
                EXPIRATION_MS,
                EXPIRATION_MS,
            );
        }
        assert!(p.len() <= SWEEP_EVERY, "the silent ones were swept");
    }

    #[test]
    fn sequences_wrap() {
        let mut p = Producers::default();
        append(&mut p, meta(0, i32::MAX - 1, i32::MAX), 0, 0);
        append(&mut p, meta(0, 0, 4), 2, 0);
    }

    #[test]
    fn an_expired_producer_starts_anywhere() {
        let mut p = Producers::default();
        append(&mut p, meta(3, 0, 0), 0, 0);
        append(&mut p, meta(1, 42, 42), 1, EXPIRATION_MS);
        assert_eq!(p.get(7).unwrap().batches.len(), 1);
    }
}
