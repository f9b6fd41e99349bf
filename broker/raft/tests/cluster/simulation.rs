//! Random histories: nodes crash with what they had not synced, the network delays, loses, repeats and is
//! cut, leadership moves; meanwhile idempotent producers append. What was acknowledged must be there, once,
//! in order, on every replica.
//!
//! A seed fixes the faults, delays and timers. It does not fix the order in which tasks that wait for the
//! same change wake up at one moment (tokio's watch channels draw it), so two runs of a seed resemble each
//! other and are not equal.
//!
//! `OTTLA_SIM_SEEDS=N` runs N seeds; `OTTLA_SIM_SEED=S` runs one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_proto::ids::NodeId;
use ottla_raft::{Faults, Group, Outcome};
use tokio::time::Instant;

use crate::harness::{Cluster, batch, read, replica, sequenced, values};

const PARTITIONS: u64 = 3;
const STEPS: u64 = 40;
const SEEDS: u64 = 20;

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
#[derive(Default)]
struct History {
    /// Partition, base offset, value.
    acknowledged: Vec<(u64, i64, u64)>,
    /// Who served in which leader epoch.
    leaders: BTreeMap<i32, NodeId>,
}

type Shared = Arc<Mutex<History>>;
/// The groups that run now, as clients find them.
type Nodes = Arc<Mutex<BTreeMap<NodeId, Arc<Group>>>>;

fn leading(nodes: &Nodes, history: &Shared) -> Option<(Arc<Group>, i32)> {
    let nodes = nodes.lock().unwrap();
    let mut found = None;
    for (node, group) in nodes.iter() {
        if let Some(epoch) = group.leader_epoch() {
            let leaders = &mut history.lock().unwrap().leaders;
            let first = *leaders.entry(epoch).or_insert(*node);
            assert_eq!(first, *node, "two leaders in leader epoch {epoch}");
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

struct Simulation {
    /// Three nodes, or five.
    size: NodeId,
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
            cluster,
            random,
            nodes: Nodes::default(),
            history: Shared::default(),
        };
        simulation.publish();
        simulation
    }

    fn publish(&self) {
        let running = self.cluster.running();
        let groups = running.into_iter().map(|n| (n, self.cluster.group(n)));
        *self.nodes.lock().unwrap() = groups.collect();
    }

    fn note(&self, event: String) {
        tracing::info!(at = ?Instant::now(), "{event}");
    }

    async fn step(&mut self) {
        let node = 1 + self.random.below(self.size as u64) as NodeId;
        let (running, size) = (self.cluster.running(), self.size);
        match self.random.below(8) {
            0 | 1 if running.contains(&node) => {
                let unsynced = self.cluster.nodes[&node].disk.unsynced() as u64;
                let lucky = self.random.below(unsynced + 1) as usize;
                self.note(format!("crash {node}"));
                self.nodes.lock().unwrap().remove(&node);
                self.cluster.crash_with_luck(node, lucky).await;
            }
            0..=3 if !running.contains(&node) => {
                self.note(format!("restart {node}"));
                self.cluster.restart(node).await;
            }
            4 => {
                let other = 1 + (node + self.random.below(2) as NodeId) % self.size;
                self.note(format!("cut {node} to {other}"));
                self.cluster.network.cut(node, other);
            }
            5 => {
                self.note(format!("isolate {node}"));
                self.cluster
                    .network
                    .isolate(node, (1..=size).filter(|n| *n != node));
            }
            6 if running.contains(&node) => {
                let group = self.cluster.group(node);
                let to = 1 + node % self.size;
                self.note(format!("transfer from {node} to {to}"));
                let _ = group
                    .transfer_leader(replica(to), Duration::from_millis(300))
                    .await;
            }
            _ => {
                self.note("heal".to_owned());
                self.cluster.network.heal();
            }
        }
        self.publish();
    }

    /// Ends all faults, and compares what was acknowledged with what is there.
    async fn finish(&mut self) {
        self.cluster.network.heal();
        self.cluster.network.set_faults(Faults {
            min_delay: Duration::from_micros(200),
            max_delay: Duration::from_micros(300),
            ..Faults::default()
        });
        for node in 1..=self.size {
            if !self.cluster.running().contains(&node) {
                self.cluster.restart(node).await;
            }
        }
        self.publish();
        self.cluster.agree().await;
        let group = self.cluster.group(1);
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

/// Runs a seed to its end; how many appends were acknowledged.
fn run(seed: u64) -> usize {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut simulation = Simulation::start(seed).await;
        let pause = |random: &mut Random| Duration::from_millis(50 + random.below(1200));
        let until = Instant::now() + Duration::from_millis(STEPS * 700);
        let producers: Vec<_> = (1..=PARTITIONS)
            .map(|partition| {
                let (nodes, history) = (simulation.nodes.clone(), simulation.history.clone());
                tokio::spawn(produce(partition, nodes, history, until))
            })
            .collect();
        for _ in 0..STEPS {
            let pause = pause(&mut simulation.random);
            tokio::time::sleep(pause).await;
            simulation.step().await;
        }
        for producer in producers {
            producer.await.expect("a producer");
        }
        simulation.finish().await;
        let history = simulation.history.lock().unwrap();
        history.acknowledged.len()
    })
}

#[test]
fn nothing_acknowledged_is_lost() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = from_env("OTTLA_SIM_SEED") {
        println!("seed {seed}: {:?}", run(seed));
        return;
    }
    let mut acknowledged = 0;
    for seed in 0..from_env("OTTLA_SIM_SEEDS").unwrap_or(SEEDS) {
        let result = std::panic::catch_unwind(|| run(seed));
        let count = result.unwrap_or_else(|_| panic!("seed {seed} failed"));
        acknowledged += count;
    }
    assert!(
        acknowledged > 1000,
        "{acknowledged} appends were acknowledged"
    );
}
