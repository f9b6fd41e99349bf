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
//! space: then whatever can come back does, a few files at a time, as many as there is room to move.
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
use crate::space::volume;
use crate::store::StoreError;

pub(crate) const BLOB_FILE_BYTES: u64 = 256 << 20;
/// Blob files, from the oldest on, of which the living part is moved in one pass: one in so many.
const OLDEST_ONE_IN: u64 = 4;
/// On a full disk it is moved once one byte in so many is dead.
const SHORT_GARBAGE_ONE_IN: u64 = 8;
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

    /// How much there is to give back, and how long it has waited; at once, or else after a while. `None` at
    /// the end.
    fn wait(&self) -> Option<(u64, Duration)> {
        let time = Duration::from_millis(RECLAIM_LOOK_MS);
        let waits = |s: &mut State| !s.closing && s.bytes == 0;
        let state = self.changed.wait_timeout_while(self.state(), time, waits);
        let state = state.expect("never poisoned").0;
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
    blob_files: u64,
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
            blob_files: read("rocksdb.num-blob-files"),
        }
    }

    /// How many of the oldest blob files are moved in one pass, where `room` bytes may be written.
    fn oldest(&self, room: u64) -> u64 {
        let each = (self.blobs / self.blob_files.max(1)).max(1);
        (self.blob_files / OLDEST_ONE_IN).min(room / each).max(1)
    }

    /// As RocksDB wants to be told of that many files: it rounds down.
    fn share(&self, files: u64) -> f64 {
        ((files as f64 + 0.5) / self.blob_files.max(1) as f64).min(1.0)
    }
}

/// Whether a pass pays: it rewrites the sorted files. At once, if many bytes were freed, and four times
/// what is rewritten; after a while also if a quarter of everything was. Where space is short, whatever it
/// costs.
fn is_due(freed_bytes: u64, waited: Duration, sizes: Sizes, is_short: bool) -> bool {
    let pays = freed_bytes >= 4 * sizes.sorted;
    let much = freed_bytes >= RECLAIM_BYTES + sizes.blobs / 16;
    let long = waited >= Duration::from_millis(RECLAIM_WAIT_MS);
    (is_short && (freed_bytes > 0 || is_mostly_garbage(sizes, true)))
        || (pays && (much || long))
        || (long && freed_bytes >= (sizes.sorted + sizes.blobs) / 4)
}

/// Whether the living part of the oldest blob files is to be moved.
fn is_mostly_garbage(sizes: Sizes, is_short: bool) -> bool {
    match is_short {
        true => sizes.garbage > 0 && sizes.garbage >= sizes.blobs / SHORT_GARBAGE_ONE_IN,
        false => sizes.garbage >= RECLAIM_BYTES && sizes.garbage >= sizes.blobs / 2,
    }
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
        // Write-ahead logs stay while any memtable holds a row of theirs, and on a full disk nothing else
        // would flush it. What fails comes through the listener.
        if is_short && let Err(error) = self.db.flush() {
            tracing::debug!(%error, "the memtables are not flushed");
        }
        compact(&self.db, None);
        // Nothing else moves what lives, so what is left of a mixed file is judged here and now.
        let sizes = Sizes::of(&self.db);
        let moved = is_mostly_garbage(sizes, is_short);
        if moved {
            let room = match is_short {
                true => volume(self.db.inner.path()).map_or(0, |v| v.free_bytes / 2),
                false => u64::MAX,
            };
            compact(&self.db, Some(sizes.share(sizes.oldest(room))));
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
            blob_files: blobs.div_ceil(BLOB_FILE_BYTES),
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
        assert!(is_due(0, now, sizes(GB, 100 * GB, 20 * GB), true));
        assert!(!is_due(0, later, sizes(GB, 100 * GB, 20 * GB), false));
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
        assert!(is_mostly_garbage(sizes(0, 10 * GB, 2 * GB), true));
        assert!(!is_mostly_garbage(sizes(0, 10 * GB, GB), true));
    }

    #[test]
    fn the_oldest_files_are_moved_as_far_as_there_is_room_but_one_at_least() {
        let files = |n: u64| sizes(0, n * BLOB_FILE_BYTES, 0);
        assert_eq!(files(40).oldest(u64::MAX), 10);
        assert_eq!(files(40).oldest(3 * BLOB_FILE_BYTES), 3);
        assert_eq!((files(40).oldest(0), files(3).oldest(u64::MAX)), (1, 1));
        for all in 1..200 {
            let chosen = files(all).oldest(u64::MAX);
            // As RocksDB's ComputeBlobGarbageCollectionCutoffFileNumber does it.
            assert_eq!((files(all).share(chosen) * all as f64) as u64, chosen);
        }
    }
}
