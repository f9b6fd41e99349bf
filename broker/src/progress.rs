//! How far it is: one line on a terminal, nothing elsewhere.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(200);
const BAR: usize = 30;

pub struct Progress {
    shown: bool,
    began: Instant,
    read: AtomicU64,
    expected: AtomicU64,
    drawn: Mutex<Instant>,
}

impl Progress {
    pub fn new(shown: bool) -> Progress {
        let now = Instant::now();
        Progress {
            shown,
            began: now,
            read: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            drawn: Mutex::new(now),
        }
    }

    /// So many bytes more are to be read.
    pub fn expect(&self, bytes: u64) {
        self.expected
            .fetch_add(self.bytes() + bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub fn read(&self, bytes: u64) {
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.shown
            && let Ok(mut drawn) = self.drawn.try_lock()
            && drawn.elapsed() >= REDRAW
        {
            *drawn = Instant::now();
            let expected = self.expected.load(Ordering::Relaxed);
            let line = line(read, expected, self.began.elapsed());
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    }

    pub fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl ottla_connect_worker::audit::Meter for Progress {
    fn expect(&self, bytes: u64) {
        Progress::expect(self, bytes);
    }

    fn read(&self, bytes: u64) {
        Progress::read(self, bytes);
    }

    fn clear(&self) {
        Progress::clear(self);
    }
}

fn line(read: u64, expected: u64, elapsed: Duration) -> String {
    let rate = read as f64 / elapsed.as_secs_f64().max(0.001);
    let speed = format!("{} at {:.0} MB/s", size(read), rate / 1e6);
    if expected == 0 || read >= expected {
        return speed;
    }
    let done = BAR * (read as f64 / expected as f64 * 100.0) as usize / 100;
    let left = (expected - read) as f64 / rate.max(1.0);
    format!(
        "[{}{}] {speed} of {}, {} left",
        "#".repeat(done),
        "-".repeat(BAR - done),
        size(expected),
        time(left as u64)
    )
}

fn time(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..=9_999_999_999 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long() {
        let line = line(500_000_000, 1_000_000_000, Duration::from_secs(1));
        assert_eq!(
            line,
            "[###############---------------] 500.0 MB at 500 MB/s of 1000.0 MB, 1 s left"
        );
        assert_eq!(
            (time(75), time(7260)),
            ("1 min 15 s".into(), "2 h 1 min".into())
        );
    }
}
