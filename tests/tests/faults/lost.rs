//! Write-ahead logs that are missing or damaged in the middle: with `ottla.storage.accept.loss` the
//! broker serves every record that is whole, gives no offset twice, and needs the key for one start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use ottla_tests::batch::read_all;
use ottla_tests::broker::{Broker, binary};
use ottla_tests::client::{FetchAsk, Topic};
use ottla_tests::damage::{files, flip};
use ottla_tests::history::name_of;
use ottla_tests::within;

use crate::support::{TOPIC, batch, connect};

const PARTITIONS: i32 = 3;
/// Records of a partition, and bytes of each.
const LARGE: (u64, usize) = (55, 400_000);
const SMALL: (u64, usize) = (3_000, 4_500);
/// On the smallest budget a memtable of records has 16 MiB, those of raft rows hold all of them.
/// The records' timestamps are years old.
const SETTINGS: [(&str, &str); 2] = [
    ("ottla.memory.bytes", "268435456"),
    ("log.retention.ms", "-1"),
];

/// A killed broker with records in blob files, and raft rows of all of them in several logs.
async fn prepared((count, bytes): (u64, usize)) -> Broker {
    let mut broker = Broker::start_with(&SETTINGS).await;
    let mut connection = connect(&broker).await;
    let topic = Topic {
        name: TOPIC,
        partitions: PARTITIONS,
        configs: &[],
    };
    connection.create_topic(topic).await.expect("a topic");
    for number in 0..count {
        for partition in 0..PARTITIONS {
            let records = batch(number, partition, bytes);
            let answer = connection.produce(TOPIC, partition, records).await;
            assert_eq!(answer.expect("answered").error_code, 0);
        }
    }
    broker.kill9();
    assert!(files(&broker.data(), ".log").len() >= 3, "several logs");
    broker
}

/// Numbers of a partition's records, by offset; and where it ends.
async fn all(broker: &Broker, partition: i32) -> (BTreeMap<i64, u64>, i64) {
    let mut connection = connect(broker).await;
    let end = connection.list_offset(TOPIC, partition, -1).await;
    let end = end.expect("answered");
    assert_eq!(end.error_code, 0);
    let (mut found, mut next) = (BTreeMap::new(), 0);
    while next < end.offset {
        let answer = connection.fetch(FetchAsk::of(TOPIC, partition, next)).await;
        let data = answer.expect("answered");
        assert_eq!(data.error_code, 0, "partition {partition}, offset {next}");
        let batches = read_all(data.records.unwrap_or_default()).expect("whole batches");
        assert!(!batches.is_empty(), "partition {partition} ends at {next}");
        for batch in batches {
            assert!(batch.base_offset <= next, "offset {next} is passed over");
            next = batch.last_offset + 1;
            for (offset, record) in batch.records {
                let value = record.value.expect("a value");
                let id = name_of(&value, partition).expect("what was sent");
                found.insert(offset, id.number);
            }
        }
    }
    (found, end.offset)
}

fn doctor(folder: &Path) -> (Option<i32>, String) {
    let run = Command::new(binary()).arg("doctor").arg(folder).output();
    let run = run.expect("the doctor runs");
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    (run.status.code(), text)
}

async fn assert_refused(broker: &mut Broker) {
    broker.spawn();
    let ended = broker.up_or_ended().await;
    assert!(!ended.expect_err("it must not start").success());
    let log = broker.log_tail();
    assert!(log.contains("ottla.storage.accept.loss=true"), "{log}");
}

/// Accepts the loss, and sees that everything whole is served, now and after ordinary starts.
async fn accept(broker: &mut Broker, count: u64, most_lost: usize) {
    broker.set("ottla.storage.accept.loss", "true");
    broker.restart().await;
    let mut before = Vec::new();
    for partition in 0..PARTITIONS {
        let (found, end) = all(broker, partition).await;
        assert!(
            found
                .iter()
                .all(|(offset, number)| *offset == *number as i64)
        );
        let lost = count as usize - found.len();
        assert!(lost <= most_lost, "partition {partition}: {lost} lost");
        // Of the very last records nothing may be left that tells of them.
        assert!(
            end >= (count as usize - most_lost) as i64,
            "it ends at {end}"
        );
        before.push((found, end));
    }
    broker.set("ottla.storage.accept.loss", "false");
    for round in 0..3 {
        let mut connection = connect(broker).await;
        for partition in 0..PARTITIONS {
            let (_, end) = before[partition as usize];
            let records = batch(count + round, partition, 100);
            let sent = connection.produce(TOPIC, partition, records).await;
            let sent = sent.expect("answered");
            assert_eq!((sent.error_code, sent.base_offset), (0, end + round as i64));
        }
        match round {
            0 => broker.terminate().await,
            _ => broker.kill9(),
        }
        let (code, text) = doctor(&broker.data());
        assert_eq!(code, Some(0), "{text}");
        broker.restart().await;
        for (partition, (before, _)) in before.iter().enumerate() {
            let (found, _) = all(broker, partition as i32).await;
            assert!(
                before
                    .iter()
                    .all(|(offset, n)| found.get(offset) == Some(n))
            );
            assert_eq!(found.len(), before.len() + round as usize + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log_costs_what_was_only_in_it() {
    within(240, "a missing log", async {
        let mut broker = prepared(LARGE).await;
        let logs = files(&broker.data(), ".log");
        fs::remove_file(&logs[1]).expect("it is removed");
        assert_refused(&mut broker).await;
        accept(&mut broker, LARGE.0, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_old_log_is_accepted_once() {
    within(240, "a damaged log", async {
        let mut broker = prepared(SMALL).await;
        let logs = files(&broker.data(), ".log");
        let middle = fs::metadata(&logs[1]).expect("a file").len() / 2;
        flip(&logs[1], middle, 2);
        flip(&logs[1], middle + 1, 5);
        assert_refused(&mut broker).await;
        accept(&mut broker, SMALL.0, 0).await;
        let kept = broker.data().join("db/lost-logs-1");
        assert!(kept.join(logs[1].file_name().expect("a name")).exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_newest_log_costs_only_what_it_hits() {
    within(240, "a damaged newest log", async {
        let mut broker = prepared(LARGE).await;
        let logs = files(&broker.data(), ".log");
        let newest = logs.last().expect("a log");
        let bytes = fs::read(newest).expect("a file");
        let used = bytes.iter().rposition(|b| *b != 0).expect("records");
        flip(newest, used as u64 / 3, 1);
        assert_refused(&mut broker).await;
        // A log's records are resynchronised at blocks; one entry has a record of each partition.
        accept(&mut broker, LARGE.0, 3).await;
    })
    .await;
}
