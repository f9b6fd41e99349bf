//! Idempotent producers of one partition (KIP-98): the last five batches of each, replicated.
//!
//! A pure function of the group's log: time comes with the entry. A retry of a remembered batch is
//! answered with the offset it got at first; anything else out of sequence is refused exactly.
//!
//! A producer is forgotten only when nothing can come of it: it has expired, or room is needed and it has
//! been silent for longer than any client retries. Otherwise a new one is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_proto::limits::{
    PRODUCER_REMEMBERED_BATCHES, PRODUCER_SILENT_MS, PRODUCERS_PER_PARTITION,
};

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
    pub batches: Vec<RememberedBatch>,
}

impl ProducerState {
    pub fn last_sequence(&self) -> Option<i32> {
        self.batches.last().map(|b| b.last_sequence)
    }
}

/// All producers of one partition. Empty costs eight bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers(Option<Box<Known>>);

/// A state is shared by the two copies of a partition's state where it is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    producers: HashMap<i64, Arc<ProducerState>>,
    oldest: Oldest,
}

/// No producer's time is before this, ms: spares looking at all of them. Not part of the state.
#[derive(Debug, Default)]
struct Oldest(AtomicI64);

impl Clone for Oldest {
    fn clone(&self) -> Oldest {
        Oldest(AtomicI64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl PartialEq for Oldest {
    fn eq(&self, _: &Oldest) -> bool {
        true
    }
}

impl Eq for Oldest {}

impl Known {
    /// Whether any producer's last entry is of `time_ms` or before.
    fn has_silent_since(&self, time_ms: i64) -> bool {
        if self.oldest.0.load(Ordering::Relaxed) > time_ms {
            return false;
        }
        let oldest = self.producers.values().map(|s| s.last_time_ms).min();
        let oldest = oldest.unwrap_or(i64::MAX);
        self.oldest.0.store(oldest, Ordering::Relaxed);
        oldest <= time_ms
    }

    fn forget_silent_since(&mut self, time_ms: i64) {
        if self.has_silent_since(time_ms) {
            self.producers.retain(|_, s| s.last_time_ms > time_ms);
            if self.producers.capacity() > 4 * self.producers.len() {
                self.producers.shrink_to_fit();
            }
        }
    }
}

impl Producers {
    /// What a batch of this producer would become; `None` means that it may be appended.
    pub fn check(&self, meta: &ProducerMeta, now_ms: i64, expiration_ms: i64) -> Option<Outcome> {
        let Some(state) = self.get(meta.id) else {
            return (!self.has_room(now_ms)).then_some(Outcome::TooManyProducers);
        };
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
        let known = self.0.get_or_insert_default();
        if !known.producers.contains_key(&meta.id) {
            // Now and then a new producer's coming clears out those that have expired.
            let count = known.producers.len();
            if count >= PRODUCERS_PER_PARTITION {
                known.forget_silent_since(now_ms.saturating_sub(PRODUCER_SILENT_MS));
            } else if count.is_multiple_of(SWEEP_EVERY) {
                known.forget_silent_since(now_ms.saturating_sub(expiration_ms));
            }
        }
        known.oldest.0.fetch_min(now_ms, Ordering::Relaxed);
        let state = known.producers.entry(meta.id).or_insert_with(|| {
            Arc::new(ProducerState {
                epoch: meta.epoch,
                last_time_ms: now_ms,
                last_timestamp_ms: max_timestamp_ms,
                batches: Vec::new(),
            })
        });
        let state = Arc::make_mut(state);
        let expired = state.last_time_ms.saturating_add(expiration_ms) <= now_ms;
        if state.epoch != meta.epoch || expired {
            state.epoch = meta.epoch;
            state.batches.clear();
        }
        if state.batches.len() == PRODUCER_REMEMBERED_BATCHES {
            state.batches.remove(0);
        }
        // Most have one batch or five: no capacity that is not used.
        state.batches.reserve_exact(1);
        state.batches.push(batch);
        state.last_time_ms = now_ms;
        state.last_timestamp_ms = max_timestamp_ms;
    }

    /// Whether a producer that is not known may come.
    fn has_room(&self, now_ms: i64) -> bool {
        let silent_since = now_ms.saturating_sub(PRODUCER_SILENT_MS);
        self.0.as_ref().is_none_or(|known| {
            known.producers.len() < PRODUCERS_PER_PARTITION || known.has_silent_since(silent_since)
        })
    }

    /// Whether any has written nothing since `time_ms`.
    pub(crate) fn has_silent_since(&self, time_ms: i64) -> bool {
        let known = self.0.as_ref();
        known.is_some_and(|known| known.has_silent_since(time_ms))
    }

    /// Forgets those that have written nothing since `time_ms`.
    pub(crate) fn forget_silent_since(&mut self, time_ms: i64) {
        if let Some(known) = &mut self.0 {
            known.forget_silent_since(time_ms);
            if known.producers.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Holds the state of a producer in common with `other`, where it is the same.
    pub(crate) fn share(&mut self, producer_id: i64, other: &Producers) {
        let theirs = other.0.as_ref().and_then(|k| k.producers.get(&producer_id));
        let ours = self
            .0
            .as_mut()
            .and_then(|k| k.producers.get_mut(&producer_id));
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && !Arc::ptr_eq(ours, theirs)
            && ours == theirs
        {
            *ours = theirs.clone();
        }
    }

    pub fn get(&self, producer_id: i64) -> Option<&ProducerState> {
        Some(self.0.as_ref()?.producers.get(&producer_id)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.0
            .iter()
            .flat_map(|known| known.producers.iter())
            .map(|(id, state)| (*id, &**state))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.producers.len())
    }

    pub(crate) fn insert(&mut self, producer_id: i64, state: ProducerState) {
        let known = self.0.get_or_insert_default();
        known.producers.insert(producer_id, Arc::new(state));
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

    fn other(id: i64) -> ProducerMeta {
        ProducerMeta {
            id,
            ..meta(0, 0, 0)
        }
    }

    #[test]
    fn at_the_bound_new_producers_are_refused_and_known_ones_are_not_forgotten() {
        const LONG_MS: i64 = 100 * PRODUCER_SILENT_MS;
        let mut p = Producers::default();
        let batch = RememberedBatch {
            base_sequence: 0,
            last_sequence: 0,
            base_offset: 0,
            offsets: 1,
        };
        for id in 0..PRODUCERS_PER_PARTITION as i64 {
            assert_eq!(p.check(&other(id), 5, LONG_MS), None);
            p.remember(&other(id), batch, 0, 5, LONG_MS);
        }
        let refused = Some(Outcome::TooManyProducers);
        let soon = 5 + PRODUCER_SILENT_MS - 1;
        assert_eq!(p.check(&other(-1), soon, LONG_MS), refused);
        let retried = Some(Outcome::Duplicate { base_offset: 0 });
        assert_eq!(p.check(&other(0), soon, LONG_MS), retried);
        // One goes on; the others have been silent for so long that nobody retries.
        let next = ProducerMeta {
            base_sequence: 1,
            last_sequence: 1,
            ..other(3)
        };
        p.remember(&next, batch, 0, soon, LONG_MS);
        assert_eq!(p.check(&other(-1), soon + 1, LONG_MS), None);
        p.remember(&other(-1), batch, 0, soon + 1, LONG_MS);
        assert_eq!(p.len(), 2);
        assert!(p.get(3).is_some() && p.get(-1).is_some());
    }

    #[test]
    fn expired_producers_are_swept() {
        let mut p = Producers::default();
        (0..10).for_each(|id| append(&mut p, other(id), id, id));
        assert!(!p.has_silent_since(-1) && p.has_silent_since(0));
        p.forget_silent_since(6);
        assert_eq!(p.len(), 3);
        p.forget_silent_since(9);
        assert_eq!(p, Producers::default());
    }

    #[test]
    fn equal_states_are_held_once() {
        let mut tail = Producers::default();
        append(&mut tail, meta(0, 0, 0), 0, 0);
        let mut applied = tail.clone();
        append(&mut tail, meta(0, 1, 1), 1, 0);
        applied.share(7, &tail);
        assert_eq!(applied.get(7).unwrap().batches.len(), 1, "not the same");
        append(&mut applied, meta(0, 1, 1), 1, 0);
        assert!(!std::ptr::eq(applied.get(7).unwrap(), tail.get(7).unwrap()));
        applied.share(7, &tail);
        assert!(std::ptr::eq(applied.get(7).unwrap(), tail.get(7).unwrap()));
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
