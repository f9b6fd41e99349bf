//! A group of one replica, over the real store and over memory: order, duplicates, restarts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ottla_log::{MemoryStore, RocksStore, Store, StoreOptions};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::{PRODUCER_MEMORY_BYTES, PRODUCER_SILENT_MS, PRODUCERS_PER_PARTITION};
use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};
use ottla_raft::{AppendError, BatchMeta, Command, Group, Groups, Outcome, ProducerMeta};

const GROUP: GroupId = GroupId(1);
const WAIT: Duration = Duration::from_secs(10);

fn clock() -> ottla_raft::Clock {
    Arc::new(|| 1_000_000)
}

async fn start(store: Arc<dyn Store>) -> (Groups, Arc<Group>) {
    let groups = Groups::new(store, clock(), &MemoryShares::of(MIN_MEMORY_BYTES));
    let group = groups
        .start_alone(GROUP, 7)
        .await
        .expect("the group starts");
    group
        .wait_for_leadership(WAIT)
        .await
        .expect("alone, it leads");
    (groups, group)
}

/// Opens the store as soon as whoever had it before has let go of its lock.
fn rocks(path: &Path) -> Arc<dyn Store> {
    let deadline = std::time::Instant::now() + WAIT;
    loop {
        match RocksStore::open(path, &StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES))) {
            Ok(store) => return Arc::new(store),
            Err(e) if e.to_string().contains("lock") && std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(e) => panic!("{e}"),
        }
    }
}

/// A batch of `offsets` records whose body is `fill` repeated.
fn batch(partition: u64, offsets: i32, fill: u8, producer: Option<ProducerMeta>) -> Command {
    let mut body = vec![fill; 84];
    // last offset delta, at byte 23 of the batch
    body[7..11].copy_from_slice(&(offsets - 1).to_be_bytes());
    let meta = BatchMeta {
        partition: PartitionId(partition),
        offsets,
        max_timestamp_ms: fill as i64,
        size_bytes: 100,
        producer,
    };
    Command::Append {
        meta,
        body: body.into(),
    }
}

fn producer(base_sequence: i32, count: i32) -> Option<ProducerMeta> {
    Some(ProducerMeta {
        id: 5,
        epoch: 0,
        base_sequence,
        last_sequence: base_sequence + count - 1,
    })
}

async fn append(group: &Group, commands: Vec<Command>) -> Vec<Outcome> {
    group
        .append(commands, 100, None)
        .outcome()
        .await
        .expect("appended")
}

fn read(group: &Group, partition: u64, offset: i64) -> Vec<u8> {
    let p = group.partition(PartitionId(partition));
    let found = group
        .read(&p, offset, p.bounds().high_watermark, usize::MAX)
        .expect("read");
    found.concat()
}

async fn story(open: impl Fn() -> Arc<dyn Store>) {
    let (groups, group) = start(open()).await;
    let outcomes = append(
        &group,
        vec![batch(1, 3, b'a', producer(0, 3)), batch(2, 1, b'b', None)],
    )
    .await;
    assert_eq!(
        outcomes,
        [
            Outcome::Appended { base_offset: 0 },
            Outcome::Appended { base_offset: 0 }
        ]
    );
    let outcomes = append(&group, vec![batch(1, 2, b'c', producer(3, 2))]).await;
    assert_eq!(outcomes, [Outcome::Appended { base_offset: 3 }]);
    let before = read(&group, 1, 0);
    assert_eq!(before.len(), 200);
    let first_epoch = group.leader_epoch().unwrap();

    drop((groups, group));
    // Not shut down: as after a crash, everything comes from the rows.
    let (groups, group) = start(open()).await;
    assert!(
        group.leader_epoch().unwrap() > first_epoch,
        "a new life is a new leader epoch"
    );
    let p = group.partition(PartitionId(1));
    assert_eq!(p.bounds().high_watermark, 5);
    assert_eq!(read(&group, 1, 0), before);
    assert_eq!(
        read(&group, 1, 4),
        &before[100..],
        "a middle offset brings its whole batch"
    );
    let again = append(
        &group,
        vec![
            batch(1, 2, b'c', producer(3, 2)),
            batch(1, 2, b'c', producer(9, 2)),
        ],
    )
    .await;
    let expected = [
        Outcome::Duplicate { base_offset: 3 },
        Outcome::OutOfOrderSequence { expected: 5 },
    ];
    assert_eq!(again, expected);

    let trimmed = append(
        &group,
        vec![Command::Trim {
            partition: PartitionId(1),
            log_start_offset: 4,
        }],
    )
    .await;
    assert_eq!(
        trimmed,
        [Outcome::Trimmed {
            log_start_offset: 4
        }]
    );
    group.reclaim(&p).unwrap();
    assert_eq!(p.bounds().log_start_offset, 4);
    assert_eq!(
        append(
            &group,
            vec![Command::Remove {
                partition: PartitionId(2)
            }]
        )
        .await,
        [Outcome::Removed]
    );
    assert_eq!(
        append(&group, vec![batch(2, 1, b'd', None)]).await,
        [Outcome::UnknownPartition]
    );
    groups.shutdown().await;
    drop((groups, group));

    let (groups, group) = start(open()).await;
    let p = group.partition(PartitionId(1));
    assert_eq!(
        (p.bounds().log_start_offset, p.bounds().high_watermark),
        (4, 5)
    );
    assert_eq!(read(&group, 1, 4), &before[100..]);
    assert_eq!(
        group.partition(PartitionId(2)).bounds().high_watermark,
        0,
        "a removed partition is gone"
    );
    assert_eq!(
        append(&group, vec![batch(2, 1, b'd', None)]).await,
        [Outcome::UnknownPartition],
        "also after a restart"
    );
    assert!(!group.partition_ids().contains(&PartitionId(2)));
    groups.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_keeps_its_promises_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    story(|| rocks(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_keeps_its_promises_in_memory() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    story(|| store.clone()).await;
}

/// Many writers at once: every one gets its own offset, and the log holds exactly what was answered.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_are_dense() {
    let folder = tempfile::tempdir().unwrap();
    let (groups, group) = start(rocks(folder.path())).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..32u8 {
        let group = group.clone();
        tasks.spawn(async move {
            let mut answered = Vec::new();
            for i in 0..50 {
                let outcome = append(&group, vec![batch(3, 1 + i % 3, writer, None)]).await;
                let Outcome::Appended { base_offset } = outcome[0] else {
                    panic!("{outcome:?}")
                };
                answered.push((base_offset, base_offset + 1 + (i % 3) as i64, writer));
            }
            answered
        });
    }
    let mut answered: Vec<_> = tasks.join_all().await.concat();
    answered.sort();
    assert!(
        answered.windows(2).all(|w| w[0].1 == w[1].0),
        "no hole, no overlap"
    );
    let log = Bytes::from(read(&group, 3, 0));
    assert_eq!(log.len(), answered.len() * 100);
    for (batch, (base, _, writer)) in log.chunks(100).zip(&answered) {
        assert_eq!(batch[..8], base.to_be_bytes());
        assert_eq!(batch[99], *writer);
    }
    groups.shutdown().await;
}

/// A checkpoint and a purge in the middle change nothing that a client sees.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_survive_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (groups, group) = start(rocks(folder.path())).await;
    for i in 0..2500 {
        append(&group, vec![batch(1 + i % 5, 1, b'x', producer_of(i))]).await;
    }
    drop((groups, group));
    let (groups, group) = start(rocks(folder.path())).await;
    for p in 1..6 {
        assert_eq!(group.partition(PartitionId(p)).bounds().high_watermark, 500);
        assert_eq!(read(&group, p, 0).len(), 500 * 100);
        let dup = append(&group, vec![batch(p, 1, b'x', producer_of(2494 + p))]).await;
        assert_eq!(dup, [Outcome::Duplicate { base_offset: 499 }]);
    }
    groups.shutdown().await;
}

fn producer_of(i: u64) -> Option<ProducerMeta> {
    let sequence = (i / 5) as i32;
    Some(ProducerMeta {
        id: 9,
        epoch: 0,
        base_sequence: sequence,
        last_sequence: sequence,
    })
}

/// At the bound of a partition a new producer is refused, and a known one's retry still is a duplicate;
/// the process's budget refuses before anything is appended.
#[tokio::test(flavor = "multi_thread")]
async fn producers_are_refused_and_not_forgotten() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut shares = MemoryShares::of(MIN_MEMORY_BYTES);
    shares.producer_bytes = 12_000 * PRODUCER_MEMORY_BYTES;
    let now = Arc::new(AtomicI64::new(1_000_000));
    let clock = now.clone();
    let clock: ottla_raft::Clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let groups = Groups::new(store, clock, &shares);
    let group = groups.start_alone(GROUP, 7).await.expect("it starts");
    group.wait_for_leadership(WAIT).await.expect("it leads");
    let new = |id: i64| {
        Some(ProducerMeta {
            id,
            epoch: 0,
            base_sequence: 0,
            last_sequence: 0,
        })
    };
    let ids: Vec<i64> = (0..PRODUCERS_PER_PARTITION as i64).collect();
    for ids in ids.chunks(2000) {
        let commands = ids.iter().map(|id| batch(1, 1, b'a', new(*id))).collect();
        append(&group, commands).await;
    }
    let full = append(
        &group,
        vec![batch(1, 1, b'a', new(-5)), batch(1, 1, b'a', new(0))],
    )
    .await;
    let expected = [
        Outcome::TooManyProducers,
        Outcome::Duplicate { base_offset: 0 },
    ];
    assert_eq!(full, expected);

    let other = group.partition(PartitionId(2));
    for id in 0..2000 {
        assert_eq!(group.admit_producer(&other, id), Ok(()));
        append(&group, vec![batch(2, 1, b'a', new(id))]).await;
    }
    assert_eq!(groups.producer_bytes(), shares.producer_bytes);
    let refused = group.admit_producer(&other, 2000);
    assert_eq!(refused, Err(AppendError::TooManyProducers));
    assert_eq!(group.admit_producer(&other, 3), Ok(()), "it is known");

    // All have been silent for long: the next sweep makes room, on idle partitions too.
    now.fetch_add(PRODUCER_SILENT_MS, Ordering::Relaxed);
    let began = std::time::Instant::now();
    while group.admit_producer(&other, 2000).is_err() {
        assert!(began.elapsed() < WAIT, "there is no room");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    append(
        &group,
        vec![Command::Remove {
            partition: PartitionId(2),
        }],
    )
    .await;
    drop(other);
    assert!(groups.producer_bytes() < shares.producer_bytes / 100);
    groups.shutdown().await;
}
