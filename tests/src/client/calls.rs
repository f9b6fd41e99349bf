//! The requests that tests make often.

use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, DeleteTopicsRequest,
    FetchRequest, FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::code;
use super::connection::{ClientError, Connection};

/// The versions these calls use: understood by Kafka 4 and named by topic, not by topic id.
pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 12;
const LIST_OFFSETS: i16 = 7;
const METADATA: i16 = 12;
const CREATE_TOPICS: i16 = 7;
const DELETE_TOPICS: i16 = 6;
const ALTER_CONFIGS: i16 = 1;
/// A topic among the kinds of resources that are configured.
const TOPIC_RESOURCE: i8 = 2;
const INIT_PRODUCER_ID: i16 = 4;
const OFFSET_COMMIT: i16 = 8;
pub const OFFSET_FETCH: i16 = 8;
const FIND_COORDINATOR: i16 = 4;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A topic to make.
pub struct Topic<'a> {
    pub name: &'a str,
    pub partitions: i32,
    pub configs: &'a [(&'a str, &'a str)],
}

/// One partition to read.
#[derive(Debug, Clone)]
pub struct FetchAsk<'a> {
    pub topic: &'a str,
    pub topic_id: Uuid,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub partition_max_bytes: i32,
    pub max_bytes: i32,
    pub min_bytes: i32,
    pub max_wait_ms: i32,
}

impl<'a> FetchAsk<'a> {
    pub fn of(topic: &'a str, partition: i32, offset: i64) -> FetchAsk<'a> {
        FetchAsk {
            topic,
            topic_id: Uuid::nil(),
            partition,
            offset,
            leader_epoch: -1,
            partition_max_bytes: 1 << 20,
            max_bytes: 8 << 20,
            min_bytes: 0,
            max_wait_ms: 0,
        }
    }
}

/// A Fetch of several partitions; bounds are those of the first.
pub fn fetch_request(asks: &[FetchAsk<'_>]) -> FetchRequest {
    let first = &asks[0];
    let topics = asks.iter().map(|ask| {
        let partition = FetchPartition::default()
            .with_partition(ask.partition)
            .with_fetch_offset(ask.offset)
            .with_current_leader_epoch(ask.leader_epoch)
            .with_partition_max_bytes(ask.partition_max_bytes);
        FetchTopic::default()
            .with_topic(topic_name(ask.topic))
            .with_topic_id(ask.topic_id)
            .with_partitions(vec![partition])
    });
    FetchRequest::default()
        .with_max_bytes(first.max_bytes)
        .with_min_bytes(first.min_bytes)
        .with_max_wait_ms(first.max_wait_ms)
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// The value, unless the answer has an error code.
pub fn checked<T>(what: &'static str, code: i16, value: T) -> Result<T, ClientError> {
    match code {
        0 => Ok(value),
        code => Err(ClientError::Kafka { what, code }),
    }
}

/// Where a broker says that it is; in tests these are numbers.
fn address(what: &'static str, host: &str, port: i32) -> Result<SocketAddr, ClientError> {
    let bad = |e: std::net::AddrParseError| ClientError::Codec {
        what: what.to_owned(),
        error: format!("{host}:{port}: {e}"),
    };
    format!("{host}:{port}").parse().map_err(bad)
}

/// An answer that lists one thing per thing asked.
fn only<T>(what: &'static str, list: impl IntoIterator<Item = T>) -> Result<T, ClientError> {
    let missing = || ClientError::Codec {
        what: what.to_owned(),
        error: "nothing in the answer".to_owned(),
    };
    list.into_iter().next().ok_or_else(missing)
}

impl Connection {
    pub async fn api_versions(&mut self) -> Result<ApiVersionsResponse, ClientError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("ottla-tests"))
            .with_client_software_version(text("1"));
        let answer = self.call(3, &request).await?;
        checked("ApiVersions", answer.error_code, answer)
    }

    /// Metadata of one topic, without making it.
    pub async fn metadata(&mut self, topic: &str) -> Result<MetadataResponse, ClientError> {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        self.call(METADATA, &request).await
    }

    /// Where a partition is led.
    pub async fn leader(&mut self, topic: &str, partition: i32) -> Result<SocketAddr, ClientError> {
        let answer = self.metadata(topic).await?;
        let topic = only("Metadata", answer.topics)?;
        checked("Metadata", topic.error_code, ())?;
        let mut partitions = topic.partitions.iter();
        let partition = partitions.find(|p| p.partition_index == partition);
        let partition = only("Metadata", partition)?;
        checked("Metadata", partition.error_code, ())?;
        let broker = answer
            .brokers
            .iter()
            .find(|b| b.node_id == partition.leader_id);
        match broker {
            Some(broker) => address("Metadata", &broker.host, broker.port),
            None => Err(ClientError::Kafka {
                what: "Metadata",
                code: code::LEADER_NOT_AVAILABLE,
            }),
        }
    }

    pub async fn topic_id(&mut self, topic: &str) -> Result<Uuid, ClientError> {
        let topic = only("Metadata", self.metadata(topic).await?.topics)?;
        checked("Metadata", topic.error_code, topic.topic_id)
    }

    pub async fn create_topic(&mut self, topic: Topic<'_>) -> Result<Uuid, ClientError> {
        let configs = topic.configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(topic.name))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let made = only(
            "CreateTopics",
            self.call(CREATE_TOPICS, &request).await?.topics,
        )?;
        checked("CreateTopics", made.error_code, made.topic_id)
    }

    pub async fn delete_topic(&mut self, topic: &str) -> Result<(), ClientError> {
        let state = DeleteTopicState::default().with_name(Some(topic_name(topic)));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![state])
            .with_timeout_ms(30_000);
        let deleted = only(
            "DeleteTopics",
            self.call(DELETE_TOPICS, &request).await?.responses,
        )?;
        checked("DeleteTopics", deleted.error_code, ())
    }

    /// Sets one key of a topic's configuration.
    pub async fn alter_topic(
        &mut self,
        topic: &str,
        key: &str,
        value: &str,
    ) -> Result<(), ClientError> {
        let text = |s: &str| StrBytes::from_string(s.to_owned());
        let config = AlterableConfig::default()
            .with_name(text(key))
            .with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(topic))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let altered = only(
            "IncrementalAlterConfigs",
            self.call(ALTER_CONFIGS, &request).await?.responses,
        )?;
        checked("IncrementalAlterConfigs", altered.error_code, ())
    }

    /// One batch, acks=all; whatever the partition's answer is.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> Result<PartitionProduceResponse, ClientError> {
        let answer = self
            .call(PRODUCE, &produce_request(topic, partition, -1, records))
            .await?;
        only(
            "Produce",
            only("Produce", answer.responses)?.partition_responses,
        )
    }

    /// Whatever the partition's answer is.
    pub async fn fetch(&mut self, ask: FetchAsk<'_>) -> Result<PartitionData, ClientError> {
        let answer = self.call(FETCH, &fetch_request(&[ask])).await?;
        checked("Fetch", answer.error_code, ())?;
        only("Fetch", only("Fetch", answer.responses)?.partitions)
    }

    /// `timestamp`: milliseconds since 1970, or -1 latest, -2 earliest, -3 newest timestamp, ...
    pub async fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<ListOffsetsPartitionResponse, ClientError> {
        self.list_offset_at(LIST_OFFSETS, topic, partition, timestamp)
            .await
    }

    pub async fn list_offset_at(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<ListOffsetsPartitionResponse, ClientError> {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic]);
        let answer = self.call(version, &request).await?;
        only(
            "ListOffsets",
            only("ListOffsets", answer.topics)?.partitions,
        )
    }

    /// A new producer id and its epoch.
    pub async fn init_producer_id(&mut self) -> Result<(i64, i16), ClientError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = self.call(INIT_PRODUCER_ID, &request).await?;
        checked(
            "InitProducerId",
            answer.error_code,
            (answer.producer_id.0, answer.producer_epoch),
        )
    }

    /// The address of the group's coordinator.
    pub async fn coordinator(&mut self, group: &str) -> Result<SocketAddr, ClientError> {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let answer = self.call(FIND_COORDINATOR, &request).await?;
        let found = only("FindCoordinator", answer.coordinators)?;
        checked("FindCoordinator", found.error_code, ())?;
        address("FindCoordinator", &found.host, found.port)
    }

    /// The group's coordinator: node id and port.
    pub async fn find_coordinator(&mut self, group: &str) -> Result<(i32, i32), ClientError> {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let answer = self.call(FIND_COORDINATOR, &request).await?;
        let found = only("FindCoordinator", answer.coordinators)?;
        checked(
            "FindCoordinator",
            found.error_code,
            (found.node_id.0, found.port),
        )
    }

    /// Commits as a client without membership does (generation -1).
    pub async fn commit(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), ClientError> {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.call(OFFSET_COMMIT, &request).await?;
        let partition = only(
            "OffsetCommit",
            only("OffsetCommit", answer.topics)?.partitions,
        )?;
        checked("OffsetCommit", partition.error_code, ())
    }

    /// The committed offset; -1 where there is none.
    pub async fn committed(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<i64, ClientError> {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![partition]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_member_epoch(-1)
            .with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let answer = only(
            "OffsetFetch",
            self.call(OFFSET_FETCH, &request).await?.groups,
        )?;
        checked("OffsetFetch", answer.error_code, ())?;
        let partition = only(
            "OffsetFetch",
            only("OffsetFetch", answer.topics)?.partitions,
        )?;
        checked(
            "OffsetFetch",
            partition.error_code,
            partition.committed_offset,
        )
    }
}
