//! Who may produce, in which version, and how a producer learns that it may not.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use ottla_tests::batch::{at, seal};
use ottla_tests::client::{PRODUCE, code, frame_by, produce_request};
use ottla_tests::within;

use crate::{Bench, TEST_SECONDS, small};

const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// A batch whose header names a codec, in which its records are not.
fn in_codec(codec: u8) -> Bytes {
    let mut batch = small(1).encode_mut();
    batch[at::ATTRIBUTES + 1] = codec;
    seal(&mut batch);
    batch.freeze()
}

/// zstd came with version 7 (KIP-110); the other codecs are older than any version that is served.
#[tokio::test]
async fn zstd_from_version_7_on() {
    within(TEST_SECONDS, "zstd", async {
        let mut bench = Bench::start().await;
        for version in [3, 6, 7, PRODUCE] {
            for codec in 0..=4 {
                let request = produce_request(&bench.topic, 0, -1, in_codec(codec));
                let answer = bench.connection.call::<ProduceRequest>(version, &request);
                let answer = answer.await.unwrap();
                let expected = match (version, codec) {
                    (..7, 4) => code::UNSUPPORTED_COMPRESSION_TYPE,
                    (_, 0) => 0,
                    _ => code::INVALID_RECORD,
                };
                let error = answer.responses[0].partition_responses[0].error_code;
                assert_eq!(error, expected, "codec {codec}, version {version}");
            }
        }
    })
    .await;
}

/// Kafka lets nobody but its own tool write to them, which it knows by its client id.
#[tokio::test]
async fn internal_topics() {
    within(TEST_SECONDS, "internal topics", async {
        let mut bench = Bench::start().await;
        while bench.connection.find_coordinator("any").await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let produce = bench
            .connection
            .produce(OFFSETS_TOPIC, 0, small(1).encode());
        let refused = produce.await.unwrap();
        assert_eq!(refused.error_code, code::INVALID_TOPIC_EXCEPTION);
        let end = bench.connection.list_offset(OFFSETS_TOPIC, 0, -1).await;
        assert_eq!(end.unwrap().offset, 0, "nothing was appended");
        let mut tool = bench.connect().await;
        let request = produce_request(OFFSETS_TOPIC, 0, -1, small(1).encode());
        let frame = frame_by("__admin_client", PRODUCE, 5, &request).unwrap();
        tool.write(&frame).await.unwrap();
        let answer = tool.receive::<ProduceRequest>(PRODUCE, 5).await.unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    })
    .await;
}

/// Without answers there is one way to say that a producer's metadata is old.
#[tokio::test]
async fn a_refusal_without_answer_closes() {
    within(TEST_SECONDS, "acks=0", async {
        let mut bench = Bench::start().await;
        let send = |topic: &str| produce_request(topic, 0, 0, small(1).encode());
        let mut good = bench.connect().await;
        good.send(PRODUCE, &send(&bench.topic)).await.unwrap();
        good.api_versions().await.expect("the connection goes on");
        let mut bad = bench.connect().await;
        bad.send(PRODUCE, &send("absent")).await.unwrap();
        bad.wait_until_closed().await.expect("it is closed");
        assert_eq!(bench.append(&small(1)).await, 1);
    })
    .await;
}
