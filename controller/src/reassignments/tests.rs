use super::*;
use crate::leaders::{self, LeaderReport};
use crate::tests::ClusterImage;

type Asked<'a> = &'a [(&'a str, i32, Option<&'a [NodeId]>)];

fn request(asked: Asked) -> AlterReassignments {
    let mut topics: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
    for (name, index, replicas) in asked {
        let partitions = topics.entry((*name).to_owned()).or_default();
        partitions.insert(*index, replicas.map(<[NodeId]>::to_vec));
    }
    AlterReassignments {
        topics,
        allow_factor_change: true,
    }
}

fn alter(cluster: &mut ClusterImage, asked: Asked) -> Vec<Result<(), ReassignError>> {
    let decision = decide(&cluster.image(), &request(asked));
    let reply = cluster.apply(decision);
    reply.into_iter().map(|(_, _, result)| result).collect()
}

/// The leader of the group says who is in sync, and who votes.
fn report(cluster: &mut ClusterImage, leader: NodeId, epoch: i32, voters: &[NodeId]) {
    let report = LeaderReport {
        group: GroupId(1),
        leader: Some(leader),
        leader_epoch: epoch,
        in_sync: voters.to_vec(),
        voters: voters.to_vec(),
    };
    let image = cluster.image();
    let broker_epoch = image.broker(leader).unwrap().epoch;
    let decision = leaders::decide(&image, leader, broker_epoch, &[report]);
    cluster.apply(decision).unwrap();
}

/// Group 1 on brokers 1, 2 and 3 of seven, led by 1, with a-0 and a-1; group 2 on 4 alone with a-2.
fn cluster() -> ClusterImage {
    let mut cluster = ClusterImage::with_brokers(7);
    cluster.create_on("a", &[&[1, 2, 3], &[1, 2, 3]]);
    cluster.create_on("b", &[&[4]]);
    report(&mut cluster, 1, 1, &[1, 2, 3]);
    cluster
}

/// Members, former members, and who leaves.
fn group(cluster: &ClusterImage) -> (Vec<NodeId>, Vec<NodeId>, Vec<NodeId>) {
    let image = cluster.image();
    let group = image.group(GroupId(1)).unwrap();
    (
        group.members.to_vec(),
        group.former.to_vec(),
        group.leaving.to_vec(),
    )
}

fn listed(cluster: &ClusterImage) -> Vec<Reassignment> {
    list(&cluster.image(), None)
}

const TO_5: Option<&[NodeId]> = Some(&[5, 2, 6]);

#[test]
fn a_group_moves_until_its_leader_says_that_it_has() {
    let mut cluster = cluster();
    let done = alter(&mut cluster, &[("a", 0, TO_5), ("a", 1, TO_5)]);
    assert_eq!(done, [Ok(()), Ok(())]);
    assert_eq!(group(&cluster), (vec![5, 2, 6], vec![1, 2, 3], vec![1, 3]));
    let moving = |index| Reassignment {
        topic: "a".to_owned(),
        index,
        replicas: vec![5, 2, 6, 1, 3],
        adding: vec![5, 6],
        removing: vec![1, 3],
    };
    assert_eq!(listed(&cluster), [moving(0), moving(1)]);
    let only = BTreeMap::from([
        ("a".to_owned(), BTreeSet::from([1, 7])),
        ("c".to_owned(), [0].into()),
    ]);
    assert_eq!(list(&cluster.image(), Some(&only)), [moving(1)]);
    // Neither the same voters, nor some of the new ones, nor more.
    report(&mut cluster, 1, 1, &[1, 2, 3]);
    report(&mut cluster, 2, 2, &[2, 5]);
    report(&mut cluster, 2, 2, &[2, 5, 6, 6]);
    assert_eq!(listed(&cluster).len(), 2);
    // An old leader's word does not count.
    report(&mut cluster, 1, 1, &[2, 5, 6]);
    assert_eq!(listed(&cluster).len(), 2);
    report(&mut cluster, 5, 3, &[2, 5, 6]);
    assert_eq!(group(&cluster), (vec![5, 2, 6], vec![], vec![]));
    assert_eq!(listed(&cluster), []);
    let image = cluster.image();
    let group = image.group(GroupId(1)).unwrap();
    assert_eq!((group.leader, group.founders.len()), (Some(5), 0));
}

#[test]
fn a_move_is_cancelled_once() {
    let mut cluster = cluster();
    let (a, b) = (("a", 0, None), ("a", 1, None));
    let not_moving = Err(ReassignError::NotMoving);
    assert_eq!(
        alter(&mut cluster, &[a, b]),
        [not_moving.clone(), not_moving.clone()]
    );
    alter(&mut cluster, &[("a", 0, TO_5), ("a", 1, TO_5)]);
    let to_7: Option<&[NodeId]> = Some(&[7, 1, 6]);
    alter(&mut cluster, &[("a", 0, to_7), ("a", 1, to_7)]);
    assert_eq!(
        group(&cluster),
        (vec![7, 1, 6], vec![1, 2, 3], vec![2, 3, 5])
    );
    assert_eq!(alter(&mut cluster, &[a, b]), [Ok(()), Ok(())]);
    assert_eq!(group(&cluster), (vec![1, 2, 3], vec![], vec![5, 6, 7]));
    assert_eq!(listed(&cluster)[0].removing, [5, 6, 7]);
    assert_eq!(listed(&cluster)[0].adding, []);
    assert_eq!(
        alter(&mut cluster, &[a, b]),
        [not_moving.clone(), not_moving]
    );
    report(&mut cluster, 1, 1, &[1, 2, 3]);
    assert_eq!(listed(&cluster), []);
}

#[test]
fn another_order_is_no_move_and_the_same_is_nothing() {
    let mut cluster = cluster();
    let now: Option<&[NodeId]> = Some(&[1, 2, 3]);
    let decision = decide(&cluster.image(), &request(&[("a", 0, now)]));
    assert!(decision.records.is_empty(), "a-1 need not be named");
    assert_eq!(decision.reply[0].2, Ok(()));
    let turned: Option<&[NodeId]> = Some(&[3, 2, 1]);
    assert_eq!(
        alter(&mut cluster, &[("a", 0, turned), ("a", 1, turned)]),
        [Ok(()), Ok(())]
    );
    assert_eq!(group(&cluster), (vec![3, 2, 1], vec![], vec![]));
}

#[test]
fn more_and_fewer_replicas() {
    let mut cluster = cluster();
    let one: Option<&[NodeId]> = Some(&[2]);
    alter(&mut cluster, &[("a", 0, one), ("a", 1, one)]);
    assert_eq!(group(&cluster), (vec![2], vec![1, 2, 3], vec![1, 3]));
    report(&mut cluster, 2, 2, &[2]);
    let five: Option<&[NodeId]> = Some(&[2, 1, 3, 4, 5]);
    alter(&mut cluster, &[("a", 0, five), ("a", 1, five)]);
    assert_eq!(group(&cluster), (vec![2, 1, 3, 4, 5], vec![2], vec![]));
    assert_eq!(listed(&cluster)[0].adding, [1, 3, 4, 5]);
    let mut fixed = request(&[("a", 0, one), ("a", 1, TO_5)]);
    fixed.allow_factor_change = false;
    fixed
        .topics
        .get_mut("a")
        .unwrap()
        .insert(0, Some(vec![5, 2, 6]));
    let (now, asked) = (1, 3);
    let refused = decide(&cluster.image(), &fixed).reply;
    assert_eq!(refused[0].2, Err(ReassignError::Factor { now, asked }));
}

#[test]
fn refuses_what_cannot_be() {
    let mut cluster = cluster();
    let mut first = |asked: Asked| alter(&mut cluster, asked).remove(0);
    let shared = Err(ReassignError::Shared("a-1".to_owned()));
    assert_eq!(first(&[("a", 0, TO_5)]), shared);
    let differs = Err(ReassignError::Differs("a-0 and a-1".to_owned()));
    assert_eq!(
        first(&[("a", 0, TO_5), ("a", 1, Some(&[5, 6, 2]))]),
        differs
    );
    assert_eq!(first(&[("a", 0, TO_5), ("a", 1, None)]), differs);
    assert_eq!(
        first(&[("a", 2, TO_5)]),
        Err(ReassignError::UnknownPartition)
    );
    assert_eq!(first(&[("c", 0, TO_5)]), Err(ReassignError::UnknownTopic));
    assert_eq!(first(&[("b", 0, TO_5)]), Err(ReassignError::NeverLed));
    use AssignmentError as E;
    for (replicas, error) in [
        (&[][..], E::Empty(0)),
        (&[1, 2], E::Unsupported(0, 2)),
        (&[1, 2, 2], E::Duplicate(0, 2)),
        (&[1, 2, 9], E::UnknownBroker(0, 9)),
    ] {
        let asked = [("a", 0, Some(replicas)), ("a", 1, Some(replicas))];
        assert_eq!(first(&asked), Err(ReassignError::Assignment(error)));
    }
}
