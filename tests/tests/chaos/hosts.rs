//! Three hosts: a network between them, and a broker, a disk and a clock on each.

use ottla_tests::broker::Broker;
use ottla_tests::clock::Clock;
use ottla_tests::cluster::{Cluster, NODES, wait_for};
use ottla_tests::disk::{Disk, POWER_LOST};
use ottla_tests::network::{Network, Trouble};
use ottla_tests::places::Places;

use crate::replicas;

/// A broker that is cut off is fenced while a longer fault lasts; leaderships move back by themselves while faults
/// happen.
const SETTINGS: &[(&str, &str)] = &[
    ("broker.session.timeout.ms", "6000"),
    ("leader.imbalance.check.interval.seconds", "5"),
];

/// Fields are dropped in this order: processes before what they run on.
pub struct Hosts {
    pub cluster: Cluster,
    disks: Vec<Disk>,
    clocks: Vec<Clock>,
    pub network: Network,
    troubles: Vec<Trouble>,
}

impl Hosts {
    /// Good ones, and no process yet.
    pub fn make() -> Result<Hosts, String> {
        let network = Network::make(&NODES)?;
        let mut cluster = Cluster::prepare_on(&network, SETTINGS);
        let mut hosts = (Vec::new(), Vec::new());
        for id in NODES {
            let (disk, clock) = equip(cluster.node(id));
            hosts.0.push(disk);
            hosts.1.push(clock);
        }
        Ok(Hosts {
            cluster,
            disks: hosts.0,
            clocks: hosts.1,
            network,
            troubles: Vec::new(),
        })
    }

    /// Starts all nodes, and waits until they are one cluster.
    pub async fn start(&mut self) {
        self.cluster.spawn_all();
        self.cluster.wait_until_whole().await;
    }

    /// Brings back replicas that were moved, and waits until all are in sync.
    pub async fn make_whole(&mut self) {
        for id in NODES {
            self.node(id).wait_until_up().await;
        }
        wait_for("every partition has all its replicas", async || {
            replicas::restore(self).await.map_err(|e| e.to_string())
        })
        .await;
        self.cluster.wait_until_whole().await;
    }

    pub fn node(&mut self, id: i32) -> &mut Broker {
        self.cluster.node(id)
    }

    pub fn places(&self) -> Places {
        self.cluster.places()
    }

    pub fn disk(&self, id: i32) -> &Disk {
        &self.disks[id as usize - 1]
    }

    pub fn clock(&self, id: i32) -> &Clock {
        &self.clocks[id as usize - 1]
    }

    /// What was not synced is gone; of the newest write of each file `torn` bytes stay.
    pub async fn lose_power(&mut self, ids: &[i32], torn: u32) {
        for id in ids {
            self.disk(*id).lose_power(torn);
        }
        for id in ids {
            let status = self.node(*id).ended().await;
            let tail = self.node(*id).log_tail();
            assert_eq!(status.code(), Some(POWER_LOST), "node {id}:\n{tail}");
            self.disk(*id).power_is_back();
        }
    }

    pub fn add_troubles(&mut self, troubles: &[Trouble]) {
        self.troubles.extend_from_slice(troubles);
        self.set_network();
    }

    pub fn remove_troubles(&mut self, troubles: &[Trouble]) {
        for trouble in troubles {
            let at = self.troubles.iter().position(|there| there == trouble);
            self.troubles.remove(at.expect("it was added"));
        }
        self.set_network();
    }

    fn set_network(&self) {
        let set = self.network.set(&self.troubles);
        set.unwrap_or_else(|error| panic!("{:?}: {error}", self.troubles));
    }
}

/// A disk that can lose power, and a clock that can be wrong, for the broker's next start.
fn equip(node: &mut Broker) -> (Disk, Clock) {
    let disk = Disk::new(&node.data());
    disk.can_lose_power();
    let clock = Clock::new();
    let mut libraries = Vec::new();
    for (key, value) in disk.environment().into_iter().chain(clock.environment()) {
        match key {
            "LD_PRELOAD" => libraries.push(value),
            key => node.set_environment(key, &value),
        }
    }
    node.set_environment("LD_PRELOAD", &libraries.join(":"));
    (disk, clock)
}
