//! The files beside the tables: the manifest, the mark of what is synced, the write-ahead logs.

use std::io;
use std::path::Path;

use crate::durable::{self, Mark};
use crate::open;
use crate::wal;

/// A write-ahead log, as far as its records are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub number: u64,
    pub name: String,
    pub whole_bytes: u64,
    pub file_bytes: u64,
    pub records: u64,
    /// Why it does not go on behind the whole bytes; none where the file ends there.
    pub broken: Option<&'static str>,
}

#[derive(Debug, Default)]
pub struct Files {
    /// How many syncs are known to have been made; `None` where nothing tells.
    pub synced: Option<u64>,
    /// Oldest first.
    pub logs: Vec<LogFile>,
    /// (file, what is wrong with it)
    pub damages: Vec<(String, String)>,
    pub notes: Vec<String>,
    /// Of all files of the database.
    pub bytes: u64,
}

/// Examines the files of a database that nobody has open. `Err`: the folder cannot be read.
pub fn check_files(path: &Path, mut read: impl FnMut(u64)) -> io::Result<Files> {
    let mut files = Files::default();
    for entry in std::fs::read_dir(path)? {
        files.bytes += entry?.metadata().map_or(0, |m| m.len());
    }
    let mark = match durable::read(path)? {
        Ok(mark) => mark,
        Err(_) => {
            let detail = "damaged: it cannot tell whether synced data is missing";
            files.damages.push(("durable".into(), detail.into()));
            None
        }
    };
    files.synced = mark.map(|m: Mark| m.syncs);
    if let Err(error) = open::check_manifest(path, &mark.unwrap_or_default()) {
        files.damages.push(("MANIFEST".into(), error.to_string()));
    }
    for (number, file) in open::log_files(path) {
        let name = file.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        match wal::scan(&file, Some(number)) {
            Ok(end) => {
                read(end.whole_bytes);
                files.logs.push(LogFile {
                    number,
                    name,
                    whole_bytes: end.whole_bytes,
                    file_bytes: end.file_bytes,
                    records: end.records,
                    broken: end.broken,
                });
            }
            Err(error) => files.damages.push((name, error.to_string())),
        }
    }
    if path.join(open::DAMAGED).exists() {
        let kept = open::DAMAGED;
        files.notes.push(format!(
            "{kept}: logs kept by a start that found them damaged"
        ));
    }
    let lost = open::names(path)
        .into_iter()
        .filter(|name| name.starts_with(open::ACCEPTED));
    for kept in lost {
        files.notes.push(format!(
            "{kept}: logs kept by a start that accepted the loss of data; nothing needs them"
        ));
    }
    Ok(files)
}
