//! The Fetch response encoder against `kafka-protocol`, byte for byte, in every version.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response as crate_types;
use kafka_protocol::messages::{BrokerId, ProducerId, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use ottla_wire::fetch::{
    AbortedTransaction, EpochEndOffset, FetchResponse, LeaderIdAndEpoch, NodeEndpoint, Partition,
    SnapshotId, Topic, VERSIONS, encode,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

/// Names outlive the responses that borrow them.
const NAMES: [&str; 4] = [
    "",
    "t",
    "orders.eu-west",
    "a-topic-with-quite-a-long-name.v2",
];

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMES[..])
}

fn batches() -> impl Strategy<Value = Vec<Bytes>> {
    // on both sides of the size below which a batch is copied, and of the varint's widths
    let size = prop_oneof![0usize..200, 500usize..530, 16_000usize..17_000];
    let batch = (size, any::<u8>()).prop_map(|(size, fill)| Bytes::from(vec![fill; size]));
    vec(batch, 0..4)
}

fn partition() -> impl Strategy<Value = Partition> {
    let offsets = (
        any::<i32>(),
        any::<i16>(),
        any::<i64>(),
        any::<i64>(),
        any::<i64>(),
    );
    let aborted = option::of(vec((any::<i64>(), any::<i64>()), 0..3));
    let epochs = (0i32..9, any::<i64>());
    let tagged = (
        option::of(epochs.clone()),
        option::of((any::<u16>(), any::<u16>())),
        option::of(epochs),
    );
    (offsets, aborted, any::<i32>(), tagged, batches()).prop_map(
        |(offsets, aborted, preferred, (diverging, leader, snapshot), records)| Partition {
            index: offsets.0,
            error_code: offsets.1,
            high_watermark: offsets.2,
            last_stable_offset: offsets.3,
            log_start_offset: offsets.4,
            aborted_transactions: aborted.map(|list| {
                let transaction = |(producer_id, first_offset)| AbortedTransaction {
                    producer_id,
                    first_offset,
                };
                list.into_iter().map(transaction).collect()
            }),
            preferred_read_replica: preferred,
            diverging_epoch: diverging
                .map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset }),
            current_leader: leader.map(|(id, epoch)| LeaderIdAndEpoch {
                leader_id: id.into(),
                leader_epoch: epoch.into(),
            }),
            snapshot_id: snapshot.map(|(epoch, end_offset)| SnapshotId { end_offset, epoch }),
            records,
        },
    )
}

fn response() -> impl Strategy<Value = FetchResponse<'static>> {
    let topic =
        (name(), any::<u128>(), vec(partition(), 0..4)).prop_map(|(name, id, partitions)| Topic {
            name,
            id: Uuid::from_u128(id),
            partitions,
        });
    let endpoint = (any::<i32>(), name(), any::<i32>(), option::of(name())).prop_map(
        |(node_id, host, port, rack)| NodeEndpoint {
            node_id,
            host,
            port,
            rack,
        },
    );
    (
        any::<i32>(),
        any::<i16>(),
        any::<i32>(),
        vec(topic, 0..4),
        vec(endpoint, 0..3),
    )
        .prop_map(
            |(throttle_time_ms, error_code, session_id, topics, node_endpoints)| FetchResponse {
                throttle_time_ms,
                error_code,
                session_id,
                topics,
                node_endpoints,
            },
        )
}

/// What a handler has to leave unset in old versions.
fn fit(mut response: FetchResponse<'static>, version: i16) -> FetchResponse<'static> {
    if version < 7 {
        response.session_id = 0;
    }
    if version < 11 {
        for topic in &mut response.topics {
            for partition in &mut topic.partitions {
                partition.preferred_read_replica = -1;
            }
        }
    }
    response
}

fn in_crate_types(response: &FetchResponse<'static>, version: i16) -> crate_types::FetchResponse {
    let text = StrBytes::from_static_str;
    let mut out = crate_types::FetchResponse::default()
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_error_code(response.error_code)
        .with_session_id(response.session_id)
        .with_responses(response.topics.iter().map(topic_in_crate_types).collect());
    if version >= 16 {
        let endpoint = |e: &NodeEndpoint<'static>| {
            crate_types::NodeEndpoint::default()
                .with_node_id(BrokerId(e.node_id))
                .with_host(text(e.host))
                .with_port(e.port)
                .with_rack(e.rack.map(text))
        };
        out = out.with_node_endpoints(response.node_endpoints.iter().map(endpoint).collect());
    }
    out
}

fn topic_in_crate_types(topic: &Topic<'static>) -> crate_types::FetchableTopicResponse {
    crate_types::FetchableTopicResponse::default()
        .with_topic(TopicName(StrBytes::from_static_str(topic.name)))
        .with_topic_id(topic.id)
        .with_partitions(
            topic
                .partitions
                .iter()
                .map(partition_in_crate_types)
                .collect(),
        )
}

fn partition_in_crate_types(p: &Partition) -> crate_types::PartitionData {
    let aborted = |t: &AbortedTransaction| {
        crate_types::AbortedTransaction::default()
            .with_producer_id(ProducerId(t.producer_id))
            .with_first_offset(t.first_offset)
    };
    let mut out = crate_types::PartitionData::default()
        .with_partition_index(p.index)
        .with_error_code(p.error_code)
        .with_high_watermark(p.high_watermark)
        .with_last_stable_offset(p.last_stable_offset)
        .with_log_start_offset(p.log_start_offset)
        .with_aborted_transactions(
            p.aborted_transactions
                .as_ref()
                .map(|list| list.iter().map(aborted).collect()),
        )
        .with_preferred_read_replica(BrokerId(p.preferred_read_replica))
        .with_records(Some(p.records.concat().into()));
    if let Some(e) = p.diverging_epoch {
        out.diverging_epoch.epoch = e.epoch;
        out.diverging_epoch.end_offset = e.end_offset;
    }
    if let Some(l) = p.current_leader {
        out.current_leader.leader_id = BrokerId(l.leader_id);
        out.current_leader.leader_epoch = l.leader_epoch;
    }
    if let Some(s) = p.snapshot_id {
        out.snapshot_id.end_offset = s.end_offset;
        out.snapshot_id.epoch = s.epoch;
    }
    out
}

fn encode_with_crate(
    response: &crate_types::FetchResponse,
    version: i16,
    correlation_id: i32,
) -> Vec<u8> {
    let header_version = crate_types::FetchResponse::header_version(version);
    let mut out = BytesMut::zeroed(4);
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut out, header_version)
        .unwrap();
    let mut body = BytesMut::new();
    response.encode(&mut body, version).unwrap();
    out.extend_from_slice(&body);
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bytes_equal_the_crates_in_every_version(any_response in response(), correlation_id: i32) {
        for version in VERSIONS {
            let response = fit(any_response.clone(), version);
            let expected = in_crate_types(&response, version);
            let encoded = encode(response, version, correlation_id);
            let bytes = encoded.segments.concat();
            prop_assert_eq!(encoded.size_bytes, bytes.len());
            prop_assert!(encoded.segments.iter().all(|segment| !segment.is_empty()));
            prop_assert_eq!(&bytes, &encode_with_crate(&expected, version, correlation_id));

            let mut rest = Bytes::from(bytes);
            prop_assert_eq!(rest.get_i32() as usize, rest.len());
            let header_version = crate_types::FetchResponse::header_version(version);
            let header = ResponseHeader::decode(&mut rest, header_version).unwrap();
            prop_assert_eq!(header.correlation_id, correlation_id);
            let decoded = crate_types::FetchResponse::decode(&mut rest, version).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(decoded.responses.len(), expected.responses.len());
            if version >= 13 {
                for (d, e) in decoded.responses.iter().zip(&expected.responses) {
                    prop_assert_eq!(d.topic_id, e.topic_id);
                    prop_assert_eq!(&d.partitions, &e.partitions);
                }
                prop_assert_eq!(&decoded.node_endpoints, &expected.node_endpoints);
            }
        }
    }
}

#[test]
fn large_batches_are_not_copied() {
    let batch = Bytes::from(vec![7; 4096]);
    for version in VERSIONS {
        let response = FetchResponse {
            topics: vec![Topic {
                name: "t",
                partitions: vec![Partition {
                    records: vec![batch.clone(), batch.clone()],
                    ..Partition::default()
                }],
                ..Topic::default()
            }],
            ..FetchResponse::default()
        };
        let encoded = encode(response, version, 1);
        let same = |segment: &&Bytes| segment.as_ptr() == batch.as_ptr();
        assert_eq!(encoded.segments.iter().filter(same).count(), 2);
    }
}

#[test]
fn no_records_are_a_length_of_zero() {
    let response = FetchResponse {
        topics: vec![Topic {
            name: "t",
            partitions: vec![Partition::default()],
            ..Topic::default()
        }],
        ..FetchResponse::default()
    };
    for version in VERSIONS {
        let encoded = encode(response.clone(), version, 1);
        let mut rest = Bytes::from(encoded.segments.concat()).slice(8..);
        if version >= 12 {
            rest.advance(1);
        }
        let decoded = crate_types::FetchResponse::decode(&mut rest, version).unwrap();
        assert_eq!(
            decoded.responses[0].partitions[0].records,
            Some(Bytes::new())
        );
    }
}
