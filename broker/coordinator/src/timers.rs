//! Deadlines of a shard, ordered by time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What happens at a deadline. One of each kind can be set at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A member, or a pending member id, was not heard of.
    Session { group: Arc<str>, member: Arc<str> },
    /// The join phase is over (or its initial delay, which may be extended).
    Join { group: Arc<str> },
    /// Members that did not sync are removed.
    Sync { group: Arc<str> },
    /// Look for expired offsets.
    Expire { group: Arc<str> },
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(i64, Timer)>,
    set: HashMap<Timer, i64>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub(crate) fn set(&mut self, timer: Timer, deadline_ms: i64) {
        if let Some(before) = self.set.insert(timer.clone(), deadline_ms) {
            if before == deadline_ms {
                return;
            }
            let old = (before, timer);
            self.queue.remove(&old);
            self.queue.insert((deadline_ms, old.1));
        } else {
            self.queue.insert((deadline_ms, timer));
        }
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(deadline_ms) = self.set.remove(&timer) {
            self.queue.remove(&(deadline_ms, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.set.contains_key(timer)
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.queue.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now_ms: i64) -> Option<Timer> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.set.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_timer_fires_once_at_its_last_deadline() {
        let join = Timer::Join { group: "g".into() };
        let sync = Timer::Sync { group: "g".into() };
        let mut timers = Timers::default();
        timers.set(join.clone(), 10);
        timers.set(sync.clone(), 15);
        timers.set(join.clone(), 20);
        assert_eq!(timers.next_deadline_ms(), Some(15));
        assert_eq!(timers.pop_due(14), None);
        assert_eq!(timers.pop_due(30), Some(sync));
        assert_eq!(timers.pop_due(30), Some(join.clone()));
        assert_eq!(timers.pop_due(30), None);
        timers.set(join.clone(), 5);
        timers.cancel(join);
        assert_eq!(timers.next_deadline_ms(), None);
    }
}
