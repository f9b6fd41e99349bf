//! What RocksDB's background work runs into: flushes, compactions, the manifest.
//!
//! RocksDB stops all writes where it cannot tell what a failure touched. Two cases are told apart
//! here. A full disk is waited out (`space.rs` resumes). Damage that a compaction only *reads*, or a
//! table that is opened, has lost nothing more by being found: compactions pause, writes go on, and
//! who reads the damaged range is told. Everything else is final.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::event_listener::{
    BackgroundErrorStatus, CompactionJobInfo, DBBackgroundErrorReason, EventListener, MutableStatus,
};

use crate::health::Health;

pub(crate) struct Listener {
    pub health: Arc<Health>,
    /// Compactions that ran into damage, for the monitor, which pauses them.
    pub damaged_compactions: Arc<AtomicU64>,
    /// Compactions that failed for whatever reason, for who asked for them.
    pub failed_compactions: Arc<AtomicU64>,
}

impl EventListener for Listener {
    fn on_background_error(&self, reason: DBBackgroundErrorReason, status: MutableStatus) {
        let Err(error) = status.result() else { return };
        let what = error.as_ref();
        let reads = matches!(
            reason,
            DBBackgroundErrorReason::KCompaction | DBBackgroundErrorReason::KAsyncFileOpen
        );
        if is_no_space(what) {
            self.health.ran_out_of_space(what);
            // RocksDB calls it final if the next log could not be begun. The current one is still
            // whole, and nothing was written: it can be waited out like any full disk.
            if matches!(reason, DBBackgroundErrorReason::KMemTable) {
                status.reset();
            }
        } else if reads && is_of_a_read(what) {
            self.health.note_damage(what);
            self.damaged_compactions.fetch_add(1, Ordering::Relaxed);
            status.reset();
        } else {
            self.health.fail(kind(what), what);
        }
    }

    fn on_compaction_completed(&self, job: &CompactionJobInfo) {
        if job.status().is_err() {
            self.failed_compactions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// RocksDB's own way looks every five seconds and wants a whole memtable free; the monitor
    /// looks often and knows how much is needed.
    fn on_error_recovery_begin(
        &self,
        _: DBBackgroundErrorReason,
        _: &BackgroundErrorStatus,
        automatic: &mut bool,
    ) {
        *automatic = false;
    }
}

/// RocksDB's text for ENOSPC.
pub(crate) fn is_no_space(error: &str) -> bool {
    error.contains("No space left on device")
}

/// Damaged, unreadable or missing input, as against output that could not be written.
pub(crate) fn is_of_a_read(error: &str) -> bool {
    let reads = [
        "While pread offset",
        "While open a file for random read",
        "No such file or directory",
    ];
    error.starts_with("Corruption") || reads.iter().any(|text| error.contains(text))
}

/// What failed, for the metric.
pub(crate) fn kind(error: &str) -> &'static str {
    let syncs = ["While fdatasync", "While fsync", "While sync_file_range"];
    match error {
        e if e.starts_with("Corruption") => "damaged",
        e if syncs.iter().any(|text| e.contains(text)) => "sync",
        _ => "write",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_rocksdb_are_told_apart() {
        let full = "IO error: No space left on device: While appending to file: /d/000008.log: \
                    No space left on device";
        assert!(is_no_space(full) && !is_of_a_read(full));
        let sync = "IO error: While fdatasync: /sync/000008.log: Input/output error";
        assert_eq!((kind(sync), is_of_a_read(sync)), ("sync", false));
        let write = "IO error: While appending to file: /sync/000008.log: Input/output error";
        assert_eq!((kind(write), is_of_a_read(write)), ("write", false));
        let read = "IO error: While pread offset 5 len 9: /d/000009.sst: Input/output error";
        assert!(is_of_a_read(read));
        let bad = "Corruption: block checksum mismatch: stored = 1, computed = 2 in /d/000009.sst";
        assert_eq!((kind(bad), is_of_a_read(bad)), ("damaged", true));
    }
}
