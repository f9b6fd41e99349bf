//! Manifests of the S3 sink: what is whole passes `ottla audit verify`, and every kind of damage is caught and named.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::{Broker, binary};
use ottla_tests::client::{Connection, Topic};
use ottla_tests::within;
use serde_json::Value;

use crate::seaweed::{ACCESS_KEY, BUCKET, SECRET_KEY, Seaweed};
use crate::worker::Worker;

const TOPIC: &str = "ledger";
const PARTITIONS: i32 = 2;
const RECORDS: i64 = 40;
const WAIT: Duration = Duration::from_secs(90);
const KEY: &str = "an audit key of more than 32 bytes, for tests";
const DROP_NULLS: &str = "transforms=drop\npredicates=null\n\
    transforms.drop.type=org.apache.kafka.connect.transforms.Filter\ntransforms.drop.predicate=null\n\
    predicates.null.type=org.apache.kafka.connect.transforms.predicates.RecordIsTombstone\n";

/// What `ottla audit verify` said.
pub struct Verified {
    pub code: i32,
    text: String,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n{}", self.code, self.text)
    }
}

/// A line of its table.
pub struct Row {
    pub offsets: (i64, i64),
    pub written: u64,
    filtered: u64,
    dead_lettered: u64,
    skipped: u64,
    no_record: u64,
    state: String,
}

impl Verified {
    pub fn row(&self, topic: &str, partition: usize) -> Row {
        let start = [topic.to_owned(), partition.to_string()];
        let mut lines = self.text.lines().map(|line| line.split_whitespace());
        let row = lines.find_map(|line| {
            let cells: Vec<String> = line.map(str::to_owned).collect();
            cells.starts_with(&start).then_some(cells)
        });
        let row = row.unwrap_or_else(|| panic!("no row of {topic}-{partition}: {self}"));
        let number = |at: usize| row[at].parse::<i64>().expect("a number");
        let count = |at: usize| row[at].parse::<u64>().expect("a number");
        // The range is of three words.
        Row {
            offsets: (number(2), number(4)),
            written: count(7),
            filtered: count(8),
            dead_lettered: count(9),
            skipped: count(10),
            no_record: count(11),
            state: row[12].clone(),
        }
    }

    fn damages(&self) -> Vec<&str> {
        let lines = self.text.lines();
        lines.filter_map(|l| l.strip_prefix("DAMAGED: ")).collect()
    }
}

pub fn verify(target: &str, seaweed: &Seaweed, more: &[&str]) -> Verified {
    let output = Command::new(binary())
        .args(["audit", "verify", target, "--endpoint", &seaweed.endpoint()])
        .args(more)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .stdin(Stdio::null())
        .output()
        .expect("ottla runs");
    let text = [output.stdout, output.stderr].concat();
    Verified {
        code: output.status.code().expect("an exit code"),
        text: String::from_utf8(text).expect("text"),
    }
}

fn manifest_key(folder: &str, topic: &str, partition: i32, sequence: usize) -> String {
    format!("{folder}/_manifests/{topic}/{partition}/{sequence:020}.json")
}

/// Manifests of a topic-partition, in their order.
fn manifests(seaweed: &Seaweed, folder: &str, topic: &str, partition: i32) -> Vec<Value> {
    let before = format!("{folder}/_manifests/{topic}/{partition}/");
    let before = before.trim_start_matches('/').to_owned();
    let keys = seaweed.list().into_iter();
    let files = keys
        .filter(|k| k.starts_with(&before))
        .map(|k| seaweed.read(&k));
    files
        .map(|file| serde_json::from_slice(&file).expect("JSON"))
        .collect()
}

/// Waits until a manifest accounts for the offset before `end`.
pub async fn wait_for_manifests(
    seaweed: &Seaweed,
    folder: &str,
    topic: &str,
    partition: i32,
    end: i64,
) {
    let began = Instant::now();
    loop {
        let found = manifests(seaweed, folder, topic, partition);
        let last = found.last().map(|m| m["last_offset"].clone());
        if last == Some(Value::from(end - 1)) {
            return;
        }
        assert!(
            began.elapsed() < WAIT,
            "{folder}: {topic}-{partition} ends at {last:?}, not before {end}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn make_topic(broker: &Broker) {
    let mut connection = Connection::open(broker.address)
        .await
        .expect("a connection");
    let topic = Topic {
        name: TOPIC,
        partitions: PARTITIONS,
        configs: &[],
    };
    connection.create_topic(topic).await.expect("a topic");
}

/// One of these ten records is not JSON, and one has no value.
async fn produce_ten(broker: &Broker, first: i64) {
    let mut connection = Connection::open(broker.address)
        .await
        .expect("a connection");
    for partition in 0..PARTITIONS {
        let records = (first..first + 10).map(|n| Record {
            key: Some(Bytes::from_static(b"k")),
            value: match n % 10 {
                3 => Some(Bytes::from_static(b"not json")),
                7 => None,
                _ => Some(format!(r#"{{"n":{n},"country":"c{}"}}"#, n % 3).into()),
            },
            timestamp_ms: now_ms(),
        });
        let batch = Batch::plain(records.collect()).encode();
        let answer = connection.produce(TOPIC, partition, batch).await;
        assert_eq!(answer.expect("an answer").error_code, 0);
    }
}

fn connector(seaweed: &Seaweed, name: &str, folder: &str, more: &str) -> String {
    format!(
        "name={name}\nconnector.class=io.confluent.connect.s3.S3SinkConnector\ntasks.max=1\n\
         topics={TOPIC}\ns3.bucket.name={BUCKET}\ns3.region=us-east-1\nstore.url={}\n\
         aws.access.key.id={ACCESS_KEY}\naws.secret.access.key={SECRET_KEY}\n\
         format.class=io.confluent.connect.s3.format.json.JsonFormat\ntopics.dir={folder}\n\
         flush.size=4\nottla.rotate.idle.ms=300\nerrors.tolerance=all\n\
         partitioner.class=io.confluent.connect.storage.partitioner.FieldPartitioner\n\
         partition.field.name=country\nottla.audit.enable=true\n{more}",
        seaweed.endpoint()
    )
}

/// Of a connector whose bad records are dead letters, and whose nulls are filtered; and of one that skips both, and
/// signs. Ten records at a time, so that each chain has several manifests.
async fn delivered(broker: &Broker, seaweed: &Seaweed) {
    let letters = format!(
        "errors.deadletterqueue.topic.name=dead\n\
         errors.deadletterqueue.topic.replication.factor=1\n{DROP_NULLS}"
    );
    let skips = format!("behavior.on.null.values=ignore\nottla.audit.key={KEY}\n");
    let connectors = [
        connector(seaweed, "letters", "letters", &letters),
        connector(seaweed, "skips", "skips", &skips),
    ];
    let mut worker = Worker::prepare(broker.address, &[], &connectors);
    make_topic(broker).await;
    worker.start();
    for first in (0..RECORDS).step_by(10) {
        produce_ten(broker, first).await;
        for folder in ["letters", "skips"] {
            for partition in 0..PARTITIONS {
                wait_for_manifests(seaweed, folder, TOPIC, partition, first + 10).await;
            }
        }
    }
    assert_eq!(worker.stop(), 0, "{}", worker.log());
}

/// Does damage, looks at what is said, and takes the damage back.
fn damaged(seaweed: &Seaweed, keys: &[String], bytes: Option<&[u8]>, more: &[&str]) -> Verified {
    let before: Vec<Vec<u8>> = keys.iter().map(|key| seaweed.read(key)).collect();
    for key in keys {
        match bytes {
            Some(bytes) => seaweed.overwrite(key, bytes),
            None => seaweed.delete(key),
        }
    }
    let verified = verify(&seaweed.target("letters"), seaweed, more);
    for (key, bytes) in keys.iter().zip(&before) {
        seaweed.overwrite(key, bytes);
    }
    verified
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_every_kind_is_caught_and_named() {
    within(300, "audit", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        delivered(&broker, &seaweed).await;
        let target = seaweed.target("letters");
        let folder = tempfile::tempdir().expect("a folder");
        let heads = folder.path().join("heads").display().to_string();
        let whole = verify(&target, &seaweed, &["--write-heads", &heads]);
        assert_eq!(whole.code, 0, "{whole}");
        for partition in 0..PARTITIONS as usize {
            let row = whole.row(TOPIC, partition);
            assert_eq!(row.offsets, (0, RECORDS - 1), "{whole}");
            let counts = [
                row.written,
                row.filtered,
                row.dead_lettered,
                row.skipped,
                row.no_record,
            ];
            assert_eq!(
                (counts, row.state.as_str()),
                ([32, 4, 4, 0, 0], "whole"),
                "{whole}"
            );
        }
        let with_heads = ["--heads", heads.as_str()];
        assert_eq!(verify(&target, &seaweed, &with_heads).code, 0);

        let chain = manifests(&seaweed, "letters", TOPIC, 0);
        assert!(chain.len() >= 3, "{chain:?}");
        let (last, middle) = (chain.len() - 1, chain.len() / 2);
        let key_of = |n| manifest_key("letters", TOPIC, 0, n);
        let name_of = |n| key_of(n).replacen("letters/", "", 1);
        let object = chain[middle]["objects"][0]["key"]
            .as_str()
            .expect("a name")
            .to_owned();
        let object_key = format!("letters/{object}");

        let missing = damaged(&seaweed, std::slice::from_ref(&object_key), None, &[]);
        let at = |n: usize, what: &str| format!("{TOPIC}-0: {}: {what}", name_of(n));
        assert_eq!(missing.code, 1, "{missing}");
        let named = at(middle, &format!("object {object} is missing"));
        assert_eq!(missing.damages(), [named], "{missing}");
        assert_eq!(missing.row(TOPIC, 0).state, "BROKEN");
        assert_eq!(missing.row(TOPIC, 1).state, "whole");

        let mut bytes = seaweed.read(&object_key);
        let at_byte = bytes.len() / 2;
        bytes[at_byte] ^= 1;
        let changed = damaged(&seaweed, &[object_key], Some(&bytes), &[]);
        assert_eq!(changed.code, 1, "{changed}");
        let named = at(middle, &format!("object {object} has been changed"));
        assert!(changed.damages()[0].starts_with(&named), "{changed}");

        let removed = damaged(&seaweed, &[key_of(middle)], None, &[]);
        assert_eq!(removed.code, 1, "{removed}");
        let after = middle + 1;
        let named = at(
            after,
            &format!("manifest {middle} is missing: this is {after}"),
        );
        assert_eq!(removed.damages()[0], named, "{removed}");

        // The last one's absence shows in its objects, or in the hash that was kept.
        let cut = damaged(&seaweed, &[key_of(last)], None, &[]);
        assert_eq!(cut.code, 1, "{cut}");
        assert!(cut.damages()[0].ends_with("no manifest names it"), "{cut}");
        let mut tail = vec![key_of(last)];
        for object in chain[last]["objects"].as_array().expect("objects") {
            tail.push(format!(
                "letters/{}",
                object["key"].as_str().expect("a name")
            ));
        }
        let cut = damaged(&seaweed, &tail, None, &with_heads);
        assert_eq!(cut.code, 1, "{cut}");
        assert!(
            cut.damages()[0].starts_with(&at(last, "it is missing, and its SHA-256 was kept")),
            "{cut}"
        );

        let forged = |n: usize, old: String, new: String| {
            let file = String::from_utf8(seaweed.read(&key_of(n))).expect("text");
            assert!(file.contains(&old), "{old}: {file}");
            let file = file.replacen(&old, &new, 1);
            damaged(&seaweed, &[key_of(n)], Some(file.as_bytes()), &[])
        };
        let first = chain[last]["first_offset"].as_i64().expect("an offset");
        let range = |first: i64| format!(r#""first_offset":{first},"#);
        let twice = forged(last, range(first), range(first - 1));
        assert_eq!(twice.code, 1, "{twice}");
        let offset = first - 1;
        let named = at(
            last,
            &format!("offsets {offset} to {offset} are accounted for twice"),
        );
        assert_eq!(twice.damages()[0], named, "{twice}");
        let gap = forged(last, range(first), range(first + 1));
        assert_eq!(gap.code, 1, "{gap}");
        let named = at(last, &format!("offsets {first} to {first} are missing"));
        assert_eq!(gap.damages()[0], named, "{gap}");
        let other = forged(
            middle,
            r#""connector":"letters""#.into(),
            r#""connector":"letterS""#.into(),
        );
        assert_eq!(other.code, 1, "{other}");

        seaweed.overwrite("letters/ledger/more.json", b"{}");
        let more = verify(&target, &seaweed, &[]);
        seaweed.delete("letters/ledger/more.json");
        let named = "object ledger/more.json is in the store, and no manifest names it";
        assert_eq!((more.code, more.damages()), (1, vec![named]), "{more}");
        assert_eq!(
            verify(&target, &seaweed, &with_heads).code,
            0,
            "all damage was taken back"
        );

        let above = verify(&seaweed.target(""), &seaweed, &[]);
        assert_eq!(above.code, 2, "{above}");
        assert!(above.text.contains("letters in it has"), "{above}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_checked_where_they_are_and_signatures_with_their_key() {
    within(300, "audit", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        delivered(&broker, &seaweed).await;
        let folder = tempfile::tempdir().expect("a folder");
        for key in seaweed.list() {
            let path = folder.path().join(&key);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, seaweed.read(&key)).expect("a file");
        }
        let keys = ["right", "wrong"].map(|name| folder.path().join(name));
        std::fs::write(&keys[0], format!("{KEY}\n")).expect("a file");
        std::fs::write(&keys[1], KEY.replace("an", "no")).expect("a file");
        let [right, wrong] = keys.map(|key| format!("1={}", key.display()));
        let copy = folder.path().join("skips").display().to_string();
        let whole = verify(&copy, &seaweed, &["--key", &right]);
        assert_eq!(whole.code, 0, "{whole}");
        for partition in 0..PARTITIONS as usize {
            let row = whole.row(TOPIC, partition);
            let counts = [
                row.written,
                row.filtered,
                row.dead_lettered,
                row.skipped,
                row.no_record,
            ];
            assert_eq!(
                (row.offsets, counts),
                ((0, RECORDS - 1), [32, 0, 0, 8, 0]),
                "{whole}"
            );
        }
        let other = verify(&copy, &seaweed, &["--key", &wrong]);
        assert_eq!(other.code, 1, "{other}");
        assert!(
            other.damages()[0].contains("its signature is wrong"),
            "{other}"
        );
        let unsigned = folder.path().join("letters").display().to_string();
        let unsigned = verify(&unsigned, &seaweed, &["--key", &right]);
        assert!(
            unsigned.damages()[0].ends_with("it is not signed"),
            "{unsigned}"
        );

        // Whoever may write can make the last manifest say something else that adds up; but not sign it.
        let chain = manifests(&seaweed, "skips", TOPIC, 0);
        let last = manifest_key("skips", TOPIC, 0, chain.len() - 1);
        let path = folder.path().join(last);
        let file = std::fs::read_to_string(&path).expect("a manifest");
        let forged = file.replacen(r#""connector":"skips""#, r#""connector":"skipz""#, 1);
        assert_ne!(forged, file);
        std::fs::write(&path, forged).expect("a file");
        let found = verify(&copy, &seaweed, &["--key", &right]);
        assert_eq!(found.code, 1, "{found}");
    })
    .await;
}

/// Its objects are in the bucket itself, and so are its manifests.
#[tokio::test(flavor = "multi_thread")]
async fn aivens_sink_is_audited_too() {
    within(300, "audit", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        make_topic(&broker).await;
        let connector = format!(
            "name=aiven\nconnector.class=io.aiven.kafka.connect.s3.AivenKafkaConnectS3SinkConnector\n\
             topics={TOPIC}\naws.s3.bucket.name={BUCKET}\naws.s3.region=us-east-1\naws.s3.endpoint={}\n\
             aws.access.key.id={ACCESS_KEY}\naws.secret.access.key={SECRET_KEY}\n\
             value.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
             {DROP_NULLS}ottla.audit.enable=true\n",
            seaweed.endpoint()
        );
        let mut worker = Worker::prepare(broker.address, &[], &[connector]);
        worker.start();
        produce_ten(&broker, 0).await;
        for partition in 0..PARTITIONS {
            wait_for_manifests(&seaweed, "", TOPIC, partition, 10).await;
        }
        assert_eq!(worker.stop(), 0, "{}", worker.log());
        let verified = verify(&seaweed.target(""), &seaweed, &[]);
        assert_eq!(verified.code, 0, "{verified}");
        let row = verified.row(TOPIC, 1);
        assert_eq!((row.offsets, row.written, row.filtered), ((0, 9), 9, 1), "{verified}");
    })
    .await;
}

/// Compaction would take records away between plan and object.
#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_refused() {
    within(120, "audit", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        let mut connection = Connection::open(broker.address)
            .await
            .expect("a connection");
        let topic = Topic {
            name: TOPIC,
            partitions: 1,
            configs: &[("cleanup.policy", "compact,delete")],
        };
        connection.create_topic(topic).await.expect("a topic");
        let refused = connector(&seaweed, "refused", "refused", "");
        let mut worker = Worker::prepare(broker.address, &[], &[refused]);
        worker.start();
        let began = Instant::now();
        while !worker.log().contains("has cleanup.policy=compact,delete") {
            assert!(began.elapsed() < WAIT, "{}", worker.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(worker.stop(), 0, "{}", worker.log());
    })
    .await;
}

/// Where a chain is already, another one does not begin: the task says so, and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_in_the_way_stops_the_task_with_a_message() {
    within(300, "audit", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        delivered(&broker, &seaweed).await;
        let before = seaweed.list();
        // As after a reset of offsets: it begins again, and closes its objects elsewhere.
        let again = connector(&seaweed, "again", "letters", "flush.size=9\n");
        let mut worker = Worker::prepare(broker.address, &[], &[again]);
        worker.start();
        let began = Instant::now();
        while !worker.log().contains("Nothing was written") {
            assert!(began.elapsed() < WAIT, "{}", worker.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = worker.log();
        assert!(log.contains("is there already, of offsets 0 to "), "{log}");
        assert_eq!(worker.stop(), 0, "{}", worker.log());
        assert_eq!(seaweed.list(), before);
        let verified = verify(&seaweed.target("letters"), &seaweed, &[]);
        assert_eq!(verified.code, 0, "{verified}");
    })
    .await;
}
