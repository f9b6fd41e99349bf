//! Entries reach every member, and members that were away get what they lack.

use std::time::Duration;

use ottla_log::{Op, StateKey, Store, Tag};
use ottla_proto::ids::PartitionId;
use ottla_raft::{Command, Faults, Outcome};
use ottla_simulation::DiskStore;

use crate::harness::{Cluster, GROUP, batch, read, replica, sequenced, sized_batch, values};

async fn fill(cluster: &Cluster, partition: u64, from: u64, count: u64) {
    for value in from..from + count {
        let outcomes = cluster.append(vec![batch(partition, 2, value, None)]).await;
        assert_eq!(outcomes.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_is_the_same_on_every_member() {
    for size in [1, 3, 5] {
        let cluster = Cluster::start(1, size).await;
        let outcomes = cluster
            .append(vec![
                batch(1, 3, 1, sequenced(7, 0)),
                batch(2, 1, 2, None),
                batch(1, 1, 3, sequenced(7, 5)),
            ])
            .await;
        let expected = [
            Outcome::Appended { base_offset: 0 },
            Outcome::Appended { base_offset: 0 },
            Outcome::OutOfOrderSequence { expected: 1 },
        ];
        assert_eq!(outcomes, expected);
        let outcomes = cluster.append(vec![batch(1, 3, 1, sequenced(7, 0))]).await;
        assert_eq!(outcomes, [Outcome::Duplicate { base_offset: 0 }]);
        fill(&cluster, 1, 10, 5).await;
        cluster.agree().await;
        let partition = PartitionId(2);
        cluster.append(vec![Command::Remove { partition }]).await;
        let outcomes = cluster.append(vec![batch(2, 1, 9, None)]).await;
        assert_eq!(outcomes, [Outcome::UnknownPartition]);
        cluster.agree().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_gets_the_entries_it_lacks() {
    let mut cluster = Cluster::start(2, 3).await;
    fill(&cluster, 1, 0, 5).await;
    let leader = cluster.leader().await;
    let away = if leader == 3 { 2 } else { 3 };
    cluster.crash(away).await;
    fill(&cluster, 1, 5, 5).await;
    cluster.restart(away).await;
    cluster.agree().await;
    // All at once: nobody remembers anything but the disks.
    for node in 1..=3 {
        cluster.crash(node).await;
    }
    for node in 1..=3 {
        cluster.restart(node).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(values(&read(&cluster.group(leader), 1, 0)).len(), 10);
    cluster.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_for_long_gets_a_snapshot_of_what_it_lacks() {
    let mut cluster = Cluster::start(3, 3).await;
    fill(&cluster, 1, 0, 5).await;
    fill(&cluster, 2, 0, 5).await;
    let leader = cluster.leader().await;
    let away = if leader == 3 { 2 } else { 3 };
    cluster.crash(away).await;
    fill(&cluster, 1, 5, 200).await;
    fill(&cluster, 3, 5, 100).await;
    let partition = PartitionId(2);
    cluster.append(vec![Command::Remove { partition }]).await;
    cluster
        .append(vec![Command::Trim {
            partition: PartitionId(3),
            log_start_offset: 50,
        }])
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.restart(away).await;
    cluster.agree().await;
    fill(&cluster, 1, 1000, 5).await;
    cluster.agree().await;
    // What it has after another start is what it has.
    cluster.crash(away).await;
    cluster.restart(away).await;
    cluster.agree().await;
    let outcomes = cluster.append(vec![batch(2, 1, 9, None)]).await;
    assert_eq!(outcomes, [Outcome::UnknownPartition]);
    cluster.agree().await;
}

/// The new leader can apply nothing before the one that was away answers it, which needs a snapshot first.
#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_for_long_makes_up_the_majority() {
    let mut cluster = Cluster::start(3, 3).await;
    fill(&cluster, 1, 0, 5).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = (1..=3).filter(|node| *node != leader).collect();
    let (away, other) = (others[0], others[1]);
    cluster.crash(away).await;
    fill(&cluster, 1, 5, 300).await;
    let first_row = |node| {
        let rows = cluster.store(node).raft_rows(GROUP, 0, u64::MAX, 1 << 20);
        rows.unwrap().first().map(|(index, _)| *index)
    };
    cluster
        .until("the purge of what the member away lacks", || {
            first_row(other) > Some(20)
        })
        .await;
    cluster.crash(leader).await;
    cluster.restart(away).await;
    fill(&cluster, 1, 1000, 5).await;
    cluster.agree().await;
    cluster.restart(leader).await;
    cluster.agree().await;
}

#[tokio::test(start_paused = true)]
async fn an_uncommitted_tail_is_cut_off() {
    let mut cluster = Cluster::start(4, 3).await;
    fill(&cluster, 1, 0, 5).await;
    let old = cluster.leader().await;
    let others: Vec<_> = (1..=3).filter(|n| *n != old).collect();
    cluster.network.isolate(old, others.iter().copied());
    let group = cluster.group(old);
    let epoch = group.leader_epoch().expect("it does not know yet");
    let lost = group.append_in_epoch(epoch, vec![batch(1, 4, 666, None)], 100, None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        group.leader_epoch(),
        None,
        "without a majority it does not serve"
    );
    let new = cluster.leader().await;
    assert_ne!(new, old);
    fill(&cluster, 1, 100, 5).await;
    cluster.network.heal();
    cluster.agree().await;
    assert!(lost.outcome().await.is_err());
    let found = values(&read(&cluster.group(old), 1, 0));
    assert!(found.iter().all(|(_, value)| *value != 666));
    assert_eq!(found.len(), 10);
    cluster.crash(old).await;
    cluster.restart(old).await;
    cluster.agree().await;
}

/// As compaction takes records: a batch of the same length with fewer of them, or none at all.
#[tokio::test(start_paused = true)]
async fn entries_whose_data_is_no_longer_as_it_was_lead_to_a_snapshot() {
    const P: PartitionId = PartitionId(1);
    let gone = |_: &DiskStore| Op::DeleteBatch {
        partition: P,
        base_offset: 8,
        bytes: 100,
    };
    let fewer = |store: &DiskStore| {
        let mut batch = store.batches(P, 8, 9, 1).unwrap()[0].to_vec();
        batch[57..61].copy_from_slice(&1i32.to_be_bytes());
        batch[80..].fill(0xcc);
        Op::ReplaceBatch {
            partition: P,
            base_offset: 8,
            batch: batch.into(),
            freed_bytes: 0,
        }
    };
    compacted_below_a_follower(gone, 8).await;
    compacted_below_a_follower(fewer, 9).await;
}

async fn compacted_below_a_follower(compact: impl Fn(&DiskStore) -> Op, left: usize) {
    let mut cluster = Cluster::start(5, 3).await;
    fill(&cluster, 1, 0, 3).await;
    let leader = cluster.leader().await;
    let away = if leader == 3 { 2 } else { 3 };
    cluster.crash(away).await;
    fill(&cluster, 1, 3, 6).await;
    // The others start again, so that no cache has the data, and lose a batch below the high watermark,
    // as compaction would take it.
    let up: Vec<_> = (1..=3).filter(|n| *n != away).collect();
    for node in &up {
        cluster.crash(*node).await;
        let disk = cluster.nodes[node].disk.open();
        let op = compact(&disk);
        disk.write(vec![op]).unwrap();
    }
    for node in &up {
        cluster.restart(*node).await;
    }
    cluster.leader().await;
    cluster.restart(away).await;
    cluster.agree().await;
    let found = values(&read(&cluster.group(away), 1, 0));
    assert_eq!(found.len(), left);
    let row = cluster
        .store(away)
        .state(StateKey::cleaner(GROUP, PartitionId(1)));
    assert!(
        row.unwrap().is_some(),
        "it knows that records may be missing"
    );
}

#[tokio::test(start_paused = true)]
async fn large_batches_go_through() {
    let cluster = Cluster::start(6, 3).await;
    for value in 0..8 {
        cluster
            .append(vec![sized_batch(1, 1, value, None, 3 << 20)])
            .await;
    }
    cluster.agree().await;
    assert_eq!(cluster.group(1).members().0.len(), 3);
    assert_eq!(cluster.group(1).replica, replica(1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_snapshot_comes_in_leaves_what_was_there() {
    let mut staged_seen = 0;
    for (round, luck) in [(0, 0), (1, 3), (2, 1000)] {
        let mut cluster = Cluster::start(7 + round, 3).await;
        fill(&cluster, 1, 0, 5).await;
        let leader = cluster.leader().await;
        let first_five = values(&read(&cluster.group(leader), 1, 0));
        assert_eq!(first_five.len(), 5);
        let away = if leader == 3 { 2 } else { 3 };
        cluster.crash(away).await;
        for value in 5..105 {
            cluster
                .append(vec![sized_batch(1, 2, value, None, 256 << 10)])
                .await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Slow enough for a look at it on its way.
        let slow = Duration::from_millis(20);
        cluster.network.set_faults(Faults {
            min_delay: slow,
            max_delay: slow,
            ..Faults::default()
        });
        for _ in 0..3 {
            cluster.restart(away).await;
            let store = cluster.store(away);
            let staged = || store.states(Tag::Staged, GROUP).unwrap().len();
            let done = || {
                cluster
                    .group(away)
                    .partition(PartitionId(1))
                    .bounds()
                    .high_watermark
                    > 10
            };
            cluster
                .until("a part of the snapshot", || staged() > 0 || done())
                .await;
            staged_seen += staged();
            // Whether it is committed, the replica does not know before it hears of it.
            let had = store.batches(PartitionId(1), 0, 10, usize::MAX).unwrap();
            assert_eq!(values(&had.concat()), first_five[..]);
            cluster.crash_with_luck(away, luck).await;
        }
        cluster.restart(away).await;
        cluster.agree().await;
        assert_eq!(values(&read(&cluster.group(away), 1, 0)).len(), 105);
        assert!(
            cluster
                .store(away)
                .states(Tag::Staged, GROUP)
                .unwrap()
                .is_empty()
        );
    }
    assert!(staged_seen > 0, "no crash came in the middle");
}

/// However slow the rate, nobody takes the transfer for dead.
#[tokio::test(start_paused = true)]
async fn a_snapshot_leaves_at_the_rate_that_is_set() {
    const BATCHES: u64 = 20;
    const BATCH_BYTES: usize = 256 << 10;
    const RATE: u64 = 16 << 10;
    let mut cluster = Cluster::start(11, 3).await;
    let leader = cluster.leader().await;
    let away = if leader == 3 { 2 } else { 3 };
    cluster.crash(away).await;
    for value in 0..BATCHES {
        cluster
            .append(vec![sized_batch(1, 2, value, None, BATCH_BYTES)])
            .await;
    }
    fill(&cluster, 2, 0, 100).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for node in cluster.running() {
        cluster.groups(node).set_snapshot_rate(Some(RATE));
    }
    let began = tokio::time::Instant::now();
    cluster.restart(away).await;
    let partition = cluster.group(away).partition(PartitionId(1));
    while partition.bounds().high_watermark < 2 * BATCHES as i64 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < Duration::from_secs(3600), "it never ends");
    }
    // All but the last message, of a megabyte, waits for its time.
    let least = (BATCHES as usize * BATCH_BYTES - (2 << 20)) as u64 / RATE;
    assert!(began.elapsed().as_secs() >= least, "{:?}", began.elapsed());
    cluster.agree().await;
}
