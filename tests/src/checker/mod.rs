//! Proves from a history that the broker kept its promises, or says where it did not.
//!
//! | rule | meaning |
//! | --- | --- |
//! | lost-write | an acknowledged record is in every later complete read |
//! | unseen | every partition with acknowledged records was read to an end beyond them |
//! | inconsistent-offsets | one (partition, offset) never shows two records, to anyone, ever |
//! | duplicate | one record is never at two offsets |
//! | nonmonotonic-send | records of one producer keep their order in a partition |
//! | foreign | nothing is read that was not sent |
//! | poll-skip | an answer to a fetch has every offset from the one asked for (no compaction here) |
//! | realtime | an acknowledged record is below the high watermark of every read that starts later |
//! | taken-back | what a read showed, acknowledged or not, is there for every read that starts later: records and high watermark |
//! | replicas-differ | when nobody writes any more, complete reads of each replica are the same |
//! | offset-regress | a committed group offset is never lost, moved back, or made up |
//! | failed-send | no producer is told what must not happen: a lost sequence, an unknown error |
//! | failed-read | no reader is told what must not happen: an offset that was there is out of range |

mod commits;
mod records;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::history::History;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    LostWrite,
    Unseen,
    InconsistentOffsets,
    Duplicate,
    NonmonotonicSend,
    Foreign,
    PollSkip,
    Realtime,
    TakenBack,
    ReplicasDiffer,
    OffsetRegress,
    FailedSend,
    FailedRead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

/// What the history showed; printed by tests, so that one that saw nothing is noticed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub sent_records: u64,
    pub acknowledged_records: u64,
    /// In complete reads.
    pub stored_records: u64,
    pub reads: u64,
    pub commits_acknowledged: u64,
}

/// Every broken promise, at most `MAX_VIOLATIONS` of them.
pub fn check(history: &History) -> (Summary, Vec<Violation>) {
    let mut found = Findings::default();
    let summary = records::check(history, &mut found);
    commits::check(history, &mut found);
    (summary, found.list)
}

const MAX_VIOLATIONS: usize = 100;

#[derive(Default)]
struct Findings {
    list: Vec<Violation>,
}

impl Findings {
    fn add(&mut self, rule: Rule, text: impl FnOnce() -> String) {
        if self.list.len() < MAX_VIOLATIONS {
            self.list.push(Violation { rule, text: text() });
        }
    }
}
