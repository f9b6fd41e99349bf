//! Wakes open-loop producers when their next request is due. A thread of its own, because the
//! runtime's timers are good to a millisecond only, which would show in every latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

/// No request is waited for.
const NEVER: u64 = u64::MAX;
const SLEEP_US_MAX: u64 = 500;
/// Due times closer than this are released together: one wake-up for several requests.
const SLEEP_US_MIN: u64 = 50;

/// What holds one producing connection back: requests in flight, and due times.
pub struct Gate {
    pub permits: Semaphore,
    wake: Notify,
    /// Nanoseconds since the run's start, or `NEVER`.
    next_due_ns: AtomicU64,
    /// From one due time to the next.
    interval_ns: u64,
    closed: AtomicBool,
}

impl Gate {
    pub fn new(in_flight: usize, interval: Option<Duration>) -> Self {
        Gate {
            permits: Semaphore::new(in_flight),
            wake: Notify::new(),
            next_due_ns: AtomicU64::new(NEVER),
            interval_ns: interval.map_or(NEVER, |interval| interval.as_nanos() as u64),
            closed: AtomicBool::new(false),
        }
    }

    /// Nothing more is to be sent.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.permits.close();
        self.wake.notify_one();
    }

    /// Waits until `due`; `false` once closed.
    pub async fn wait_until(&self, start: Instant, due: Instant) -> bool {
        while !self.closed.load(Ordering::Acquire) {
            if Instant::now() >= due {
                return true;
            }
            let due_ns = due.saturating_duration_since(start).as_nanos();
            self.next_due_ns.store(u64::try_from(due_ns).unwrap_or(NEVER - 1), Ordering::Release);
            self.wake.notified().await;
        }
        false
    }
}

/// Runs until every gate is closed.
pub fn spawn(start: Instant, gates: Vec<Arc<Gate>>) {
    thread::spawn(move || {
        while gates.iter().any(|gate| !gate.closed.load(Ordering::Acquire)) {
            let now_ns = start.elapsed().as_nanos() as u64;
            let mut next_ns = NEVER;
            for gate in &gates {
                let mut due_ns = gate.next_due_ns.load(Ordering::Acquire);
                if due_ns <= now_ns {
                    gate.next_due_ns.store(NEVER, Ordering::Release);
                    gate.wake.notify_one();
                    due_ns = due_ns.saturating_add(gate.interval_ns);
                }
                next_ns = next_ns.min(due_ns);
            }
            let wait_us = next_ns.saturating_sub(now_ns) / 1000;
            thread::sleep(Duration::from_micros(wait_us.clamp(SLEEP_US_MIN, SLEEP_US_MAX)));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_when_due_and_when_closed() {
        let gate = Arc::new(Gate::new(1, Some(Duration::from_millis(3))));
        let start = Instant::now();
        spawn(start, vec![gate.clone()]);
        for n in 1..=5 {
            let due = start + Duration::from_millis(3 * n);
            assert!(gate.wait_until(start, due).await);
            assert!(Instant::now() >= due);
        }
        let far = start + Duration::from_secs(3600);
        let closer = gate.clone();
        let waiter = tokio::spawn(async move { gate.wait_until(start, far).await });
        closer.close();
        assert!(!waiter.await.unwrap());
    }
}
