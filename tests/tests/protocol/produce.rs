//! What a broker must refuse to append, and with which error.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ProduceRequest;
use ottla_tests::batch::{Batch, Codec, Record, at, now_ms, seal};
use ottla_tests::client::{Connection, PRODUCE, code, produce_request};
use ottla_tests::within;

use crate::{Bench, TEST_SECONDS, new_topic, small};

const HEADER_BYTES: usize = 61;
const DAY_MS: i64 = 24 * 3600 * 1000;

struct Case {
    name: &'static str,
    configs: &'static [(&'static str, &'static str)],
    records: Bytes,
    errors: &'static [i16],
}

fn changed(change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut batch = small(3).encode_mut();
    change(&mut batch);
    batch.freeze()
}

/// Changed, with a checksum that fits.
fn forged(at: usize, bytes: &[u8]) -> Bytes {
    changed(|batch| {
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        seal(batch);
    })
}

/// The header of three records over other bytes, in a codec, with length and checksum that fit.
fn inside(codec: u8, payload: &[u8]) -> Bytes {
    changed(|batch| {
        batch.truncate(HEADER_BYTES);
        batch.extend_from_slice(payload);
        let length = (batch.len() - at::LENGTH - 4) as i32;
        batch[at::LENGTH..at::LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        batch[at::ATTRIBUTES + 1] = codec;
        seal(batch);
    })
}

fn stamped(timestamp_ms: i64) -> Bytes {
    Batch::plain(vec![Record::of("v", timestamp_ms)]).encode()
}

fn keyless(codec: Codec) -> Bytes {
    let keyed = Record::of("v", now_ms());
    let without = Record {
        key: None,
        ..keyed.clone()
    };
    Batch::plain(vec![keyed, without])
        .with_codec(codec)
        .encode()
}

fn damaged_cases() -> Vec<Case> {
    let case = |name, records, errors| Case {
        name,
        configs: &[],
        records,
        errors,
    };
    let two = [small(1).encode(), small(1).encode()].concat();
    vec![
        case(
            "a flipped bit",
            changed(|b| *b.last_mut().unwrap() ^= 1),
            &[code::CORRUPT_MESSAGE],
        ),
        case(
            "a flipped bit in the checksum",
            changed(|b| b[at::CRC] ^= 1),
            &[code::CORRUPT_MESSAGE],
        ),
        // Kafka sees no whole batch and says INVALID_RECORD.
        case(
            "a length beyond the bytes",
            changed(|b| b[at::LENGTH + 3] += 1),
            &[code::INVALID_RECORD, code::CORRUPT_MESSAGE],
        ),
        case(
            "a length below the bytes",
            changed(|b| b[at::LENGTH + 3] -= 1),
            &[code::INVALID_RECORD, code::CORRUPT_MESSAGE],
        ),
        case(
            "a length below a header",
            changed(|b| b[at::LENGTH..at::LENGTH + 4].fill(0)),
            &[code::CORRUPT_MESSAGE],
        ),
        case(
            "a negative length",
            changed(|b| b[at::LENGTH] = 0xff),
            &[code::CORRUPT_MESSAGE],
        ),
        case(
            "half a header",
            small(1).encode().slice(..40),
            &[code::INVALID_RECORD, code::CORRUPT_MESSAGE],
        ),
        case("nothing", Bytes::new(), &[code::INVALID_RECORD]),
        case("two batches", Bytes::from(two), &[code::INVALID_RECORD]),
        case(
            "magic 1",
            changed(|b| b[at::MAGIC] = 1),
            &[code::INVALID_RECORD, code::CORRUPT_MESSAGE],
        ),
        case(
            "magic 9",
            changed(|b| b[at::MAGIC] = 9),
            &[code::CORRUPT_MESSAGE, code::INVALID_RECORD],
        ),
        // Kafka fails with UNKNOWN_SERVER_ERROR on codecs 5 to 7, which makes clients try again.
        case(
            "codec 5",
            forged(at::ATTRIBUTES, &[0, 5]),
            &[code::UNSUPPORTED_COMPRESSION_TYPE, code::INVALID_RECORD],
        ),
        case(
            "codec 7",
            forged(at::ATTRIBUTES, &[0, 7]),
            &[code::UNSUPPORTED_COMPRESSION_TYPE, code::INVALID_RECORD],
        ),
        case(
            "a control batch",
            forged(at::ATTRIBUTES, &[0, 0x20]),
            &[code::INVALID_RECORD],
        ),
        case(
            "no records",
            forged(at::COUNT, &[0, 0, 0, 0]),
            &[code::INVALID_RECORD],
        ),
        case(
            "fewer records than offsets",
            forged(at::COUNT, &[0, 0, 0, 2]),
            &[code::INVALID_RECORD],
        ),
        // Sound outside; a consumer would not get past them.
        case(
            "records that are noise",
            inside(0, &[0xff; 40]),
            &[code::INVALID_RECORD],
        ),
        case(
            "records that are zeros",
            inside(0, &[0; 40]),
            &[code::INVALID_RECORD],
        ),
        case(
            "gzip data that is none",
            inside(1, b"not gzip at all"),
            &[code::INVALID_RECORD, code::CORRUPT_MESSAGE],
        ),
        case(
            "a million records in two bytes",
            inside(1, &[0x1f, 0x8b]),
            &[code::INVALID_RECORD, code::CORRUPT_MESSAGE],
        ),
        case(
            "five records that are three",
            forged(at::LAST_OFFSET_DELTA, &[0, 0, 0, 4])
                .try_into_mut()
                .map(|mut b| {
                    b[at::COUNT + 3] = 5;
                    seal(&mut b);
                    b.freeze()
                })
                .expect("nobody else has it"),
            &[code::INVALID_RECORD],
        ),
        case(
            "a negative offset delta",
            forged(at::LAST_OFFSET_DELTA, &[0xff; 4]),
            &[code::INVALID_RECORD],
        ),
    ]
}

fn rule_cases() -> Vec<Case> {
    let case = |name, configs, records, errors| Case {
        name,
        configs,
        records,
        errors,
    };
    const COMPACT: &[(&str, &str)] = &[("cleanup.policy", "compact")];
    vec![
        case(
            "larger than max.message.bytes",
            &[("max.message.bytes", "1000")],
            Batch::filled(1, 1000).encode(),
            &[code::MESSAGE_TOO_LARGE],
        ),
        case(
            "larger than the default",
            &[],
            Batch::filled(2, 600 << 10).encode(),
            &[code::MESSAGE_TOO_LARGE],
        ),
        case(
            "far in the future",
            &[],
            stamped(now_ms() + DAY_MS),
            &[code::INVALID_TIMESTAMP],
        ),
        case(
            "far in the past",
            &[("message.timestamp.before.max.ms", "60000")],
            stamped(now_ms() - DAY_MS),
            &[code::INVALID_TIMESTAMP],
        ),
        case(
            "one record far in the past",
            &[("message.timestamp.before.max.ms", "60000")],
            Batch::plain(vec![
                Record::of("v", now_ms()),
                Record::of("v", now_ms() - DAY_MS),
            ])
            .encode(),
            &[code::INVALID_TIMESTAMP],
        ),
        case(
            "no key on a compacted topic",
            COMPACT,
            keyless(Codec::None),
            &[code::INVALID_RECORD],
        ),
        case(
            "no key in a gzip batch",
            COMPACT,
            keyless(Codec::Gzip),
            &[code::INVALID_RECORD],
        ),
        case(
            "no key in an lz4 batch",
            COMPACT,
            keyless(Codec::Lz4),
            &[code::INVALID_RECORD],
        ),
    ]
}

async fn refuse(cases: Vec<Case>) {
    let bench = Bench::start().await;
    let mut wrong = Vec::new();
    for case in cases {
        let mut connection = bench.connect().await;
        if let Err(what) = refuse_one(&mut connection, &case).await {
            wrong.push(format!("{}: {what}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The error, nothing appended, and the connection goes on.
async fn refuse_one(connection: &mut Connection, case: &Case) -> Result<(), String> {
    let (topic, _) = new_topic(connection, 1, case.configs).await;
    let answer = connection
        .produce(&topic, 0, case.records.clone())
        .await
        .map_err(|e| e.to_string())?;
    if !case.errors.contains(&answer.error_code) {
        return Err(format!(
            "error {}, not one of {:?}",
            answer.error_code, case.errors
        ));
    }
    if answer.base_offset != -1 {
        return Err(format!(
            "base offset {} beside an error",
            answer.base_offset
        ));
    }
    let good = connection
        .produce(&topic, 0, small(1).encode())
        .await
        .map_err(|e| e.to_string())?;
    match (good.error_code, good.base_offset) {
        (0, 0) => Ok(()),
        (error, offset) => Err(format!(
            "a good batch after it got error {error}, offset {offset}"
        )),
    }
}

#[tokio::test]
async fn damaged_batches() {
    within(TEST_SECONDS, "damaged batches", refuse(damaged_cases())).await;
}

#[tokio::test]
async fn batches_against_the_topics_rules() {
    within(TEST_SECONDS, "rules", refuse(rule_cases())).await;
}

#[tokio::test]
async fn codecs_pass() {
    within(TEST_SECONDS, "codecs", async {
        let mut bench = Bench::with_topic(1, &[("cleanup.policy", "compact")]).await;
        for codec in [Codec::None, Codec::Gzip, Codec::Lz4] {
            bench.append(&small(4).with_codec(codec)).await;
        }
        let end = bench
            .connection
            .list_offset(&bench.topic, 0, -1)
            .await
            .unwrap();
        assert_eq!(end.offset, 12);
    })
    .await;
}

#[tokio::test]
async fn acks_2() {
    within(TEST_SECONDS, "acks=2", async {
        let mut bench = Bench::start().await;
        for acks in [2, -2] {
            let request = produce_request(&bench.topic, 0, acks, small(1).encode());
            let answer = bench
                .connection
                .call::<ProduceRequest>(PRODUCE, &request)
                .await
                .unwrap();
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!(
                partition.error_code,
                code::INVALID_REQUIRED_ACKS,
                "acks={acks}"
            );
        }
        assert_eq!(bench.append(&small(1)).await, 0);
    })
    .await;
}

/// The time-out is for acks=all, where replicas are waited for.
#[tokio::test]
async fn short_time_outs() {
    within(TEST_SECONDS, "time-outs", async {
        let mut bench = Bench::start().await;
        for (offset, (acks, timeout_ms)) in
            [(1, 0), (1, -5), (-1, 0), (-1, -1)].into_iter().enumerate()
        {
            let request = produce_request(&bench.topic, 0, acks, small(1).encode())
                .with_timeout_ms(timeout_ms);
            let answer = bench
                .connection
                .call::<ProduceRequest>(PRODUCE, &request)
                .await;
            let partition = &answer.unwrap().responses[0].partition_responses[0];
            let told = (partition.error_code, partition.base_offset);
            assert_eq!(told, (0, offset as i64), "acks={acks} timeout={timeout_ms}");
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_topic_or_partition() {
    within(TEST_SECONDS, "unknown topic", async {
        let mut bench = Bench::start().await;
        for (topic, partition) in [
            ("absent", 0),
            (bench.topic.as_str(), 1),
            (bench.topic.as_str(), -1),
        ] {
            let answer = bench
                .connection
                .produce(topic, partition, small(1).encode())
                .await
                .unwrap();
            assert_eq!(
                answer.error_code,
                code::UNKNOWN_TOPIC_OR_PARTITION,
                "{topic} {partition}"
            );
        }
    })
    .await;
}

/// A partition that fails does not take the others of its request with it.
#[tokio::test]
async fn partitions_fail_apart() {
    within(TEST_SECONDS, "partial failure", async {
        let mut bench = Bench::with_topic(2, &[]).await;
        let good = produce_request(&bench.topic, 1, -1, small(1).encode());
        let mut request = produce_request(&bench.topic, 0, -1, changed(|b| b[at::CRC] ^= 1));
        let extra = good.topic_data[0].partition_data[0].clone();
        request.topic_data[0].partition_data.push(extra);
        let answer = bench
            .connection
            .call::<ProduceRequest>(PRODUCE, &request)
            .await
            .unwrap();
        let mut seen: Vec<_> = answer.responses[0]
            .partition_responses
            .iter()
            .map(|p| (p.index, p.error_code, p.base_offset))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, vec![(0, code::CORRUPT_MESSAGE, -1), (1, 0, 0)]);
    })
    .await;
}
