//! A set of ids as ranges: partitions that are gone. Ids are never given twice and rise, so that what
//! is deleted together lies together.

use std::collections::BTreeMap;

/// First id of a range, and the id behind its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdSet(BTreeMap<u64, u64>);

impl IdSet {
    pub(crate) fn contains(&self, id: u64) -> bool {
        let before = self.0.range(..=id).next_back();
        before.is_some_and(|(_, end)| id < *end)
    }

    /// False if it was there.
    pub(crate) fn insert(&mut self, id: u64) -> bool {
        if self.contains(id) || id == u64::MAX {
            return false;
        }
        let before = self.0.range(..=id).next_back();
        let first = match before {
            Some((first, end)) if *end == id => *first,
            _ => id,
        };
        let end = self.0.remove(&(id + 1)).unwrap_or(id + 1);
        self.0.insert(first, end);
        true
    }

    pub(crate) fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, end)| (*first, *end))
    }

    /// `None` where the ranges are out of order.
    pub(crate) fn of(ranges: Vec<(u64, u64)>) -> Option<IdSet> {
        let whole = ranges.iter().all(|(first, end)| first < end);
        let apart = ranges.is_sorted_by(|a, b| a.1 < b.0);
        (whole && apart).then(|| IdSet(ranges.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(ids in prop::collection::vec(0..60u64, 0..80)) {
            let (mut set, mut model) = (IdSet::default(), BTreeSet::new());
            for id in ids {
                prop_assert_eq!(set.insert(id), model.insert(id));
            }
            for id in 0..61 {
                prop_assert_eq!(set.contains(id), model.contains(&id));
            }
            let gaps = model.iter().filter(|id| !model.contains(&(**id + 1))).count();
            prop_assert_eq!(set.ranges().len(), gaps);
            prop_assert_eq!(IdSet::of(set.ranges().collect()), Some(set));
        }
    }
}
