//! Staging and installing at the level of one replica's log.

use ottla_log::{MemoryStore, Store};
use ottla_proto::ids::GroupId;

use super::*;
use crate::command::{BatchMeta, Command, GroupEntry, Outcome, Payload};
use crate::partition::TailCache;
use crate::producer_memory::ProducerMemory;
use crate::types::{Entry, EntryPayload, log_id};

const GROUP: GroupId = GroupId(4);
const P: PartitionId = PartitionId(1);

fn try_open(store: &Arc<MemoryStore>, replica: u64) -> Result<Arc<GroupLog>, StoreError> {
    let cache = Arc::new(TailCache::new(1 << 20));
    let producers = Arc::new(ProducerMemory::new(1 << 20));
    GroupLog::open(GROUP, replica, store.clone(), cache, producers, true).map(Arc::new)
}

fn open_as(store: &Arc<MemoryStore>, replica: u64) -> Arc<GroupLog> {
    try_open(store, replica).expect("it opens")
}

fn open(store: &Arc<MemoryStore>) -> Arc<GroupLog> {
    open_as(store, 7)
}

fn batch(partition: PartitionId, offsets: i32, fill: u8, size: usize) -> Command {
    let mut body = vec![fill; size];
    body[7..11].copy_from_slice(&(offsets - 1).to_be_bytes());
    body[41..45].copy_from_slice(&offsets.to_be_bytes());
    let meta = BatchMeta {
        partition,
        offsets,
        max_timestamp_ms: 0,
        size_bytes: size as u32 + 16,
        producer: None,
    };
    Command::Append {
        meta,
        body: body.into(),
    }
}

/// Appends one batch of `offsets` records as entry `index` of `term`.
fn append(log: &GroupLog, term: u64, index: u64, offsets: i32, fill: u8) -> Entry {
    put(log, term, index, vec![batch(P, offsets, fill, 100)])
}

fn put(log: &GroupLog, term: u64, index: u64, commands: Vec<Command>) -> Entry {
    let payload = Payload(Arc::new(GroupEntry::new(0, 1000, commands)));
    let entry = Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(payload),
    };
    log.append([entry.clone()], Box::new(|_| ()))
        .expect("appended");
    entry
}

/// A leader's log of batches of two records, all applied, and what it would send.
fn leader(entries: u64, term: u64) -> (Arc<MemoryStore>, Arc<GroupLog>) {
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    for index in 0..entries {
        let entry = append(&log, term, index, 2, b'L');
        log.apply(&entry);
    }
    (store, log)
}

fn stage_from(log: &GroupLog, leader: &MemoryStore, from: i64, to: i64, replace: bool) {
    let batches = leader.batches(P, from, to, usize::MAX).unwrap();
    log.stage_data(P, replace, batches, Vec::new(), Box::new(|_| ()))
        .expect("staged");
}

fn data(store: &MemoryStore) -> Vec<Bytes> {
    store.batches(P, 0, i64::MAX, usize::MAX).unwrap()
}

#[tokio::test]
async fn an_uncommitted_tail_stays_until_the_snapshot_is_installed() {
    let (leader_store, leader) = leader(10, 3);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    let first = append(&log, 3, 0, 2, b'L');
    log.apply(&first);
    // An old leader's entry: three records where the group has two and two.
    append(&log, 2, 1, 3, b'x');
    let before = data(&store);
    let have = log.stage(&[(P, 0)]);
    assert_eq!((have[0].end_offset, have[0].leader_epoch), (2, 3));
    stage_from(&log, &leader_store, 2, 12, false);
    let visible: Vec<_> = data(&store).into_iter().take(2).collect();
    assert_eq!(visible, before, "what the tail counts on is still there");

    // A crash here: the replica is what it was, and goes on where the transfer was.
    drop(log);
    let log = open(&store);
    assert_eq!(
        log.partition(P).bounds().high_watermark,
        0,
        "nothing was checkpointed"
    );
    assert_eq!(log.partition(P).tail_end(), 5);
    let have = log.stage(&[(P, 0)]);
    assert_eq!((have[0].end_offset, have[0].leader_epoch), (12, 3));
    stage_from(&log, &leader_store, 12, 20, false);
    log.truncate_after(Some(log_id(3, 0))).await.unwrap();
    log.install(Arc::new(leader.image()))
        .await
        .expect("installed");
    assert_eq!(data(&store), data(&leader_store));
    assert_eq!(log.partition(P).bounds().high_watermark, 20);
    assert_eq!(log.log_state(), (Some(log_id(3, 9)), Some(log_id(3, 9))));

    drop(log);
    let log = open(&store);
    assert_eq!(log.partition(P).bounds().high_watermark, 20);
    append(&log, 3, 10, 2, b'L');
    assert_eq!(log.partition(P).tail_end(), 22);
}

#[tokio::test]
async fn entries_that_come_meanwhile_take_the_place_of_what_was_staged() {
    let (leader_store, _) = leader(10, 3);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    let first = append(&log, 3, 0, 2, b'L');
    log.apply(&first);
    log.stage(&[(P, 0)]);
    stage_from(&log, &leader_store, 2, 20, false);
    append(&log, 3, 1, 2, b'L');
    assert_eq!(data(&store), data(&leader_store)[..2]);
    let late = log.stage_data(P, false, Vec::new(), Vec::new(), Box::new(|_| ()));
    assert!(matches!(late, Err(StageError::Superseded)));
    assert!(store.states(Tag::Staged, GROUP).unwrap().is_empty());
}

#[tokio::test]
async fn a_partition_that_differs_is_replaced() {
    let (leader_store, leader) = leader(10, 3);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    for index in 0..3 {
        let entry = append(&log, 2, index, 5, b'x');
        log.apply(&entry);
    }
    let row = Op::PutState {
        key: StateKey::cleaner(GROUP, P),
        value: Bytes::from_static(b"a cleaner's"),
    };
    store.write(vec![row]).unwrap();
    let life = log.partition(P).life();
    let have = log.stage(&[(P, 0)]);
    assert_eq!((have[0].end_offset, have[0].leader_epoch), (15, 2));
    stage_from(&log, &leader_store, 0, 6, true);
    // It goes on where it was, although less has come than there was before.
    let have = log.stage(&[(P, 0)]);
    assert_eq!((have[0].end_offset, have[0].leader_epoch), (6, 3));
    stage_from(&log, &leader_store, 6, 8, false);
    // Or begins again.
    stage_from(&log, &leader_store, 0, 20, true);
    assert_eq!(data(&store).len(), 3, "not before it is whole");
    assert!(log.partition(P).unless_replaced(life, || ()));
    log.install(Arc::new(leader.image()))
        .await
        .expect("installed");
    assert_eq!(data(&store), data(&leader_store));
    assert!(!log.partition(P).unless_replaced(life, || ()));
    assert_nothing_staged(&store);
    let row = store.state(StateKey::cleaner(GROUP, P)).unwrap();
    assert_eq!(row, None, "what was compacted is gone");
}

fn assert_nothing_staged(store: &MemoryStore) {
    let beside = store
        .batches(staged::beside(P), 0, i64::MAX, usize::MAX)
        .unwrap();
    assert!(beside.is_empty());
    assert!(store.states(Tag::Staged, GROUP).unwrap().is_empty());
}

/// A log that ends before the snapshot says nothing after it: what its uncommitted end had put into
/// partitions goes, whether the snapshot has data for them or does not know them.
#[tokio::test]
async fn a_tail_that_ends_before_the_snapshot_goes() {
    const Q: PartitionId = PartitionId(2);
    const R: PartitionId = PartitionId(3);
    let leader_store = Arc::new(MemoryStore::default());
    let leader = open(&leader_store);
    let steps = [(P, 2), (P, 1), (R, 1), (R, 1)];
    for (index, (partition, offsets)) in (0..).zip(steps) {
        let commands = vec![batch(partition, offsets, b'L', 100)];
        leader.apply(&put(&leader, 3, index, commands));
    }
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    log.apply(&append(&log, 3, 0, 2, b'L'));
    let stale = |partition| batch(partition, 2, b'x', 100);
    put(&log, 2, 1, vec![stale(P), stale(Q)]);
    put(&log, 2, 2, vec![stale(P), stale(R)]);
    log.stage(&[(P, 0), (R, 0)]);
    stage_from(&log, &leader_store, 2, 3, false);
    let batches = leader_store.batches(R, 0, 2, usize::MAX).unwrap();
    log.stage_data(R, false, batches, Vec::new(), Box::new(|_| ()))
        .expect("staged");
    log.install(Arc::new(leader.image()))
        .await
        .expect("installed");
    for id in [P, Q, R] {
        assert_eq!(all(&store, id), all(&leader_store, id), "{id}");
    }
    assert_nothing_staged(&store);
    let next = || vec![batch(P, 1, b'L', 100), batch(Q, 1, b'L', 100)];
    let entries = [put(&log, 3, 4, next()), put(&leader, 3, 4, next())];
    for (log, entry) in [&log, &leader].into_iter().zip(&entries) {
        log.apply(entry);
    }
    for id in [P, Q] {
        assert_eq!(all(&store, id), all(&leader_store, id), "{id}");
        assert_eq!(log.partition(id).bounds(), leader.partition(id).bounds());
    }
}

/// The high watermark may rise while data comes in: what was sent for the tail takes its place all the
/// same, and what was not sent stays.
#[tokio::test]
async fn a_tail_that_is_committed_meanwhile_is_whole() {
    let (leader_store, leader) = leader(10, 3);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    let entries: Vec<_> = (0..6).map(|i| append(&log, 3, i, 2, b'L')).collect();
    log.apply(&entries[0]);
    log.stage(&[(P, 0)]);
    log.apply(&entries[1]);
    stage_from(&log, &leader_store, 2, 4, false);
    for entry in &entries[2..5] {
        log.apply(entry);
    }
    let have = log.stage(&[(P, 0)]);
    assert_eq!((have[0].end_offset, have[0].leader_epoch), (4, 3));
    stage_from(&log, &leader_store, 4, 20, false);
    log.install(Arc::new(leader.image()))
        .await
        .expect("installed");
    assert_eq!(data(&store), data(&leader_store));
}

/// A crash after the one write: the start moves what waited beside, of whatever size.
#[tokio::test]
async fn a_start_finishes_an_installed_snapshot() {
    let leader_store = Arc::new(MemoryStore::default());
    let leader = open(&leader_store);
    for index in 0..10 {
        let commands = vec![batch(P, 2, b'L', staged::MOVE_BYTES / 4)];
        leader.apply(&put(&leader, 3, index, commands));
    }
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    for index in 0..3 {
        log.apply(&append(&log, 2, index, 5, b'x'));
    }
    log.stage(&[(P, 0)]);
    stage_from(&log, &leader_store, 0, 20, true);
    let image = leader.image();
    let last = image.checkpoint.applied.unwrap();
    let plan = log.plan(&image, last).unwrap();
    store.write(plan.ops).unwrap();
    drop(log);
    let log = open(&store);
    assert_eq!(log.partition(P).bounds().high_watermark, 20);
    assert_eq!(data(&store), data(&leader_store));
    assert_nothing_staged(&store);
}

#[tokio::test]
async fn a_removed_partition_leaves_nothing() {
    let (leader_store, leader) = leader(10, 3);
    leader.apply(&put(&leader, 3, 10, vec![Command::Remove { partition: P }]));
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    for index in 0..3 {
        log.apply(&append(&log, 3, index, 2, b'L'));
    }
    log.stage(&[(P, 0)]);
    // From a snapshot that was taken before.
    let batches = data(&store);
    log.stage_data(P, true, batches, Vec::new(), Box::new(|_| ()))
        .expect("staged");
    log.install(Arc::new(leader.image()))
        .await
        .expect("installed");
    assert_eq!((data(&store), data(&leader_store)), (vec![], vec![]));
    assert_nothing_staged(&store);
    let row = store.state(StateKey::partition(GROUP, P)).unwrap();
    assert_eq!(row, None);
    let refused = put(&log, 3, 11, vec![batch(P, 1, b'L', 100)]);
    assert_eq!(log.apply(&refused), [Outcome::UnknownPartition]);
}

/// What its sender has compacted is marked, so that nobody takes it for damaged.
#[tokio::test]
async fn compacted_data_leaves_a_row() {
    for deleted in [false, true] {
        let (leader_store, leader) = leader(10, 3);
        let whole = leader_store.batches(P, 6, 7, 1).unwrap().remove(0);
        let mut fewer = whole.to_vec();
        fewer[57..61].copy_from_slice(&1i32.to_be_bytes());
        leader_store
            .write(vec![match deleted {
                true => Op::DeleteBatch {
                    partition: P,
                    base_offset: 6,
                    bytes: 116,
                },
                false => Op::ReplaceBatch {
                    partition: P,
                    base_offset: 6,
                    batch: fewer.into(),
                    freed_bytes: 0,
                },
            }])
            .unwrap();
        let store = Arc::new(MemoryStore::default());
        let log = open(&store);
        log.stage(&[(P, 0)]);
        stage_from(&log, &leader_store, 0, 4, false);
        drop(log);
        let log = open(&store);
        log.stage(&[(P, 0)]);
        stage_from(&log, &leader_store, 4, 20, false);
        log.install(Arc::new(leader.image()))
            .await
            .expect("installed");
        assert_eq!(data(&store), data(&leader_store));
        let row = store.state(StateKey::cleaner(GROUP, P)).unwrap();
        assert_eq!(row, Some(Bytes::new()));
        // And the leader sends an entry with it to nobody.
        leader.partition(P).forget_cached_before(20);
        let entries = leader.entries_with_data(0, 10, usize::MAX).unwrap();
        for entry in &entries {
            let without = crate::wire::is_without_data(entry);
            assert_eq!(without, entry.log_id.index == 3, "{}", entry.log_id);
        }
    }
}

#[tokio::test]
async fn data_out_of_order_is_refused() {
    let (leader_store, _) = leader(10, 3);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    log.stage(&[(P, 0)]);
    stage_from(&log, &leader_store, 4, 8, false);
    let again = leader_store.batches(P, 2, 6, usize::MAX).unwrap();
    let refused = log.stage_data(P, false, again, Vec::new(), Box::new(|_| ()));
    assert!(matches!(refused, Err(StageError::Order)));
    let other = log.stage_data(
        PartitionId(2),
        false,
        Vec::new(),
        Vec::new(),
        Box::new(|_| ()),
    );
    assert!(matches!(other, Err(StageError::Unannounced(_))));
    let row = IndexRow {
        base_offset: 9,
        max_timestamp_ms: 0,
        interval_timestamp_ms: 0,
        position_bytes: 0,
    };
    let foreign = log.stage_data(P, false, Vec::new(), vec![row], Box::new(|_| ()));
    assert!(matches!(foreign, Err(StageError::Order)));
    let mut long = leader_store.batches(P, 8, 9, 1).unwrap()[0].to_vec();
    long[8..12].copy_from_slice(&1000i32.to_be_bytes());
    let refused = log.stage_data(P, false, vec![long.into()], Vec::new(), Box::new(|_| ()));
    assert!(matches!(refused, Err(StageError::Order)));
    let short = vec![Bytes::from_static(b"short")];
    let refused = log.stage_data(P, false, short, Vec::new(), Box::new(|_| ()));
    assert!(matches!(refused, Err(StageError::Order)));
}

fn all(store: &MemoryStore, id: PartitionId) -> Vec<Bytes> {
    store.batches(id, 0, i64::MAX, usize::MAX).unwrap()
}

/// Under another replica id: the checkpoint stays, what was appended behind it goes, also of partitions
/// that the checkpoint does not know.
#[tokio::test]
async fn a_new_replica_id_keeps_the_checkpoint() {
    const Q: PartitionId = PartitionId(2);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    log.apply(&append(&log, 3, 0, 2, b'L'));
    let (checkpoint, ops) = log.checkpoint_ops();
    log.write(ops).await.unwrap();
    log.checkpoint_stored(checkpoint);
    put(
        &log,
        3,
        1,
        vec![batch(P, 2, b'x', 100), batch(Q, 2, b'x', 100)],
    );
    let vote = crate::types::Vote::new_committed(3, 7);
    log.save_vote(&vote).await.unwrap();
    drop(log);
    let other = open_as(&store, 8);
    assert_eq!(other.vote(), None);
    assert_eq!(other.log_state(), (Some(log_id(3, 0)), Some(log_id(3, 0))));
    assert_eq!((data(&store).len(), all(&store, Q).len()), (1, 0));
    assert_eq!(other.partition(P).tail_end(), 2);
    append(&other, 4, 1, 3, b'L');
    drop(other);
    assert_eq!(open_as(&store, 8).partition(P).tail_end(), 5);
}

/// Where data is lost, a replica of a cluster does not guess what is left. Under another id it begins
/// with nothing.
#[tokio::test]
async fn lost_data_is_not_mended_where_others_may_have_it() {
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    for index in 0..3 {
        log.apply(&append(&log, 3, index, 2, b'L'));
    }
    drop(log);
    store.lose(vec![Op::DeleteRaft {
        group: GROUP,
        from: 0,
        to: 2,
    }]);
    let refused = try_open(&store, 7);
    assert!(matches!(refused, Err(StoreError::Lost(_))));
    let other = open_as(&store, 8);
    assert_eq!(other.log_state(), (None, None));
    assert_eq!((data(&store).len(), other.partition(P).tail_end()), (0, 0));
    drop(other);
    assert_eq!(open_as(&store, 8).log_state(), (None, None));
}

#[tokio::test]
async fn a_wiped_group_leaves_nothing() {
    let (leader_store, _) = leader(10, 3);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    log.apply(&append(&log, 3, 0, 2, b'L'));
    let (_, ops) = log.checkpoint_ops();
    log.write(ops).await.unwrap();
    append(&log, 3, 1, 2, b'x');
    log.stage(&[(P, 0)]);
    stage_from(&log, &leader_store, 2, 8, false);
    log.close();
    let late = log.stage_data(P, true, data(&leader_store), Vec::new(), Box::new(|_| ()));
    assert!(matches!(late, Err(StageError::Stopped)));
    store
        .write(crate::cut::wipe(GROUP, &*store).unwrap())
        .unwrap();
    assert_nothing_staged(&store);
    assert_eq!(data(&store), Vec::<Bytes>::new());
    assert_eq!(store.last_raft_row(GROUP).unwrap(), None);
    for tag in [
        Tag::Vote,
        Tag::Checkpoint,
        Tag::Purged,
        Tag::Replica,
        Tag::Partition,
    ] {
        assert!(store.states(tag, GROUP).unwrap().is_empty(), "{tag:?}");
    }
    assert_eq!(open(&store).log_state(), (None, None));
}
