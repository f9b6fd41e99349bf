//! Brings the members of the groups that this node leads to what the metadata says: new replicas are added
//! as learners, become voters when they have caught up, and those that are not meant to be there any more
//! go. A broker with a new disk is a new replica, and replaces its old one this way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_proto::config::{HostPort, QuorumVoter};
use ottla_proto::ids::{GroupId, METADATA_GROUP, NodeId};
use ottla_proto::limits::{
    FORMATION_CALL_WAIT_MS, GROUP_MEMBERS, MEMBERSHIP_LOOK_MS, MEMBERSHIP_STEP_WAIT_MS,
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
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Add(u64),
    /// Waits until these have caught up, and makes the target's voters the voters.
    Promote(Vec<u64>),
    Drop(u64),
}

/// The next step from these members to the target.
fn step(voters: &BTreeSet<u64>, learners: &BTreeSet<u64>, target: &Target) -> Option<Step> {
    let is_here = |replica: &&u64| voters.contains(replica) || learners.contains(replica);
    let wanted = || target.voters.iter().chain(&target.learners);
    if let Some(missing) = wanted().find(|replica| !is_here(replica)) {
        return Some(Step::Add(*missing));
    }
    if *voters != target.voters {
        let new = target.voters.difference(voters).copied();
        return Some(Step::Promote(new.collect()));
    }
    let is_wanted = |replica: &&u64| wanted().any(|wanted| wanted == *replica);
    let spare = learners.iter().find(|replica| !is_wanted(replica));
    spare.copied().map(Step::Drop)
}

impl Membership {
    /// Looks for ever.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(MEMBERSHIP_LOOK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
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
        let Some(step) = step(&voters, &learners, &target) else {
            return;
        };
        if !self.busy.lock().expect("never poisoned").insert(group.id) {
            return;
        }
        let busy = self.busy.clone();
        tokio::spawn(async move {
            let id = group.id;
            match make(&group, &step, target.voters).await {
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
            let address = HostPort {
                host: voter.host.clone(),
                port: voter.port,
            };
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

async fn make(group: &Group, step: &Step, voters: BTreeSet<u64>) -> Result<(), MembershipError> {
    let wait = Duration::from_millis(MEMBERSHIP_STEP_WAIT_MS);
    match step {
        Step::Add(replica) => group.add_learner(*replica, wait).await,
        Step::Drop(replica) => group.remove_learner(*replica, wait).await,
        Step::Promote(new) => {
            for replica in new {
                group.wait_caught_up(*replica, wait).await?;
            }
            group.change_membership(voters, wait).await
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    fn apply(
        voters: &mut BTreeSet<u64>,
        learners: &mut BTreeSet<u64>,
        target: &Target,
        step: Step,
    ) {
        match step {
            Step::Add(replica) => assert!(learners.insert(replica) && !voters.contains(&replica)),
            Step::Drop(replica) => assert!(learners.remove(&replica)),
            Step::Promote(new) => {
                assert!(
                    new.iter().all(|replica| learners.contains(replica)),
                    "caught up"
                );
                for replica in &target.voters {
                    learners.remove(replica);
                }
                // Old voters are no members any more.
                *voters = target.voters.clone();
            }
        }
    }

    #[test]
    fn steps_lead_to_the_target_and_end() {
        let none: &[u64] = &[];
        for (voters, learners, target, to_follow) in [
            (&[1, 2, 3][..], none, &[1, 2, 3][..], none),
            (&[1, 2, 3], none, &[1, 2, 4], none),
            (&[1, 2, 3], &[9], &[4, 5, 6], none),
            (&[1], none, &[1, 2, 3], &[7]),
            (&[1, 2, 3], &[4, 5], &[1], &[5]),
            (&[1, 2, 3], &[4], &[1, 2, 4], none),
        ] {
            let (mut voters, mut learners) = (set(voters), set(learners));
            let target = Target {
                voters: set(target),
                learners: set(to_follow),
            };
            let mut steps = 0;
            while let Some(step) = step(&voters, &learners, &target) {
                apply(&mut voters, &mut learners, &target, step);
                steps += 1;
                assert!(steps < 20);
            }
            assert_eq!((voters, learners), (target.voters, target.learners));
        }
    }

    #[test]
    fn nothing_is_dropped_before_what_replaces_it_has_caught_up() {
        let target = Target {
            voters: set(&[1, 2, 4]),
            learners: set(&[]),
        };
        let (voters, none) = (set(&[1, 2, 3]), set(&[]));
        assert_eq!(step(&voters, &none, &target), Some(Step::Add(4)));
        let promoted = step(&voters, &set(&[4]), &target);
        assert_eq!(promoted, Some(Step::Promote(vec![4])));
    }
}
