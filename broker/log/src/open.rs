//! Opening the database: what the last run left is examined before anything is served.
//!
//! 1. Without `CURRENT` RocksDB would begin an empty database and delete what it does not know:
//!    refused where there are files. A manifest that is shorter than when it was synced, too.
//! 2. What a killed process wrote but did not sync lies in the page cache: it is synced now, because
//!    it is about to be replayed, answered for and built upon.
//! 3. After a failed sync the page cache cannot be trusted to be synced ever: what is replayed is
//!    written to new files.
//! 4. The database replays its logs up to the first record that is not whole. If that is before what
//!    is known to have been synced, acknowledged data is missing: refused, unless the operator
//!    accepts it (`loss.rs`). The logs are linked aside first, because RocksDB goes on from where it
//!    stopped.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::DBRecoveryMode;

use crate::durable::{Durable, Mark};
use crate::health;
use crate::listener::{is_no_space, is_of_a_read};
use crate::loss;
use crate::options::{self, StoreOptions};
use crate::rocks::{Db, family};
use crate::space;
use crate::store::StoreError;
use crate::wal;

/// Links to the logs as they were before the database was opened.
const ASIDE: &str = "logs-before-open";
/// The same, kept because records in them are damaged.
pub(crate) const DAMAGED: &str = "damaged-logs";
/// The same once the loss is accepted, and which loss it was.
pub(crate) const ACCEPTED: &str = "lost-logs-";
const ACCEPT: &str =
    "To start without what is lost: ottla server --override ottla.storage.accept.loss=true";

/// How to open a database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Usual,
    /// With memtables that hold all of the logs, so that replaying takes no space.
    Roomy,
    /// Tables are opened later: one that is damaged fails its reads, not the start.
    Later,
    /// Up to the damage in the logs and no further, where what is behind it cannot be taken.
    Cut,
}

/// An open database, with all that was acknowledged or accepted as lost.
pub(crate) struct Opened {
    pub db: Db,
    pub durable: Durable,
    /// Syncs so far.
    pub syncs: u64,
    /// How often lost data was accepted so far.
    pub losses: u64,
}

pub(crate) fn open(
    path: &Path,
    options: &StoreOptions,
    set_up: impl Fn(&mut rocksdb::Options),
) -> Result<Opened, StoreError> {
    let failed = |e: io::Error| StoreError::Io(format!("{}: {e}", path.display()).into());
    fs::create_dir_all(path).map_err(failed)?;
    let durable = Durable::open(path).map_err(failed)?;
    check_manifest(path, &durable.mark())?;
    // Replaying may have to flush: what is kept for a full disk is given up first.
    space::give_up_ballast(path);
    let last_failure = health::failure_of_last_run(path);
    if let Some(reason) = &last_failure {
        tracing::warn!(
            reason,
            "storage failed in the last run: what it left is written anew"
        );
    }
    sync_logs(path)?;
    let logs = Logs::link_aside(path).map_err(failed)?;
    let lost = is_loss_accepted(path, options, &durable, &logs).map_err(failed)?;
    let open = |way: Way| {
        let mut database = options::database(options);
        database.set_track_and_verify_wals(!lost);
        if lost && way != Way::Cut {
            database.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
        }
        database.set_open_files_async(way == Way::Later)?;
        // Flushing all makes damaged logs needless; where there is no space for it, they stay.
        let leaves_logs = !lost || way == Way::Roomy;
        database.set_avoid_flush_during_recovery(last_failure.is_none() && leaves_logs);
        set_up(&mut database);
        let families = options::column_families(options, way == Way::Roomy);
        Db::open_cf_descriptors(&database, path, families)
    };
    let mut opened = open(Way::Usual);
    if let Err(error) = &opened {
        let what = error.as_ref();
        if is_no_space(what) {
            tracing::warn!(%error, "disk full: what the logs hold is kept in memory");
            opened = open(Way::Roomy).and_then(|db| narrow(db, options));
        } else if is_of_a_read(what) && what.contains(".sst") {
            tracing::error!(%error, "a table is damaged or missing: what is whole is served");
            opened = open(Way::Later);
        }
    }
    if let (Err(error), true) = (&opened, lost) {
        tracing::warn!(%error, "the logs are taken up to their damage only");
        opened = open(Way::Cut);
    }
    let db = match opened {
        Ok(db) => db,
        Err(error) => return Err(logs.explain(path, error.as_ref())),
    };
    let syncs = accept_or_refuse(path, &db, &durable, &logs, lost)?;
    let losses = match lost {
        true => {
            let losses = loss::record(&db, path)?;
            logs.keep_for_good(losses);
            losses
        }
        false => {
            logs.forget();
            loss::count(&db)?
        }
    };
    mark_manifest(path, &durable).map_err(failed)?;
    if last_failure.is_some() {
        health::forget_failure(path);
    }
    Ok(Opened {
        db,
        durable,
        syncs,
        losses,
    })
}

/// Whether data is lost and the operator accepts it, now or at a start that did not get far.
fn is_loss_accepted(
    path: &Path,
    options: &StoreOptions,
    durable: &Durable,
    logs: &Logs,
) -> io::Result<bool> {
    if options.accept_loss
        && let Some(why) = loss::find(path, options, durable.mark().syncs)
    {
        let (folder, damage) = (path.display(), logs.damage());
        tracing::warn!(
            "acknowledged data is missing from {folder}: {why}{damage}; starting without it, as \
             ottla.storage.accept.loss says, with every record that is whole"
        );
        loss::announce(path)?;
    }
    Ok(loss::is_announced(path))
}

/// Gives memtables their ordinary size again; the next writes flush what exceeds it.
fn narrow(db: Db, options: &StoreOptions) -> Result<Db, rocksdb::Error> {
    for (name, bytes) in options.memtables() {
        let family = family(&db, name);
        db.set_options_cf(&family, &[("write_buffer_size", &bytes.to_string())])?;
    }
    Ok(db)
}

/// Compares how far the database was synced with how far it goes; how far to count on from.
fn accept_or_refuse(
    path: &Path,
    db: &Db,
    durable: &Durable,
    logs: &Logs,
    lost: bool,
) -> Result<u64, StoreError> {
    let (found, synced) = (loss::syncs(db)?, durable.mark().syncs);
    if found >= synced {
        return Ok(found);
    }
    if !lost {
        let what = format!(
            "acknowledged data is missing from {}: its logs end at sync {found}, and {synced} were made{}",
            path.display(),
            logs.damage()
        );
        let kept = logs.keep();
        return Err(StoreError::Lost(format!(
            "{what}. The logs are kept in {kept}. {ACCEPT}"
        )));
    }
    let lower = durable.set(|mark| mark.syncs = found);
    lower
        .and_then(|()| durable.sync())
        .map_err(|e| StoreError::Io(e.to_string().into()))?;
    Ok(found)
}

/// The manifest in use: its number and length. `None` before the first.
pub(crate) fn manifest(path: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let current = match fs::read(path.join("CURRENT")) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let name = current.trim_end();
    let number = name.strip_prefix("MANIFEST-").and_then(|n| n.parse().ok());
    let number =
        number.ok_or_else(|| io::Error::other(format!("CURRENT is damaged: it names {name:?}")))?;
    Ok(Some((number, path.join(name))))
}

/// Syncs the manifest as far as it is whole, and notes how far that is.
pub(crate) fn mark_manifest(path: &Path, durable: &Durable) -> io::Result<()> {
    let Some((number, file)) = manifest(path)? else {
        return Ok(());
    };
    let whole_bytes = match wal::scan(&file, None) {
        Ok(end) => end.whole_bytes,
        // RocksDB has just begun another.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mark = durable.mark();
    if (mark.manifest, mark.manifest_bytes) == (number, whole_bytes) {
        return Ok(());
    }
    File::open(&file)?.sync_data()?;
    durable.set(|mark| {
        mark.manifest = number;
        mark.manifest_bytes = whole_bytes;
    })
}

pub(crate) fn check_manifest(path: &Path, synced: &Mark) -> Result<(), StoreError> {
    let folder = path.display();
    let refuse = |what: String| {
        Err(StoreError::Lost(format!(
            "{what}. Without it nothing says which files hold the data: restore it from a copy of {folder}"
        )))
    };
    let found = match manifest(path) {
        Ok(found) => found,
        Err(error) => return refuse(format!("{folder}: {error}")),
    };
    let Some((number, file)) = found else {
        let data = |name: &str| [".sst", ".blob", ".log"].iter().any(|e| name.ends_with(e));
        return match synced.syncs > 0 || names(path).iter().any(|n| data(n)) {
            true => refuse(format!("{folder}/CURRENT is missing")),
            false => Ok(()),
        };
    };
    if number < synced.manifest {
        let newer = synced.manifest;
        return refuse(format!(
            "{folder}/CURRENT is damaged: it names manifest {number}, and {newer} was in use"
        ));
    }
    let end = match wal::scan(&file, None) {
        Ok(end) => end,
        Err(error) => return refuse(format!("{}: {error}", file.display())),
    };
    if number == synced.manifest && end.whole_bytes < synced.manifest_bytes {
        return refuse(format!(
            "{} is damaged at byte {} ({}), and was synced up to byte {}",
            file.display(),
            end.whole_bytes,
            end.broken.unwrap_or("it ends there"),
            synced.manifest_bytes
        ));
    }
    // RocksDB 11.8 refuses that, too, but for records whose type seems to be one of recycled logs: behind an
    // ordinary record its reader (`log_reader.cc`) answers to them without going on, and is asked for ever.
    if let Some(why) = end.damage() {
        let (file, at) = (file.display(), end.whole_bytes);
        return refuse(format!("{file} is damaged at byte {at} ({why})"));
    }
    Ok(())
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// Numbers and paths of the write-ahead logs in a folder, oldest first.
pub(crate) fn log_files(path: &Path) -> Vec<(u64, PathBuf)> {
    let number = |name: &String| name.strip_suffix(".log")?.parse().ok();
    let mut logs: Vec<(u64, PathBuf)> = names(path)
        .iter()
        .filter_map(|name| Some((number(name)?, path.join(name))))
        .collect();
    logs.sort_unstable();
    logs
}

fn sync_logs(path: &Path) -> Result<(), StoreError> {
    let sync = |file: &Path| File::open(file).and_then(|f| f.sync_all());
    let files = log_files(path).into_iter().map(|(_, file)| file);
    // The folder itself has a name in the one above.
    let folders = [Some(path), path.parent()].into_iter().flatten();
    for file in files.chain(folders.map(Path::to_owned)) {
        sync(&file).map_err(|e| StoreError::Io(format!("{}: {e}", file.display()).into()))?;
    }
    Ok(())
}

/// The write-ahead logs as they were before the database was opened.
struct Logs {
    aside: PathBuf,
    damaged: PathBuf,
}

impl Logs {
    fn link_aside(path: &Path) -> io::Result<Logs> {
        let logs = Logs {
            aside: path.join(ASIDE),
            damaged: path.join(DAMAGED),
        };
        if logs.aside.exists() {
            fs::remove_dir_all(&logs.aside)?;
        }
        let files = log_files(path);
        if !files.is_empty() {
            fs::create_dir(&logs.aside)?;
        }
        for (_, file) in files {
            let name = file.file_name().expect("it was listed by its name");
            fs::hard_link(&file, logs.aside.join(name))?;
        }
        Ok(logs)
    }

    /// Where the logs are damaged, as the end of a sentence. Those of the first start that noticed
    /// tell most.
    fn damage(&self) -> String {
        let folder = match self.damaged.exists() {
            true => &self.damaged,
            false => &self.aside,
        };
        let mut text = String::new();
        for (number, file) in log_files(folder) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            match wal::scan(&file, Some(number)) {
                Ok(end) => {
                    if let Some(why) = end.broken {
                        let (at, of) = (end.whole_bytes, end.file_bytes);
                        text += &format!("; {name} is whole up to byte {at} of {of} ({why})");
                    }
                }
                Err(error) => text += &format!("; {name}: {error}"),
            }
        }
        match text.is_empty() {
            true => "; no log is damaged, so one is missing or was cut".to_owned(),
            false => text,
        }
    }

    /// The error of an open that failed, with what the logs say about it.
    fn explain(&self, path: &Path, error: &str) -> StoreError {
        let text = match loss::is_about_logs(error) {
            true => {
                let damage = self.damage();
                let kept = self.keep();
                format!(
                    "{}: {error}{damage}. The logs are kept in {kept}. {ACCEPT}",
                    path.display()
                )
            }
            false => {
                self.forget();
                format!("{}: {error}", path.display())
            }
        };
        match error.starts_with("Corruption") || error.contains("No such file") {
            true => StoreError::Lost(text),
            false => StoreError::Io(text.into()),
        }
    }

    fn forget(&self) {
        if let Err(error) = fs::remove_dir_all(&self.aside)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.aside.display(), %error, "not removed");
        }
    }

    /// Keeps the logs of the first start that found them damaged; where they are.
    fn keep(&self) -> String {
        let kept = self.damaged.display().to_string();
        match self.damaged.exists() || !self.aside.exists() {
            true => self.forget(),
            false => {
                if let Err(error) = fs::rename(&self.aside, &self.damaged) {
                    tracing::warn!(folder = %self.aside.display(), %error, "not renamed");
                    return self.aside.display().to_string();
                }
            }
        }
        kept
    }

    /// Keeps the logs of a loss that was accepted apart from those of the next.
    fn keep_for_good(&self, losses: u64) {
        self.keep();
        let target = self.damaged.with_file_name(format!("{ACCEPTED}{losses}"));
        match fs::rename(&self.damaged, &target) {
            Ok(()) => {
                tracing::warn!(folder = %target.display(), "the logs are kept here; nothing reads them")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(folder = %self.damaged.display(), %error, "not renamed")
            }
        }
    }
}
