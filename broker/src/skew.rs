//! How far this broker's clock is from the active controller's, which each heartbeat's answer tells.

use std::time::Duration;

/// An answer that came `took` after it was asked for: `own_ms` is this clock as it came, `told_ms` the
/// controller's as it was sent (0: not told). Both in ms since the epoch.
pub fn note(own_ms: i64, told_ms: i64, took: Duration) {
    if told_ms > 0 {
        metrics::gauge!("ottla_clock_skew_ms").set(certain_ms(own_ms, told_ms, took) as f64);
    }
}

/// The least that the clocks differ by, whenever within `took` the answer was sent; above 0: this one is ahead.
fn certain_ms(own_ms: i64, told_ms: i64, took: Duration) -> i64 {
    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let most = own_ms.saturating_sub(told_ms);
    let least = most.saturating_sub(took_ms.saturating_add(1));
    // Clocks that agree are between the two.
    most.min(0) + least.max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_way_does_not_explain_is_told() {
        let took = Duration::from_millis(100);
        for (own_ms, told_ms, expected) in [
            (5000, 5000, 0),
            (5000, 4950, 0),
            (5000, 4899, 0),
            (5000, 4000, 899),
            (5000, 5001, -1),
            (5000, 9000, -4000),
            (i64::MIN, 1, i64::MIN),
            (i64::MAX, 1, i64::MAX - 102),
        ] {
            let told = certain_ms(own_ms, told_ms, took);
            assert_eq!(told, expected, "{own_ms} beside {told_ms}");
        }
        assert_eq!(certain_ms(1, 1, Duration::MAX), 0);
    }
}
