//! Nodes are killed, paused and stopped under load: every acknowledged record is there in the end, exactly
//! once and in order, and committed offsets have never moved back.

use std::time::Duration;

use ottla_tests::cluster::{Cluster, NODES};
use ottla_tests::load::{Load, Stopped};
use ottla_tests::random::Random;

use crate::{SHAPE, alone};

const TOPIC: &str = "load";
/// Batches that producers may send from one fault to the next.
const BATCHES: u64 = 240;
/// Much longer than leases and elections take, shorter than a session.
const PAUSE: Duration = Duration::from_secs(5);
const SECONDS_PER_KILL: u64 = 60;

fn kills() -> u32 {
    match std::env::var("OTTLA_LEADER_KILLS") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("OTTLA_LEADER_KILLS={text}: not a number")),
        Err(_) => 6,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leaders() {
    let kills = kills();
    let bound = 180 + SECONDS_PER_KILL * u64::from(kills);
    alone(bound, "killed leaders", async |mut random| {
        let mut cluster = Cluster::start(&[]).await;
        let mut load = Load::start(cluster.places(), TOPIC, SHAPE, &mut random).await;
        for _ in 0..kills {
            in_flight(&mut load, &mut random).await;
            let leader = a_leader(&cluster, &mut random).await;
            cluster.node(leader).kill9();
            acknowledge_one(&mut load).await;
            cluster.node(leader).spawn();
            // Sometimes the next one dies while this one still catches up.
            if !random.one_in(3) {
                cluster.wait_until_whole().await;
            } else {
                cluster.node(leader).wait_until_up().await;
            }
        }
        let stopped = end(&mut cluster, load).await;
        assert!(
            kills < 5 || stopped.trouble.resent > 0,
            "no kill met a batch in flight: {:?}",
            stopped.trouble
        );
        judge(&mut cluster, &stopped).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_leaders() {
    alone(400, "paused leaders", async |mut random| {
        let mut cluster = Cluster::start(&[]).await;
        let mut load = Load::start(cluster.places(), TOPIC, SHAPE, &mut random).await;
        for _ in 0..3 {
            in_flight(&mut load, &mut random).await;
            let leader = a_leader(&cluster, &mut random).await;
            cluster.node(leader).pause();
            let paused = tokio::time::sleep(PAUSE);
            // Others go on meanwhile, on the partitions that it led too.
            acknowledge_one(&mut load).await;
            paused.await;
            cluster.node(leader).resume();
            acknowledge_one(&mut load).await;
        }
        let stopped = end(&mut cluster, load).await;
        assert!(stopped.trouble.disconnects > 0, "no client was in trouble");
        judge(&mut cluster, &stopped).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once() {
    alone(400, "all killed", async |mut random| {
        let mut cluster = Cluster::start(&[]).await;
        let mut load = Load::start(cluster.places(), TOPIC, SHAPE, &mut random).await;
        for _ in 0..3 {
            in_flight(&mut load, &mut random).await;
            cluster.kill9_all();
            cluster.spawn_all();
            for id in NODES {
                cluster.node(id).wait_until_up().await;
            }
            acknowledge_one(&mut load).await;
        }
        let stopped = end(&mut cluster, load).await;
        judge(&mut cluster, &stopped).await;
    })
    .await;
}

/// Producers are told nothing that they would have to report: the checker's rule about failed sends.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart() {
    alone(400, "rolling restart", async |mut random| {
        let mut cluster = Cluster::start(&[]).await;
        let mut load = Load::start(cluster.places(), TOPIC, SHAPE, &mut random).await;
        for id in NODES {
            in_flight(&mut load, &mut random).await;
            cluster.node(id).signal_terminate();
            acknowledge_one(&mut load).await;
            cluster.node(id).wait_until_ended().await;
            acknowledge_one(&mut load).await;
            cluster.node(id).spawn();
            cluster.wait_until_whole().await;
        }
        let stopped = end(&mut cluster, load).await;
        judge(&mut cluster, &stopped).await;
    })
    .await;
}

/// The node that leads some partition.
async fn a_leader(cluster: &Cluster, random: &mut Random) -> i32 {
    let asked = NODES[random.below(3) as usize];
    let partition = random.below(SHAPE.partitions as u64) as i32;
    cluster.leader(asked, TOPIC, partition).await
}

/// Returns while batches are in flight, after a random number of acknowledgements.
async fn in_flight(load: &mut Load, random: &mut Random) {
    let before = load.acknowledged_batches();
    load.allow(BATCHES as usize);
    load.wait_for_acknowledged(before + random.below(BATCHES / 2))
        .await;
}

/// Lets every producer send, and waits until a few batches of each partition's are through.
async fn acknowledge_one(load: &mut Load) {
    let before = load.acknowledged_batches();
    load.allow(BATCHES as usize / 4);
    load.wait_for_acknowledged(before + BATCHES / 4).await;
}

/// All clients are done, and the cluster is whole.
pub async fn end(cluster: &mut Cluster, load: Load) -> Stopped {
    let stopped = load.stop().await;
    cluster.wait_until_whole().await;
    stopped
}

/// What is read back comes from the disks, not from the memory of the last run.
pub async fn judge(cluster: &mut Cluster, stopped: &Stopped) {
    cluster.kill9_all();
    cluster.spawn_all();
    cluster.wait_until_whole().await;
    stopped.assert_sequences_known().await;
    let summary = stopped.check().await;
    println!("{summary:?}, {:?}", stopped.trouble);
    assert!(
        summary.acknowledged_records > 0 && summary.commits_acknowledged > 0,
        "nothing was tried: {summary:?}"
    );
    cluster.stop_all().await;
}
