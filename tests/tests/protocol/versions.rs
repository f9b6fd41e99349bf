//! Versions, headers and order: what every client meets first.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, BytesMut};
use kafka_protocol::messages::delete_records_request::DeleteRecordsTopic;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use ottla_tests::broker::is_reference;
use ottla_tests::client::{Connection, FetchAsk, code, fetch_request, produce_request};
use ottla_tests::within;
use uuid::Uuid;

use crate::{Bench, TEST_SECONDS, small};

/// KIP-511: an ApiVersions request of a version from the future gets error 35 in a version 0 answer
/// that says which versions there are.
#[tokio::test]
async fn api_versions_of_the_future() {
    within(TEST_SECONDS, "ApiVersions", async {
        let mut bench = Bench::start().await;
        let mut frame = BytesMut::new();
        frame.put_i16(ApiKey::ApiVersions as i16);
        frame.put_i16(99);
        frame.put_i32(7);
        frame.put_i16(-1); // client id: none
        frame.put_u8(0); // header's tagged fields
        frame.extend_from_slice(&[1, 1, 0]); // two empty names and no tagged fields
        let mut sized = BytesMut::new();
        sized.put_i32(frame.len() as i32);
        sized.extend_from_slice(&frame);
        bench.connection.write(&sized).await.unwrap();
        let mut answer = bench.connection.read_frame().await.unwrap();
        assert_eq!(
            answer.get_i32(),
            7,
            "correlation id, and nothing else in the header"
        );
        let body = ApiVersionsResponse::decode(&mut answer, 0).expect("a version 0 body");
        assert!(answer.is_empty(), "{answer:?} follows");
        assert_eq!(body.error_code, code::UNSUPPORTED_VERSION);
        let own = body
            .api_keys
            .iter()
            .find(|api| api.api_key == 18)
            .expect("it lists ApiVersions itself");
        assert!(own.min_version == 0 && own.max_version >= 3, "{own:?}");
        // The client now knows better, on the same connection.
        bench.connection.api_versions().await.unwrap();
    })
    .await;
}

/// The answer's header is version 0 even where its body is flexible: no tagged fields between them.
#[tokio::test]
async fn api_versions_answers_with_a_plain_header() {
    within(TEST_SECONDS, "ApiVersions", async {
        let mut bench = Bench::start().await;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("t"))
            .with_client_software_version(StrBytes::from_static_str("1"));
        let sent = bench.connection.send(3, &request).await.unwrap();
        let mut answer = bench.connection.read_frame().await.unwrap();
        assert_eq!(answer.get_i32(), sent);
        assert_eq!(
            answer.get_i16(),
            0,
            "the error code follows the correlation id"
        );
        assert!(answer.get_u8() > 20, "then the compact array of APIs");
    })
    .await;
}

#[tokio::test]
async fn other_apis_of_the_future_are_refused() {
    within(TEST_SECONDS, "versions", async {
        let bench = Bench::start().await;
        for (key, version) in [(3i16, 99i16), (0, 99), (1, 99), (19, -1), (999, 0), (-1, 0)] {
            let mut frame = BytesMut::new();
            frame.put_i32(10);
            frame.put_i16(key);
            frame.put_i16(version);
            frame.put_i32(1);
            frame.put_i16(-1);
            let mut connection = bench.connect().await;
            connection.write(&frame).await.unwrap();
            let closed = connection.wait_until_closed().await;
            assert!(
                closed.is_ok(),
                "API {key} version {version}: the connection stays open"
            );
        }
        bench
            .connect()
            .await
            .api_versions()
            .await
            .expect("others are served");
    })
    .await;
}

struct Prober {
    connection: Connection,
    advertised: BTreeMap<i16, (i16, i16)>,
    failures: Vec<String>,
    answered: usize,
}

impl Prober {
    /// Sends one request per version that is advertised and that the crate can write.
    async fn probe<R: Request>(&mut self, request: impl Fn(i16) -> R) {
        let Some((low, high)) = self.advertised.remove(&R::KEY) else {
            return;
        };
        let crate_knows = R::VERSIONS;
        if high > crate_knows.max && !is_reference() {
            self.failures.push(format!(
                "API {}: advertises {high}, the crate ends at {}",
                R::KEY,
                crate_knows.max
            ));
        }
        for version in low.max(crate_knows.min)..=high.min(crate_knows.max) {
            match self.connection.call(version, &request(version)).await {
                Ok(_) => self.answered += 1,
                Err(error) => {
                    self.failures
                        .push(format!("API {} version {version}: {error}", R::KEY));
                    let address = self.connection.peer_address();
                    self.connection = Connection::open(address).await.expect("the broker is up");
                }
            }
        }
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Every API in ApiVersions answers every version of it, with bytes that decode to the last one.
#[tokio::test]
async fn every_advertised_version_answers() {
    within(TEST_SECONDS, "all versions", async {
        let mut bench = Bench::start().await;
        let advertised = bench.connection.api_versions().await.unwrap().api_keys;
        let advertised = advertised
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        let connection = bench.connect().await;
        let mut prober = Prober {
            connection,
            advertised,
            failures: vec![],
            answered: 0,
        };
        probe_data(&mut prober, &bench).await;
        probe_groups(&mut prober).await;
        probe_admin(&mut prober).await;
        let mut failures = prober.failures;
        if !is_reference() {
            failures.extend(
                prober
                    .advertised
                    .keys()
                    .map(|key| format!("API {key} is advertised and not tried here")),
            );
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(
            prober.answered > 80,
            "only {} requests were answered",
            prober.answered
        );
    })
    .await;
}

async fn probe_data(prober: &mut Prober, bench: &Bench) {
    let (topic, topic_id) = (bench.topic.clone(), bench.topic_id);
    prober
        .probe(|version| {
            let mut request = produce_request(&topic, 0, -1, small(2).encode());
            if version >= 13 {
                request.topic_data = request
                    .topic_data
                    .into_iter()
                    .map(|t| by_id(t, topic_id))
                    .collect();
            }
            request
        })
        .await;
    prober
        .probe(|version| {
            let mut request = fetch_request(&[FetchAsk {
                topic_id,
                ..FetchAsk::of(&topic, 0, 0)
            }]);
            let plain = |t: FetchTopic| {
                if version >= 13 {
                    t.with_topic(Default::default())
                } else {
                    t.with_topic_id(Uuid::nil())
                }
            };
            request.topics = request.topics.into_iter().map(plain).collect();
            if version < 7 {
                request.session_epoch = -1;
            }
            request
        })
        .await;
    prober
        .probe(|_| ListOffsetsRequest::default().with_replica_id((-1).into()))
        .await;
    prober
        .probe(|_| OffsetForLeaderEpochRequest::default().with_replica_id((-2).into()))
        .await;
    prober
        .probe(|_| {
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(1000)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1)
        })
        .await;
    prober.probe(|_| DescribeProducersRequest::default()).await;
}

fn by_id(topic: TopicProduceData, id: Uuid) -> TopicProduceData {
    topic.with_name(Default::default()).with_topic_id(id)
}

async fn probe_groups(prober: &mut Prober) {
    let group = || GroupId(text("g"));
    prober
        .probe(|_| {
            OffsetCommitRequest::default()
                .with_group_id(group())
                .with_generation_id_or_member_epoch(-1)
        })
        .await;
    prober
        .probe(|version| match version {
            ..8 => OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(Some(vec![])),
            _ => OffsetFetchRequest::default(),
        })
        .await;
    prober
        .probe(|version| match version {
            ..4 => FindCoordinatorRequest::default().with_key(text("g")),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]),
        })
        .await;
    prober
        .probe(|_| {
            JoinGroupRequest::default()
                .with_group_id(group())
                .with_session_timeout_ms(10_000)
        })
        .await;
    prober
        .probe(|_| SyncGroupRequest::default().with_group_id(group()))
        .await;
    prober
        .probe(|_| HeartbeatRequest::default().with_group_id(group()))
        .await;
    prober
        .probe(|version| {
            let request = LeaveGroupRequest::default().with_group_id(group());
            let member = MemberIdentity::default().with_member_id(text("m"));
            if version < 3 {
                request.with_member_id(text("m"))
            } else {
                request.with_members(vec![member])
            }
        })
        .await;
    prober
        .probe(|_| DescribeGroupsRequest::default().with_groups(vec![group()]))
        .await;
    prober.probe(|_| ListGroupsRequest::default()).await;
    prober
        .probe(|_| DeleteGroupsRequest::default().with_groups_names(vec![group()]))
        .await;
    prober
        .probe(|_| OffsetDeleteRequest::default().with_group_id(group()))
        .await;
}

async fn probe_admin(prober: &mut Prober) {
    prober
        .probe(|_| {
            ApiVersionsRequest::default()
                .with_client_software_name(text("t"))
                .with_client_software_version(text("1"))
        })
        .await;
    prober.probe(|_| MetadataRequest::default()).await;
    prober
        .probe(|_| CreateTopicsRequest::default().with_timeout_ms(1000))
        .await;
    prober
        .probe(|_| DeleteTopicsRequest::default().with_timeout_ms(1000))
        .await;
    prober
        .probe(|_| CreatePartitionsRequest::default().with_timeout_ms(1000))
        .await;
    prober
        .probe(|_| {
            let topic = DeleteRecordsTopic::default().with_name(TopicName(text("absent")));
            DeleteRecordsRequest::default()
                .with_topics(vec![topic])
                .with_timeout_ms(1000)
        })
        .await;
    prober.probe(|_| DescribeConfigsRequest::default()).await;
    prober.probe(|_| AlterConfigsRequest::default()).await;
    prober
        .probe(|_| IncrementalAlterConfigsRequest::default())
        .await;
    prober.probe(|_| DescribeLogDirsRequest::default()).await;
    prober.probe(|_| DescribeClusterRequest::default()).await;
    prober.probe(|_| DescribeQuorumRequest::default()).await;
    prober.probe(|_| ElectLeadersRequest::default()).await;
    prober
        .probe(|_| UnregisterBrokerRequest::default().with_broker_id(BrokerId(99)))
        .await;
    prober
        .probe(|_| AlterPartitionReassignmentsRequest::default())
        .await;
    prober
        .probe(|_| ListPartitionReassignmentsRequest::default())
        .await;
    prober
        .probe(|_| DescribeTopicPartitionsRequest::default().with_response_partition_limit(10))
        .await;
    prober.probe(|_| ListTransactionsRequest::default()).await;
    prober
        .probe(|_| DescribeTransactionsRequest::default())
        .await;
}

/// A slow request first, fast ones behind it: answers keep the order of the requests.
#[tokio::test]
async fn pipelined_answers_keep_their_order() {
    within(TEST_SECONDS, "pipelining", async {
        let mut bench = Bench::start().await;
        let connection = &mut bench.connection;
        let slow = FetchAsk {
            min_bytes: 1,
            max_wait_ms: 300,
            ..FetchAsk::of(&bench.topic, 0, 0)
        };
        let slow = connection.send(12, &fetch_request(&[slow])).await.unwrap();
        let mut produced = Vec::new();
        let mut versions = Vec::new();
        for _ in 0..20 {
            let request = produce_request(&bench.topic, 0, -1, small(1).encode());
            produced.push(connection.send(9, &request).await.unwrap());
            let request = ApiVersionsRequest::default();
            versions.push(connection.send(0, &request).await.unwrap());
        }
        connection.receive::<FetchRequest>(12, slow).await.unwrap();
        let mut offsets = Vec::new();
        for (produce, version) in produced.into_iter().zip(versions) {
            let answer = connection
                .receive::<ProduceRequest>(9, produce)
                .await
                .unwrap();
            offsets.push(answer.responses[0].partition_responses[0].base_offset);
            connection
                .receive::<ApiVersionsRequest>(0, version)
                .await
                .unwrap();
        }
        assert_eq!(
            offsets,
            (0..20).collect::<Vec<i64>>(),
            "appends keep the order of the requests, too"
        );
    })
    .await;
}

/// acks=0 has no answer at all; the next answer on the connection is the next request's.
#[tokio::test]
async fn acks_0_is_not_answered() {
    within(TEST_SECONDS, "acks=0", async {
        let mut bench = Bench::start().await;
        let (topic, connection) = (bench.topic.clone(), &mut bench.connection);
        for _ in 0..3 {
            connection
                .send(9, &produce_request(&topic, 0, 0, small(2).encode()))
                .await
                .unwrap();
        }
        connection
            .api_versions()
            .await
            .expect("the next answer is that of ApiVersions");
        // The records arrive all the same: a fetch for more than the first two batches waits for them.
        let mut seen = 0;
        while seen < 6 {
            let ask = FetchAsk {
                min_bytes: 1,
                max_wait_ms: 5000,
                ..FetchAsk::of(&topic, 0, seen)
            };
            let data = connection.fetch(ask).await.unwrap();
            let batches = ottla_tests::batch::read_all(data.records.unwrap()).unwrap();
            seen = batches.last().expect("records within the wait").last_offset + 1;
        }
        assert_eq!(seen, 6);
    })
    .await;
}
