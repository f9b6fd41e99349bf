//! What happened, in order and with its time, and the rules that are judged while it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard};

use ottla_proto::ids::{GroupId, NodeId};
use ottla_tests::checker;
use ottla_tests::history::{Event, History, Nanos};
use tokio::time::Instant;

use super::commits::Commits;

/// A promise that was broken: the rule's name, as in `tests/src/checker/mod.rs` or in `mod.rs` here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: String,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// How much a history has seen: one that saw nothing proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub acknowledged: u64,
    pub commits: u64,
    pub elections: u64,
    pub crashes: u64,
    /// Generations of consumer groups.
    pub generations: u64,
    /// Replicas moved, leaders elected and topics made on request.
    pub operations: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.acknowledged += other.acknowledged;
        self.commits += other.commits;
        self.elections += other.elections;
        self.crashes += other.crashes;
        self.generations += other.generations;
        self.operations += other.operations;
    }
}

#[derive(Default)]
struct Written {
    /// What clients saw of records.
    history: History,
    commits: Commits,
    /// One line for each thing that happened.
    lines: String,
    violations: Vec<Violation>,
    leaders: BTreeMap<(GroupId, i32), NodeId>,
    producer_ids: BTreeSet<i64>,
    /// By group, generation and partition.
    owners: BTreeMap<(String, i32, i32), String>,
    generations: BTreeSet<(String, i32)>,
    counts: Counts,
}

pub struct Journal {
    began: Instant,
    written: Mutex<Written>,
}

impl Journal {
    pub fn new() -> Journal {
        Journal {
            began: Instant::now(),
            written: Mutex::default(),
        }
    }

    pub fn now(&self) -> Nanos {
        self.began.elapsed().as_nanos() as Nanos
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("no holder panics")
    }

    pub fn note(&self, what: impl fmt::Display) {
        let at = self.began.elapsed().as_micros();
        tracing::info!(at, "{what}");
        writeln!(self.written().lines, "{at} {what}").expect("memory takes every byte");
    }

    pub fn violation(&self, rule: &str, text: impl Into<String>) {
        let (rule, text) = (rule.to_owned(), text.into());
        self.note(format_args!("VIOLATION {rule}: {text}"));
        self.written().violations.push(Violation { rule, text });
    }

    pub fn add(&self, event: Event) {
        self.note(format_args!("{event:?}"));
        self.written().history.events.push(event);
    }

    pub fn commits(&self, change: impl FnOnce(&mut Commits)) {
        change(&mut self.written().commits);
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.written().counts);
    }

    /// one-leader: a replication group has at most one leader in a leader epoch.
    pub fn leads(&self, group: GroupId, epoch: i32, node: NodeId) {
        let first = self.written().leaders.get(&(group, epoch)).copied();
        match first {
            None => {
                self.note(format_args!("{node} leads {group} in {epoch}"));
                let mut written = self.written();
                written.leaders.insert((group, epoch), node);
                written.counts.elections += 1;
            }
            Some(first) if first != node => {
                let text = format!("{first} and {node} lead {group} in {epoch}");
                self.violation("TwoLeaders", text);
            }
            Some(_) => {}
        }
    }

    /// producer-id: no id is given to two producers.
    pub fn producer_id(&self, id: i64) {
        if !self.written().producer_ids.insert(id) {
            self.violation("ProducerIdTwice", format!("{id}"));
        }
    }

    /// group-split: two members never own one partition in the same generation.
    pub fn owns(&self, group: &str, generation: i32, partition: i32, member: &str) {
        let key = (group.to_owned(), generation, partition);
        let first = {
            let mut written = self.written();
            if written.generations.insert((group.to_owned(), generation)) {
                written.counts.generations += 1;
            }
            let first = written.owners.entry(key);
            first.or_insert_with(|| member.to_owned()).clone()
        };
        if first != member {
            let text = format!(
                "{first} and {member} own partition {partition} of {group} in generation {generation}"
            );
            self.violation("GroupSplit", text);
        }
    }

    /// Judges all that is left to judge.
    pub fn end(&self) -> (Vec<Violation>, Counts, String) {
        let mut written = self.written();
        let (summary, found) = checker::check(&written.history);
        let mut violations = std::mem::take(&mut written.violations);
        let named = |found: checker::Violation| Violation {
            rule: format!("{:?}", found.rule),
            text: found.text,
        };
        violations.extend(found.into_iter().map(named));
        violations.extend(written.commits.check());
        let mut counts = written.counts;
        counts.acknowledged = summary.acknowledged_records;
        counts.commits = written.commits.acknowledged();
        (violations, counts, std::mem::take(&mut written.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(write: impl FnOnce(&Journal)) -> Vec<String> {
        let journal = Journal::new();
        write(&journal);
        let violations = journal.end().0.into_iter();
        violations.map(|violation| violation.rule).collect()
    }

    #[test]
    fn each_breach_is_found() {
        let group = GroupId(1);
        let two_leaders = rules(|journal| {
            journal.leads(group, 3, 1);
            journal.leads(group, 3, 1);
            journal.leads(GroupId(2), 3, 2);
            journal.leads(group, 4, 2);
            journal.leads(group, 3, 2);
        });
        assert_eq!(two_leaders, ["TwoLeaders"]);
        let split = rules(|journal| {
            journal.owns("g", 1, 0, "a");
            journal.owns("g", 1, 0, "a");
            journal.owns("g", 1, 1, "b");
            journal.owns("g", 2, 0, "b");
            journal.owns("g", 1, 0, "b");
        });
        assert_eq!(split, ["GroupSplit"]);
        let twice = rules(|journal| [1, 2, 1].iter().for_each(|id| journal.producer_id(*id)));
        assert_eq!(twice, ["ProducerIdTwice"]);
        let lost = rules(|journal| {
            let batch = ottla_tests::history::Sent {
                producer: 1,
                partition: 0,
                first: 0,
                count: 1,
            };
            let (base_offset, at) = (Some(0), 2);
            journal.add(Event::Send { batch, at: 1 });
            journal.add(Event::Ack {
                batch,
                base_offset,
                at,
            });
            journal.add(Event::Complete(ottla_tests::history::Read {
                asked_at: 3,
                answered_at: 4,
                high_watermark: 1,
                ..Default::default()
            }));
        });
        assert_eq!(lost, ["LostWrite"]);
        let unread = rules(|journal| journal.commits(|c| c.acknowledge("g", 0, 5, 4)));
        assert_eq!(unread, ["OffsetRegress"]);
    }
}
