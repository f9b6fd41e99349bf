//! What tests do to the files of a broker's data folder.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::broker::Broker;

/// Kills the broker and starts it as after failed storage: then it writes all that the write-ahead log
/// holds to tables and blob files.
pub async fn flush(broker: &mut Broker) {
    broker.kill9();
    let note = broker.data().join("db/storage-failed");
    fs::write(note, "a test wants files").expect("the note is written");
    broker.restart().await;
}

/// Files of a data folder's database with this in their paths, in order.
pub fn files(folder: &Path, like: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("db")).expect("a database");
    let paths = entries.map(|e| e.expect("an entry").path());
    let fits = |p: &PathBuf| p.is_file() && p.to_string_lossy().contains(like);
    let mut found: Vec<_> = paths.filter(fits).collect();
    found.sort();
    found
}

/// Makes `to` the same folder as `from`.
pub fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, target).expect("a copy")),
        }
    }
}

/// Flips a bit of the byte at `at`.
pub fn flip(file: &Path, at: u64, bit: u32) {
    let opened = OpenOptions::new().read(true).write(true).open(file);
    let opened = opened.expect("the file opens");
    let mut byte = [0];
    opened
        .read_exact_at(&mut byte, at)
        .expect("within the file");
    let flipped = [byte[0] ^ (1 << bit)];
    opened.write_all_at(&flipped, at).expect("it is written");
}

/// Cuts the file to `to` bytes.
pub fn cut(file: &Path, to: u64) {
    let opened = OpenOptions::new().write(true).open(file);
    opened
        .expect("the file opens")
        .set_len(to)
        .expect("it is cut");
}
