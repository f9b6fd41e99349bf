//! Every offset is in exactly one object, however often the worker, the broker and the S3 server are killed,
//! with objects closed by the wall clock; and manifests prove it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic};
use ottla_tests::random::Random;
use ottla_tests::within;

use crate::audit::{verify, wait_for_manifests};
use crate::seaweed::{ACCESS_KEY, BUCKET, Seaweed};
use crate::worker::Worker;

const TOPIC: &str = "payments";
const PARTITIONS: i32 = 3;
const BATCH: i64 = 100;
const DELIVERY_WAIT: Duration = Duration::from_secs(90);

fn connector(name: &str, endpoint: &str, more: &str) -> String {
    format!(
        "name={name}\nconnector.class=io.confluent.connect.s3.S3SinkConnector\ntasks.max=2\n\
         topics={TOPIC}\ns3.bucket.name={BUCKET}\ns3.region=us-east-1\nstore.url={endpoint}\n\
         aws.access.key.id={ACCESS_KEY}\naws.secret.access.key=${{env:TEST_SECRET_KEY}}\n\
         storage.class=io.confluent.connect.s3.storage.S3Storage\n\
         format.class=io.confluent.connect.s3.format.json.JsonFormat\n\
         schema.compatibility=NONE\ntopics.dir={name}\nflush.size=700\n\
         rotate.schedule.interval.ms=1000\ntimezone=UTC\n{more}"
    )
}

async fn produce(broker: &Broker, ends: &mut [i64; PARTITIONS as usize]) {
    let mut connection = Connection::open(broker.address)
        .await
        .expect("a connection");
    for partition in 0..PARTITIONS {
        let end = &mut ends[partition as usize];
        let records = (*end..*end + BATCH).map(|n| {
            let value = format!(
                r#"{{"n":{n},"partition":{partition},"country":"c{}"}}"#,
                n % 5
            );
            Record::of(value.into_bytes(), now_ms())
        });
        let batch = Batch::plain(records.collect()).encode();
        let answer = connection
            .produce(TOPIC, partition, batch)
            .await
            .expect("an answer");
        assert_eq!((answer.error_code, answer.base_offset), (0, *end));
        *end += BATCH;
    }
}

/// How often each offset of each partition is in an object under a folder.
fn delivered(seaweed: &Seaweed, folder: &str) -> HashMap<(i64, i64), usize> {
    let mut found = HashMap::new();
    for key in seaweed.list() {
        if !key.starts_with(&format!("{folder}/")) || key.contains("/_manifests/") {
            continue;
        }
        let body = seaweed.read(&key);
        let mut first = None;
        for line in String::from_utf8(body).expect("text").lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            let number = |field: &str| record[field].as_i64().expect("a number");
            let place = (number("partition"), number("n"));
            first.get_or_insert(place);
            *found.entry(place).or_insert(0) += 1;
        }
        let (partition, offset) = first.unwrap_or_else(|| panic!("{key} is empty"));
        let name = format!("{TOPIC}+{partition}+{offset:010}.json");
        assert!(
            key.ends_with(&name),
            "{key} begins with {offset} of {partition}"
        );
    }
    found
}

async fn wait_for(seaweed: &Seaweed, folder: &str, ends: &[i64]) {
    let total: i64 = ends.iter().sum();
    let began = Instant::now();
    loop {
        let found = delivered(seaweed, folder);
        if let Some((place, times)) = found.iter().find(|(_, times)| **times != 1) {
            panic!("{folder}: {place:?} is in {times} objects");
        }
        if found.len() as i64 == total {
            return;
        }
        assert!(
            began.elapsed() < DELIVERY_WAIT,
            "{folder}: {} of {total} records after {DELIVERY_WAIT:?}",
            found.len()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_offset_is_in_exactly_one_object() {
    let kills = std::env::var("OTTLA_CONNECT_KILLS").map_or(8, |k| k.parse().expect("a number"));
    within(120 + kills * 30, "exactly once", async {
        let mut random = Random::new(Random::seed());
        let mut broker = Broker::start().await;
        let mut seaweed = Seaweed::start();
        let topic = Topic {
            name: TOPIC,
            partitions: PARTITIONS,
            configs: &[],
        };
        let mut connection = Connection::open(broker.address).await.expect("a connection");
        connection.create_topic(topic).await.expect("a topic");
        drop(connection);
        let by_field = "partitioner.class=io.confluent.connect.storage.partitioner.FieldPartitioner\n\
                        partition.field.name=country\n";
        let by_clock = "partitioner.class=io.confluent.connect.storage.partitioner.TimeBasedPartitioner\n\
                        partition.duration.ms=1000\npath.format='t'=HH-mm-ss\nlocale=en-US\n\
                        timestamp.extractor=Wallclock\n";
        let endpoint = seaweed.endpoint();
        let connectors = [
            connector("plain", &endpoint, ""),
            connector("by-field", &endpoint, by_field),
            connector("by-clock", &endpoint, by_clock),
            connector("audited", &endpoint, &format!("{by_field}ottla.audit.enable=true\n")),
        ];
        let mut worker = Worker::prepare(broker.address, &[], &connectors);
        let mut ends = [0; PARTITIONS as usize];
        worker.start();
        for round in 0..kills {
            for _ in 0..1 + random.below(6) {
                produce(&broker, &mut ends).await;
                tokio::time::sleep(Duration::from_millis(random.below(400))).await;
            }
            // Long enough for the group to form at times, and to be in the middle of things at others.
            tokio::time::sleep(Duration::from_millis(random.below(9000))).await;
            match round % 4 {
                1 => {
                    broker.kill9();
                    broker.restart().await;
                }
                2 => {
                    seaweed.kill9();
                    seaweed.restart();
                }
                _ => {
                    worker.kill9();
                    worker.start();
                }
            }
        }
        for folder in ["plain", "by-field", "by-clock", "audited"] {
            wait_for(&seaweed, folder, &ends).await;
        }
        for (partition, end) in (0..).zip(ends) {
            wait_for_manifests(&seaweed, "audited", TOPIC, partition, end).await;
        }
        let code = worker.stop();
        assert_eq!(code, 0, "{}", worker.log());
        let verified = verify(&seaweed.target("audited"), &seaweed, &[]);
        assert_eq!(verified.code, 0, "{verified}");
        for (partition, end) in ends.iter().enumerate() {
            let row = verified.row(TOPIC, partition);
            assert_eq!((row.offsets, row.written), ((0, end - 1), *end as u64), "{verified}");
        }
        let log = worker.log();
        assert!(!log.contains(crate::seaweed::SECRET_KEY), "a secret is in the log");
        assert!(!log.contains("\"message\":\"task "), "a task failed:\n{log}");
    })
    .await;
}
