//! The life of topics, against a model: random produce (plain, idempotent with retries, with and without
//! keys), DeleteRecords, retention, compaction, deletion of topics, restarts, kill -9 and loss of power; what a
//! complete read shows must agree with the model at every step, and a batch that a producer sends once more gets
//! the offset that it got.
//!
//! `OTTLA_LIFE_STEPS` steps (default 300) drawn from `OTTLA_SEED`. `make soak` runs many.

mod model;
mod uncovered;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{DeleteRecordsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::batch::{Batch, Codec, Record, now_ms, read_all};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FetchAsk, Topic, code};
use ottla_tests::disk::{Disk, POWER_LOST};
use ottla_tests::random::Random;
use ottla_tests::within;
use uuid::Uuid;

use model::{Model, Policy};

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Steps take milliseconds; a restart less than a second.
const SECONDS_PER_STEP: u64 = 5;
/// What deletion and compaction may take for what is left at the end; they look for it all the time.
const LET_GO_WAIT: Duration = Duration::from_secs(120);
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
            ("delete.retention.ms", "1000"),
        ],
    ),
    (
        "both",
        Policy::BOTH,
        &[
            ("cleanup.policy", "compact,delete"),
            ("min.cleanable.dirty.ratio", "0"),
            ("segment.ms", "1"),
            ("delete.retention.ms", "1000"),
            ("retention.ms", "3600000"),
        ],
    ),
    (
        "both-by-size",
        Policy::BOTH_BY_SIZE,
        &[
            ("cleanup.policy", "compact,delete"),
            ("min.cleanable.dirty.ratio", "0"),
            ("segment.ms", "1"),
            ("delete.retention.ms", "1000"),
            ("retention.ms", "-1"),
            ("retention.bytes", "300000"),
        ],
    ),
    (
        "append-time",
        Policy::APPEND_TIME,
        &[
            ("message.timestamp.type", "LogAppendTime"),
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

/// An idempotent producer of one topic.
struct Producer {
    id: i64,
    epoch: i16,
    next_sequence: i32,
    /// Its newest batches with their base offsets, as many as a broker must know again.
    sent: VecDeque<(Batch, i64)>,
}

/// Batches of each producer that a broker knows again (KIP-98).
const KNOWN_BATCHES: usize = 5;

struct World {
    broker: Broker,
    disk: Disk,
    connection: Connection,
    topics: Vec<(Uuid, Model)>,
    /// By topic.
    producers: Vec<Option<Producer>>,
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
        let mut broker = Broker::prepare(EAGER);
        let disk = Disk::new(&broker.data());
        for (key, value) in disk.environment() {
            broker.set_environment(key, &value);
        }
        disk.can_lose_power();
        broker.restart().await;
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
            disk,
            connection,
            producers: topics.iter().map(|_| None).collect(),
            topics,
            random,
        }
    }

    async fn step(&mut self) {
        let topic = self.random.below(TOPICS.len() as u64) as usize;
        match self.random.below(40) {
            0 | 1 => self.restart().await,
            2..=5 => self.delete_records(topic).await,
            6 | 7 => self.send_again(topic).await,
            8..=11 => self.check(topic).await,
            12 => self.make_anew(topic).await,
            13 if TOPICS[topic].1.is_compacted() => self.produce_without_key(topic).await,
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
        let mut records: Vec<Record> = (0..1 + random.below(4)).map(|_| record(random)).collect();
        if !TOPICS[topic].1.is_compacted() && random.one_in(3) {
            records[0].key = None;
        }
        let codec = [Codec::None, Codec::Gzip, Codec::Lz4][random.below(3) as usize];
        let idempotent = random.one_in(3);
        let mut batch = Batch::plain(records.clone()).with_codec(codec);
        if idempotent {
            batch = self.by_producer(topic, batch).await;
        }
        let began = Instant::now();
        let sent = self.send(topic, &batch).await;
        let bytes = batch.encode().len();
        self.topics[topic].1.appended(sent, records, bytes, began);
        if idempotent && let Some(producer) = &mut self.producers[topic] {
            producer.sent.push_back((batch, sent));
            if producer.sent.len() > KNOWN_BATCHES {
                producer.sent.pop_front();
            }
        }
    }

    /// A retry, however long after, and whatever has become of the records since.
    async fn send_again(&mut self, topic: usize) {
        let Some(producer) = &self.producers[topic] else {
            return;
        };
        let which = self.random.below(producer.sent.len() as u64) as usize;
        let (batch, sent) = producer.sent[which].clone();
        assert_eq!(self.send(topic, &batch).await, sent, "a retry");
    }

    /// The base offset.
    async fn send(&mut self, topic: usize, batch: &Batch) -> i64 {
        let sent = self.connection.produce(TOPICS[topic].0, 0, batch.encode());
        let sent = sent.await.unwrap();
        assert_eq!(sent.error_code, 0, "{sent:?}");
        sent.base_offset
    }

    async fn by_producer(&mut self, topic: usize, batch: Batch) -> Batch {
        if self.producers[topic].is_none() {
            let (id, epoch) = self.connection.init_producer_id().await.unwrap();
            self.producers[topic] = Some(Producer {
                id,
                epoch,
                next_sequence: 0,
                sent: VecDeque::new(),
            });
        }
        let producer = self.producers[topic].as_mut().expect("just made");
        let sequence = producer.next_sequence;
        producer.next_sequence += batch.records.len() as i32;
        batch.by(producer.id, producer.epoch, sequence)
    }

    async fn produce_without_key(&mut self, topic: usize) {
        let record = Record {
            key: None,
            ..Record::of("no key", now_ms())
        };
        let batch = Batch::plain(vec![record]).encode();
        let sent = self.connection.produce(TOPICS[topic].0, 0, batch).await;
        assert_eq!(sent.unwrap().error_code, code::INVALID_RECORD);
    }

    /// Deletes a topic and makes one of its name, which knows nothing of it.
    async fn make_anew(&mut self, topic: usize) {
        let (name, policy, configs) = TOPICS[topic];
        self.connection.delete_topic(name).await.unwrap();
        let wanted = Topic {
            name,
            partitions: 1,
            configs,
        };
        let id = self.connection.create_topic(wanted).await.unwrap();
        self.topics[topic] = (id, Model::new(policy));
        self.producers[topic] = None;
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
        match self.random.below(3) {
            0 => self.broker.kill9(),
            1 => self.broker.terminate().await,
            _ => {
                self.disk.lose_power(self.random.below(100_000) as u32);
                let status = self.broker.ended().await;
                assert_eq!(
                    status.code(),
                    Some(POWER_LOST),
                    "{}",
                    self.broker.log_tail()
                );
                self.disk.power_is_back();
            }
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
        let began = Instant::now();
        let read = self.read(topic, start, end).await;
        let took = (began, Instant::now());
        // What is read may be newer than `start`, which retention moves on while this reads.
        let (start, _) = self.edges(topic).await;
        self.topics[topic].1.check_read(start, &read, took);
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
            let record = Record::of("last", now_ms());
            let last = Batch::plain(vec![record.clone()]);
            let (began, sent) = (Instant::now(), self.send(topic, &last).await);
            let bytes = last.encode().len();
            self.topics[topic]
                .1
                .appended(sent, vec![record], bytes, began);
            loop {
                let (start, end) = self.edges(topic).await;
                let read = self.read(topic, start, end).await;
                let left = policy.left(&self.topics[topic].1, start, &read);
                if left.is_empty() {
                    break;
                }
                assert!(
                    began.elapsed() < LET_GO_WAIT,
                    "{name} keeps in {start}..{end} what should be gone: {left:?}\n{}",
                    self.broker.log_tail()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.check(topic).await;
        }
    }
}
