//! Topics, leaders and offsets: what a run needs to know before it starts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::{BrokerId, InitProducerIdRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::{ResponseError, messages::ProducerId};

use super::connection::Connection;
use super::read::{Reader, Truncated};
use super::version;
use crate::error::{LoadError, Result};

const CREATE_TIMEOUT_MS: i32 = 120_000;
const LEADERS_TIMEOUT_MS: u64 = 120_000;
const RETRY_INTERVAL_MS: u64 = 20;

/// A topic and which broker leads each of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// Address of the leader of partition 0, 1, 2, ...
    pub leaders: Vec<String>,
}

impl Topic {
    pub fn partitions(&self) -> u32 {
        self.leaders.len() as u32
    }

    /// Each broker's address and the partitions it leads.
    pub fn by_leader(&self) -> BTreeMap<&str, Vec<u32>> {
        let mut brokers: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (partition, leader) in self.leaders.iter().enumerate() {
            brokers.entry(leader).or_default().push(partition as u32);
        }
        brokers
    }
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}

/// Creates the topic; `false` if it exists already.
pub async fn create_topic(
    connection: &mut Connection,
    name: &str,
    partitions: u32,
    replication_factor: i16,
    configs: &[(&str, &str)],
) -> Result<bool> {
    let text = |s: &str| StrBytes::from_string(s.to_string());
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions as i32)
        .with_replication_factor(replication_factor)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(CREATE_TIMEOUT_MS);
    let answer = connection.request(version::CREATE_TOPICS, &request).await?;
    let (code, detail) = connection.parse(&answer, parse_create_topics)?;
    match ResponseError::try_from_code(code) {
        None => Ok(true),
        Some(ResponseError::TopicAlreadyExists) => Ok(false),
        Some(error) => Err(LoadError::Broker {
            doing: format!("creating topic {name}"),
            error,
            detail,
        }),
    }
}

/// Makes sure that the topic exists with this many partitions and every partition has a leader.
pub async fn prepare_topic(
    connection: &mut Connection,
    name: &str,
    partitions: u32,
    replication_factor: i16,
) -> Result<Topic> {
    create_topic(connection, name, partitions, replication_factor, &[]).await?;
    let topic = wait_for_leaders(connection, name, Some(partitions)).await?;
    if topic.partitions() != partitions {
        return Err(LoadError::Usage(format!(
            "topic {name} exists with {} partitions, not {partitions}: give --partitions {0}, or \
             choose another --topic",
            topic.partitions()
        )));
    }
    Ok(topic)
}

/// Asks until every partition has a leader. `partitions`: how many there will be, if known.
pub async fn wait_for_leaders(
    connection: &mut Connection,
    name: &str,
    partitions: Option<u32>,
) -> Result<Topic> {
    let deadline = Instant::now() + Duration::from_millis(LEADERS_TIMEOUT_MS);
    loop {
        let pending = match metadata(connection, name).await {
            Ok(topic) if partitions.is_none_or(|wanted| topic.partitions() >= wanted) => {
                return Ok(topic);
            }
            Ok(topic) => format!("only {} partitions are known", topic.partitions()),
            Err(LoadError::Broker { error, .. })
                if error.is_retriable()
                    && (partitions.is_some()
                        || error != ResponseError::UnknownTopicOrPartition) =>
            {
                error.to_string()
            }
            Err(error) => return Err(error),
        };
        if Instant::now() > deadline {
            return Err(LoadError::Timeout(format!(
                "topic {name} has not all leaders after {LEADERS_TIMEOUT_MS} ms ({pending}): see \
                 whether all brokers are up"
            )));
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
    }
}

/// One Metadata request for one topic; a partition without a leader is LEADER_NOT_AVAILABLE.
pub async fn metadata(connection: &mut Connection, name: &str) -> Result<Topic> {
    let leaders = leaders_now(connection, name).await?;
    let all: Option<Vec<String>> = leaders.into_iter().collect();
    let missing = ResponseError::LeaderNotAvailable.code();
    let code = if all.is_some() { 0 } else { missing };
    LoadError::check(code, || format!("asking for the leaders of topic {name}"))?;
    Ok(Topic {
        name: name.to_string(),
        leaders: all.unwrap_or_default(),
    })
}

/// The address of the leader of partition 0, 1, 2, ...; `None` where there is none now.
pub async fn leaders_now(connection: &mut Connection, name: &str) -> Result<Vec<Option<String>>> {
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let (code, _, leaders) = ask_metadata(connection, vec![wanted], name).await?;
    LoadError::check(code, || format!("asking for the leaders of topic {name}"))?;
    Ok(leaders)
}

/// Asks until the broker knows so many.
pub async fn wait_for_brokers(connection: &mut Connection, wanted: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(LEADERS_TIMEOUT_MS);
    loop {
        let (_, known, _) = ask_metadata(connection, Vec::new(), "").await?;
        if known >= wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            let what = format!("{known} of {wanted} brokers are there: see their logs");
            return Err(LoadError::Timeout(what));
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
    }
}

/// The code of the topic `name`, how many brokers there are, and the topic's leaders.
async fn ask_metadata(
    connection: &mut Connection,
    topics: Vec<MetadataRequestTopic>,
    name: &str,
) -> Result<(i16, usize, Vec<Option<String>>)> {
    let request = MetadataRequest::default()
        .with_topics(Some(topics))
        .with_allow_auto_topic_creation(false);
    let answer = connection.request(version::METADATA, &request).await?;
    connection.parse(&answer, |r| parse_metadata(r, name))
}

/// `ListOffsets` timestamps with a meaning of their own.
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;

/// The offset at `timestamp` of every partition of the topic, asked of each leader; waits while a
/// leader has not yet taken over.
pub async fn list_offsets(topic: &Topic, timestamp: i64) -> Result<Vec<i64>> {
    let deadline = Instant::now() + Duration::from_millis(LEADERS_TIMEOUT_MS);
    let mut offsets = vec![-1; topic.leaders.len()];
    for (address, mut partitions) in topic.by_leader() {
        let mut connection = Connection::open(address).await?;
        while !partitions.is_empty() {
            let answer = ask_offsets(&mut connection, &topic.name, &partitions, timestamp).await?;
            for (partition, code, offset) in answer {
                let retriable =
                    ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable());
                if retriable && Instant::now() < deadline {
                    continue;
                }
                let doing = || {
                    format!(
                        "asking for an offset of {} partition {partition}",
                        topic.name
                    )
                };
                LoadError::check(code, doing)?;
                let asked = partitions
                    .iter()
                    .position(|p| i64::from(*p) == i64::from(partition));
                let Some(asked) = asked else {
                    let what = format!("offsets of partition {partition}, which was not asked for");
                    return Err(LoadError::Malformed {
                        address: address.to_string(),
                        what,
                    });
                };
                offsets[partitions.swap_remove(asked) as usize] = offset;
            }
            if !partitions.is_empty() {
                tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
            }
        }
    }
    Ok(offsets)
}

async fn ask_offsets(
    connection: &mut Connection,
    topic: &str,
    partitions: &[u32],
    timestamp: i64,
) -> Result<Vec<(i32, i16, i64)>> {
    let asked = partitions.iter().map(|partition| {
        ListOffsetsPartition::default()
            .with_partition_index(*partition as i32)
            .with_timestamp(timestamp)
    });
    let wanted = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(asked.collect());
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![wanted]);
    let answer = connection.request(version::LIST_OFFSETS, &request).await?;
    connection.parse(&answer, parse_list_offsets)
}

/// A new producer id and epoch for an idempotent producer; waits while the coordinator loads.
pub async fn init_producer_id(connection: &mut Connection) -> Result<(i64, i16)> {
    let deadline = Instant::now() + Duration::from_millis(LEADERS_TIMEOUT_MS);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    loop {
        let answer = connection
            .request(version::INIT_PRODUCER_ID, &request)
            .await?;
        let (code, id, epoch) = connection.parse(&answer, |r| {
            r.i32()?;
            Ok((r.i16()?, r.i64()?, r.i16()?))
        })?;
        let retriable = ResponseError::try_from_code(code).is_some_and(|e| e.is_retriable());
        if !retriable || Instant::now() > deadline {
            LoadError::check(code, || "asking for a producer id".to_string())?;
            return Ok((id, epoch));
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
    }
}

type Parsed<T> = std::result::Result<T, Truncated>;

/// The code and message of the one topic that was asked for.
fn parse_create_topics(r: &mut Reader<'_>) -> Parsed<(i16, Option<String>)> {
    r.i32()?; // throttle time
    if r.array_len(6)? == 0 {
        return Err(Truncated);
    }
    r.string()?;
    Ok((r.i16()?, r.nullable_string()?.map(str::to_string)))
}

/// The code of a topic, how many brokers there are, and the leader's address of each partition.
fn parse_metadata(r: &mut Reader<'_>, name: &str) -> Parsed<(i16, usize, Vec<Option<String>>)> {
    r.i32()?; // throttle time
    let mut brokers = BTreeMap::new();
    for _ in 0..r.array_len(12)? {
        let id = r.i32()?;
        let (host, port) = (r.string()?, r.i32()?);
        r.nullable_string()?; // rack
        brokers.insert(id, format_address(host, port));
    }
    r.nullable_string()?; // cluster id
    r.i32()?; // controller id
    for _ in 0..r.array_len(9)? {
        let (code, found) = (r.i16()?, r.string()?);
        r.i8()?; // internal
        let leaders = parse_partitions(r, &brokers)?;
        if found != name {
            continue;
        }
        return Ok(match leaders {
            _ if code != 0 => (code, brokers.len(), Vec::new()),
            leaders if !leaders.is_empty() => (0, brokers.len(), leaders),
            _ => {
                let code = ResponseError::LeaderNotAvailable.code();
                (code, brokers.len(), Vec::new())
            }
        });
    }
    let code = ResponseError::UnknownTopicOrPartition.code();
    Ok((code, brokers.len(), Vec::new()))
}

/// `None` for a partition without a leader, or with a leader that is not among the brokers.
fn parse_partitions(
    r: &mut Reader<'_>,
    brokers: &BTreeMap<i32, String>,
) -> Parsed<Vec<Option<String>>> {
    let count = r.array_len(26)?;
    let mut leaders = vec![None; count];
    for _ in 0..count {
        r.i16()?; // error: a missing leader shows by its id as well
        let (partition, leader) = (r.i32()?, r.i32()?);
        r.i32()?; // leader epoch
        for _ in 0..3 {
            // replicas, in-sync replicas, offline replicas
            let ids = r.array_len(4)?;
            r.take(ids * 4)?;
        }
        let index = usize::try_from(partition).ok();
        if let Some(place) = index.and_then(|index| leaders.get_mut(index)) {
            *place = brokers.get(&leader).cloned();
        }
    }
    Ok(leaders)
}

fn format_address(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Partition, code and offset of every partition in the answer.
fn parse_list_offsets(r: &mut Reader<'_>) -> Parsed<Vec<(i32, i16, i64)>> {
    r.i32()?; // throttle time
    let mut offsets = Vec::new();
    for _ in 0..r.array_len(6)? {
        r.string()?;
        for _ in 0..r.array_len(26)? {
            let (partition, code) = (r.i32()?, r.i16()?);
            r.i64()?; // timestamp
            offsets.push((partition, code, r.i64()?));
            r.i32()?; // leader epoch
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::messages::create_topics_response::{
        CreatableTopicResult, CreateTopicsResponse,
    };
    use kafka_protocol::messages::list_offsets_response::*;
    use kafka_protocol::messages::metadata_response::*;
    use kafka_protocol::protocol::Encodable;

    fn bytes(message: &impl Encodable, version: i16) -> BytesMut {
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        out
    }

    fn cluster(leader_of_1: i32) -> MetadataResponse {
        let broker = |id: i32, host: &str| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(StrBytes::from_string(host.into()))
                .with_port(9092)
        };
        let partition = |index: i32, leader: i32| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(leader))
                .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
        };
        let topic = MetadataResponseTopic::default()
            .with_name(Some(topic_name("t")))
            .with_partitions(vec![partition(1, leader_of_1), partition(0, 1)]);
        MetadataResponse::default()
            .with_brokers(vec![broker(1, "a"), broker(2, "::1")])
            .with_topics(vec![topic])
    }

    #[test]
    fn metadata_answers_as_the_crate_encodes_them() {
        let encoded = bytes(&cluster(2), version::METADATA);
        let parsed = parse_metadata(&mut Reader::new(&encoded), "t").unwrap();
        assert_eq!(
            parsed,
            (
                0,
                2,
                vec![Some("a:9092".to_string()), Some("[::1]:9092".to_string())]
            )
        );
        for length in 0..encoded.len() {
            assert!(
                parse_metadata(&mut Reader::new(&encoded[..length]), "t").is_err(),
                "{length}"
            );
        }
        let (code, ..) = parse_metadata(&mut Reader::new(&encoded), "other").unwrap();
        assert_eq!(code, ResponseError::UnknownTopicOrPartition.code());
        let headless = bytes(&cluster(-1), version::METADATA);
        let parsed = parse_metadata(&mut Reader::new(&headless), "t").unwrap();
        assert_eq!(parsed, (0, 2, vec![Some("a:9092".to_string()), None]));
    }

    #[test]
    fn create_topics_and_list_offsets_answers() {
        let result = CreatableTopicResult::default()
            .with_name(topic_name("t"))
            .with_error_code(36)
            .with_error_message(Some(StrBytes::from_static_str("exists")));
        let answer = CreateTopicsResponse::default().with_topics(vec![result]);
        let encoded = bytes(&answer, version::CREATE_TOPICS);
        let parsed = parse_create_topics(&mut Reader::new(&encoded)).unwrap();
        assert_eq!(parsed, (36, Some("exists".to_string())));

        let partition = ListOffsetsPartitionResponse::default()
            .with_partition_index(3)
            .with_error_code(6)
            .with_offset(77);
        let topic = ListOffsetsTopicResponse::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let answer = ListOffsetsResponse::default().with_topics(vec![topic]);
        let encoded = bytes(&answer, version::LIST_OFFSETS);
        assert_eq!(
            parse_list_offsets(&mut Reader::new(&encoded)).unwrap(),
            vec![(3, 6, 77)]
        );
    }
}
