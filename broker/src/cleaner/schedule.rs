//! What the threads share: which partition is next, who works on it, what is known of it. No disk, no clock.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use ottla_proto::ids::PartitionId;

use super::state::CleanerState;
use super::survey::FirstDirty;

/// `Job`: what is to be done with a partition.
pub struct Work<Job> {
    known: HashMap<PartitionId, Known>,
    failed: HashMap<PartitionId, Failed>,
    /// Some thread looks at it or compacts it.
    busy: HashSet<PartitionId>,
    /// A thread looks at all partitions.
    looking: bool,
    /// Found due by the last look, the dirtiest last.
    due: Vec<(f64, Job)>,
    last_look: Option<Instant>,
}

/// What is remembered of a partition, so that most looks at it need no disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The [life](ottla_raft::Partition::life) of the data that it speaks of.
    pub life: u64,
    pub state: CleanerState,
    /// With the log start offset it holds for.
    pub first_dirty: Option<(i64, FirstDirty)>,
    /// High watermark at which there was nothing to do, nor will be before there is more.
    pub settled: Option<i64>,
}

impl Known {
    pub fn new(life: u64, state: CleanerState) -> Known {
        Known {
            life,
            state,
            first_dirty: None,
            settled: None,
        }
    }
}

#[derive(Clone, Copy)]
struct Failed {
    again_at: Instant,
    bytes: u64,
}

impl<Job> Default for Work<Job> {
    fn default() -> Work<Job> {
        Work {
            known: HashMap::new(),
            failed: HashMap::new(),
            busy: HashSet::new(),
            looking: false,
            due: Vec::new(),
            last_look: None,
        }
    }
}

impl<Job> Work<Job> {
    /// Takes a partition for one thread; false if another one has it.
    pub fn claim(&mut self, id: PartitionId) -> bool {
        self.busy.insert(id)
    }

    pub fn release(&mut self, id: PartitionId) {
        self.busy.remove(&id);
    }

    /// The dirtiest of those that the last look has found.
    pub fn next_due(&mut self) -> Option<Job> {
        self.due.pop().map(|(_, job)| job)
    }

    /// False if another thread looks at all partitions.
    pub fn begin_look(&mut self) -> bool {
        !std::mem::replace(&mut self.looking, true)
    }

    /// With each job's dirty ratio. When the look before had begun.
    pub fn end_look(&mut self, began: Instant, mut due: Vec<(f64, Job)>) -> Option<Instant> {
        due.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.due = due;
        self.looking = false;
        self.last_look.replace(began)
    }

    /// Forgets partitions that are not there any more.
    pub fn keep_only(&mut self, present: &HashSet<PartitionId>) {
        self.known.retain(|id, _| present.contains(id));
        self.failed.retain(|id, _| present.contains(id));
    }

    /// What is known of a partition's data; not of another life of it.
    pub fn known(&self, id: PartitionId, life: u64) -> Option<Known> {
        let known = self.known.get(&id);
        known.filter(|known| known.life == life).cloned()
    }

    pub fn remember(&mut self, id: PartitionId, known: Known) {
        self.known.insert(id, known);
    }

    /// Whether it failed, and is to be left alone for now.
    pub fn rests(&self, id: PartitionId, now: Instant) -> bool {
        self.failed.get(&id).is_some_and(|f| now < f.again_at)
    }

    pub fn failed(&mut self, id: PartitionId, again_at: Instant, bytes: u64) {
        self.failed.insert(id, Failed { again_at, bytes });
    }

    /// Bytes of each partition that failed and has not been compacted since.
    pub fn failed_bytes(&self) -> impl Iterator<Item = u64> {
        self.failed.values().map(|failed| failed.bytes)
    }

    /// A pass is through. What somebody else has forgotten meanwhile stays so.
    pub fn done(&mut self, id: PartitionId, known: Known) {
        self.failed.remove(&id);
        if let Some(before) = self.known.get_mut(&id) {
            *before = known;
        }
    }

    /// A pass up to `end` was not through, and may have changed anything before that.
    pub fn cut_short(&mut self, id: PartitionId, end: i64) {
        if let Some(known) = self.known.get_mut(&id) {
            known.state.left = known.state.left.changing(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::state::Left;
    use super::*;

    const A: PartitionId = PartitionId(1);
    const B: PartitionId = PartitionId(2);

    fn known(life: u64) -> Known {
        Known::new(life, CleanerState::default())
    }

    #[test]
    fn a_partition_is_one_threads_and_a_look_too() {
        let mut work: Work<()> = Work::default();
        assert!(work.claim(A) && work.claim(B));
        assert!(!work.claim(A));
        work.release(A);
        assert!(work.claim(A) && !work.claim(B));
        let now = Instant::now();
        assert!(work.begin_look() && !work.begin_look());
        assert_eq!(work.end_look(now, Vec::new()), None);
        assert!(work.begin_look());
        assert_eq!(work.end_look(now, Vec::new()), Some(now));
    }

    #[test]
    fn the_dirtiest_is_next_and_a_new_look_takes_the_place_of_the_old() {
        let mut work = Work::default();
        work.end_look(Instant::now(), vec![(0.5, "b"), (0.9, "c"), (0.1, "a")]);
        assert_eq!((work.next_due(), work.next_due()), (Some("c"), Some("b")));
        work.end_look(Instant::now(), vec![(0.2, "d")]);
        assert_eq!((work.next_due(), work.next_due()), (Some("d"), None));
    }

    #[test]
    fn what_failed_rests_until_its_time_and_counts_until_it_is_done() {
        let mut work: Work<()> = Work::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(15);
        work.failed(A, later, 70);
        assert!(work.rests(A, now) && !work.rests(A, later) && !work.rests(B, now));
        assert_eq!(work.failed_bytes().sum::<u64>(), 70);
        work.done(A, known(1));
        assert!(!work.rests(A, now));
        assert_eq!(work.failed_bytes().count(), 0);
    }

    #[test]
    fn nothing_is_known_of_another_life_or_of_what_is_gone() {
        let mut work: Work<()> = Work::default();
        work.remember(A, known(1));
        work.remember(B, known(1));
        assert_eq!(work.known(A, 1), Some(known(1)));
        assert_eq!(work.known(A, 2), None);
        work.failed(B, Instant::now(), 5);
        work.keep_only(&HashSet::from([A]));
        assert_eq!((work.known(B, 1), work.failed_bytes().count()), (None, 0));
        // A pass that ends after its partition is gone brings nothing back.
        work.done(B, known(1));
        work.cut_short(B, 9);
        assert_eq!(work.known(B, 1), None);
    }

    #[test]
    fn a_pass_that_was_not_through_makes_sizes_unknown_and_the_next_one_known() {
        let mut work: Work<()> = Work::default();
        work.remember(A, known(1));
        work.cut_short(A, 20);
        let left = |work: &Work<()>| work.known(A, 1).map(|k| k.state.left);
        assert_eq!(left(&work), Some(Left::ChangedBefore(20)));
        work.done(A, known(1));
        assert_eq!(left(&work), Some(Left::default()));
    }
}
