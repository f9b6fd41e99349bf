//! Random histories: nodes crash with what they had not synced, the network delays, loses, repeats and is
//! cut, leadership moves; meanwhile idempotent producers append. What was acknowledged must be there, once,
//! in order, on every replica.
//!
//! Members join, leave and are replaced; who left comes back as another replica that lost the end of its log.
//!
//! Each seed runs in a process of its own, in which nothing else is random: a seed is one history, down to
//! the microsecond (see `broker/simulation/src/child.rs`).
//!
//! `OTTLA_SIM_SEEDS=N` runs N seeds; `OTTLA_SIM_SEED=S` runs one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_proto::ids::NodeId;
use ottla_raft::{Faults, Group, Outcome, replica_id};
use ottla_simulation::child;
use tokio::time::Instant;

use crate::harness::{Cluster, WAIT, batch, read, replica, sequenced, values};

const TEST: &str = "simulation::nothing_acknowledged_is_lost";
const PARTITIONS: u64 = 3;
const STEPS: u64 = 40;
const SEEDS: u64 = 20;

/// What a seed came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    /// Of everything that was seen from outside, with its time.
    digest: u64,
    acknowledged: u64,
    /// Membership changes that were made.
    changes: u64,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// What the outside sees.
struct History {
    began: Instant,
    /// Partition, base offset, value.
    acknowledged: Vec<(u64, i64, u64)>,
    /// Who served in which leader epoch.
    leaders: BTreeMap<i32, NodeId>,
    /// Membership changes that were made.
    changes: u64,
    /// Replicas that were voters and are not any more: they may be lost.
    retired: BTreeSet<u64>,
    /// FNV-1a (Fowler, Noll, Vo) over all events and when they happened.
    digest: u64,
}

impl History {
    fn new() -> History {
        History {
            began: Instant::now(),
            acknowledged: Vec::new(),
            leaders: BTreeMap::new(),
            changes: 0,
            retired: BTreeSet::new(),
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    fn note(&mut self, event: &str) {
        let now = self.began.elapsed();
        tracing::info!(at = ?now, "{event}");
        for byte in now
            .as_micros()
            .to_be_bytes()
            .into_iter()
            .chain(event.bytes())
        {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

type Shared = Arc<Mutex<History>>;
/// The groups that run now, as clients find them.
type Nodes = Arc<Mutex<BTreeMap<NodeId, Arc<Group>>>>;

fn leading(nodes: &Nodes, history: &Shared) -> Option<(Arc<Group>, i32)> {
    let nodes = nodes.lock().unwrap();
    let mut found = None;
    for (node, group) in nodes.iter() {
        if let Some(epoch) = group.leader_epoch() {
            let mut history = history.lock().unwrap();
            let first = history.leaders.get(&epoch).copied();
            if first.is_none() {
                history.note(&format!("{node} leads in {epoch}"));
                history.leaders.insert(epoch, *node);
            }
            let same = first.is_none_or(|first| first == *node);
            assert!(same, "two leaders in leader epoch {epoch}");
            found = Some((group.clone(), epoch));
        }
    }
    found
}

/// One producer of one partition: the same batch again until it is acknowledged.
async fn produce(partition: u64, nodes: Nodes, history: Shared, until: Instant) {
    for sequence in 0.. {
        let value = partition * 1_000_000 + sequence as u64;
        loop {
            if Instant::now() >= until {
                return;
            }
            let Some((group, epoch)) = leading(&nodes, &history) else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let command = batch(partition, 1, value, sequenced(partition as i64, sequence));
            let ticket = group.append_in_epoch(epoch, vec![command], 100, None);
            let answer = tokio::time::timeout(Duration::from_millis(1500), ticket.outcome()).await;
            match answer {
                Ok(Ok(outcomes)) => match outcomes[..] {
                    [Outcome::Appended { base_offset } | Outcome::Duplicate { base_offset }] => {
                        let mut history = history.lock().unwrap();
                        history.note(&format!("{value} of {partition} at {base_offset}"));
                        history.acknowledged.push((partition, base_offset, value));
                        break;
                    }
                    ref other => panic!("a producer in order was told {other:?}"),
                },
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An operator: replaces voters by nodes that are there, one after another.
async fn operate(size: usize, mut random: Random, nodes: Nodes, history: Shared, until: Instant) {
    let short = Duration::from_secs(1);
    loop {
        let pause = Duration::from_millis(200 + random.below(2000));
        tokio::time::sleep(pause).await;
        if Instant::now() >= until {
            return;
        }
        let Some((group, _)) = leading(&nodes, &history) else {
            continue;
        };
        let (voters, learners) = group.members();
        let there: Vec<u64> = nodes.lock().unwrap().values().map(|g| g.replica).collect();
        let spare: Vec<u64> = there.into_iter().filter(|r| !voters.contains(r)).collect();
        if random.below(4) == 0 || spare.is_empty() {
            if let Some(learner) = learners.first() {
                let _ = group.remove_learner(*learner, short).await;
            }
            continue;
        }
        let new = spare[random.below(spare.len() as u64) as usize];
        history.lock().unwrap().retired.remove(&new);
        let mut next: Vec<u64> = voters.iter().copied().collect();
        while next.len() >= size {
            next.remove(random.below(next.len() as u64) as usize);
        }
        next.push(new);
        if group.add_learner(new, short).await.is_err()
            || group.wait_caught_up(new, short * 3).await.is_err()
        {
            continue;
        }
        let next: BTreeSet<u64> = next.into_iter().collect();
        let changed = group.change_membership(next.clone(), short * 2).await;
        let mut history = history.lock().unwrap();
        history.note(&format!("voters {next:x?}: {changed:?}"));
        if changed.is_ok() {
            history.changes += 1;
            history.retired.extend(voters.difference(&next));
        }
    }
}

struct Simulation {
    /// Three voters, or five.
    size: NodeId,
    /// Nodes that there are.
    pool: NodeId,
    cluster: Cluster,
    random: Random,
    nodes: Nodes,
    history: Shared,
}

impl Simulation {
    async fn start(seed: u64) -> Simulation {
        let mut random = Random(seed);
        let size = if seed % 4 == 3 { 5 } else { 3 };
        let mut cluster = Cluster::new(seed);
        cluster.network.set_faults(Faults {
            min_delay: Duration::from_micros(200),
            max_delay: Duration::from_micros(400 + random.below(20_000)),
            break_per_mille: random.below(5),
            drop_per_mille: random.below(50),
            duplicate_per_mille: random.below(50),
        });
        let members: Vec<u64> = (1..=size).map(replica).collect();
        for node in 1..=size {
            cluster.run(node, replica(node), &members).await;
            let delay = Duration::from_micros(300 + random.below(5_000));
            cluster.nodes[&node].disk.set_sync_delay(delay);
        }
        let simulation = Simulation {
            size,
            pool: size + 2,
            cluster,
            random,
            nodes: Nodes::default(),
            history: Arc::new(Mutex::new(History::new())),
        };
        simulation.publish();
        simulation
    }

    fn publish(&self) {
        let running = self.cluster.running();
        let groups = running.into_iter().map(|n| (n, self.cluster.group(n)));
        *self.nodes.lock().unwrap() = groups.collect();
    }

    fn note(&self, event: &str) {
        self.history.lock().unwrap().note(event);
    }

    /// Starts a node: for the first time, as what it was, or as a replica that has lost the end of its log.
    async fn start_node(&mut self, node: NodeId) {
        let replica = self.cluster.replica(node);
        let retired = self.history.lock().unwrap().retired.contains(&replica);
        if retired && self.random.below(2) == 0 {
            self.note(&format!("{node} begins anew"));
            let directory = (replica as u32) + 1;
            self.cluster
                .run(node, replica_id(node, directory), &[])
                .await;
        } else {
            self.note(&format!("start {node}"));
            self.cluster.restart(node).await;
        }
    }

    async fn step(&mut self) {
        let node = 1 + self.random.below(self.pool as u64) as NodeId;
        let (running, pool) = (self.cluster.running(), self.pool);
        match self.random.below(8) {
            0 | 1 if running.contains(&node) => {
                let unsynced = self.cluster.nodes[&node].disk.unsynced() as u64;
                let lucky = self.random.below(unsynced + 1) as usize;
                self.note(&format!("crash {node}"));
                self.nodes.lock().unwrap().remove(&node);
                self.cluster.crash_with_luck(node, lucky).await;
            }
            0..=3 if !running.contains(&node) => {
                self.start_node(node).await;
            }
            4 => {
                let other = 1 + (node + self.random.below(2) as NodeId) % pool;
                self.note(&format!("cut {node} to {other}"));
                self.cluster.network.cut(node, other);
            }
            5 => {
                self.note(&format!("isolate {node}"));
                self.cluster
                    .network
                    .isolate(node, (1..=pool).filter(|n| *n != node));
            }
            6 if running.contains(&node) => {
                let group = self.cluster.group(node);
                let to = self.cluster.replica(1 + node % pool);
                self.note(&format!("transfer from {node} to {to:x}"));
                let _ = group.transfer_leader(to, Duration::from_millis(300)).await;
            }
            _ => {
                self.note("heal");
                self.cluster.network.heal();
            }
        }
        self.publish();
    }

    /// Ends a membership change that was left half way, and stops who is no member.
    async fn settle(&mut self) {
        let deadline = Instant::now() + WAIT;
        let (voters, learners) = loop {
            assert!(Instant::now() < deadline, "no membership in time");
            let group = self.cluster.group(self.cluster.leader().await);
            let voters: BTreeSet<u64> = group.members().0;
            let voters = voters.into_iter().take(self.size as usize).collect();
            if group.change_membership(voters, WAIT).await.is_ok() {
                break group.members();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        for node in self.cluster.running() {
            let replica = self.cluster.replica(node);
            if !voters.contains(&replica) && !learners.contains(&replica) {
                self.cluster.crash(node).await;
            }
        }
    }

    /// Ends all faults, and compares what was acknowledged with what is there.
    async fn finish(&mut self) {
        self.cluster.network.heal();
        self.cluster.network.set_faults(Faults {
            min_delay: Duration::from_micros(200),
            max_delay: Duration::from_micros(300),
            ..Faults::default()
        });
        for node in 1..=self.pool {
            if !self.cluster.running().contains(&node) {
                self.cluster.restart(node).await;
            }
        }
        self.publish();
        self.settle().await;
        self.cluster.agree().await;
        let group = self.cluster.group(self.cluster.leader().await);
        let history = self.history.lock().unwrap();
        for partition in 1..=PARTITIONS {
            let found = values(&read(&group, partition, 0));
            let acknowledged = history
                .acknowledged
                .iter()
                .filter(|(p, ..)| *p == partition);
            let mut count = 0;
            for (_, offset, value) in acknowledged {
                assert!(
                    found.contains(&(*offset, *value)),
                    "lost: {value} at {offset}"
                );
                count += 1;
            }
            // One producer, in order: nothing twice, nothing beyond the one that was not answered.
            let order: Vec<u64> = found.iter().map(|(_, value)| *value).collect();
            let expected: Vec<u64> = (0..order.len() as u64)
                .map(|s| partition * 1_000_000 + s)
                .collect();
            assert_eq!(order, expected, "partition {partition}");
            assert!(order.len() <= count + 1);
        }
    }
}

/// Runs a seed to its end.
fn run(seed: u64) -> Answer {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut simulation = Simulation::start(seed).await;
        let pause = |random: &mut Random| Duration::from_millis(50 + random.below(1200));
        let until = Instant::now() + Duration::from_millis(STEPS * 700);
        let shared = || (simulation.nodes.clone(), simulation.history.clone());
        let mut tasks = Vec::new();
        for partition in 1..=PARTITIONS {
            let (nodes, history) = shared();
            tasks.push(tokio::spawn(produce(partition, nodes, history, until)));
        }
        let (nodes, history) = shared();
        let (size, random) = (simulation.size as usize, Random(seed ^ 0x6f70_6572));
        tasks.push(tokio::spawn(operate(size, random, nodes, history, until)));
        for _ in 0..STEPS {
            let pause = pause(&mut simulation.random);
            tokio::time::sleep(pause).await;
            simulation.step().await;
        }
        for task in tasks {
            task.await.expect("a producer, or the operator");
        }
        simulation.finish().await;
        simulation.note("end");
        let history = simulation.history.lock().unwrap();
        Answer {
            digest: history.digest,
            acknowledged: history.acknowledged.len() as u64,
            changes: history.changes,
        }
    })
}

/// Runs a seed in a process of its own.
fn run_apart(seed: u64) -> Answer {
    let answer = child::run(TEST, &seed.to_string());
    let answer = answer
        .unwrap_or_else(|why| panic!("seed {seed} (OTTLA_SIM_SEED={seed} runs it alone): {why}"));
    let mut numbers = answer
        .split_whitespace()
        .map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    Answer {
        digest: next(),
        acknowledged: next(),
        changes: next(),
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some(asked) = child::asked() {
        let done = run(asked.parse().expect("a seed"));
        let (digest, acknowledged, changes) = (done.digest, done.acknowledged, done.changes);
        return child::answer(&format!("{digest} {acknowledged} {changes}"));
    }
    if let Some(seed) = child::number("OTTLA_SIM_SEED") {
        println!("seed {seed}: {:?}", run_apart(seed));
        return;
    }
    let (mut acknowledged, mut changes) = (0, 0);
    for seed in 0..child::number("OTTLA_SIM_SEEDS").unwrap_or(SEEDS) {
        let answer = run_apart(seed);
        acknowledged += answer.acknowledged;
        changes += answer.changes;
    }
    println!("{acknowledged} appends were acknowledged, {changes} changes made");
    assert!(acknowledged > 1000 && changes > 10);
}

#[test]
fn a_seed_is_one_history() {
    let histories: Vec<Answer> = [2, 3, 2, 3].map(run_apart).into();
    assert_eq!(histories[..2], histories[2..]);
    assert_ne!(histories[0].digest, histories[1].digest);
}
