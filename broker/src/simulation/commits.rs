//! offset-regress, for groups whose members come and go: a committed offset is never lost, moved back, or made up.
//! The checker of `tests/` has this rule for groups of one; here reads may overlap.

use std::collections::BTreeMap;

use ottla_tests::history::Nanos;

use super::journal::Violation;

#[derive(Default)]
struct Partition {
    sent: Vec<i64>,
    /// When, and what.
    acknowledged: Vec<(Nanos, i64)>,
    /// Asked at, answered at, and what was there; -1 is none.
    read: Vec<(Nanos, Nanos, i64)>,
}

/// By group and partition.
#[derive(Default)]
pub struct Commits(BTreeMap<(String, i32), Partition>);

impl Commits {
    fn of(&mut self, group: &str, partition: i32) -> &mut Partition {
        self.0.entry((group.to_owned(), partition)).or_default()
    }

    pub fn sent(&mut self, group: &str, partition: i32, offset: i64) {
        self.of(group, partition).sent.push(offset);
    }

    pub fn acknowledge(&mut self, group: &str, partition: i32, offset: i64, at: Nanos) {
        self.of(group, partition).acknowledged.push((at, offset));
    }

    pub fn read(&mut self, group: &str, partition: i32, offset: i64, (asked, at): (Nanos, Nanos)) {
        self.of(group, partition).read.push((asked, at, offset));
    }

    pub fn acknowledged(&self) -> u64 {
        self.0.values().map(|p| p.acknowledged.len() as u64).sum()
    }

    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for ((group, partition), commits) in &self.0 {
            let mut add = |text: String| {
                found.push(Violation {
                    rule: "OffsetRegress".to_owned(),
                    text: format!("group {group} partition {partition}: {text}"),
                });
            };
            for (asked, _, offset) in &commits.read {
                let acked = commits.acknowledged.iter().filter(|(at, _)| at <= asked);
                let shown = commits.read.iter().filter(|(_, at, _)| at <= asked);
                let shown = shown.map(|(_, _, offset)| *offset);
                let least = acked.map(|(_, offset)| *offset).chain(shown).max();
                if let Some(least) = least.filter(|least| offset < least) {
                    add(format!("{offset} is committed, {least} was before"));
                }
                if *offset != -1 && !commits.sent.contains(offset) {
                    add(format!("{offset} is committed, which nobody sent"));
                }
            }
            let last_look = commits.read.iter().map(|(asked, ..)| *asked).max();
            let last_ack = commits.acknowledged.iter().map(|(at, _)| *at).max();
            if last_ack > last_look {
                add("its last commit was never read back".to_owned());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(write: impl FnOnce(&mut Commits)) -> usize {
        let mut commits = Commits::default();
        commits.sent("g", 0, 5);
        commits.sent("g", 0, 9);
        write(&mut commits);
        commits.check().len()
    }

    #[test]
    fn what_is_committed_stays() {
        let good = judged(|c| {
            c.read("g", 0, -1, (1, 2));
            c.acknowledge("g", 0, 5, 4);
            // One that saw the next commit before its answer, and one that overlaps with it and did not.
            c.read("g", 0, 9, (5, 20));
            c.read("g", 0, 5, (6, 7));
            c.acknowledge("g", 0, 9, 21);
            c.read("g", 0, 9, (22, 23));
        });
        assert_eq!(good, 0);
    }

    #[test]
    fn each_breach_is_found() {
        let lost = |c: &mut Commits| {
            c.acknowledge("g", 0, 5, 4);
            c.read("g", 0, -1, (5, 6));
        };
        let moved_back = |c: &mut Commits| {
            c.read("g", 0, 9, (1, 2));
            c.read("g", 0, 5, (3, 4));
        };
        let made_up = |c: &mut Commits| c.read("g", 0, 7, (1, 2));
        let unread = |c: &mut Commits| c.acknowledge("g", 0, 5, 4);
        assert_eq!(judged(lost), 1);
        assert_eq!(judged(moved_back), 1);
        assert_eq!(judged(made_up), 1);
        assert_eq!(judged(unread), 1);
    }
}
