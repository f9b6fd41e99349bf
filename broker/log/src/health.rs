//! Whether the store takes writes, and why not. One per store; every thread looks here.
//!
//! | state | writes | reads | ends |
//! | --- | --- | --- | --- |
//! | good | yes | yes | |
//! | low space | everything but new records | yes | by itself, when space returns |
//! | no space | wait, unacknowledged | yes | by itself, when space returns |
//! | failed | refused | yes | with the process |
//!
//! A failed sync is never tried again: after it, the kernel may count pages as clean that never
//! reached the disk ("Can Applications Recover from fsync Failures?", USENIX ATC 2020).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use ottla_proto::limits::DAMAGES_REMEMBERED;

use crate::store::StoreError;

/// In the database's folder after a failure: the next start trusts no page that this one wrote.
const FAILED_FILE: &str = "storage-failed";

/// Why a store does not take every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// New records are refused, or all writes wait: there is too little space.
    DiskFull,
    /// No write is taken until the process is started again. What failed, with file and error.
    Failed(Arc<str>),
}

#[derive(Default)]
struct State {
    no_space: bool,
    failed: Option<Arc<str>>,
    /// Who waits for space gives up.
    closing: bool,
    /// What was logged.
    damages: HashSet<String>,
}

pub(crate) struct Health {
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that new records may still take before the reserve is touched. It falls with every
    /// admission and is measured anew by the space monitor.
    room_bytes: AtomicI64,
    low_space: AtomicBool,
    /// Half of the reserve is used up, too.
    scarce: AtomicBool,
    /// Set where the state is not good, so that a look at a good one takes no lock.
    troubled: AtomicBool,
}

impl Health {
    pub(crate) fn new(path: &Path) -> Health {
        Health {
            path: path.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
            room_bytes: AtomicI64::new(i64::MAX),
            low_space: AtomicBool::new(false),
            scarce: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds the state")
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        if self.troubled.load(Ordering::Acquire) {
            let state = self.state();
            if let Some(reason) = &state.failed {
                return Some(Trouble::Failed(reason.clone()));
            }
            if state.no_space {
                return Some(Trouble::DiskFull);
            }
        }
        let low = self.low_space.load(Ordering::Acquire);
        low.then_some(Trouble::DiskFull)
    }

    pub(crate) fn failure(&self) -> Option<StoreError> {
        if !self.troubled.load(Ordering::Acquire) {
            return None;
        }
        self.state().failed.clone().map(StoreError::Failed)
    }

    /// Takes room for new records. They cost their bytes twice: in the write-ahead log now, and in
    /// the file that the memtable is flushed to later.
    pub(crate) fn admit(&self, bytes: usize) -> Result<(), StoreError> {
        if let Some(trouble) = self.trouble() {
            return Err(match trouble {
                Trouble::DiskFull => StoreError::DiskFull,
                Trouble::Failed(reason) => StoreError::Failed(reason),
            });
        }
        let cost = i64::try_from(bytes.saturating_mul(2)).unwrap_or(i64::MAX);
        // Far from full, where no monitor runs.
        if self.room_bytes.load(Ordering::Relaxed) == i64::MAX {
            return Ok(());
        }
        let before = self.room_bytes.fetch_sub(cost, Ordering::Relaxed);
        match before >= cost {
            true => Ok(()),
            false => {
                // Whatever their size: a few small ones that would fit make no difference.
                self.set_low_space(true);
                Err(StoreError::DiskFull)
            }
        }
    }

    /// Whether small writes that clients repeat without end are taken: within half of the reserve.
    /// The other half is for what frees space.
    pub(crate) fn admit_small(&self) -> Result<(), StoreError> {
        match self.failure() {
            Some(failure) => Err(failure),
            None if self.scarce.load(Ordering::Acquire) || self.has_no_space() => {
                Err(StoreError::DiskFull)
            }
            None => Ok(()),
        }
    }

    /// What the space monitor measured: what is free when all is flushed, and of it the room for
    /// new records. A shortage ends with more room than none, so that the state does not flutter.
    pub(crate) fn measured(&self, room_bytes: i64, free_bytes: i64, reserve_bytes: i64) {
        let enough_bytes = reserve_bytes / 4;
        self.scarce
            .store(free_bytes < reserve_bytes / 2, Ordering::Release);
        self.room_bytes.store(room_bytes, Ordering::Relaxed);
        let was = self.low_space.load(Ordering::Acquire);
        let low = room_bytes <= if was { enough_bytes } else { 0 };
        self.set_low_space(low);
        metrics::gauge!("ottla_disk_full").set(f64::from(u8::from(low || self.has_no_space())));
    }

    fn set_low_space(&self, low: bool) {
        if self.low_space.swap(low, Ordering::AcqRel) == low {
            return;
        }
        match low {
            true => tracing::error!(
                folder = %self.path.display(),
                "disk full: new records are refused; reads, deletes and retention go on"
            ),
            false => tracing::info!(
                folder = %self.path.display(),
                "there is space again: new records are taken"
            ),
        }
    }

    /// The disk was full in the middle of a write or flush. Nothing of it was acknowledged.
    pub(crate) fn ran_out_of_space(&self, what: &str) {
        let mut state = self.state();
        if !state.no_space {
            state.no_space = true;
            self.troubled.store(true, Ordering::Release);
            count("no_space");
            tracing::error!(error = what, "disk full: writes wait until there is space");
        }
    }

    pub(crate) fn has_no_space(&self) -> bool {
        self.troubled.load(Ordering::Acquire) && self.state().no_space
    }

    pub(crate) fn has_space_again(&self) {
        let mut state = self.state();
        if state.no_space {
            state.no_space = false;
            self.troubled
                .store(state.failed.is_some(), Ordering::Release);
            tracing::info!("there is space again: writes go on");
        }
        self.changed.notify_all();
    }

    /// Waits until a write is worth another try.
    pub(crate) fn wait_for_space(&self) -> Result<(), StoreError> {
        let state = self.state();
        let waits = |s: &mut State| s.no_space && s.failed.is_none() && !s.closing;
        let state = self
            .changed
            .wait_while(state, waits)
            .expect("no code panics while it holds the state");
        match &state.failed {
            Some(reason) => Err(StoreError::Failed(reason.clone())),
            None if state.no_space => Err(StoreError::DiskFull),
            None => Ok(()),
        }
    }

    /// Writes that wait for space fail from now on, so that the process can end.
    pub(crate) fn stop_waiting(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// No write counts from here on. The first reason stays; `kind` names it in the metric.
    pub(crate) fn fail(&self, kind: &'static str, what: &str) -> StoreError {
        let mut state = self.state();
        if let Some(reason) = &state.failed {
            return StoreError::Failed(reason.clone());
        }
        let reason: Arc<str> = what.into();
        state.failed = Some(reason.clone());
        self.troubled.store(true, Ordering::Release);
        drop(state);
        self.changed.notify_all();
        count(kind);
        tracing::error!(
            kind,
            error = what,
            "storage failed: no write is taken until the broker is started again; reads go on"
        );
        // Best effort on a broken disk. It need not survive a loss of power: that also drops the
        // pages that must not be trusted.
        let _ = std::fs::write(self.path.join(FAILED_FILE), what);
        StoreError::Failed(reason)
    }

    #[cfg(test)]
    pub(crate) fn damages(&self) -> usize {
        self.state().damages.len()
    }

    /// Something on the disk is damaged; the rest is served and written on. Each place is logged
    /// once, however often clients ask for it: true for the first time.
    pub(crate) fn note_damage(&self, what: &str) -> bool {
        count("damaged");
        let mut state = self.state();
        let is_new =
            state.damages.len() < DAMAGES_REMEMBERED && state.damages.insert(what.to_owned());
        if is_new {
            tracing::error!(error = what, "damaged data; what is whole is served");
        }
        is_new
    }
}

/// What `ottla_storage_failures_total` tells apart.
pub const FAILURE_KINDS: [&str; 4] = ["damaged", "no_space", "sync", "write"];

fn count(kind: &'static str) {
    metrics::counter!("ottla_storage_failures_total", "kind" => kind).increment(1);
}

/// Why the last run on this folder stopped writing, if it did.
pub(crate) fn failure_of_last_run(path: &Path) -> Option<String> {
    std::fs::read_to_string(path.join(FAILED_FILE)).ok()
}

/// To be called once all that the last run may have written is on the disk anew.
pub(crate) fn forget_failure(path: &Path) {
    let _ = std::fs::remove_file(path.join(FAILED_FILE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_twice_and_comes_back_late() {
        let folder = tempfile::tempdir().unwrap();
        let health = Health::new(folder.path());
        assert!(health.admit(1 << 40).is_ok(), "nothing is known yet");
        health.measured(1000, 1800, 800);
        assert!(health.admit(400).is_ok());
        assert!(matches!(health.admit(400), Err(StoreError::DiskFull)));
        health.measured(0, 800, 800);
        assert!(health.admit_small().is_ok());
        assert_eq!(health.trouble(), Some(Trouble::DiskFull));
        health.measured(-401, 399, 800);
        assert!(matches!(health.admit_small(), Err(StoreError::DiskFull)));
        health.measured(200, 1000, 800);
        assert!(health.admit_small().is_ok());
        assert!(matches!(health.admit(1), Err(StoreError::DiskFull)));
        health.measured(201, 1001, 800);
        assert!(health.admit(1).is_ok());
    }

    #[test]
    fn waiting_ends_with_space_with_failure_and_with_the_process() {
        let folder = tempfile::tempdir().unwrap();
        type End = (fn(&Health), bool);
        let ends: [End; 3] = [
            (Health::has_space_again, true),
            (|h| drop(h.fail("write", "broken")), false),
            (Health::stop_waiting, false),
        ];
        for (end, goes_on) in ends {
            let health = Arc::new(Health::new(folder.path()));
            health.ran_out_of_space("full");
            let waiting = std::thread::spawn({
                let health = health.clone();
                move || health.wait_for_space().is_ok()
            });
            end(&health);
            assert_eq!(waiting.join().unwrap(), goes_on);
        }
    }

    #[test]
    fn the_first_failure_stays_and_is_left_for_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let health = Health::new(folder.path());
        health.ran_out_of_space("full");
        health.fail("sync", "first");
        health.fail("write", "second");
        health.has_space_again();
        assert_eq!(health.trouble(), Some(Trouble::Failed("first".into())));
        assert_eq!(failure_of_last_run(folder.path()).as_deref(), Some("first"));
        forget_failure(folder.path());
        assert_eq!(failure_of_last_run(folder.path()), None);
    }
}
