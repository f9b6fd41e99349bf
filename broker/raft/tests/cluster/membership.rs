//! Members come and go while records are appended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_log::{StateKey, Store, Tag};
use ottla_raft::{Group, MembershipError, Outcome, node_of, replica_id};

use crate::harness::{Cluster, GROUP, WAIT, batch, read, replica, values};

/// Appends to one group until told to stop; what was acknowledged.
fn load(group: Arc<Group>, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<(i64, u64)>> {
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for value in 0.. {
            if stop.load(Ordering::Acquire) {
                break;
            }
            let ticket = group.append(vec![batch(1, 1, value, None)], 100, None);
            if let Ok(outcomes) = ticket.outcome().await
                && let [Outcome::Appended { base_offset }] = outcomes[..]
            {
                acknowledged.push((base_offset, value));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        acknowledged
    })
}

#[tokio::test(start_paused = true)]
async fn a_group_moves_to_other_nodes_under_load() {
    let mut cluster = Cluster::start(1, 3).await;
    let leader = cluster.leader().await;
    let group = cluster.group(leader);
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(group.clone(), stop.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leaving: Vec<_> = (1..=3).filter(|n| *n != leader).collect();
    for new in [4, 5] {
        cluster.run(new, replica(new), &[]).await;
        group.add_learner(replica(new), WAIT).await.expect("added");
        group
            .wait_caught_up(replica(new), WAIT)
            .await
            .expect("caught up");
    }
    let voters = BTreeSet::from([replica(leader), replica(4), replica(5)]);
    group
        .change_membership(voters.clone(), WAIT)
        .await
        .expect("changed");
    assert_eq!(group.members(), (voters, BTreeSet::new()));
    for node in &leaving {
        cluster
            .until("the news", || cluster.group(*node).is_removed())
            .await;
        cluster.crash(*node).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let in_sync = group.in_sync(Duration::from_secs(1));
    assert_eq!(in_sync.len(), 3);
    stop.store(true, Ordering::Release);
    let acknowledged = load.await.unwrap();
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    cluster.agree().await;
    assert_eq!(values(&read(&cluster.group(4), 1, 0)), acknowledged);
    // The leader leaves, too.
    cluster.run(6, replica(6), &[]).await;
    group.add_learner(replica(6), WAIT).await.expect("added");
    group
        .wait_caught_up(replica(6), WAIT)
        .await
        .expect("caught up");
    let voters = BTreeSet::from([replica(4), replica(5), replica(6)]);
    group
        .transfer_leader(replica(4), WAIT)
        .await
        .expect("transferred");
    cluster
        .until("the new leader", || cluster.leading() == Some(4))
        .await;
    cluster
        .group(4)
        .change_membership(voters, WAIT)
        .await
        .expect("changed");
    cluster.crash(leader).await;
    cluster.agree().await;
    assert_eq!(values(&read(&cluster.group(6), 1, 0)), acknowledged);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lost_its_tail_comes_back_under_another_id() {
    let mut cluster = Cluster::start(2, 3).await;
    for value in 0..30 {
        cluster.append(vec![batch(1, 1, value, None)]).await;
    }
    let leader = cluster.leader().await;
    let lost = if leader == 3 { 2 } else { 3 };
    cluster.crash(lost).await;
    for value in 30..60 {
        cluster.append(vec![batch(1, 1, value, None)]).await;
    }
    let fresh = replica_id(lost, 2);
    cluster.run(lost, fresh, &[]).await;
    assert_eq!(
        cluster.group(lost).leader(),
        None,
        "nobody knows it, and it knows nobody"
    );
    let group = cluster.group(cluster.leader().await);
    group.add_learner(fresh, WAIT).await.expect("added");
    group.wait_caught_up(fresh, WAIT).await.expect("caught up");
    let mut voters = group.members().0;
    voters.remove(&replica(lost));
    voters.insert(fresh);
    group
        .change_membership(voters, WAIT)
        .await
        .expect("changed");
    cluster.agree().await;
    assert_eq!(values(&read(&cluster.group(lost), 1, 0)).len(), 60);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused() {
    let mut cluster = Cluster::start(3, 3).await;
    let leader = cluster.leader().await;
    let group = cluster.group(leader);
    let other = cluster.group(if leader == 1 { 2 } else { 1 });
    let all = group.members().0;
    assert_eq!(
        other.change_membership(all.clone(), WAIT).await,
        Err(MembershipError::NotLeader)
    );
    assert_eq!(
        other.add_learner(replica(9), WAIT).await,
        Err(MembershipError::NotLeader)
    );
    assert!(other.progress().is_empty());
    assert_eq!(
        group.change_membership(BTreeSet::new(), WAIT).await,
        Err(MembershipError::Size(0))
    );
    let mut unknown = all.clone();
    unknown.insert(replica(9));
    assert_eq!(
        group.change_membership(unknown, WAIT).await,
        Err(MembershipError::NotMember(replica(9)))
    );
    assert_eq!(
        group.transfer_leader(replica(9), WAIT).await,
        Err(MembershipError::NotMember(replica(9)))
    );
    let silent = (1..=3).find(|n| *n != leader).unwrap();
    cluster.crash(silent).await;
    for value in 0..10 {
        cluster.append(vec![batch(1, 1, value, None)]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let progress = group.progress();
    let of = |node| progress.iter().find(|m| m.node == node).unwrap();
    assert_eq!(of(leader).lag_entries, 0);
    assert!(of(silent).lag_entries >= 10, "{:?}", of(silent));
    let in_sync = group.in_sync(Duration::from_secs(30));
    assert!(
        in_sync.len() == 2 && !in_sync.contains(&replica(silent)),
        "{in_sync:?}"
    );
}

/// The log that it would be sent has memberships in which it was the only voter: with a part of that log, and
/// without its vote, it would take itself for the leader.
#[tokio::test(start_paused = true)]
async fn who_leaves_and_comes_back_begins_with_a_snapshot() {
    let mut cluster = Cluster::start(4, 3).await;
    let mut leader = cluster.leader().await;
    let mut value = 0;
    for _ in 0..3 {
        let group = cluster.group(leader);
        let alone = BTreeSet::from([replica(leader)]);
        let others = group.members().0.into_iter().map(node_of);
        let others: Vec<_> = others.filter(|node| *node != leader).collect();
        group.change_membership(alone, WAIT).await.expect("changed");
        for node in &others {
            cluster
                .until("the news", || cluster.group(*node).is_removed())
                .await;
            let left = cluster.groups(*node).remove(GROUP).await;
            left.expect("its rows are deleted");
            let vote = StateKey::group(Tag::Vote, GROUP);
            assert!(cluster.store(*node).state(vote).unwrap().is_some());
        }
        for _ in 0..3 {
            group.append(vec![batch(1, 1, value, None)], 100, None);
            value += 1;
        }
        let back = others[0];
        let end = cluster.store(leader).last_raft_row(GROUP).unwrap();
        let end = end.map(|(index, _)| index);
        cluster.crash(back).await;
        cluster.run(back, replica(back), &[]).await;
        group.add_learner(replica(back), WAIT).await.expect("added");
        group
            .wait_caught_up(replica(back), WAIT)
            .await
            .expect("caught up");
        let rows = cluster.store(back).raft_rows(GROUP, 0, u64::MAX, 1 << 20);
        let first = rows.unwrap().first().map(|(index, _)| *index);
        assert!(
            first.is_none_or(|first| Some(first) > end),
            "{first:?} {end:?}"
        );
        let both = BTreeSet::from([replica(leader), replica(back)]);
        group.change_membership(both, WAIT).await.expect("changed");
        group
            .transfer_leader(replica(back), WAIT)
            .await
            .expect("transferred");
        cluster
            .until("the new leader", || cluster.leading() == Some(back))
            .await;
        leader = back;
    }
    let group = cluster.group(leader);
    cluster
        .until("all records", || {
            values(&read(&group, 1, 0)).len() as u64 == value
        })
        .await;
}

/// In the membership that a member which was away knows, that vote would make a majority.
#[tokio::test(start_paused = true)]
async fn who_comes_back_with_nothing_votes_for_nobody() {
    let mut cluster = Cluster::start(6, 3).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = (1..=3).filter(|node| *node != leader).collect();
    let (left, away) = (others[0], others[1]);
    cluster.append(vec![batch(1, 1, 0, None)]).await;
    cluster.crash(away).await;
    let group = cluster.group(leader);
    let alone = BTreeSet::from([replica(leader)]);
    group.change_membership(alone, WAIT).await.expect("changed");
    cluster
        .until("the news", || cluster.group(left).is_removed())
        .await;
    let deleted = cluster.groups(left).remove(GROUP).await;
    deleted.expect("its rows are deleted");
    cluster.append(vec![batch(1, 1, 1, None)]).await;
    cluster.crash(left).await;
    cluster.crash(leader).await;
    cluster.run(left, replica(left), &[]).await;
    cluster.restart(away).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_ne!(cluster.group(away).leader(), Some(replica(away)));
    cluster.restart(leader).await;
    cluster
        .until("the leader", || cluster.leading() == Some(leader))
        .await;
    let found = values(&read(&cluster.group(leader), 1, 0));
    assert_eq!(found.len(), 2, "{found:?}");
}
