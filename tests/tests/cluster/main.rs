//! Three brokers that are one cluster: how it begins, and what clients see of it while its nodes are killed,
//! paused, stopped, and come back, some with another disk.
//!
//! `OTTLA_LEADER_KILLS` kills of leaders (default 6) at moments drawn from `OTTLA_SEED`. One cluster at a time runs:
//! three brokers and their clients are enough for a small machine.

mod formation;
mod lost;
mod metadata;
mod restarts;
mod snapshots;

use std::future::Future;

use ottla_tests::load::Shape;
use ottla_tests::random::Random;
use ottla_tests::within;

/// A client is of one partition, every other producer is impatient.
pub const SHAPE: Shape = Shape {
    producers: 12,
    readers: 1,
    partitions: 6,
    batch_records: 32,
    value_bytes: 600,
    one_fat_in: 50,
    fat_bytes: 200_000,
};

static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Runs a test when no other one does, with a bound on its whole time and random choices that can be had again.
async fn alone<T: Future<Output = ()>>(seconds: u64, what: &str, test: impl FnOnce(Random) -> T) {
    let _turn = TURN.lock().await;
    let seed = Random::seed();
    println!("{what}: OTTLA_SEED={seed}");
    let began = std::time::Instant::now();
    within(seconds, what, test(Random::new(seed))).await;
    println!("{what}: {:.1} s", began.elapsed().as_secs_f32());
}
