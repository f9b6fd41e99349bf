//! A broker for tests that loses, repeats, swaps, damages, delays or refuses batches on purpose: the
//! harness must say so. It decodes and encodes with kafka-protocol, so it also checks every
//! hand-written frame and parser of the client from the other side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicResult, CreateTopicsResponse,
};
use kafka_protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use kafka_protocol::messages::list_offsets_response::*;
use kafka_protocol::messages::metadata_response::*;
use kafka_protocol::messages::produce_response::*;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::client::connection::read_frame;

/// What the stub does to the produce requests it should treat well: each to every 20th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Acknowledged, not stored.
    Drop,
    /// Stored twice.
    Duplicate,
    /// Stored after the batch that follows it.
    Swap,
    /// A bit of the payload flips.
    Damage,
    /// Stored in another partition.
    Misplace,
    /// Refused with NOT_LEADER_OR_FOLLOWER, and not stored.
    Refuse,
    /// Answered late: every request, by so many milliseconds.
    Delay(u64),
    /// The connection closes.
    Close,
}

const EVERY: u64 = 20;

#[derive(Default)]
struct Logs {
    partitions: HashMap<i32, Vec<Bytes>>,
    next_offsets: HashMap<i32, i64>,
    held: Option<(i32, Bytes)>,
    produced: u64,
    topics: HashMap<String, i32>,
}

pub struct Stub {
    fault: Fault,
    port: i32,
    logs: Mutex<Logs>,
}

impl Stub {
    /// Listens on loopback; returns the address.
    pub async fn start(fault: Fault) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let logs = Mutex::default();
        let stub = Arc::new(Stub {
            fault,
            port: i32::from(address.port()),
            logs,
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stub = stub.clone();
                tokio::spawn(async move { stub.serve(stream).await });
            }
        });
        address.to_string()
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut buffer = BytesMut::new();
        while let Ok(frame) = read_frame(&mut stream, &mut buffer, 64 << 20).await {
            let mut frame = frame.freeze();
            let header = decode_request_header_from_buffer(&mut frame).unwrap();
            let key = ApiKey::try_from(header.request_api_key).unwrap();
            let version = header.request_api_version;
            let mut out = BytesMut::new();
            out.put_i32(0);
            ResponseHeader::default()
                .with_correlation_id(header.correlation_id)
                .encode(&mut out, key.response_header_version(version))
                .unwrap();
            if let Fault::Delay(ms) = self.fault
                && key == ApiKey::Produce
            {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            if !self.answer(key, version, &mut frame, &mut out) {
                return;
            }
            assert!(
                frame.is_empty(),
                "{key:?} has bytes that the crate does not know"
            );
            let length = (out.len() - 4) as u32;
            out[..4].copy_from_slice(&length.to_be_bytes());
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
    }

    /// Appends the answer's body; `false` to close the connection.
    fn answer(&self, key: ApiKey, version: i16, body: &mut Bytes, out: &mut BytesMut) -> bool {
        match key {
            ApiKey::ApiVersions => api_versions().encode(out, version),
            ApiKey::CreateTopics => {
                let request = CreateTopicsRequest::decode(body, version).unwrap();
                self.create(&request).encode(out, version)
            }
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(body, version).unwrap();
                self.metadata(&request).encode(out, version)
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(body, version).unwrap();
                self.offsets(&request).encode(out, version)
            }
            ApiKey::InitProducerId => {
                InitProducerIdRequest::decode(body, version).unwrap();
                InitProducerIdResponse::default()
                    .with_producer_id(7.into())
                    .encode(out, version)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(body, version).unwrap();
                let Some(answer) = self.produce(&request) else {
                    return false;
                };
                answer.encode(out, version)
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(body, version).unwrap();
                self.fetch(&request).encode(out, version)
            }
            other => panic!("the harness does not send {other:?}"),
        }
        .unwrap();
        true
    }

    fn create(&self, request: &CreateTopicsRequest) -> CreateTopicsResponse {
        let mut logs = self.logs.lock().unwrap();
        let topic = &request.topics[0];
        let exists = logs
            .topics
            .insert(topic.name.to_string(), topic.num_partitions)
            .is_some();
        let result = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(if exists { 36 } else { 0 });
        CreateTopicsResponse::default().with_topics(vec![result])
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let name = request.topics.as_ref().unwrap()[0].name.clone().unwrap();
        let count = self.logs.lock().unwrap().topics.get(name.as_str()).copied();
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(1))
        };
        let topic = MetadataResponseTopic::default()
            .with_error_code(if count.is_some() { 0 } else { 3 })
            .with_name(Some(name))
            .with_partitions((0..count.unwrap_or(0)).map(partition).collect());
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(1))
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(self.port);
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic])
    }

    fn offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let logs = self.logs.lock().unwrap();
        let topic = &request.topics[0];
        let each = topic.partitions.iter().map(|asked| {
            let end = logs
                .next_offsets
                .get(&asked.partition_index)
                .copied()
                .unwrap_or(0);
            ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_offset(if asked.timestamp == -1 { end } else { 0 })
        });
        let topic = ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(each.collect());
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    fn produce(&self, request: &ProduceRequest) -> Option<ProduceResponse> {
        let mut logs = self.logs.lock().unwrap();
        let topic = &request.topic_data[0];
        let mut answers = Vec::new();
        for data in &topic.partition_data {
            logs.produced += 1;
            let fault = if logs.produced.is_multiple_of(EVERY) {
                self.fault
            } else {
                Fault::None
            };
            let batch = data.records.clone().unwrap();
            assert_crc(&batch);
            let code = if fault == Fault::Refuse { 6 } else { 0 };
            match fault {
                Fault::Close => return None,
                Fault::Drop | Fault::Refuse => {}
                Fault::Swap => logs.held = Some((data.index, batch)),
                Fault::Misplace => logs.append(data.index ^ 1, batch),
                Fault::Damage => {
                    let mut damaged = BytesMut::from(&batch[..]);
                    let last = damaged.len() - 2;
                    damaged[last] ^= 1;
                    logs.append(data.index, damaged.freeze());
                }
                Fault::Duplicate => {
                    logs.append(data.index, batch.clone());
                    logs.append(data.index, batch);
                }
                Fault::None | Fault::Delay(_) => logs.append(data.index, batch),
            }
            let held_here = logs
                .held
                .as_ref()
                .is_some_and(|(index, _)| *index == data.index);
            if held_here
                && fault == Fault::None
                && let Some((index, held)) = logs.held.take()
            {
                logs.append(index, held);
            }
            answers.push(
                PartitionProduceResponse::default()
                    .with_index(data.index)
                    .with_error_code(code),
            );
        }
        let topic = TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_partition_responses(answers);
        Some(ProduceResponse::default().with_responses(vec![topic]))
    }

    /// One batch of each partition at a time.
    fn fetch(&self, request: &FetchRequest) -> FetchResponse {
        let logs = self.logs.lock().unwrap();
        let topic = &request.topics[0];
        let each = topic.partitions.iter().map(|asked| {
            let batches = logs.partitions.get(&asked.partition);
            let records = batches.into_iter().flatten().find(|batch| {
                i64::from_be_bytes(batch[..8].try_into().unwrap()) >= asked.fetch_offset
            });
            PartitionData::default()
                .with_partition_index(asked.partition)
                .with_records(Some(records.cloned().unwrap_or_default()))
        });
        let topic = FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_partitions(each.collect());
        FetchResponse::default().with_responses(vec![topic])
    }
}

impl Logs {
    fn append(&mut self, partition: i32, batch: Bytes) {
        let next = self.next_offsets.entry(partition).or_insert(0);
        let mut stored = BytesMut::from(&batch[..]);
        stored[..8].copy_from_slice(&next.to_be_bytes());
        let count = i32::from_be_bytes(batch[57..61].try_into().unwrap());
        *next += i64::from(count);
        self.partitions
            .entry(partition)
            .or_default()
            .push(stored.freeze());
    }
}

fn assert_crc(batch: &Bytes) {
    let stored = u32::from_be_bytes(batch[17..21].try_into().unwrap());
    assert_eq!(
        stored,
        crc32c::crc32c(&batch[21..]),
        "the harness sent a wrong CRC"
    );
}

fn api_versions() -> ApiVersionsResponse {
    let keys = (0..=22).map(|key| ApiVersion::default().with_api_key(key).with_max_version(12));
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

mod tests {
    use super::*;
    use crate::error::LoadError;
    use crate::scenario::consume::{self, ConsumePlan, ReadPlan};
    use crate::scenario::many_partitions::{self, ManyPartitionsPlan};
    use crate::scenario::produce::{self, ProducePlan, ProduceResult};
    use crate::scenario::{Interrupt, Target};

    fn target(bootstrap: String) -> Target {
        Target {
            bootstrap,
            pids: vec![std::process::id()],
            threads: 1,
            progress: false,
        }
    }

    fn plan(bootstrap: String) -> ProducePlan {
        ProducePlan {
            target: target(bootstrap),
            topic: "t".into(),
            partitions: 4,
            replication_factor: 1,
            record_bytes: 100,
            batch_bytes: 1000,
            batches_per_request: 2,
            acks: -1,
            connections: 3,
            in_flight: 4,
            idempotent: true,
            rate_bytes_per_s: None,
            warmup: Duration::ZERO,
            measure: Duration::from_secs(60),
            records_max: Some(5_000),
            verify: true,
        }
    }

    async fn produce_with(
        fault: Fault,
        change: impl FnOnce(&mut ProducePlan),
    ) -> crate::error::Result<ProduceResult> {
        let mut plan = plan(Stub::start(fault).await);
        change(&mut plan);
        produce::run(&plan, &Interrupt::listen().unwrap()).await
    }

    #[tokio::test]
    async fn an_honest_broker_verifies() {
        let result = produce_with(Fault::None, |_| ()).await.unwrap();
        let findings = result.verified.unwrap();
        assert!(result.records >= 5_000);
        assert_eq!(result.unacknowledged_batches, 0);
        assert_eq!(findings.batches, result.acknowledged_batches);
        assert_eq!(
            (findings.records, findings.foreign_batches),
            (result.records, 0)
        );
        assert_eq!(result.bytes, result.records * 100);
        assert_eq!(result.latency.count, result.requests);
    }

    #[tokio::test]
    async fn a_lying_broker_does_not() {
        for (fault, words) in [
            (Fault::Drop, "lost"),
            (Fault::Duplicate, "twice"),
            (Fault::Swap, "out of order"),
            (Fault::Damage, "wrong CRC"),
            (Fault::Misplace, "not sent to"),
        ] {
            let error = produce_with(fault, |_| ()).await.unwrap_err();
            assert!(
                matches!(error, LoadError::NotVerified(_)),
                "{fault:?}: {error}"
            );
            assert!(error.to_string().contains(words), "{fault:?}: {error}");
        }
    }

    #[tokio::test]
    async fn refused_batches_are_counted_and_not_missed() {
        let result = produce_with(Fault::Refuse, |_| ()).await.unwrap();
        let refused = result.errors[&6];
        assert!(refused > 10);
        assert_eq!(result.unacknowledged_batches, refused);
        assert_eq!(
            result.verified.unwrap().batches,
            result.acknowledged_batches
        );
    }

    #[tokio::test]
    async fn a_closed_connection_ends_the_run() {
        let error = produce_with(Fault::Close, |_| ()).await.unwrap_err();
        assert!(matches!(error, LoadError::Lost { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_open_loop_counts_from_when_requests_were_due() {
        // One request per 10 ms is due, and the broker takes 20: each waits longer than the last.
        let result = produce_with(Fault::Delay(20), |plan| {
            plan.connections = 1;
            plan.in_flight = 1;
            plan.batches_per_request = 1;
            plan.rate_bytes_per_s = Some(90_000.0); // batches carry 800 or 900 bytes
            plan.records_max = Some(50 * 9);
        });
        let latency = result.await.unwrap().latency;
        assert!(
            latency.p50_ms > 150.0 && latency.max_ms > 300.0,
            "{latency:?}"
        );
    }

    #[tokio::test]
    async fn more_batches_per_request_than_partitions_are_refused() {
        let error = produce_with(Fault::None, |plan| plan.partitions = 1).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("--batches-per-request"), "{error}");
    }

    #[tokio::test]
    async fn consume_reads_everything_and_finds_damage() {
        for (fault, good) in [
            (Fault::None, true),
            (Fault::Damage, false),
            (Fault::Duplicate, false),
        ] {
            let mut plan = plan(Stub::start(fault).await);
            plan.verify = false;
            let produced = produce::run(&plan, &Interrupt::listen().unwrap())
                .await
                .unwrap();
            let consume = |check| ConsumePlan {
                target: plan.target.clone(),
                topic: "t".into(),
                read: ReadPlan::new(3, check),
            };
            let counted = consume::run(&consume(false)).await.unwrap().read.findings;
            assert!(counted.batches >= produced.acknowledged_batches);
            assert_eq!(counted.bytes, counted.records * 100);
            let checked = consume::run(&consume(true)).await;
            assert_eq!(checked.is_ok(), good, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn many_partitions_all_acknowledge() {
        let bootstrap = Stub::start(Fault::Refuse).await;
        let mut plan = ManyPartitionsPlan::new(target(bootstrap), "many", 300, 1);
        (plan.settle, plan.idle) = (Duration::ZERO, Duration::from_millis(50));
        plan.partitions_per_request = 70;
        let result = many_partitions::run(&plan, &Interrupt::listen().unwrap())
            .await
            .unwrap();
        assert_eq!(result.retried[&6], 15);
        assert!(
            result.created_ms <= result.leaders_ms && result.leaders_ms < result.acknowledged_ms
        );
        let again = many_partitions::run(&plan, &Interrupt::listen().unwrap()).await;
        assert!(matches!(again, Err(LoadError::Usage(_))));
    }
}
