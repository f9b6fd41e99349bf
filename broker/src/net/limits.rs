//! How many connections there may be: in all, and from one address (`max.connections`,
//! `max.connections.per.ip`, KIP-402, KIP-612).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

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

#[cfg(test)]
mod tests {
    use super::*;

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
