//! How far the store is known to be synced, kept outside RocksDB: in the file `durable`.
//!
//! After a crash RocksDB replays its write-ahead log up to the first record that is not whole, and
//! takes that for the end. A torn end is normal, and was never acknowledged. But a damaged or
//! missing record in the middle looks the same, and everything behind it would be dropped without
//! a word. So each sync writes a rising number with its data ([`Tag::Synced`](crate::Tag::Synced)),
//! and once the sync has succeeded that number goes into this file. A start that finds a lower
//! number in the database than in the file knows that acknowledged data is missing.
//!
//! The file is written by `pwrite` after each sync, which a crash of the process does not lose,
//! and synced about once a second: a loss of power may set it back, never ahead of the data.
//! The manifest, which says which files make up the database, is watched in the same way: how long
//! it was when it was last seen to be whole, and synced.
//!
//! Layout: two slots of 512 bytes, written in turn, so that a torn write leaves the other; a slot
//! is magic, number of syncs, number of the manifest and its length (u64 each, big endian), and a
//! CRC-32C of these.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const FILE: &str = "durable";
const MAGIC: u64 = u64::from_be_bytes(*b"OTTLADUR");
const SLOT_BYTES: u64 = 512;
const FIELDS_BYTES: usize = 32;

/// What is known to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub syncs: u64,
    pub manifest: u64,
    pub manifest_bytes: u64,
}

pub(crate) struct Durable {
    path: PathBuf,
    file: File,
    /// The newest mark, and how many were written: which slot is next.
    last: Mutex<(Mark, u64)>,
}

/// Reads the file without changing it: the newest whole mark, or none where there is no file. `Err` in
/// the inner result: there is a file, and no mark in it is whole.
pub(crate) fn read(folder: &Path) -> io::Result<Result<Option<Mark>, PathBuf>> {
    let path = folder.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
        Err(e) => return Err(e),
    };
    let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
    let newest = slots.into_iter().flatten().max_by_key(|mark| mark.syncs);
    match newest.is_none() && file.metadata()?.len() > 0 {
        true => Ok(Err(path)),
        false => Ok(Ok(newest)),
    }
}

impl Durable {
    /// Opens the file, or makes it with nothing known.
    pub(crate) fn open(folder: &Path) -> io::Result<Durable> {
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
        let newest = slots.iter().flatten().max_by_key(|mark| mark.syncs);
        let mark = newest.copied().unwrap_or_default();
        if newest.is_none() && file.metadata()?.len() > 0 {
            tracing::warn!(file = %path.display(), "damaged: it cannot tell whether synced data is missing");
        }
        // The slot that is not the newest is written next.
        let next = u64::from(newest.is_some() && slots[0] == Some(mark));
        let last = Mutex::new((mark, next));
        Ok(Durable { path, file, last })
    }

    pub(crate) fn mark(&self) -> Mark {
        self.lock().0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Mark, u64)> {
        self.last
            .lock()
            .expect("no code panics while it holds the mark")
    }

    /// Writes a changed mark; it is on disk after [`Durable::sync`].
    pub(crate) fn set(&self, change: impl FnOnce(&mut Mark)) -> io::Result<()> {
        let mut last = self.lock();
        let (mark, writes) = &mut *last;
        change(mark);
        let slot = *writes % 2;
        *writes += 1;
        self.file
            .write_all_at(&encode(mark), slot * SLOT_BYTES)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.path.display())))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(mark: &Mark) -> [u8; FIELDS_BYTES + 4] {
    let mut slot = [0; FIELDS_BYTES + 4];
    let fields = [MAGIC, mark.syncs, mark.manifest, mark.manifest_bytes];
    for (place, field) in slot.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_be_bytes());
    }
    let crc = crc32c::crc32c(&slot[..FIELDS_BYTES]);
    slot[FIELDS_BYTES..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn read_slot(file: &File, slot: u64) -> io::Result<Option<Mark>> {
    let mut bytes = [0; FIELDS_BYTES + 4];
    match file.read_exact_at(&mut bytes, slot * SLOT_BYTES) {
        Ok(()) => Ok(decode(&bytes)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

fn decode(slot: &[u8; FIELDS_BYTES + 4]) -> Option<Mark> {
    let (fields, crc) = slot.split_at(FIELDS_BYTES);
    let number = |at: usize| Some(u64::from_be_bytes(fields[at..at + 8].try_into().ok()?));
    let good = crc32c::crc32c(fields).to_be_bytes() == crc && number(0)? == MAGIC;
    good.then_some(Mark {
        syncs: number(8)?,
        manifest: number(16)?,
        manifest_bytes: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_slot_counts() {
        let folder = tempfile::tempdir().unwrap();
        let durable = Durable::open(folder.path()).unwrap();
        assert_eq!(durable.mark(), Mark::default());
        for syncs in 1..=9 {
            durable.set(|m| m.syncs = syncs).unwrap();
            assert_eq!(Durable::open(folder.path()).unwrap().mark().syncs, syncs);
        }
        // Each flipped bit costs the slot it is in: the newest, or the one before.
        let path = folder.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        for slot in 0..2 {
            for bit in 0..(FIELDS_BYTES + 4) * 8 {
                let mut bad = good.clone();
                bad[slot * SLOT_BYTES as usize + bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, &bad).unwrap();
                let left = Durable::open(folder.path()).unwrap().mark().syncs;
                assert!(left == 8 || left == 9, "bit {bit} of slot {slot}: {left}");
            }
        }
        std::fs::write(&path, vec![0; good.len()]).unwrap();
        assert_eq!(
            Durable::open(folder.path()).unwrap().mark(),
            Mark::default()
        );
    }

    #[test]
    fn a_reopened_file_spares_its_newest_slot() {
        let folder = tempfile::tempdir().unwrap();
        for syncs in 1..20 {
            let durable = Durable::open(folder.path()).unwrap();
            let before = [
                read_slot(&durable.file, 0).unwrap(),
                read_slot(&durable.file, 1).unwrap(),
            ];
            durable.set(|m| m.syncs = syncs).unwrap();
            let after = [
                read_slot(&durable.file, 0).unwrap(),
                read_slot(&durable.file, 1).unwrap(),
            ];
            let newest = before.iter().flatten().max_by_key(|m| m.syncs).copied();
            assert!(newest.is_none() || after.contains(&newest), "{syncs}");
        }
    }
}
