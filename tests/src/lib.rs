//! What the end-to-end and fault tests are made of: a broker process that can be killed, a small
//! client that speaks the Kafka protocol and nothing else, a history of what clients saw, and a
//! checker that reads the history afterwards. See README.md.

pub mod batch;
pub mod broker;
pub mod checker;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod damage;
pub mod disk;
pub mod history;
pub mod http;
pub mod lies;
pub mod load;
pub mod network;
pub mod places;
pub mod producer;
pub mod prometheus;
pub mod random;
pub mod reader;

use std::future::Future;
use std::time::Duration;

/// The end of a log.
pub fn last_lines(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Runs a test with a bound on its whole time, so that a hang is a failure with a name.
pub async fn within<T>(seconds: u64, what: &str, test: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(seconds), test).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not done after {seconds} s"),
    }
}
