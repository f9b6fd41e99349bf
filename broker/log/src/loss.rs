//! Starting without acknowledged data, where the operator accepts that: with
//! `ottla.storage.accept.loss`.
//!
//! Whether anything is lost is found out before the database is opened for writing, by replaying its
//! logs into memory only. If so, all of their records that are whole are taken, also those behind the
//! damage, and flushed: the damaged logs are then needed no more, and the next start is an ordinary
//! one. What was taken may have holes, which the owners of the rows close, each once: the number of
//! accepted losses ([`Tag::Losses`]) tells them. A file marks the time between the opening and the
//! moment at which that number is on disk.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rocksdb::WriteOptions;

use crate::keys::{self, StateKey, Tag};
use crate::options::{self, StoreOptions};
use crate::rocks::{Db, family, number};
use crate::store::StoreError;

const ANNOUNCED: &str = "loss-accepted";

fn io(error: impl std::fmt::Display) -> StoreError {
    StoreError::Io(error.to_string().into())
}

/// How many syncs the database knows of.
pub(crate) fn syncs(db: &Db) -> Result<u64, StoreError> {
    number(db, Tag::Synced).map_err(io)
}

/// How many losses were accepted.
pub(crate) fn count(db: &Db) -> Result<u64, StoreError> {
    number(db, Tag::Losses).map_err(io)
}

/// What keeps the logs from bringing all that was synced. Changes nothing.
pub(crate) fn find(path: &Path, options: &StoreOptions, synced: u64) -> Option<String> {
    if !path.join("CURRENT").exists() {
        return None;
    }
    let open = || -> Result<u64, String> {
        let mut database = options::database(options);
        database.create_if_missing(false);
        database.create_missing_column_families(false);
        // Tables are not what is asked for here.
        database
            .set_open_files_async(true)
            .map_err(|e| e.to_string())?;
        let families = options::column_families(options, true);
        let db = Db::open_cf_descriptors_read_only(&database, path, families, false);
        syncs(&db.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    };
    match open() {
        Ok(found) if found < synced => Some(format!(
            "its logs end at sync {found}, and {synced} were made"
        )),
        Ok(_) => None,
        Err(error) => is_about_logs(&error).then_some(error),
    }
}

/// Whether RocksDB found its write-ahead logs wanting.
pub(crate) fn is_about_logs(error: &str) -> bool {
    let words = ["beyond the point of corruption", "WAL", "wal", ".log"];
    error.starts_with("Corruption") && words.iter().any(|word| error.contains(word))
}

/// Whether a start that accepted a loss ended before the loss was counted.
pub(crate) fn is_announced(path: &Path) -> bool {
    path.join(ANNOUNCED).exists()
}

pub(crate) fn announce(path: &Path) -> io::Result<()> {
    File::create(path.join(ANNOUNCED))?.sync_all()?;
    File::open(path)?.sync_all()
}

/// Counts an accepted loss, durably; the new number.
pub(crate) fn record(db: &Db, path: &Path) -> Result<u64, StoreError> {
    let losses = count(db)? + 1;
    let state = family(db, keys::STATE);
    let mut options = WriteOptions::default();
    options.set_sync(true);
    let key = StateKey::node(Tag::Losses).encode();
    db.put_cf_opt(&state, key, losses.to_be_bytes(), &options)
        .map_err(io)?;
    fs::remove_file(path.join(ANNOUNCED)).map_err(io)?;
    Ok(losses)
}
