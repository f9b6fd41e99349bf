//! Who belongs to a group, how closely each follows, and how that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{EmptyNode, Instant as _};
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{GROUP_MEMBERS, GROUP_WATCH_MS};
use ottla_proto::peer::{Call, call};
use tokio::time::Instant;

use crate::group::Group;
use crate::group_log::lock;
use crate::peers::Presence;
use crate::transport::{Channel, node_of};
use crate::types::{LogId, TypeConfig};
use crate::wire;

/// Entries that a follower may lack and still count as caught up: what is on its way at a time.
const NEARLY: u64 = 8;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("this replica does not lead the group")]
    NotLeader,
    #[error("another change of the group's members is going on")]
    InProgress,
    #[error("replica {0} is no member of the group")]
    NotMember(u64),
    #[error("a group has 1 to {GROUP_MEMBERS} voters, not {0}")]
    Size(usize),
    /// It may or may not happen: look at the members.
    #[error("not known to be done in time")]
    Late,
    #[error("the group has stopped: {0}")]
    Stopped(String),
}

/// One member as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    pub replica: u64,
    pub node: NodeId,
    pub voter: bool,
    /// Entries of the leader's log that the member is not known to have.
    pub lag_entries: u64,
    /// How long ago it had all that the leader had; `None`: not since this leader was elected.
    pub caught_up: Option<Duration>,
    /// How long ago the leader asked what the member answered last; `None`: it has not answered this leader.
    pub answered: Option<Duration>,
}

/// A group as its leader sees it. Positions count the entries of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    pub leader_epoch: i32,
    /// Where the leader's log ends.
    pub end: u64,
    /// Where what a majority has ends.
    pub committed: u64,
    pub members: Vec<MemberProgress>,
}

/// When each member last had the whole log.
#[derive(Default)]
pub(crate) struct Followers {
    term: u64,
    caught_up: BTreeMap<u64, Instant>,
    /// The end of the leader's log at the last look, and when that was.
    last_look: Option<(u64, Instant)>,
}

type Failure = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

fn error(failure: Failure) -> MembershipError {
    match failure {
        RaftError::Fatal(fatal) => MembershipError::Stopped(fatal.to_string()),
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => MembershipError::NotLeader,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(e)) => match e {
            ChangeMembershipError::InProgress(_) => MembershipError::InProgress,
            ChangeMembershipError::LearnerNotFound(missing) => {
                MembershipError::NotMember(missing.node_id)
            }
            _ => MembershipError::Size(0),
        },
        RaftError::APIError(_) => MembershipError::Late,
    }
}

impl Group {
    /// Voters and learners, as this replica knows them.
    pub fn members(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let metrics = self.raft.server_metrics();
        let seen = metrics.borrow_watched();
        let membership = seen.membership_config.membership();
        (
            membership.voter_ids().collect(),
            membership.learner_ids().collect(),
        )
    }

    /// Those that are voters whichever way a change of members ends.
    fn lasting_voters(&self) -> BTreeSet<u64> {
        let metrics = self.raft.server_metrics();
        let seen = metrics.borrow_watched();
        let configs = seen.membership_config.membership().get_joint_config();
        let mut voters = configs.iter().cloned();
        let first = voters.next().unwrap_or_default();
        voters.fold(first, |lasting, config| &lasting & &config)
    }

    /// The voters, once what made them the voters is applied here and nothing else is under way.
    pub fn settled_voters(&self) -> Option<BTreeSet<u64>> {
        let (effective, applied) = {
            let metrics = self.raft.server_metrics();
            let effective = *metrics.borrow_watched().membership_config.log_id();
            (
                effective,
                lock(&self.log.applied).checkpoint.membership.clone(),
            )
        };
        let is_joint = applied.membership().get_joint_config().len() != 1;
        let is_settled = *applied.log_id() == effective && !is_joint;
        is_settled.then(|| applied.membership().voter_ids().collect())
    }

    /// The replica that leads, as far as this one knows.
    pub fn leader(&self) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        metrics.borrow_watched().current_leader
    }

    /// The replica that leads, unless its process is known to be gone: then another one soon will.
    pub fn present_leader(&self) -> Option<u64> {
        let is_there = |id: &u64| self.peers.presence(node_of(*id)) != Presence::Gone;
        self.leader().filter(is_there)
    }

    /// Every member's progress. Empty on a replica that does not lead.
    pub fn progress(&self) -> Vec<MemberProgress> {
        let (voters, learners) = self.members();
        let (last, matched) = self.replicated();
        let Some(matched) = matched else {
            return Vec::new();
        };
        let answers = self.answers();
        let followers = self
            .followers
            .lock()
            .expect("no code panics while it holds the followers");
        let member = |replica: &u64| {
            let own = *replica == self.replica;
            let has = if own {
                last
            } else {
                matched.get(replica).copied().unwrap_or(0)
            };
            let lag_entries = last.saturating_sub(has);
            let caught_up = match lag_entries {
                0 => Some(Duration::ZERO),
                _ => followers.caught_up.get(replica).map(|at| at.elapsed()),
            };
            MemberProgress {
                replica: *replica,
                node: node_of(*replica),
                voter: voters.contains(replica),
                lag_entries,
                caught_up,
                answered: match own {
                    true => Some(Duration::ZERO),
                    false => answers.get(replica).copied(),
                },
            }
        };
        voters.union(&learners).map(member).collect()
    }

    /// Where the group stands. `None` on a replica that does not lead.
    pub fn status(&self) -> Option<GroupStatus> {
        let leader_epoch = self.leader_epoch()?;
        let committed = {
            let metrics = self.raft.data_metrics();
            let seen = metrics.borrow_watched();
            seen.cluster_committed.map_or(0, |id| id.index + 1)
        };
        let members = self.progress();
        let (end, _) = self.replicated();
        Some(GroupStatus {
            leader_epoch,
            end: end.max(committed),
            committed,
            members,
        })
    }

    /// How long ago the leader asked what each follower has answered last.
    fn answers(&self) -> BTreeMap<u64, Duration> {
        let metrics = self.raft.data_metrics();
        let seen = metrics.borrow_watched();
        let answers = seen.heartbeat.iter().flatten();
        let answers = answers.filter_map(|(id, at)| Some((*id, at.as_deref()?.elapsed())));
        answers.collect()
    }

    /// Voters that had the whole log within `max_lag` (`replica.lag.time.max.ms`), this one among them:
    /// the in-sync replicas. A process that is known to be gone is not in sync, and has to catch up when it
    /// is back. While members change, those count that are voters before and after.
    pub fn in_sync(&self, max_lag: Duration) -> Vec<u64> {
        let there = |m: &MemberProgress| {
            m.replica == self.replica || self.peers.presence(m.node) != Presence::Gone
        };
        let progress = self.progress();
        let lasting = self.lasting_voters();
        let within = progress.iter().filter(|m| {
            lasting.contains(&m.replica)
                && m.caught_up.is_some_and(|ago| ago <= max_lag)
                && there(m)
        });
        within.map(|m| m.replica).collect()
    }

    /// Where the log ends (entries so far), and what each follower has of it.
    pub(crate) fn replicated(&self) -> (u64, Option<BTreeMap<u64, u64>>) {
        let metrics = self.raft.data_metrics();
        let seen = metrics.borrow_watched();
        let entries = |id: &Option<LogId>| id.map_or(0, |id| id.index + 1);
        let matched = seen.replication.as_ref();
        let matched = matched.map(|m| m.iter().map(|(id, at)| (*id, entries(at))).collect());
        (entries(&seen.last_log), matched)
    }

    /// Notes who has the whole log now.
    pub(crate) fn look_at_followers(&self, term: u64) {
        let (last, matched) = self.replicated();
        let now = Instant::now();
        let (voters, _) = self.members();
        let mut followers = self
            .followers
            .lock()
            .expect("no code panics while it holds the followers");
        if followers.term != term {
            // A new leader takes the voters for in sync until it knows better, as Kafka's does.
            let caught_up = voters.iter().map(|id| (*id, now)).collect();
            *followers = Followers {
                term,
                caught_up,
                last_look: None,
            };
        }
        let matched = matched.unwrap_or_default();
        followers
            .caught_up
            .retain(|id, _| self.peers.presence(node_of(*id)) != Presence::Gone);
        followers
            .caught_up
            .retain(|id, _| voters.contains(id) || matched.contains_key(id));
        for (id, has) in matched {
            let (end, at) = match followers.last_look {
                _ if has >= last => (last, now),
                Some(look) => look,
                None => continue,
            };
            if has >= end {
                followers.caught_up.insert(id, at);
            }
        }
        followers.last_look = Some((last, now));
    }

    /// Adds a replica that receives the log and does not vote.
    pub async fn add_learner(
        &self,
        replica: u64,
        timeout: Duration,
    ) -> Result<(), MembershipError> {
        let added = self.raft.add_learner(replica, EmptyNode {}, false);
        let added = tokio::time::timeout(timeout, added).await;
        added
            .map_err(|_| MembershipError::Late)?
            .map(|_| ())
            .map_err(error)
    }

    /// Waits until a member has (nearly) all that this leader has.
    pub async fn wait_caught_up(
        &self,
        replica: u64,
        timeout: Duration,
    ) -> Result<(), MembershipError> {
        let deadline = Instant::now() + timeout;
        loop {
            let (last, matched) = self.replicated();
            let Some(matched) = matched else {
                return Err(MembershipError::NotLeader);
            };
            let Some(has) = matched.get(&replica) else {
                return Err(MembershipError::NotMember(replica));
            };
            if *has > 0 && last - (*has).min(last) <= NEARLY {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(MembershipError::Late);
            }
            tokio::time::sleep(Duration::from_millis(GROUP_WATCH_MS / 4)).await;
        }
    }

    /// Makes `voters` the group's voters, by joint consensus. New ones must be learners that have caught
    /// up; those left out are told that they are removed.
    pub async fn change_membership(
        &self,
        voters: BTreeSet<u64>,
        timeout: Duration,
    ) -> Result<(), MembershipError> {
        if voters.is_empty() || voters.len() > GROUP_MEMBERS {
            return Err(MembershipError::Size(voters.len()));
        }
        let (before, learners) = self.members();
        let removed: Vec<u64> = before
            .union(&learners)
            .filter(|m| !voters.contains(m))
            .copied()
            .collect();
        // Learners that are no voters to be stay: only voters are changed.
        let removed = removed.into_iter().filter(|m| before.contains(m));
        let change = self.raft.change_membership(voters.clone(), false);
        let change = tokio::time::timeout(timeout, change).await;
        let done = change.map_err(|_| MembershipError::Late)?.map_err(error)?;
        for replica in removed.filter(|m| *m != self.replica) {
            self.tell_removed(replica, done.log_id);
        }
        Ok(())
    }

    /// Takes a learner out of the group.
    pub async fn remove_learner(
        &self,
        replica: u64,
        timeout: Duration,
    ) -> Result<(), MembershipError> {
        let change = openraft::ChangeMembers::RemoveNodes(BTreeSet::from([replica]));
        let change = self.raft.change_membership(change, false);
        let change = tokio::time::timeout(timeout, change).await;
        let done = change.map_err(|_| MembershipError::Late)?.map_err(error)?;
        self.tell_removed(replica, done.log_id);
        Ok(())
    }

    /// Tells a replica that it is no member any more. It may be away: whoever decided the change tells
    /// it again when it comes back.
    fn tell_removed(&self, replica: u64, at: LogId) {
        let peer = self.peers.get(node_of(replica));
        let call = Call {
            id: 0,
            group: self.id.0,
            from: self.replica,
            to: replica,
            kind: Some(call::Kind::Removed(wire::put_log_id(&at))),
        };
        let wait = self.tuning.election_max;
        tokio::spawn(async move {
            let told = async {
                let link = peer.link(Channel::Control).await.ok()?;
                link.call(call).await.ok()
            };
            let _ = tokio::time::timeout(wait, told).await;
        });
    }

    pub(crate) fn note_removed(&self, at: LogId) {
        let metrics = self.raft.server_metrics();
        let known = *metrics.borrow_watched().membership_config.log_id();
        if known < Some(at) {
            self.removed.send_replace(Some(at));
        }
    }

    /// True once a leader has said that this replica is no member any more.
    pub fn is_removed(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let known = *metrics.borrow_watched().membership_config.log_id();
        // A later membership may have it again.
        self.removed.borrow().is_some_and(|at| known <= Some(at))
    }

    /// Hands leadership to another voter, and waits until it has it.
    pub async fn transfer_leader(&self, to: u64, timeout: Duration) -> Result<(), MembershipError> {
        if self.leader() != Some(self.replica) {
            return Err(MembershipError::NotLeader);
        }
        if !self.members().0.contains(&to) {
            return Err(MembershipError::NotMember(to));
        }
        self.lease.hand_over(self.role().1);
        let asked = self.raft.trigger().transfer_leader(to).await;
        asked.map_err(|e| MembershipError::Stopped(e.to_string()))?;
        let mut metrics = self.raft.server_metrics();
        let led = async {
            while metrics.borrow_watched().current_leader != Some(to) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        let done = tokio::time::timeout(timeout, led).await;
        done.map_err(|_| MembershipError::Late)
    }
}
