//! Wakes open-loop producers when their next request is due. A thread of its own, because the
//! runtime's timers are good to a millisecond only, which would show in every latency.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

/// No request is waited for.
const NEVER: u64 = u64::MAX;
const SLEEP_US_MAX: u64 = 100_000;
/// Due times closer than this are released together: one wake-up for several requests.
const SLEEP_US_MIN: u64 = 50;

/// Until when the pacing thread sleeps, and how to wake it for an earlier due time.
struct Alarm {
    start: Instant,
    /// Nanoseconds since `start`; 0 while the thread is awake.
    asleep_until_ns: AtomicU64,
    thread: OnceLock<Thread>,
}

/// Makes gates and, once started, wakes them.
pub struct Pacer(Arc<Alarm>);

/// What holds one producing connection back: requests in flight, and due times.
pub struct Gate {
    pub permits: Semaphore,
    wake: Notify,
    /// Nanoseconds since the run's start, or `NEVER`.
    next_due_ns: AtomicU64,
    /// From one due time to the next.
    interval_ns: u64,
    closed: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Gate {
    /// Nothing more is to be sent.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.permits.close();
        self.wake.notify_one();
        self.alarm.ring();
    }

    /// Waits until `due`; `false` once closed.
    pub async fn wait_until(&self, due: Instant) -> bool {
        while !self.closed.load(Ordering::Acquire) {
            if Instant::now() >= due {
                return true;
            }
            let due_ns = due.saturating_duration_since(self.alarm.start).as_nanos();
            let due_ns = u64::try_from(due_ns).unwrap_or(NEVER - 1);
            self.next_due_ns.store(due_ns, Ordering::SeqCst);
            if due_ns < self.alarm.asleep_until_ns.load(Ordering::SeqCst) {
                self.alarm.ring();
            }
            self.wake.notified().await;
        }
        false
    }

    /// Wakes the connection if it is due at `now_ns`; when to look again.
    fn release(&self, now_ns: u64) -> u64 {
        let due_ns = self.next_due_ns.load(Ordering::SeqCst);
        if due_ns > now_ns {
            return due_ns;
        }
        self.next_due_ns.store(NEVER, Ordering::SeqCst);
        self.wake.notify_one();
        due_ns.saturating_add(self.interval_ns)
    }
}

impl Alarm {
    fn ring(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

impl Pacer {
    pub fn new(start: Instant) -> Self {
        let (asleep_until_ns, thread) = (AtomicU64::new(0), OnceLock::new());
        Pacer(Arc::new(Alarm {
            start,
            asleep_until_ns,
            thread,
        }))
    }

    pub fn gate(&self, in_flight: usize, interval: Option<Duration>) -> Arc<Gate> {
        Arc::new(Gate {
            permits: Semaphore::new(in_flight),
            wake: Notify::new(),
            next_due_ns: AtomicU64::new(NEVER),
            interval_ns: interval.map_or(NEVER, |interval| interval.as_nanos() as u64),
            closed: AtomicBool::new(false),
            alarm: self.0.clone(),
        })
    }

    /// Runs until every gate is closed.
    pub fn spawn(self, gates: Vec<Arc<Gate>>) {
        let alarm = self.0;
        thread::spawn(move || {
            let _ = alarm.thread.set(thread::current());
            while gates
                .iter()
                .any(|gate| !gate.closed.load(Ordering::Acquire))
            {
                let scan = || {
                    let now_ns = alarm.now_ns();
                    gates
                        .iter()
                        .map(|gate| gate.release(now_ns))
                        .min()
                        .unwrap_or(NEVER)
                };
                let next_ns = scan();
                alarm.asleep_until_ns.store(next_ns, Ordering::SeqCst);
                // Whoever became due before it could see that an alarm is needed is found here.
                let next_ns = next_ns.min(scan());
                let wait_us = next_ns.saturating_sub(alarm.now_ns()) / 1000;
                let wait_us = wait_us.clamp(SLEEP_US_MIN, SLEEP_US_MAX);
                thread::park_timeout(Duration::from_micros(wait_us));
                alarm.asleep_until_ns.store(0, Ordering::SeqCst);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_when_due_and_when_closed() {
        let start = Instant::now();
        let pacer = Pacer::new(start);
        let gate = pacer.gate(1, Some(Duration::from_millis(3)));
        pacer.spawn(vec![gate.clone()]);
        for n in 1..=5 {
            let due = start + Duration::from_millis(3 * n);
            assert!(gate.wait_until(due).await);
            assert!(Instant::now() >= due);
        }
        let far = start + Duration::from_secs(3600);
        let closer = gate.clone();
        let waiter = tokio::spawn(async move { gate.wait_until(far).await });
        closer.close();
        assert!(!waiter.await.unwrap());
    }
}
