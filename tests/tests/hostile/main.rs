//! Clients that are broken or mean. Every attack runs beside a well-behaved load, which must not
//! notice: no lost connection, no error, no long wait. The broker's memory must stay bounded, and
//! afterwards it must serve and stop as if nothing had been.

mod answers;
mod bodies;
mod bombs;
mod crowds;
mod frames;
mod hoards;
mod leavers;
mod silence;

use std::future::Future;
use std::time::Duration;

use ottla_tests::broker::Broker;
use ottla_tests::client::Connection;
use ottla_tests::load::{Load, Shape};
use ottla_tests::random::Random;
use ottla_tests::within;
use tokio::sync::watch;

/// No attack takes half of this.
const ATTACK_SECONDS: u64 = 150;
/// What the neighbours' own load may add to the broker's memory: caches fill, buffers are reused.
const LOAD_BYTES: u64 = 64 << 20;
/// A neighbour's batch that takes longer was held up by the attack, not by a busy machine.
const NEIGHBOUR_WAIT: Duration = Duration::from_secs(8);

/// Small batches and, among them, large ones: those need memory that attackers want too. About 3 MB/s.
const NEIGHBOURS: Shape = Shape {
    producers: 2,
    readers: 1,
    partitions: 2,
    batch_records: 20,
    value_bytes: 200,
    one_fat_in: 40,
    fat_bytes: 256 << 10,
};

/// Runs an attack beside a well-behaved load. `attack_bytes` is what the attack may cost the broker.
async fn attack<F>(
    name: &str,
    attack_bytes: u64,
    settings: &[(&str, &str)],
    run: impl FnOnce(Broker, Random) -> F,
) where
    F: Future<Output = Broker>,
{
    let seed = Random::seed();
    println!("{name}: OTTLA_SEED={seed}");
    within(ATTACK_SECONDS, name, async {
        let mut random = Random::new(seed);
        let broker = Broker::start_with(settings).await;
        let mut load = Load::start(broker.address, "neighbours", NEIGHBOURS, &mut random).await;
        // Warm: the first batches and reads pay for buffers that stay.
        load.allow(40);
        load.wait_for_acknowledged(40).await;
        broker.reset_peak();
        let before = broker.resident_bytes();
        let (stop, stopped) = watch::channel(false);
        let neighbours = tokio::spawn(async move {
            load.keep_busy(&stopped).await;
            load
        });
        let mut broker = run(broker, random).await;
        let grown = broker.peak_resident_bytes().saturating_sub(before);
        stop.send_replace(true);
        let load = neighbours.await.expect("the neighbours go on");
        let stopped = load.stop().await;
        let summary = stopped.check().await;
        println!(
            "{name}: {} MB more memory at most, neighbours: {summary:?}, {:?}",
            grown >> 20,
            stopped.trouble
        );
        let trouble = stopped.trouble;
        assert_eq!(
            (trouble.disconnects, trouble.retries),
            (0, 0),
            "neighbours noticed: {trouble:?}"
        );
        assert!(
            trouble.slowest < NEIGHBOUR_WAIT,
            "neighbours waited: {trouble:?}"
        );
        assert!(
            grown <= attack_bytes + LOAD_BYTES,
            "{grown} bytes more, {attack_bytes} + {LOAD_BYTES} are the bound"
        );
        assert!(
            broker.is_running(),
            "the broker ended:\n{}",
            broker.log_tail()
        );
        assert!(
            !broker.log().contains("panicked"),
            "a task of the broker panicked:\n{}",
            broker.log_tail()
        );
        let mut connection = Connection::open(broker.address)
            .await
            .expect("the broker is up");
        connection.api_versions().await.expect("the broker serves");
        broker.terminate().await;
    })
    .await;
}
