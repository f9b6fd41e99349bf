//! Quantiles of times over the last one to two minutes, at the price of two additions for each time.
//!
//! A time falls into one of eight buckets for each power of two, as in Tene's HdrHistogram: what is
//! told is at most an eighth too long. Two windows of a minute each take turns.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SUB_BITS: u32 = 3;
const SUB_BUCKETS: u64 = 1 << SUB_BITS;
/// Up to 2^36 us, 19 hours; what is longer counts as that.
const LONGEST_MICROS: u64 = (1 << 36) - 1;
const BUCKETS: usize = bucket(LONGEST_MICROS) + 1;
const WINDOW_SECS: u64 = 60;

/// Times of one kind.
pub struct Quantiles {
    windows: [Window; 2],
}

struct Window {
    /// Counted from the first time, from 1; 0: never used.
    minute: AtomicU64,
    counts: [AtomicU64; BUCKETS],
}

impl Quantiles {
    pub const fn new() -> Quantiles {
        Quantiles {
            windows: [const {
                Window {
                    minute: AtomicU64::new(0),
                    counts: [const { AtomicU64::new(0) }; BUCKETS],
                }
            }; 2],
        }
    }

    pub fn record(&self, took: Duration) {
        self.record_in(this_minute(), took);
    }

    /// The times, in ms, that these shares of all times were not longer than. `None` if there were none.
    pub fn millis<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        self.millis_in(this_minute(), shares)
    }

    fn record_in(&self, minute: u64, took: Duration) {
        let window = &self.windows[(minute % 2) as usize];
        let was = window.minute.load(Ordering::Relaxed);
        // Who turns the window clears it. A time that another thread records meanwhile may be lost.
        if was != minute
            && window
                .minute
                .compare_exchange(was, minute, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            for count in &window.counts {
                count.store(0, Ordering::Relaxed);
            }
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        window.counts[bucket(micros.min(LONGEST_MICROS))].fetch_add(1, Ordering::Relaxed);
    }

    fn millis_in<const N: usize>(&self, minute: u64, shares: [f64; N]) -> Option<[f64; N]> {
        let recent = |window: &&Window| {
            let of = window.minute.load(Ordering::Relaxed);
            of != 0 && of + 1 >= minute
        };
        let mut counts = vec![0; BUCKETS];
        for window in self.windows.iter().filter(recent) {
            for (sum, count) in counts.iter_mut().zip(&window.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        let total: u64 = counts.iter().sum();
        (total > 0).then(|| {
            shares.map(|share| {
                let rank = ((total as f64 * share).ceil() as u64).clamp(1, total);
                let mut seen = 0;
                let at = counts.iter().position(|count| {
                    seen += count;
                    seen >= rank
                });
                upper_micros(at.unwrap_or(BUCKETS - 1)) as f64 / 1e3
            })
        })
    }
}

fn this_minute() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs() / WINDOW_SECS + 1
}

const fn bucket(micros: u64) -> usize {
    if micros < SUB_BUCKETS {
        return micros as usize;
    }
    let shift = micros.ilog2() - SUB_BITS;
    (shift as u64 * SUB_BUCKETS + (micros >> shift)) as usize
}

/// The longest time of a bucket.
fn upper_micros(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB_BUCKETS {
        return bucket;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    (((bucket % SUB_BUCKETS) + SUB_BUCKETS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_bound_the_error() {
        for bucket_at in 0..BUCKETS {
            assert_eq!(bucket(upper_micros(bucket_at)), bucket_at);
        }
        for micros in (0..100_000).chain((100_000..LONGEST_MICROS).step_by(99_999_937)) {
            let told = upper_micros(bucket(micros));
            assert!(
                told >= micros && told - micros <= micros / SUB_BUCKETS,
                "{micros}: {told}"
            );
        }
        assert_eq!(upper_micros(BUCKETS - 1), LONGEST_MICROS);
    }

    #[test]
    fn shares_of_the_last_minutes() {
        let times = Quantiles::new();
        assert_eq!(times.millis_in(1, [0.5]), None);
        for ms in 1..=1000 {
            times.record_in(7, Duration::from_millis(ms));
        }
        let told = times.millis_in(7, [0.5, 0.99, 1.0]).unwrap();
        for (told, exact) in told.into_iter().zip([500.0, 990.0, 1000.0]) {
            assert!(told >= exact && told <= exact * 1.125, "{told} for {exact}");
        }
        times.record_in(8, Duration::MAX);
        assert!(
            times.millis_in(8, [0.5]).unwrap()[0] < 600.0,
            "both windows"
        );
        times.record_in(9, Duration::from_micros(5));
        let told = times.millis_in(9, [0.5, 1.0]).unwrap();
        assert_eq!(told[0], 0.005, "the first window has turned");
        assert_eq!(told[1], LONGEST_MICROS as f64 / 1e3);
        assert_eq!(times.millis_in(11, [0.5]), None, "long ago");
    }
}
