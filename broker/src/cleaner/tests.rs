//! Random produce, compaction, trims, restarts and a clock that goes on, against a simple model, on the
//! store in memory and on the real one.

mod world;

use bytes::Bytes;
use ottla_log::Op;
use ottla_proto::config::Compaction;
use ottla_wire::batch::{BatchBuilder, BatchHeader, HEADER_BYTES, end_txn_marker, intact, records};
use ottla_wire::compress::Codec;
use proptest::prelude::*;

use super::pass::PassError;
use world::{Disk, Kept, PARTITION, World, Written};

#[derive(Clone, Debug)]
enum Step {
    Produce(Vec<Written>, Codec),
    Clean {
        map_slots: usize,
        pieces: u64,
    },
    Advance(i64),
    /// In thousandths of the log.
    Trim(i64),
    Restart,
    LoseRow,
}

fn record() -> impl Strategy<Value = Written> {
    let value = prop_oneof![
        3 => (0usize..40).prop_map(Some),
        1 => (30_000usize..90_000).prop_map(Some),
        2 => Just(None),
    ];
    (0u8..7, value, -300i64..100).prop_map(|(key, value_bytes, age_ms)| Written {
        key,
        value_bytes,
        age_ms,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let codec = proptest::sample::select(&Codec::ALL[..]);
    prop_oneof![
        6 => (prop::collection::vec(record(), 1..6), codec).prop_map(|(r, c)| Step::Produce(r, c)),
        4 => (2usize..12, prop_oneof![9 => Just(u64::MAX), 1 => 0u64..4])
            .prop_map(|(map_slots, pieces)| Step::Clean { map_slots, pieces }),
        2 => (0i64..400).prop_map(Step::Advance),
        1 => (0i64..300).prop_map(Step::Trim),
        1 => Just(Step::Restart),
        1 => Just(Step::LoseRow),
    ]
}

fn settings() -> impl Strategy<Value = Compaction> {
    let lag = || prop_oneof![Just(0u64), 1u64..300];
    let max_lag = prop_oneof![Just(i64::MAX as u64), 1u64..500];
    let segment_ms = prop_oneof![Just(1u64), 1u64..1000, Just(i64::MAX as u64)];
    let ratio = prop_oneof![Just(0.0), 0.0f64..1.0];
    (ratio, lag(), max_lag, lag(), 1u64..400_000, segment_ms).prop_map(
        |(
            min_dirty_ratio,
            min_lag_ms,
            max_lag_ms,
            delete_retention_ms,
            segment_bytes,
            segment_ms,
        )| {
            Compaction {
                min_dirty_ratio,
                min_lag_ms,
                max_lag_ms,
                delete_retention_ms,
                segment_bytes,
                segment_ms,
            }
        },
    )
}

fn run(disk: Disk, settings: Compaction, steps: Vec<Step>) {
    let mut world = World::new(disk, settings);
    for step in steps {
        match step {
            Step::Produce(records, codec) => world.produce(&records, codec),
            Step::Clean { map_slots, pieces } => world.clean(map_slots, pieces),
            Step::Advance(ms) => world.now_ms += ms,
            Step::Trim(part) => world.trim(part),
            Step::Restart => world.restart(),
            Step::LoseRow => world.lose_row(),
        }
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_in_memory_agrees_with_the_model(
        settings in settings(), steps in prop::collection::vec(step(), 1..60),
    ) {
        run(Disk::memory(), settings, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_on_disk_agrees_with_the_model(
        settings in settings(), steps in prop::collection::vec(step(), 1..60),
    ) {
        run(Disk::rocks(), settings, steps);
    }
}

/// Compacts whatever is older than a moment.
const EAGER: Compaction = Compaction {
    min_dirty_ratio: 0.0,
    min_lag_ms: 0,
    max_lag_ms: i64::MAX as u64,
    delete_retention_ms: 100,
    segment_bytes: 1 << 30,
    segment_ms: 1,
};

fn old(key: u8, value_bytes: Option<usize>) -> Written {
    Written {
        key,
        value_bytes,
        age_ms: 50,
    }
}

#[test]
fn one_value_per_key_is_left_and_tombstones_go_after_their_time() {
    let mut world = World::new(Disk::memory(), EAGER);
    for _ in 0..50 {
        world.produce(&[old(1, Some(10)), old(2, Some(10))], Codec::Lz4);
    }
    world.produce(&[old(2, None)], Codec::None);
    world.produce(&[old(3, Some(1))], Codec::None);
    world.clean(1000, u64::MAX);
    let offsets = |world: &World| world.read().iter().map(|r| r.offset).collect::<Vec<_>>();
    assert_eq!(offsets(&world), [98, 100, 101]);
    // Nothing is produced; the tombstone goes all the same, once its time has come.
    world.now_ms += 99;
    world.clean(1000, u64::MAX);
    assert_eq!(offsets(&world), [98, 100, 101]);
    world.now_ms += 20;
    world.clean(1000, u64::MAX);
    assert_eq!(offsets(&world), [98, 101]);
    world.check();
}

#[test]
fn what_was_deleted_in_a_row_is_deleted_as_a_range_and_its_index_moves_on() {
    let mut world = World::new(Disk::memory(), EAGER);
    for _ in 0..100 {
        world.produce(&[old(1, Some(40_000))], Codec::None);
    }
    world.produce(&[old(2, Some(1))], Codec::None);
    world.clean(1000, u64::MAX);
    let rows = world.disk.store().index_rows(PARTITION, 0, 1000).unwrap();
    assert_eq!(world.read().len(), 2);
    assert!((1..=2).contains(&rows.len()), "{rows:?}");
    assert_eq!(rows[0].base_offset, 99);
    world.check();
}

#[test]
fn a_second_pass_over_a_compacted_log_writes_nothing() {
    let mut world = World::new(Disk::memory(), EAGER);
    for key in 0..20 {
        world.produce(&[old(key % 5, Some(100)), old(9, Some(7))], Codec::Zstd);
    }
    world.clean(1000, u64::MAX);
    let before = world.read();
    assert!(before.len() < 12, "{before:?}");
    let report = world.pass(1000).expect("not damaged");
    let tally = report.expect("not stopped").tally;
    assert!(tally.read_bytes > 0);
    assert_eq!((tally.rewritten_bytes, tally.records_dropped), (0, 0));
    assert_eq!(world.read(), before);
}

#[test]
fn markers_and_transactional_records_stay() {
    let mut world = World::new(Disk::memory(), EAGER);
    let one = |value| Kept::transactional(5, value, world::START_MS - 50);
    world.append(one(Some(&b"first"[..])));
    world.append(one(None));
    world.append(end_txn_marker(7, 0, 0, true, world::START_MS - 50));
    world.produce(&[old(1, Some(1))], Codec::None);
    world.produce(&[old(1, Some(2))], Codec::None);
    world.produce(&[old(2, Some(2))], Codec::None);
    for _ in 0..3 {
        world.pass(1000).unwrap().unwrap();
        world.now_ms += 10_000;
    }
    let offsets: Vec<_> = world.read().iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 4, 5]);
    // A plain record of the key takes the place of both.
    world.produce(&[old(5, Some(3))], Codec::None);
    world.produce(&[old(2, Some(2))], Codec::None);
    world.now_ms += 10_000;
    world.pass(1000).unwrap().unwrap();
    let offsets: Vec<_> = world.read().iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [2, 4, 5, 6, 7]);
}

#[test]
fn records_without_a_key_go() {
    let mut world = World::new(Disk::memory(), EAGER);
    let mut builder = BatchBuilder::new();
    builder
        .append(None, Some(b"x"), 1)
        .append(Some(&[1]), Some(b"y"), 1);
    world.append(builder.build());
    world.produce(&[old(2, Some(1))], Codec::None);
    world.clean(1000, u64::MAX);
    let offsets: Vec<_> = world.read().iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [1, 2]);
}

#[test]
fn a_damaged_batch_ends_the_pass_and_nothing_is_lost() {
    for at in [16, 30, 60, 75] {
        let mut world = World::new(Disk::memory(), EAGER);
        for _ in 0..3 {
            world.produce(&[old(1, Some(100)), old(2, Some(100))], Codec::Snappy);
        }
        let store = world.disk.store();
        let before = store.batches(PARTITION, 0, i64::MAX, usize::MAX).unwrap();
        let mut bad = before[1].to_vec();
        bad[at] ^= 4;
        let op = Op::ReplaceBatch {
            partition: PARTITION,
            base_offset: 2,
            batch: bad.into(),
            freed_bytes: 0,
        };
        store.write(vec![op]).unwrap();
        world.now_ms += 1000;
        match world.pass(1000) {
            Err(PassError::Batch(2, _)) => {}
            other => panic!("{other:?}"),
        }
        let after = world.disk.store().batches(PARTITION, 0, 2, usize::MAX);
        assert_eq!(after.unwrap(), before[..1]);
        assert_eq!(world.row(), None, "the row must not run ahead");
    }
}

/// Its checksum is right and its inside is not what it says: as a producer may send it to a topic that is
/// not compacted yet.
#[test]
fn a_batch_that_cannot_be_read_inside_stays_and_all_around_it_is_compacted() {
    for codec in [Codec::None, Codec::Zstd] {
        let mut world = World::new(Disk::memory(), EAGER);
        for _ in 0..3 {
            world.produce(&[old(1, Some(100)), old(2, Some(100))], Codec::None);
        }
        let store = world.disk.store();
        let before = store.batches(PARTITION, 0, i64::MAX, usize::MAX).unwrap();
        let opaque = opaque(&before[1], codec);
        let op = Op::ReplaceBatch {
            partition: PARTITION,
            base_offset: 2,
            batch: opaque.clone(),
            freed_bytes: 0,
        };
        store.write(vec![op]).unwrap();
        world.now_ms += 1000;
        let report = world.pass(1000).expect("not damaged").expect("through");
        assert_eq!(report.tally.unreadable_batches, 1);
        assert_eq!(report.tally.records_dropped, 0, "it takes nobody's place");
        world.produce(&[old(1, Some(1)), old(2, Some(1))], Codec::None);
        world.produce(&[old(3, Some(1))], Codec::None);
        world.now_ms += 1000;
        let report = world.pass(1000).expect("not damaged").expect("through");
        assert_eq!(report.tally.records_dropped, 4);
        let left = world.disk.store();
        let left = left.batches(PARTITION, 0, 6, usize::MAX).unwrap();
        assert_eq!(left, [opaque]);
    }
}

/// A batch of the same offsets and a right checksum, with records that are none.
fn opaque(batch: &Bytes, codec: Codec) -> Bytes {
    let mut bad = batch.to_vec();
    bad[22] = codec as u8;
    let at = bad.len() - 30;
    bad[at..].fill(0xff);
    bad[HEADER_BYTES] = 0x7f;
    let crc = crc32c::crc32c(&bad[21..]);
    bad[17..21].copy_from_slice(&crc.to_be_bytes());
    let bad = Bytes::from(bad);
    assert!(intact(&bad).is_ok());
    assert!(
        records(&bad, 1000).is_err() || records(&bad, 1000).unwrap().iter().any(|r| r.is_err())
    );
    bad
}

#[test]
fn a_partition_removed_meanwhile_leaves_nothing_behind() {
    let mut world = World::new(Disk::memory(), EAGER);
    for _ in 0..5 {
        world.produce(&[old(1, Some(100)), old(2, Some(100))], Codec::None);
    }
    world.now_ms += 1000;
    world.removed = true;
    assert!(world.pass(1000).unwrap().is_none());
    // The write that was under way when it was removed is taken back.
    world.removed_after_looks.set(Some(1));
    world.removed = false;
    assert!(world.pass(1000).unwrap().is_none());
    let left = world
        .disk
        .store()
        .batches(PARTITION, 0, i64::MAX, 1)
        .unwrap();
    assert_eq!((left, world.row()), (Vec::<Bytes>::new(), None));
}

#[test]
fn a_trim_under_way_is_not_undone() {
    let mut world = World::new(Disk::memory(), EAGER);
    for key in 0..20 {
        world.produce(&[old(key % 3, Some(100)), old(9, Some(100))], Codec::None);
    }
    world.now_ms += 1000;
    // Seen by the pass after its write, as if the records had been deleted in between.
    world.trimmed_after_looks.set(Some((1, 40)));
    world.pass(1000).unwrap();
    let store = world.disk.store();
    let left = store.batches(PARTITION, 0, i64::MAX, usize::MAX).unwrap();
    for batch in left {
        let header = BatchHeader::parse(&batch).unwrap();
        assert!(header.last_offset() >= 38, "{header:?}");
        assert!(records(&batch, 1000).is_ok());
    }
}

#[test]
fn memory_store_and_rocks_store_end_alike() {
    let steps: Vec<Written> = (0..400u32)
        .map(|i| {
            old(
                (i * 7 % 23) as u8,
                (i % 11 != 0).then_some((i * 997 % 5000) as usize),
            )
        })
        .collect();
    let end = |disk| {
        let mut world = World::new(disk, EAGER);
        for (i, records) in steps.chunks(4).enumerate() {
            world.produce(records, Codec::ALL[i % 5]);
            if i % 9 == 8 {
                world.now_ms += 60;
                world.clean(8, u64::MAX);
            }
        }
        let store = world.disk.store();
        (
            store.batches(PARTITION, 0, i64::MAX, usize::MAX).unwrap(),
            store.index_rows(PARTITION, 0, 1000).unwrap(),
            world.row(),
        )
    };
    assert_eq!(end(Disk::memory()), end(Disk::rocks()));
}
