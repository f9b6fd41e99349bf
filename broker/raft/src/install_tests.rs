//! Staging and installing at the level of one replica's log.

use ottla_log::{MemoryStore, Store};
use ottla_proto::ids::GroupId;

use super::*;
use crate::command::{BatchMeta, Command, GroupEntry, Payload};
use crate::partition::TailCache;
use crate::types::{Entry, EntryPayload, log_id};

const GROUP: GroupId = GroupId(4);
const P: PartitionId = PartitionId(1);

fn open(store: &Arc<MemoryStore>) -> GroupLog {
    let cache = Arc::new(TailCache::new(1 << 20));
    GroupLog::open(GROUP, 7, store.clone(), cache).expect("it opens")
}

fn meta(offsets: i32) -> BatchMeta {
    BatchMeta {
        partition: P,
        offsets,
        max_timestamp_ms: 0,
        size_bytes: 116,
        producer: None,
    }
}

/// Appends one batch of `offsets` records as entry `index` of `term`.
fn append(log: &GroupLog, term: u64, index: u64, offsets: i32, fill: u8) -> Entry {
    let mut body = vec![fill; 100];
    body[7..11].copy_from_slice(&(offsets - 1).to_be_bytes());
    let command = Command::Append {
        meta: meta(offsets),
        body: body.into(),
    };
    let payload = Payload(Arc::new(GroupEntry::new(0, 1000, vec![command])));
    let entry = Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(payload),
    };
    log.append([entry.clone()], Box::new(|_| ()))
        .expect("appended");
    entry
}

/// A leader's log of batches of two records, all applied, and what it would send.
fn leader(entries: u64, term: u64) -> (Arc<MemoryStore>, GroupLog) {
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
    let have = log.stage(&[P]).unwrap();
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
    let have = log.stage(&[P]).unwrap();
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
    log.stage(&[P]).unwrap();
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
    let have = log.stage(&[P]).unwrap();
    assert_eq!((have[0].end_offset, have[0].leader_epoch), (15, 2));
    stage_from(&log, &leader_store, 0, 20, true);
    assert_eq!(data(&store).len(), 3, "not before it is whole");
    log.install(Arc::new(leader.image()))
        .await
        .expect("installed");
    assert_eq!(data(&store), data(&leader_store));
    assert!(
        store
            .batches(beside(P), 0, i64::MAX, usize::MAX)
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn data_out_of_order_is_refused() {
    let (leader_store, _) = leader(10, 3);
    let store = Arc::new(MemoryStore::default());
    let log = open(&store);
    log.stage(&[P]).unwrap();
    stage_from(&log, &leader_store, 4, 8, false);
    let again = leader_store.batches(P, 2, 6, usize::MAX).unwrap();
    let refused = log.stage_data(P, false, again, Vec::new(), Box::new(|_| ()));
    assert!(matches!(refused, Err(StageError::Order)));
    let short = vec![Bytes::from_static(b"short")];
    let refused = log.stage_data(P, false, short, Vec::new(), Box::new(|_| ()));
    assert!(matches!(refused, Err(StageError::Order)));
}
