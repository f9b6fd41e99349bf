//! What the pure core leaves to the caller: the clock, files, the environment.

use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ottla_connect::config::files::MAX_FILE_BYTES;
use ottla_connect::config::providers::Lookup;

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// A text file, if it is no longer than a configuration can be.
pub fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    let read = std::fs::File::open(path).and_then(|f| f.take(limit).read_to_string(&mut text));
    read.map_err(|e| e.to_string())?;
    if text.len() > MAX_FILE_BYTES {
        return Err(format!("longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}

/// Where config providers look.
pub struct System;

impl Lookup for System {
    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        read_text(Path::new(path))
    }
}
