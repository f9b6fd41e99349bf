//! How long a leader may serve reads without asking: its lease.
//!
//! A follower that has heard its leader refuses to vote for `election_timeout_max`, counted from when
//! it heard. The leader counts a shorter time, from before it spoke, so that its lease is over before
//! another leader can be elected, as long as clocks run equally fast to within the difference (Raft
//! dissertation, 6.4.1). Followers break their promise only when they see the leader's process gone;
//! a leader that is not gone but has lost its connections to a majority ends its lease by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;

use crate::group::Raft;
use crate::types::Instant;

pub(crate) struct Lease {
    length: Duration,
    began: Instant,
    /// Answers to what was said before this many microseconds after `began` do not count.
    fence_us: AtomicU64,
}

impl Lease {
    pub fn new(length: Duration) -> Lease {
        Lease {
            length,
            began: Instant::now(),
            fence_us: AtomicU64::new(0),
        }
    }

    /// Ends the lease until a majority answers something said from now on.
    pub fn end(&self) {
        let now = self.began.elapsed().as_micros() as u64;
        self.fence_us.fetch_max(now + 1, Ordering::AcqRel);
    }

    /// When what a majority has answered was said.
    pub fn answered(&self, raft: &Raft) -> Option<Instant> {
        let metrics = raft.data_metrics();
        let seen = metrics.borrow_watched();
        seen.last_quorum_acked.as_ref().map(|at| **at)
    }

    pub fn holds(&self, raft: &Raft) -> bool {
        let fence = self.began + Duration::from_micros(self.fence_us.load(Ordering::Acquire));
        self.answered(raft)
            .is_some_and(|at| at >= fence && at.elapsed() < self.length)
    }
}
