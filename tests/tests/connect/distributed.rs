//! Workers that share connectors, as processes that are killed, paused, stopped and started anew: every offset
//! is in exactly one object all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic};
use ottla_tests::within;
use serde_json::{Value, json};

use crate::seaweed::{ACCESS_KEY, BUCKET, Seaweed, http};
use crate::worker::Worker;

const PARTITIONS: i32 = 4;
const BATCH: i64 = 50;
const WAIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

fn config(endpoint: &str) -> Value {
    json!({
        "connector.class": "io.confluent.connect.s3.S3SinkConnector", "topics": "events", "tasks.max": "4",
        "s3.bucket.name": BUCKET, "s3.region": "us-east-1", "store.url": endpoint,
        "aws.access.key.id": ACCESS_KEY, "aws.secret.access.key": "${env:TEST_SECRET_KEY}",
        "format.class": "io.confluent.connect.s3.format.json.JsonFormat", "topics.dir": "shared",
        "flush.size": "70", "rotate.schedule.interval.ms": "1000", "timezone": "UTC"})
}

/// Asks until the worker answers and the group is settled.
fn call(worker: &Worker, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let began = Instant::now();
    loop {
        let answer = http(worker.rest, method, path, body.as_bytes());
        match answer {
            Some((status, answer)) if status != 409 => {
                return (status, serde_json::from_slice(&answer).unwrap_or_default());
            }
            _ => assert!(
                began.elapsed() < WAIT,
                "{method} {path}: {answer:?}\n{}",
                worker.log()
            ),
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Until every one of these workers says that all tasks are in this state, and each runs some.
fn settled(workers: &[&Worker], state: &str) {
    let ids: BTreeSet<String> = workers.iter().map(|w| w.rest.to_string()).collect();
    let began = Instant::now();
    for worker in workers {
        loop {
            let (_, said) = call(worker, "GET", "/connectors/shared/status", &Value::Null);
            let tasks = said["tasks"].as_array().cloned().unwrap_or_default();
            let all = tasks.len() == 4 && tasks.iter().all(|t| t["state"] == state);
            let owners = tasks.iter().filter_map(|t| t["worker_id"].as_str());
            let owners: BTreeSet<String> = owners.map(str::to_owned).collect();
            if all && owners == ids && said["connector"]["state"] == state {
                break;
            }
            assert!(began.elapsed() < WAIT, "{ids:?}: {said}\n{}", worker.log());
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

async fn produce(connection: &mut Connection, ends: &mut [i64; PARTITIONS as usize]) {
    for (partition, end) in (0..PARTITIONS).zip(ends) {
        let records = (*end..*end + BATCH).map(|n| {
            let value = json!({"n": n, "partition": partition}).to_string();
            Record::of(value.into_bytes(), now_ms())
        });
        let batch = Batch::plain(records.collect()).encode();
        let answer = connection
            .produce("events", partition, batch)
            .await
            .expect("an answer");
        assert_eq!((answer.error_code, answer.base_offset), (0, *end));
        *end += BATCH;
    }
}

async fn each_once(seaweed: &Seaweed, ends: &[i64]) {
    let began = Instant::now();
    loop {
        let mut times: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        for key in seaweed.list() {
            let body = String::from_utf8(seaweed.read(&key)).expect("text");
            for line in body.lines() {
                let record: Value = serde_json::from_str(line).expect("a line of JSON");
                let number = |field: &str| record[field].as_i64().expect("a number");
                *times.entry((number("partition"), number("n"))).or_default() += 1;
            }
        }
        let twice: Vec<_> = times.iter().filter(|(_, t)| **t != 1).collect();
        assert!(twice.is_empty(), "in several objects: {twice:?}");
        if times.len() as i64 == ends.iter().sum::<i64>() {
            return;
        }
        assert!(began.elapsed() < WAIT, "{} of {ends:?}", times.len());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn topic(connection: &mut Connection, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let topic = Topic {
        name,
        partitions,
        configs,
    };
    connection.create_topic(topic).await.expect("a topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_move_and_every_offset_is_in_one_object() {
    within(420, "distributed", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        let mut connection = Connection::open(broker.address)
            .await
            .expect("a connection");
        topic(&mut connection, "events", PARTITIONS, &[]).await;
        let mut ends = [0; PARTITIONS as usize];
        let mut workers = [(); 3].map(|()| Worker::distributed(broker.address, &[]));
        workers.iter_mut().for_each(Worker::start);
        let none = Value::Null;
        let config = config(&seaweed.endpoint());
        let create = json!({"name": "shared", "config": config});
        let (status, made) = call(&workers[0], "POST", "/connectors", &create);
        assert_eq!(status, 201, "{made}");
        assert_eq!(made["tasks"].as_array().map(Vec::len), Some(4));
        settled(&workers.each_ref(), "RUNNING");
        produce(&mut connection, &mut ends).await;
        // Every worker takes what only the leader does, and restarts of a task that is another's.
        assert_eq!(
            call(&workers[1], "PUT", "/connectors/shared/pause", &none).0,
            202
        );
        settled(&workers.each_ref(), "PAUSED");
        assert_eq!(
            call(&workers[2], "PUT", "/connectors/shared/resume", &none).0,
            202
        );
        settled(&workers.each_ref(), "RUNNING");
        for task in 0..4 {
            let path = format!("/connectors/shared/tasks/{task}/restart");
            assert_eq!(call(&workers[0], "POST", &path, &none).0, 204);
        }
        let path = "/connectors/shared/restart?includeTasks=true";
        assert_eq!(call(&workers[1], "POST", path, &none).0, 202);
        let path = "/connectors/shared/tasks/9/restart";
        assert_eq!(call(&workers[1], "POST", path, &none).0, 404);

        produce(&mut connection, &mut ends).await;
        workers[0].kill9();
        produce(&mut connection, &mut ends).await;
        settled(&[&workers[1], &workers[2]], "RUNNING");
        workers[0].start();
        settled(&workers.each_ref(), "RUNNING");

        // One that is stale finds others at its work, and stops.
        workers[1].signal(Signal::SIGSTOP);
        produce(&mut connection, &mut ends).await;
        settled(&[&workers[0], &workers[2]], "RUNNING");
        workers[1].signal(Signal::SIGCONT);
        settled(&workers.each_ref(), "RUNNING");

        // A rolling restart.
        for i in 0..workers.len() {
            assert_eq!(workers[i].stop(), 0, "{}", workers[i].log());
            produce(&mut connection, &mut ends).await;
            workers[i].start();
            settled(&workers.each_ref(), "RUNNING");
        }

        // All at once: what is configured is in the topics.
        workers.iter_mut().for_each(Worker::kill9);
        produce(&mut connection, &mut ends).await;
        workers.iter_mut().for_each(Worker::start);
        settled(&workers.each_ref(), "RUNNING");
        let (_, kept) = call(&workers[2], "GET", "/connectors/shared/config", &none);
        for (key, value) in config.as_object().expect("an object") {
            assert_eq!(&kept[key], value, "{key}");
        }
        each_once(&seaweed, &ends).await;

        assert_eq!(
            call(&workers[0], "DELETE", "/connectors/shared", &none).0,
            204
        );
        for worker in &workers {
            let began = Instant::now();
            while call(worker, "GET", "/connectors", &none).1 != json!([]) {
                assert!(
                    began.elapsed() < WAIT,
                    "it is still there:\n{}",
                    worker.log()
                );
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        for worker in &mut workers {
            assert_eq!(worker.stop(), 0, "{}", worker.log());
            let log = worker.log();
            assert!(
                !log.contains(crate::seaweed::SECRET_KEY),
                "a secret is in the log"
            );
            assert!(
                !log.contains("\"message\":\"task ") || !log.contains(" failed: "),
                "{log}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_kafka_connect_are_taken_over() {
    within(180, "taken over", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        let mut connection = Connection::open(broker.address)
            .await
            .expect("a connection");
        topic(&mut connection, "events", PARTITIONS, &[]).await;
        topic(
            &mut connection,
            "connect-config",
            1,
            &[("cleanup.policy", "compact")],
        )
        .await;
        // As Kafka Connect 3.9 has written them.
        let task = json!({"properties": {"task.class": "io.confluent.connect.s3.S3SinkTask"}});
        let mut written = config(&seaweed.endpoint());
        written["name"] = json!("shared");
        let records = [
            (
                "session-key",
                json!({"key": "9Un=", "algorithm": "HmacSHA256", "creation-timestamp": 1}),
            ),
            (
                "target-state-shared",
                json!({"state": "STARTED", "state.v2": "STARTED"}),
            ),
            ("connector-shared", json!({"properties": written})),
            ("task-shared-0", task),
            ("commit-shared", json!({"tasks": 1})),
        ];
        let records = records.map(|(key, value)| Record {
            key: Some(key.as_bytes().to_vec().into()),
            ..Record::of(value.to_string().into_bytes(), now_ms())
        });
        let batch = Batch::plain(records.to_vec()).encode();
        let answer = connection
            .produce("connect-config", 0, batch)
            .await
            .expect("an answer");
        assert_eq!(answer.error_code, 0);
        let mut worker = Worker::distributed(broker.address, &[]);
        worker.start();
        settled(&[&worker], "RUNNING");
        let mut ends = [0; PARTITIONS as usize];
        produce(&mut connection, &mut ends).await;
        each_once(&seaweed, &ends).await;
        assert_eq!(worker.stop(), 0, "{}", worker.log());

        // A topic whose records would be deleted by age is refused.
        topic(&mut connection, "aging", 1, &[("cleanup.policy", "delete")]).await;
        let mut wrong = Worker::distributed(broker.address, &[("config.storage.topic", "aging")]);
        wrong.start();
        assert_eq!(wrong.wait(), 1);
        assert!(
            wrong
                .log()
                .contains("required to have 'cleanup.policy=compact'"),
            "{}",
            wrong.log()
        );
    })
    .await;
}
