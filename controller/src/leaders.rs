//! Brokers report which of them leads a replication group, and in which leader epoch.
use std::collections::{BTreeMap, BTreeSet};

use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::metadata::{Group, Image, MetadataRecord, records};

use crate::Decision;
use crate::brokers::{StaleBroker, check_epoch};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderReport {
    pub group: GroupId,
    /// `None`: this epoch has no leader yet.
    pub leader: Option<NodeId>,
    pub leader_epoch: i32,
    /// Replicas that are in sync, as the leader sees it.
    pub in_sync: Vec<NodeId>,
    /// Nodes of the voters of a group that moves, one per voter, once its leader knows that they are
    /// settled; else empty.
    pub voters: Vec<NodeId>,
}

/// What is known of a group's leader: epoch, leader, in-sync members in order of their ids.
type Known = (i32, Option<NodeId>, Vec<NodeId>);

/// News are recorded. What is known, late, or about a group or member that the image does not have
/// is left out: reports of several members cross each other.
pub fn decide(
    image: &Image,
    broker_id: NodeId,
    broker_epoch: i64,
    reports: &[LeaderReport],
) -> Decision<Result<(), StaleBroker>> {
    if let Err(error) = check_epoch(image, broker_id, broker_epoch) {
        return Decision::reply(Err(error));
    }
    let mut news: BTreeMap<GroupId, Known> = BTreeMap::new();
    for report in reports {
        let Some(group) = image.group(report.group) else {
            continue;
        };
        let sorted = |ids: &[NodeId]| {
            let members = ids.iter().filter(|id| group.has_replica(**id));
            let members: BTreeSet<NodeId> = members.copied().collect();
            Vec::from_iter(members)
        };
        let before = || (group.leader_epoch, group.leader, sorted(&group.in_sync));
        let known = news.get(&report.group).cloned().unwrap_or_else(before);
        let member = report.leader.is_none_or(|leader| group.has_replica(leader));
        let told = (report.leader_epoch, report.leader, sorted(&report.in_sync));
        // Within one epoch a leader becomes known and is never another.
        let newer = match &known {
            (epoch, None, _) if told.1.is_some() => told.0 >= *epoch,
            (epoch, leader, in_sync) if told.0 == *epoch => {
                // Only the leader itself knows who follows.
                *leader == told.1 && *leader == Some(broker_id) && *in_sync != told.2
            }
            (epoch, _, _) => told.0 > *epoch,
        };
        if member && newer {
            news.insert(report.group, told);
        }
    }
    let record = |(group, (leader_epoch, leader, in_sync)): (GroupId, Known)| {
        MetadataRecord::LeaderChange(records::LeaderChange {
            group_id: group.0,
            leader: leader.unwrap_or(-1),
            leader_epoch,
            in_sync,
        })
    };
    let moved = moved(image, broker_id, reports, &news);
    Decision {
        records: news.into_iter().map(record).chain(moved).collect(),
        reply: Ok(()),
    }
}

/// The groups without brokers whose processes have ended: they lead none, and are in sync in none, until a
/// leader says so again. The only member of a group stays what it is.
pub fn without(image: &Image, ended: &[NodeId]) -> Vec<MetadataRecord> {
    let counted = |group: &&Group| {
        let mut told = group.leader.iter().chain(group.in_sync.iter());
        group.members.len() > 1 && told.any(|id| ended.contains(id))
    };
    let without = |group: &Group| {
        MetadataRecord::LeaderChange(records::LeaderChange {
            group_id: group.id.0,
            leader: group
                .leader
                .filter(|leader| !ended.contains(leader))
                .unwrap_or(-1),
            leader_epoch: group.leader_epoch,
            in_sync: group
                .in_sync
                .iter()
                .copied()
                .filter(|id| !ended.contains(id))
                .collect(),
        })
    };
    image.groups().filter(counted).map(without).collect()
}

/// Groups whose move is done: their leader says that the members are the voters, and nobody else.
fn moved(
    image: &Image,
    broker_id: NodeId,
    reports: &[LeaderReport],
    news: &BTreeMap<GroupId, Known>,
) -> Vec<MetadataRecord> {
    let mut done = BTreeMap::new();
    for report in reports
        .iter()
        .filter(|report| report.leader == Some(broker_id))
    {
        let Some(group) = image.group(report.group).filter(|group| group.is_moving()) else {
            continue;
        };
        let (epoch, leader) = match news.get(&group.id) {
            Some((epoch, leader, _)) => (*epoch, *leader),
            None => (group.leader_epoch, group.leader),
        };
        let leads = (epoch, leader) == (report.leader_epoch, report.leader);
        let is_there = report.voters.len() == group.members.len()
            && group.members.iter().all(|id| report.voters.contains(id));
        if leads && is_there {
            let record = records::Group {
                group_id: group.id.0,
                members: group.members.to_vec(),
                by_hand: group.by_hand,
                ..records::Group::default()
            };
            done.insert(group.id, MetadataRecord::Group(record));
        }
    }
    done.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ClusterImage;

    fn report(group: u32, leader: Option<NodeId>, leader_epoch: i32) -> LeaderReport {
        LeaderReport {
            group: GroupId(group),
            leader,
            leader_epoch,
            in_sync: leader.into_iter().collect(),
            voters: Vec::new(),
        }
    }

    #[test]
    fn only_the_leader_says_who_is_in_sync() {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create_on("a", &[&[1, 2, 3]]);
        let told = |in_sync: &[NodeId]| LeaderReport {
            in_sync: in_sync.to_vec(),
            ..report(1, Some(1), 1)
        };
        for (broker, in_sync, expected) in [
            (1, &[1][..], &[1][..]),
            (1, &[3, 1, 2, 9], &[1, 2, 3]),
            (2, &[2], &[1, 2, 3]),
            (1, &[1, 3], &[1, 3]),
        ] {
            let epoch = cluster.image().broker(broker).unwrap().epoch;
            let decision = decide(&cluster.image(), broker, epoch, &[told(in_sync)]);
            cluster.apply(decision).unwrap();
            let image = cluster.image();
            assert_eq!(*image.group(GroupId(1)).unwrap().in_sync, *expected);
        }
    }

    #[test]
    fn the_highest_epoch_stands() {
        let mut cluster = ClusterImage::with_brokers(4);
        cluster.create_on("a", &[&[1, 2, 3]]);
        for (reports, expected, changes) in [
            (vec![report(1, Some(1), 1)], (Some(1), 1), 1),
            (vec![report(1, Some(1), 1)], (Some(1), 1), 0),
            (vec![report(1, Some(2), 1)], (Some(1), 1), 0),
            (
                vec![report(1, Some(3), 4), report(1, Some(2), 3)],
                (Some(3), 4),
                1,
            ),
            (vec![report(1, Some(1), 2)], (Some(3), 4), 0),
            (vec![report(1, None, 5)], (None, 5), 1),
            (vec![report(1, None, 5)], (None, 5), 0),
            (vec![report(1, Some(2), 5)], (Some(2), 5), 1),
            (vec![report(1, Some(4), 9)], (Some(2), 5), 0),
            (vec![report(9, Some(1), 9)], (Some(2), 5), 0),
        ] {
            let decision = decide(&cluster.image(), 1, 0, &reports);
            assert_eq!(decision.records.len(), changes, "{reports:?}");
            cluster.apply(decision).unwrap();
            let image = cluster.image();
            let group = image.group(GroupId(1)).unwrap();
            assert_eq!((group.leader, group.leader_epoch), expected, "{reports:?}");
        }
    }

    #[test]
    fn who_starts_again_or_falls_silent_leads_nothing() {
        use crate::brokers;
        use crate::tests::registration;

        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create_on("a", &[&[1, 2, 3], &[2, 3, 1]]);
        cluster.create_on("b", &[&[2]]);
        let of = |group, leader, in_sync: &[NodeId]| LeaderReport {
            in_sync: in_sync.to_vec(),
            ..report(group, Some(leader), 4)
        };
        let reports = [of(1, 1, &[1, 2, 3]), of(2, 2, &[2, 3]), of(3, 2, &[2])];
        for (broker, report) in [1, 2, 2].into_iter().zip(reports) {
            let epoch = cluster.image().broker(broker).unwrap().epoch;
            let decision = decide(&cluster.image(), broker, epoch, &[report]);
            cluster.apply(decision).unwrap();
        }
        let seen = |cluster: &ClusterImage| {
            let image = cluster.image();
            let groups = image.groups().map(|g| (g.leader, g.in_sync.to_vec()));
            Vec::from_iter(groups)
        };
        let expected = [(Some(1), vec![1, 3]), (None, vec![3]), (Some(2), vec![2])];
        let decision = brokers::register(&cluster.image(), false, &registration(2, None, 77));
        cluster.apply(decision).unwrap();
        assert_eq!(seen(&cluster), expected);
        cluster.fence(3);
        let expected = [(Some(1), vec![1]), (None, vec![]), (Some(2), vec![2])];
        assert_eq!(seen(&cluster), expected);
        // It led all the time.
        let epoch = cluster.image().broker(2).unwrap().epoch;
        let decision = decide(&cluster.image(), 2, epoch, &[of(2, 2, &[2, 3])]);
        cluster.apply(decision).unwrap();
        assert_eq!(seen(&cluster)[1], (Some(2), vec![2, 3]));
    }

    #[test]
    fn only_registered_brokers_report() {
        let cluster = ClusterImage::with_brokers(1);
        let decision = decide(&cluster.image(), 1, 7, &[report(1, Some(1), 1)]);
        assert!(matches!(
            decision.reply,
            Err(StaleBroker::Epoch { found: 7, .. })
        ));
    }
}
