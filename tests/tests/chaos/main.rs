//! A cluster of three brokers, each on a host of its own, and everything that may happen to them: drawn from
//! a seed, under load, and judged by the checker. And brokers that are broken on purpose, which it must find.
//!
//! `OTTLA_CHAOS_ROUNDS` rounds (default 3), each with a new cluster and a seed of its own: `OTTLA_CHAOS_SEED` and
//! the numbers that follow it. Timing is not repeated: a failure may need several runs. Needs root, for the
//! hosts; elsewhere the tests say so and do nothing.

mod broken;
mod faults;
mod hosts;
mod liar;
mod replicas;
mod round;

use std::time::Instant;

use ottla_tests::load::Shape;
use ottla_tests::network::is_root;
use ottla_tests::random::Random;
use ottla_tests::within;

use crate::hosts::Hosts;

/// Each client is of one partition, every other producer is impatient.
pub const SHAPE: Shape = Shape {
    producers: 12,
    readers: 1,
    partitions: 6,
    batch_records: 24,
    value_bytes: 400,
    one_fat_in: 80,
    fat_bytes: 150_000,
};
pub const TOPIC: &str = "chaos";
const SECONDS_PER_ROUND: u64 = 400;

/// One cluster at a time: three brokers and their clients are enough for a small machine.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// Runs a test on hosts of its own, with random choices that can be had again.
async fn with_hosts<T: Future<Output = ()>>(
    what: &str,
    seed: u64,
    test: impl FnOnce(Hosts, Random) -> T,
) {
    let _turn = TURN.lock().await;
    println!("--- {what}: OTTLA_CHAOS_SEED={seed}");
    let _said_again = OnFailure(seed);
    let hosts = match Hosts::make() {
        Ok(hosts) => hosts,
        Err(why) if !is_root() => {
            return println!("{what}: not tried: hosts need root: {why}");
        }
        Err(why) => panic!("no hosts: {why}"),
    };
    let began = Instant::now();
    within(SECONDS_PER_ROUND, what, test(hosts, Random::new(seed))).await;
    println!("{what}: {:.1} s", began.elapsed().as_secs_f32());
}

struct OnFailure(u64);

impl Drop for OnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "OTTLA_CHAOS_SEED={} OTTLA_CHAOS_ROUNDS=1 draws this round again",
                self.0
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds() {
    let rounds = number("OTTLA_CHAOS_ROUNDS").unwrap_or(3);
    let first = number("OTTLA_CHAOS_SEED").unwrap_or_else(Random::seed);
    for step in 0..rounds {
        let seed = first.wrapping_add(step);
        with_hosts(&format!("round {} of {rounds}", step + 1), seed, round::run).await;
    }
}
