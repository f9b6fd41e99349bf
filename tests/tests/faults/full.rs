//! A disk that fills up: new records are refused with a retriable error, all else goes on, and it
//! recovers by itself when space returns.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use nix::errno::Errno;
use ottla_tests::broker::Broker;
use ottla_tests::client::{Topic, code};
use ottla_tests::disk::{SmallDisk, kind};
use ottla_tests::load::{Load, Shape};
use ottla_tests::random::Random;
use ottla_tests::within;

use crate::support::{
    TOPIC, assert_all_there, broker_on, connect, delete_records, get, is_storage_error, produce,
    read, until,
};

const MB: u64 = 1 << 20;
const DISK_BYTES: u64 = 1024 * MB;
const RECORD_BYTES: usize = 900_000;

async fn make_topic(broker: &Broker) {
    let topic = Topic {
        name: TOPIC,
        partitions: 1,
        configs: &[],
    };
    let mut connection = connect(broker).await;
    connection.create_topic(topic).await.expect("a topic");
}

/// Produces until the disk is full for good: while memtables are flushed, there may be room again.
/// Adds the numbers that were acknowledged.
async fn fill(broker: &Broker, acknowledged: &mut Vec<u64>) {
    const REFUSALS: u32 = 100;
    let mut connection = connect(broker).await;
    let mut refusals = 0;
    let first = acknowledged.last().map_or(0, |last| last + 1);
    for number in first..first + 5000 {
        match produce(&mut connection, number, RECORD_BYTES).await {
            0 => {
                acknowledged.push(number);
                refusals = 0;
            }
            code => {
                assert!(is_storage_error(code), "code {code}");
                refusals += 1;
                if refusals == REFUSALS {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    panic!("the disk never filled up");
}

/// On a full disk: everything but new records, also after a restart.
async fn assert_serves(broker: &mut Broker, metrics: &str, acknowledged: &mut Vec<u64>) {
    for round in 0..2 {
        fill(broker, acknowledged).await;
        println!("refused after {} records", acknowledged.len());
        let mut connection = connect(broker).await;
        assert!(is_storage_error(
            produce(&mut connection, 90_000, RECORD_BYTES).await
        ));
        let last = acknowledged.len() as i64 - 1;
        let newest = read(&mut connection, TOPIC, 0, last).await;
        assert_eq!(newest, Ok(acknowledged[last as usize]));
        connection
            .commit("readers", TOPIC, 0, 1 + round)
            .await
            .expect("commits go on");
        let name = format!("made-on-a-full-disk-{round}");
        let topic = Topic {
            name: &name,
            partitions: 1,
            configs: &[],
        };
        connection
            .create_topic(topic)
            .await
            .expect("metadata goes on");
        connection.delete_topic(&name).await.expect("deletes go on");
        let ready = get(metrics, "/health/ready").await;
        assert!(
            ready.starts_with("HTTP/1.1 200") && ready.contains("disk is full"),
            "{ready}"
        );
        if round == 0 {
            broker.kill9();
            broker.restart().await;
        }
    }
}

async fn recovers(broker: &mut Broker, mut acknowledged: Vec<u64>) {
    until("records are taken again", || async {
        let mut connection = connect(broker).await;
        produce(&mut connection, 100_000, 1000).await == 0
    })
    .await;
    acknowledged.push(100_000);
    let mut connection = connect(broker).await;
    assert_all_there(&mut connection, &acknowledged).await;
    let after = delete_records(&mut connection, TOPIC, 0, 5).await;
    assert_eq!(after.expect("deletes go on"), 5);
    broker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_disk_fills_up_and_has_space_again() {
    let Some(small) = SmallDisk::mount(DISK_BYTES) else {
        // The same with a quota runs below.
        return;
    };
    within(240, "full disk", async {
        let filler = small.path().join("filler");
        let mut file = File::create(&filler).expect("a filler");
        for _ in 0..200 {
            file.write_all(&vec![7; MB as usize]).expect("room");
        }
        file.sync_all().expect("synced");
        // An open file keeps its space when it is removed.
        drop(file);
        let (mut broker, _disk, metrics) = broker_on(&[]);
        broker.set_data(small.path().join("data"));
        broker.restart().await;
        make_topic(&broker).await;
        let mut acknowledged = Vec::new();
        assert_serves(&mut broker, &metrics, &mut acknowledged).await;
        assert!(acknowledged.len() > 100, "most of the disk is used");
        fs::remove_file(&filler).expect("space returns");
        recovers(&mut broker, acknowledged).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_a_full_disk_too() {
    within(240, "quota", async {
        let (mut broker, disk, metrics) = broker_on(&[]);
        disk.set_quota(500 * MB);
        broker.restart().await;
        make_topic(&broker).await;
        let mut acknowledged = Vec::new();
        assert_serves(&mut broker, &metrics, &mut acknowledged).await;
        assert!(acknowledged.len() > 50, "most of the disk is used");
        disk.set_quota(2000 * MB);
        recovers(&mut broker, acknowledged).await;
    })
    .await;
}

/// Nobody does anything but wait: what is too much goes, and new records are taken again.
#[tokio::test(flavor = "multi_thread")]
async fn retention_gives_a_full_disk_space() {
    const KEPT_BYTES: u64 = 50 * MB;
    within(240, "retention on a full disk", async {
        let (mut broker, disk, _) = broker_on(&[
            ("log.retention.check.interval.ms", "100"),
            ("log.initial.task.delay.ms", "0"),
        ]);
        disk.set_quota(500 * MB);
        broker.restart().await;
        make_topic(&broker).await;
        let mut connection = connect(&broker).await;
        let never = connection.alter_topic(TOPIC, "retention.ms", "-1").await;
        never.expect("it may be altered");
        let mut acknowledged = Vec::new();
        fill(&broker, &mut acknowledged).await;
        let before = disk.used_bytes();
        connection
            .alter_topic(TOPIC, "retention.bytes", &KEPT_BYTES.to_string())
            .await
            .expect("configurations go on");
        until("records are taken again", || async {
            produce(&mut connect(&broker).await, 100_000, 1000).await == 0
        })
        .await;
        acknowledged.push(100_000);
        let start = connection.list_offset(TOPIC, 0, -2).await.expect("known");
        let end = connection.list_offset(TOPIC, 0, -1).await.expect("known");
        let kept = (end.offset - start.offset) as u64;
        assert!(start.offset > 0, "nothing was deleted");
        assert!((kept - 1) * RECORD_BYTES as u64 + MB > KEPT_BYTES, "{kept}");
        let first = read(&mut connection, TOPIC, 0, start.offset).await;
        let first = first.expect("the first one left is readable");
        acknowledged.retain(|number| *number >= first);
        assert_all_there(&mut connection, &acknowledged).await;
        println!("{before} bytes before, {} after", disk.used_bytes());
    })
    .await;
}

/// Something else fills the disk in an instant: no reserve helps. Writes wait and then go on, in the
/// same process, and producers notice nothing but the wait.
#[tokio::test(flavor = "multi_thread")]
async fn writes_wait_for_space_and_go_on() {
    const SHAPE: Shape = Shape {
        producers: 3,
        readers: 1,
        partitions: 4,
        batch_records: 50,
        value_bytes: 500,
        one_fat_in: 20,
        fat_bytes: 900_000,
    };
    let mut random = Random::new(Random::seed());
    within(240, "ENOSPC", async {
        let (mut broker, disk, metrics) = broker_on(&[]);
        broker.restart().await;
        let mut load = Load::start(broker.address, "load", SHAPE, &mut random).await;
        for kinds in [
            kind::LOG,
            kind::ALL,
            kind::SST | kind::BLOB | kind::MANIFEST,
        ] {
            let before = load.acknowledged_batches();
            load.allow(600);
            load.wait_for_acknowledged(before + 50).await;
            disk.fail_writes(kinds, Errno::ENOSPC, u32::MAX);
            if kinds & kind::LOG != 0 {
                until("the log does not fit", || async {
                    disk.failed_writes() > 0
                })
                .await;
                // Longer than an election timeout: the group must outlive it.
                tokio::time::sleep(Duration::from_secs(3)).await;
                let ready = get(&metrics, "/health/ready").await;
                assert!(ready.contains("disk is full"), "{ready}");
            }
            disk.heal();
            load.wait_for_acknowledged(before + 500).await;
        }
        let stopped = load.stop().await;
        let log = broker.log();
        assert!(
            log.contains("writes wait until there is space"),
            "never full"
        );
        assert!(!log.contains("storage failed"), "a full disk is not final");
        broker.kill9();
        broker.restart().await;
        let summary = stopped.check().await;
        assert!(summary.acknowledged_records > 0, "nothing was tried");
    })
    .await;
}

/// A flush that does not fit: the memtables stay, and are flushed when there is space.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_waits_for_space() {
    within(240, "flush ENOSPC", async {
        let (mut broker, disk, _) = broker_on(&[]);
        broker.restart().await;
        make_topic(&broker).await;
        disk.fail_writes(kind::SST | kind::BLOB, Errno::ENOSPC, u32::MAX);
        let mut connection = connect(&broker).await;
        let mut acknowledged = Vec::new();
        let mut number = 0;
        while disk.failed_writes() == 0 {
            let answer = produce(&mut connection, number, RECORD_BYTES);
            match tokio::time::timeout(Duration::from_secs(5), answer).await {
                Ok(0) => acknowledged.push(number),
                Ok(code) => assert!(is_storage_error(code), "code {code}"),
                // It waits for space, and is not acknowledged.
                Err(_) => break,
            }
            number += 1;
        }
        until("the broker knows", || async {
            let code = produce(&mut connect(&broker).await, 50_000, RECORD_BYTES).await;
            code == code::KAFKA_STORAGE_ERROR || code == code::REQUEST_TIMED_OUT
        })
        .await;
        disk.heal();
        recovers(&mut broker, acknowledged).await;
        assert!(
            !broker.log().contains("storage failed"),
            "a full disk is not final"
        );
    })
    .await;
}
