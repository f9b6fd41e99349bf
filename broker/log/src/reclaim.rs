//! Gives the disk space of deleted rows back, off the hot path.
//!
//! Record batches lie in blob files of [`BLOB_FILE_BYTES`], in the order in which they were written;
//! the `log` column family's sorted files hold only keys and places. A deleted range is a marker until
//! those small files are compacted; then a blob file of which nothing is left goes as a whole, and no
//! payload is rewritten. Where records of long and of short life share blob files, a file may stay for
//! the sake of a few: once half of all payload is dead, what still lives in the oldest quarter of the
//! files is moved together, and from then on it lies among its like.
//!
//! What a pass writes is bounded by what it frees: see [`is_due`]. That ends where the disk is short of
//! space: then whatever can come back does.
//!
//! How much was deleted and not given back is on the disk, too: the writer writes it with each deletion, so
//! that the next start goes on where this run stops.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ottla_proto::limits::{
    RECLAIM_BYTES, RECLAIM_LOOK_MS, RECLAIM_RETRY_DOUBLINGS, RECLAIM_RETRY_MS, RECLAIM_WAIT_MS,
};
use rocksdb::{BottommostLevelCompaction, CompactOptions};

use crate::health::{Health, Trouble};
use crate::keys::Tag;
use crate::rocks::{Database, io, number};
use crate::store::StoreError;

pub(crate) const BLOB_FILE_BYTES: u64 = 256 << 20;
/// Blob files, from the oldest on, of which the living part is moved in one pass.
const OLDEST: f64 = 0.25;
/// `BlobGarbageCollectionPolicy::kForce` in RocksDB's options.h.
const FORCE: i32 = 0;

/// How much was deleted and not given back.
#[derive(Default)]
pub(crate) struct Freed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: u64,
    /// What the disk says of it.
    written: u64,
    since: Option<Instant>,
    closing: bool,
}

impl Freed {
    pub(crate) fn new(bytes: u64) -> Freed {
        let freed = Freed::default();
        freed.add(bytes);
        freed.state().written = bytes;
        freed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds it")
    }

    pub(crate) fn add(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state();
        state.bytes = state.bytes.saturating_add(bytes);
        state.since.get_or_insert_with(Instant::now);
        self.changed.notify_one();
    }

    /// What the disk is to say after a write that deletes `more` bytes; `None` if it does already.
    pub(crate) fn to_write(&self, more: u64) -> Option<u64> {
        let mut state = self.state();
        let bytes = state.bytes.saturating_add(more);
        (std::mem::replace(&mut state.written, bytes) != bytes).then_some(bytes)
    }

    fn gave_back(&self, bytes: u64) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
        state.since = (state.bytes > 0).then(Instant::now);
    }

    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_one();
    }

    /// Sleeps; true if it is time to end.
    fn rest(&self, time: Duration) -> bool {
        let state = self.state();
        let rested = self.changed.wait_timeout_while(state, time, |s| !s.closing);
        rested.expect("never poisoned").0.closing
    }

    /// Waits for something to give back: how much, and how long it has waited. `None` at the end.
    fn wait(&self) -> Option<(u64, Duration)> {
        let waits = |s: &mut State| !s.closing && s.bytes == 0;
        let state = self.changed.wait_while(self.state(), waits);
        let state = state.expect("never poisoned");
        let waited = state.since.map_or(Duration::ZERO, |since| since.elapsed());
        (!state.closing).then_some((state.bytes, waited))
    }
}

/// What the last run deleted and did not give back.
pub(crate) fn left_by_last_run(db: &Database) -> Result<u64, StoreError> {
    number(&db.inner, Tag::Freed).map_err(io)
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
/// what is rewritten; after a while also if a quarter of everything was. Where space is short, whatever it
/// costs.
fn is_due(freed_bytes: u64, waited: Duration, sizes: Sizes, is_short: bool) -> bool {
    let pays = freed_bytes >= 4 * sizes.sorted;
    let much = freed_bytes >= RECLAIM_BYTES + sizes.blobs / 16;
    let long = waited >= Duration::from_millis(RECLAIM_WAIT_MS);
    (is_short && freed_bytes > 0)
        || (pays && (much || long))
        || (long && freed_bytes >= (sizes.sorted + sizes.blobs) / 4)
}

/// Whether the living part of the oldest blob files is to be moved.
fn is_mostly_garbage(sizes: Sizes, is_short: bool) -> bool {
    let much = sizes.garbage >= RECLAIM_BYTES || (is_short && sizes.garbage > 0);
    much && sizes.garbage >= sizes.blobs / 2
}

/// How long to wait after so many passes in a row that failed.
fn retry(failures: u32) -> Duration {
    Duration::from_millis(RECLAIM_RETRY_MS << failures.min(RECLAIM_RETRY_DOUBLINGS))
}

/// The thread that waits for enough deleted bytes, and gives them back.
pub(crate) struct Reclaimer {
    pub db: Arc<Database>,
    pub health: Arc<Health>,
    pub freed: Arc<Freed>,
    pub failed_compactions: Arc<AtomicU64>,
}

impl Reclaimer {
    pub(crate) fn run(self) {
        let mut failures = 0;
        while let Some((bytes, waited)) = self.freed.wait() {
            let is_short = self.health.trouble() == Some(Trouble::DiskFull);
            let possible = !self.health.has_no_space() && self.health.failure().is_none();
            let rest = if !possible || !is_due(bytes, waited, Sizes::of(&self.db), is_short) {
                Duration::from_millis(RECLAIM_LOOK_MS)
            } else if let Some(took) = self.pass(bytes, is_short) {
                failures = 0;
                // A client that deletes little by little must not keep a full disk busy.
                took
            } else {
                failures += 1;
                retry(failures)
            };
            if self.freed.rest(rest) {
                return;
            }
        }
    }

    /// Gives back what can be; how long it took, or `None` if it failed: then all of it is still to be
    /// given back.
    pub(crate) fn pass(&self, freed_bytes: u64, is_short: bool) -> Option<Duration> {
        let (started, before) = (Instant::now(), Sizes::of(&self.db));
        let failed_before = self.failed_compactions.load(Ordering::Relaxed);
        compact(&self.db, None);
        // Nothing else moves what lives, so what is left of a mixed file is judged here and now.
        let moved = is_mostly_garbage(Sizes::of(&self.db), is_short);
        if moved {
            compact(&self.db, Some(OLDEST));
        }
        if self.failed_since(failed_before) {
            metrics::counter!("ottla_log_reclaim_failed_passes_total").increment(1);
            tracing::warn!(
                freed_bytes,
                "the space of deleted records was not given back; it is tried again"
            );
            return None;
        }
        self.freed.gave_back(freed_bytes);
        let (after, took) = (Sizes::of(&self.db), started.elapsed());
        metrics::counter!("ottla_log_reclaim_passes_total").increment(1);
        tracing::info!(
            freed_bytes,
            sorted_bytes_before = before.sorted,
            sorted_bytes_after = after.sorted,
            blob_bytes_before = before.blobs,
            blob_bytes_after = after.blobs,
            garbage_bytes = after.garbage,
            moved,
            is_short,
            elapsed_ms = took.as_millis() as u64,
            "gave the space of deleted records back"
        );
        Some(took)
    }

    /// RocksDB's call does not say how it ended; its listener does, and the store's state says why it may
    /// not even have begun.
    fn failed_since(&self, failed_before: u64) -> bool {
        self.failed_compactions.load(Ordering::Relaxed) != failed_before
            || self.health.failure().is_some()
            || self.health.has_no_space()
            || self.freed.state().closing
    }
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
        assert!(is_due(8 * GB, now, sizes(GB / 100, 100 * GB, 0), false));
        assert!(!is_due(GB / 10, now, sizes(GB / 100, 100 * GB, 0), false));
        assert!(is_due(GB / 10, later, sizes(GB / 100, 100 * GB, 0), false));
        // Small ones: a pass rewrites 6 GB, so a few megabytes a minute must wait.
        assert!(!is_due(8 * GB, now, sizes(6 * GB, 100 * GB, 0), false));
        assert!(!is_due(8 * GB, later, sizes(6 * GB, 100 * GB, 0), false));
        assert!(is_due(24 * GB, now, sizes(6 * GB, 100 * GB, 0), false));
        // A disk that is short of space takes what it can get.
        assert!(is_due(1, now, sizes(6 * GB, 100 * GB, 0), true));
        assert!(!is_due(0, later, sizes(6 * GB, 100 * GB, 0), true));
        // Everything in the sorted files, and most of it deleted.
        assert!(is_due(3 * GB, later, sizes(4 * GB, 0, 0), false));
    }

    #[test]
    fn the_disk_is_told_of_what_changes() {
        let freed = Freed::new(5);
        assert_eq!(freed.to_write(0), None);
        assert_eq!(freed.to_write(7), Some(12));
        freed.add(7);
        assert_eq!(freed.to_write(0), None);
        freed.gave_back(12);
        assert_eq!((freed.to_write(0), freed.to_write(0)), (Some(0), None));
    }

    #[test]
    fn passes_that_fail_are_tried_again_less_and_less_often() {
        assert!(retry(1) < retry(2));
        assert_eq!(retry(30), retry(RECLAIM_RETRY_DOUBLINGS));
    }

    #[test]
    fn what_lives_is_moved_only_out_of_much_garbage() {
        assert!(is_mostly_garbage(sizes(0, 10 * GB, 5 * GB), false));
        assert!(!is_mostly_garbage(sizes(0, 10 * GB, 4 * GB), false));
        assert!(!is_mostly_garbage(sizes(0, 1 << 20, 1 << 20), false));
    }
}
