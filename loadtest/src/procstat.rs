//! CPU seconds and memory of processes, from /proc. Nothing is estimated: CPU is what the kernel
//! charged (`utime + stime`, all threads, in ticks of 10 ms), memory is `VmRSS`.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{LoadError, Result};

/// `USER_HZ`: the unit of /proc times, 100 on every Linux that Rust's tier-1 targets run on.
const TICKS_PER_SECOND: f64 = 100.0;
const MEMORY_SAMPLE_INTERVAL_MS: u64 = 200;

/// CPU seconds (user + system) a process has used since it started.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|cause| no_process(pid, cause))?;
    parse_cpu_seconds(&text).ok_or_else(|| unreadable(&path))
}

pub fn cpu_seconds_of_all(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| cpu_seconds(*pid)).sum()
}

/// Resident bytes of a process.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|cause| no_process(pid, cause))?;
    parse_status_bytes(&text, "VmRSS:").ok_or_else(|| unreadable(&path))
}

pub fn rss_bytes_of_all(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| rss_bytes(*pid)).sum()
}

/// Bytes that processes have given to block devices, from /proc/PID/io: what they wrote past the page
/// cache, and what they made dirty in it.
pub fn device_write_bytes(pids: &[u32]) -> Result<u64> {
    let bytes = |pid: &u32| {
        let path = format!("/proc/{pid}/io");
        let text = fs::read_to_string(&path).map_err(|cause| no_process(*pid, cause))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes:"));
        line.and_then(|rest| rest.trim().parse::<u64>().ok())
            .ok_or_else(|| unreadable(&path))
    };
    pids.iter().map(bytes).sum()
}

/// CPU seconds the whole machine was busy (all but idle and iowait) since it booted.
pub fn machine_busy_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")
        .map_err(|cause| LoadError::system("cannot read /proc/stat", cause))?;
    parse_busy_seconds(&text).ok_or_else(|| unreadable("/proc/stat"))
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

fn no_process(pid: u32, cause: io::Error) -> LoadError {
    LoadError::system(
        format!("process {pid} (--pid) cannot be read, has it ended?"),
        cause,
    )
}

fn unreadable(path: &str) -> LoadError {
    LoadError::system(path, io::Error::from(io::ErrorKind::InvalidData))
}

/// Fields 14 and 15 of /proc/PID/stat. The second field is the command in parentheses and may hold
/// spaces and parentheses itself, so counting starts after the last one.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn parse_status_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The first line of /proc/stat: user nice system idle iowait irq softirq steal ...
fn parse_busy_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map(|t| t.parse().ok())
        .collect::<Option<_>>()?;
    if ticks.len() < 8 {
        return None;
    }
    Some((ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) as f64 / TICKS_PER_SECOND)
}

/// CPU at one moment: of the brokers, of this process, of the machine.
#[derive(Clone, Copy, Debug)]
pub struct CpuSample {
    pub at: Instant,
    pub brokers_s: f64,
    pub own_s: f64,
    pub machine_s: f64,
}

impl CpuSample {
    pub fn take(pids: &[u32]) -> Result<Self> {
        Ok(CpuSample {
            at: Instant::now(),
            brokers_s: cpu_seconds_of_all(pids)?,
            own_s: cpu_seconds(std::process::id())?,
            machine_s: machine_busy_seconds()?,
        })
    }

    /// What was used between `earlier` and this sample.
    pub fn since(&self, earlier: &CpuSample) -> CpuUsage {
        CpuUsage {
            wall_s: self.at.duration_since(earlier.at).as_secs_f64(),
            brokers_s: self.brokers_s - earlier.brokers_s,
            own_s: self.own_s - earlier.own_s,
            machine_s: self.machine_s - earlier.machine_s,
        }
    }
}

/// CPU seconds over a stretch of wall-clock time.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuUsage {
    pub wall_s: f64,
    pub brokers_s: f64,
    pub own_s: f64,
    pub machine_s: f64,
}

/// Watches the summed resident memory of processes from a thread of its own, until dropped.
pub struct MemoryWatch {
    peak_bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl MemoryWatch {
    pub fn start(pids: &[u32]) -> Self {
        let watch = MemoryWatch {
            peak_bytes: Arc::default(),
            stop: Arc::default(),
        };
        let (peak, stop, pids) = (watch.peak_bytes.clone(), watch.stop.clone(), pids.to_vec());
        if !pids.is_empty() {
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // A process that has ended is reported by the CPU samples.
                    let Ok(rss) = rss_bytes_of_all(&pids) else {
                        return;
                    };
                    peak.fetch_max(rss, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(MEMORY_SAMPLE_INTERVAL_MS));
                }
            });
        }
        watch
    }

    /// The highest sum seen so far; 0 if nothing is watched.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_of_a_command_with_parentheses() {
        let stat = "1234 (a b) c) S 1 1234 1234 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 9 0 1 2 3";
        assert_eq!(parse_cpu_seconds(stat), Some(3.0));
        assert_eq!(parse_cpu_seconds("1234 (x) S 1 2"), None);
        assert_eq!(parse_cpu_seconds("nothing"), None);
        assert_eq!(
            parse_cpu_seconds("1 (x) S 1 1 1 0 -1 4 1 0 0 0 abc 50"),
            None
        );
    }

    #[test]
    fn memory_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  512 kB\n";
        assert_eq!(parse_status_bytes(status, "VmRSS:"), Some(512 * 1024));
        assert_eq!(parse_status_bytes(status, "VmHWM:"), Some(900 * 1024));
        assert_eq!(parse_status_bytes(status, "RssAnon:"), None);
    }

    #[test]
    fn machine_time_leaves_out_idle_iowait_and_steal() {
        let stat = "cpu  100 20 30 9999 8888 40 10 7777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_busy_seconds(stat), Some(2.0));
        assert_eq!(parse_busy_seconds("cpu  1 2 3\n"), None);
    }

    #[test]
    fn this_process_uses_what_it_burns() {
        let pid = std::process::id();
        let before = CpuSample::take(&[pid]).unwrap();
        let until = Instant::now() + Duration::from_millis(200);
        let mut x = 1u64;
        while Instant::now() < until {
            x = std::hint::black_box(x.wrapping_mul(31));
        }
        let used = CpuSample::take(&[pid]).unwrap().since(&before);
        assert!(used.wall_s >= 0.2);
        assert!(
            used.own_s > 0.0 && used.brokers_s > 0.0 && used.machine_s > 0.0,
            "{used:?}"
        );
        assert!(rss_bytes(pid).unwrap() > 100_000);
    }

    #[test]
    fn a_missing_process_is_an_error_that_names_it() {
        let error = cpu_seconds(u32::MAX).unwrap_err().to_string();
        assert!(
            error.contains("4294967295") && error.contains("--pid"),
            "{error}"
        );
    }
}
