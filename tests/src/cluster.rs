//! Three broker processes that are one cluster, as an ordinary `server.properties` makes them: each is
//! controller and broker. On one host, or each on one of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::describe_cluster_response::DescribeClusterResponse;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{DescribeClusterRequest, MetadataRequest};

use crate::broker::{Broker, free_address};
use crate::client::{ClientError, Connection};
use crate::network::Network;
use crate::places::Places;

/// Broken, or just slow? What has not come about by then does not.
const STATE_WAIT: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const DESCRIBE_CLUSTER: i16 = 1;
const METADATA: i16 = 12;
/// On a host of its own every port is free.
const BROKER_PORT: u16 = 9092;
const CONTROLLER_PORT: u16 = 9093;

/// Replicas that are gone leave the in-sync replicas soon, so that one which comes back is seen to do so.
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    (
        "listener.security.protocol.map",
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    ),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("replica.lag.time.max.ms", "3000"),
    ("ottla.memory.bytes", "268435456"),
];

/// Nodes have the ids 1, 2 and 3.
pub struct Cluster {
    nodes: Vec<Broker>,
    controllers: Vec<SocketAddr>,
}

pub const NODES: [i32; 3] = [1, 2, 3];

impl Cluster {
    /// Folders and ports, and no process yet.
    pub fn prepare(overrides: &[(&str, &str)]) -> Cluster {
        let places = NODES.map(|_| (free_address(), free_address()));
        Cluster::at(&places, overrides)
    }

    /// As [`Cluster::prepare`], each node on a host of its own.
    pub fn prepare_on(network: &Network, overrides: &[(&str, &str)]) -> Cluster {
        let places = network.nodes().iter().map(|id| {
            let host = network.address(*id);
            ((host, BROKER_PORT).into(), (host, CONTROLLER_PORT).into())
        });
        let mut cluster = Cluster::at(&places.collect::<Vec<_>>(), overrides);
        for id in network.nodes() {
            cluster.node(*id).set_namespace(network.namespace(*id));
        }
        cluster
    }

    /// Nodes 1, 2 and so on, with the addresses of the broker and the controller of each.
    fn at(places: &[(SocketAddr, SocketAddr)], overrides: &[(&str, &str)]) -> Cluster {
        let voters = (1..)
            .zip(places)
            .map(|(id, (_, controller))| format!("{id}@{controller}"));
        let voters: Vec<_> = voters.collect();
        let node = |(id, (address, controller)): (i32, &(SocketAddr, SocketAddr))| {
            let mut node = Broker::prepare(&[SETTINGS, overrides].concat());
            node.address = *address;
            node.set("node.id", &id.to_string());
            node.set("controller.quorum.voters", &voters.join(","));
            let listeners = format!("PLAINTEXT://{address},CONTROLLER://{controller}");
            node.set("listeners", &listeners);
            node.set("advertised.listeners", &format!("PLAINTEXT://{address}"));
            node
        };
        Cluster {
            nodes: (1..).zip(places).map(node).collect(),
            controllers: places.iter().map(|(_, controller)| *controller).collect(),
        }
    }

    /// Has the nodes know each other's addresses only.
    pub fn name_addresses_only(&mut self) {
        let addresses: Vec<String> = self.controllers.iter().map(SocketAddr::to_string).collect();
        for node in &mut self.nodes {
            node.set("controller.quorum.voters", "");
            node.set("controller.quorum.bootstrap.servers", &addresses.join(","));
        }
    }

    /// A cluster that is whole.
    pub async fn start(overrides: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::prepare(overrides);
        cluster.spawn_all();
        cluster.wait_until_whole().await;
        cluster
    }

    pub fn node(&mut self, id: i32) -> &mut Broker {
        &mut self.nodes[id as usize - 1]
    }

    pub fn places(&self) -> Places {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address).collect();
        Places::of(&addresses)
    }

    pub async fn connect(&self, id: i32) -> Connection {
        let opened = Connection::open(self.nodes[id as usize - 1].address).await;
        opened.expect("the node is up")
    }

    /// What a node has logged since the cluster was prepared.
    pub fn log(&self, id: i32) -> String {
        self.nodes[id as usize - 1].log()
    }

    pub fn spawn_all(&mut self) {
        self.nodes.iter_mut().for_each(Broker::spawn);
    }

    pub fn kill9_all(&mut self) {
        self.nodes.iter_mut().for_each(Broker::kill9);
    }

    pub async fn stop_all(&mut self) {
        for node in &self.nodes {
            node.signal_terminate();
        }
        for node in &mut self.nodes {
            node.wait_until_ended().await;
        }
    }

    pub async fn describe(&self, id: i32) -> Result<DescribeClusterResponse, ClientError> {
        let mut connection = Connection::open(self.nodes[id as usize - 1].address).await?;
        let request = DescribeClusterRequest::default();
        connection.call(DESCRIBE_CLUSTER, &request).await
    }

    /// Every topic as this node tells it, internal ones too.
    pub async fn topics(&self, id: i32) -> Result<Vec<MetadataResponseTopic>, ClientError> {
        let mut connection = Connection::open(self.nodes[id as usize - 1].address).await?;
        let request = MetadataRequest::default()
            .with_topics(None)
            .with_allow_auto_topic_creation(false);
        Ok(connection.call(METADATA, &request).await?.topics)
    }

    /// The active controller, once this node knows one other than `not`.
    pub async fn controller(&self, asked: i32, not: Option<i32>) -> i32 {
        wait_for("a controller", async || {
            let told = self.describe(asked).await.map_err(|e| e.to_string())?;
            let id = told.controller_id.0;
            match NODES.contains(&id) && Some(id) != not {
                true => Ok(id),
                false => Err(format!("node {asked} says {id}")),
            }
        })
        .await
    }

    /// The leader of a partition, once this node knows one.
    pub async fn leader(&self, asked: i32, topic: &str, partition: i32) -> i32 {
        wait_for("a leader", async || {
            let topics = self.topics(asked).await.map_err(|e| e.to_string())?;
            let mut topics = topics.iter();
            let found = topics.find(|t| t.name.as_ref().is_some_and(|n| &*n.0 == topic));
            let found = found.and_then(|t| {
                let mut partitions = t.partitions.iter();
                partitions.find(|p| p.partition_index == partition)
            });
            let leader = found.map(|p| p.leader_id.0);
            leader
                .filter(|id| NODES.contains(id))
                .ok_or_else(|| format!("{found:?}"))
        })
        .await
    }

    /// Waits until each node says that all brokers are there, and that every partition of every topic has a
    /// leader and all its replicas in sync.
    pub async fn wait_until_whole(&mut self) {
        for node in &mut self.nodes {
            node.wait_until_up().await;
        }
        self.wait_for_in_sync(&NODES).await;
    }

    /// Waits until these nodes say that they are the brokers, and the replicas in sync of every partition.
    pub async fn wait_for_in_sync(&self, nodes: &[i32]) {
        for id in nodes {
            let what = format!("{nodes:?} in sync, says node {id}");
            wait_for(&what, async || self.is_in_sync(*id, nodes).await).await;
        }
    }

    async fn is_in_sync(&self, asked: i32, nodes: &[i32]) -> Result<(), String> {
        let told = self.describe(asked).await.map_err(|e| e.to_string())?;
        let mut brokers: Vec<_> = told.brokers.iter().map(|b| b.broker_id.0).collect();
        brokers.sort_unstable();
        if brokers != nodes {
            return Err(format!("brokers {brokers:?}"));
        }
        for topic in self.topics(asked).await.map_err(|e| e.to_string())? {
            for partition in &topic.partitions {
                let mut in_sync: Vec<_> = partition.isr_nodes.iter().map(|id| id.0).collect();
                in_sync.sort_unstable();
                if !nodes.contains(&partition.leader_id.0) || in_sync != nodes {
                    return Err(format!("{:?}: {partition:?}", topic.name));
                }
            }
        }
        Ok(())
    }
}

/// Waits for something that comes about by itself; why it has not is part of the failure.
pub async fn wait_for<T>(what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(why) if began.elapsed() > STATE_WAIT => {
                panic!("not after {STATE_WAIT:?}: {what}: {why}")
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
