//! Compaction goes on all the time while clients write, read and commit, and while the broker is killed:
//! the last acknowledged record of every key is always there, at its offset, and every reader gets to
//! the end with all of them.
//!
//! `OTTLA_COMPACTION_KILLS` kills (default 12) at moments drawn from `OTTLA_SEED`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ottla_tests::batch::{Batch, Record, now_ms, read_all};
use ottla_tests::broker::Broker;
use ottla_tests::client::{ClientError, Connection, FetchAsk, Topic};
use ottla_tests::random::Random;
use ottla_tests::within;
use tokio::sync::watch;

const TOPIC: &str = "compacted";
const GROUPS: u64 = 8;
const KEYS: u64 = 40;
const SETTINGS: &[(&str, &str)] = &[
    ("log.cleaner.backoff.ms", "1"),
    ("log.roll.ms", "1"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
    ("offsets.topic.num.partitions", "2"),
];
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// A kill with a restart and the load in between takes a second or so.
const SECONDS_PER_KILL: u64 = 30;

/// What the clients know.
#[derive(Default)]
struct Known {
    /// The counter of the last acknowledged record of each key.
    acknowledged: HashMap<u64, u64>,
    /// Key and counter at each acknowledged offset.
    at: HashMap<i64, (u64, u64)>,
    committed: HashMap<u64, i64>,
    /// The highest counter and commit that was ever sent.
    sent: u64,
    commits_sent: i64,
}

type Shared = Arc<Mutex<Known>>;

struct Clients {
    address: SocketAddr,
    topic_id: uuid::Uuid,
    known: Shared,
    done: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
}

fn value(random: &mut Random, counter: u64) -> Vec<u8> {
    let mut value = counter.to_be_bytes().to_vec();
    let padding = match random.one_in(10) {
        true => random.below(100_000),
        false => random.below(500),
    };
    value.resize(8 + padding as usize, b'.');
    value
}

/// Key and counter of a record.
fn decode(record: &Record) -> (u64, u64) {
    let number = |bytes: &Option<Bytes>| {
        let bytes = bytes.as_ref().expect("keys and values are never null");
        u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))
    };
    (number(&record.key), number(&record.value))
}

/// Calls until the broker is there, or the test is over.
async fn connect(address: SocketAddr, stop: &watch::Receiver<bool>) -> Option<Connection> {
    while !*stop.borrow() {
        if let Ok(connection) = Connection::open(address).await {
            return Some(connection);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    None
}

async fn write(clients: Arc<Clients>, mut random: Random) {
    let mut counter = 0;
    while let Some(mut connection) = connect(clients.address, &clients.stop).await {
        while !*clients.stop.borrow() {
            let count = 1 + random.below(8);
            let list: Vec<(u64, u64)> = (1..=count)
                .map(|i| (random.below(KEYS), counter + i))
                .collect();
            counter += count;
            let record = |(key, counter): &(u64, u64)| Record {
                key: Some(Bytes::copy_from_slice(&key.to_be_bytes())),
                value: Some(value(&mut random, *counter).into()),
                timestamp_ms: now_ms(),
            };
            let batch = Batch::plain(list.iter().map(record).collect()).encode();
            clients.known.lock().unwrap().sent = counter;
            let Ok(answer) = connection.produce(TOPIC, 0, batch).await else {
                break;
            };
            if answer.error_code != 0 {
                break;
            }
            let mut known = clients.known.lock().unwrap();
            for (offset, (key, counter)) in (answer.base_offset..).zip(list) {
                known.acknowledged.insert(key, counter);
                known.at.insert(offset, (key, counter));
            }
            drop(known);
            clients.done.send_modify(|done| *done += 1);
        }
    }
}

async fn commit(clients: Arc<Clients>, mut random: Random) {
    let mut offset = 0;
    while let Some(mut connection) = connect(clients.address, &clients.stop).await {
        while !*clients.stop.borrow() {
            let group = random.below(GROUPS);
            offset += 1;
            clients.known.lock().unwrap().commits_sent = offset;
            let name = format!("group-{group}");
            match connection.commit(&name, TOPIC, 0, offset).await {
                Ok(()) => {
                    let mut known = clients.known.lock().unwrap();
                    known.committed.insert(group, offset);
                }
                // The coordinator may be loading its groups.
                Err(ClientError::Kafka { .. }) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(_) => break,
            }
        }
    }
}

/// Everything from the log start offset to what was the end; the number of records.
async fn read_once(clients: &Clients, connection: &mut Connection) -> Result<usize, ClientError> {
    let before = clients.known.lock().unwrap().acknowledged.clone();
    let end = connection.list_offset(TOPIC, 0, -1).await?.offset;
    let mut last: HashMap<u64, u64> = HashMap::new();
    let (mut offset, mut records) = (0, 0);
    while offset < end {
        let ask = FetchAsk {
            topic_id: clients.topic_id,
            ..FetchAsk::of(TOPIC, 0, offset)
        };
        let answer = connection.fetch(ask).await?;
        assert_eq!(answer.error_code, 0, "at {offset}");
        let batches = read_all(answer.records.unwrap_or_default()).expect("batches are whole");
        assert!(!batches.is_empty(), "nothing at {offset}, the end is {end}");
        for batch in batches {
            assert!(
                batch.last_offset >= offset,
                "{} at {offset}",
                batch.last_offset
            );
            for (at, record) in &batch.records {
                assert!(*at >= batch.base_offset && *at <= batch.last_offset);
                let (key, counter) = decode(record);
                let known = clients.known.lock().unwrap().at.get(at).copied();
                assert!(
                    known.is_none_or(|known| known == (key, counter)),
                    "offset {at}"
                );
                let earlier = last.insert(key, counter);
                assert!(earlier < Some(counter), "key {key} goes back to {counter}");
                records += 1;
            }
            offset = batch.last_offset + 1;
        }
    }
    for (key, counter) in before {
        let found = last.get(&key);
        assert!(
            found >= Some(&counter),
            "key {key}: {found:?}, acknowledged {counter}"
        );
    }
    Ok(records)
}

async fn read(clients: Arc<Clients>) -> u64 {
    let mut reads = 0;
    while let Some(mut connection) = connect(clients.address, &clients.stop).await {
        while !*clients.stop.borrow() {
            match read_once(&clients, &mut connection).await {
                Ok(_) => reads += 1,
                Err(_) => break,
            }
        }
    }
    reads
}

async fn check_commits(clients: &Clients, connection: &mut Connection) {
    let (committed, most) = {
        let known = clients.known.lock().unwrap();
        (known.committed.clone(), known.commits_sent)
    };
    assert!(!committed.is_empty());
    for (group, offset) in committed {
        let name = format!("group-{group}");
        let found = loop {
            match connection.committed(&name, TOPIC, 0).await {
                Ok(found) => break found,
                Err(ClientError::Kafka { .. }) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(
            (offset..=most).contains(&found),
            "{name}: {found}, acknowledged {offset}"
        );
    }
}

async fn records_of(connection: &mut Connection, topic: &str) -> usize {
    let (mut offset, mut records) = (0, 0);
    let end = connection.list_offset(topic, 0, -1).await.unwrap().offset;
    let topic_id = connection.topic_id(topic).await.unwrap();
    while offset < end {
        let ask = FetchAsk {
            topic_id,
            ..FetchAsk::of(topic, 0, offset)
        };
        let answer = connection.fetch(ask).await.unwrap();
        for batch in read_all(answer.records.unwrap_or_default()).unwrap() {
            records += batch.records.len();
            offset = batch.last_offset + 1;
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_record_of_every_key_survives_compaction_and_kills() {
    let kills = std::env::var("OTTLA_COMPACTION_KILLS").map_or(12, |text| {
        text.parse::<u64>()
            .expect("OTTLA_COMPACTION_KILLS is a number")
    });
    let seed = Random::seed();
    println!("{kills} kills, OTTLA_SEED={seed}");
    let test = run(kills, Random::new(seed));
    within(
        120 + kills * SECONDS_PER_KILL,
        "compaction under kills",
        test,
    )
    .await;
}

async fn run(kills: u64, mut random: Random) {
    let mut broker = Broker::start_with(SETTINGS).await;
    let mut connection = Connection::open(broker.address).await.unwrap();
    let topic = Topic {
        name: TOPIC,
        partitions: 1,
        configs: &[("cleanup.policy", "compact")],
    };
    let topic_id = connection.create_topic(topic).await.unwrap();
    connection.find_coordinator("group-0").await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let (done, mut batches) = watch::channel(0);
    let clients = Arc::new(Clients {
        address: broker.address,
        topic_id,
        known: Shared::default(),
        done,
        stop: stopped,
    });
    let writing = tokio::spawn(write(clients.clone(), random.fork()));
    let committing = tokio::spawn(commit(clients.clone(), random.fork()));
    let reading = tokio::spawn(read(clients.clone()));
    for _ in 0..kills {
        let goal = *batches.borrow() + 20 + random.below(150);
        batches.wait_for(|done| *done >= goal).await.unwrap();
        broker.kill9();
        broker.restart().await;
    }
    stop.send_replace(true);
    writing.await.unwrap();
    committing.await.unwrap();
    assert!(reading.await.unwrap() > 0, "no reader got to the end");

    broker.kill9();
    broker.restart().await;
    let mut connection = Connection::open(broker.address).await.unwrap();
    let sent = clients.known.lock().unwrap().sent as usize;
    // Once all is compacted: one record per key, and the last batch, which is never touched.
    let most = KEYS as usize + 8;
    assert!(sent > 5 * most, "{sent}");
    while read_once(&clients, &mut connection).await.unwrap() > most {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    check_commits(&clients, &mut connection).await;
    let commits = clients.known.lock().unwrap().commits_sent as usize;
    while records_of(&mut connection, "__consumer_offsets").await > 2 * GROUPS as usize {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    println!("{sent} records and {commits} commits sent");
    assert!(commits > 4 * GROUPS as usize, "{commits}");
    // Coordinators read what compaction left.
    broker.kill9();
    broker.restart().await;
    let mut connection = Connection::open(broker.address).await.unwrap();
    check_commits(&clients, &mut connection).await;
    assert!(read_once(&clients, &mut connection).await.unwrap() <= most);
    broker.terminate().await;
}
