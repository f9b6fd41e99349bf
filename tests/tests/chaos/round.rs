//! One round: faults drawn from a seed, one or two at a time, under load; then all is well again, and the
//! checker looks at what clients saw.

use std::time::{Duration, Instant};

use ottla_tests::cluster::NODES;
use ottla_tests::load::{Load, Stopped};
use ottla_tests::random::Random;

use crate::faults::{Fault, hold, torn};
use crate::hosts::Hosts;
use crate::{SHAPE, TOPIC, replicas};

const BATCHES_PER_SECOND: usize = 160;
/// Acknowledged after everything is well again.
const PROGRESS_BATCHES: u64 = 100;
/// How long a round without faults lasts.
const QUIET: Duration = Duration::from_secs(10);
const STEPS_MIN: u64 = 3;
const STEPS_MAX: u64 = 6;

/// One fault, and perhaps another one that begins while it lasts.
#[derive(Debug)]
struct Step {
    first: Fault,
    first_lasts: Duration,
    second: Option<(Duration, Fault, Duration)>,
    /// Whether the next step waits until the cluster is whole; otherwise this much.
    pause: Option<Duration>,
}

fn plan(random: &mut Random) -> Vec<Step> {
    // A healthy cluster must keep its promises, too.
    if random.one_in(16) {
        return Vec::new();
    }
    let steps = STEPS_MIN + random.below(STEPS_MAX - STEPS_MIN + 1);
    (0..steps).map(|_| step(random)).collect()
}

fn step(random: &mut Random) -> Step {
    let first = Fault::draw(random);
    let first_lasts = hold(random);
    let another = (hold(random), Fault::draw(random), hold(random));
    let second = (random.one_in(3) && another.1.goes_with(&first)).then_some(another);
    let pause = (!random.one_in(3)).then(|| Duration::from_millis(random.below(2000)));
    Step {
        first,
        first_lasts,
        second,
        pause,
    }
}

pub async fn run(mut hosts: Hosts, mut random: Random) {
    let plan = plan(&mut random);
    hosts.start().await;
    let mut load = Load::start(hosts.places(), TOPIC, SHAPE, &mut random).await;
    let pace = load.pace(BATCHES_PER_SECOND);
    let began = Instant::now();
    progress(&mut load).await;
    if plan.is_empty() {
        tokio::time::sleep(QUIET).await;
    }
    for step in &plan {
        apply(step, &mut hosts, began).await;
    }
    say(began, "all is well again");
    hosts.make_whole().await;
    say(began, "every replica is in sync");
    progress(&mut load).await;
    drop(pace);
    let stopped = load.stop().await;
    hosts.make_whole().await;
    judge(&mut hosts, &mut random, &stopped).await;
}

async fn apply(step: &Step, hosts: &mut Hosts, began: Instant) {
    let (first, mut first_left) = (&step.first, step.first_lasts);
    say(began, &format!("{first:?} for {first_left:?}"));
    first.begin(hosts).await;
    if let Some((after, second, lasts)) = &step.second {
        let after = (*after).min(first_left);
        tokio::time::sleep(after).await;
        first_left -= after;
        say(began, &format!("  and {second:?} for {lasts:?}"));
        second.begin(hosts).await;
        let mut ends = [(first_left, first), (*lasts, second)];
        ends.sort_by_key(|(left, _)| *left);
        let [(sooner, one), (later, other)] = ends;
        tokio::time::sleep(sooner).await;
        end(one, hosts, began).await;
        tokio::time::sleep(later - sooner).await;
        end(other, hosts, began).await;
    } else {
        tokio::time::sleep(first_left).await;
        end(first, hosts, began).await;
    }
    match step.pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => hosts.make_whole().await,
    }
}

async fn end(fault: &Fault, hosts: &mut Hosts, began: Instant) {
    fault.end(hosts).await;
    say(began, &format!("  end of {fault:?}"));
}

fn say(began: Instant, what: &str) {
    println!("{:7.2} s  {what}", began.elapsed().as_secs_f32());
}

async fn progress(load: &mut Load) {
    let before = load.acknowledged_batches();
    load.wait_for_acknowledged(before + PROGRESS_BATCHES).await;
}

/// Most rounds end with a restart of everything: what is read back comes from the disks.
async fn judge(hosts: &mut Hosts, random: &mut Random, stopped: &Stopped) {
    match random.below(3) {
        0 => hosts.lose_power(&NODES, torn(random)).await,
        1 => hosts.cluster.kill9_all(),
        _ => {}
    }
    for id in NODES {
        if !hosts.node(id).is_running() {
            hosts.node(id).spawn();
        }
    }
    hosts.make_whole().await;
    stopped.assert_sequences_known().await;
    stopped.read_back().await;
    replicas::read_each(hosts, stopped).await;
    let summary = stopped.assert_kept();
    println!("{summary:?}, {:?}", stopped.trouble);
    assert!(
        summary.acknowledged_records > 0 && summary.commits_acknowledged > 0,
        "nothing was tried: {summary:?}"
    );
    hosts.cluster.stop_all().await;
}
