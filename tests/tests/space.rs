//! Disk space comes back once records are deleted, while clients run: shown as `du` shows it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FetchAsk, Topic};
use ottla_tests::within;

const MB: u64 = 1 << 20;
const TEST_SECONDS: u64 = 300;
/// What a broker's files hold beside records: its write-ahead log, which is used again and again.
const WRITE_AHEAD_LOG_BYTES: u64 = 1100 * MB;

/// Bytes that the files in a folder take on the disk.
fn du(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the data folder is there");
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            // A file may go between the listing and the look.
            let meta = entry.metadata().ok()?;
            Some(match meta.is_dir() {
                true => du(&entry.path()),
                false => meta.blocks() * 512,
            })
        })
        .sum()
}

/// Bytes of the files that hold records.
fn record_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the data folder is there");
    let sizes = entries.filter_map(Result::ok).map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return record_bytes(&path);
        }
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match (kind, entry.metadata()) {
            ("blob" | "sst", Ok(meta)) => meta.blocks() * 512,
            _ => 0,
        }
    });
    sizes.sum()
}

async fn fill(connection: &mut Connection, topic: &str, bytes: u64) {
    let record = Record::of(vec![b'x'; 900_000], now_ms());
    let batch = Batch::plain(vec![record]).encode();
    for _ in 0..bytes / 900_000 {
        let sent = connection.produce(topic, 0, batch.clone()).await.unwrap();
        assert_eq!(sent.error_code, 0);
    }
}

/// Twice what was produced, once to the write-ahead log and once to a file, and not much of what stays
/// again. Where the files lie in memory there is nothing to see.
fn assert_wrote_little(broker: &Broker, before: u64, produced: u64) {
    let written = broker.written_bytes() - before;
    println!("{} MB written for {} MB", written / MB, produced / MB);
    assert!(
        written < produced * 27 / 10,
        "{} MB written for {} MB produced",
        written / MB,
        produced / MB
    );
}

/// What was deleted before a restart is not forgotten, and what stays is not written again for it.
#[tokio::test]
async fn space_comes_back_after_a_restart() {
    const STAYS: u64 = 300 * MB;
    // Small memtables: what lies in memory only has no file to give back.
    let mut broker = Broker::start_with(&[("ottla.memory.bytes", "268435456")]).await;
    let mut connection = Connection::open(broker.address).await.unwrap();
    for name in ["stays", "gone"] {
        let topic = Topic {
            name,
            partitions: 1,
            configs: &[],
        };
        connection.create_topic(topic).await.unwrap();
    }
    fill(&mut connection, "stays", STAYS).await;
    // Less than what is given back at once.
    fill(&mut connection, "gone", 200 * MB).await;
    let data = broker.data();
    assert!(record_bytes(&data) > STAYS + 100 * MB);
    connection.delete_topic("gone").await.unwrap();
    for kill in [true, false] {
        match kill {
            true => broker.kill9(),
            false => broker.terminate().await,
        }
        broker.restart().await;
    }
    let before = broker.written_bytes();
    within(TEST_SECONDS, "space", async {
        while record_bytes(&data) > STAYS + 40 * MB {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let written = broker.written_bytes() - before;
    println!("{} MB written", written / MB);
    assert!(written < STAYS / 2, "{} MB written", written / MB);
}

/// Deleted by three ways, it comes back by one: topic deletion, DeleteRecords and retention all raise
/// log start offsets or drop partitions, and what is left is as good as new.
#[tokio::test]
async fn space_comes_back_while_clients_run() {
    let broker = Broker::start_with(&[
        ("log.retention.check.interval.ms", "100"),
        ("log.initial.task.delay.ms", "0"),
    ])
    .await;
    let mut connection = Connection::open(broker.address).await.unwrap();
    let mut topic = async |name, configs| {
        let topic = Topic {
            name,
            partitions: 1,
            configs,
        };
        connection.create_topic(topic).await.unwrap()
    };
    topic("gone", &[]).await;
    topic("shrinks", &[("retention.bytes", "50000000")]).await;
    let kept_id = topic("kept", &[]).await;

    let before = broker.written_bytes();
    fill(&mut connection, "kept", 20 * MB).await;
    fill(&mut connection, "gone", 800 * MB).await;
    fill(&mut connection, "shrinks", 800 * MB).await;
    connection.delete_topic("gone").await.unwrap();

    let writing = tokio::spawn({
        let address = broker.address;
        async move {
            let mut connection = Connection::open(address).await.unwrap();
            for _ in 0..50 {
                fill(&mut connection, "kept", MB).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let data = broker.data();
    within(TEST_SECONDS, "space", async {
        while record_bytes(&data) > 300 * MB {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    writing.await.expect("the other client was not disturbed");
    assert_wrote_little(&broker, before, 1670 * MB);
    assert!(
        du(&data) < 300 * MB + WRITE_AHEAD_LOG_BYTES,
        "{} MB",
        du(&data) / MB
    );

    let end = connection.list_offset("kept", 0, -1).await.unwrap().offset;
    let mut offset = 0;
    while offset < end {
        let ask = FetchAsk {
            topic_id: kept_id,
            ..FetchAsk::of("kept", 0, offset)
        };
        let answer = connection.fetch(ask).await.unwrap();
        assert_eq!(answer.error_code, 0);
        let batches = ottla_tests::batch::read_all(answer.records.unwrap_or_default()).unwrap();
        for batch in batches {
            assert_eq!(batch.records.len(), 1);
            assert_eq!(batch.base_offset, offset);
            offset += 1;
        }
    }
}
