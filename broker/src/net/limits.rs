//! How many connections there may be: in all, from one address, and new ones in a second
//! (`max.connections`, `max.connections.per.ip`, `max.connection.creation.rate`; KIP-402, KIP-612).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Counts {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

#[derive(Default)]
pub struct ConnectionLimits(Mutex<Counts>);

/// A place that one connection takes; dropping it gives the place back.
pub struct Place {
    limits: Arc<ConnectionLimits>,
    address: IpAddr,
}

impl ConnectionLimits {
    /// A place, if neither bound is reached.
    pub fn take(
        self: &Arc<Self>,
        address: IpAddr,
        max: u32,
        max_per_address: u32,
    ) -> Option<Place> {
        let mut counts = self.0.lock().expect("no code panics while it counts");
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.total >= max || here >= max_per_address {
            return None;
        }
        counts.total += 1;
        counts.by_address.insert(address, here + 1);
        Some(Place {
            limits: self.clone(),
            address,
        })
    }

    pub fn total(&self) -> u32 {
        self.0.lock().expect("no code panics while it counts").total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .limits
            .0
            .lock()
            .expect("no code panics while it counts");
        counts.total -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// A token bucket of one second's worth of connections.
pub struct CreationRate(Mutex<Bucket>);

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl CreationRate {
    /// A bucket that starts full, whatever the rate.
    pub fn new(now: Instant) -> CreationRate {
        CreationRate(Mutex::new(Bucket {
            tokens: f64::INFINITY,
            filled: now,
        }))
    }

    /// Lets one connection through, or says how long to wait before asking again. The rate may be
    /// another each time; 0 lets nobody through.
    pub fn take(&self, per_second: u32, now: Instant) -> Result<(), Duration> {
        let rate = f64::from(per_second);
        let mut bucket = self.0.lock().expect("no code panics while it counts");
        let elapsed = now.saturating_duration_since(bucket.filled);
        bucket.filled = bucket.filled.max(now);
        bucket.tokens = (bucket.tokens + elapsed.as_secs_f64() * rate).min(rate);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - bucket.tokens) / rate;
        // The rate may change meanwhile.
        Err(Duration::from_secs_f64(seconds.clamp(0.001, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_through_its_rate() {
        let start = Instant::now();
        let rate = CreationRate::new(start);
        let let_through = |per_second, at_ms| {
            let now = start + Duration::from_millis(at_ms);
            (0..100)
                .take_while(|_| rate.take(per_second, now).is_ok())
                .count()
        };
        assert_eq!(let_through(10, 0), 10);
        assert_eq!(let_through(10, 0), 0);
        let wait = rate.take(10, start).unwrap_err();
        assert!(wait.abs_diff(Duration::from_millis(100)) < Duration::from_millis(2));
        assert_eq!(let_through(10, 500), 5);
        assert_eq!(let_through(10, 60_000), 10, "what was not used is lost");
        assert_eq!(let_through(0, 120_000), 0);
        let wait = rate.take(0, start + Duration::from_secs(120));
        assert_eq!(wait, Err(Duration::from_secs(1)));
        assert_eq!(let_through(20, 120_500), 10, "a new rate holds at once");
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let limits = Arc::new(ConnectionLimits::default());
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = limits.take(a, 3, 2).unwrap();
        let _second = limits.take(a, 3, 2).unwrap();
        assert!(limits.take(a, 3, 2).is_none(), "two per address");
        let _third = limits.take(b, 3, 2).unwrap();
        assert!(limits.take(b, 3, 2).is_none(), "three in all");
        drop(first);
        assert_eq!(limits.total(), 2);
        assert!(limits.take(a, 3, 2).is_some());
    }
}
