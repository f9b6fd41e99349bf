//! What the log alone can write: the floor under every produce figure in docs/performance.md.
//!
//! `cargo bench --workspace --bench append -- [SECONDS] [BATCH_BYTES] [FOLDER]` writes entries of about a
//! megabyte of batches, each with its raft row and synced, four in flight, as the broker does. It
//! prints MB/s (decimal), CPU seconds per GB, and syncs per second.

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_log::{BATCH_HEAD_BYTES, Op, RocksStore, Store, StoreOptions, Write};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::{GROUP_ENTRIES_IN_FLIGHT, GROUP_ENTRY_BYTES};
use ottla_proto::memory::MemoryShares;

const PARTITIONS: u64 = 16;

fn main() {
    let mut numbers = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let seconds: u64 = numbers.next().and_then(|s| s.parse().ok()).unwrap_or(10);
    let batch_bytes: usize = numbers
        .next()
        .and_then(|s| s.parse().ok())
        .unwrap_or(65_536);
    let parent = numbers
        .next()
        .map(PathBuf::from)
        .unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(parent).expect("a folder to write in");
    let store = RocksStore::open(folder.path(), &StoreOptions::new(MemoryShares::of(2 << 30)))
        .expect("opens");

    let per_entry = (GROUP_ENTRY_BYTES / batch_bytes).max(1);
    let payload: Vec<u8> = (0..batch_bytes).map(|i| (i * 31 % 251) as u8).collect();
    let body = Bytes::from(payload).slice(BATCH_HEAD_BYTES..);
    let (done, finished) = channel();
    let (mut index, mut in_flight, mut syncs) = (0u64, 0, 0u64);
    let cpu_before = cpu_seconds();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        let mut ops = Vec::with_capacity(per_entry + 1);
        for i in 0..per_entry as u64 {
            let number = index * per_entry as u64 + i;
            let base_offset = (number / PARTITIONS) as i64 * 64;
            let head = Bytes::copy_from_slice(&[&base_offset.to_be_bytes()[..], &[0; 8]].concat());
            let partition = PartitionId(number % PARTITIONS);
            ops.push(Op::PutBatch {
                partition,
                base_offset,
                head,
                body: body.clone(),
            });
        }
        let row = Bytes::from(vec![7; 64 * per_entry]);
        ops.push(Op::PutRaft {
            group: GroupId(1),
            index,
            row,
        });
        let done = done.clone();
        let done = Box::new(move |result: Result<(), _>| {
            result.expect("written");
            let _ = done.send(());
        });
        store.submit(Write {
            ops,
            sync: true,
            done,
        });
        index += 1;
        in_flight += 1;
        if in_flight == GROUP_ENTRIES_IN_FLIGHT {
            finished.recv().expect("the writer lives");
            in_flight -= 1;
            syncs += 1;
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let bytes = (syncs * (per_entry * batch_bytes) as u64) as f64;
    let cpu = cpu_seconds() - cpu_before;
    println!(
        "log alone: {:.0} MB/s, {:.2} CPU s/GB, {:.0} entries/s of {} batches of {batch_bytes} bytes",
        bytes / 1e6 / elapsed,
        cpu / (bytes / 1e9),
        syncs as f64 / elapsed,
        per_entry
    );
}

/// User and system time of this process, from /proc (clock ticks of 10 ms on Linux).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(") ").next().expect("a process has a name");
    let ticks = |field: usize| -> f64 {
        after_name
            .split(' ')
            .nth(field)
            .and_then(|t| t.parse().ok())
            .expect("a number")
    };
    (ticks(11) + ticks(12)) / 100.0
}
