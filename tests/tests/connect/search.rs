//! Documents: their ids, versions, indexes and mappings, and what becomes of those that are refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_tests::batch::{Batch, Record};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic};
use ottla_tests::within;
use serde_json::{Value, json};

use crate::opensearch::{OpenSearch, installed};
use crate::sinks::records;
use crate::worker::Worker;

const WAIT: Duration = Duration::from_secs(60);
/// 2026-03-01T12:00:00Z
pub const NOON_MS: i64 = 1_772_366_400_000;

pub async fn topic(broker: SocketAddr, name: &str, records: &[(Option<&str>, Option<&str>, i64)]) {
    let mut connection = Connection::open(broker).await.expect("a connection");
    let topic = Topic {
        name,
        partitions: 1,
        // The records are old.
        configs: &[("retention.ms", "-1")],
    };
    connection.create_topic(topic).await.expect("a topic");
    produce(&mut connection, name, records).await;
}

pub async fn produce(
    connection: &mut Connection,
    topic: &str,
    records: &[(Option<&str>, Option<&str>, i64)],
) {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let records = records.iter().map(|(key, value, time)| Record {
        key: key.map(bytes),
        value: value.map(bytes),
        timestamp_ms: *time,
    });
    let batch = Batch::plain(records.collect()).encode();
    let answer = connection
        .produce(topic, 0, batch)
        .await
        .expect("an answer");
    assert_eq!(answer.error_code, 0);
}

/// An Aiven file with these keys more.
pub fn connector(name: &str, topic: &str, url: &str, more: &str) -> String {
    format!(
        "name={name}\nconnector.class=io.aiven.kafka.connect.opensearch.OpensearchSinkConnector\ntasks.max=1\n\
         topics={topic}\nconnection.url={url}\ntype.name=_doc\nschema.ignore=true\n{more}"
    )
}

const DEAD: &str = "errors.tolerance=all\nerrors.deadletterqueue.topic.name=dead\n\
                    errors.deadletterqueue.topic.replication.factor=1\n\
                    errors.deadletterqueue.context.headers.enable=true\n";

fn start(broker: &Broker, connectors: &[String]) -> Worker {
    let mut worker = Worker::prepare(broker.address, &[], connectors);
    worker.start();
    worker
}

fn sources(documents: &[(String, i64, Value)]) -> Vec<(&str, i64, &Value)> {
    let documents = documents.iter();
    documents
        .map(|(id, version, source)| (id.as_str(), *version, source))
        .collect()
}

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < WAIT, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_a_document_and_an_offset_its_version() {
    installed();
    within(240, "documents by key", async {
        let broker = Broker::start().await;
        let search = OpenSearch::start();
        let values = [
            (Some("a"), Some(r#"{"n":1}"#), NOON_MS),
            (Some("b"), Some(r#"{"n":2}"#), NOON_MS),
            (Some("a"), Some(r#"{"n":3}"#), NOON_MS),
            (Some("c"), Some(r#"{"n":4}"#), NOON_MS),
            (Some("c"), None, NOON_MS),
            (None, Some(r#"{"n":5}"#), NOON_MS),
            (Some("x"), Some("not json"), NOON_MS),
            (Some("d"), Some("17"), NOON_MS),
            (Some("e"), Some(r#"{"n":"no number"}"#), NOON_MS),
            (Some("f"), Some(r#"{"n":6}"#), NOON_MS),
        ];
        topic(broker.address, "Orders", &values).await;
        // So that the server remembers for longer than this test takes what was deleted.
        let settings = r#"{"settings":{"index.gc_deletes":"1h"}}"#;
        assert_eq!(
            search.ask("PUT", "/orders", settings).expect("an answer").0,
            200
        );
        let more = format!("{DEAD}behavior.on.null.values=delete\n");
        let mut worker = start(
            &broker,
            &[connector("first", "Orders", &search.url(), &more)],
        );
        search.wait_for("orders", 3, WAIT).await;
        let dead = records(broker.address, "dead", 4).await;
        let dead: Vec<_> = dead
            .into_iter()
            .map(|r| r.value.expect("a value"))
            .collect();
        // The server's refusal comes after those of the worker itself.
        for value in [r#"{"n":5}"#, "not json", "17", r#"{"n":"no number"}"#] {
            assert!(
                dead.iter().any(|d| d == value),
                "{value} is not in {dead:?}"
            );
        }
        let expected = [
            ("a", 2, json!({"n": 3})),
            ("b", 1, json!({"n": 2})),
            ("f", 9, json!({"n": 6})),
        ];
        let all = search.all("orders");
        let found = sources(&all);
        assert_eq!(
            found,
            expected
                .each_ref()
                .map(|(id, version, source)| (*id, *version, source))
        );
        assert_eq!(worker.stop(), 0, "{}", worker.log());

        // All of it once more, by a connector that has no offsets: nothing changes, nothing fails.
        let again = connector("again", "Orders", &search.url(), &more);
        let mut worker = start(&broker, &[again]);
        records(broker.address, "dead", 8).await;
        assert_eq!(worker.stop(), 0, "{}", worker.log());
        let log = worker.log();
        assert!(
            log.contains("again: 6 documents were there already, 0 were dropped"),
            "{log}"
        );
        assert!(!log.contains("failed"), "{log}");
        assert_eq!(search.all("orders"), all);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mappings_templates_and_indexes_by_time() {
    installed();
    within(240, "mappings", async {
        let broker = Broker::start().await;
        let search = OpenSearch::start();
        let schema = json!({"type": "struct", "fields": [
            {"field": "id", "type": "int64"}, {"field": "name", "type": "string"},
            {"field": "at", "type": "int64", "name": "org.apache.kafka.connect.data.Timestamp", "version": 1},
            {"field": "tags", "type": "map", "keys": {"type": "string"}, "values": {"type": "int32"}}]});
        let payload = json!({"id": 7, "name": "x", "at": NOON_MS, "tags": {"a": 1}});
        let value = json!({"schema": schema, "payload": payload}).to_string();
        let day = 86_400_000;
        let both = [(Some("1"), Some(value.as_str()), NOON_MS), (Some("2"), Some(&value), NOON_MS + day)];
        topic(broker.address, "audit", &both).await;
        // Confluent's keys, of the sink for Elasticsearch.
        let template = r#"{"index_patterns":["audit-*"],"template":{"settings":{"number_of_replicas":0}}}"#;
        let file = format!(
            "name=mapped\nconnector.class=io.confluent.connect.elasticsearch.ElasticsearchSinkConnector\n\
             topics=audit\nconnection.url={}\nkey.ignore=true\ncompact.map.entries=false\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter.schemas.enable=true\n\
             index.name=audit-%{{+YYYY.MM.dd}}\nottla.index.template.name=audit\nottla.index.template={template}\n",
            search.url()
        );
        let mut worker = start(&broker, &[file]);
        search.wait_for("audit-2026.03.01", 1, WAIT).await;
        search.wait_for("audit-2026.03.02", 1, WAIT).await;
        let found = search.all("audit-2026.03.01");
        let document = json!({"id": 7, "name": "x", "at": NOON_MS, "tags": [{"key": "a", "value": 1}]});
        assert_eq!(sources(&found), [("audit+0+0", 0, &document)]);
        let mapping = search.get("/audit-2026.03.02/_mapping");
        let fields = &mapping["audit-2026.03.02"]["mappings"]["properties"];
        assert_eq!(fields["id"], json!({"type": "long"}));
        assert_eq!(fields["at"], json!({"type": "date"}));
        assert_eq!(fields["name"]["fields"]["keyword"]["type"], "keyword");
        assert_eq!(fields["tags"]["properties"]["value"], json!({"type": "integer"}));
        let settings = search.get("/audit-2026.03.01/_settings");
        assert_eq!(settings["audit-2026.03.01"]["settings"]["index"]["number_of_replicas"], "0");
        assert_eq!(worker.stop(), 0, "{}", worker.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_streams_upserts_and_refused_documents() {
    installed();
    within(240, "data streams", async {
        let broker = Broker::start().await;
        let search = OpenSearch::start();
        let events = [
            (Some("k"), Some(r#"{"n":1}"#), NOON_MS),
            (Some("k"), Some(r#"{"n":2,"@timestamp":5}"#), NOON_MS),
        ];
        topic(broker.address, "events", &events).await;
        let changes = [
            (Some("k"), Some(r#"{"a":1,"b":1}"#), NOON_MS),
            (Some("k"), Some(r#"{"b":2}"#), NOON_MS),
            (Some("l"), Some(r#"{"a":3}"#), NOON_MS),
            (Some("l"), None, NOON_MS),
        ];
        topic(broker.address, "changes", &changes).await;
        let refused = [
            (Some("1"), Some(r#"{"n":1}"#), NOON_MS),
            (Some("2"), Some(r#"{"n":"x"}"#), NOON_MS),
            (Some("3"), Some(r#"{"n":3}"#), NOON_MS),
        ];
        topic(broker.address, "dropped", &refused).await;
        topic(broker.address, "failing", &refused).await;
        let url = search.url();
        let stream = "data.stream.enabled=true\ndata.stream.prefix=logs\n";
        let mut worker = start(
            &broker,
            &[
                connector("stream", "events", &url, stream),
                connector(
                    "upsert",
                    "changes",
                    &url,
                    "index.write.method=upsert\nbehavior.on.null.values=delete\n",
                ),
                connector(
                    "drop",
                    "dropped",
                    &url,
                    "behavior.on.malformed.documents=warn\n",
                ),
                connector("fail", "failing", &url, ""),
            ],
        );
        search.wait_for("logs-events", 2, WAIT).await;
        let streams = search.get("/_data_stream/logs-events");
        assert_eq!(
            streams["data_streams"][0]["timestamp_field"]["name"],
            "@timestamp"
        );
        let found = search.all("logs-events");
        let (first, second) = (
            json!({"@timestamp": NOON_MS, "n": 1}),
            json!({"n": 2, "@timestamp": 5}),
        );
        assert_eq!(
            sources(&found),
            [("events+0+0", 1, &first), ("events+0+1", 1, &second)]
        );

        let merged = json!({"a": 1, "b": 2});
        wait_until("both changes and the delete are done", || {
            search.count("changes") == 1 && search.all("changes")[0].2 == merged
        })
        .await;

        search.wait_for("dropped", 2, WAIT).await;
        wait_until("the drop is said", || {
            worker.log().contains("dropped-0 at 1, dropped: ")
        })
        .await;

        let failed = "the document was refused: status 400 mapper_parsing_exception";
        wait_until("the task fails", || worker.log().contains(failed)).await;
        let log = worker.log();
        assert!(
            log.contains("task fail-0 failed: Tolerance exceeded in error handler"),
            "{log}"
        );
        assert_eq!(worker.stop(), 0, "{}", worker.log());
    })
    .await;
}
