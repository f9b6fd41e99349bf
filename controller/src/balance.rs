//! Moves that the controller makes by itself: replicas leave brokers that are drained or gone for long, and
//! go to brokers that have fewer than others, such as new ones. What a person has placed is not moved for
//! balance.
//!
//! Groups move as a whole, a few at a time. The groups' leaders bring the data there, as they do for a move
//! that a person asked for; who must lead where follows from the order of the members, which a newcomer
//! takes over from the one that it comes for.
use std::collections::{BTreeMap, BTreeSet};

use ottla_proto::ids::{GroupId, METADATA_GROUP, NodeId};
use ottla_proto::limits::{GROUP_MEMBERSHIPS_PER_BROKER, GROUP_MOVES};
use ottla_proto::metadata::{Group, Image, MetadataRecord};

use crate::{Decision, reassignments};

/// One replica's place, given to another broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    pub group: GroupId,
    pub from: NodeId,
    pub to: NodeId,
}

fn is_set(image: &Image, id: NodeId, key: &str, value: &str) -> bool {
    let configs = [image.broker_configs(Some(id)), image.broker_configs(None)];
    let found = configs.iter().find_map(|configs| configs.get(key));
    found.is_some_and(|found| found == value)
}

/// Whether the broker is to be emptied.
pub fn is_drained(image: &Image, id: NodeId) -> bool {
    is_set(image, id, "ottla.broker.drain", "true")
}

/// Whether the broker is to get no new replicas.
pub fn is_cordoned(image: &Image, id: NodeId) -> bool {
    is_drained(image, id) || is_set(image, id, "cordoned.log.dirs", "*")
}

/// `gone`: brokers that are given up. `even_out`: whether replicas move for nothing but balance.
pub fn decide(
    image: &Image,
    gone: &BTreeSet<NodeId>,
    even_out: bool,
) -> Decision<Vec<Replacement>> {
    let mut balancer = Balancer::new(image, gone);
    let moving = image.groups().filter(|group| group.is_moving()).count();
    for group in movable(image) {
        if moving + balancer.records.len() >= GROUP_MOVES {
            break;
        }
        balancer.empty(group);
    }
    let to_do = moving + balancer.records.len();
    if even_out && to_do == 0 {
        balancer.even_out();
    }
    Decision {
        records: balancer.records,
        reply: balancer.moves,
    }
}

/// Groups that have a leader to bring them somewhere, and stay where they are now.
fn movable(image: &Image) -> impl Iterator<Item = &Group> {
    image.groups().filter(|group| {
        let is_led = group.leader.is_some() && group.leader_epoch > 0;
        group.id != METADATA_GROUP && is_led && !group.is_moving()
    })
}

struct Balancer<'a> {
    image: &'a Image,
    /// Brokers that take replicas, and how many groups each is a member of.
    open: BTreeMap<NodeId, usize>,
    emptied: BTreeSet<NodeId>,
    records: Vec<MetadataRecord>,
    moves: Vec<Replacement>,
}

impl<'a> Balancer<'a> {
    fn new(image: &'a Image, gone: &BTreeSet<NodeId>) -> Self {
        let drained = image.brokers().map(|broker| broker.id);
        let drained = drained.filter(|id| is_drained(image, *id));
        let is_open = |id: &NodeId| !gone.contains(id) && !is_cordoned(image, *id);
        let active = image.brokers().filter(|broker| broker.is_active());
        let mut open: BTreeMap<_, _> = active
            .map(|broker| broker.id)
            .filter(is_open)
            .map(|id| (id, 0))
            .collect();
        let groups = image.groups().filter(|group| group.id != METADATA_GROUP);
        for id in groups.flat_map(|group| group.replicas()) {
            if let Some(memberships) = open.get_mut(&id) {
                *memberships += 1;
            }
        }
        Balancer {
            image,
            open,
            emptied: drained.chain(gone.iter().copied()).collect(),
            records: Vec::new(),
            moves: Vec::new(),
        }
    }

    /// Gives the places of brokers that are to be empty to others, as far as there are others.
    fn empty(&mut self, group: &Group) {
        let mut members = group.members.to_vec();
        let mut moves = Vec::new();
        let is_emptied = |id: &&NodeId| self.emptied.contains(id);
        let leaving: Vec<_> = group.members.iter().filter(is_emptied).collect();
        for from in leaving {
            let Some(to) = self.newcomer(&members, *from) else {
                continue;
            };
            self.exchange(&mut members, *from, to);
            moves.push((*from, to));
        }
        self.record(group, &members, &moves);
    }

    /// The broker that has the fewest groups, in a rack of its own if there is one.
    fn newcomer(&self, members: &[NodeId], from: NodeId) -> Option<NodeId> {
        let others = self
            .open
            .iter()
            .filter(|(id, count)| !members.contains(id) && **count < GROUP_MEMBERSHIPS_PER_BROKER);
        let best = others.min_by_key(|(id, count)| {
            let shares = self.shares_rack(members, from, **id);
            (shares, **count, **id)
        });
        best.map(|(id, _)| *id)
    }

    /// Whether `id` in the place of `from` would be in the same rack as another member.
    fn shares_rack(&self, members: &[NodeId], from: NodeId, id: NodeId) -> bool {
        let rack = |id: NodeId| self.image.broker(id)?.rack.as_deref();
        let mut others = members.iter().filter(|member| **member != from);
        rack(id).is_some_and(|own| others.any(|other| rack(*other) == Some(own)))
    }

    fn exchange(&mut self, members: &mut [NodeId], from: NodeId, to: NodeId) {
        let place = members.iter_mut().find(|member| **member == from);
        *place.expect("a member gives its place away") = to;
        *self.open.entry(to).or_default() += 1;
        if let Some(memberships) = self.open.get_mut(&from) {
            *memberships -= 1;
        }
    }

    fn record(&mut self, group: &Group, members: &[NodeId], moves: &[(NodeId, NodeId)]) {
        if moves.is_empty() {
            return;
        }
        self.records
            .push(reassignments::record(group, members, &group.members, false));
        let moves = moves.iter().map(|(from, to)| Replacement {
            group: group.id,
            from: *from,
            to: *to,
        });
        self.moves.extend(moves);
    }

    /// One place of a broker that has two more than another, to that one.
    fn even_out(&mut self) {
        let mut by_count: Vec<_> = self.open.iter().map(|(id, count)| (*count, *id)).collect();
        by_count.sort_unstable();
        for (most, from) in by_count.iter().rev() {
            for (least, to) in by_count.iter().take_while(|(least, _)| least + 2 <= *most) {
                debug_assert!(least < most);
                if let Some(group) = self.to_give(*from, *to) {
                    let mut members = group.members.to_vec();
                    self.exchange(&mut members, *from, *to);
                    self.record(group, &members, &[(*from, *to)]);
                    return;
                }
            }
        }
    }

    /// A group, placed by no person, that `to` can take from `from` without sharing a rack more than before. One that it is to
    /// lead, if it leads fewer.
    fn to_give(&self, from: NodeId, to: NodeId) -> Option<&'a Group> {
        let image = self.image;
        let leads = |id: NodeId| movable(image).filter(|g| g.members[0] == id).count();
        let wants_to_lead = leads(to) < leads(from);
        let fits = |group: &&Group| {
            let members = &group.members;
            !group.by_hand
                && members.contains(&from)
                && !members.contains(&to)
                && (self.shares_rack(members, from, from) || !self.shares_rack(members, from, to))
        };
        let order = |group: &&Group| ((group.members[0] == from) != wants_to_lead, group.id);
        movable(image).filter(fits).min_by_key(order)
    }
}

#[cfg(test)]
mod tests;
