use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};

use super::*;
use crate::store::Op;
use crate::verify::Offline;

const GROUP: GroupId = GroupId(1);

fn put(store: &RocksStore, index: u64) -> Result<(), StoreError> {
    store.write(vec![Op::PutRaft {
        group: GROUP,
        index,
        row: Bytes::from(vec![index as u8; 1000]),
    }])
}

fn tables(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().flatten().map(|e| e.path());
    entries
        .filter(|p| p.extension().is_some_and(|e| e == "sst"))
        .collect()
}

fn flip_a_byte(file: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 500).unwrap();
    file.write_all_at(&[!byte[0]], 500).unwrap();
}

/// Batches that lie in blob files, and a deletion of all of them, not given back.
fn delete_batches(store: &RocksStore) {
    let partition = PartitionId(1);
    let put = |base_offset: i64| Op::PutBatch {
        partition,
        base_offset,
        head: Bytes::from([&base_offset.to_be_bytes()[..], &[0; 8]].concat()),
        body: Bytes::from(vec![7; 4000]),
    };
    store.write((0..100).map(put).collect()).unwrap();
    store.db.inner.flush_cf(&store.db.log()).unwrap();
    let deleted = Op::DeleteBatches {
        partition,
        from: 0,
        to: i64::MAX,
        bytes: 400_000,
    };
    store.write(vec![deleted]).unwrap();
}

fn reclaimer(store: &RocksStore) -> Reclaimer {
    Reclaimer {
        db: store.db.clone(),
        health: store.health.clone(),
        freed: store.freed.clone(),
        failed_compactions: Arc::default(),
    }
}

/// Whatever is flushed in between: see `delete_range` in `writer.rs`.
#[test]
fn an_empty_deletion_keeps_no_later_start_from_replaying() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let options = StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES));
        RocksStore::open(folder.path(), &options).unwrap()
    };
    let empty = |offset| Op::DeleteBatches {
        partition: PartitionId(5),
        from: offset,
        to: offset,
        bytes: 0,
    };
    let store = open();
    put(&store, 1).unwrap();
    store.write(vec![empty(7)]).unwrap();
    drop(store);
    let store = open();
    put(&store, 2).unwrap();
    delete_batches(&store);
    for family in [store.db.log(), store.db.index()] {
        store.db.inner.flush_cf(&family).unwrap();
    }
    drop(store);
    put(&open(), 3).unwrap();
}

#[test]
fn what_was_deleted_is_given_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let options = StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES));
        RocksStore::open(folder.path(), &options).unwrap()
    };
    let left = |store: &RocksStore| reclaim::left_by_last_run(&store.db).unwrap();
    let store = open();
    delete_batches(&store);
    drop(store);
    let store = open();
    assert_eq!(left(&store), 400_000);
    assert!(store.stats().disk_bytes > 400_000);
    assert!(reclaimer(&store).pass(400_000, false).is_some());
    assert!(store.stats().disk_bytes < 100_000, "{:?}", store.stats());
    drop(store);
    assert_eq!(left(&open()), 0);
}

#[test]
fn what_a_failed_pass_did_not_give_back_stays_due() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES));
    let store = RocksStore::open(folder.path(), &options).unwrap();
    delete_batches(&store);
    let table = tables(folder.path());
    flip_a_byte(&table[0]);
    let reclaimer = Reclaimer {
        failed_compactions: store.failed_compactions.clone(),
        ..reclaimer(&store)
    };
    assert_eq!(reclaimer.pass(400_000, false), None);
    assert_eq!(store.freed.to_write(0), None, "as it was written");
    assert_eq!(reclaim::left_by_last_run(&store.db).unwrap(), 400_000);
}

#[test]
fn a_compaction_that_meets_damage_stops_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(
        folder.path(),
        &StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES)),
    )
    .unwrap();
    let family = store.db.raft();
    // As many tables of the same rows as make RocksDB compact them; the first is damaged.
    for round in 0..4 {
        (0..100).for_each(|index| put(&store, index).unwrap());
        store.db.inner.flush_cf(&family).unwrap();
        if round == 0 {
            let table = tables(folder.path());
            assert_eq!(table.len(), 1);
            flip_a_byte(&table[0]);
        }
    }
    let began = Instant::now();
    while store.health.damages() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "no compaction");
        std::thread::sleep(Duration::from_millis(10));
    }
    for index in 100..200 {
        put(&store, index).unwrap();
    }
    assert_eq!(store.trouble(), None);
    assert!(store.raft_rows(GROUP, 100, 200, usize::MAX).unwrap().len() == 100);
}

#[test]
fn a_start_without_synced_data_is_refused_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let open = |accept_loss| {
        let options = StoreOptions {
            accept_loss,
            ..StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES))
        };
        RocksStore::open(folder.path(), &options)
    };
    let store = open(false).unwrap();
    (0..100).for_each(|index| put(&store, index).unwrap());
    drop(store);
    let logs: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    let log = OpenOptions::new().write(true).open(&logs[0]).unwrap();
    log.set_len(log.metadata().unwrap().len() / 2).unwrap();
    for _ in 0..2 {
        let Err(StoreError::Lost(why)) = open(false) else {
            panic!("it started");
        };
        assert!(
            why.contains("is missing") && why.contains("accept.loss"),
            "{why}"
        );
    }
    let store = open(true).unwrap();
    let left = store.raft_rows(GROUP, 0, 100, usize::MAX).unwrap().len();
    assert!((10..90).contains(&left), "{left}");
    put(&store, 200).unwrap();
    drop(store);
    assert!(open(false).is_ok(), "what was accepted is forgotten");
}

#[test]
fn an_empty_current_or_manifest_makes_no_new_database() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        RocksStore::open(
            folder.path(),
            &StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES)),
        )
    };
    put(&open().unwrap(), 1).unwrap();
    let current = folder.path().join("CURRENT");
    let name = fs::read(&current).unwrap();
    for damaged in [
        None,
        Some(&b""[..]),
        Some(b"MANIFEST-0000"),
        Some(&[0xff; 20]),
    ] {
        match damaged {
            None => fs::remove_file(&current).unwrap(),
            Some(bytes) => fs::write(&current, bytes).unwrap(),
        }
        assert!(matches!(open(), Err(StoreError::Lost(_))), "{damaged:?}");
    }
    fs::write(&current, name).unwrap();
    assert_eq!(open().unwrap().raft_rows(GROUP, 0, 9, 9).unwrap().len(), 1);
}

/// RocksDB's reader does not come back from such records.
#[test]
fn a_damaged_manifest_stops_a_start_instead_of_letting_it_hang() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES));
    let open = || RocksStore::open(folder.path(), &options);
    let store = open().unwrap();
    (0..20).for_each(|index| put(&store, index).unwrap());
    drop(store);
    let name = fs::read_to_string(folder.path().join("CURRENT")).unwrap();
    let file = folder.path().join(name.trim_end());
    let good = fs::read(&file).unwrap();
    let second = 7 + usize::from(u16::from_le_bytes([good[4], good[5]])) + 6;
    let mut bad = good.clone();
    bad[second] += 4;
    fs::write(&file, &bad).unwrap();
    // Also where nothing says how far the manifest was synced.
    let kept = fs::read(folder.path().join("durable")).unwrap();
    for durable in [Some(&kept), None] {
        match durable {
            Some(_) => {}
            None => fs::remove_file(folder.path().join("durable")).unwrap(),
        }
        assert!(matches!(open(), Err(StoreError::Lost(_))));
    }
    let mut failures = Vec::new();
    assert!(Offline::open(folder.path(), &mut failures).is_none());
    assert!(failures[0].contains("damaged at byte"), "{failures:?}");
    fs::write(&file, &good).unwrap();
    fs::write(folder.path().join("durable"), &kept).unwrap();
    let rows = open().unwrap().raft_rows(GROUP, 0, 99, 1 << 20).unwrap();
    assert_eq!(rows.len(), 20);
}
