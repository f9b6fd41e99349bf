//! The life of topics, against a model: random produce, DeleteRecords, retention, compaction, kill -9 and
//! restart; what a complete read shows must agree with the model at every step.
//!
//! `OTTLA_LIFE_STEPS` steps (default 300) drawn from `OTTLA_SEED`. `make soak` runs many.

mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{DeleteRecordsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::batch::{Batch, Codec, Record, now_ms, read_all};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FetchAsk, Topic};
use ottla_tests::random::Random;
use ottla_tests::within;
use uuid::Uuid;

use model::{Model, Policy};

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Steps take milliseconds; a restart less than a second.
const SECONDS_PER_STEP: u64 = 5;
const KEYS: u64 = 12;
/// Old enough for `retention.ms` of [`TOPICS`], which no test lives long enough to reach by waiting.
const OLD_MS: i64 = 7_200_000;

type Configs = &'static [(&'static str, &'static str)];

/// Topics whose policies differ in all that matters.
const TOPICS: &[(&str, Policy, Configs)] = &[
    ("kept", Policy::KEEP, &[("retention.ms", "-1")]),
    (
        "by-size",
        Policy::SIZE,
        &[("retention.bytes", "300000"), ("retention.ms", "-1")],
    ),
    ("by-age", Policy::AGE, &[("retention.ms", "3600000")]),
    (
        "compacted",
        Policy::COMPACT,
        &[
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0"),
            ("segment.ms", "1"),
            ("delete.retention.ms", "50"),
        ],
    ),
    (
        "both",
        Policy::BOTH,
        &[
            ("cleanup.policy", "compact,delete"),
            ("min.cleanable.dirty.ratio", "0"),
            ("segment.ms", "1"),
            ("delete.retention.ms", "50"),
            ("retention.ms", "3600000"),
        ],
    ),
];

/// A broker that looks for something to delete or to compact all the time.
const EAGER: &[(&str, &str)] = &[
    ("log.retention.check.interval.ms", "10"),
    ("log.initial.task.delay.ms", "0"),
    ("log.cleaner.backoff.ms", "10"),
];

struct World {
    broker: Broker,
    connection: Connection,
    topics: Vec<(Uuid, Model)>,
    random: Random,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_agrees_with_the_model() {
    let steps: u64 = match std::env::var("OTTLA_LIFE_STEPS") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("OTTLA_LIFE_STEPS={text}: not a number")),
        Err(_) => 300,
    };
    let seed = Random::seed();
    println!("{steps} steps, OTTLA_SEED={seed}");
    within(60 + steps * SECONDS_PER_STEP, "life test", async {
        let mut world = World::new(Random::new(seed)).await;
        for _ in 0..steps {
            world.step().await;
        }
        world.let_go().await;
    })
    .await;
}

impl World {
    async fn new(random: Random) -> World {
        let broker = Broker::start_with(EAGER).await;
        let mut connection = Connection::open(broker.address).await.unwrap();
        let mut topics = Vec::new();
        for (name, policy, configs) in TOPICS {
            let topic = Topic {
                name,
                partitions: 1,
                configs,
            };
            let id = connection.create_topic(topic).await.unwrap();
            topics.push((id, Model::new(*policy)));
        }
        World {
            broker,
            connection,
            topics,
            random,
        }
    }

    async fn step(&mut self) {
        let topic = self.random.below(TOPICS.len() as u64) as usize;
        match self.random.below(20) {
            0 => self.restart().await,
            1 | 2 => self.delete_records(topic).await,
            3..=5 => self.check(topic).await,
            _ => self.produce(topic).await,
        }
    }

    async fn produce(&mut self, topic: usize) {
        let random = &mut self.random;
        let age_ms = if random.one_in(3) { OLD_MS } else { 0 };
        let size = if random.one_in(4) { 60_000 } else { 50 };
        let record = |random: &mut Random| Record {
            key: Some(random.below(KEYS).to_be_bytes().to_vec().into()),
            value: (!random.one_in(5)).then(|| random.bytes(size).into()),
            timestamp_ms: now_ms() - age_ms,
        };
        let records: Vec<Record> = (0..1 + random.below(4)).map(|_| record(random)).collect();
        let codec = [Codec::None, Codec::Gzip, Codec::Lz4][random.below(3) as usize];
        let batch = Batch::plain(records.clone()).with_codec(codec).encode();
        let bytes = batch.len();
        let sent = self
            .connection
            .produce(TOPICS[topic].0, 0, batch)
            .await
            .unwrap();
        assert_eq!(sent.error_code, 0, "{sent:?}");
        self.topics[topic]
            .1
            .appended(sent.base_offset, records, bytes);
    }

    async fn delete_records(&mut self, topic: usize) {
        let (start, end) = self.edges(topic).await;
        let offset = start + self.random.below((end - start) as u64 / 4 + 1) as i64;
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(0)
            .with_offset(offset);
        let name = TopicName(StrBytes::from_static_str(TOPICS[topic].0));
        let topics = vec![
            DeleteRecordsTopic::default()
                .with_name(name)
                .with_partitions(vec![partition]),
        ];
        let request = DeleteRecordsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(10_000);
        let answer = self.connection.call(2, &request).await.unwrap();
        let code = answer.topics[0].partitions[0].error_code;
        if !TOPICS[topic].1.allows_delete_records() {
            // POLICY_VIOLATION
            assert_eq!(code, 44);
            return;
        }
        // Retention may have gone further meanwhile, and then there is nothing left to do.
        assert_eq!(code, 0);
        assert!(answer.topics[0].partitions[0].low_watermark >= offset);
        self.topics[topic].1.deleted_before(offset);
    }

    async fn restart(&mut self) {
        match self.random.one_in(2) {
            true => self.broker.kill9(),
            false => self.broker.terminate().await,
        }
        self.broker.restart().await;
        self.connection = Connection::open(self.broker.address).await.unwrap();
    }

    async fn edges(&mut self, topic: usize) -> (i64, i64) {
        let mut edge = async |timestamp| {
            let found = self
                .connection
                .list_offset(TOPICS[topic].0, 0, timestamp)
                .await
                .unwrap();
            assert_eq!(found.error_code, 0);
            found.offset
        };
        (edge(EARLIEST).await, edge(LATEST).await)
    }

    async fn check(&mut self, topic: usize) {
        let (start, end) = self.edges(topic).await;
        self.topics[topic].1.check_edges(start, end);
        let read = self.read(topic, start, end).await;
        // What is read may be newer than `start`, which retention moves on while this reads.
        let (start, _) = self.edges(topic).await;
        self.topics[topic].1.check_read(start, &read);
    }

    /// Everything from `start` to `end`, by offset.
    async fn read(&mut self, topic: usize, start: i64, end: i64) -> BTreeMap<i64, Record> {
        let mut read = BTreeMap::new();
        let mut next = start;
        while next < end {
            let ask = FetchAsk {
                topic_id: self.topics[topic].0,
                ..FetchAsk::of(TOPICS[topic].0, 0, next)
            };
            let answer = self.connection.fetch(ask).await.unwrap();
            if answer.error_code == ottla_tests::client::code::OFFSET_OUT_OF_RANGE {
                next = self.edges(topic).await.0.max(next);
                continue;
            }
            assert_eq!(answer.error_code, 0);
            let batches = read_all(answer.records.unwrap_or_default()).unwrap();
            assert!(
                !batches.is_empty(),
                "{}: nothing at {next}, before the end {end}",
                TOPICS[topic].0
            );
            for batch in batches {
                assert!(
                    batch.last_offset >= next,
                    "a batch that ends before what was asked for"
                );
                next = batch.last_offset + 1;
                for (offset, record) in batch.records {
                    assert!(
                        read.insert(offset, record).is_none(),
                        "offset {offset} twice"
                    );
                }
            }
        }
        read
    }

    /// Waits until the broker has deleted and compacted all that it should.
    async fn let_go(&mut self) {
        for (topic, (name, policy, _)) in TOPICS.iter().enumerate() {
            // Young records, so that what is old can be compacted and none of it is the last batch.
            let last = Batch::plain(vec![Record::of("last", now_ms())]).encode();
            let (bytes, record) = (last.len(), Record::of("last", now_ms()));
            let sent = self.connection.produce(name, 0, last).await.unwrap();
            self.topics[topic]
                .1
                .appended(sent.base_offset, vec![record], bytes);
            loop {
                let (start, end) = self.edges(topic).await;
                let read = self.read(topic, start, end).await;
                if policy.is_done(&self.topics[topic].1, start, &read) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.check(topic).await;
        }
    }
}
