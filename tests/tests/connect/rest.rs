//! The REST API, as `curl` and Kafka Connect's users call it.

use std::process::Command;
use std::time::{Duration, Instant};

use ottla_tests::broker::{Broker, binary};
use ottla_tests::client::{Connection, Topic};
use ottla_tests::within;
use serde_json::{Value, json};

use crate::seaweed::http;
use crate::worker::Worker;

const WAIT: Duration = Duration::from_secs(30);

fn call(worker: &Worker, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let began = Instant::now();
    loop {
        if let Some((status, answer)) = http(worker.rest, method, path, body.as_bytes()) {
            return (status, serde_json::from_slice(&answer).unwrap_or_default());
        }
        assert!(began.elapsed() < WAIT, "no answer:\n{}", worker.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_for(worker: &Worker, name: &str, connector: &str, tasks: &[&str]) -> Value {
    let began = Instant::now();
    loop {
        let (status, answer) = call(
            worker,
            "GET",
            &format!("/connectors/{name}/status"),
            &Value::Null,
        );
        assert_eq!(status, 200, "{answer}");
        let states = answer["tasks"]
            .as_array()
            .expect("tasks")
            .iter()
            .map(|t| t["state"].clone());
        if answer["connector"]["state"] == connector && states.collect::<Vec<_>>() == tasks {
            return answer;
        }
        assert!(began.elapsed() < WAIT, "{answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_are_made_changed_paused_and_removed() {
    within(120, "rest", async {
        let broker = Broker::start().await;
        let mut connection = Connection::open(broker.address).await.expect("a connection");
        let topic = Topic {
            name: "t",
            partitions: 1,
            configs: &[],
        };
        connection.create_topic(topic).await.expect("a topic");
        let mut worker = Worker::prepare(broker.address, &[], &[]);
        worker.start();
        let none = Value::Null;
        assert_eq!(call(&worker, "GET", "/connectors", &none), (200, json!([])));
        let config = json!({
            "connector.class": "io.confluent.connect.s3.S3SinkConnector", "topics": "t", "tasks.max": "1",
            "s3.bucket.name": "bucket", "flush.size": "1", "store.url": "http://127.0.0.1:1",
            "format.class": "io.confluent.connect.s3.format.json.JsonFormat",
            "aws.access.key.id": "x", "aws.secret.access.key": "${env:TEST_SECRET_KEY}"});
        let (status, made) = call(&worker, "POST", "/connectors", &json!({"name": "a b", "config": config}));
        assert_eq!(status, 201, "{made}");
        assert_eq!(made["type"], "sink");
        assert_eq!(made["config"]["name"], "a b");
        assert_eq!(made["config"]["aws.secret.access.key"], "${env:TEST_SECRET_KEY}");
        assert_eq!(made["tasks"], json!([{"connector": "a b", "task": 0}]));
        let (status, again) = call(&worker, "POST", "/connectors", &json!({"name": "a b", "config": config}));
        assert_eq!(status, 409);
        assert_eq!(again, json!({"error_code": 409, "message": "Connector a b already exists"}));
        wait_for(&worker, "a%20b", "RUNNING", &["RUNNING"]);
        assert_eq!(call(&worker, "PUT", "/connectors/a%20b/pause", &none).0, 202);
        wait_for(&worker, "a%20b", "PAUSED", &["PAUSED"]);
        assert_eq!(call(&worker, "PUT", "/connectors/a%20b/resume", &none).0, 202);
        wait_for(&worker, "a%20b", "RUNNING", &["RUNNING"]);
        let mut two = config.clone();
        two["tasks.max"] = json!("2");
        assert_eq!(call(&worker, "PUT", "/connectors/a%20b/config", &two).0, 200);
        wait_for(&worker, "a%20b", "RUNNING", &["RUNNING", "RUNNING"]);
        assert_eq!(call(&worker, "PUT", "/connectors/a%20b/stop", &none).0, 204);
        wait_for(&worker, "a%20b", "STOPPED", &[]);
        let mut wrong = config.clone();
        wrong["flush.size"] = json!("0");
        let path = "/connector-plugins/S3SinkConnector/config/validate";
        let (status, answer) = call(&worker, "PUT", path, &wrong);
        assert_eq!((status, &answer["error_count"]), (200, &json!(1)), "{answer}");
        let (status, answer) = call(&worker, "PUT", "/connectors/new/config", &wrong);
        assert_eq!(status, 400);
        assert!(answer["message"].as_str().expect("text").contains("contains the following 1 error(s)"));
        let list = Command::new(binary())
            .args(["connector", "list", "--url", &format!("http://{}", worker.rest)])
            .output()
            .expect("ottla runs");
        assert_eq!(String::from_utf8_lossy(&list.stdout), "a b\tSTOPPED\t\n");
        assert_eq!(call(&worker, "DELETE", "/connectors/a%20b", &none).0, 204);
        let (status, gone) = call(&worker, "GET", "/connectors/a%20b", &none);
        assert_eq!((status, &gone["message"]), (404, &json!("Connector a b not found")));
        assert_eq!(call(&worker, "GET", "/nothing", &none).0, 404);
        assert_eq!(worker.stop(), 0, "{}", worker.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_fails_the_task_and_says_why() {
    use ottla_tests::batch::{Batch, Record, now_ms};
    within(120, "failed", async {
        let broker = Broker::start().await;
        let mut connection = Connection::open(broker.address).await.expect("a connection");
        let topic = Topic {
            name: "t",
            partitions: 1,
            configs: &[],
        };
        connection.create_topic(topic).await.expect("a topic");
        let batch = Batch::plain(vec![Record::of(b"no json".to_vec(), now_ms())]).encode();
        connection.produce("t", 0, batch).await.expect("an answer");
        let file = "name=f\nconnector.class=S3Sink\ntopics=t\ns3.bucket.name=bucket\nflush.size=1\n\
                    format.class=JsonFormat\nstore.url=http://127.0.0.1:1\naws.access.key.id=x\n\
                    aws.secret.access.key=y\n";
        let mut worker = Worker::prepare(broker.address, &[], &[file.to_owned()]);
        worker.start();
        let status = wait_for(&worker, "f", "RUNNING", &["FAILED"]);
        let trace = status["tasks"][0]["trace"].as_str().expect("a trace");
        assert!(trace.starts_with(
            "org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded in error handler\nCaused by: "
        ), "{trace}");
        let path = "/connectors/f/restart?includeTasks=true&onlyFailed=true";
        assert_eq!(call(&worker, "POST", path, &Value::Null).0, 202);
        wait_for(&worker, "f", "RUNNING", &["FAILED"]);
    })
    .await;
}
