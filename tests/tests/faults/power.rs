//! Loss of power under an idempotent load, again and again: every unsynced byte is gone, every
//! acknowledged record is there.
//!
//! `OTTLA_POWER_LOSSES` losses (default 25) at moments drawn from `OTTLA_SEED`, some while the broker
//! starts up. `make soak` runs it with hundreds.

use std::time::Duration;

use ottla_tests::broker::Broker;
use ottla_tests::disk::{Disk, POWER_LOST};
use ottla_tests::load::{Load, Shape};
use ottla_tests::random::Random;
use ottla_tests::within;

use crate::support::broker_on;

const SHAPE: Shape = Shape {
    producers: 4,
    readers: 2,
    partitions: 6,
    batch_records: 64,
    value_bytes: 600,
    one_fat_in: 10,
    fat_bytes: 1_000_000,
};
const BATCHES_PER_LOSS: u64 = 200;
const LOSSES_PER_ROUND: u32 = 50;
const SECONDS_PER_LOSS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_a_loss_of_power() {
    let losses: u32 = match std::env::var("OTTLA_POWER_LOSSES") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("OTTLA_POWER_LOSSES={text}: not a number")),
        Err(_) => 25,
    };
    let seed = Random::seed();
    println!("{losses} losses of power, OTTLA_SEED={seed}");
    let mut random = Random::new(seed);
    let bound = 120 + SECONDS_PER_LOSS * u64::from(losses);
    within(bound, "loss of power", run(losses, &mut random)).await;
}

async fn run(losses: u32, random: &mut Random) {
    let (mut broker, disk, _) = broker_on(&[]);
    disk.can_lose_power();
    broker.restart().await;
    let mut left = losses;
    for round in 0.. {
        if left == 0 {
            break;
        }
        let now = left.min(LOSSES_PER_ROUND);
        run_round(&mut broker, &disk, &format!("power-{round}"), now, random).await;
        left -= now;
    }
}

async fn run_round(
    broker: &mut Broker,
    disk: &Disk,
    topic: &str,
    losses: u32,
    random: &mut Random,
) {
    let mut load = Load::start(broker.address, topic, SHAPE, random).await;
    let mut left = losses;
    while left > 0 {
        let before = load.acknowledged_batches();
        load.allow(BATCHES_PER_LOSS as usize);
        load.wait_for_acknowledged(before + random.below(BATCHES_PER_LOSS * 9 / 10))
            .await;
        tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
        lose_power(broker, disk, random).await;
        left -= 1;
        if left > 0 && random.one_in(3) {
            broker.spawn();
            tokio::time::sleep(Duration::from_millis(random.below(500))).await;
            lose_power(broker, disk, random).await;
            left -= 1;
        }
        broker.restart().await;
    }
    load.allow(BATCHES_PER_LOSS as usize);
    load.wait_for_acknowledged(load.acknowledged_batches() + 1)
        .await;
    let stopped = load.stop().await;
    lose_power(broker, disk, random).await;
    broker.restart().await;
    stopped.assert_sequences_known().await;
    let summary = stopped.check().await;
    println!(
        "{topic}: {losses} losses, {summary:?}, {:?}",
        stopped.trouble
    );
    assert!(summary.acknowledged_records > 0, "nothing was tried");
}

/// Half of the time the newest write of each file is torn, not gone.
async fn lose_power(broker: &mut Broker, disk: &Disk, random: &mut Random) {
    let torn = match random.one_in(2) {
        true => random.below(100_000) as u32,
        false => 0,
    };
    disk.lose_power(torn);
    let status = broker.ended().await;
    assert_eq!(status.code(), Some(POWER_LOST), "{}", broker.log_tail());
    disk.power_is_back();
}
