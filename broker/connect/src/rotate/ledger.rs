//! The account of a topic-partition whose offsets are all in a chain of manifests.
//!
//! What a manifest says is promised in the plan, with the cut whose objects it names: its place in the chain,
//! and what became of each offset. Whoever makes the cut again after a crash counts again, and must find the
//! same, so that the manifest is the same to the byte.

use super::RotateError;
use crate::audit::{Counts, Link};
use crate::sink::Passed;

/// What the plan says of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Of the next manifest to be written.
    pub link: Link,
    /// Of the cut, if there is one.
    pub counts: Option<Counts>,
}

/// A range of offsets of which all objects are closed. A manifest of it comes next in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub link: Link,
    pub first: i64,
    pub last: i64,
    pub counts: Counts,
    /// Whether all its objects are in the store and its plan is durable: the manifest may be written.
    pub complete: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub link: Link,
    /// The first offset that no manifest has.
    pub start: i64,
    /// Of offsets above the cut; without one, from the start on.
    counts: Counts,
    /// Of the cut, once all its offsets have been seen.
    pub cut: Option<Counts>,
    /// What the plan says of a cut that is being made again.
    promised: Option<Counts>,
}

impl Ledger {
    pub fn restore(start: i64, chain: Chain) -> Ledger {
        Ledger {
            link: chain.link,
            start,
            counts: Counts::default(),
            cut: None,
            promised: chain.counts,
        }
    }

    pub fn chain(&self) -> Option<Chain> {
        let counts = self.cut.or(self.promised);
        // A chain that has not begun needs no mention.
        let begun = self.link.sequence > 0 || counts.is_some();
        begun.then_some(Chain {
            link: self.link,
            counts,
        })
    }

    pub fn written(&mut self) {
        self.counts.written += 1;
    }

    pub fn pass(&mut self, why: Passed, offsets: u64) {
        self.counts.pass(why, offsets);
    }

    /// What has been counted belongs to the cut.
    pub fn close(&mut self) {
        self.cut = Some(std::mem::take(&mut self.counts));
    }

    /// The same where the cut is made again, and has been seen to its last offset.
    pub fn close_again(&mut self, last: i64) -> Result<(), RotateError> {
        self.close();
        let (promised, found) = (self.promised.take(), self.cut);
        if promised == found {
            return Ok(());
        }
        Err(RotateError::Counts {
            first: self.start,
            last,
            promised: promised.unwrap_or_default(),
            found: found.unwrap_or_default(),
        })
    }

    /// The manifest is written.
    pub fn advance(&mut self, start: i64, hash: [u8; 32]) {
        self.start = start;
        self.cut = None;
        self.link = Link {
            sequence: self.link.sequence + 1,
            previous: Some(hash),
        };
    }
}
