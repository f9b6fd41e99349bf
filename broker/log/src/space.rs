//! Watches the disk: how much space there is, a full disk that has space again, and how far the
//! store is synced. One thread per store.
//!
//! New records are refused *before* the disk is full: what is free must cover what RocksDB still has
//! to flush, and beyond it a reserve in which deletes, retention, metadata, commits, compactions and
//! flushes go on. Should something else fill the disk, a ballast file is given up, writes wait, and
//! RocksDB is resumed when there is space: no restart, nothing lost.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use ottla_proto::limits::{
    BALLAST_BYTES_MAX, DAMAGED_COMPACTION_RETRY_MS, DISK_RESERVE_BYTES_MAX, DISK_RESERVE_BYTES_MIN,
    DISK_RESERVE_PERCENT, DURABLE_SYNC_MS, RESUME_RETRY_MS, SPACE_CHECK_MS, SPACE_TO_RESUME_BYTES,
};

use crate::durable::Durable;
use crate::health::Health;
use crate::keys;
use crate::open::{manifest, mark_manifest};
use crate::rocks::Database;

const BALLAST_FILE: &str = "ballast";

pub(crate) struct Monitor {
    pub path: PathBuf,
    pub db: Arc<Database>,
    pub health: Arc<Health>,
    pub durable: Arc<Durable>,
    pub reserve_bytes: Option<u64>,
    /// What RocksDB may allocate at once.
    pub log_ahead_bytes: u64,
    pub damaged_compactions: Arc<AtomicU64>,
}

/// What is remembered from one look to the next.
#[derive(Default)]
struct Memory {
    resumed_at: Option<Instant>,
    synced_at: Option<Instant>,
    /// The manifest and its length at the last look.
    manifest: Option<(u64, u64)>,
    damaged_compactions: u64,
    compactions_paused_at: Option<Instant>,
    ballast_failed: bool,
}

/// Free and total bytes of the volume.
pub(crate) struct Volume {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

impl Monitor {
    /// Runs until the store is dropped, which drops the sender.
    pub(crate) fn run(self, stop: Receiver<()>) {
        let mut memory = Memory::default();
        let tick = Duration::from_millis(SPACE_CHECK_MS);
        loop {
            self.look(&mut memory);
            if stop.recv_timeout(tick) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        self.watch_manifest(&mut memory);
        self.sync_mark();
    }

    fn look(&self, memory: &mut Memory) {
        match volume(&self.path) {
            Ok(volume) => self.look_at_space(&volume, memory),
            Err(error) => {
                tracing::warn!(%error, folder = %self.path.display(), "free space is unknown")
            }
        }
        self.pause_damaged_compactions(memory);
        self.watch_manifest(memory);
        if due(memory.synced_at, DURABLE_SYNC_MS) {
            memory.synced_at = Some(Instant::now());
            self.sync_mark();
        }
    }

    fn look_at_space(&self, volume: &Volume, memory: &mut Memory) {
        let reserve = self
            .reserve_bytes
            .unwrap_or_else(|| default_reserve(volume.total_bytes));
        let unflushed = self.unflushed_bytes();
        metrics::gauge!("ottla_disk_free_bytes").set(volume.free_bytes as f64);
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let free = signed(volume.free_bytes) - signed(unflushed);
        let room = free - signed(self.log_ahead_bytes) - signed(reserve);
        self.health.measured(room, free, signed(reserve));
        if self.health.has_no_space() {
            give_up_ballast(&self.path);
            self.resume(unflushed, memory);
        } else {
            let ballast = (reserve / 4).min(BALLAST_BYTES_MAX);
            self.keep_ballast(ballast, room, memory);
        }
    }

    /// Bytes that are in memtables and not in files yet.
    fn unflushed_bytes(&self) -> u64 {
        let db = &self.db.inner;
        let bytes = |name: &&str| {
            let family = db.cf_handle(name)?;
            db.property_int_value_cf(&family, "rocksdb.cur-size-all-mem-tables")
                .ok()?
        };
        keys::ALL.iter().filter_map(bytes).sum()
    }

    /// Lets writes go on if what is free covers what has to be flushed.
    fn resume(&self, unflushed: u64, memory: &mut Memory) {
        let free = volume(&self.path).map_or(0, |v| v.free_bytes);
        let enough = free >= unflushed + SPACE_TO_RESUME_BYTES;
        if !enough || !due(memory.resumed_at, RESUME_RETRY_MS) {
            return;
        }
        memory.resumed_at = Some(Instant::now());
        // Memtables that could not be switched are flushed now: RocksDB asks for it only once.
        let flushed = self.db.inner.resume().and_then(|()| self.db.flush());
        match flushed {
            Ok(()) => self.health.has_space_again(),
            // What is final comes through the listener.
            Err(error) => tracing::debug!(%error, "the disk is still too full to go on"),
        }
    }

    fn keep_ballast(&self, bytes: u64, room: i64, memory: &mut Memory) {
        let path = self.path.join(BALLAST_FILE);
        let there = fs::metadata(&path).is_ok_and(|m| m.len() > 0);
        let fits = room > i64::try_from(2 * bytes).unwrap_or(i64::MAX);
        if there || bytes == 0 || !fits || memory.ballast_failed {
            return;
        }
        if let Err(error) = allocate(&path, bytes) {
            // Not every file system can; the reserve does without.
            memory.ballast_failed = true;
            let _ = fs::remove_file(&path);
            tracing::info!(%error, file = %path.display(), "no ballast file");
        }
    }

    /// Notes how long the manifest is, when it has changed.
    fn watch_manifest(&self, memory: &mut Memory) {
        let now = manifest(&self.path).ok().flatten();
        let now = now.and_then(|(number, file)| Some((number, fs::metadata(&file).ok()?.len())));
        if now.is_some() && now != memory.manifest && self.health.failure().is_none() {
            memory.manifest = now;
            self.check(mark_manifest(&self.path, &self.durable));
        }
    }

    /// Syncs the file that says how far the store is synced.
    fn sync_mark(&self) {
        if self.health.failure().is_none() {
            self.check(self.durable.sync());
        }
    }

    fn check(&self, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {}
            Err(error) => {
                let what = format!("{}/durable: {error}", self.path.display());
                self.health.fail("sync", &what);
            }
        }
    }

    /// A compaction that met damage would try again every second, in vain.
    fn pause_damaged_compactions(&self, memory: &mut Memory) {
        let seen = self.damaged_compactions.load(Ordering::Relaxed);
        let paused = memory.compactions_paused_at.is_some();
        if seen != memory.damaged_compactions {
            memory.damaged_compactions = seen;
            memory.compactions_paused_at = Some(Instant::now());
            if !paused {
                self.set_compactions(false);
            }
        } else if paused && due(memory.compactions_paused_at, DAMAGED_COMPACTION_RETRY_MS) {
            memory.compactions_paused_at = None;
            self.set_compactions(true);
        }
    }

    fn set_compactions(&self, on: bool) {
        let off = if on { "false" } else { "true" };
        for name in keys::ALL {
            let Some(family) = self.db.inner.cf_handle(name) else {
                continue;
            };
            let set = self
                .db
                .inner
                .set_options_cf(&family, &[("disable_auto_compactions", off)]);
            if let Err(error) = set {
                tracing::warn!(%error, name, "compactions go on as before");
            }
        }
    }
}

/// Gives space back for what must be written. The monitor makes the file again when there is plenty.
pub(crate) fn give_up_ballast(folder: &Path) {
    let path = folder.join(BALLAST_FILE);
    match fs::remove_file(&path) {
        Ok(()) => tracing::debug!(file = %path.display(), "the ballast file is given up"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, file = %path.display(), "not removed"),
    }
}

fn due(last: Option<Instant>, every_ms: u64) -> bool {
    last.is_none_or(|at| at.elapsed() >= Duration::from_millis(every_ms))
}

pub(crate) fn volume(path: &Path) -> io::Result<Volume> {
    let volume = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(volume.fragment_size());
    Ok(Volume {
        free_bytes: bytes(volume.blocks_available()),
        total_bytes: bytes(volume.blocks()),
    })
}

fn default_reserve(total_bytes: u64) -> u64 {
    let share = total_bytes / 100 * DISK_RESERVE_PERCENT;
    share.clamp(DISK_RESERVE_BYTES_MIN, DISK_RESERVE_BYTES_MAX)
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_follows_the_disk() {
        assert_eq!(default_reserve(1 << 30), DISK_RESERVE_BYTES_MIN);
        assert_eq!(default_reserve(10 << 30), (10 << 30) / 100 * 5);
        assert_eq!(default_reserve(1 << 50), DISK_RESERVE_BYTES_MAX);
    }
}
