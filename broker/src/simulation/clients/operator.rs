//! An operator: makes topics, moves replicas, asks for elections. What the controller said is done stays done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, ElectLeadersRequest,
};
use ottla_proto::ids::NodeId;
use ottla_tests::client::code;
use tokio::time::Instant;

use super::{Client, PARTITIONS, TOPIC, topic};
use crate::simulation::world::{VOTERS, World};

const CREATE_TOPICS: i16 = 7;
const ALTER_REASSIGNMENTS: i16 = 0;
const ELECT_LEADERS: i16 = 2;
/// Longer than a broker looks for the controller.
const PATIENCE: Duration = Duration::from_secs(12);

/// Asks for a topic until it is there, or `until`.
pub async fn create_topic(
    client: &mut Client,
    name: &str,
    partitions: i32,
    until: Instant,
) -> bool {
    while Instant::now() < until {
        let wanted = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(3);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(10_000);
        let broker = client.any_broker();
        let asked = client.ask_patiently(broker, CREATE_TOPICS, &request, PATIENCE);
        let answer = asked
            .await
            .and_then(|answer| answer.topics.into_iter().next());
        let error = answer.map(|made| made.error_code);
        client
            .world
            .journal
            .note(format_args!("topic {name}: {error:?}"));
        if matches!(error, Some(0 | code::TOPIC_ALREADY_EXISTS)) {
            return true;
        }
        client.pause(100, 400).await;
    }
    false
}

pub struct Operator {
    client: Client,
    made: BTreeSet<String>,
}

impl Operator {
    pub fn new(world: &Arc<World>, id: NodeId) -> Operator {
        Operator {
            client: Client::new(world, id),
            made: BTreeSet::new(),
        }
    }

    /// Returns the topics that are there for sure.
    pub async fn run(mut self, until: Instant) -> BTreeSet<String> {
        for turn in 0.. {
            self.client.pause(300, 2000).await;
            if Instant::now() >= until {
                break;
            }
            let done = match self.client.random.below(4) {
                0 => self.create(format!("made-{turn}"), until).await,
                1 => self.elect().await,
                _ => self.reassign().await,
            };
            if done {
                let journal = &self.client.world.journal;
                journal.count(|counts| counts.operations += 1);
            }
        }
        self.made
    }

    async fn create(&mut self, name: String, until: Instant) -> bool {
        let made = create_topic(&mut self.client, &name, 1, until).await;
        if made {
            self.made.insert(name);
        }
        made
    }

    fn any_partition(&mut self) -> i32 {
        self.client.random.below(PARTITIONS as u64) as i32
    }

    async fn elect(&mut self) -> bool {
        let partition = self.any_partition();
        let asked = TopicPartitions::default()
            .with_topic(topic(TOPIC))
            .with_partitions(vec![partition]);
        let request = ElectLeadersRequest::default()
            .with_topic_partitions(Some(vec![asked]))
            .with_timeout_ms(10_000);
        let broker = self.client.any_broker();
        let asked = self
            .client
            .ask_patiently(broker, ELECT_LEADERS, &request, PATIENCE);
        let error = asked.await.map(|answer| answer.error_code);
        let journal = &self.client.world.journal;
        journal.note(format_args!("elect the leader of {partition}: {error:?}"));
        error == Some(0)
    }

    /// Moves a partition's replicas: to others if there are any, else to another order.
    async fn reassign(&mut self) -> bool {
        let partition = self.any_partition();
        let mut nodes: Vec<NodeId> = self.client.world.nodes().collect();
        let mut to = Vec::new();
        while to.len() < VOTERS as usize {
            let at = self.client.random.below(nodes.len() as u64);
            to.push(BrokerId(nodes.remove(at as usize)));
        }
        let moved = ReassignablePartition::default()
            .with_partition_index(partition)
            .with_replicas(Some(to.clone()));
        let moved = ReassignableTopic::default()
            .with_name(topic(TOPIC))
            .with_partitions(vec![moved]);
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![moved]);
        let broker = self.client.any_broker();
        let asked = self
            .client
            .ask_patiently(broker, ALTER_REASSIGNMENTS, &request, PATIENCE);
        let error = asked.await.map(|answer| {
            let topics = answer.responses.iter().flat_map(|t| &t.partitions);
            let of_partition = topics.map(|p| p.error_code).find(|code| *code != 0);
            of_partition.unwrap_or(answer.error_code)
        });
        let to: Vec<NodeId> = to.iter().map(|id| id.0).collect();
        let journal = &self.client.world.journal;
        journal.note(format_args!("move {partition} to {to:?}: {error:?}"));
        error == Some(0)
    }
}
