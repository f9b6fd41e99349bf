//! The highest record timestamp of a log whose front goes: that of the records from the log start offset
//! on, not of all that ever were.
//!
//! Kafka has one highest timestamp per segment, and forgets it with the segment. Here it is kept with the
//! offset up to which it holds, and behind it the next highest of what came later, and so on: mostly one,
//! as records come in the order of their timestamps.

/// Timestamps kept; two neighbours become one where they are closest, so that some are a little too high.
const MAXIMA: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maximum {
    pub timestamp_ms: i64,
    /// Base offset of the first batch that has it.
    pub offset: i64,
    /// No later record up to here has a higher one.
    pub last_offset: i64,
}

/// Falling timestamps at rising offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maxima(Vec<Maximum>);

impl Maxima {
    /// As they were kept.
    pub(crate) fn of(list: Vec<Maximum>) -> Maxima {
        Maxima(list)
    }

    pub(crate) fn list(&self) -> &[Maximum] {
        &self.0
    }

    /// The highest timestamp in the log, ms, and the batch that had it first; -1 while there is none.
    pub fn first(&self) -> (i64, i64) {
        let first = self.0.first();
        first.map_or((-1, -1), |max| (max.timestamp_ms, max.offset))
    }

    /// Takes a batch that was appended.
    pub(crate) fn append(&mut self, timestamp_ms: i64, base_offset: i64, last_offset: i64) {
        if timestamp_ms < 0 {
            return;
        }
        while self
            .0
            .pop_if(|max| max.timestamp_ms < timestamp_ms)
            .is_some()
        {}
        match self.0.last_mut() {
            Some(last) if last.timestamp_ms == timestamp_ms => last.last_offset = last_offset,
            _ => self.0.push(Maximum {
                timestamp_ms,
                offset: base_offset,
                last_offset,
            }),
        }
        if self.0.len() > MAXIMA {
            self.join_two();
        }
    }

    fn join_two(&mut self) {
        let apart = |at: &usize| self.0[*at].timestamp_ms - self.0[at + 1].timestamp_ms;
        if let Some(at) = (0..self.0.len() - 1).min_by_key(apart) {
            let later = self.0.remove(at + 1);
            self.0[at].last_offset = later.last_offset;
        }
    }

    /// Forgets what lies before the log start offset.
    pub(crate) fn trim(&mut self, log_start_offset: i64) {
        let gone = self
            .0
            .partition_point(|max| max.last_offset < log_start_offset);
        self.0.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is appended and deleted: never less than the highest timestamp that is left, exact
        /// while they do not fall more often than is kept, and gone with what had it.
        #[test]
        fn the_highest_of_what_is_left(
            steps in prop::collection::vec((0i64..50, 1i64..4, prop::option::weighted(0.2, 0i64..100)), 1..200),
        ) {
            let (mut maxima, mut log, mut end, mut start) = (Maxima::default(), Vec::new(), 0, 0);
            for (timestamp_ms, offsets, trim) in steps {
                maxima.append(timestamp_ms, end, end + offsets - 1);
                log.push((end, end + offsets - 1, timestamp_ms));
                end += offsets;
                if let Some(part) = trim {
                    start += (end - start) * part / 100;
                    maxima.trim(start);
                    log.retain(|(_, last, _)| *last >= start);
                }
                let highest = log.iter().map(|(.., t)| *t).max().unwrap_or(-1);
                let falls = log.windows(2).filter(|w| w[0].2 > w[1].2).count();
                prop_assert!(maxima.first().0 >= highest);
                prop_assert!(falls >= MAXIMA || maxima.first().0 == highest, "{maxima:?} {log:?}");
                prop_assert!(maxima.0.len() <= MAXIMA);
                let falling = maxima.0.is_sorted_by(|a, b| a.timestamp_ms > b.timestamp_ms && a.last_offset < b.last_offset);
                prop_assert!(falling, "{:?}", maxima);
            }
        }
    }

    #[test]
    fn a_timestamp_in_the_future_goes_with_its_record() {
        let mut maxima = Maxima::default();
        maxima.append(10, 0, 0);
        maxima.append(9_000, 1, 1);
        (2..100).for_each(|offset| maxima.append(10 + offset, offset, offset));
        assert_eq!(maxima.first(), (9_000, 1));
        maxima.trim(2);
        assert_eq!(maxima.first(), (109, 99));
    }
}
