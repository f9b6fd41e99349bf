//! The bytes of an object that is not written yet: in memory, or in a spool file where there are too many.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Its share of the worker's budget is given back when it is dropped, and its file goes with it.
pub struct Buffer {
    memory: Vec<u8>,
    /// What of the budget it has taken.
    taken: usize,
    file: Option<PathBuf>,
    spooled: u64,
    held: Arc<AtomicUsize>,
}

impl Buffer {
    pub fn new(held: Arc<AtomicUsize>) -> Buffer {
        Buffer {
            memory: Vec::new(),
            taken: 0,
            file: None,
            spooled: 0,
            held,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
        self.account();
    }

    fn account(&mut self) {
        let now = self.memory.capacity();
        if now >= self.taken {
            self.held.fetch_add(now - self.taken, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(self.taken - now, Ordering::Relaxed);
        }
        self.taken = now;
    }

    pub fn memory_bytes(&self) -> usize {
        self.taken
    }

    /// Moves what is in memory to the end of its file. The file is open only meanwhile: ten thousand
    /// outputs must not hold ten thousand files open.
    pub fn spool(&mut self, dir: &Path) -> io::Result<()> {
        let mut file = match &self.file {
            Some(path) => OpenOptions::new().append(true).open(path)?,
            None => {
                let path = spool_path(dir);
                let file = OpenOptions::new()
                    .create_new(true)
                    .append(true)
                    .open(&path)?;
                self.file = Some(path);
                file
            }
        };
        file.write_all(&self.memory)?;
        self.spooled += self.memory.len() as u64;
        self.memory = Vec::new();
        self.account();
        Ok(())
    }

    /// All of it.
    pub fn bytes(mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        if let Some(path) = &self.file {
            all.reserve(self.spooled as usize + self.memory.len());
            File::open(path)?.take(self.spooled).read_to_end(&mut all)?;
            if all.len() as u64 != self.spooled {
                return Err(io::Error::other(
                    "the spool file is shorter than what was written",
                ));
            }
        }
        all.append(&mut self.memory);
        Ok(all)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.held.fetch_sub(self.taken, Ordering::Relaxed);
        if let Some(path) = &self.file {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn spool_path(dir: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!("{}-{number}.spool", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_file_are_one_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let held = Arc::new(AtomicUsize::new(0));
        let mut buffer = Buffer::new(held.clone());
        buffer.push(b"one ");
        buffer.spool(dir.path()).unwrap();
        assert_eq!(held.load(Ordering::Relaxed), 0);
        buffer.push(b"two ");
        buffer.spool(dir.path()).unwrap();
        buffer.push(b"three");
        assert!(held.load(Ordering::Relaxed) >= 5);
        assert_eq!(buffer.bytes().unwrap(), b"one two three");
        assert_eq!(held.load(Ordering::Relaxed), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
