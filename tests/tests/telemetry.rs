//! The metrics endpoint of a real process: `/metrics`, `/health/live`, `/health/ready`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{GroupId, JoinGroupRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::{Broker, free_address};
use ottla_tests::client::{Connection, FETCH, FetchAsk, Topic, code, fetch_request};
use ottla_tests::http;
use ottla_tests::prometheus::Scrape;
use ottla_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test here takes a tenth of this.
const TEST_SECONDS: u64 = 120;
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// In everything a client sends that is its own business.
const SECRET: &str = "hunter2";

/// A broker whose metrics listener is known; not started yet.
fn prepare() -> (Broker, SocketAddr) {
    let metrics = free_address();
    let listener = metrics.to_string();
    (
        Broker::prepare(&[("ottla.metrics.listener", &listener)]),
        metrics,
    )
}

async fn start() -> (Broker, SocketAddr) {
    let (mut broker, metrics) = prepare();
    broker.restart().await;
    while !is_ready(metrics).await {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    (broker, metrics)
}

async fn is_ready(metrics: SocketAddr) -> bool {
    matches!(http::get(metrics, "/health/ready").await, Ok(answer) if answer.status == 200)
}

async fn scrape(metrics: SocketAddr) -> (Scrape, String) {
    let answer = http::get(metrics, "/metrics")
        .await
        .expect("/metrics is answered");
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let scrape = Scrape::parse(&answer.body);
    (
        scrape.unwrap_or_else(|e| panic!("{e}\n{}", answer.body)),
        answer.body,
    )
}

async fn produce_and_fetch(connection: &mut Connection, topic: &str) {
    let record = Record {
        key: Some(Bytes::from_static(SECRET.as_bytes())),
        ..Record::of(SECRET, now_ms())
    };
    let batch = Batch::plain(vec![record; 3]).encode();
    let produced = connection.produce(topic, 0, batch).await.unwrap();
    assert_eq!(produced.error_code, 0);
    let fetched = connection.fetch(FetchAsk::of(topic, 0, 0)).await.unwrap();
    assert!(!fetched.records.unwrap_or_default().is_empty());
}

/// One member joins and gets its assignment.
async fn join(connection: &mut Connection) {
    let text = StrBytes::from_static_str;
    let group = || GroupId(text("group-hunter2"));
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(SECRET.as_bytes()));
    let request = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined = loop {
        let joined = connection.call(3, &request).await.unwrap();
        match joined.error_code {
            code::COORDINATOR_NOT_AVAILABLE | code::COORDINATOR_LOAD_IN_PROGRESS => {
                connection.find_coordinator("group-hunter2").await.ok();
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            _ => break joined,
        }
    };
    assert_eq!(joined.error_code, 0, "{joined:?}");
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(SECRET.as_bytes()));
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id)
        .with_assignments(vec![assignment]);
    let synced = connection.call(3, &request).await.unwrap();
    assert_eq!(synced.error_code, 0, "{synced:?}");
}

/// The table in docs/metrics.md: name to type and labels.
fn documented() -> BTreeMap<String, (String, String)> {
    // As cargo says when it runs the test: one target directory may serve several checkouts.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
    let root = Path::new(&package).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/metrics.md")).expect("docs/metrics.md");
    let row = |line: &str| {
        let mut cells = line
            .strip_prefix("| `")?
            .split('|')
            .map(|cell| cell.trim().replace('`', ""));
        Some((cells.next()?, (cells.next()?, cells.next()?)))
    };
    text.lines().filter_map(row).collect()
}

/// What each of these does is counted where the documentation says, and nothing else is told.
#[tokio::test]
async fn metrics_are_as_documented_and_move() {
    within(TEST_SECONDS, "metrics", async {
        let (broker, metrics) = start().await;
        let mut connection = Connection::open(broker.address).await.unwrap();
        let topic = Topic {
            name: "orders",
            partitions: 3,
            configs: &[],
        };
        connection.create_topic(topic).await.unwrap();
        let (before, _) = scrape(metrics).await;
        produce_and_fetch(&mut connection, "orders").await;
        join(&mut connection).await;
        let committed = connection.commit("behind-hunter2", "orders", 0, 1).await;
        committed.expect("a commit of a group without members");
        let batch = Batch::filled(1, 10).encode();
        let refused = connection.produce("absent", 0, batch).await.unwrap();
        assert_eq!(refused.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
        let lag = "ottla_group_lag_records";
        let (after, text) = loop {
            let (after, text) = scrape(metrics).await;
            if after.value(lag, &[("topic", "orders")]) > 0.0 {
                break (after, text);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };

        let moved = |name: &str, labels: &[(&str, &str)]| {
            after.value(name, labels) - before.value(name, labels)
        };
        let of_topic = [("topic", "orders")];
        let records = moved(
            "kafka_server_brokertopicmetrics_messagesin_total",
            &of_topic,
        );
        assert_eq!(records, 3.0);
        let bytes_in = moved("kafka_server_brokertopicmetrics_bytesin_total", &of_topic);
        let bytes_out = moved("kafka_server_brokertopicmetrics_bytesout_total", &of_topic);
        assert!(
            bytes_in > 61.0 && bytes_in == bytes_out,
            "{bytes_in} {bytes_out}"
        );
        let all_in = moved("kafka_server_brokertopicmetrics_bytesin_total", &[]);
        assert_eq!(all_in, bytes_in, "no other topic was written to");
        for api in ["Produce", "Fetch", "JoinGroup", "SyncGroup"] {
            let requests = "kafka_network_requestmetrics_requests_total";
            assert!(moved(requests, &[("request", api)]) >= 1.0, "{api}");
            let times = "kafka_network_requestmetrics_totaltimems_sum";
            assert!(moved(times, &[("request", api)]) > 0.0, "{api}");
            let quantile = |q| {
                let labels = [("request", api), ("quantile", q)];
                after.value("kafka_network_requestmetrics_totaltimems", &labels)
            };
            assert!(
                quantile("0.5") > 0.0 && quantile("0.5") <= quantile("0.999"),
                "{api}"
            );
        }
        let error = [
            ("request", "Produce"),
            ("error", "UNKNOWN_TOPIC_OR_PARTITION"),
        ];
        assert_eq!(
            moved("kafka_network_requestmetrics_errors_total", &error),
            1.0
        );
        let failed = "kafka_server_brokertopicmetrics_failedproducerequests_total";
        assert_eq!(moved(failed, &[]), 1.0);
        for counter in [
            "kafka_server_socketservermetrics_responses_total",
            "kafka_server_group_coordinator_metrics_group_completed_rebalance_total",
            "ottla_log_write_bytes_total",
            "ottla_log_flush_total",
            "ottla_log_flush_micros_total",
        ] {
            assert!(moved(counter, &[]) >= 1.0, "{counter}");
        }
        let gauge = |name: &str| after.value(name, &[]);
        let controllers = "kafka_controller_kafkacontroller_activecontrollercount";
        assert_eq!(gauge(controllers), 1.0);
        let offline = "kafka_controller_kafkacontroller_offlinepartitionscount";
        assert_eq!((gauge(offline), after.has(offline)), (0.0, true));
        assert!(gauge("kafka_server_replicamanager_leadercount") >= 3.0);
        let groups = "kafka_coordinator_group_groupmetadatamanager_numgroups";
        assert_eq!(gauge(groups), 2.0);
        assert_eq!(gauge(lag), 2.0, "of three records one is committed");
        assert_eq!(gauge("ottla_clock_skew_ms"), 0.0, "beside itself");
        let in_state = |state: &str| gauge(&format!("{groups}{state}"));
        assert_eq!((in_state("stable"), in_state("empty")), (1.0, 1.0));
        let replicas = "kafka_server_replicamanager_underreplicatedpartitions";
        assert_eq!((gauge(replicas), after.has(replicas)), (0.0, true));
        assert!(gauge("kafka_server_socketservermetrics_connection_count") >= 1.0);
        assert!(gauge("kafka_server_replicamanager_partitioncount") >= 3.0);
        assert!(gauge("kafka_controller_kafkacontroller_globaltopiccount") >= 1.0);
        assert!(gauge("ottla_log_memtable_bytes") > 0.0 && gauge("ottla_tail_cache_bytes") > 0.0);

        let told = after.types.iter().map(|(name, kind)| {
            let labels: Vec<_> = after.labels_of(name).into_iter().collect();
            (name.clone(), (kind.clone(), labels.join(", ")))
        });
        assert_eq!(told.collect::<BTreeMap<_, _>>(), documented());
        assert!(!text.contains(SECRET), "{text}");

        connection.delete_topic("orders").await.unwrap();
        while scrape(metrics).await.1.contains("orders") {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let (last, _) = scrape(metrics).await;
        let all = "kafka_server_brokertopicmetrics_bytesin_total";
        assert_eq!(last.value(all, &[]), after.value(all, &[]));
    })
    .await;
}

/// Not ready, then ready, then, told to stop, not ready while it still answers, then gone.
#[tokio::test]
async fn readiness_follows_the_broker() {
    within(TEST_SECONDS, "readiness", async {
        let (mut broker, metrics) = prepare();
        assert!(!is_ready(metrics).await, "there is no process");
        broker.spawn();
        while !is_ready(metrics).await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let mut client = Connection::open(broker.address).await.unwrap();
        client.api_versions().await.expect("it is ready to serve");
        let slow = do_not_read_answers(&broker).await;

        broker.signal_terminate();
        loop {
            match http::get(metrics, "/health/ready").await {
                Ok(answer) if answer.status == 503 => break,
                answer => assert_eq!(answer.expect("it waits for its client").status, 200),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let live = http::get(metrics, "/health/live").await.expect("it waits");
        assert_eq!(live.status, 200, "stopping is no reason to be killed");
        drop(slow);
        broker.wait_until_ended().await;
        assert!(http::get(metrics, "/health/ready").await.is_err());
    })
    .await;
}

/// A client that is owed more than sockets hold: a broker that stops waits for it.
async fn do_not_read_answers(broker: &Broker) -> Connection {
    let mut connection = Connection::open(broker.address).await.unwrap();
    let topic = Topic {
        name: "large",
        partitions: 1,
        configs: &[],
    };
    connection.create_topic(topic).await.unwrap();
    let large = Record::of(vec![b'x'; 900_000], now_ms());
    let batch = Batch::plain(vec![large]).encode();
    for _ in 0..8 {
        let produced = connection.produce("large", 0, batch.clone()).await.unwrap();
        assert_eq!(produced.error_code, 0);
    }
    let request = fetch_request(&[FetchAsk::of("large", 0, 0)]);
    for _ in 0..32 {
        connection.send(FETCH, &request).await.unwrap();
    }
    connection
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    within(TEST_SECONDS, "paths", async {
        let (_broker, metrics) = start().await;
        for path in [
            "/",
            "/metrics/",
            "/metricsx",
            "/health",
            "/../metrics",
            "/%6detrics",
        ] {
            let answer = http::get(metrics, path).await.unwrap();
            assert_eq!(answer.status, 404, "{path}");
        }
        let answer = http::get(metrics, "/metrics?name[]=x").await.unwrap();
        assert_eq!(answer.status, 200, "scrapers may pass parameters");
        for path in ["/metrics", "/health/live", "/health/ready"] {
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
                let answer = http::request(metrics, method, path).await.unwrap();
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(answer.header("allow"), Some("GET, HEAD"));
            }
            let head = http::request(metrics, "HEAD", path).await.unwrap();
            assert_eq!(head.status, 200, "HEAD {path}");
        }
        let answer = http::request(metrics, "POST", "/nowhere").await.unwrap();
        assert_eq!(answer.status, 404);
    })
    .await;
}

/// Sends bytes, and reads to the end of the connection.
async fn send(metrics: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(metrics).await?;
    // The broker may answer and close before it has read everything.
    let sent = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    match answer.is_empty() {
        true => sent.and(read).map(|_| answer),
        false => Ok(answer),
    }
}

fn is_success(answer: &io::Result<Vec<u8>>) -> bool {
    answer
        .as_ref()
        .is_ok_and(|bytes| bytes.starts_with(b"HTTP/1.1 200"))
}

#[tokio::test]
async fn oversized_and_malformed_requests_are_refused() {
    within(TEST_SECONDS, "oversized", async {
        let (broker, metrics) = start().await;
        broker.reset_peak();
        let before = broker.peak_resident_bytes();
        let long = "x".repeat(8 << 20);
        let many: String = (0..10_000).map(|i| format!("h{i}: v\r\n")).collect();
        for request in [
            format!("GET /{long} HTTP/1.1\r\n\r\n"),
            format!("GET /metrics HTTP/1.1\r\nx: {long}\r\n\r\n"),
            format!("GET /metrics HTTP/1.1\r\n{many}\r\n"),
            long.clone(),
            "GET /metrics HTTP/9.9\r\n\r\n".to_owned(),
            "\0\0\0\u{10}\0\u{12}\0\0".to_owned() + "\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ] {
            let answer = send(metrics, request.as_bytes()).await;
            assert!(
                !is_success(&answer),
                "{}",
                &request[..request.len().min(40)]
            );
        }
        // A body is not waited for.
        let endless = b"POST /metrics HTTP/1.1\r\ncontent-length: 9000000000000\r\n\r\nx";
        let answer = send(metrics, endless).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 405"), "{answer:?}");
        assert!(is_ready(metrics).await);
        let grown = broker.peak_resident_bytes().saturating_sub(before);
        assert!(
            grown < 32 << 20,
            "{grown} bytes for requests that were refused"
        );
    })
    .await;
}

/// Clients that say nothing, half a word, or take no answer keep the others out for a while only.
#[tokio::test]
async fn slow_clients_do_not_stay() {
    within(TEST_SECONDS, "slow clients", async {
        let (_broker, metrics) = start().await;
        let mut slow = Vec::new();
        for i in 0..40 {
            let mut stream = TcpStream::connect(metrics).await.unwrap();
            let said: &[u8] = match i % 3 {
                0 => b"",
                1 => b"GET /metrics HTTP/1.1\r\nx: ",
                _ => b"POST /metrics HTTP/1.1\r\ncontent-length: 100\r\n\r\n",
            };
            stream.write_all(said).await.unwrap();
            slow.push(stream);
        }
        let answer = http::get(metrics, "/health/live").await.unwrap();
        assert_eq!(answer.status, 200);
        for mut stream in slow {
            // Closed by the broker, each of them.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    })
    .await;
}
