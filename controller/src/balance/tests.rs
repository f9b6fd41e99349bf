use proptest::prelude::*;

use super::*;
use crate::alter_configs::{self, AlterConfigs, Change, Resource};
use crate::leaders::{self, LeaderReport};
use crate::tests::{ClusterImage, server};

fn configure(cluster: &mut ClusterImage, id: NodeId, key: &str, value: &str) {
    let change = Change::Replace(vec![(key.to_owned(), Some(value.to_owned()))]);
    let request = AlterConfigs {
        resources: vec![(Resource::Broker(Some(id)), change)],
        validate_only: false,
    };
    let decision = alter_configs::decide(&cluster.image(), &server(&[]), &request);
    for (_, result) in cluster.apply(decision) {
        result.unwrap();
    }
}

fn drain(cluster: &mut ClusterImage, id: NodeId) {
    configure(cluster, id, "ottla.broker.drain", "true");
}

/// Every group is led by its first member that is active, and has the voters that it is meant to have.
fn settle(cluster: &mut ClusterImage) {
    let image = cluster.image();
    for group in image.groups().filter(|group| group.id != METADATA_GROUP) {
        let is_active = |id: &&NodeId| image.broker(**id).is_some_and(|b| b.is_active());
        let Some(leader) = group.members.iter().find(is_active).copied() else {
            continue;
        };
        let report = LeaderReport {
            group: group.id,
            leader: Some(leader),
            leader_epoch: group.leader_epoch + 1,
            in_sync: group.members.to_vec(),
            voters: group.members.to_vec(),
        };
        let epoch = image.broker(leader).unwrap().epoch;
        let decision = leaders::decide(&cluster.image(), leader, epoch, &[report]);
        cluster.apply(decision).unwrap();
    }
}

fn balance(cluster: &mut ClusterImage, gone: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let gone = gone.iter().copied().collect();
    let decision = decide(&cluster.image(), &gone, true);
    let moves = cluster.apply(decision);
    moves.into_iter().map(|m| (m.from, m.to)).collect()
}

/// Balances until nothing moves any more. Answers how many moves that took.
fn balance_fully(cluster: &mut ClusterImage, gone: &[NodeId]) -> usize {
    let mut count = 0;
    loop {
        settle(cluster);
        match balance(cluster, gone).len() {
            0 => return count,
            moved => count += moved,
        }
        assert!(count < 10_000, "moves without end");
    }
}

/// How many groups each broker is a member of, and how many of them it is to lead.
fn shares(cluster: &ClusterImage) -> BTreeMap<NodeId, (usize, usize)> {
    let image = cluster.image();
    let mut shares = BTreeMap::new();
    for group in image.groups().filter(|group| group.id != METADATA_GROUP) {
        for (at, id) in group.members.iter().enumerate() {
            let share: &mut (usize, usize) = shares.entry(*id).or_default();
            share.0 += 1;
            share.1 += usize::from(at == 0);
        }
    }
    shares
}

#[test]
fn nothing_moves_without_a_reason() {
    let mut cluster = ClusterImage::with_brokers(3);
    cluster.create("a", 9, 3);
    settle(&mut cluster);
    assert_eq!(balance(&mut cluster, &[]), []);
    // A group more or less is no imbalance.
    cluster.add_broker(4, None);
    cluster.create("b", 1, 1);
    settle(&mut cluster);
    assert_eq!(balance_fully(&mut cluster, &[]), 1);
    assert!(shares(&cluster).values().all(|(count, _)| *count >= 2));
}

#[test]
fn what_a_person_placed_stays_until_it_cannot() {
    let mut cluster = ClusterImage::with_brokers(2);
    for topic in ["a", "b", "c"] {
        cluster.create_on(topic, &[&[1]]);
    }
    cluster.create_on("d", &[&[1], &[2]]);
    settle(&mut cluster);
    assert_eq!(balance(&mut cluster, &[]), []);
    drain(&mut cluster, 1);
    balance_fully(&mut cluster, &[]);
    assert_eq!(shares(&cluster).keys().collect::<Vec<_>>(), [&2]);
}

#[test]
fn a_drained_broker_is_emptied_and_gets_nothing() {
    let mut cluster = ClusterImage::with_brokers(4);
    cluster.create("a", 8, 3);
    settle(&mut cluster);
    assert!(shares(&cluster).contains_key(&1));
    drain(&mut cluster, 1);
    let led = shares(&cluster)[&1].1;
    balance_fully(&mut cluster, &[]);
    let shares_now = shares(&cluster);
    assert!(!shares_now.contains_key(&1), "{shares_now:?}");
    let leads: usize = shares_now.values().map(|(_, led)| led).sum();
    assert_eq!((leads, led), (4, 1), "its places were taken over");
    cluster.create("b", 8, 3);
    assert!(!shares(&cluster).contains_key(&1));
    // Back in service, it gets its part.
    configure(&mut cluster, 1, "ottla.broker.drain", "false");
    balance_fully(&mut cluster, &[]);
    assert!(shares(&cluster)[&1].0 >= 2, "{:?}", shares(&cluster));
}

#[test]
fn who_cannot_be_replaced_stays() {
    let mut cluster = ClusterImage::with_brokers(3);
    cluster.create("a", 3, 3);
    settle(&mut cluster);
    drain(&mut cluster, 1);
    assert_eq!(balance(&mut cluster, &[]), []);
    cluster.add_broker(4, None);
    assert_eq!(balance_fully(&mut cluster, &[]), 3);
    assert!(!shares(&cluster).contains_key(&1));
}

#[test]
fn who_is_gone_is_replaced_in_its_rack_order() {
    let mut cluster = ClusterImage::default();
    for (id, rack) in [(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b")] {
        cluster.add_broker(id, Some(rack));
    }
    cluster.create_on("t", &[&[1, 2, 3]]);
    settle(&mut cluster);
    cluster.fence(2);
    settle(&mut cluster);
    assert_eq!(balance(&mut cluster, &[]), [], "it may come back");
    let first = balance(&mut cluster, &[2]);
    assert_eq!(first, [(2, 5)], "the other one of rack b");
}

#[test]
fn a_group_without_a_leader_and_a_moving_one_stay() {
    let mut cluster = ClusterImage::with_brokers(4);
    cluster.create("a", 1, 3);
    drain(&mut cluster, 1);
    assert_eq!(balance(&mut cluster, &[]), [], "never led");
    settle(&mut cluster);
    assert_eq!(balance(&mut cluster, &[]), [(1, 4)]);
    assert_eq!(balance(&mut cluster, &[]), [], "it moves already");
}

#[test]
fn only_some_groups_move_at_a_time() {
    let mut cluster = ClusterImage::with_brokers(6);
    for (n, _) in (1..=10).enumerate() {
        let others: [NodeId; 3] = [1, 2 + n as NodeId % 4, 6];
        cluster.create_on(&format!("t{n}"), &[&others]);
    }
    cluster.create("more", 30, 3);
    settle(&mut cluster);
    drain(&mut cluster, 1);
    assert_eq!(balance(&mut cluster, &[]).len(), GROUP_MOVES);
    assert_eq!(balance(&mut cluster, &[]).len(), 0);
    settle(&mut cluster);
    assert!(!balance(&mut cluster, &[]).is_empty());
}

#[test]
fn a_cordoned_broker_keeps_what_it_has_and_gets_no_more() {
    let mut cluster = ClusterImage::with_brokers(4);
    cluster.create("a", 4, 3);
    settle(&mut cluster);
    let before = shares(&cluster)[&2];
    configure(&mut cluster, 2, "cordoned.log.dirs", "*");
    assert_eq!(balance(&mut cluster, &[]), []);
    cluster.create("b", 12, 3);
    let image = cluster.image();
    let topic = image.topic("b").unwrap();
    for partition in &topic.partitions {
        let group = image.group(partition.group).unwrap();
        assert!(!group.members.contains(&2), "{:?}", group.members);
    }
    assert_eq!(shares(&cluster)[&2], before);
}

proptest! {
    /// Whatever there is: it comes to rest, with as many replicas as before, none where none is to be, no
    /// two brokers further apart than one group if racks do not matter.
    #[test]
    fn it_comes_to_rest(
        brokers in 3i32..9,
        more in 0i32..3,
        topics in prop::collection::vec((1i32..12, prop_oneof![Just(1i16), Just(3)]), 1..6),
        drained in 0i32..10,
    ) {
        let mut cluster = ClusterImage::with_brokers(brokers);
        for (n, (partitions, factor)) in topics.into_iter().enumerate() {
            cluster.create(&format!("t{n}"), partitions, factor);
        }
        settle(&mut cluster);
        let replicas = |cluster: &ClusterImage| shares(cluster).values().map(|s| s.0).sum::<usize>();
        let before = replicas(&cluster);
        for id in brokers + 1..=brokers + more {
            cluster.add_broker(id, None);
        }
        if drained <= brokers && drained > 0 {
            drain(&mut cluster, drained);
        }
        balance_fully(&mut cluster, &[]);
        prop_assert_eq!(replicas(&cluster), before);
        let shares = shares(&cluster);
        let counts = (1..=brokers + more).filter(|id| *id != drained);
        let counts: Vec<_> = counts.map(|id| shares.get(&id).map_or(0, |s| s.0)).collect();
        let is_drained = drained > 0 && drained <= brokers;
        let could = !is_drained || brokers + more > 3;
        if could {
            prop_assert!(!is_drained || !shares.contains_key(&drained));
            let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }
    }
}
