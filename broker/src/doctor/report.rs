//! What was found. `print.rs` says it to people and to machines.

mod print;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_log::verify::{BlobDamage, Files, Offline};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::DOCTOR_FINDINGS;

use super::json::Object;
use crate::identity::Identity;

/// What was checked; each is a line of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Identity,
    Files,
    Logs,
    Database,
    Tables,
    Groups,
    Metadata,
    Batches,
    Index,
}

impl Check {
    const ALL: [Check; 9] = [
        Check::Identity,
        Check::Files,
        Check::Logs,
        Check::Database,
        Check::Tables,
        Check::Groups,
        Check::Metadata,
        Check::Batches,
        Check::Index,
    ];

    fn name(self) -> &'static str {
        match self {
            Check::Identity => "identity",
            Check::Files => "manifest and mark",
            Check::Logs => "write-ahead logs",
            Check::Database => "database",
            Check::Tables => "tables",
            Check::Groups => "replication groups",
            Check::Metadata => "metadata",
            Check::Batches => "record batches",
            Check::Index => "index",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub partition: Option<(PartitionId, String)>,
    /// First and last offset.
    pub offsets: Option<(i64, i64)>,
    pub file: Option<String>,
    pub byte: Option<u64>,
    pub detail: String,
    /// Batches could not be read: a blob file may be why.
    pub is_unreadable: bool,
}

impl Finding {
    /// The file is taken from the detail, where RocksDB names one.
    pub fn new(check: Check, detail: impl Into<String>) -> Finding {
        let detail = detail.into();
        Finding {
            check,
            partition: None,
            offsets: None,
            file: file_in(&detail),
            byte: None,
            detail,
            is_unreadable: false,
        }
    }

    pub fn of(mut self, id: PartitionId, name: &str) -> Finding {
        self.partition = Some((id, name.to_owned()));
        self
    }

    pub fn at(mut self, first: i64, last: i64) -> Finding {
        self.offsets = Some((first, last));
        self
    }

    pub fn file(mut self, file: &str) -> Finding {
        self.file = Some(file.to_owned());
        self
    }

    fn covers(&self, id: PartitionId, offset: i64) -> bool {
        let of = self.partition.as_ref().is_some_and(|(p, _)| *p == id);
        let within = |(first, last): (i64, i64)| first <= offset && offset <= last;
        self.is_unreadable && of && self.offsets.is_some_and(within)
    }

    fn json(&self) -> String {
        Object::new()
            .text("check", self.check.name())
            .maybe_text(
                "partition",
                self.partition.as_ref().map(|(_, n)| n.as_str()),
            )
            .maybe_number("first_offset", self.offsets.map(|(first, _)| first))
            .maybe_number("last_offset", self.offsets.map(|(_, last)| last))
            .maybe_text("file", self.file.as_deref())
            .maybe_number("byte", self.byte)
            .text("detail", &self.detail)
            .end()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.check.name())?;
        if let Some((_, name)) = &self.partition {
            write!(f, ", {name}")?;
        }
        match self.offsets {
            Some((first, last)) if first == last => write!(f, ", offset {first}")?,
            Some((first, i64::MAX)) => write!(f, ", offsets from {first} on")?,
            Some((first, last)) => write!(f, ", offsets {first} to {last}")?,
            None => {}
        }
        match (&self.file, self.byte) {
            (Some(file), Some(byte)) => write!(f, ", {file} at byte {byte}")?,
            (Some(file), None) => write!(f, ", {file}")?,
            _ => {}
        }
        write!(f, ": {}", self.detail)
    }
}

/// The name of a file of RocksDB's in an error message.
fn file_in(message: &str) -> Option<String> {
    let words = message.split(|c: char| c.is_whitespace() || "'\",;()/".contains(c));
    let is_file = |word: &str| {
        let (number, ending) = word.trim_end_matches([':', '.']).split_once('.')?;
        let known = matches!(ending, "sst" | "blob" | "log");
        let named = number.len() >= 6 && number.bytes().all(|b| b.is_ascii_digit());
        (known && named).then(|| format!("{number}.{ending}"))
    };
    words.into_iter().find_map(is_file)
}

/// A partition's line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionRow {
    pub id: PartitionId,
    pub name: String,
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    /// Batches that lie before the log start offset, or of a deleted topic: their space comes back.
    pub reclaimable_bytes: u64,
    pub is_compacted: bool,
    pub findings: u64,
}

/// What the check of one partition brought.
#[derive(Debug, Default)]
pub struct PartitionFound {
    pub row: PartitionRow,
    pub findings: Vec<Finding>,
    /// Findings that are not told.
    pub more: u64,
    pub notes: Vec<String>,
}

#[derive(Debug)]
pub struct Report {
    folder: PathBuf,
    cluster_id: Option<String>,
    node_id: Option<i32>,
    pub findings: Vec<Finding>,
    more_findings: u64,
    counts: [u64; Check::ALL.len()],
    pub notes: Vec<String>,
    pub rows: Vec<PartitionRow>,
    pub groups: u64,
    files_bytes: u64,
    read_bytes: u64,
    elapsed: Duration,
}

impl Report {
    pub fn new(folder: &Path) -> Report {
        Report {
            folder: folder.to_owned(),
            cluster_id: None,
            node_id: None,
            findings: Vec::new(),
            more_findings: 0,
            counts: [0; Check::ALL.len()],
            notes: Vec::new(),
            rows: Vec::new(),
            groups: 0,
            files_bytes: 0,
            read_bytes: 0,
            elapsed: Duration::ZERO,
        }
    }

    pub fn is_damaged(&self) -> bool {
        self.counts.iter().any(|count| *count > 0)
    }

    pub fn find(&mut self, finding: Finding) {
        self.counts[finding.check as usize] += 1;
        match self.findings.len() < DOCTOR_FINDINGS {
            true => self.findings.push(finding),
            false => self.more_findings += 1,
        }
    }

    /// Findings that their place of origin did not tell.
    pub fn more(&mut self, check: Check, count: u64) {
        self.counts[check as usize] += count;
        self.more_findings += count;
    }

    pub fn note(&mut self, note: String) {
        if self.notes.len() < DOCTOR_FINDINGS {
            self.notes.push(note);
        }
    }

    pub fn identity(&mut self, identity: &Identity) {
        self.cluster_id = Some(identity.cluster_id.clone());
        self.node_id = Some(identity.node_id);
    }

    pub fn files(&mut self, files: &Files) {
        self.files_bytes = files.bytes;
        for (file, detail) in &files.damages {
            let check = match file.ends_with(".log") {
                true => Check::Logs,
                false => Check::Files,
            };
            self.find(Finding::new(check, detail.clone()).file(file));
        }
        self.notes.extend(files.notes.iter().cloned());
    }

    /// Whether the logs go as far as they were synced.
    pub fn logs(&mut self, files: &Files, store: &Offline) {
        let oldest = store.oldest_log().unwrap_or(0);
        // What follows the last record of a log that was made longer ahead, or used again, is no record.
        let normal = ["nothing was written here", "an older log's record follows"];
        let broken = files.logs.iter().filter(|log| log.number >= oldest);
        let torn: Vec<_> = broken
            .filter(|log| log.broken.is_some_and(|why| !normal.contains(&why)))
            .collect();
        let synced = files.synced.unwrap_or(0);
        match store.syncs() {
            Ok(found) if found >= synced => {
                for log in torn {
                    let (at, of) = (log.whole_bytes, log.file_bytes);
                    self.note(format!(
                        "{}: ends at byte {at} of {of} with a write that was not finished, nor acknowledged",
                        log.name
                    ));
                }
            }
            Ok(found) => {
                let what = format!(
                    "acknowledged data is missing: the logs end at sync {found}, and {synced} were made"
                );
                match torn.first() {
                    None => self.find(Finding::new(
                        Check::Logs,
                        format!("{what}; no log is damaged, so one is missing or was cut"),
                    )),
                    Some(log) => {
                        let why = log.broken.unwrap_or_default();
                        let mut finding =
                            Finding::new(Check::Logs, format!("{what}; {why}")).file(&log.name);
                        finding.byte = Some(log.whole_bytes);
                        self.find(finding);
                    }
                }
            }
            Err(error) => self.find(Finding::new(Check::Logs, error)),
        }
    }

    /// The database could not be opened at all.
    pub fn not_opened(&mut self, files: &Files) {
        for log in &files.logs {
            if let Some(why) = log.broken {
                let (at, of) = (log.whole_bytes, log.file_bytes);
                self.note(format!(
                    "{}: whole up to byte {at} of {of} ({why})",
                    log.name
                ));
            }
        }
        self.note(
            "the database cannot be opened: its tables and record batches were not checked".into(),
        );
    }

    pub fn tables(&mut self, whole: Result<(), String>, wrong: Vec<(String, String)>) {
        if let Err(error) = whole {
            self.find(Finding::new(Check::Tables, error));
        }
        for (file, detail) in wrong {
            self.find(Finding::new(Check::Tables, detail).file(&file));
        }
    }

    pub fn partition(&mut self, found: PartitionFound) {
        found.findings.into_iter().for_each(|f| self.find(f));
        if found.more > 0 {
            self.more(Check::Batches, found.more);
        }
        found.notes.into_iter().for_each(|note| self.note(note));
        self.rows.push(found.row);
    }

    pub fn needs_blobs(&self) -> bool {
        self.findings
            .iter()
            .any(|f| f.is_unreadable || f.check == Check::Database)
    }

    /// Names the places in blob files. A damaged record that nothing leads to does no harm.
    pub fn blobs(&mut self, damages: Vec<BlobDamage>) {
        for damage in damages {
            let hit = |(id, offset)| self.findings.iter().position(|f| f.covers(id, offset));
            let named = damage.batch.and_then(hit);
            let BlobDamage {
                file,
                byte,
                detail,
                batch,
            } = damage;
            let mut finding = Finding::new(Check::Batches, detail).file(&file);
            finding.byte = Some(byte);
            match (named, batch) {
                (Some(of), Some((_, offset))) => {
                    finding.partition = self.findings[of].partition.clone();
                    self.find(finding.at(offset, offset));
                }
                (None, Some(_)) => {
                    self.note(format!(
                        "{file} at byte {byte}: damaged, and not needed any more"
                    ));
                }
                _ => self.find(finding),
            }
        }
    }

    pub fn finish(&mut self, read_bytes: u64, elapsed: Duration) {
        self.read_bytes = read_bytes;
        self.elapsed = elapsed;
        let mut of: HashMap<PartitionId, u64> = HashMap::new();
        for (id, _) in self.findings.iter().filter_map(|f| f.partition.as_ref()) {
            *of.entry(*id).or_default() += 1;
        }
        for row in &mut self.rows {
            row.findings += of.get(&row.id).copied().unwrap_or(0);
        }
        self.rows
            .sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
        self.findings.sort_by_key(|finding| finding.check);
    }
}

/// Topic and partition number, so that partition 10 comes after 9.
fn natural(name: &str) -> (&str, u64) {
    let (topic, index) = name.rsplit_once('-').unwrap_or((name, ""));
    (topic, index.parse().unwrap_or(0))
}
