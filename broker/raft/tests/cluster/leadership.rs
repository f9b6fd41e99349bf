//! Who leads, and that nobody else acts as if it did.

use std::time::Duration;

use ottla_proto::limits::ELECTION_TIMEOUT_MIN_MS;
use ottla_raft::AppendError;
use tokio::time::Instant;

use crate::harness::{Cluster, WAIT, batch, read, replica, values};

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_before_its_lease_would_be_over() {
    for seed in 0..10 {
        let mut cluster = Cluster::start(seed, 3).await;
        cluster.append(vec![batch(1, 1, 1, None)]).await;
        let old = cluster.leader().await;
        cluster.crash(old).await;
        let died = Instant::now();
        let new = cluster.leader().await;
        // On a clock of the test's own: a property of the protocol, not of the machine.
        assert!(
            died.elapsed() < Duration::from_millis(400),
            "{:?}",
            died.elapsed()
        );
        assert_ne!(new, old);
        cluster.append(vec![batch(1, 1, 2, None)]).await;
        cluster.restart(old).await;
        cluster.agree().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_replaced_after_its_lease() {
    let cluster = Cluster::start(1, 3).await;
    let old = cluster.leader().await;
    let group = cluster.group(old);
    cluster.network.isolate(old, (1..=3).filter(|n| *n != old));
    let mut both = 0;
    let began = Instant::now();
    loop {
        let serving = (1..=3)
            .filter(|n| cluster.group(*n).leader_epoch().is_some())
            .count();
        both = both.max(serving);
        if group.leader_epoch().is_none() && serving == 1 {
            break;
        }
        assert!(began.elapsed() < WAIT);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(both, 1, "never two at a time");
    cluster.network.heal();
    cluster.agree().await;
}

/// An answer that comes late extends the lease from when its own question was asked, not from when a later one
/// was that says no more: the follower has not heard that one.
#[tokio::test(start_paused = true)]
async fn a_late_answer_counts_from_its_own_question() {
    let cluster = Cluster::start(3, 3).await;
    cluster.append(vec![batch(1, 1, 1, None)]).await;
    let leader = cluster.leader().await;
    let followers: Vec<_> = (1..=3).filter(|n| *n != leader).collect();
    let group = cluster.group(leader);
    let (sooner, later) = (Duration::from_millis(400), Duration::from_millis(500));
    cluster.network.delay(followers[0], leader, sooner);
    cluster.network.delay(followers[1], leader, later);
    let ticket = group.append(vec![batch(1, 1, 2, None)], 100, None);
    let asked = Instant::now();
    // Both hear of the entry, and of nothing that comes after it.
    tokio::time::sleep(Duration::from_millis(5)).await;
    for follower in followers {
        cluster.network.cut(leader, follower);
    }
    // The first answer commits it, of which the second follower is told in vain.
    assert!(ticket.outcome().await.is_ok());
    let answered = asked + later + Duration::from_millis(10);
    tokio::time::sleep_until(answered).await;
    assert!(group.leader_epoch().is_some(), "the lease is not over yet");
    let lease = Duration::from_millis(ELECTION_TIMEOUT_MIN_MS);
    tokio::time::sleep_until(asked + lease + Duration::from_millis(10)).await;
    assert_eq!(group.leader_epoch(), None, "the lease of what both heard");
    cluster.network.heal();
    cluster.agree().await;
}

/// Followers may elect the one that leadership goes to at once: they are told that their promise is over.
#[tokio::test(start_paused = true)]
async fn a_leader_that_hands_over_serves_no_more() {
    let cluster = Cluster::start(4, 3).await;
    cluster.append(vec![batch(1, 1, 1, None)]).await;
    let leader = cluster.leader().await;
    let followers: Vec<_> = (1..=3).filter(|n| *n != leader).collect();
    let group = cluster.group(leader);
    // It hears nothing of the election.
    for follower in &followers {
        cluster
            .network
            .delay(*follower, leader, Duration::from_millis(300));
    }
    let (to, led) = (replica(followers[0]), group.clone());
    let handing_over = tokio::spawn(async move { led.transfer_leader(to, WAIT).await });
    let mut both = 0;
    while cluster.group(followers[0]).leader_epoch().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..300 {
        both += usize::from(group.leader_epoch().is_some());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(both, 0, "milliseconds with two leaders that serve");
    handing_over.await.expect("no panic").expect("transferred");
    cluster.network.heal();
    cluster.agree().await;
}

#[tokio::test(start_paused = true)]
async fn an_append_for_an_old_leader_epoch_is_refused() {
    let cluster = Cluster::start(2, 3).await;
    let first = cluster.leader().await;
    let epoch = cluster.group(first).leader_epoch().unwrap();
    let other = if first == 1 { 2 } else { 1 };
    cluster
        .group(first)
        .transfer_leader(replica(other), WAIT)
        .await
        .expect("transferred");
    cluster
        .until("the other one", || cluster.leading() == Some(other))
        .await;
    cluster
        .group(other)
        .transfer_leader(replica(first), WAIT)
        .await
        .expect("transferred");
    cluster
        .until("the first again", || cluster.leading() == Some(first))
        .await;
    let group = cluster.group(first);
    assert!(group.leader_epoch().unwrap() > epoch);
    let late = group.append_in_epoch(epoch, vec![batch(1, 1, 666, None)], 100, None);
    assert_eq!(late.outcome().await, Err(AppendError::NotLeader));
    let follower = cluster
        .group(other)
        .append(vec![batch(1, 1, 667, None)], 100, None);
    assert_eq!(follower.outcome().await, Err(AppendError::NotLeader));
    cluster.agree().await;
    assert!(values(&read(&group, 1, 0)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_majority_says_that_outcomes_are_unknown() {
    let mut cluster = Cluster::start(3, 3).await;
    let leader = cluster.leader().await;
    for node in (1..=3).filter(|n| *n != leader) {
        cluster.crash(node).await;
    }
    let group = cluster.group(leader);
    let Some(epoch) = group.leader_epoch() else {
        return;
    };
    let ticket = group.append_in_epoch(epoch, vec![batch(1, 1, 1, None)], 100, None);
    let outcome = tokio::time::timeout(WAIT, ticket.outcome())
        .await
        .expect("an answer");
    assert!(
        matches!(outcome, Err(AppendError::Unknown | AppendError::NotLeader)),
        "{outcome:?}"
    );
    assert_eq!(group.leader_epoch(), None);
    assert!(group.in_sync(Duration::from_secs(10)).len() < 2);
}

#[tokio::test(start_paused = true)]
async fn a_one_way_cut_does_not_split_the_group() {
    for seed in 0..4 {
        let cluster = Cluster::start(seed, 3).await;
        let leader = cluster.leader().await;
        let deaf = (1..=3).find(|n| *n != leader).unwrap();
        // It hears nobody, and everybody hears it: it must not depose a leader that works.
        for node in (1..=3).filter(|n| *n != deaf) {
            cluster.network.cut(node, deaf);
        }
        let epoch = cluster.group(leader).leader_epoch().unwrap();
        for value in 0..50 {
            cluster.append(vec![batch(1, 1, value, None)]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(cluster.group(leader).leader_epoch(), Some(epoch));
        cluster.network.heal();
        cluster.agree().await;
    }
}
