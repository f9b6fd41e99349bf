//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455).
//!
//! A partition's replicas are its group's members, and its records are in the group's log. So a group moves
//! as a whole: a request names all of its partitions, with the same replicas, or none of them. The record
//! of a move says who the members are to be, who they were ([`Group::former`]) and who else may still vote
//! ([`Group::leaving`]); the group's leader brings the voters there, and once it says that they are
//! (`leaders.rs`), the move is done. Until then it can be cancelled, which is a move back.
use std::collections::{BTreeMap, BTreeSet};

use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::GROUP_MEMBERSHIPS_PER_BROKER;
use ottla_proto::metadata::{Group, Image, MetadataRecord, records};
use thiserror::Error;

use crate::Decision;
use crate::assignment::{self, AssignmentError};

/// Partitions that an error names, at most.
const NAMED: usize = 10;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlterReassignments {
    /// By topic and partition index: the replicas that are wanted, preferred leader first; `None` cancels.
    pub topics: BTreeMap<String, BTreeMap<i32, Option<Vec<NodeId>>>>,
    /// Whether a partition may get more or fewer replicas than it has.
    pub allow_factor_change: bool,
}

/// One per partition, in the order of the request.
pub type Reply = Vec<(String, i32, Result<(), ReassignError>)>;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReassignError {
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("The topic does not exist.")]
    UnknownTopic,
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("The partition does not exist.")]
    UnknownPartition,
    /// NO_REASSIGNMENT_IN_PROGRESS
    #[error("No partition reassignment is in progress.")]
    NotMoving,
    /// INVALID_REPLICA_ASSIGNMENT
    #[error(
        "Partitions of one replication group move together, and these are in the same group, but not in the request: \
         {0}. Reassign all of them to the same replicas"
    )]
    Shared(String),
    /// INVALID_REPLICA_ASSIGNMENT
    #[error(
        "Partitions of one replication group move together, and the request gives this partition other replicas than \
         {0} of the same group"
    )]
    Differs(String),
    /// INVALID_REPLICA_ASSIGNMENT
    #[error("The partition has never had a leader, which would have to bring it to other brokers")]
    NeverLed,
    /// INVALID_REPLICATION_FACTOR
    #[error(
        "The request does not allow another replication factor, and asks for {asked} instead of {now} replica(s)"
    )]
    Factor { now: usize, asked: usize },
    /// INVALID_REPLICA_ASSIGNMENT
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// POLICY_VIOLATION
    #[error(
        "Broker {0} would be a member of more than {GROUP_MEMBERSHIPS_PER_BROKER} replication groups"
    )]
    TooManyGroups(NodeId),
}

/// What a request wants of one group, partition by partition.
type Wanted<'a> = BTreeMap<(&'a str, i32), Option<&'a [NodeId]>>;

pub fn decide(image: &Image, request: &AlterReassignments) -> Decision<Reply> {
    let mut groups: BTreeMap<GroupId, Wanted> = BTreeMap::new();
    let mut places = Vec::new();
    for (name, partitions) in &request.topics {
        for (index, replicas) in partitions {
            let place = find(image, name, *index);
            if let Ok(group) = &place {
                let wanted = groups.entry(*group).or_default();
                wanted.insert((name, *index), replicas.as_deref());
            }
            places.push((name, *index, place));
        }
    }
    let mut moves = Moves {
        image,
        allow_factor_change: request.allow_factor_change,
        memberships: memberships(image),
        records: Vec::new(),
    };
    let decided = groups.iter().map(|(id, wanted)| {
        let group = image.group(*id).expect("replay keeps a partition's group");
        (*id, moves.decide(group, wanted))
    });
    let decided: BTreeMap<_, _> = decided.collect();
    let reply = places.into_iter().map(|(name, index, place)| {
        let result = place.and_then(|group| decided[&group].clone());
        (name.clone(), index, result)
    });
    let reply = reply.collect();
    let records = moves.records;
    Decision { records, reply }
}

fn find(image: &Image, name: &str, index: i32) -> Result<GroupId, ReassignError> {
    image.topic(name).ok_or(ReassignError::UnknownTopic)?;
    let partition = image.partition(name, index);
    Ok(partition.ok_or(ReassignError::UnknownPartition)?.group)
}

/// How many groups each broker is a member of.
fn memberships(image: &Image) -> BTreeMap<NodeId, usize> {
    let mut memberships = BTreeMap::new();
    for id in image.groups().flat_map(Group::replicas) {
        *memberships.entry(id).or_default() += 1;
    }
    memberships
}

struct Moves<'a> {
    image: &'a Image,
    allow_factor_change: bool,
    memberships: BTreeMap<NodeId, usize>,
    records: Vec<MetadataRecord>,
}

impl Moves<'_> {
    fn decide(&mut self, group: &Group, wanted: &Wanted) -> Result<(), ReassignError> {
        let ((name, index), replicas) =
            wanted.first_key_value().expect("a group that is asked for");
        if let Some(other) = wanted.iter().find(|(_, other)| *other != replicas) {
            return Err(ReassignError::Differs(format!(
                "{name}-{index} and {}-{}",
                other.0.0, other.0.1
            )));
        }
        match replicas {
            Some(replicas) => self.move_to(group, *index, replicas, wanted),
            None => self.cancel(group, wanted),
        }
    }

    fn move_to(
        &mut self,
        group: &Group,
        index: i32,
        replicas: &[NodeId],
        wanted: &Wanted,
    ) -> Result<(), ReassignError> {
        if *group.members == *replicas {
            return Ok(());
        }
        let now = match group.former.len() {
            0 => group.members.len(),
            before => before,
        };
        if !self.allow_factor_change && replicas.len() != now && !replicas.is_empty() {
            let asked = replicas.len();
            return Err(ReassignError::Factor { now, asked });
        }
        assignment::check(self.image, index, replicas, replicas.len())?;
        self.check_all_named(group, wanted)?;
        let new = replicas.iter().filter(|id| !group.has_replica(**id));
        for id in new.clone() {
            if self.memberships.get(id).copied().unwrap_or(0) >= GROUP_MEMBERSHIPS_PER_BROKER {
                return Err(ReassignError::TooManyGroups(*id));
            }
        }
        if group.leader_epoch <= 0 {
            return Err(ReassignError::NeverLed);
        }
        for id in new {
            *self.memberships.entry(*id).or_default() += 1;
        }
        let former = match group.former.is_empty() {
            true => &group.members,
            false => &group.former,
        };
        self.record(group, replicas, former);
        Ok(())
    }

    fn cancel(&mut self, group: &Group, wanted: &Wanted) -> Result<(), ReassignError> {
        if group.former.is_empty() {
            return Err(ReassignError::NotMoving);
        }
        self.check_all_named(group, wanted)?;
        self.record(group, &group.former, &group.former);
        Ok(())
    }

    fn record(&mut self, group: &Group, members: &[NodeId], former: &[NodeId]) {
        self.records.push(record(group, members, former, true));
    }

    fn check_all_named(&self, group: &Group, wanted: &Wanted) -> Result<(), ReassignError> {
        if wanted.len() == group.partitions as usize {
            return Ok(());
        }
        let missing = self.image.topics().flat_map(|topic| {
            let partitions = (0..).zip(&topic.partitions);
            let of_group = partitions.filter(|(_, partition)| partition.group == group.id);
            of_group.map(|(index, _)| (&*topic.name, index))
        });
        let mut missing = missing.filter(|partition| !wanted.contains_key(partition));
        let first = missing.by_ref().take(NAMED);
        let mut names: Vec<_> = first
            .map(|(name, index)| format!("{name}-{index}"))
            .collect();
        match missing.count() {
            0 => {}
            more => names.push(format!("and {more} more")),
        }
        Err(ReassignError::Shared(names.join(", ")))
    }
}

/// A move of the group to these members, which a person chose or not. A move among the same replicas, to another order, is none.
pub(crate) fn record(
    group: &Group,
    members: &[NodeId],
    former: &[NodeId],
    by_hand: bool,
) -> MetadataRecord {
    let leaving = group.replicas().chain(former.iter().copied());
    let leaving: BTreeSet<_> = leaving.filter(|id| !members.contains(id)).collect();
    let set = |ids: &[NodeId]| ids.iter().copied().collect::<BTreeSet<_>>();
    let is_back = set(members) == set(former);
    MetadataRecord::Group(records::Group {
        group_id: group.id.0,
        members: members.to_vec(),
        former: if is_back { Vec::new() } else { former.to_vec() },
        leaving: leaving.into_iter().collect(),
        by_hand,
        ..records::Group::default()
    })
}

/// A partition whose group moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    pub topic: String,
    pub index: i32,
    /// The replicas that are wanted, and those that leave.
    pub replicas: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
}

/// Of these partitions, or of all: those that move.
pub fn list(
    image: &Image,
    partitions: Option<&BTreeMap<String, BTreeSet<i32>>>,
) -> Vec<Reassignment> {
    let of_group = |name: &str, index: i32, id: GroupId| {
        let group = image.group(id).filter(|group| group.is_moving())?;
        Some(Reassignment {
            topic: name.to_owned(),
            index,
            replicas: group.replicas().collect(),
            adding: group.adding().collect(),
            removing: group.leaving.to_vec(),
        })
    };
    if !image.groups().any(Group::is_moving) {
        return Vec::new();
    }
    match partitions {
        None => {
            let all = image.topics().flat_map(|topic| {
                let partitions = (0..).zip(&topic.partitions);
                partitions.filter_map(|(index, p)| of_group(&topic.name, index, p.group))
            });
            all.collect()
        }
        Some(topics) => {
            let named = topics.iter().flat_map(|(name, indexes)| {
                let found = indexes
                    .iter()
                    .filter_map(|index| Some((*index, image.partition(name, *index)?)));
                found.filter_map(|(index, p)| of_group(name, index, p.group))
            });
            named.collect()
        }
    }
}

#[cfg(test)]
mod tests;
