//! Retention and offsets of compacted logs: what compaction has left counts, not what was appended.

use std::collections::BTreeMap;

use ottla_tests::batch::{Batch, Record, now_ms, read_all};
use ottla_tests::broker::Broker;
use ottla_tests::client::{FetchAsk, code};
use ottla_tests::within;

use crate::{Bench, TEST_SECONDS};

/// A broker that looks for something to delete or to compact all the time.
const EAGER: &[(&str, &str)] = &[
    ("log.retention.check.interval.ms", "20"),
    ("log.initial.task.delay.ms", "0"),
    ("log.cleaner.backoff.ms", "10"),
];
const KEYS: u64 = 40;
const VERSIONS: u64 = 5;
const VALUE_BYTES: usize = 20_000;
const MAX_TIMESTAMP: i64 = -3;

async fn bench(configs: &[(&str, &str)]) -> Bench {
    let eager = [("min.cleanable.dirty.ratio", "0"), ("segment.ms", "1")];
    let configs = [&eager, configs].concat();
    Bench::on(Broker::start_with(EAGER).await, 1, &configs).await
}

fn keyed(key: &str, value_bytes: usize, timestamp_ms: i64) -> Batch {
    Batch::plain(vec![Record {
        key: Some(key.to_owned().into()),
        ..Record::of(vec![b'v'; value_bytes], timestamp_ms)
    }])
}

impl Bench {
    /// The records that are left by offset, and the bytes of their batches.
    async fn read_left(&mut self) -> (BTreeMap<i64, Record>, usize) {
        let mut next = self.edge(-2).await;
        let end = self.edge(-1).await;
        let (mut left, mut bytes) = (BTreeMap::new(), 0);
        while next < end {
            let ask = FetchAsk {
                topic_id: self.topic_id,
                ..FetchAsk::of(&self.topic, 0, next)
            };
            let answer = self.connection.fetch(ask).await.unwrap();
            // Retention went on meanwhile.
            if answer.error_code == code::OFFSET_OUT_OF_RANGE {
                next = self.edge(-2).await;
                (left, bytes) = (BTreeMap::new(), 0);
                continue;
            }
            assert_eq!(answer.error_code, 0);
            let records = answer.records.unwrap_or_default();
            bytes += records.len();
            for batch in read_all(records).unwrap() {
                next = batch.last_offset + 1;
                left.extend(batch.records);
            }
        }
        (left, bytes)
    }

    /// Waits until compaction has left as many records as there are keys.
    async fn wait_for_compaction(&mut self, keys: usize) {
        within(TEST_SECONDS, "compaction", async {
            while self.read_left().await.0.len() > keys {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn by_size_goes_what_is_left_and_not_what_was_appended() {
    let mut bench = bench(&[("cleanup.policy", "compact,delete"), ("retention.ms", "-1")]).await;
    for _ in 0..VERSIONS {
        for key in 0..KEYS {
            let batch = keyed(&format!("key-{key}"), VALUE_BYTES, now_ms() - 1000);
            bench.append(&batch).await;
        }
    }
    // The last batch is never compacted, nor does it take the place of another one yet.
    bench.append(&keyed("last", 1, now_ms() - 1000)).await;
    bench.wait_for_compaction(KEYS as usize + 1).await;
    let (_, all) = bench.read_left().await;
    let limit = all * 3 / 4;
    bench
        .alter_topic("retention.bytes", &limit.to_string())
        .await;
    within(TEST_SECONDS, "retention by size", async {
        while bench.read_left().await.1 == all {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    for restarted in [false, true] {
        bench.let_looks_pass().await;
        let (left, bytes) = bench.read_left().await;
        assert!(
            (limit..all).contains(&bytes),
            "{bytes} of {all} are left, {limit} were to be kept; restarted: {restarted}"
        );
        assert!(left.len() >= KEYS as usize * 3 / 4);
        bench.broker.kill9();
        bench.broker.restart().await;
        bench.reconnect().await;
    }
    // And where nothing is compacted any more.
    bench.alter_topic("cleanup.policy", "delete").await;
    bench.broker.terminate().await;
    bench.broker.restart().await;
    bench.reconnect().await;
    bench.let_looks_pass().await;
    assert!(bench.read_left().await.1 >= limit);
}

/// However close passes follow each other: nobody else looks here before the test is over.
#[tokio::test]
async fn each_pass_ends_with_a_look_at_what_is_too_much() {
    const LIMIT: usize = 200_000;
    let never = [
        ("log.retention.check.interval.ms", "86400000"),
        ("log.initial.task.delay.ms", "86400000"),
        ("log.cleaner.backoff.ms", "1"),
    ];
    let limit = LIMIT.to_string();
    let configs = [
        ("cleanup.policy", "compact,delete"),
        ("min.cleanable.dirty.ratio", "0"),
        ("segment.ms", "1"),
        ("retention.bytes", limit.as_str()),
        ("retention.ms", "-1"),
    ];
    let mut bench = Bench::on(Broker::start_with(&never).await, 1, &configs).await;
    let mut sent = 0;
    for round in 0..2 {
        within(TEST_SECONDS, "retention by size", async {
            let before = bench.edge(-2).await;
            while bench.edge(-2).await == before {
                let key = format!("key-{sent}");
                bench
                    .append(&keyed(&key, VALUE_BYTES, now_ms() - 1000))
                    .await;
                sent += 1;
            }
        })
        .await;
        let (_, bytes) = bench.read_left().await;
        assert!(bytes >= LIMIT, "round {round}: {bytes} bytes are left");
    }
}

/// The record with the highest timestamp is asked for after each of two went.
#[tokio::test]
async fn the_latest_timestamp_is_that_of_a_record_that_is_there() {
    let mut bench = bench(&[("cleanup.policy", "compact")]).await;
    let now = now_ms() - 10_000;
    for (key, age_ms) in [("a", 0), ("b", 1000), ("c", 2000)] {
        bench.append(&keyed(key, 10, now - age_ms)).await;
    }
    assert_eq!(bench.edge(MAX_TIMESTAMP).await, 0);
    for (expected, key) in [(1, "a"), (2, "b")] {
        bench.append(&keyed(key, 10, now - 5000)).await;
        let end = format!("after {key}");
        bench.append(&keyed(&end, 10, now - 5000)).await;
        bench.wait_for_compaction(3 + expected as usize).await;
        assert_eq!(bench.edge(MAX_TIMESTAMP).await, expected);
        assert_eq!(bench.edge(MAX_TIMESTAMP).await, expected);
    }
}
