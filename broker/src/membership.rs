//! Brings the members of the groups that this node leads to what the metadata says: new replicas are added
//! as learners, become voters when they have caught up, and those that are not meant to be there any more
//! go. A broker with a new disk is a new replica, and replaces its old one this way; a group that moves to other
//! brokers gets there this way. A leader that is not to stay hands over first: who leaves the group tells nobody
//! that it has left.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_proto::config::QuorumVoter;
use ottla_proto::ids::{GroupId, METADATA_GROUP, NodeId};
use ottla_proto::limits::{
    FORMATION_CALL_WAIT_MS, GROUP_MEMBERS, LEADER_HANDOVER_WAIT_MS, MEMBERSHIP_LOOK_MS,
    MEMBERSHIP_STEP_WAIT_MS, PREFERRED_LAG_MS,
};
use ottla_proto::metadata::Image;
use ottla_proto::peer::IntroduceRequest;
use ottla_raft::{Group, Groups, MembershipError, node_of};

use crate::metadata::Metadata;

pub struct Membership {
    pub metadata: Arc<Metadata>,
    pub groups: Arc<Groups>,
    pub voters: Vec<QuorumVoter>,
    /// Groups that a step is being made in.
    pub busy: Arc<Mutex<HashSet<GroupId>>>,
}

/// What a group is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Target {
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    /// The voter that is to lead.
    preferred: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Add(u64),
    /// Waits until these have caught up, and makes the others the voters.
    Promote(Vec<u64>, BTreeSet<u64>),
    /// A leader that is not to stay hands over to one that is.
    HandOver(u64),
    Drop(u64),
}

/// What a leader knows of its group.
struct Present {
    leader: u64,
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    in_sync: Vec<u64>,
}

/// The next step from these members to the target.
fn step(present: &Present, target: &Target) -> Option<Step> {
    let (voters, learners) = (&present.voters, &present.learners);
    let is_here = |replica: &&u64| voters.contains(replica) || learners.contains(replica);
    let wanted = || target.voters.iter().chain(&target.learners);
    if let Some(missing) = wanted().find(|replica| !is_here(replica)) {
        return Some(Step::Add(*missing));
    }
    if *voters != target.voters {
        return change_voters(present, target);
    }
    let is_wanted = |replica: &&u64| wanted().any(|wanted| wanted == *replica);
    let spare = learners.iter().find(|replica| !is_wanted(replica));
    spare.copied().map(Step::Drop)
}

fn change_voters(present: &Present, target: &Target) -> Option<Step> {
    let promote = |to: BTreeSet<u64>| {
        let new = to.difference(&present.voters).copied().collect();
        (to != present.voters).then_some(Step::Promote(new, to))
    };
    if target.voters.contains(&present.leader) {
        return promote(target.voters.clone());
    }
    let follows = |replica: &u64| {
        let stays = target.voters.contains(replica) && present.voters.contains(replica);
        stays && present.in_sync.contains(replica)
    };
    let preferred = target.preferred.filter(follows);
    let other = || target.voters.iter().copied().find(follows);
    if let Some(next) = preferred.or_else(other) {
        return Some(Step::HandOver(next));
    }
    // None that stays could lead: this one goes on, among those that are to be voters.
    let others = target.preferred.iter().chain(&target.voters);
    let mut to = BTreeSet::from([present.leader]);
    for replica in others {
        if to.len() < GROUP_MEMBERS {
            to.insert(*replica);
        }
    }
    promote(to)
}

impl Membership {
    /// Looks for ever.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(MEMBERSHIP_LOOK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut throttled_to = None;
        loop {
            ticks.tick().await;
            let rate = self.metadata.config().replication.snapshot_bytes_per_s;
            if rate != throttled_to {
                self.groups.set_snapshot_rate(rate);
                throttled_to = rate;
            }
            let image = self.metadata.current();
            let led = |id| self.groups.get(id).filter(|g| g.leader_epoch().is_some());
            for group in image.groups() {
                let Some(running) = led(group.id) else {
                    continue;
                };
                let target = target_of(&image, &group.members, &running.members().0);
                // Of a member that nobody knows any more there is nothing to bring.
                if target.voters.len() == group.members.len() {
                    self.bring(running, target);
                }
            }
            if let Some(quorum) = led(METADATA_GROUP) {
                let mut target = self.quorum_target(&image, &quorum.members().0).await;
                if target.voters.len() != self.voters.len() {
                    target.voters = quorum.members().0;
                }
                self.bring(quorum, target);
            }
        }
    }

    fn bring(&self, group: Arc<Group>, target: Target) {
        let (voters, learners) = group.members();
        let present = Present {
            leader: group.replica,
            voters,
            learners,
            in_sync: group.in_sync(Duration::from_millis(PREFERRED_LAG_MS)),
        };
        let Some(step) = step(&present, &target) else {
            return;
        };
        if !self.busy.lock().expect("never poisoned").insert(group.id) {
            return;
        }
        let busy = self.busy.clone();
        tokio::spawn(async move {
            let id = group.id;
            match make(&group, &step).await {
                Ok(()) => tracing::info!(group = %id, ?step, "the group's members have changed"),
                Err(MembershipError::NotLeader | MembershipError::Late) => {}
                Err(error) => {
                    tracing::warn!(group = %id, ?step, %error, "the group's members stay")
                }
            }
            busy.lock().expect("never poisoned").remove(&id);
        });
    }

    /// Voters are the nodes of `controller.quorum.voters`; every other broker follows.
    async fn quorum_target(&self, image: &Image, now: &BTreeSet<u64>) -> Target {
        let ids: Vec<NodeId> = self.voters.iter().map(|voter| voter.id).collect();
        let mut target = target_of(image, &ids, now);
        for voter in &self.voters {
            let is_known = |replica: &u64| node_of(*replica) == voter.id;
            if target.voters.iter().any(is_known) {
                continue;
            }
            // A controller that is no broker, and was no founder, says itself who it is.
            let address = voter.address();
            let asked = ottla_peer::introduce(&address, IntroduceRequest { node_id: -1 });
            let wait = Duration::from_millis(FORMATION_CALL_WAIT_MS);
            if let Ok(Ok(reply)) = tokio::time::timeout(wait, asked).await
                && node_of(reply.replica) == voter.id
                && Some(&*reply.cluster_id) == image.cluster_id()
            {
                target.voters.insert(reply.replica);
            }
        }
        let brokers = image.brokers().map(|broker| broker.replica_id());
        target.learners = brokers.filter(|r| !ids.contains(&node_of(*r))).collect();
        target
    }
}

async fn make(group: &Group, step: &Step) -> Result<(), MembershipError> {
    let wait = Duration::from_millis(MEMBERSHIP_STEP_WAIT_MS);
    match step {
        Step::Add(replica) => group.add_learner(*replica, wait).await,
        Step::Drop(replica) => group.remove_learner(*replica, wait).await,
        Step::HandOver(replica) => {
            let wait = Duration::from_millis(LEADER_HANDOVER_WAIT_MS);
            group.transfer_leader(*replica, wait).await
        }
        Step::Promote(new, voters) => {
            for replica in new {
                group.wait_caught_up(*replica, wait).await?;
            }
            group.change_membership(voters.clone(), wait).await
        }
    }
}

/// The replicas of these nodes. A node that is not registered keeps the one that the group has.
fn target_of(image: &Image, nodes: &[NodeId], now: &BTreeSet<u64>) -> Target {
    let known: BTreeMap<NodeId, u64> = now.iter().map(|r| (node_of(*r), *r)).collect();
    let replica = |id: &NodeId| {
        let registered = image.broker(*id).map(|broker| broker.replica_id());
        registered.or_else(|| known.get(id).copied())
    };
    Target {
        voters: nodes
            .iter()
            .filter_map(replica)
            .take(GROUP_MEMBERS)
            .collect(),
        learners: BTreeSet::new(),
        preferred: nodes.first().and_then(replica),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    fn target(voters: &[u64], learners: &[u64]) -> Target {
        Target {
            voters: set(voters),
            learners: set(learners),
            preferred: voters.first().copied(),
        }
    }

    /// A group led by the first voter; all are in sync but `gone`.
    fn present(voters: &[u64], learners: &[u64], gone: &[u64]) -> Present {
        let in_sync = voters.iter().filter(|id| !gone.contains(id));
        Present {
            leader: voters[0],
            voters: set(voters),
            learners: set(learners),
            in_sync: in_sync.copied().collect(),
        }
    }

    fn apply(present: &mut Present, gone: &[u64], step: Step) {
        match step {
            Step::Add(replica) => {
                assert!(present.learners.insert(replica) && !present.voters.contains(&replica));
            }
            Step::Drop(replica) => assert!(present.learners.remove(&replica)),
            Step::HandOver(replica) => {
                assert!(present.in_sync.contains(&replica) && present.voters.contains(&replica));
                present.leader = replica;
            }
            Step::Promote(new, voters) => {
                assert!(new.iter().all(|replica| present.learners.contains(replica)));
                assert!(voters.contains(&present.leader) && voters.len() <= GROUP_MEMBERS);
                for replica in &voters {
                    present.learners.remove(replica);
                }
                // Old voters are no members any more.
                let in_sync = voters.iter().filter(|id| !gone.contains(id));
                present.in_sync = in_sync.copied().collect();
                present.voters = voters;
            }
        }
    }

    #[test]
    fn steps_lead_to_the_target_and_end() {
        let none: &[u64] = &[];
        for (voters, learners, gone, voters_to_be, to_follow) in [
            (&[1, 2, 3][..], none, none, &[1, 2, 3][..], none),
            (&[1, 2, 3], none, none, &[1, 2, 4], none),
            (&[1, 2, 3], &[9], none, &[4, 5, 6], none),
            (&[1], none, none, &[1, 2, 3], &[7]),
            (&[1, 2, 3], &[4, 5], none, &[1], &[5]),
            (&[1, 2, 3], &[4], none, &[1, 2, 4], none),
            (&[1, 2, 3], none, none, &[2], none),
            (&[1], none, none, &[2], none),
            (&[1, 2, 3], none, &[3], &[3, 4, 5], none),
            (&[1, 2, 3, 4, 5], none, none, &[6, 7, 8, 9, 10], none),
            (&[1, 2, 3, 4, 5], none, &[5], &[5, 6, 7, 8, 9], none),
        ] {
            let mut present = present(voters, learners, gone);
            let target = target(voters_to_be, to_follow);
            let mut steps = 0;
            while let Some(step) = step(&present, &target) {
                apply(&mut present, gone, step);
                steps += 1;
                assert!(steps < 20);
            }
            let reached = (present.voters, present.learners);
            assert_eq!(reached, (target.voters, target.learners));
        }
    }

    #[test]
    fn nothing_is_dropped_before_what_replaces_it_has_caught_up() {
        let target = target(&[1, 2, 4], &[]);
        let first = step(&present(&[1, 2, 3], &[], &[]), &target);
        assert_eq!(first, Some(Step::Add(4)));
        let promoted = step(&present(&[1, 2, 3], &[4], &[]), &target);
        assert_eq!(promoted, Some(Step::Promote(vec![4], set(&[1, 2, 4]))));
    }

    #[test]
    fn a_leader_that_leaves_hands_over_before_it_is_none() {
        let target = target(&[4, 2, 5], &[]);
        let step_of = |voters: &[u64], learners: &[u64], gone: &[u64]| {
            step(&present(voters, learners, gone), &target)
        };
        let handed = step_of(&[1, 2, 3], &[4, 5], &[]);
        assert_eq!(handed, Some(Step::HandOver(2)));
        // Broker 2 cannot lead: the others join the leader first.
        let joined = Step::Promote(vec![4, 5], set(&[1, 2, 4, 5]));
        assert_eq!(step_of(&[1, 2, 3], &[4, 5], &[2]), Some(joined));
        assert_eq!(step_of(&[1, 2, 4, 5], &[], &[2]), Some(Step::HandOver(4)));
        // Nobody can: it stays.
        assert_eq!(step_of(&[1, 2, 4, 5], &[], &[2, 4, 5]), None);
    }
}
