//! The simulated cluster: hosts with disks and wall clocks, and the network between them and their clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ottla_proto::config::ServerConfig;
use ottla_proto::ids::{NodeId, replica_id};
use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};
use ottla_raft::{Clock, Faults, Groups, MemoryNetwork, Tuning};
use ottla_simulation::Disk;
use ottla_tests::lies::{self, Lie};
use tokio::time::Instant;
use uuid::Uuid;

use super::journal::Journal;
use super::process::Process;
use crate::identity::Identity;

/// Nodes that vote in the metadata quorum; others only follow it.
pub const VOTERS: NodeId = 3;
const CLUSTER: &str = "simulated";
/// Where wall clocks begin, ms since 1970.
const BEGAN_MS: i64 = 1_700_000_000_000;
const SYNC_DELAY: Duration = Duration::from_micros(500);

struct Host {
    disk: Disk,
    /// Which of its data folders it has now.
    folder: u32,
    /// What its wall clock is ahead of time, ms.
    skew_ms: Arc<AtomicI64>,
    process: Option<Arc<Process>>,
}

pub struct World {
    pub seed: u64,
    /// What brokers' clients are told instead of the truth.
    pub lie: Lie,
    pub lies: Mutex<lies::Memory>,
    /// Brokers 1 to this.
    pub size: NodeId,
    pub network: MemoryNetwork,
    pub journal: Journal,
    began: Instant,
    hosts: Mutex<BTreeMap<NodeId, Host>>,
}

/// A network on which nothing goes wrong.
pub const GENTLE: Faults = Faults {
    min_delay: Duration::from_micros(200),
    max_delay: Duration::from_micros(400),
    break_per_mille: 0,
    drop_per_mille: 0,
    duplicate_per_mille: 0,
};

fn directory_id(node: NodeId, folder: u32) -> Uuid {
    let first = u128::from(node as u32) << 8 | u128::from(folder);
    Uuid::from_u128(first << 96 | 1)
}

impl World {
    pub fn new(seed: u64, size: NodeId, lie: Lie, of_disks: ottla_simulation::Lie) -> Arc<World> {
        let network = MemoryNetwork::new(seed);
        network.set_faults(GENTLE);
        let hosts = (1..=size).map(|node| {
            let disk = Disk::default();
            disk.set_sync_delay(SYNC_DELAY);
            disk.set_lie(of_disks);
            let host = Host {
                disk,
                folder: 1,
                skew_ms: Arc::default(),
                process: None,
            };
            (node, host)
        });
        Arc::new(World {
            seed,
            lie,
            lies: Mutex::default(),
            size,
            network,
            journal: Journal::new(),
            began: Instant::now(),
            hosts: Mutex::new(hosts.collect()),
        })
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<NodeId, Host>> {
        self.hosts.lock().expect("no holder panics")
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.size
    }

    pub fn process(&self, node: NodeId) -> Option<Arc<Process>> {
        self.hosts().get(&node)?.process.clone()
    }

    pub fn running(&self) -> Vec<(NodeId, Arc<Process>)> {
        let hosts = self.hosts();
        let running = hosts.iter();
        let running = running.filter_map(|(id, host)| Some((*id, host.process.clone()?)));
        running.collect()
    }

    /// Starts a node's process.
    pub fn start(self: &Arc<World>, node: NodeId) {
        let mut hosts = self.hosts();
        let host = hosts.get_mut(&node).expect("a host");
        assert!(host.process.is_none(), "{node} runs");
        let identity = identity(node, host.folder);
        let (began, skew_ms) = (self.began, host.skew_ms.clone());
        let clock: Clock = Arc::new(move || {
            let passed_ms = began.elapsed().as_millis() as i64;
            BEGAN_MS + passed_ms + skew_ms.load(Ordering::Relaxed)
        });
        let groups = Arc::new(Groups::clustered(
            host.disk.open(),
            clock.clone(),
            &MemoryShares::of(MIN_MEMORY_BYTES),
            self.network.transport(node),
            Tuning::simulated(self.seed),
        ));
        self.network.listen(node, &groups);
        host.process = Some(Process::start(self, config(node), identity, groups, clock));
    }

    /// The process dies, and with it what its disk has not synced, but for the first of these writes: less than
    /// `luck` thousandths of them.
    pub async fn crash(&self, node: NodeId, luck: u64) {
        let process = {
            let mut hosts = self.hosts();
            let host = hosts.get_mut(&node).expect("a host");
            let lucky = host.disk.unsynced() as u64 * luck / 1000;
            self.network.kill(node);
            host.disk.crash(lucky as usize);
            host.process.take()
        };
        if let Some(process) = process {
            self.journal.count(|counts| counts.crashes += 1);
            process.end().await;
        }
    }

    /// The process stops as one that is asked to.
    pub async fn stop(&self, node: NodeId) {
        if let Some(process) = self.process(node) {
            process.leave().await;
            // What it has not synced by then waits for nobody.
            self.crash(node, 1000).await;
        }
    }

    /// A node that does not run gets an empty disk.
    pub fn wipe(&self, node: NodeId) {
        let mut hosts = self.hosts();
        let host = hosts.get_mut(&node).expect("a host");
        assert!(host.process.is_none(), "{node} runs");
        host.disk = Disk::default();
        host.disk.set_sync_delay(SYNC_DELAY);
        host.folder += 1;
    }

    pub fn slow_disk(&self, node: NodeId, sync_delay: Duration) {
        let hosts = self.hosts();
        hosts[&node].disk.set_sync_delay(sync_delay);
    }

    /// The wall clock jumps.
    pub fn skew(&self, node: NodeId, skew_ms: i64) {
        let hosts = self.hosts();
        hosts[&node].skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// Ends all that is wrong, but for what wall clocks say.
    pub fn heal(self: &Arc<World>) {
        self.network.heal();
        self.network.set_faults(GENTLE);
        for node in self.nodes() {
            self.slow_disk(node, SYNC_DELAY);
            if self.process(node).is_none() {
                self.journal.note(format_args!("start {node}"));
                self.start(node);
            }
        }
    }
}

fn identity(node: NodeId, folder: u32) -> Identity {
    let is_founder = node <= VOTERS && folder == 1;
    let founders = (1..=VOTERS).map(|node| replica_id(node, directory_id(node, 1)));
    Identity {
        cluster_id: CLUSTER.to_owned(),
        node_id: node,
        directory_id: directory_id(node, folder),
        founders: founders.filter(|_| is_founder).collect(),
        voters: Vec::new(),
    }
}

fn config(node: NodeId) -> ServerConfig {
    let (roles, listeners) = match node <= VOTERS {
        true => (
            "broker,controller",
            format!("PLAINTEXT://n{node}:9092,CONTROLLER://n{node}:9093"),
        ),
        false => ("broker", format!("PLAINTEXT://n{node}:9092")),
    };
    let voters = (1..=VOTERS).map(|id| format!("{id}@n{id}:9093"));
    let voters = voters.collect::<Vec<_>>().join(",");
    let set = [
        format!("node.id={node}"),
        format!("process.roles={roles}"),
        format!("listeners={listeners}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters={voters}"),
        "log.dirs=/simulated".to_owned(),
        "broker.heartbeat.interval.ms=400".to_owned(),
        "broker.session.timeout.ms=2000".to_owned(),
        "default.replication.factor=3".to_owned(),
        "offsets.topic.num.partitions=1".to_owned(),
        "offsets.topic.replication.factor=3".to_owned(),
        "group.initial.rebalance.delay.ms=100".to_owned(),
        "group.min.session.timeout.ms=500".to_owned(),
    ];
    let loaded = ServerConfig::load(None, [], &set);
    loaded.unwrap_or_else(|e| panic!("{e}")).0
}
