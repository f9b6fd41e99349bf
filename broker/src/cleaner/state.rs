//! How far a partition is compacted, as it is kept on disk: a small row beside the log.
//!
//! Kafka writes the time at which tombstones may go into the header of every batch that has one
//! (KIP-534). Here a list of marks says it for whole stretches of offsets, so that no batch is rewritten
//! for the sake of a clock.

use bytes::Bytes;
use ottla_log::StoreError;
use ottla_proto::limits::CLEANER_MARKS;
use ottla_raft::{RowReader, RowWriter, Sizes};

const VERSION: u8 = 2;
const WHAT: &str = "a cleaner's row";
/// A mark's time is rounded up to this part of `delete.retention.ms`: passes close to each other share
/// a mark, and a tombstone may stay longer by that much.
const MARKS_PER_RETENTION: u64 = 16;

/// A place in a log: an offset, and the bytes that were appended before it since the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub offset: i64,
    pub position_bytes: u64,
}

/// Offsets below `end` (and not below the mark before) were first compacted at `cleaned_at_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub end: i64,
    pub cleaned_at_ms: i64,
    /// What its tombstones take.
    pub tombstone_bytes: u64,
}

/// Ascending in both offset and time, at most [`CLEANER_MARKS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// The mark that `offset` falls under; `None` where it was not compacted yet.
    pub fn index(&self, offset: i64) -> Option<usize> {
        let at = self.0.partition_point(|mark| mark.end <= offset);
        (at < self.0.len()).then_some(at)
    }

    /// Whether a tombstone at `offset` has been kept for its time.
    pub fn is_expired(&self, offset: i64, now_ms: i64, retention_ms: u64) -> bool {
        self.index(offset)
            .is_some_and(|at| self.0[at].is_expired(now_ms, retention_ms))
    }

    /// Bytes of tombstones that may go.
    pub fn expired_bytes(&self, now_ms: i64, retention_ms: u64) -> u64 {
        let expired = self.0.iter().filter(|m| m.is_expired(now_ms, retention_ms));
        expired.map(|mark| mark.tombstone_bytes).sum()
    }

    pub fn hold_tombstones(&self) -> bool {
        self.0.iter().any(|mark| mark.tombstone_bytes > 0)
    }

    /// The marks after a pass up to `end`. `tombstone_bytes` is what is left under each mark and, last,
    /// under the new one.
    pub fn after_pass(
        &self,
        tombstone_bytes: &[u64],
        end: i64,
        now_ms: i64,
        retention_ms: u64,
    ) -> Marks {
        assert_eq!(tombstone_bytes.len(), self.0.len() + 1);
        let grain_ms = (retention_ms / MARKS_PER_RETENTION).clamp(1, i64::MAX as u64) as i64;
        let up = now_ms.rem_euclid(grain_ms);
        let cleaned_at_ms = now_ms.saturating_add(if up == 0 { 0 } else { grain_ms - up });
        let mut marks = self.0.clone();
        for (mark, bytes) in marks.iter_mut().zip(tombstone_bytes) {
            mark.tombstone_bytes = *bytes;
        }
        if end > marks.last().map_or(i64::MIN, |mark| mark.end) {
            marks.push(Mark {
                end,
                // The clock may have gone back.
                cleaned_at_ms: marks
                    .last()
                    .map_or(cleaned_at_ms, |m| m.cleaned_at_ms.max(cleaned_at_ms)),
                tombstone_bytes: tombstone_bytes[self.0.len()],
            });
        }
        let mut merged: Vec<Mark> = Vec::with_capacity(marks.len());
        for mark in marks {
            match merged.last_mut() {
                Some(last) if last.joins(&mark, now_ms, retention_ms) => last.absorb(mark),
                _ => merged.push(mark),
            }
        }
        // A longer retention than before can leave too many: the oldest wait for a later one.
        while merged.len() > CLEANER_MARKS {
            let second = merged.remove(1);
            merged[0].absorb(second);
        }
        Marks(merged)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Mark {
    fn is_expired(&self, now_ms: i64, retention_ms: u64) -> bool {
        now_ms.saturating_sub(self.cleaned_at_ms) as i128 >= retention_ms as i128
    }

    /// Whether one mark will do for both: equal times, or both expired.
    fn joins(&self, later: &Mark, now_ms: i64, retention_ms: u64) -> bool {
        self.cleaned_at_ms == later.cleaned_at_ms || later.is_expired(now_ms, retention_ms)
    }

    fn absorb(&mut self, later: Mark) {
        *self = Mark {
            tombstone_bytes: self.tombstone_bytes + later.tombstone_bytes,
            ..later
        };
    }
}

/// A partition's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanerState {
    /// Before it, every key stands once.
    pub first_dirty: Place,
    /// Bytes from the log start offset to it, when it was compacted.
    pub clean_bytes: u64,
    pub marks: Marks,
    pub left: Left,
}

/// What is left of the compacted part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    Known(Sizes),
    /// A pass that was not through has changed batches before this offset.
    ChangedBefore(i64),
}

impl Default for Left {
    fn default() -> Left {
        Left::Known(Sizes::default())
    }
}

impl Left {
    pub fn sizes(&self) -> Option<&Sizes> {
        match self {
            Left::Known(sizes) => Some(sizes),
            Left::ChangedBefore(_) => None,
        }
    }

    /// While a pass up to `end` has begun to write.
    pub fn changing(&self, end: i64) -> Left {
        Left::ChangedBefore(match self {
            Left::Known(_) => end,
            Left::ChangedBefore(offset) => end.max(*offset),
        })
    }

    /// After a pass that measured what it left.
    pub fn after_pass(&self, measured: Sizes) -> Left {
        match self {
            Left::Known(known) => Left::Known(measured.followed_by(known)),
            Left::ChangedBefore(offset) if measured.end_offset >= *offset => Left::Known(measured),
            changed => changed.clone(),
        }
    }
}

impl CleanerState {
    pub fn encode(&self) -> Bytes {
        let points = self.left.sizes().map_or(&[][..], Sizes::points);
        let bytes = 50 + 24 * self.marks.len() + 16 * points.len();
        let mut row = RowWriter::new(VERSION, bytes);
        row.i64(self.first_dirty.offset)
            .u64(self.first_dirty.position_bytes)
            .u64(self.clean_bytes)
            .u32(self.marks.len() as u32);
        for mark in &self.marks.0 {
            row.i64(mark.end)
                .i64(mark.cleaned_at_ms)
                .u64(mark.tombstone_bytes);
        }
        match &self.left {
            Left::ChangedBefore(offset) => row.u8(0).i64(*offset),
            Left::Known(sizes) => {
                row.u8(1)
                    .i64(sizes.end_offset)
                    .u64(sizes.end_position_bytes);
                row.u32(points.len() as u32)
            }
        };
        for (offset, bytes) in points {
            row.i64(*offset).u64(*bytes);
        }
        row.finish()
    }

    pub fn decode(row: &[u8]) -> Result<CleanerState, StoreError> {
        let mut row = RowReader::new(WHAT, VERSION, row)?;
        let first_dirty = Place {
            offset: row.i64()?,
            position_bytes: row.u64()?,
        };
        let clean_bytes = row.u64()?;
        let count = row.count(24)?;
        let mut marks = Vec::with_capacity(count);
        for _ in 0..count {
            marks.push(Mark {
                end: row.i64()?,
                cleaned_at_ms: row.i64()?,
                tombstone_bytes: row.u64()?,
            });
        }
        let left = match row.u8()? {
            0 => Left::ChangedBefore(row.i64()?),
            1 => Left::Known(get_sizes(&mut row)?),
            tag => return Err(row.damaged(&format!("sizes of kind {tag} are not known"))),
        };
        row.end()?;
        Ok(CleanerState {
            first_dirty,
            clean_bytes,
            marks: Marks(marks),
            left,
        })
    }
}

fn get_sizes(row: &mut RowReader) -> Result<Sizes, StoreError> {
    let (end_offset, end_position_bytes) = (row.i64()?, row.u64()?);
    let points = (0..row.count(16)?)
        .map(|_| Ok((row.i64()?, row.u64()?)))
        .collect::<Result<_, StoreError>>()?;
    let sizes = Sizes::new(end_offset, end_position_bytes, points);
    sizes.ok_or_else(|| row.damaged("its sizes are out of order"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(end: i64) -> Left {
        match end % 3 {
            0 => Left::ChangedBefore(end),
            _ => Left::Known(Sizes::new(end + 2, 77, vec![(0, 9), (end, 4)]).expect("in order")),
        }
    }

    #[test]
    fn sizes_are_known_once_a_pass_went_past_all_that_was_changed() {
        let known = |end| Left::Known(Sizes::new(end, 9, Vec::new()).expect("in order"));
        let measured = |end| Sizes::new(end, 9, Vec::new()).expect("in order");
        let changed = known(10).changing(20);
        assert_eq!(changed, Left::ChangedBefore(20));
        assert_eq!(changed.changing(15), changed);
        assert_eq!(changed.after_pass(measured(15)), changed);
        assert_eq!(changed.after_pass(measured(20)), known(20));
        assert_eq!(known(10).after_pass(measured(5)), known(10));
    }

    proptest! {
        /// Whatever passes there were: a tombstone is never let go before its time, and is let go not
        /// much later; the list stays short.
        #[test]
        fn tombstones_stay_for_their_time(
            steps in prop::collection::vec((1i64..50, 0i64..400), 1..200), retention_ms in 0u64..3000,
        ) {
            let (mut marks, mut now_ms, mut end) = (Marks::default(), 0, 0);
            let mut cleaned: Vec<(i64, i64)> = Vec::new();
            for (offsets, ms) in steps {
                now_ms += ms;
                for (offset, cleaned_at_ms) in &cleaned {
                    let age_ms = (now_ms - cleaned_at_ms) as u64;
                    let expired = marks.is_expired(*offset, now_ms, retention_ms);
                    prop_assert!(!expired || age_ms >= retention_ms);
                    prop_assert!(expired || age_ms < retention_ms + retention_ms / 16 + 1);
                }
                prop_assert!(!marks.is_expired(end, now_ms, retention_ms));
                cleaned.push((end, now_ms));
                end += offsets;
                marks = marks.after_pass(&vec![1; marks.len() + 1], end, now_ms, retention_ms);
                prop_assert!(marks.len() <= 19, "{marks:?}");
                let state = CleanerState { first_dirty: Place { offset: end, position_bytes: 7 }, clean_bytes: 9, marks: marks.clone(), left: sizes(end) };
                prop_assert_eq!(CleanerState::decode(&state.encode()).unwrap(), state);
            }
        }

        #[test]
        fn a_changed_retention_keeps_the_list_short_and_lets_nothing_go_early(
            steps in prop::collection::vec((1i64..400, 0u64..100_000), 1..300),
        ) {
            let (mut marks, mut now_ms, mut end) = (Marks::default(), 0, 0);
            let mut cleaned: Vec<(i64, i64)> = Vec::new();
            for (ms, retention_ms) in steps {
                now_ms += ms;
                for (offset, cleaned_at_ms) in &cleaned {
                    let old_enough = (now_ms - cleaned_at_ms) as u64 >= retention_ms;
                    prop_assert!(old_enough || !marks.is_expired(*offset, now_ms, retention_ms));
                }
                cleaned.push((end, now_ms));
                end += 1;
                marks = marks.after_pass(&vec![0; marks.len() + 1], end, now_ms, retention_ms);
                prop_assert!(marks.len() <= CLEANER_MARKS);
            }
        }

        #[test]
        fn foreign_rows_are_refused(row in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(CleanerState::decode(&row).is_err());
        }
    }

    #[test]
    fn a_clock_that_goes_back_lets_nothing_go_early() {
        let first = Marks::default().after_pass(&[5], 10, 1000, 100);
        let second = first.after_pass(&[5, 7], 20, 200, 100);
        assert!(!second.is_expired(15, 1050, 100));
        assert!(second.is_expired(15, 1110, 100));
        assert_eq!(second.expired_bytes(1110, 100), 12);
    }

    #[test]
    fn without_new_offsets_there_is_no_new_mark() {
        let first = Marks::default().after_pass(&[5], 10, 1000, 100);
        let second = first.after_pass(&[2, 0], 10, 5000, 100);
        assert_eq!((second.len(), second.expired_bytes(5000, 100)), (1, 2));
    }
}
