//! A clock that is wrong: `tests/faults/clock.c`, loaded into a process and controlled through a file that
//! both map.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::disk::compiled;

/// The time of day of the processes that are started with it.
pub struct Clock {
    control: File,
    folder: tempfile::TempDir,
}

impl Clock {
    /// A good clock, until told otherwise.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Clock {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let control = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join("clock"))
            .expect("the control file is made");
        control.set_len(8).expect("a length");
        Clock { control, folder }
    }

    /// The library, and what tells it of this clock.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: &std::path::Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(compiled_library())),
            (
                "OTTLA_CLOCK_CONTROL",
                text(&self.folder.path().join("clock")),
            ),
        ]
    }

    /// From now on the time of day is this much ahead of the true one, or behind it.
    pub fn set_off_ms(&self, off_ms: i64) {
        let written = self.control.write_all_at(&off_ms.to_ne_bytes(), 0);
        written.expect("the control file is written");
    }
}

fn compiled_library() -> &'static std::path::Path {
    static LIBRARY: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    LIBRARY.get_or_init(|| compiled("clock.c", "clock.so", &["-shared", "-fPIC"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `date` of the C library's programs reads the same clock as a broker.
    fn seconds(clock: &Clock) -> i64 {
        let date = std::process::Command::new("date")
            .arg("+%s")
            .envs(clock.environment())
            .output()
            .expect("date runs");
        let text = String::from_utf8_lossy(&date.stdout);
        text.trim().parse().expect("a number of seconds")
    }

    #[test]
    fn a_clock_is_off() {
        let clock = Clock::new();
        let now = seconds(&clock);
        for off in [3_600_000, -7_200_000, 86_400_500] {
            clock.set_off_ms(off);
            let shown = seconds(&clock) - now;
            assert!(
                (off / 1000 - 1..off / 1000 + 60).contains(&shown),
                "{shown} s for {off} ms"
            );
        }
    }
}
