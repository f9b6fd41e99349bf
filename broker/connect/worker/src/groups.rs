//! What the brokers know of a connector's group.

use std::time::Duration;

use ottla_connect::config::{Props, whole_match};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{Role, client_config, client_keys};

const ASK_WAIT: Duration = Duration::from_secs(10);

/// How far a group is in a topic-partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    pub topic: String,
    pub partition: i32,
    pub committed: i64,
    pub end: i64,
}

fn client(worker: &Props, connector: &Props) -> Result<BaseConsumer, String> {
    let keys = client_keys(Role::Consumer, worker, connector).map_err(|e| e.to_string())?;
    let mut config = client_config(Role::Consumer, &keys).map_err(|e| e.to_string())?;
    if config.get("group.id").is_none() {
        let name = connector.get("name").map_or("", String::as_str);
        config.set("group.id", format!("connect-{name}"));
    }
    config.create().map_err(|e: KafkaError| e.to_string())
}

/// The id of the cluster, if a broker answers.
pub fn cluster_id(worker: &Props) -> Option<String> {
    let client = client(worker, &Props::new()).ok()?;
    client.client().fetch_cluster_id(ASK_WAIT)
}

fn partitions(client: &BaseConsumer, connector: &Props) -> Result<Vec<(String, i32)>, String> {
    let metadata = client
        .fetch_metadata(None, ASK_WAIT)
        .map_err(|e| e.to_string())?;
    let topics = connector.get("topics").map_or("", String::as_str);
    let pattern = connector.get("topics.regex").map_or("", String::as_str);
    let wanted = |topic: &str| match topics.trim() {
        "" => whole_match(pattern, topic),
        topics => topics.split(',').any(|t| t.trim() == topic),
    };
    let mut found = Vec::new();
    for topic in metadata.topics().iter().filter(|t| wanted(t.name())) {
        found.extend(
            topic
                .partitions()
                .iter()
                .map(|p| (topic.name().to_owned(), p.id())),
        );
    }
    Ok(found)
}

/// The topics of a connector that there are.
pub fn topics(worker: &Props, connector: &Props) -> Result<Vec<String>, String> {
    let client = client(worker, connector)?;
    let mut names: Vec<_> = partitions(&client, connector)?
        .into_iter()
        .map(|(t, _)| t)
        .collect();
    names.dedup();
    Ok(names)
}

/// Committed offsets, and the ends of their topic-partitions.
pub fn lags(worker: &Props, connector: &Props) -> Result<Vec<Lag>, String> {
    let client = client(worker, connector)?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions(&client, connector)? {
        list.add_partition(&topic, partition);
    }
    let committed = client
        .committed_offsets(list, ASK_WAIT)
        .map_err(|e| e.to_string())?;
    let mut lags = Vec::new();
    for element in committed.elements() {
        let Offset::Offset(offset) = element.offset() else {
            continue;
        };
        let marks = client.fetch_watermarks(element.topic(), element.partition(), ASK_WAIT);
        lags.push(Lag {
            topic: element.topic().to_owned(),
            partition: element.partition(),
            committed: offset,
            end: marks.map_err(|e| e.to_string())?.1,
        });
    }
    Ok(lags)
}
