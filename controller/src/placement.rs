//! Which replication group a new partition goes to.
//!
//! Per replication factor each live broker is the preferred leader of up to [`GROUPS_PER_BROKER`]
//! groups, made when first needed. A topic's partitions go to the live brokers in turn, starting with
//! those that lead the fewest, so that leaders spread over the cluster and over each topic. A group's
//! other members follow its leader on a ring of all brokers on which racks alternate. Cordoned brokers
//! are on no ring, and the groups that they are members of get no new partitions.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use ottla_proto::ids::{GroupId, METADATA_GROUP, NodeId};
use ottla_proto::limits::{GROUP_MEMBERS, GROUP_MEMBERSHIPS_PER_BROKER, GROUPS_PER_BROKER};
use ottla_proto::metadata::{Image, MetadataRecord, records};
use thiserror::Error;

use crate::balance;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlacementError {
    /// INVALID_REPLICATION_FACTOR
    #[error("Replication factor must be at least 1, or -1 for the default, not {0}")]
    NotPositive(i16),
    /// INVALID_REPLICATION_FACTOR
    #[error("Replication factor {0} is more than {GROUP_MEMBERS}, the most that is supported")]
    TooMany(i16),
    /// INVALID_REPLICATION_FACTOR
    #[error(
        "Replication factor {asked} rounds up to {needed}, because a majority needs an odd number \
         of replicas, but only {registered} broker(s) are registered and not cordoned"
    )]
    RoundedUp {
        asked: i16,
        needed: usize,
        registered: usize,
    },
    /// INVALID_REPLICATION_FACTOR
    #[error(
        "Replication factor {needed} cannot be reached: only {registered} broker(s) are registered and not cordoned"
    )]
    TooFewBrokers { needed: usize, registered: usize },
    /// INVALID_REPLICATION_FACTOR
    #[error(
        "Replication factor {needed} needs {majority} live broker(s), but only {live} of \
         {registered} registered ones are live"
    )]
    TooFewLive {
        needed: usize,
        majority: usize,
        live: usize,
        registered: usize,
    },
    /// POLICY_VIOLATION
    #[error(
        "Broker {0} would be a member of more than {GROUP_MEMBERSHIPS_PER_BROKER} replication groups"
    )]
    TooManyGroups(NodeId),
}

/// How many members a partition's group is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationFactor {
    pub members: usize,
    /// For the user, where it is not what was asked for.
    pub note: Option<String>,
}

#[derive(Clone)]
struct Candidate {
    id: GroupId,
    members: Arc<[NodeId]>,
    partitions: u32,
}

/// Places the partitions of one request. Each choice counts for the next.
#[derive(Clone)]
pub struct Placer {
    /// Live brokers as racks alternate, with their racks.
    ring: Vec<(NodeId, Option<String>)>,
    /// Registered, but fenced or on their way out: the last choice as followers.
    waiting: Vec<NodeId>,
    groups: Vec<Candidate>,
    /// Partitions of all groups that a broker is the preferred leader of.
    led: BTreeMap<NodeId, u32>,
    memberships: BTreeMap<NodeId, usize>,
    cordoned: BTreeSet<NodeId>,
    /// What each registered broker's replicas are called.
    replicas: BTreeMap<NodeId, u64>,
    next_group_id: u32,
    new_groups: Vec<MetadataRecord>,
}

impl Placer {
    pub fn new(image: &Image) -> Self {
        let groups = image.groups().filter(|group| group.id != METADATA_GROUP);
        let groups: Vec<_> = groups
            .map(|group| Candidate {
                id: group.id,
                members: group.members.clone(),
                partitions: group.partitions,
            })
            .collect();
        let (mut led, mut memberships) = (BTreeMap::new(), BTreeMap::new());
        for group in &groups {
            *led.entry(group.members[0]).or_default() += group.partitions;
            for member in group.members.iter() {
                *memberships.entry(*member).or_default() += 1;
            }
        }
        let is_open = |id: &NodeId| !balance::is_cordoned(image, *id);
        let waiting = image.brokers().filter(|b| !b.is_active()).map(|b| b.id);
        let waiting = waiting.filter(is_open);
        let cordoned = image.brokers().map(|b| b.id);
        let cordoned = cordoned.filter(|id| !is_open(id));
        let replicas = image.brokers().map(|b| (b.id, b.replica_id()));
        Self {
            ring: ring(image),
            waiting: waiting.collect(),
            cordoned: cordoned.collect(),
            groups,
            led,
            memberships,
            replicas: replicas.collect(),
            next_group_id: image.next_group_id().0,
            new_groups: Vec::new(),
        }
    }

    /// Records of the groups that were made; they come before the partitions in them.
    pub fn into_new_groups(self) -> Vec<MetadataRecord> {
        self.new_groups
    }

    /// What `asked` amounts to. Raft needs an odd number of members to be worth it: 2 and 4 round up.
    pub fn replication_factor(&self, asked: i16) -> Result<ReplicationFactor, PlacementError> {
        let members = usize::try_from(asked).ok().filter(|members| *members > 0);
        let members = members.ok_or(PlacementError::NotPositive(asked))?;
        if members > GROUP_MEMBERS {
            return Err(PlacementError::TooMany(asked));
        }
        let needed = members | 1;
        if needed != members && self.registered() < needed {
            let registered = self.registered();
            return Err(PlacementError::RoundedUp {
                asked,
                needed,
                registered,
            });
        }
        self.check_reachable(needed)?;
        let note = (needed != members).then(|| {
            format!(
                "Replication factor {asked} was rounded up to {needed}: a majority needs an odd \
                 number of replicas"
            )
        });
        Ok(ReplicationFactor {
            members: needed,
            note,
        })
    }

    /// Groups for `count` partitions of one topic. `placed` holds the preferred leaders of the
    /// partitions that the topic has.
    pub fn place(
        &mut self,
        members: usize,
        count: usize,
        placed: &[NodeId],
    ) -> Result<Vec<GroupId>, PlacementError> {
        self.check_reachable(members)?;
        let mut turns: BinaryHeap<_> = (self.ring.iter())
            .map(|(id, _)| {
                let of_topic = placed.iter().filter(|leader| *leader == id).count();
                Reverse((of_topic, self.led.get(id).copied().unwrap_or(0), *id))
            })
            .collect();
        let mut out = Vec::with_capacity(count);
        let mut refused = None;
        while out.len() < count {
            let Some(Reverse((of_topic, led, leader))) = turns.pop() else {
                let none = "only a broker without room leaves its turn";
                return Err(refused.expect(none));
            };
            match self.group_led_by(leader, members) {
                Ok(at) => {
                    out.push(self.take(at));
                    turns.push(Reverse((of_topic + 1, led + 1, leader)));
                }
                Err(error) => refused = Some(error),
            }
        }
        Ok(out)
    }

    /// The group of exactly these members, the first of which is to lead.
    pub fn place_on(&mut self, members: &[NodeId]) -> Result<GroupId, PlacementError> {
        let wanted: BTreeSet<_> = members.iter().collect();
        let same = |group: &Candidate| group.members.iter().collect::<BTreeSet<_>>() == wanted;
        let with_leader =
            |group: &Candidate| group.members.first() == members.first() && same(group);
        let at = match self.groups.iter().position(with_leader) {
            Some(at) => at,
            // A group that prefers another leader is better than none.
            None => match (
                self.make(members.into(), true),
                self.groups.iter().position(same),
            ) {
                (Ok(at), _) | (Err(_), Some(at)) => at,
                (Err(error), None) => return Err(error),
            },
        };
        Ok(self.take(at))
    }

    #[cfg(test)]
    pub fn members_of(&self, id: GroupId) -> Option<&[NodeId]> {
        let group = self.groups.iter().find(|group| group.id == id)?;
        Some(&group.members)
    }

    fn take(&mut self, at: usize) -> GroupId {
        let group = &mut self.groups[at];
        group.partitions += 1;
        *self.led.entry(group.members[0]).or_default() += 1;
        group.id
    }

    /// The emptiest group that the broker is to lead, or a new one while it has too few.
    fn group_led_by(&mut self, leader: NodeId, members: usize) -> Result<usize, PlacementError> {
        let usable = |group: &Candidate| {
            group.members[0] == leader
                && group.members.len() == members
                && group.members.iter().all(|id| !self.cordoned.contains(id))
                && self.live_members(&group.members) > members / 2
        };
        let mut own = (self.groups.iter().enumerate()).filter(|(_, group)| usable(group));
        let emptiest = own.clone().min_by_key(|(_, group)| group.partitions);
        let emptiest = emptiest.map(|(at, _)| at);
        if own.nth(GROUPS_PER_BROKER - 1).is_some() {
            return Ok(emptiest.expect("a broker with groups has an emptiest one"));
        }
        match (self.make(self.members(leader, members), false), emptiest) {
            (Ok(at), _) | (Err(_), Some(at)) => Ok(at),
            (Err(error), None) => Err(error),
        }
    }

    fn make(&mut self, members: Arc<[NodeId]>, by_hand: bool) -> Result<usize, PlacementError> {
        let memberships = |id: &NodeId| self.memberships.get(id).copied().unwrap_or(0);
        let full = |id: &&NodeId| memberships(id) >= GROUP_MEMBERSHIPS_PER_BROKER;
        if let Some(id) = members.iter().find(full) {
            return Err(PlacementError::TooManyGroups(*id));
        }
        let id = GroupId(self.next_group_id);
        let next = self.next_group_id.checked_add(1);
        self.next_group_id = next.expect("group ids are not used up within 64 per broker");
        for member in members.iter() {
            *self.memberships.entry(*member).or_default() += 1;
        }
        self.new_groups.push(MetadataRecord::Group(records::Group {
            group_id: id.0,
            members: members.to_vec(),
            by_hand,
            founders: members.iter().map(|id| self.replicas[id]).collect(),
            ..records::Group::default()
        }));
        let partitions = 0;
        self.groups.push(Candidate {
            id,
            members,
            partitions,
        });
        Ok(self.groups.len() - 1)
    }

    /// The leader and those behind it on the ring: new racks first, then any, then waiting brokers.
    fn members(&self, leader: NodeId, count: usize) -> Arc<[NodeId]> {
        let start = self.ring.iter().position(|(id, _)| *id == leader);
        let start = start.expect("leaders are chosen from the ring");
        let (after, before) = (&self.ring[start..], &self.ring[..start]);
        let (mut chosen, mut later, mut racks) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (id, rack) in after.iter().chain(before) {
            let new_rack = rack.as_ref().is_none_or(|rack| racks.insert(rack));
            match new_rack && chosen.len() < count {
                true => chosen.push(*id),
                false => later.push(*id),
            }
        }
        let rest = later.into_iter().chain(self.waiting.iter().copied());
        let missing = count - chosen.len();
        chosen.extend(rest.take(missing));
        assert_eq!(
            chosen.len(),
            count,
            "callers check that enough brokers exist"
        );
        chosen.into()
    }

    fn check_reachable(&self, needed: usize) -> Result<(), PlacementError> {
        let (registered, live) = (self.registered(), self.ring.len());
        let majority = needed / 2 + 1;
        if registered < needed {
            return Err(PlacementError::TooFewBrokers { needed, registered });
        }
        if live < majority {
            return Err(PlacementError::TooFewLive {
                needed,
                majority,
                live,
                registered,
            });
        }
        Ok(())
    }

    fn registered(&self) -> usize {
        self.ring.len() + self.waiting.len()
    }

    fn live_members(&self, members: &[NodeId]) -> usize {
        let live = |id: &&NodeId| self.ring.iter().any(|(live, _)| live == *id);
        members.iter().filter(live).count()
    }
}

/// Live brokers that are not cordoned: one of each rack in turn, in id order within a rack.
fn ring(image: &Image) -> Vec<(NodeId, Option<String>)> {
    let mut racks: BTreeMap<_, u32> = BTreeMap::new();
    let mut ring = Vec::new();
    let is_open = |id| !balance::is_cordoned(image, id);
    for broker in image.brokers().filter(|b| b.is_active() && is_open(b.id)) {
        let round = racks.entry(&broker.rack).or_default();
        *round += 1;
        ring.push((*round, &broker.rack, broker.id));
    }
    // Brokers without a rack form one long row; their order is that of their ids.
    ring.sort_unstable();
    let ring = ring.into_iter().map(|(_, rack, id)| (id, rack.clone()));
    ring.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{ClusterImage, members_of};

    fn place(placer: &mut Placer, members: usize, count: usize) -> Vec<Vec<NodeId>> {
        let groups = placer.place(members, count, &[]).unwrap();
        groups.iter().map(|id| members_of(placer, *id)).collect()
    }

    #[test]
    fn leaders_take_turns() {
        let image = ClusterImage::with_brokers(3).image();
        let mut placer = Placer::new(&image);
        let placed = place(&mut placer, 3, 7);
        let leaders: Vec<_> = placed.iter().map(|members| members[0]).collect();
        assert_eq!(leaders, [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(placed[0], [1, 2, 3]);
        assert_eq!(placed[1], [2, 3, 1]);
        // Small topics go on where others left off.
        assert_eq!(place(&mut placer, 1, 1), [[2]]);
        assert_eq!(place(&mut placer, 1, 1), [[3]]);
        assert_eq!(placer.into_new_groups().len(), 5);
    }

    #[test]
    fn a_growing_topic_evens_itself_out() {
        let image = ClusterImage::with_brokers(3).image();
        let mut placer = Placer::new(&image);
        let groups = placer.place(1, 2, &[1, 1, 2]).unwrap();
        let leaders: Vec<_> = groups
            .iter()
            .map(|id| members_of(&placer, *id)[0])
            .collect();
        assert_eq!(leaders, [3, 2]);
    }

    #[test]
    fn groups_are_used_again() {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create("a", 6, 3);
        let before = cluster.image().groups().count();
        cluster.create("b", 6, 3);
        assert_eq!((before, cluster.image().groups().count()), (3, 3));
        let counts: Vec<_> = cluster.image().groups().map(|g| g.partitions).collect();
        assert_eq!(counts, [4, 4, 4]);
    }

    #[test]
    fn members_come_from_different_racks() {
        let mut cluster = ClusterImage::default();
        for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")] {
            cluster.add_broker(id, Some(rack));
        }
        let image = cluster.image();
        let rack = |id: &NodeId| image.broker(*id).unwrap().rack.clone();
        let mut placer = Placer::new(&image);
        for members in place(&mut placer, 3, 6) {
            let racks: BTreeSet<_> = members.iter().map(rack).collect();
            assert_eq!(racks.len(), 3, "{members:?}");
        }
        for members in place(&mut placer, 5, 6) {
            let racks: BTreeSet<_> = members.iter().map(rack).collect();
            let distinct: BTreeSet<_> = members.iter().collect();
            assert_eq!((racks.len(), distinct.len()), (3, 5), "{members:?}");
        }
    }

    #[test]
    fn fenced_brokers_follow_only_where_they_must() {
        let mut cluster = ClusterImage::with_brokers(4);
        cluster.fence(2);
        let placed = place(&mut Placer::new(&cluster.image()), 3, 3);
        assert!(placed.iter().flatten().all(|id| *id != 2), "{placed:?}");
        cluster.fence(1);
        let placed = place(&mut Placer::new(&cluster.image()), 3, 2);
        assert_eq!(placed, [[3, 4, 1], [4, 3, 1]]);
        cluster.fence(3);
        let error = Placer::new(&cluster.image()).place(3, 1, &[]).unwrap_err();
        assert!(matches!(
            error,
            PlacementError::TooFewLive {
                live: 1,
                majority: 2,
                ..
            }
        ));
    }

    #[test]
    fn a_group_without_a_live_majority_is_left_alone() {
        let mut cluster = ClusterImage::with_brokers(5);
        cluster.create_on("a", &[&[1, 2, 3]]);
        cluster.fence(2);
        cluster.fence(3);
        let mut placer = Placer::new(&cluster.image());
        let id = placer.group_led_by(1, 3).unwrap();
        assert_eq!(*placer.groups[id].members, [1, 4, 5]);
    }

    #[test]
    fn even_factors_round_up() {
        let placer = |brokers| Placer::new(&ClusterImage::with_brokers(brokers).image());
        for (brokers, asked, members) in [(1, 1, 1), (3, 2, 3), (3, 3, 3), (5, 4, 5), (9, 5, 5)] {
            let factor = placer(brokers).replication_factor(asked).unwrap();
            assert_eq!(factor.members, members);
            assert_eq!(factor.note.is_some(), members as i16 != asked);
        }
        for (brokers, asked, text) in [
            (2, 2, "rounds up to 3"),
            (4, 4, "rounds up to 5"),
            (1, 3, "only 1 broker(s)"),
            (9, 6, "more than 5"),
            (9, 0, "at least 1"),
            (9, -2, "at least 1"),
            (0, 1, "only 0 broker(s)"),
        ] {
            let error = placer(brokers).replication_factor(asked).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn groups_per_broker_are_bounded() {
        let mut placer = Placer::new(&ClusterImage::with_brokers(20).image());
        let mut refused = None;
        for other in (2..=20).flat_map(|b| (2..=20).map(move |c| [1, b, c])) {
            if other[1] != other[2] && refused.is_none() {
                refused = placer.place_on(&other).err();
            }
        }
        assert_eq!(refused, Some(PlacementError::TooManyGroups(1)));
        // What exists may still be used, under another leader too.
        assert!(placer.place_on(&[3, 2, 1]).is_ok());
        assert!(placer.place(1, 20, &[]).is_ok());
    }
}
