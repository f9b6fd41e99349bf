//! When to try again.

use super::ErrorPolicy;

/// The first pause (Kafka Connect's number); each one after it is twice as long.
const FIRST_DELAY_MS: i64 = 300;

/// The tries of one operation on one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    started_ms: i64,
    failed: u32,
}

impl Attempts {
    pub fn start(now_ms: i64) -> Attempts {
        Attempts {
            started_ms: now_ms,
            failed: 0,
        }
    }

    /// How many tries have failed.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Counts a try that failed: the pause before the next, or `None` if time is up. Above the longest
    /// pause, a random part of it, so that tasks that failed together do not come back together.
    pub(super) fn next_delay_ms(
        &mut self,
        policy: &ErrorPolicy,
        now_ms: i64,
        chance: f64,
    ) -> Option<i64> {
        self.failed += 1;
        let timeout = policy.retry_timeout_ms;
        let elapsed = now_ms.saturating_sub(self.started_ms);
        if timeout >= 0 && elapsed >= timeout {
            return None;
        }
        let doublings = self.failed - 1;
        let mut delay = 1_i64
            .checked_shl(doublings.min(40))
            .map_or(i64::MAX, |factor| FIRST_DELAY_MS.saturating_mul(factor));
        if delay > policy.retry_delay_max_ms {
            delay = (policy.retry_delay_max_ms as f64 * chance.clamp(0.0, 1.0)) as i64;
        }
        if timeout >= 0 {
            delay = delay.min(timeout - elapsed);
        }
        Some(delay)
    }
}
