//! How many bytes compaction has left of the front of a log, and where: what `retention.bytes` goes by.
//!
//! The index knows at which byte a batch was appended, not how much of what was before it is still
//! there. Compaction sees every batch it leaves, and notes some of them with their place in what is
//! left. Sizes are exact at these points, which are at most a thirty-second of the whole and a batch apart.

use std::sync::Arc;

use ottla_proto::limits::{INDEX_INTERVAL_BYTES, SIZE_POINTS};

/// What is left of the compacted part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The compacted part ends before this offset.
    pub end_offset: i64,
    /// Bytes ever appended before it.
    pub end_position_bytes: u64,
    /// Base offsets of some batches, ascending, the first batch's among them, each with the bytes that
    /// are left from it to the end.
    points: Arc<[(i64, u64)]>,
}

/// A place in a log before which records may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// At this batch, in the compacted part.
    Offset(i64),
    /// Where the log had so many bytes.
    PositionBytes(u64),
}

impl Sizes {
    /// As they were kept; `None` if these cannot be points.
    pub fn new(end_offset: i64, end_position_bytes: u64, points: Vec<(i64, u64)>) -> Option<Sizes> {
        let ordered = points.is_sorted_by(|a, b| a.0 < b.0 && a.1 >= b.1);
        let inside = points.last().is_none_or(|(offset, _)| *offset < end_offset);
        (ordered && inside && points.len() <= SIZE_POINTS).then_some(Sizes {
            end_offset,
            end_position_bytes,
            points: points.into(),
        })
    }

    pub fn points(&self) -> &[(i64, u64)] {
        &self.points
    }

    /// Bytes of the compacted part from `offset` on, or up to a point's distance more.
    pub fn bytes_from(&self, offset: i64) -> u64 {
        if offset >= self.end_offset {
            return 0;
        }
        let next = self.points.partition_point(|(at, _)| *at <= offset);
        let point = self.points.get(next.saturating_sub(1));
        point.map_or(0, |(_, bytes)| *bytes)
    }

    /// The last point from which on at least `bytes` of the compacted part are left.
    fn last_with(&self, bytes: u64) -> Option<i64> {
        let next = self.points.partition_point(|(_, left)| *left >= bytes);
        Some(self.points.get(next.checked_sub(1)?)?.0)
    }

    /// Where to cut a log of `position_bytes` so that at least `keep_bytes` remain, and hardly more;
    /// `None` if there are not so many.
    pub fn cut(&self, position_bytes: u64, keep_bytes: u64) -> Option<Cut> {
        let rest = position_bytes.saturating_sub(self.end_position_bytes);
        if keep_bytes <= rest || self.points.is_empty() {
            return Some(Cut::PositionBytes(position_bytes.checked_sub(keep_bytes)?));
        }
        self.last_with(keep_bytes - rest).map(Cut::Offset)
    }

    /// What is known after a pass that ended before what was known until now did.
    pub fn followed_by(self, known: &Sizes) -> Sizes {
        if known.end_offset <= self.end_offset {
            return self;
        }
        let behind = known
            .points
            .partition_point(|(offset, _)| *offset < self.end_offset);
        let behind = &known.points[behind..];
        // Up to a point's distance less than it is: too much stays rather than too little.
        let more = behind.first().map_or(0, |(_, bytes)| *bytes);
        let own = self.points.iter();
        let mut points: Vec<_> = own.map(|(at, bytes)| (*at, bytes + more)).collect();
        points.extend_from_slice(behind);
        if points.len() > SIZE_POINTS {
            let apart_bytes = apart_bytes(points[0].1);
            thin_out(&mut points, apart_bytes);
        }
        Sizes {
            end_offset: known.end_offset,
            end_position_bytes: known.end_position_bytes,
            points: points.into(),
        }
    }
}

/// How far apart points may be among so many bytes: half as many points as there may be, so that two
/// neighbours that are further apart together are never too many.
fn apart_bytes(bytes: u64) -> u64 {
    bytes / (SIZE_POINTS as u64 / 4)
}

/// Takes out every point whose neighbours are then not further apart than this.
fn thin_out(points: &mut Vec<(i64, u64)>, apart_bytes: u64) {
    let mut kept = 0;
    for index in 1..points.len() {
        let next = points.get(index + 1);
        if next.is_none_or(|next| next.1.abs_diff(points[kept].1) > apart_bytes) {
            kept += 1;
            points[kept] = points[index];
        }
    }
    points.truncate(kept + 1);
}

/// Measures what is left, batch by batch.
#[derive(Debug)]
pub struct Measure {
    /// With the bytes before each.
    points: Vec<(i64, u64)>,
    apart_bytes: u64,
    bytes: u64,
}

impl Default for Measure {
    fn default() -> Measure {
        Measure {
            points: Vec::new(),
            apart_bytes: INDEX_INTERVAL_BYTES,
            bytes: 0,
        }
    }
}

impl Measure {
    /// Takes the next batch that is left.
    pub fn batch(&mut self, base_offset: i64, bytes: u64) {
        let due = |last: &(i64, u64)| self.bytes - last.1 >= self.apart_bytes;
        if self.points.last().is_none_or(due) {
            self.points.push((base_offset, self.bytes));
            if self.points.len() > SIZE_POINTS {
                self.apart_bytes = apart_bytes(self.bytes);
                thin_out(&mut self.points, self.apart_bytes);
            }
        }
        self.bytes += bytes;
    }

    /// The part measured ends before `end_offset`, where the log had `end_position_bytes`.
    pub fn end(&self, end_offset: i64, end_position_bytes: u64) -> Sizes {
        let left = |(offset, before): &(i64, u64)| (*offset, self.bytes - before);
        Sizes {
            end_offset,
            end_position_bytes,
            points: self.points.iter().map(left).collect(),
        }
    }
}

/// What a replica knows of its compacted part.
#[derive(Debug, Default)]
pub(crate) struct Sizing {
    pub(crate) sizes: Sizes,
    known: bool,
    /// A pass changes it right now.
    changing: bool,
    /// Counts changes, so that a look at the disk that was overtaken is noticed.
    changes: u64,
}

impl Sizing {
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn begin(&mut self) {
        (self.known, self.changing) = (false, true);
        self.changes += 1;
    }

    pub(crate) fn end(&mut self, sizes: Option<Sizes>) {
        (self.known, self.changing) = (sizes.is_some(), false);
        self.sizes = sizes.unwrap_or_else(|| std::mem::take(&mut self.sizes));
        self.changes += 1;
    }

    /// The data is other data.
    pub(crate) fn forget(&mut self) {
        *self = Sizing {
            changes: self.changes + 1,
            ..Sizing::default()
        };
    }

    /// For a look at the disk: what to give back to [`Sizing::learn`]. `None` while that is no use.
    pub(crate) fn look(&self) -> Option<u64> {
        (!self.known && !self.changing).then_some(self.changes)
    }

    pub(crate) fn learn(&mut self, look: u64, sizes: Sizes) {
        if self.look() == Some(look) {
            (self.sizes, self.known) = (sizes, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measure(batches: &[(i64, u64)]) -> Measure {
        let mut measure = Measure::default();
        batches.iter().for_each(|(o, b)| measure.batch(*o, *b));
        measure
    }

    proptest! {
        /// Whatever the batches: a cut leaves at least what is to be kept, and at most a point's distance
        /// and a batch more; and cutting again at once cuts nothing.
        #[test]
        fn a_cut_keeps_the_limit_and_stays(
            sizes in prop::collection::vec(1u64..100_000, 1..2000), rest in 0u64..3_000_000, part in 0.0f64..1.1,
        ) {
            let batches: Vec<(i64, u64)> = (0..).step_by(3).zip(sizes.iter().copied()).collect();
            let end = batches.len() as i64 * 3;
            let total: u64 = sizes.iter().sum();
            // Ten times as much was appended.
            let sizes = measure(&batches).end(end, 10 * total);
            prop_assert_eq!(sizes.bytes_from(0), total);
            prop_assert!(Sizes::new(end, 10 * total, sizes.points.to_vec()).is_some());
            let position = 10 * total + rest;
            let keep = ((total + rest) as f64 * part) as u64;
            let left = |offset: i64| batches.iter().filter(|(o, _)| *o >= offset).map(|(_, b)| b).sum::<u64>();
            match sizes.cut(position, keep) {
                Some(Cut::PositionBytes(at)) => {
                    prop_assert!(keep <= rest && position - at == keep);
                }
                Some(Cut::Offset(offset)) => {
                    let kept = left(offset) + rest;
                    prop_assert_eq!(sizes.bytes_from(offset), left(offset));
                    prop_assert!(kept >= keep, "{kept} of {keep}");
                    prop_assert!(kept - keep <= total / 32 + 200_000, "{kept} of {keep}");
                    prop_assert_eq!(sizes.cut(position, keep), Some(Cut::Offset(offset)));
                }
                None => prop_assert!(keep > total + rest),
            }
        }

        /// A pass over the front leaves what was known of the part behind it.
        #[test]
        fn two_parts_are_one(
            front in prop::collection::vec(1u64..100_000, 0..600), back in prop::collection::vec(1u64..100_000, 1..600),
        ) {
            let number = |from: i64, sizes: &[u64]| (from..).zip(sizes.iter().copied()).collect::<Vec<_>>();
            let middle = front.len() as i64;
            let all = [number(0, &front), number(middle, &back)].concat();
            let end = all.len() as i64;
            let known = measure(&all).end(end, 1 << 40);
            let sizes = measure(&all[..front.len()]).end(middle, 5).followed_by(&known);
            prop_assert_eq!((sizes.end_offset, sizes.end_position_bytes), (end, 1 << 40));
            for offset in [0, middle / 2, middle] {
                let left: u64 = all[offset as usize..].iter().map(|(_, b)| b).sum();
                let told = sizes.bytes_from(offset);
                let apart = all.iter().map(|(_, b)| b).sum::<u64>() / 32 + 200_000;
                prop_assert!(told + apart >= left && told <= left + apart, "{told} for {left}");
            }
            for (offset, told) in sizes.points.iter() {
                let left: u64 = all[*offset as usize..].iter().map(|(_, b)| b).sum();
                prop_assert!(*told <= left, "{told} for {left}");
            }
            prop_assert!(sizes.points.len() <= SIZE_POINTS);
        }
    }

    #[test]
    fn a_look_that_was_overtaken_counts_for_nothing() {
        let one = Measure::default().end(1, 1);
        let mut sizing = Sizing::default();
        let look = sizing.look().expect("nothing is known");
        sizing.begin();
        assert_eq!(sizing.look(), None);
        sizing.learn(look, one.clone());
        assert!(!sizing.is_known());
        sizing.end(None);
        sizing.learn(look, one.clone());
        assert!(!sizing.is_known(), "it is from before the pass");
        let look = sizing.look().expect("not known since it failed");
        sizing.learn(look, one.clone());
        assert!(sizing.is_known() && sizing.sizes == one);
    }
}
