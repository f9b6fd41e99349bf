//! Retention goes by the oldest records that are left, also where compaction has just uncovered them.

use std::time::{Duration, Instant};

use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic};

use super::{EAGER, EARLIEST, OLD_MS};

const TOPIC: Topic = Topic {
    name: "uncovered",
    partitions: 1,
    configs: &[
        ("cleanup.policy", "compact,delete"),
        ("min.cleanable.dirty.ratio", "0"),
        ("segment.ms", "1"),
        ("retention.ms", "3600000"),
    ],
};
/// More than an interval of the sparse index.
const VALUE_BYTES: usize = 70_000;
const OLD_RECORDS: usize = 5;
/// Far more than a look, which happens every 10 ms.
const LOOK: Duration = Duration::from_millis(200);
const WAIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn old_records_behind_a_young_one_go_once_compaction_took_that() {
    let broker = Broker::start_with(EAGER).await;
    let mut connection = Connection::open(broker.address).await.unwrap();
    connection.create_topic(TOPIC).await.unwrap();
    put(&mut connection, "young", 0).await;
    for number in 0..OLD_RECORDS {
        put(&mut connection, &format!("old {number}"), OLD_MS).await;
    }
    tokio::time::sleep(LOOK).await;
    assert_eq!(start(&mut connection).await, 0, "the young one holds them");
    put(&mut connection, "young", 0).await;
    put(&mut connection, "last", 0).await;
    let began = Instant::now();
    while start(&mut connection).await <= 1 {
        assert!(began.elapsed() < WAIT, "kept:\n{}", broker.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn put(connection: &mut Connection, key: &str, age_ms: i64) {
    let record = Record {
        key: Some(key.as_bytes().to_vec().into()),
        value: Some(vec![b'v'; VALUE_BYTES].into()),
        timestamp_ms: now_ms() - age_ms,
    };
    let batch = Batch::plain(vec![record]).encode();
    let sent = connection.produce(TOPIC.name, 0, batch).await.unwrap();
    assert_eq!(sent.error_code, 0);
}

async fn start(connection: &mut Connection) -> i64 {
    let found = connection.list_offset(TOPIC.name, 0, EARLIEST).await;
    found.unwrap().offset
}
