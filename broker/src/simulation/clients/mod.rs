//! Simulated clients of the cluster. They speak Kafka's protocol, as real ones do: they ask any broker where
//! things are, go there, and try again when it does not work out.

mod member;
mod operator;
mod producer;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use ottla_proto::ids::NodeId;
use ottla_tests::client::{self, text};
use ottla_tests::random::Random;
use tokio::sync::oneshot;

pub use member::{Member, read_commits};
pub use operator::{Operator, create_topic};
pub use producer::Producer;
pub use reader::{Reader, read_all};

use super::connection::Connection;
use super::world::World;

pub const TOPIC: &str = "simulated";
pub const PARTITIONS: i32 = 3;
const METADATA: i16 = 12;
const FIND_COORDINATOR: i16 = 3;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);

pub fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Kafka's error codes beyond those in `ottla_tests::client::code`.
pub mod codes {
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
}

pub struct Client {
    pub world: Arc<World>,
    pub id: NodeId,
    pub random: Random,
    connections: BTreeMap<NodeId, Connection>,
    correlation_id: i32,
}

/// An answer that is waited for.
pub struct Asked {
    pub answer: oneshot::Receiver<Bytes>,
    version: i16,
}

impl Client {
    /// `id` is no node's: nodes begin at 1, clients at 100.
    pub fn new(world: &Arc<World>, id: NodeId) -> Client {
        Client {
            world: world.clone(),
            id,
            random: Random::new(world.seed ^ (id as u64) << 32),
            connections: BTreeMap::new(),
            correlation_id: 0,
        }
    }

    /// Sends a request and does not wait.
    pub async fn send<R: Request>(
        &mut self,
        broker: NodeId,
        version: i16,
        request: &R,
    ) -> Option<Asked> {
        if !self.connections.contains_key(&broker) {
            let opened = Connection::open(&self.world, self.id, broker);
            let opened = tokio::time::timeout(PATIENCE, opened).await.ok()??;
            self.connections.insert(broker, opened);
        }
        self.correlation_id += 1;
        let frame = client::frame(version, self.correlation_id, request);
        let frame = frame.expect("requests of tests can be encoded").slice(4..);
        let answer = self.connections[&broker].send(frame);
        Some(Asked { answer, version })
    }

    /// Waits for an answer. Without one the connection is given up.
    pub async fn receive<R: Request>(
        &mut self,
        broker: NodeId,
        asked: Asked,
        patience: Duration,
    ) -> Option<R::Response> {
        let answer = tokio::time::timeout(patience, asked.answer).await;
        let Ok(Ok(mut answer)) = answer else {
            self.hang_up(broker);
            return None;
        };
        let header_version = R::Response::header_version(asked.version);
        ResponseHeader::decode(&mut answer, header_version).expect("a response header");
        let response = R::Response::decode(&mut answer, asked.version).expect("a response");
        assert_eq!(answer.remaining(), 0, "a response ends where it ends");
        Some(response)
    }

    pub fn hang_up(&mut self, broker: NodeId) {
        self.connections.remove(&broker);
    }

    pub async fn ask<R: Request>(
        &mut self,
        broker: NodeId,
        version: i16,
        request: &R,
    ) -> Option<R::Response> {
        self.ask_patiently(broker, version, request, PATIENCE).await
    }

    pub async fn ask_patiently<R: Request>(
        &mut self,
        broker: NodeId,
        version: i16,
        request: &R,
        patience: Duration,
    ) -> Option<R::Response> {
        let asked = self.send(broker, version, request).await?;
        self.receive::<R>(broker, asked, patience).await
    }

    pub fn any_broker(&mut self) -> NodeId {
        1 + self.random.below(self.world.size as u64) as NodeId
    }

    /// Who leads the partition, as some broker knows it.
    pub async fn leader(&mut self, partition: i32) -> Option<NodeId> {
        let asked = MetadataRequestTopic::default().with_name(Some(topic(TOPIC)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false);
        let broker = self.any_broker();
        let answer = self.ask(broker, METADATA, &request).await?;
        let mut partitions = answer.topics.into_iter().flat_map(|t| t.partitions);
        let found = partitions.find(|p| p.partition_index == partition)?;
        Some(found.leader_id.0).filter(|leader| *leader > 0)
    }

    /// Who coordinates the group, as some broker knows it.
    pub async fn coordinator(&mut self, group: &str) -> Option<NodeId> {
        let request = FindCoordinatorRequest::default().with_key(text(group));
        let broker = self.any_broker();
        let answer = self.ask(broker, FIND_COORDINATOR, &request).await?;
        (answer.error_code == 0).then_some(answer.node_id.0)
    }

    /// Between `from` and `to` milliseconds, drawn.
    pub async fn pause(&mut self, from: u64, to: u64) {
        let ms = from + self.random.below(to - from);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
