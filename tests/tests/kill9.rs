//! kill -9 under an idempotent load, again and again; then everything is read back.
//!
//! `OTTLA_KILLS` kills (default 100) at moments drawn from `OTTLA_SEED`: most while batches are in
//! flight, some while the broker starts up. `make soak` runs it with thousands.

use std::time::{Duration, Instant};

use ottla_tests::broker::Broker;
use ottla_tests::client::Connection;
use ottla_tests::load::{Load, Shape};
use ottla_tests::random::Random;
use ottla_tests::within;

/// Kills between two complete checks, which bounds the history in memory.
const KILLS_PER_ROUND: u32 = 100;
/// Batches that producers may send from one kill to the next.
const BATCHES_PER_KILL: u64 = 200;
const SHAPE: Shape = Shape {
    producers: 4,
    readers: 2,
    partitions: 6,
    batch_records: 64,
    value_bytes: 600,
    one_fat_in: 50,
    fat_bytes: 1_000_000,
};
/// A kill, a restart and the load in between; it takes about half a second.
const SECONDS_PER_KILL: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_and_offsets_survive() {
    let kills: u32 = match std::env::var("OTTLA_KILLS") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("OTTLA_KILLS={text}: not a number")),
        Err(_) => 100,
    };
    let seed = Random::seed();
    println!("{kills} kills, OTTLA_SEED={seed}");
    within(
        120 + SECONDS_PER_KILL * u64::from(kills),
        "kill -9 test",
        run(kills, Random::new(seed)),
    )
    .await;
}

async fn run(kills: u32, mut random: Random) {
    let mut broker = Broker::start().await;
    let mut done = 0;
    for round in 0.. {
        let kills_now = KILLS_PER_ROUND.min(kills - done);
        if kills_now == 0 {
            break;
        }
        run_round(
            &mut broker,
            &format!("load-{round}"),
            kills_now,
            &mut random,
        )
        .await;
        done += kills_now;
    }
    broker.terminate().await;
}

async fn run_round(broker: &mut Broker, topic: &str, kills: u32, random: &mut Random) {
    let began = Instant::now();
    let mut load = Load::start(broker.address, topic, SHAPE, random).await;
    let mut kills_left = kills;
    let mut slowest_start = Duration::ZERO;
    while kills_left > 0 {
        kills_left -= kill_in_flight(broker, &mut load, random).await;
        if kills_left > 0 && random.one_in(4) {
            kills_left -= kill_while_starting(broker, random).await;
        }
        let spawned = Instant::now();
        broker.wait_until_up().await;
        slowest_start = slowest_start.max(spawned.elapsed());
    }
    load.allow(BATCHES_PER_KILL as usize);
    load.wait_for_acknowledged(load.acknowledged_batches() + 1)
        .await;
    let stopped = load.stop().await;
    // What is read back below comes from the disk, not from the memory of the last run.
    broker.kill9();
    broker.restart().await;
    stopped.assert_sequences_known().await;
    let summary = stopped.check().await;
    let trouble = stopped.trouble;
    println!(
        "{topic}: {kills} kills in {:.1} s, slowest start {slowest_start:?}, {summary:?}, {trouble:?}",
        began.elapsed().as_secs_f32()
    );
    assert!(
        summary.acknowledged_records > 0 && summary.commits_acknowledged > 0,
        "nothing was tried: {summary:?}"
    );
    assert!(
        kills < 20 || trouble.resent > 0,
        "no kill met a batch in flight: {trouble:?}"
    );
    // A long run must not fill the disk.
    let mut connection = Connection::open(broker.address)
        .await
        .expect("the broker is up");
    connection
        .delete_topic(topic)
        .await
        .expect("a topic can be deleted");
}

/// Kills the broker after a random number of acknowledgements, with batches in flight, and spawns it again.
async fn kill_in_flight(broker: &mut Broker, load: &mut Load, random: &mut Random) -> u32 {
    let before = load.acknowledged_batches();
    load.allow(BATCHES_PER_KILL as usize);
    load.wait_for_acknowledged(before + random.below(BATCHES_PER_KILL * 9 / 10))
        .await;
    // Some way into the work on the next batches, which takes a millisecond or so.
    tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
    broker.kill9();
    broker.spawn();
    1
}

/// Kills a broker that has just been spawned, at any point of its recovery, and spawns it again.
async fn kill_while_starting(broker: &mut Broker, random: &mut Random) -> u32 {
    tokio::time::sleep(Duration::from_millis(random.below(400))).await;
    broker.kill9();
    broker.spawn();
    1
}
