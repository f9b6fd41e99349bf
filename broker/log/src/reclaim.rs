//! Gives the disk space of deleted rows back, off the hot path.
//!
//! Record batches lie in blob files of [`BLOB_FILE_BYTES`], in the order in which they were written;
//! the `log` column family's sorted files hold only keys and places. A deleted range is a marker until
//! those small files are compacted; then a blob file of which nothing is left goes as a whole, and no
//! payload is rewritten. Where records of long and of short life share blob files, a file may stay for
//! the sake of a few: once half of all payload is dead, what still lives in the oldest quarter of the
//! files is moved together, and from then on it lies among its like.
//!
//! What a pass writes is bounded by what it frees: see [`is_due`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ottla_proto::limits::{RECLAIM_BYTES, RECLAIM_WAIT_MS};
use rocksdb::{BottommostLevelCompaction, CompactOptions};

use crate::rocks::Database;

pub(crate) const BLOB_FILE_BYTES: u64 = 256 << 20;
/// Blob files, from the oldest on, of which the living part is moved in one pass.
const OLDEST: f64 = 0.25;
/// `BlobGarbageCollectionPolicy::kForce` in RocksDB's options.h.
const FORCE: i32 = 0;

/// How much was deleted since the last pass.
#[derive(Default)]
pub(crate) struct Freed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: u64,
    since: Option<Instant>,
    closing: bool,
}

impl Freed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds it")
    }

    pub(crate) fn add(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state();
        state.bytes += bytes;
        state.since.get_or_insert_with(Instant::now);
        self.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_one();
    }
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// The sorted files: keys, places, and values too small for a blob file.
    sorted: u64,
    blobs: u64,
    /// The part of `blobs` that no key leads to any more.
    garbage: u64,
}

impl Sizes {
    fn of(db: &Database) -> Sizes {
        let log = db.log();
        let read = |name: &str| {
            let value = db.inner.property_int_value_cf(&log, name);
            value.ok().flatten().unwrap_or(0)
        };
        Sizes {
            sorted: read("rocksdb.live-sst-files-size"),
            blobs: read("rocksdb.live-blob-file-size"),
            garbage: read("rocksdb.live-blob-file-garbage-size"),
        }
    }
}

/// Whether a pass pays: it rewrites the sorted files. At once, if many bytes were freed, and four times
/// what is rewritten; after a while also if a quarter of everything was.
fn is_due(freed_bytes: u64, waited: Duration, sizes: Sizes) -> bool {
    let pays = freed_bytes >= 4 * sizes.sorted;
    let much = freed_bytes >= RECLAIM_BYTES + sizes.blobs / 16;
    let long = waited >= Duration::from_millis(RECLAIM_WAIT_MS);
    (pays && (much || long)) || (long && freed_bytes >= (sizes.sorted + sizes.blobs) / 4)
}

/// Whether the living part of the oldest blob files is to be moved.
fn is_mostly_garbage(sizes: Sizes) -> bool {
    sizes.garbage >= RECLAIM_BYTES && sizes.garbage >= sizes.blobs / 2
}

/// The thread that waits for enough deleted bytes, and gives them back.
pub(crate) fn run(db: Arc<Database>, freed: Arc<Freed>) {
    let look = Duration::from_millis(RECLAIM_WAIT_MS / 10);
    loop {
        let bytes = {
            let mut state = freed.state();
            while !state.closing && state.bytes == 0 {
                state = freed.changed.wait(state).expect("never poisoned");
            }
            if state.closing {
                return;
            }
            let waited = state.since.map_or(Duration::ZERO, |since| since.elapsed());
            if !is_due(state.bytes, waited, Sizes::of(&db)) {
                let waiting = freed
                    .changed
                    .wait_timeout_while(state, look, |s| !s.closing);
                drop(waiting.expect("never poisoned"));
                continue;
            }
            state.since = None;
            std::mem::take(&mut state.bytes)
        };
        pass(&db, bytes);
    }
}

fn pass(db: &Database, freed_bytes: u64) {
    let (started, before) = (Instant::now(), Sizes::of(db));
    compact(db, None);
    // Nothing else moves what lives, so what is left of a mixed file is judged here and now.
    let moved = is_mostly_garbage(Sizes::of(db));
    if moved {
        compact(db, Some(OLDEST));
    }
    let after = Sizes::of(db);
    metrics::counter!("ottla_log_reclaim_passes_total").increment(1);
    tracing::info!(
        freed_bytes,
        blob_bytes_before = before.blobs,
        blob_bytes_after = after.blobs,
        garbage_bytes = after.garbage,
        moved,
        elapsed_ms = started.elapsed().as_millis() as u64,
        "gave the space of deleted records back"
    );
}

/// Compacts the sorted files of the log and its index, and moves what lives in the oldest blob files
/// if that is asked for.
fn compact(db: &Database, oldest: Option<f64>) {
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    options.set_max_subcompactions(1);
    if let Some(share) = oldest {
        // Files that only hold keys of old blobs are to be seen, too.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        options.set_blob_garbage_collection_policy(FORCE);
        options.set_blob_garbage_collection_age_cutoff(share);
    }
    for family in [db.log(), db.index()] {
        db.inner
            .compact_range_cf_opt(&family, None::<&[u8]>, None::<&[u8]>, &options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn sizes(sorted: u64, blobs: u64, garbage: u64) -> Sizes {
        Sizes {
            sorted,
            blobs,
            garbage,
        }
    }

    #[test]
    fn a_pass_frees_more_than_it_writes() {
        let (now, later) = (Duration::ZERO, Duration::from_millis(RECLAIM_WAIT_MS));
        // Large batches: the sorted files are nothing, so many bytes are enough.
        assert!(is_due(8 * GB, now, sizes(GB / 100, 100 * GB, 0)));
        assert!(!is_due(GB / 10, now, sizes(GB / 100, 100 * GB, 0)));
        assert!(is_due(GB / 10, later, sizes(GB / 100, 100 * GB, 0)));
        // Small ones: a pass rewrites 6 GB, so a few megabytes a minute must wait.
        assert!(!is_due(8 * GB, now, sizes(6 * GB, 100 * GB, 0)));
        assert!(!is_due(8 * GB, later, sizes(6 * GB, 100 * GB, 0)));
        assert!(is_due(24 * GB, now, sizes(6 * GB, 100 * GB, 0)));
        // Everything in the sorted files, and most of it deleted.
        assert!(is_due(3 * GB, later, sizes(4 * GB, 0, 0)));
    }

    #[test]
    fn what_lives_is_moved_only_out_of_much_garbage() {
        assert!(is_mostly_garbage(sizes(0, 10 * GB, 5 * GB)));
        assert!(!is_mostly_garbage(sizes(0, 10 * GB, 4 * GB)));
        assert!(!is_mostly_garbage(sizes(0, 1 << 20, 1 << 20)));
    }
}
