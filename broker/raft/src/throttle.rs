//! How fast snapshots leave this node: all transfers share one rate, whoever they go to.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes go in the order in which they asked, each as soon as those before it have had their time.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None`: no bound.
    bytes_per_second: Option<u64>,
    /// When what was asked for has had its time.
    free_at: Option<Instant>,
}

impl Throttle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no code panics while it holds a throttle")
    }

    /// For what asks from now on.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        let mut state = self.state();
        state.bytes_per_second = bytes_per_second;
        state.free_at = None;
    }

    /// When `bytes` may go; `None` is now.
    pub fn take(&self, bytes: usize) -> Option<Instant> {
        let mut state = self.state();
        let rate = state.bytes_per_second?.max(1);
        let now = Instant::now();
        let at = state.free_at.filter(|at| *at > now).unwrap_or(now);
        let micros = (bytes as u128 * 1_000_000 / u128::from(rate)) as u64;
        state.free_at = at.checked_add(Duration::from_micros(micros));
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_go_at_the_rate() {
        let throttle = Throttle::default();
        assert_eq!(throttle.take(1 << 30), None);
        throttle.set(Some(1000));
        let began = Instant::now();
        let mut waited = Vec::new();
        for _ in 0..4 {
            let at = throttle.take(500).unwrap_or(began);
            waited.push((at - began).as_millis());
        }
        assert_eq!(waited, [0, 500, 1000, 1500]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(throttle.take(1), None, "time that was not used is gone");
        assert!(throttle.take(1).is_some());
        throttle.set(None);
        assert_eq!(throttle.take(1 << 30), None);
    }
}
