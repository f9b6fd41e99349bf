//! Brokers that are broken on purpose, from outside: the checker finds each. Otherwise the rounds would prove
//! nothing.

use std::time::Duration;

use ottla_tests::checker::{Rule, Violation};
use ottla_tests::cluster::NODES;
use ottla_tests::lies::Lie;
use ottla_tests::load::{Load, Stopped};
use ottla_tests::random::Random;

use crate::faults::Fault;
use crate::hosts::Hosts;
use crate::liar::Liar;
use crate::{SHAPE, TOPIC, number, with_hosts};

const BATCHES_PER_SECOND: usize = 160;
const BATCHES: u64 = 200;
/// Longer than leases and elections.
const CUT_OFF: Duration = Duration::from_secs(4);

fn seed() -> u64 {
    number("OTTLA_CHAOS_SEED").unwrap_or_else(Random::seed)
}

async fn more(load: &mut Load) {
    let before = load.acknowledged_batches();
    load.wait_for_acknowledged(before + BATCHES).await;
}

fn print(violations: &[Violation]) {
    for violation in violations.iter().take(5) {
        println!("found: {violation}");
    }
    println!("{} findings", violations.len());
}

fn has(violations: &[Violation], rule: Rule) -> bool {
    violations.iter().any(|violation| violation.rule == rule)
}

/// Acknowledged before they are on any disk: gone when all hosts lose power.
#[tokio::test(flavor = "multi_thread")]
async fn syncs_that_do_nothing() {
    with_hosts(
        "syncs that do nothing",
        seed(),
        async |mut hosts: Hosts, mut random: Random| {
            hosts.start().await;
            let mut load = Load::start(hosts.places(), TOPIC, SHAPE, &mut random).await;
            let pace = load.pace(BATCHES_PER_SECOND);
            more(&mut load).await;
            for id in NODES {
                hosts.disk(id).forget_syncs();
            }
            more(&mut load).await;
            drop(pace);
            let stopped = load.stop().await;
            hosts.lose_power(&NODES, 0).await;
            hosts.start().await;
            stopped.read_back().await;
            let (_, violations) = stopped.findings();
            print(&violations);
            assert!(has(&violations, Rule::LostWrite), "{violations:#?}");
        },
    )
    .await;
}

/// A load by way of liars, while a node that leads some partitions is cut off, and killed; what the checker then finds.
async fn findings(what: &str, lie: Lie, judge: impl FnOnce(&[Violation])) {
    with_hosts(
        what,
        seed(),
        async |mut hosts: Hosts, mut random: Random| {
            hosts.start().await;
            let mut liars = Vec::new();
            for id in NODES {
                let broker = hosts.node(id).address;
                liars.push((broker, Liar::before(broker, lie).await));
            }
            let detours: Vec<_> = liars
                .iter()
                .map(|(broker, liar)| (*broker, liar.address))
                .collect();
            let places = hosts.places().through(&detours);
            let mut load = Load::start(places, TOPIC, SHAPE, &mut random).await;
            let pace = load.pace(BATCHES_PER_SECOND);
            let id = NODES[random.below(3) as usize];
            more(&mut load).await;
            let cut = Fault::CutFromPeers(id);
            cut.begin(&mut hosts).await;
            tokio::time::sleep(CUT_OFF).await;
            cut.end(&mut hosts).await;
            hosts.cluster.wait_until_whole().await;
            hosts.node(id).kill9();
            more(&mut load).await;
            hosts.node(id).spawn();
            hosts.cluster.wait_until_whole().await;
            drop(pace);
            let stopped: Stopped = load.stop().await;
            hosts.cluster.wait_until_whole().await;
            stopped.read_back().await;
            let (summary, violations) = stopped.findings();
            println!("{summary:?}, {:?}", stopped.trouble);
            print(&violations);
            judge(&violations);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_broken() {
    findings("a proxy that does not lie", Lie::None, |violations| {
        assert!(violations.is_empty(), "{violations:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_before_commits() {
    findings("acknowledged at once", Lie::AckAtOnce, |violations| {
        assert!(has(violations, Rule::LostWrite), "{violations:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_a_stale_leader() {
    findings("stale reads", Lie::StaleReads, |violations| {
        let is_found = has(violations, Rule::Realtime) || has(violations, Rule::TakenBack);
        assert!(is_found, "{violations:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_that_are_forgotten() {
    findings("forgotten producers", Lie::ForgetProducers, |violations| {
        assert!(has(violations, Rule::Duplicate), "{violations:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_that_go_back() {
    findings("old offsets", Lie::OldOffsets, |violations| {
        assert!(has(violations, Rule::OffsetRegress), "{violations:#?}");
    })
    .await;
}
