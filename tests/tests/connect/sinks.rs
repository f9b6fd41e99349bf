//! What goes where: good records, bad records, other formats.

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_tests::batch::{Batch, Record, now_ms, read_all};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FetchAsk, Topic};
use ottla_tests::within;

use crate::seaweed::{ACCESS_KEY, BUCKET, SECRET_KEY, Seaweed};
use crate::worker::Worker;

const TOPIC: &str = "events";
const WAIT: Duration = Duration::from_secs(60);

async fn topic_with(broker: SocketAddr, values: &[Option<&str>]) {
    let mut connection = Connection::open(broker).await.expect("a connection");
    let topic = Topic {
        name: TOPIC,
        partitions: 1,
        configs: &[],
    };
    connection.create_topic(topic).await.expect("a topic");
    let records = values.iter().map(|value| Record {
        key: Some(Bytes::from_static(b"k")),
        value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())),
        timestamp_ms: now_ms(),
    });
    let batch = Batch::plain(records.collect()).encode();
    let answer = connection
        .produce(TOPIC, 0, batch)
        .await
        .expect("an answer");
    assert_eq!(answer.error_code, 0);
}

async fn objects(seaweed: &Seaweed, count: usize) -> Vec<String> {
    let began = Instant::now();
    loop {
        let found = seaweed.list();
        if found.len() >= count {
            return found;
        }
        assert!(began.elapsed() < WAIT, "{found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub async fn records(broker: SocketAddr, topic: &str, count: usize) -> Vec<Record> {
    let mut connection = Connection::open(broker).await.expect("a connection");
    let began = Instant::now();
    loop {
        if let Ok(data) = connection.fetch(FetchAsk::of(topic, 0, 0)).await
            && let Some(bytes) = data.records
        {
            let batches = read_all(bytes).expect("whole batches");
            let records = batches.into_iter().flat_map(|b| b.records);
            let records: Vec<Record> = records.map(|(_, record)| record).collect();
            if records.len() >= count {
                return records;
            }
        }
        assert!(began.elapsed() < WAIT, "not {count} records in {topic}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn connector(seaweed: &Seaweed, more: &str) -> String {
    format!(
        r#"{{"name":"c","config":{{"connector.class":"io.confluent.connect.s3.S3SinkConnector",
        "topics":"{TOPIC}","s3.bucket.name":"{BUCKET}","s3.region":"us-east-1","store.url":"{}",
        "aws.access.key.id":"{ACCESS_KEY}","aws.secret.access.key":"{SECRET_KEY}",
        "format.class":"io.confluent.connect.s3.format.json.JsonFormat","flush.size":"2"{more}}}}}"#,
        seaweed.endpoint()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_become_dead_letters_and_good_ones_objects() {
    within(180, "dead letters", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        let values = [
            Some(r#"{"a":1,"secret":"x"}"#),
            Some("not json"),
            None,
            Some(r#"{"a":2,"secret":"y"}"#),
        ];
        topic_with(broker.address, &values).await;
        let more = r#","errors.tolerance":"all","errors.deadletterqueue.topic.name":"dead",
            "errors.deadletterqueue.topic.replication.factor":"1",
            "errors.deadletterqueue.context.headers.enable":"true",
            "s3.compression.type":"gzip","transforms":"mask",
            "transforms.mask.type":"org.apache.kafka.connect.transforms.MaskField$Value",
            "transforms.mask.fields":"secret""#;
        let mut worker = Worker::prepare(broker.address, &[], &[connector(&seaweed, more)]);
        worker.start();
        let found = objects(&seaweed, 1).await;
        assert_eq!(
            found,
            ["topics/events/partition=0/events+0+0000000000.json.gz"]
        );
        let mut text = String::new();
        let body = seaweed.read(&found[0]);
        flate2::read::GzDecoder::new(&body[..])
            .read_to_string(&mut text)
            .expect("gzip");
        assert_eq!(
            text,
            "{\"a\":1,\"secret\":\"\"}\n{\"a\":2,\"secret\":\"\"}\n"
        );
        let dead = records(broker.address, "dead", 2).await;
        let values: Vec<_> = dead.iter().map(|r| r.value.clone()).collect();
        assert_eq!(values, [Some(Bytes::from_static(b"not json")), None]);
        assert_eq!(worker.stop(), 0, "{}", worker.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aiven_files_and_raw_bytes() {
    within(180, "formats", async {
        let broker = Broker::start().await;
        let seaweed = Seaweed::start();
        topic_with(broker.address, &[Some("one"), Some("two"), Some("three")]).await;
        let endpoint = seaweed.endpoint();
        let aiven = format!(
            "name=aiven\nconnector.class=io.aiven.kafka.connect.s3.AivenKafkaConnectS3SinkConnector\n\
             topics={TOPIC}\naws.s3.bucket.name={BUCKET}\naws.s3.region=us-east-1\naws.s3.endpoint={endpoint}\n\
             aws.access.key.id={ACCESS_KEY}\naws.secret.access.key={SECRET_KEY}\n\
             key.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
             value.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
             aws.s3.prefix=aiven/\nfile.compression.type=none\nformat.output.fields=key,value,offset\n"
        );
        let raw = format!(
            "name=raw\nconnector.class=S3Sink\ntopics={TOPIC}\ns3.bucket.name={BUCKET}\n\
             s3.region=us-east-1\nstore.url={endpoint}\naws.access.key.id={ACCESS_KEY}\n\
             aws.secret.access.key={SECRET_KEY}\nflush.size=3\ntopics.dir=raw\ns3.compression.type=zstd\n\
             format.class=io.confluent.connect.s3.format.bytearray.ByteArrayFormat\n\
             value.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n"
        );
        let mut worker = Worker::prepare(broker.address, &[], &[aiven, raw]);
        worker.start();
        let found = objects(&seaweed, 2).await;
        let names = ["aiven/events-0-0", "raw/events/partition=0/events+0+0000000000.bin.zst"];
        assert_eq!(found, names);
        let csv = seaweed.read(names[0]);
        assert_eq!(csv, b"aw==,b25l,0\naw==,dHdv,1\naw==,dGhyZWU=,2\n");
        let raw = seaweed.read(names[1]);
        assert_eq!(raw[..4], [0x28, 0xb5, 0x2f, 0xfd], "zstd's magic number");
        assert_eq!(worker.stop(), 0, "{}", worker.log());
    })
    .await;
}
