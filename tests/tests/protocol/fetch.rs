//! What a fetch returns, when, and when it must not.

use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use ottla_tests::batch::{Batch, read_all, sizes};
use ottla_tests::client::{FETCH, FetchAsk, code, fetch_request};
use ottla_tests::within;
use uuid::Uuid;

use crate::{Bench, TEST_SECONDS, new_topic, small};

/// A wait that no test may come near.
const LONG_WAIT_MS: i32 = 25_000;
const SOON: Duration = Duration::from_secs(10);

fn bytes(data: &PartitionData) -> &[u8] {
    data.records
        .as_deref()
        .expect("no records are an empty field, never a null one")
}

#[tokio::test]
async fn partition_max_bytes() {
    within(TEST_SECONDS, "partition_max_bytes", async {
        let mut bench = Bench::start().await;
        let batch = Batch::filled(1, 1000).encode();
        for _ in 0..10 {
            bench.append_bytes(batch.clone()).await;
        }
        let size = batch.len();
        // The first batch comes whole whatever the limit says (KIP-74).
        for (limit, batches) in [
            (0, 1),
            (1, 1),
            (size, 1),
            (size + 1, 1),
            (size * 2 - 1, 1),
            (size * 2, 2),
            (size * 20, 10),
        ] {
            let ask = FetchAsk {
                partition_max_bytes: limit as i32,
                ..FetchAsk::of(&bench.topic, 0, 0)
            };
            let data = bench.connection.fetch(ask).await.unwrap();
            assert_eq!(
                sizes(bytes(&data)).len(),
                batches,
                "partition_max_bytes={limit}, batches of {size}"
            );
            assert!(
                batches == 1 || bytes(&data).len() <= limit,
                "{} bytes for {limit}",
                bytes(&data).len()
            );
        }
    })
    .await;
}

#[tokio::test]
async fn max_bytes_of_the_request() {
    within(TEST_SECONDS, "max_bytes", async {
        let mut bench = Bench::with_topic(3, &[]).await;
        let batch = Batch::filled(1, 1000).encode();
        for partition in 0..3 {
            for _ in 0..3 {
                bench
                    .connection
                    .produce(&bench.topic, partition, batch.clone())
                    .await
                    .unwrap();
            }
        }
        let size = batch.len();
        for (limit, total) in [(1, 1), (size, 1), (size * 4, 4), (size * 100, 9)] {
            let ask = |partition| FetchAsk {
                max_bytes: limit as i32,
                ..FetchAsk::of(&bench.topic, partition, 0)
            };
            let request = fetch_request(&[ask(0), ask(1), ask(2)]);
            let answer = bench
                .connection
                .call::<FetchRequest>(FETCH, &request)
                .await
                .unwrap();
            let all = answer.responses.iter().flat_map(|t| &t.partitions);
            let batches: usize = all.map(|data| sizes(bytes(data)).len()).sum();
            assert_eq!(batches, total, "max_bytes={limit}, batches of {size}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_offset_within_a_batch_returns_the_whole_batch() {
    within(TEST_SECONDS, "mid-batch", async {
        let mut bench = Bench::start().await;
        for _ in 0..3 {
            bench.append(&small(10)).await;
        }
        for (offset, base) in [(0, 0), (9, 0), (10, 10), (15, 10), (29, 20)] {
            let data = bench
                .connection
                .fetch(FetchAsk::of(&bench.topic, 0, offset))
                .await
                .unwrap();
            let batches = read_all(data.records.unwrap()).unwrap();
            assert_eq!(batches[0].base_offset, base, "a fetch from {offset}");
            assert_eq!(batches[0].records.len(), 10);
            assert_eq!(
                (
                    data.high_watermark,
                    data.last_stable_offset,
                    data.log_start_offset
                ),
                (30, 30, 0)
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_is_woken_by_records() {
    within(TEST_SECONDS, "long poll", async {
        let mut bench = Bench::start().await;
        bench.append(&small(1)).await;
        for offset in 1..4 {
            let mut waiting = bench.connect().await;
            let ask = FetchAsk {
                min_bytes: 1,
                max_wait_ms: LONG_WAIT_MS,
                ..FetchAsk::of(&bench.topic, 0, offset)
            };
            let began = Instant::now();
            let sent = waiting.send(FETCH, &fetch_request(&[ask])).await.unwrap();
            // A request on another connection was read after the fetch was: it waits by now.
            bench.connection.api_versions().await.unwrap();
            bench.append(&small(1)).await;
            let answer = waiting.receive::<FetchRequest>(FETCH, sent).await.unwrap();
            let took = began.elapsed();
            let batches =
                read_all(answer.responses[0].partitions[0].records.clone().unwrap()).unwrap();
            assert_eq!(batches[0].base_offset, offset);
            assert!(
                took < SOON,
                "the fetch returned after {took:?}, not when records came"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn min_bytes_waits_for_enough() {
    within(TEST_SECONDS, "min_bytes", async {
        let mut bench = Bench::start().await;
        let mut waiting = bench.connect().await;
        let ask = FetchAsk {
            min_bytes: 10_000,
            max_wait_ms: LONG_WAIT_MS,
            ..FetchAsk::of(&bench.topic, 0, 0)
        };
        let began = Instant::now();
        let sent = waiting.send(FETCH, &fetch_request(&[ask])).await.unwrap();
        bench.connection.api_versions().await.unwrap();
        bench.append(&small(1)).await;
        bench.append(&Batch::filled(1, 20_000)).await;
        let answer = waiting.receive::<FetchRequest>(FETCH, sent).await.unwrap();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let data = &answer.responses[0].partitions[0];
        assert_eq!(
            sizes(bytes(data)).len(),
            2,
            "the first batch alone was too little"
        );
    })
    .await;
}

#[tokio::test]
async fn max_wait_ends_an_empty_poll() {
    within(TEST_SECONDS, "max_wait", async {
        let mut bench = Bench::start().await;
        let ask = FetchAsk {
            min_bytes: 1,
            max_wait_ms: 300,
            ..FetchAsk::of(&bench.topic, 0, 0)
        };
        let began = Instant::now();
        let data = bench.connection.fetch(ask).await.unwrap();
        let took = began.elapsed();
        assert_eq!((data.error_code, bytes(&data).len()), (0, 0));
        assert!(
            took >= Duration::from_millis(295) && took < SOON,
            "max_wait_ms=300 took {took:?}"
        );
        let began = Instant::now();
        bench
            .connection
            .fetch(FetchAsk::of(&bench.topic, 0, 0))
            .await
            .unwrap();
        assert!(
            began.elapsed() < Duration::from_millis(200),
            "min_bytes=0 does not wait"
        );
    })
    .await;
}

/// An error is an answer: no waiting for bytes beside it.
#[tokio::test]
async fn errors_do_not_wait() {
    within(TEST_SECONDS, "errors", async {
        let mut bench = Bench::start().await;
        let topic = bench.topic.clone();
        for (topic, partition, offset) in [("absent", 0, 0), (&topic, 7, 0), (&topic, 0, 5)] {
            let ask = FetchAsk {
                min_bytes: 1,
                max_wait_ms: LONG_WAIT_MS,
                ..FetchAsk::of(topic, partition, offset)
            };
            let began = Instant::now();
            let data = bench.connection.fetch(ask).await.unwrap();
            assert_ne!(data.error_code, 0);
            assert!(
                began.elapsed() < SOON,
                "error {} came after {:?}",
                data.error_code,
                began.elapsed()
            );
        }
    })
    .await;
}

#[tokio::test]
async fn out_of_range_is_only_outside() {
    within(TEST_SECONDS, "range", async {
        let mut bench = Bench::start().await;
        bench.append(&small(5)).await;
        let cases = [
            (0, 0),
            (4, 0),
            (5, 0),
            (6, code::OFFSET_OUT_OF_RANGE),
            (-1, code::OFFSET_OUT_OF_RANGE),
            (i64::MAX, code::OFFSET_OUT_OF_RANGE),
            (i64::MIN, code::OFFSET_OUT_OF_RANGE),
        ];
        for (offset, error) in cases {
            let data = bench
                .connection
                .fetch(FetchAsk::of(&bench.topic, 0, offset))
                .await
                .unwrap();
            assert_eq!(data.error_code, error, "a fetch from {offset} of 0 to 5");
            assert_eq!(bytes(&data).is_empty(), error != 0 || offset == 5);
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_topic_and_partition() {
    within(TEST_SECONDS, "unknown", async {
        let mut bench = Bench::start().await;
        let topic = bench.topic.clone();
        for (topic, partition) in [("absent", 0), (topic.as_str(), 1), (topic.as_str(), -1)] {
            let data = bench
                .connection
                .fetch(FetchAsk::of(topic, partition, 0))
                .await
                .unwrap();
            assert_eq!(
                data.error_code,
                code::UNKNOWN_TOPIC_OR_PARTITION,
                "{topic} {partition}"
            );
        }
        for (topic_id, error) in [
            (Uuid::new_v4(), code::UNKNOWN_TOPIC_ID),
            (bench.topic_id, 0),
        ] {
            let request = fetch_request(&[FetchAsk {
                topic_id,
                ..FetchAsk::of("", 0, 0)
            }]);
            let answer = bench
                .connection
                .call::<FetchRequest>(13, &request)
                .await
                .unwrap();
            let partition = &answer.responses[0].partitions[0];
            assert_eq!(
                (answer.error_code, partition.error_code),
                (0, error),
                "{topic_id}"
            );
        }
    })
    .await;
}

/// KIP-320.
#[tokio::test]
async fn leader_epochs_are_checked() {
    within(TEST_SECONDS, "leader epoch", async {
        let mut bench = Bench::start().await;
        bench.append(&small(1)).await;
        let metadata = bench.connection.metadata(&bench.topic).await.unwrap();
        let epoch = metadata.topics[0].partitions[0].leader_epoch;
        assert!(epoch >= 0, "leader epoch {epoch}");
        let mut cases = vec![(-1, 0), (epoch, 0), (epoch + 1, code::UNKNOWN_LEADER_EPOCH)];
        if epoch > 0 {
            cases.push((epoch - 1, code::FENCED_LEADER_EPOCH));
        }
        for (leader_epoch, error) in cases {
            let ask = FetchAsk {
                leader_epoch,
                ..FetchAsk::of(&bench.topic, 0, 0)
            };
            let data = bench.connection.fetch(ask).await.unwrap();
            assert_eq!(
                data.error_code, error,
                "leader epoch {leader_epoch} where {epoch} is current"
            );
        }
        let data = bench
            .connection
            .fetch(FetchAsk::of(&bench.topic, 0, 0))
            .await
            .unwrap();
        assert_eq!(
            read_all(data.records.unwrap()).unwrap()[0].leader_epoch,
            epoch,
            "in the batch"
        );
    })
    .await;
}

/// KIP-227: sessions are kept in full, or every answer says 0.
#[tokio::test]
async fn fetch_sessions_are_whole_or_absent() {
    within(TEST_SECONDS, "sessions", async {
        let mut bench = Bench::with_topic(2, &[]).await;
        bench.append(&small(1)).await;
        let mut first = fetch_request(&[
            FetchAsk::of(&bench.topic, 0, 0),
            FetchAsk::of(&bench.topic, 1, 0),
        ]);
        first.session_epoch = 0;
        let answer = bench
            .connection
            .call::<FetchRequest>(FETCH, &first)
            .await
            .unwrap();
        let named: usize = answer.responses.iter().map(|t| t.partitions.len()).sum();
        assert_eq!(
            (answer.error_code, named),
            (0, 2),
            "the first answer names every partition"
        );
        let mut next = fetch_request(&[FetchAsk::of(&bench.topic, 0, 1)]);
        (next.session_id, next.session_epoch) = (answer.session_id, 1);
        if answer.session_id == 0 {
            next.session_id = 12345;
        }
        let second = bench
            .connection
            .call::<FetchRequest>(FETCH, &next)
            .await
            .unwrap();
        match answer.session_id {
            0 => {
                assert_eq!(second.error_code, 70, "FETCH_SESSION_ID_NOT_FOUND");
                // An epoch that goes on needs a session, and 0 is none.
                next.session_id = 0;
                let third = bench.connection.call::<FetchRequest>(FETCH, &next).await;
                assert_eq!(third.unwrap().error_code, 70);
            }
            _ => {
                let changed: usize = second.responses.iter().map(|t| t.partitions.len()).sum();
                assert_eq!(
                    (second.error_code, changed),
                    (0, 0),
                    "nothing changed, nothing is named"
                );
            }
        }
    })
    .await;
}

/// Several topics in one request, some of them unknown: each has its own answer.
#[tokio::test]
async fn topics_fail_apart() {
    within(TEST_SECONDS, "topics", async {
        let mut bench = Bench::start().await;
        bench.append(&small(1)).await;
        let (other, _) = new_topic(&mut bench.connection, 1, &[]).await;
        let asks = [
            FetchAsk::of(&bench.topic, 0, 0),
            FetchAsk::of("absent", 0, 0),
            FetchAsk::of(&other, 0, 0),
        ];
        let answer = bench
            .connection
            .call::<FetchRequest>(FETCH, &fetch_request(&asks))
            .await
            .unwrap();
        let mut errors: Vec<i16> = answer
            .responses
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| p.error_code))
            .collect();
        errors.sort_unstable();
        assert_eq!(errors, vec![0, 0, code::UNKNOWN_TOPIC_OR_PARTITION]);
    })
    .await;
}
