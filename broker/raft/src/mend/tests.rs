use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ottla_log::MemoryStore;
use proptest::prelude::*;

use super::*;
use crate::command::{GroupEntry, Payload};
use crate::group_log::GroupLog;
use crate::partition::TailCache;
use crate::producer_memory::ProducerMemory;

const GROUP: GroupId = GroupId(1);
const REPLICA: u64 = 7;

fn open(store: &Arc<MemoryStore>) -> Result<GroupLog, StoreError> {
    GroupLog::open(
        GROUP,
        REPLICA,
        store.clone(),
        Arc::new(TailCache::new(0)),
        Arc::new(ProducerMemory::new(0)),
    )
}

/// A batch as a producer sends it, of which the group writes the head.
fn batch(partition: u64, offsets: i32, producer: Option<ProducerMeta>) -> Command {
    let whole = lost_batch(0, offsets, 0);
    let mut whole = BytesMut::from(&whole[..]);
    whole[35..43].copy_from_slice(&1_000_i64.to_be_bytes());
    if let Some(p) = producer {
        whole[43..51].copy_from_slice(&p.id.to_be_bytes());
        whole[51..53].copy_from_slice(&p.epoch.to_be_bytes());
        whole[53..57].copy_from_slice(&p.base_sequence.to_be_bytes());
    }
    let meta = BatchMeta {
        partition: PartitionId(partition),
        offsets,
        max_timestamp_ms: 1_000,
        size_bytes: whole.len() as u32,
        producer,
    };
    let body = whole.freeze().slice(16..);
    Command::Append { meta, body }
}

/// Appends and applies one entry; its outcomes.
fn step(log: &GroupLog, commands: Vec<Command>) -> Vec<Outcome> {
    let (_, last) = log.log_state();
    let index = last.map_or(0, |id| id.index + 1);
    let payload = match commands {
        commands if commands.is_empty() => {
            let alone = types::membership(vec![[REPLICA].into()], [REPLICA].into());
            EntryPayload::Membership(alone.unwrap())
        }
        commands => EntryPayload::Normal(Payload(GroupEntry::new(1_000, 1 << 40, commands).into())),
    };
    let entry = Entry {
        log_id: types::log_id(1, index),
        payload,
    };
    log.append([entry.clone()], Box::new(|_| ()));
    log.apply(&entry)
}

fn checkpoint(log: &GroupLog) {
    let (checkpoint, ops) = log.checkpoint_ops();
    log.store().write(ops).unwrap();
    log.checkpoint_stored(checkpoint);
}

fn stored(store: &MemoryStore, partition: u64) -> Vec<Bytes> {
    let id = PartitionId(partition);
    store.batches(id, 0, i64::MAX, usize::MAX).unwrap()
}

fn lose_rows(store: &MemoryStore, from: u64, to: u64) {
    store.lose(vec![Op::DeleteRaft {
        group: GROUP,
        from,
        to,
    }]);
}

#[test]
fn rows_lost_in_the_middle_cost_nothing_where_the_batches_are_stored() {
    let store = Arc::new(MemoryStore::default());
    let log = open(&store).unwrap();
    let producer = |n: i32| ProducerMeta {
        id: 5,
        epoch: 0,
        base_sequence: 2 * n,
        last_sequence: 2 * n + 1,
    };
    step(&log, vec![]);
    for n in 0..20 {
        step(
            &log,
            vec![batch(1, 2, Some(producer(n))), batch(2, 3, None)],
        );
        if n == 4 {
            checkpoint(&log);
        }
    }
    let before = log.partition(PartitionId(1)).with_state(Clone::clone);
    lose_rows(&store, 10, 15);
    lose_rows(&store, 19, 25);
    let log = open(&store).unwrap();
    let after = log.partition(PartitionId(1)).with_state(Clone::clone);
    assert_eq!(
        (after.log_end_offset, after.position_bytes, &after.epochs),
        (40, before.position_bytes, &before.epochs)
    );
    let again = step(
        &log,
        vec![batch(1, 2, Some(producer(19))), batch(2, 1, None)],
    );
    let expected = [
        Outcome::Duplicate { base_offset: 38 },
        Outcome::Appended { base_offset: 60 },
    ];
    assert_eq!(again, expected);
    assert!(open(&store).is_ok(), "and the next start finds no hole");
}

#[test]
fn a_hole_is_refused_where_no_loss_was_accepted() {
    let store = Arc::new(MemoryStore::default());
    let log = open(&store).unwrap();
    step(&log, vec![]);
    (0..9).for_each(|_| drop(step(&log, vec![batch(1, 1, None)])));
    store
        .write(vec![Op::DeleteRaft {
            group: GROUP,
            from: 3,
            to: 5,
        }])
        .unwrap();
    let refused = open(&store).err().unwrap().to_string();
    assert!(refused.contains("entry 3 is missing"), "{refused}");
    assert!(refused.contains("accept.loss"), "{refused}");
}

#[test]
fn a_partition_that_no_row_knows_is_not_written_over() {
    let store = Arc::new(MemoryStore::default());
    let log = open(&store).unwrap();
    step(&log, vec![]);
    (0..3).for_each(|_| drop(step(&log, vec![batch(4, 5, None)])));
    lose_rows(&store, 0, u64::MAX);
    let log = open(&store).unwrap();
    let id = PartitionId(4);
    assert_eq!(log.partition(id).bounds().high_watermark, 15);
    assert_eq!(log.partition(PartitionId(5)).bounds().high_watermark, 0);
    // Its row is there before anything is appended to it.
    assert_eq!(
        open(&store).unwrap().partition(id).bounds().high_watermark,
        15
    );
}

#[test]
fn a_group_with_other_replicas_is_left_to_them() {
    let store = Arc::new(MemoryStore::default());
    let log = open(&store).unwrap();
    let others = types::membership(vec![[7, 8, 9].into()], [7, 8, 9].into()).unwrap();
    let entry = Entry {
        log_id: types::log_id(1, 0),
        payload: EntryPayload::Membership(others),
    };
    log.append([entry], Box::new(|_| ()));
    lose_rows(&store, 5, 6);
    assert!(matches!(open(&store), Err(StoreError::Lost(_))));
}

/// What a write-ahead log that is gone takes with it.
#[derive(Clone, Debug)]
enum Loss {
    Rows(u64, u64),
    Batches(u64, usize, usize),
    /// The partition's row is as it was at the first checkpoint.
    OldRow(u64),
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        (0..30u64, 1..20u64).prop_map(|(from, n)| Loss::Rows(from, from + n)),
        (1..4u64, 0..20usize, 1..10usize).prop_map(|(p, from, n)| Loss::Batches(p, from, n)),
        (1..4u64).prop_map(Loss::OldRow),
    ]
}

proptest! {
    /// Whatever is lost: all that is stored is served at its offsets, offsets are dense, and none that
    /// a row or a batch tells of is given again. A second start changes nothing.
    #[test]
    fn what_is_whole_is_served(
        steps in prop::collection::vec((1..4u64, 1..4i32), 1..30),
        first in 0..30usize,
        second in 0..30usize,
        losses in prop::collection::vec(loss(), 1..5),
    ) {
        let store = Arc::new(MemoryStore::default());
        let log = open(&store).unwrap();
        step(&log, vec![]);
        let mut old = BTreeMap::new();
        for (n, (partition, offsets)) in steps.iter().enumerate() {
            step(&log, vec![batch(*partition, *offsets, None)]);
            if n == first || n == second {
                checkpoint(&log);
            }
            if n == first {
                for p in 1..4 {
                    let key = StateKey::partition(GROUP, PartitionId(p));
                    old.insert(p, store.state(key).unwrap());
                }
            }
        }
        drop(log);
        for loss in &losses {
            let ops = match loss {
                Loss::Rows(from, to) => vec![Op::DeleteRaft { group: GROUP, from: *from, to: *to }],
                Loss::Batches(p, from, n) => stored(&store, *p).iter().skip(*from).take(*n).map(|b| {
                    let base_offset = BatchFacts::of(b).unwrap().base_offset;
                    Op::DeleteBatch { partition: PartitionId(*p), base_offset, bytes: 0 }
                }).collect(),
                Loss::OldRow(p) => {
                    let key = StateKey::partition(GROUP, PartitionId(*p));
                    match old.get(p) {
                        Some(Some(value)) => vec![Op::PutState { key, value: value.clone() }],
                        _ => vec![],
                    }
                }
            };
            store.lose(ops);
        }
        let left: Vec<_> = (1..4).map(|p| stored(&store, p)).collect();
        let told: Vec<i64> = (1..4).map(|p| ends(&store, p)).collect();
        let log = open(&store).unwrap();
        for p in 1..4u64 {
            let bounds = log.partition(PartitionId(p)).bounds();
            let now = stored(&store, p);
            let at = p as usize - 1;
            prop_assert!(left[at].iter().all(|b| now.contains(b)), "what was whole is there");
            prop_assert!(bounds.high_watermark >= told[at], "no offset is given twice");
            let mut next = bounds.log_start_offset;
            for facts in now.iter().map(|b| BatchFacts::of(b).unwrap()) {
                prop_assert_eq!(facts.base_offset, next);
                next = facts.end();
            }
            prop_assert_eq!(next, bounds.high_watermark);
            let outcome = step(&log, vec![batch(p, 1, None)]);
            prop_assert_eq!(outcome, vec![Outcome::Appended { base_offset: next }]);
        }
        let all: Vec<_> = (1..4).map(|p| stored(&store, p)).collect();
        open(&store).unwrap();
        prop_assert_eq!(all, (1..4).map(|p| stored(&store, p)).collect::<Vec<_>>());
    }
}

/// The highest end of a partition that anything left tells of.
fn ends(store: &MemoryStore, partition: u64) -> i64 {
    let key = StateKey::partition(GROUP, PartitionId(partition));
    let row = store.state(key).unwrap();
    let row = row.map_or(0, |r| rows::decode_partition(&r).unwrap().log_end_offset);
    let batches = stored(store, partition);
    let batches = batches.iter().map(|b| BatchFacts::of(b).unwrap().end());
    let entries = store.raft_rows(GROUP, 0, u64::MAX, usize::MAX).unwrap();
    let entries = entries
        .iter()
        .map(|(index, row)| rows::decode_entry(*index, row).unwrap());
    let appended = entries.filter_map(|entry| match entry.payload {
        EntryPayload::Normal(payload) => Some(payload),
        _ => None,
    });
    let appended = appended.flat_map(|payload| {
        let all = payload.0.commands.iter().zip(payload.0.outcomes());
        let ends = all.filter_map(|(command, outcome)| match (command, outcome) {
            (Command::Append { meta, .. }, Outcome::Appended { base_offset }) => {
                (meta.partition.0 == partition).then_some(base_offset + i64::from(meta.offsets))
            }
            _ => None,
        });
        ends.collect::<Vec<_>>()
    });
    batches.chain(appended).max().unwrap_or(0).max(row)
}
