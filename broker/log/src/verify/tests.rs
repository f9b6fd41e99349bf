use std::fs;

use bytes::Bytes;
use ottla_proto::memory::MIN_MEMORY_BYTES;
use proptest::prelude::*;

use super::*;
use crate::rocks::RocksStore;
use crate::store::{Op, Store};

const PARTITION: PartitionId = PartitionId(5);

/// Offsets after and before something unreadable.
type Range = (Option<i64>, Option<i64>);

fn batch(offset: i64, bytes: usize) -> (Bytes, Bytes) {
    let mut head = offset.to_be_bytes().to_vec();
    head.resize(16, 0);
    (head.into(), vec![offset as u8; bytes].into())
}

/// A store with batches at offsets 0 to 19, every fifth of them indexed.
fn store(folder: &Path) -> RocksStore {
    let options = StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES));
    let store = RocksStore::open(folder, &options).unwrap();
    let mut ops = Vec::new();
    for offset in 0..20 {
        let (head, body) = batch(offset, 2000);
        ops.push(Op::PutBatch {
            partition: PARTITION,
            base_offset: offset,
            head,
            body,
        });
        if offset % 5 == 0 {
            let row = IndexRow {
                base_offset: offset,
                max_timestamp_ms: 0,
                interval_timestamp_ms: 0,
                position_bytes: offset as u64 * 2016,
            };
            ops.push(Op::PutIndex {
                partition: PARTITION,
                row,
            });
        }
    }
    store.write(ops).unwrap();
    store
}

#[derive(Default)]
struct Seen {
    offsets: Vec<i64>,
    unreadable: Vec<Range>,
}

impl Visitor for Seen {
    fn batch(&mut self, key_offset: i64, batch: &[u8]) {
        assert_eq!(batch.len(), 2016);
        self.offsets.push(key_offset);
    }
    fn unreadable(&mut self, range: Unreadable) {
        self.unreadable.push((range.after, range.before));
    }
}

fn see(folder: &Path) -> Seen {
    let mut failures = Vec::new();
    let offline = Offline::open(folder, &mut failures).expect("it opens");
    assert_eq!(failures, Vec::<String>::new());
    let mut seen = Seen::default();
    offline.batches(PARTITION, &mut seen);
    seen
}

/// A folder whose batches lie in a blob file, and that file.
fn with_blobs(folder: &Path) -> PathBuf {
    drop(store(folder));
    // A start after a failure writes what the logs hold to tables and blob files.
    fs::write(folder.join("storage-failed"), "a test wants files").unwrap();
    let options = StoreOptions::new(MemoryShares::of(MIN_MEMORY_BYTES));
    drop(RocksStore::open(folder, &options).unwrap());
    let blob = crate::open::names(folder)
        .into_iter()
        .find(|n| n.ends_with(".blob"));
    folder.join(blob.expect("a blob file"))
}

/// Where the value of `offset` stands, and a damage to it.
fn damage(blob: &Path, offset: i64) {
    let mut bytes = fs::read(blob).unwrap();
    let value = vec![offset as u8; 500];
    let at = bytes
        .windows(500)
        .position(|w| w == value)
        .expect("it is there");
    bytes[at + 400] ^= 1;
    fs::write(blob, bytes).unwrap();
}

#[test]
fn an_open_store_is_read_from_its_logs() {
    let folder = tempfile::tempdir().unwrap();
    let open = store(folder.path());
    let seen = see(folder.path());
    assert_eq!(seen.offsets, (0..20).collect::<Vec<_>>());
    drop(open);
}

#[test]
fn reading_goes_on_behind_damage() {
    let damages: [(&[i64], &[Range]); 5] = [
        (&[7], &[(Some(6), Some(8))]),
        (&[0], &[(None, Some(1))]),
        (&[19], &[(Some(18), None)]),
        (&[3, 12], &[(Some(2), Some(4)), (Some(11), Some(13))]),
        // Two of one index interval are told as one.
        (&[11, 13], &[(Some(10), Some(14))]),
    ];
    for (damaged, told) in damages {
        let folder = tempfile::tempdir().unwrap();
        let blob = with_blobs(folder.path());
        assert_eq!(scan_blobs(folder.path(), |_| ()), []);
        damaged.iter().for_each(|offset| damage(&blob, *offset));
        let seen = see(folder.path());
        assert_eq!(seen.unreadable, told);
        let lost = |o: &i64| {
            let within = |r: &Range| r.0.is_none_or(|a| *o > a) && r.1.is_none_or(|b| *o < b);
            told.iter().any(within)
        };
        let left: Vec<i64> = (0..20).filter(|o| !lost(o)).collect();
        assert_eq!(seen.offsets, left);
        let found = scan_blobs(folder.path(), |_| ());
        let at: Vec<_> = found.iter().map(|d| d.batch).collect();
        let expected: Vec<_> = damaged.iter().map(|o| Some((PARTITION, *o))).collect();
        assert_eq!(at, expected);
        // One is found alone, too, and what is whole is not.
        for found in found {
            let (partition, offset) = found.batch.expect("just told");
            let alone = find_damaged(folder.path(), partition, offset);
            assert_eq!(alone, Some(found));
        }
        for whole in left {
            assert_eq!(find_damaged(folder.path(), PARTITION, whole), None);
        }
        assert_eq!(find_damaged(folder.path(), PartitionId(99), 5), None);
    }
}

#[test]
fn batches_without_rows_are_found() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    let offline = Offline::open(folder.path(), &mut Vec::new()).expect("it opens");
    let between = |from, below: Option<u64>| {
        let found = offline.partition_between(PartitionId(from), below.map(PartitionId));
        found.unwrap().map(|p| p.0)
    };
    assert_eq!(between(0, Some(5)), None);
    assert_eq!(between(0, Some(6)), Some(5));
    assert_eq!(between(5, None), Some(5));
    assert_eq!(between(6, None), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_blob_files_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..3000), headed: bool) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = bytes;
        if headed && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&2_395_959u32.to_le_bytes());
        }
        fs::write(folder.path().join("000009.blob"), &bytes).unwrap();
        prop_assert!(!scan_blobs(folder.path(), |_| ()).is_empty());
        find_damaged(folder.path(), PARTITION, 0);
    }
}
