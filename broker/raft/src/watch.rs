//! What a group of several members does besides answering: it notices a leader whose process is gone, ends
//! a lease that is cut off, measures its followers, and lets go of rows that nobody needs.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use ottla_proto::limits::GROUP_WATCH_MS;
use tokio::time::Instant;

use crate::group::Group;
use crate::peers::Presence;
use crate::transport::node_of;
use crate::types::Vote;

/// Rounds of votes that a follower asks for when its leader's process is gone; then its timer goes on.
const QUICK_ROUNDS: u32 = 5;
/// Rounds in which the preferred replica of a new group asks for votes before its timer would.
const FIRST_ROUNDS: u32 = 20;

/// Watches a group until it stops.
pub(crate) async fn run(group: Weak<Group>) {
    let Some(mut changes) = group.upgrade().map(|group| group.peers.changes()) else {
        return;
    };
    let mut state = State::default();
    loop {
        let tick = tokio::time::sleep(Duration::from_millis(GROUP_WATCH_MS));
        let changed = tokio::select! {
            biased;
            changed = changes.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = tick => false,
        };
        let Some(group) = group.upgrade() else { return };
        if group.raft.metrics().borrow_watched().running_state.is_err() {
            return;
        }
        if changed {
            group.end_lease_if_cut_off();
            group.replace_gone_leader().await;
        } else {
            state.tick(&group).await;
        }
    }
}

#[derive(Default)]
struct State {
    /// The term in which this replica has been without a majority for too long.
    lost_term: Option<u64>,
    purged: u64,
    next_retry: Option<Instant>,
}

impl State {
    async fn tick(&mut self, group: &Group) {
        let (leads, term) = group.role();
        if leads {
            group.look_at_followers(term);
            self.notice_loss(group, term);
        } else {
            self.lost_term = None;
        }
        self.make_snapshot_for_unreadable(group).await;
        self.purge(group, leads).await;
    }

    /// Tells who waits for an append that its outcome is unknown, once a majority has been silent long.
    fn notice_loss(&mut self, group: &Group, term: u64) {
        if group.is_alone() {
            return;
        }
        let long = group.tuning.election_max * 2;
        let silent = !group.lease.answered_within(&group.raft, long);
        match silent {
            false => self.lost_term = None,
            true if self.lost_term == Some(term) => {}
            true => {
                tracing::warn!(group = %group.id, term, "no majority answers this leader");
                self.lost_term = Some(term);
                group.lost.send_modify(|n| *n += 1);
            }
        }
    }

    /// Entries that can't be read back are purged, so that openraft sends a snapshot instead.
    async fn make_snapshot_for_unreadable(&mut self, group: &Group) {
        let upto = group.log.unreadable.load(Ordering::Acquire);
        if upto == 0 || self.next_retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let covered = group
            .log
            .stored_checkpoint()
            .applied
            .map_or(0, |id| id.index + 1);
        if covered < upto {
            let _ = group.raft.trigger().snapshot().await;
        } else {
            let _ = group.raft.trigger().purge_log(upto - 1).await;
        }
        if group
            .log
            .log_state()
            .0
            .is_some_and(|id| id.index + 1 >= upto)
        {
            let unreadable = &group.log.unreadable;
            let _ = unreadable.compare_exchange(upto, 0, Ordering::AcqRel, Ordering::Acquire);
        }
        self.next_retry = Some(Instant::now() + group.tuning.heartbeat);
    }

    /// Purges rows that every member has, and beyond a bound those that somebody still lacks.
    async fn purge(&mut self, group: &Group, leads: bool) {
        let covered = group
            .log
            .stored_checkpoint()
            .applied
            .map_or(0, |id| id.index);
        let beyond = group
            .log
            .purgeable(group.tuning.keep_row_bytes)
            .unwrap_or(0);
        let everybody = match group.replicated() {
            (_, Some(matched)) if leads => {
                let others = matched.iter().filter(|(id, _)| **id != group.replica);
                others
                    .map(|(_, has)| has.saturating_sub(1))
                    .min()
                    .unwrap_or(covered)
            }
            _ => 0,
        };
        let upto = everybody.max(beyond).min(covered);
        if upto >= self.purged + group.tuning.purge_entries {
            self.purged = upto;
            let _ = group.raft.trigger().purge_log(upto).await;
        }
    }
}

impl Group {
    /// Whether this replica leads, and its term.
    pub(crate) fn role(&self) -> (bool, u64) {
        let metrics = self.raft.server_metrics();
        let seen = metrics.borrow_watched();
        (seen.state.is_leader(), seen.vote.leader_id().term)
    }

    /// A leader that has lost its connections to a majority may be taken for gone: it stops to serve
    /// until a majority answers again.
    fn end_lease_if_cut_off(&self) {
        let (voters, _) = self.members();
        let there = |voter: &&u64| {
            **voter == self.replica || self.peers.presence(node_of(**voter)) == Presence::Connected
        };
        let connected = voters.iter().filter(there).count();
        if self.role().0 && connected * 2 <= voters.len() {
            self.lease.end();
        }
    }

    /// Where the leader's process is gone, this follower need not wait for it: it frees itself of its
    /// promise, and after its turn asks the others. They grant it if they have seen the same and its log
    /// is as long as theirs.
    async fn replace_gone_leader(&self) {
        let Some((vote, leader)) = self.gone_leader() else {
            return;
        };
        let (mut voters, _) = self.members();
        voters.remove(&leader);
        let Some(turn) = voters.iter().position(|v| *v == self.replica) else {
            return;
        };
        // Addressed to the one who can't take it, a transfer does nothing but end the promise.
        let free = TransferLeaderRequest::new(vote, leader, None);
        let _ = self.raft.handle_transfer_leader(free).await;
        tokio::time::sleep(self.tuning.stagger * (turn as u32 + 1)).await;
        for _ in 0..QUICK_ROUNDS {
            if self.gone_leader() != Some((vote, leader)) {
                return;
            }
            tracing::info!(group = %self.id, leader, "the leader's process is gone; asking for votes");
            let _ = self.raft.trigger().elect(true).await;
            tokio::time::sleep(self.tuning.stagger * voters.len() as u32).await;
        }
    }

    /// The vote that the leader holds, and the leader, if its process is seen to be gone.
    fn gone_leader(&self) -> Option<(Vote, u64)> {
        let metrics = self.raft.server_metrics();
        let seen = metrics.borrow_watched();
        let leader = seen
            .current_leader
            .filter(|leader| *leader != self.replica)?;
        let gone = self.peers.presence(node_of(leader)) == Presence::Gone;
        (gone && seen.vote.is_committed()).then_some((seen.vote, leader))
    }
}

/// Has the preferred replica of a new group ask for votes at once, until somebody leads.
pub(crate) async fn lead_first(group: Weak<Group>) {
    for _ in 0..FIRST_ROUNDS {
        let Some(group) = group.upgrade() else { return };
        let (_, term) = group.role();
        if group.leader().is_some() && term > 0 {
            return;
        }
        let _ = group.raft.trigger().elect(true).await;
        let pause = group.tuning.heartbeat / 2;
        drop(group);
        tokio::time::sleep(pause).await;
    }
}
