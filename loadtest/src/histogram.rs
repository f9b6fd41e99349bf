//! Latencies of many connections in one HDR histogram: microseconds, three significant digits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Report;

/// Longer waits are counted as this one, and say so by `max`.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Samples a connection keeps before it takes the lock.
const LOCAL_SAMPLES_MAX: usize = 256;

/// The histogram that all connections of a run fill.
#[derive(Clone)]
pub struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Latencies {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Latencies(Arc::new(Mutex::new(
            histogram.expect("constant bounds are valid"),
        )))
    }

    pub fn local(&self) -> LocalLatencies {
        LocalLatencies {
            shared: self.clone(),
            samples: Vec::with_capacity(LOCAL_SAMPLES_MAX),
        }
    }

    /// What was recorded so far.
    pub fn summary(&self) -> LatencySummary {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |us: u64| us as f64 / 1000.0;
        LatencySummary {
            count: histogram.len(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p95_ms: ms(histogram.value_at_quantile(0.95)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            p999_ms: ms(histogram.value_at_quantile(0.999)),
            max_ms: ms(if histogram.is_empty() {
                0
            } else {
                histogram.max()
            }),
        }
    }
}

/// One connection's share: takes the lock once per `LOCAL_SAMPLES_MAX` samples.
pub struct LocalLatencies {
    shared: Latencies,
    samples: Vec<u64>,
}

impl LocalLatencies {
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.samples.push(us.clamp(1, LATENCY_US_MAX));
        if self.samples.len() >= LOCAL_SAMPLES_MAX {
            self.flush();
        }
    }

    pub fn flush(&mut self) {
        let mut histogram = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        for us in self.samples.drain(..) {
            histogram.saturating_record(us);
        }
    }
}

impl Drop for LocalLatencies {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LatencySummary {
    pub count: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl LatencySummary {
    pub fn report(&self, report: &mut Report) {
        report.number("p50_ms", "latency p50", self.p50_ms, 3, "ms");
        report.number("p95_ms", "latency p95", self.p95_ms, 3, "ms");
        report.number("p99_ms", "latency p99", self.p99_ms, 3, "ms");
        report.number("p999_ms", "latency p99.9", self.p999_ms, 3, "ms");
        report.number("max_ms", "latency max", self.max_ms, 3, "ms");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_two_connections() {
        let latencies = Latencies::new();
        let (mut a, mut b) = (latencies.local(), latencies.local());
        for i in 1..=1000u64 {
            let target = if i % 2 == 0 { &mut a } else { &mut b };
            target.record(Duration::from_micros(i * 100));
        }
        assert!(
            latencies.summary().count < 1000,
            "some samples are still local"
        );
        drop((a, b));
        let summary = latencies.summary();
        assert_eq!(summary.count, 1000);
        let near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted * 0.002;
        assert!(near(summary.p50_ms, 50.0), "{summary:?}");
        assert!(near(summary.p95_ms, 95.0), "{summary:?}");
        assert!(near(summary.p99_ms, 99.0), "{summary:?}");
        assert!(near(summary.p999_ms, 99.9), "{summary:?}");
        assert!(near(summary.max_ms, 100.0), "{summary:?}");
    }

    #[test]
    fn extremes_are_kept_in_range() {
        let latencies = Latencies::new();
        assert_eq!(latencies.summary(), LatencySummary::default());
        let mut local = latencies.local();
        local.record(Duration::ZERO);
        local.record(Duration::from_secs(100_000));
        local.flush();
        let summary = latencies.summary();
        assert_eq!(summary.count, 2);
        assert!((summary.max_ms - 600_000.0).abs() < 600.0, "{summary:?}");
    }
}
