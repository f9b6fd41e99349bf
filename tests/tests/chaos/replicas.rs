//! Where replicas are: moved while other things happen, brought back, and in the end each one read. For that each
//! node in turn is made the preferred leader of everything, and elected.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, MetadataRequest,
};
use ottla_tests::client::{ClientError, Connection, checked, code};
use ottla_tests::cluster::{NODES, wait_for};
use ottla_tests::load::Stopped;

use crate::hosts::Hosts;

const REASSIGN: i16 = 0;
const LIST_MOVES: i16 = 0;
const ELECT: i16 = 2;
const METADATA: i16 = 12;
const TIMEOUT_MS: i32 = 10_000;
const PREFERRED: i8 = 0;

/// What each replica has becomes part of the history.
pub async fn read_each(hosts: &mut Hosts, stopped: &Stopped) {
    for id in NODES {
        let address = hosts.node(id).address;
        wait_for(&format!("node {id} leads"), async || {
            lead(hosts, id).await.map_err(|e| e.to_string())?;
            // It may move on in between.
            stopped
                .read_from(id, address)
                .await
                .map_err(|e| e.to_string())
        })
        .await;
    }
}

/// Makes a node the preferred replica of every partition, and has it elected.
async fn lead(hosts: &Hosts, id: i32) -> Result<(), ClientError> {
    let mut connection = hosts.cluster.connect(id).await;
    reassign(&mut connection, |_| first_of_all(id)).await?;
    let request = ElectLeadersRequest::default()
        .with_election_type(PREFERRED)
        .with_topic_partitions(None::<Vec<TopicPartitions>>)
        .with_timeout_ms(TIMEOUT_MS);
    let answer = connection.call(ELECT, &request).await?;
    checked("ElectLeaders", answer.error_code, ())
}

/// Partitions that have the same replicas go to the same new ones; which, the plan says.
pub async fn reassign(
    connection: &mut Connection,
    plan: impl Fn(&[i32]) -> Vec<i32>,
) -> Result<(), ClientError> {
    let topics = topics(connection).await?;
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let wanted = plan(&replicas(partition));
            ReassignablePartition::default()
                .with_partition_index(partition.partition_index)
                .with_replicas(Some(wanted.into_iter().map(BrokerId).collect()))
        });
        ReassignableTopic::default()
            .with_name(topic.name.clone().unwrap_or_default())
            .with_partitions(partitions.collect())
    });
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_topics(topics.collect());
    let answer = connection.call(REASSIGN, &request).await?;
    checked("AlterPartitionReassignments", answer.error_code, ())?;
    let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let refused = partitions.find(|partition| partition.error_code != 0);
    refused.map_or(Ok(()), |partition| {
        checked("AlterPartitionReassignments", partition.error_code, ())
    })
}

/// Whether every partition has a replica on each node, and will go on to; where not, a move there begins.
pub async fn restore(hosts: &Hosts) -> Result<(), ClientError> {
    let mut connection = hosts.cluster.connect(NODES[0]).await;
    let topics = topics(&mut connection).await?;
    let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let is_everywhere = partitions.all(|partition| replicas(partition).len() == NODES.len());
    if is_everywhere && !is_moving(&mut connection).await? {
        return Ok(());
    }
    reassign(&mut connection, |now| first_of_all(now[0])).await?;
    let again = code::REASSIGNMENT_IN_PROGRESS;
    checked("it has only begun", again, ())
}

/// Whether a move that was asked for is not done yet.
async fn is_moving(connection: &mut Connection) -> Result<bool, ClientError> {
    let request = ListPartitionReassignmentsRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_topics(None);
    let answer = connection.call(LIST_MOVES, &request).await?;
    checked("ListPartitionReassignments", answer.error_code, ())?;
    Ok(!answer.topics.is_empty())
}

/// All nodes, this one first.
fn first_of_all(id: i32) -> Vec<i32> {
    let others = NODES.into_iter().filter(|other| *other != id);
    [id].into_iter().chain(others).collect()
}

fn replicas(partition: &MetadataResponsePartition) -> Vec<i32> {
    partition.replica_nodes.iter().map(|id| id.0).collect()
}

async fn topics(connection: &mut Connection) -> Result<Vec<MetadataResponseTopic>, ClientError> {
    let ask = MetadataRequest::default().with_topics(None);
    Ok(connection.call(METADATA, &ask).await?.topics)
}
