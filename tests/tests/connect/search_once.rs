//! Every record is one document, however often worker, broker and OpenSearch are killed, and while the server
//! has too much to do.

use std::time::Duration;

use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic};
use ottla_tests::random::Random;
use ottla_tests::within;

use crate::opensearch::{OpenSearch, installed};
use crate::search::connector;
use crate::worker::Worker;

const TOPIC: &str = "payments";
const PARTITIONS: i32 = 3;
const BATCH: i64 = 100;
const DELIVERY_WAIT: Duration = Duration::from_secs(120);

async fn produce(connection: &mut Connection, ends: &mut [i64; PARTITIONS as usize]) {
    for partition in 0..PARTITIONS {
        let end = &mut ends[partition as usize];
        let records = (*end..*end + BATCH).map(|n| Record {
            key: Some(format!("{partition}-{}", n % 50).into()),
            value: Some(format!(r#"{{"n":{n},"partition":{partition}}}"#).into()),
            timestamp_ms: now_ms(),
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

async fn topic(broker: &Broker) -> Connection {
    let mut connection = Connection::open(broker.address)
        .await
        .expect("a connection");
    let topic = Topic {
        name: TOPIC,
        partitions: PARTITIONS,
        configs: &[],
    };
    connection.create_topic(topic).await.expect("a topic");
    connection
}

/// One document of each record, with what the record has.
fn check_events(search: &OpenSearch, index: &str, ends: &[i64]) {
    let documents = search.all(index);
    assert_eq!(documents.len() as i64, ends.iter().sum::<i64>());
    for (id, _, source) in documents {
        let (partition, n) = (&source["partition"], &source["n"]);
        assert_eq!(id, format!("{TOPIC}+{partition}+{n}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_one_document_and_the_last_of_a_key_wins() {
    let kills = std::env::var("OTTLA_CONNECT_KILLS").map_or(6, |k| k.parse().expect("a number"));
    installed();
    within(180 + kills * 45, "one document", async {
        let mut random = Random::new(Random::seed());
        let mut broker = Broker::start().await;
        let mut search = OpenSearch::start();
        topic(&broker).await;
        let url = search.url();
        // Events by their place, and a table by key.
        let events = connector(
            "events",
            TOPIC,
            &url,
            "key.ignore=true\nindex.name=events\n",
        );
        let events = events.replace("tasks.max=1", "tasks.max=2");
        let table = connector("table", TOPIC, &url, "index.name=table\nbatch.size=70\n");
        let mut worker = Worker::prepare(broker.address, &[], &[events, table]);
        let mut ends = [0; PARTITIONS as usize];
        worker.start();
        for round in 0..kills {
            for _ in 0..1 + random.below(6) {
                let mut connection = Connection::open(broker.address)
                    .await
                    .expect("a connection");
                produce(&mut connection, &mut ends).await;
                tokio::time::sleep(Duration::from_millis(random.below(400))).await;
            }
            // Long enough for the group to form at times, and to be in the middle of things at others.
            tokio::time::sleep(Duration::from_millis(random.below(9000))).await;
            match round % 3 {
                1 => {
                    broker.kill9();
                    broker.restart().await;
                }
                2 => {
                    search.kill9();
                    search.restart();
                }
                _ => {
                    worker.kill9();
                    worker.start();
                }
            }
        }
        let total = ends.iter().sum::<i64>() as u64;
        search.wait_for("events", total, DELIVERY_WAIT).await;
        check_events(&search, "events", &ends);
        let keys = 50 * PARTITIONS as u64;
        search.wait_for("table", keys, DELIVERY_WAIT).await;
        let began = std::time::Instant::now();
        loop {
            search.count("table");
            let last = |(id, version, source): &(String, i64, serde_json::Value)| {
                let partition = source["partition"].as_i64().expect("a number");
                let n = source["n"].as_i64().expect("a number");
                assert_eq!(
                    (id.clone(), *version),
                    (format!("{partition}-{}", n % 50), n)
                );
                n >= ends[partition as usize] - 50
            };
            if search.all("table").iter().all(last) {
                break;
            }
            assert!(began.elapsed() < DELIVERY_WAIT, "the table is behind");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        assert_eq!(worker.stop(), 0, "{}", worker.log());
        let log = worker.log();
        assert!(
            !log.contains("\"message\":\"task "),
            "a task failed:\n{log}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_too_much_to_do_gets_everything_in_the_end() {
    installed();
    within(300, "back-pressure", async {
        let broker = Broker::start().await;
        // Requests above a bound get 429 as a whole, those above another 413.
        let search = OpenSearch::start_with(&[
            "indexing_pressure.memory.limit=60kb",
            "http.max_content_length=40kb",
        ]);
        let mut connection = topic(&broker).await;
        let mut ends = [0; PARTITIONS as usize];
        for _ in 0..30 {
            produce(&mut connection, &mut ends).await;
        }
        let more = "key.ignore=true\nmax.buffered.records=3000\nretry.backoff.ms=20\n";
        let mut worker = Worker::prepare(
            broker.address,
            &[],
            &[connector("slow", TOPIC, &search.url(), more)],
        );
        worker.start();
        search
            .wait_for(TOPIC, ends.iter().sum::<i64>() as u64, DELIVERY_WAIT)
            .await;
        check_events(&search, TOPIC, &ends);
        let pressure = search.get("/_nodes/stats/indexing_pressure");
        let node = pressure["nodes"]
            .as_object()
            .and_then(|n| n.values().next())
            .expect("a node");
        let refused = &node["indexing_pressure"]["memory"]["total"]["coordinating_rejections"];
        assert!(
            refused.as_u64().expect("a number") > 0,
            "nothing was refused: {node}"
        );
        assert_eq!(worker.stop(), 0, "{}", worker.log());
        let log = worker.log();
        assert!(
            !log.contains("\"message\":\"task "),
            "a task failed:\n{log}"
        );
    })
    .await;
}
