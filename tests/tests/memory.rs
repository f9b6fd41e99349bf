//! The process stays within `ottla.memory.bytes`: thousands of partitions written to, consumers that
//! read far behind, a hundred topics under compaction, producers without end, topics that come and go,
//! all at once. The peak counts (VmHWM).
//!
//! `OTTLA_MEMORY_SECONDS` of load (default 30); `make soak` runs an hour.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_tests::batch::{Batch, Codec, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FETCH, FetchAsk, Topic, fetch_request};
use ottla_tests::random::Random;
use ottla_tests::within;
use uuid::Uuid;

const MB: u64 = 1 << 20;
const BUDGET_BYTES: u64 = 512 * MB;
const PARTITIONS: i32 = 5_000;
const COMPACTED_TOPICS: u64 = 100;
const WRITERS: u64 = 4;
const LAGGARDS: u64 = 4;
/// What a new producer is answered where there is no room for it.
const NOT_ENOUGH_REPLICAS: i16 = 19;
/// Partitions that a laggard asks for in one fetch, which is larger than any share of the budget.
const PARTITIONS_PER_FETCH: usize = 100;

struct Load {
    address: std::net::SocketAddr,
    wide_id: Uuid,
    stop: AtomicBool,
    written_bytes: AtomicU64,
    read_bytes: AtomicU64,
    forged: AtomicU64,
    deleted: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.address)
            .await
            .expect("the broker is up")
    }

    async fn write_wide(self: Arc<Self>, mut random: Random) {
        let mut connection = self.connect().await;
        let record = Record::of(random.bytes(16_000), now_ms());
        let batch = Batch::plain(vec![record; 8]).encode();
        while self.goes_on() {
            let partition = random.below(PARTITIONS as u64) as i32;
            let sent = connection
                .produce("wide", partition, batch.clone())
                .await
                .unwrap();
            assert_eq!(sent.error_code, 0);
            self.written_bytes
                .fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }

    async fn write_compacted(self: Arc<Self>, mut random: Random) {
        let mut connection = self.connect().await;
        while self.goes_on() {
            let topic = format!("compacted-{}", random.below(COMPACTED_TOPICS));
            let record = |random: &mut Random| Record {
                key: Some(random.below(100_000).to_be_bytes().to_vec().into()),
                value: Some(random.bytes(200).into()),
                timestamp_ms: now_ms(),
            };
            let records = (0..200).map(|_| record(&mut random)).collect();
            let codec = [Codec::None, Codec::Gzip][random.below(2) as usize];
            let batch = Batch::plain(records).with_codec(codec).encode();
            let sent = connection.produce(&topic, 0, batch).await.unwrap();
            assert_eq!(sent.error_code, 0);
        }
    }

    /// Batches of producers that nobody has heard of, on every partition.
    async fn forge_producers(self: Arc<Self>, mut random: Random) {
        let mut connection = self.connect().await;
        while self.goes_on() {
            let partition = random.below(PARTITIONS as u64) as i32;
            let id = random.below(i64::MAX as u64) as i64;
            let batch = Batch::filled(1, 10).by(id, 0, 0).encode();
            let sent = connection.produce("wide", partition, batch).await.unwrap();
            let full = sent.error_code == NOT_ENOUGH_REPLICAS;
            assert!(sent.error_code == 0 || full, "{}", sent.error_code);
            self.forged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Topics that come and go.
    async fn churn(self: Arc<Self>) {
        let mut connection = self.connect().await;
        while self.goes_on() {
            let topic = Topic {
                name: "passing",
                partitions: 200,
                configs: &[],
            };
            connection.create_topic(topic).await.unwrap();
            let batch = Batch::filled(1, 1000).encode();
            let sent = connection.produce("passing", 7, batch).await.unwrap();
            assert_eq!(sent.error_code, 0);
            connection.delete_topic("passing").await.unwrap();
            self.deleted.fetch_add(200, Ordering::Relaxed);
        }
    }

    /// Reads from the earliest offsets on, and from there again: always far behind.
    async fn lag(self: Arc<Self>, mut random: Random) {
        let mut connection = self.connect().await;
        let mut offsets = vec![0i64; PARTITIONS as usize];
        while self.goes_on() {
            let first = random.below(PARTITIONS as u64 - PARTITIONS_PER_FETCH as u64) as i32;
            let asks: Vec<FetchAsk> = (first..first + PARTITIONS_PER_FETCH as i32)
                .map(|partition| FetchAsk {
                    topic_id: self.wide_id,
                    partition_max_bytes: 8 << 20,
                    max_bytes: 64 << 20,
                    ..FetchAsk::of("wide", partition, offsets[partition as usize])
                })
                .collect();
            let answer = connection.call(FETCH, &fetch_request(&asks)).await.unwrap();
            for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
                let bytes = partition
                    .records
                    .as_ref()
                    .map_or(0, |records| records.len());
                self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                let next = &mut offsets[partition.partition_index as usize];
                *next = match bytes {
                    // At the end, or retention has passed by.
                    0 => partition.log_start_offset.max(0),
                    _ => *next + 8,
                };
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_stays_within_its_budget() {
    let seconds: u64 = match std::env::var("OTTLA_MEMORY_SECONDS") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("OTTLA_MEMORY_SECONDS={text}: not a number")),
        Err(_) => 30,
    };
    within(2 * seconds + 120, "memory test", run(seconds)).await;
}

async fn run(seconds: u64) {
    let seed = Random::seed();
    println!("{seconds} s, OTTLA_SEED={seed}");
    let mut random = Random::new(seed);
    let broker = Broker::start_with(&[
        ("ottla.memory.bytes", &BUDGET_BYTES.to_string()),
        ("log.retention.check.interval.ms", "1000"),
        ("log.initial.task.delay.ms", "0"),
        ("log.cleaner.backoff.ms", "100"),
    ])
    .await;
    let load = prepare(&broker).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        tasks.spawn(load.clone().write_wide(random.fork()));
    }
    for _ in 0..LAGGARDS {
        tasks.spawn(load.clone().lag(random.fork()));
    }
    tasks.spawn(load.clone().write_compacted(random.fork()));
    tasks.spawn(load.clone().forge_producers(random.fork()));
    tasks.spawn(load.clone().churn());

    let began = Instant::now();
    let (mut peak, mut said) = (0, began);
    while began.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peak = broker.peak_resident_bytes();
        assert!(
            peak <= BUDGET_BYTES,
            "{} MB of {} MB",
            peak / MB,
            BUDGET_BYTES / MB
        );
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!("{} s: peak {} MB", began.elapsed().as_secs(), peak / MB);
        }
        if let Some(ended) = tasks.try_join_next() {
            ended.expect("the load goes on");
            panic!("a part of the load ended by itself");
        }
    }
    load.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("the load ends when it is told");
    }
    let (written, read) = (&load.written_bytes, &load.read_bytes);
    println!(
        "{seconds} s: peak {} MB of {} MB; {} MB written, {} MB read",
        peak / MB,
        BUDGET_BYTES / MB,
        written.load(Ordering::Relaxed) / MB,
        read.load(Ordering::Relaxed) / MB
    );
    println!(
        "{} producers forged, {} partitions deleted",
        load.forged.load(Ordering::Relaxed),
        load.deleted.load(Ordering::Relaxed)
    );
    assert!(written.load(Ordering::Relaxed) > 100 * MB && read.load(Ordering::Relaxed) > 100 * MB);
    let log = broker.log();
    let passes = log
        .lines()
        .filter(|line| line.contains("\"message\":\"compacted\""));
    let compacted: BTreeSet<_> = passes
        .filter_map(|line| between(line, "\"topic\":\"", "\""))
        .collect();
    println!("{} topics were compacted", compacted.len());
    assert!(
        2 * compacted.len() as u64 > COMPACTED_TOPICS,
        "{compacted:?}"
    );
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    line.split_once(before)?.1.split(after).next()
}

async fn prepare(broker: &Broker) -> Arc<Load> {
    let mut connection = Connection::open(broker.address).await.unwrap();
    let configs = &[("retention.bytes", "1000000")];
    let wide = Topic {
        name: "wide",
        partitions: PARTITIONS,
        configs,
    };
    let wide_id = connection.create_topic(wide).await.unwrap();
    for n in 0..COMPACTED_TOPICS {
        let name = format!("compacted-{n}");
        let configs = &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "1000"),
            ("min.cleanable.dirty.ratio", "0.3"),
        ];
        let topic = Topic {
            name: &name,
            partitions: 1,
            configs,
        };
        connection.create_topic(topic).await.unwrap();
    }
    Arc::new(Load {
        address: broker.address,
        wide_id,
        stop: AtomicBool::new(false),
        written_bytes: AtomicU64::new(0),
        read_bytes: AtomicU64::new(0),
        forged: AtomicU64::new(0),
        deleted: AtomicU64::new(0),
    })
}
