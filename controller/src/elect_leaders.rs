//! ElectLeaders (KIP-183, KIP-460): which leaderships are to be handed to their preferred replicas.
//!
//! Raft elects the leaders, and the metadata only tells who they are. So nothing is recorded here: who leads
//! a group is asked to hand it over. A group's partitions have one leader, and move together.
use std::collections::{BTreeMap, BTreeSet};

use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::metadata::{Group, Image};
use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The preferred replica is to lead, if it is in sync.
    Preferred,
    /// Any replica is to lead, if none does.
    Unclean,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectLeaders {
    pub election: Election,
    /// By topic; `None`: all partitions, of which those that need no election are not answered.
    pub partitions: Option<BTreeMap<String, BTreeSet<i32>>>,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ElectError {
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("No such topic")]
    UnknownTopic,
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("No such partition")]
    UnknownPartition,
    /// ELECTION_NOT_NEEDED
    #[error("Leader election not needed for topic partition.")]
    NotNeeded,
    /// PREFERRED_LEADER_NOT_AVAILABLE
    #[error("The preferred leader {0} is not in sync, or not there")]
    PreferredNotAvailable(NodeId),
    /// PREFERRED_LEADER_NOT_AVAILABLE
    #[error("The partition has no leader that could hand over to {0}: a majority must be there")]
    NoLeader(NodeId),
    /// ELIGIBLE_LEADERS_NOT_AVAILABLE
    #[error(
        "A majority of the replicas must be there to elect a leader; there are no unclean elections"
    )]
    NoUnclean,
}

/// A group's leader and who is to lead it instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    pub group: GroupId,
    pub leader: NodeId,
    pub leader_epoch: i32,
    pub to: NodeId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One per group.
    pub hand_overs: Vec<HandOver>,
    /// Topic, partition, and the group whose hand-over is its answer.
    pub partitions: Vec<(String, i32, Result<GroupId, ElectError>)>,
}

pub fn plan(image: &Image, request: &ElectLeaders) -> Plan {
    let mut plan = Plan::default();
    let mut groups: BTreeMap<GroupId, Result<HandOver, ElectError>> = BTreeMap::new();
    let mut elect = |id: GroupId| {
        let group = image.group(id).expect("replay keeps a partition's group");
        let elected = groups.entry(id);
        let elected = elected.or_insert_with(|| elect(image, group, request.election));
        elected.as_ref().map(|_| id).map_err(ElectError::clone)
    };
    match &request.partitions {
        Some(topics) => {
            for (name, indexes) in topics {
                for index in indexes {
                    let result = find(image, name, *index).and_then(&mut elect);
                    plan.partitions.push((name.clone(), *index, result));
                }
            }
        }
        None => {
            for topic in image.topics() {
                for (index, partition) in (0..).zip(&topic.partitions) {
                    let result = elect(partition.group);
                    if result != Err(ElectError::NotNeeded) {
                        let name = topic.name.to_string();
                        plan.partitions.push((name, index, result));
                    }
                }
            }
        }
    }
    plan.hand_overs = groups.into_values().flatten().collect();
    plan
}

fn find(image: &Image, name: &str, index: i32) -> Result<GroupId, ElectError> {
    image.topic(name).ok_or(ElectError::UnknownTopic)?;
    let partition = image.partition(name, index);
    let partition = partition.ok_or(ElectError::UnknownPartition)?;
    Ok(partition.group)
}

fn elect(image: &Image, group: &Group, election: Election) -> Result<HandOver, ElectError> {
    let preferred = group.members[0];
    match (election, group.leader) {
        (Election::Unclean, Some(_)) => Err(ElectError::NotNeeded),
        (Election::Unclean, None) => Err(ElectError::NoUnclean),
        (Election::Preferred, Some(leader)) if leader == preferred => Err(ElectError::NotNeeded),
        // The only member has nobody to be elected against, whether it has said that it leads or not.
        (Election::Preferred, None) if group.members.len() == 1 && is_active(image, preferred) => {
            Err(ElectError::NotNeeded)
        }
        (Election::Preferred, None) => Err(ElectError::NoLeader(preferred)),
        (Election::Preferred, Some(leader)) => match is_ready(image, group, preferred) {
            true => Ok(HandOver {
                group: group.id,
                leader,
                leader_epoch: group.leader_epoch,
                to: preferred,
            }),
            false => Err(ElectError::PreferredNotAvailable(preferred)),
        },
    }
}

/// Whether the broker may be handed the group's leadership, as far as the metadata knows.
fn is_ready(image: &Image, group: &Group, broker: NodeId) -> bool {
    is_active(image, broker) && group.in_sync.contains(&broker)
}

fn is_active(image: &Image, broker: NodeId) -> bool {
    image
        .broker(broker)
        .is_some_and(|broker| broker.is_active())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaders::{self, LeaderReport};
    use crate::tests::ClusterImage;

    fn led(cluster: &mut ClusterImage, group: u32, leader: NodeId, in_sync: &[NodeId]) {
        let image = cluster.image();
        let report = LeaderReport {
            group: GroupId(group),
            leader: Some(leader),
            leader_epoch: image.group(GroupId(group)).unwrap().leader_epoch + 1,
            in_sync: in_sync.to_vec(),
            voters: Vec::new(),
        };
        let epoch = image.broker(leader).unwrap().epoch;
        let decision = leaders::decide(&image, leader, epoch, &[report]);
        cluster.apply(decision).unwrap();
    }

    fn request(election: Election, partitions: &[(&str, &[i32])]) -> ElectLeaders {
        let partitions = partitions.iter().map(|(name, indexes)| {
            let indexes = indexes.iter().copied().collect();
            ((*name).to_owned(), indexes)
        });
        ElectLeaders {
            election,
            partitions: Some(partitions.collect()),
        }
    }

    /// Groups 1, 2 and 3 prefer brokers 1, 2 and 3, and have two, one and one partitions.
    fn cluster() -> ClusterImage {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create_on("a", &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 2, 3]]);
        cluster
    }

    #[test]
    fn the_preferred_replica_is_elected_where_it_is_in_sync() {
        let mut cluster = cluster();
        led(&mut cluster, 1, 2, &[1, 2, 3]);
        led(&mut cluster, 2, 2, &[2, 3]);
        led(&mut cluster, 3, 1, &[1, 2]);
        let asked = request(
            Election::Preferred,
            &[("a", &[0, 1, 2, 3, 4, -1]), ("b", &[0])],
        );
        let plan = plan(&cluster.image(), &asked);
        let hand_over = HandOver {
            group: GroupId(1),
            leader: 2,
            leader_epoch: 1,
            to: 1,
        };
        assert_eq!(plan.hand_overs, [hand_over], "once, for two partitions");
        let results: Vec<_> = plan.partitions.into_iter().map(|p| (p.1, p.2)).collect();
        assert_eq!(
            results,
            [
                (-1, Err(ElectError::UnknownPartition)),
                (0, Ok(GroupId(1))),
                (1, Err(ElectError::NotNeeded)),
                (2, Err(ElectError::PreferredNotAvailable(3))),
                (3, Ok(GroupId(1))),
                (4, Err(ElectError::UnknownPartition)),
                (0, Err(ElectError::UnknownTopic)),
            ]
        );
    }

    #[test]
    fn all_partitions_are_those_that_need_it() {
        let mut cluster = cluster();
        led(&mut cluster, 1, 2, &[1, 2, 3]);
        led(&mut cluster, 2, 2, &[2, 3]);
        let all = |election| ElectLeaders {
            election,
            partitions: None,
        };
        let told = plan(&cluster.image(), &all(Election::Preferred)).partitions;
        let told: Vec<_> = told.into_iter().map(|p| (p.1, p.2)).collect();
        let (group, nobody) = (Ok(GroupId(1)), Err(ElectError::NoLeader(3)));
        assert_eq!(told, [(0, group.clone()), (2, nobody), (3, group)]);
        let unclean = plan(&cluster.image(), &all(Election::Unclean));
        let told: Vec<_> = unclean.partitions.into_iter().map(|p| (p.1, p.2)).collect();
        assert_eq!(told, [(2, Err(ElectError::NoUnclean))]);
        assert!(unclean.hand_overs.is_empty());
    }

    #[test]
    fn the_only_member_needs_no_election() {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create_on("a", &[&[2]]);
        let asked = request(Election::Preferred, &[("a", &[0])]);
        let result = |cluster: &ClusterImage| plan(&cluster.image(), &asked).partitions.remove(0).2;
        assert_eq!(result(&cluster), Err(ElectError::NotNeeded));
        cluster.fence(2);
        assert_eq!(result(&cluster), Err(ElectError::NoLeader(2)));
    }

    #[test]
    fn a_broker_that_is_gone_is_not_elected() {
        let mut cluster = cluster();
        led(&mut cluster, 1, 2, &[1, 2, 3]);
        cluster.fence(1);
        let plan = plan(
            &cluster.image(),
            &request(Election::Preferred, &[("a", &[0])]),
        );
        let gone = Err(ElectError::PreferredNotAvailable(1));
        assert_eq!(plan.partitions, [("a".to_owned(), 0, gone)]);
        assert!(plan.hand_overs.is_empty());
    }
}
