//! How long a leader may serve reads without asking: its lease.
//!
//! A follower that has heard its leader refuses to vote for `election_timeout_max`, counted from when
//! it heard. The leader counts a shorter time, from before it spoke, so that its lease is over before
//! another leader can be elected, as long as clocks run equally fast to within the difference (Raft
//! dissertation, 6.4.1). Followers break their promise only when they see the leader's process gone, or when
//! the leader hands over; a leader that is not gone but has lost its connections to a majority ends its
//! lease by itself, and one that hands over has none any more.
//!
//! openraft measures this too (`last_quorum_acked`), but takes an answer to one append for an answer to later
//! ones that carry no entries. Here an answer counts from when the very question it answers was sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;

use crate::group::Raft;
use crate::types::Instant;

pub(crate) struct Lease {
    length: Duration,
    pub replica: u64,
    began: Instant,
    /// Answers to what was said before this many microseconds after `began` do not count.
    fence_us: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
    /// The term whose leadership this replica has handed over.
    handed_over: Option<u64>,
}

/// What another replica has answered.
struct Heard {
    replica: u64,
    /// The leader's own, when it asked.
    term: u64,
    asked_at: Instant,
}

impl Lease {
    pub fn new(replica: u64, length: Duration) -> Lease {
        Lease {
            length,
            replica,
            began: Instant::now(),
            fence_us: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Ends the lease until a majority answers something said from now on.
    pub fn end(&self) {
        let now = self.began.elapsed().as_micros() as u64;
        self.fence_us.fetch_max(now + 1, Ordering::AcqRel);
    }

    /// Ends the lease of this term for good: followers are about to be told that they may vote.
    pub fn hand_over(&self, term: u64) {
        self.state().handed_over = Some(term);
    }

    /// A replica has answered what it was asked at that time in that term, and not named a higher one.
    pub fn heard(&self, replica: u64, term: u64, asked_at: Instant) {
        let mut state = self.state();
        match state.heard.iter_mut().find(|h| h.replica == replica) {
            Some(known) if (known.term, known.asked_at) < (term, asked_at) => {
                (known.term, known.asked_at) = (term, asked_at);
            }
            Some(_) => {}
            None => state.heard.push(Heard {
                replica,
                term,
                asked_at,
            }),
        }
    }

    /// Whether a majority has answered what this leader asked no longer ago than that.
    pub fn answered_within(&self, raft: &Raft, ago: Duration) -> bool {
        self.quorum(raft, |asked_at| asked_at.elapsed() < ago)
    }

    pub fn holds(&self, raft: &Raft) -> bool {
        let fence = self.began + Duration::from_micros(self.fence_us.load(Ordering::Acquire));
        self.quorum(raft, |at| at >= fence && at.elapsed() < self.length)
    }

    /// Whether of each set of voters a majority has answered, at a time that counts, what this replica asked
    /// as the leader of its term.
    fn quorum(&self, raft: &Raft, counts: impl Fn(Instant) -> bool) -> bool {
        let metrics = raft.server_metrics();
        let seen = metrics.borrow_watched();
        let term = seen.vote.leader_id().term;
        let state = self.state();
        if state.handed_over == Some(term) {
            return false;
        }
        let answered = |voter: &&u64| {
            let heard = |h: &Heard| h.replica == **voter && h.term == term && counts(h.asked_at);
            **voter == self.replica || state.heard.iter().any(heard)
        };
        let sets = seen.membership_config.membership().get_joint_config();
        !sets.is_empty()
            && sets
                .iter()
                .all(|voters| voters.iter().filter(answered).count() * 2 > voters.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds this")
    }
}
