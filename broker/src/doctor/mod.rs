//! `ottla doctor DIR`: checks a data folder that no broker has open, and writes nothing.
//!
//! In this order, because each step tells the next what to expect:
//! 1. `meta.properties`; the manifest, the mark of what is synced, and the write-ahead logs.
//! 2. The `state` and raft rows of every group: where its partitions stand at the end of its log.
//! 3. The metadata log: names, placement, and which topics are compacted.
//! 4. Every partition's batches and index rows, a few partitions at a time; and, beside them, every block
//!    of the tables.
//! 5. If a batch could not be read: which blob file is damaged, and where.
//!
//! Memory is what the partitions' states take (without producers), and one batch per thread; nothing
//! grows with the records.

mod batches;
mod catalog;
mod json;
mod report;
mod rows;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ottla_log::verify::{self, LockError, Offline};
use ottla_proto::limits::DOCTOR_THREADS;

use crate::identity::{Identity, IdentityError};
use crate::progress::Progress;
use catalog::Catalog;
use report::{Check, Finding, Report};
use rows::Stored;

/// Why a folder could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{} has no database", .0.display())]
    NoDatabase(PathBuf),
    #[error("{}: {source}; stop the broker first", path.display())]
    Locked { path: PathBuf, source: LockError },
}

pub fn run(folder: &Path, all: bool, json: bool) -> ExitCode {
    let progress = Progress::new(io::stderr().is_terminal());
    let checked = check(folder, &progress);
    progress.clear();
    match checked {
        Err(error) => {
            eprintln!("ottla: {error}");
            ExitCode::from(2)
        }
        Ok(report) => {
            let text = match json {
                true => report.json(),
                false => report.text(all),
            };
            // A closed pipe (`| head`) is no error.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::from(u8::from(report.is_damaged()))
        }
    }
}

/// Checks a folder. `Err`: it is not one that can be checked; damage is in the report.
pub fn check(folder: &Path, progress: &Progress) -> Result<Report, DoctorError> {
    let began = Instant::now();
    let failed = |source| DoctorError::Folder {
        path: folder.to_owned(),
        source,
    };
    std::fs::read_dir(folder).map_err(failed)?;
    let mut report = Report::new(folder);
    let path = Identity::database(folder);
    let identity = identity(folder, &path, &mut report)?;
    if !path.is_dir() {
        return Err(DoctorError::NoDatabase(folder.to_owned()));
    }
    let _held = verify::hold(&path).map_err(|source| DoctorError::Locked {
        path: folder.to_owned(),
        source,
    })?;
    let files = verify::check_files(&path, |bytes| progress.read(bytes)).map_err(failed)?;
    report.files(&files);
    let mut failures = Vec::new();
    let opened = Offline::open(&path, &mut failures);
    for failure in failures {
        report.find(Finding::new(Check::Database, failure));
    }
    match opened {
        Some(store) => {
            report.logs(&files, &store);
            inspect(&store, identity.as_ref(), &mut report, progress);
        }
        None => report.not_opened(&files),
    }
    if report.needs_blobs() {
        let damages = verify::scan_blobs(&path, |bytes| progress.read(bytes));
        report.blobs(damages);
    }
    report.finish(progress.bytes(), began.elapsed());
    Ok(report)
}

/// Whose folder it is. A folder that has a database and no readable identity is damaged, not foreign.
fn identity(
    folder: &Path,
    database: &Path,
    report: &mut Report,
) -> Result<Option<Identity>, DoctorError> {
    match Identity::read(folder) {
        Ok(identity) => {
            report.identity(&identity);
            Ok(Some(identity))
        }
        Err(IdentityError::Io { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Err(DoctorError::Folder {
                path: folder.to_owned(),
                source,
            })
        }
        Err(error @ (IdentityError::Malformed { .. } | IdentityError::Io { .. }))
            if database.join("CURRENT").exists() =>
        {
            report.find(Finding::new(Check::Identity, error.to_string()).file("meta.properties"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Everything that needs the database open.
fn inspect(store: &Offline, identity: Option<&Identity>, report: &mut Report, progress: &Progress) {
    progress.expect(store.table_bytes() + store.payload_bytes());
    let mut stored = Stored::read(store, report);
    let catalog = Catalog::read(store, report);
    stored.check_against(&catalog, identity, report);
    let partitions = stored.partitions(store, &catalog, report);
    let (next, shared) = (AtomicUsize::new(0), Mutex::new(report));
    let take = || loop {
        let Some(id) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) else {
            return;
        };
        let found = batches::check(store, &stored, &catalog, *id, progress);
        let mut report = shared.lock().expect("no thread panics while it reports");
        report.partition(found);
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let whole = std::thread::scope(|scope| {
        for _ in 1..threads.min(DOCTOR_THREADS) {
            // Where there is no thread to be had, there is one less.
            let _ = std::thread::Builder::new().spawn_scoped(scope, take);
        }
        let whole = store.verify_tables();
        progress.read(store.table_bytes());
        take();
        whole
    });
    let report = shared
        .into_inner()
        .expect("no thread panics while it reports");
    report.tables(whole, store.wrong_tables());
}

#[cfg(test)]
mod tests;
