//! How fast compaction may go.
//!
//! It works in pieces of about a megabyte and then rests three times as long as the piece took, so that
//! a thread has at most a quarter of a core and of the disk, and less when others slow it down. On top
//! of that, `log.cleaner.io.max.bytes.per.second` bounds what all threads read and write.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use ottla_proto::limits::CLEANER_REST_FACTOR;

use super::pass::Pace;

/// Longest rest after one piece, however long it took.
const REST_MAX: Duration = Duration::from_secs(10);

/// Tells sleeping threads to stop.
#[derive(Default)]
pub struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub fn stop(&self) {
        *self.stopped.lock().expect("never poisoned") = true;
        self.changed.notify_all();
    }

    /// Sleeps; true if it is time to stop.
    pub fn sleep(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().expect("never poisoned");
        let waited = self
            .changed
            .wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.expect("never poisoned").0
    }
}

/// The pace of one thread.
pub struct Pacer<'a> {
    stop: &'a Stop,
    bytes_per_second: f64,
    since: Instant,
}

impl<'a> Pacer<'a> {
    /// `bytes_per_second` is this thread's share.
    pub fn new(stop: &'a Stop, bytes_per_second: f64) -> Pacer<'a> {
        Pacer {
            stop,
            bytes_per_second: bytes_per_second.max(1.0),
            since: Instant::now(),
        }
    }
}

/// How long to rest after a piece of work.
fn rest(worked: Duration, bytes: u64, bytes_per_second: f64) -> Duration {
    let least = Duration::try_from_secs_f64(bytes as f64 / bytes_per_second).unwrap_or(REST_MAX);
    let by_bytes = least.saturating_sub(worked);
    worked
        .saturating_mul(CLEANER_REST_FACTOR)
        .min(REST_MAX)
        .max(by_bytes)
}

impl Pace for Pacer<'_> {
    fn worked(&mut self, bytes: u64) -> bool {
        let rest = rest(self.since.elapsed(), bytes, self.bytes_per_second);
        let stopped = self.stop.sleep(rest);
        self.since = Instant::now();
        !stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_as_long_as_time_and_bytes_ask() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(4), 1 << 20, f64::MAX), ms(12));
        assert_eq!(rest(ms(100), 1000, 1000.0), ms(900));
        assert_eq!(rest(ms(60_000), 1, f64::MAX), REST_MAX);
        assert_eq!(
            rest(ms(1), u64::MAX, 1e-300),
            REST_MAX - Duration::from_millis(1)
        );
    }

    #[test]
    fn who_sleeps_is_woken_to_stop() {
        let stop = Stop::default();
        assert!(!stop.sleep(Duration::ZERO));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| stop.sleep(Duration::from_secs(3600)));
            stop.stop();
            assert!(sleeper.join().expect("it ended"));
        });
        assert!(!Pacer::new(&stop, f64::MAX).worked(1));
    }
}
