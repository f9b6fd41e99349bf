//! A write or a sync fails with EIO: nothing more is acknowledged, what is committed stays readable,
//! it is said wherever one looks, and a restart recovers.

use nix::errno::Errno;
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic, code};
use ottla_tests::disk::{Disk, kind};
use ottla_tests::within;

use crate::support::{
    TOPIC, assert_all_there, broker_on, connect, get, is_storage_error, log_dir_error, produce,
    read,
};

const GROUP: &str = "readers";

async fn started() -> (Broker, Disk, String, Connection) {
    let (mut broker, disk, metrics) = broker_on(&[]);
    broker.restart().await;
    let mut connection = connect(&broker).await;
    let topic = Topic {
        name: TOPIC,
        partitions: 1,
        configs: &[],
    };
    connection.create_topic(topic).await.expect("a topic");
    (broker, disk, metrics, connection)
}

/// Everything that a broker on failed storage answers.
async fn assert_offline(broker: &Broker, metrics: &str, kind: &str, acknowledged: &[u64]) {
    let mut connection = connect(broker).await;
    assert!(is_storage_error(produce(&mut connection, 999, 100).await));
    let committed = connection.commit(GROUP, TOPIC, 0, 2).await;
    let refused = committed.expect_err("nothing can be committed");
    let ottla_tests::client::ClientError::Kafka { code, .. } = refused else {
        panic!("{refused}");
    };
    assert!(code::is_retriable(code), "code {code}");
    assert_all_there(&mut connection, acknowledged).await;
    assert_eq!(
        connection.committed(GROUP, TOPIC, 0).await.expect("known"),
        1
    );
    assert!(is_storage_error(log_dir_error(&mut connection).await));
    let ready = get(metrics, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("Input/output error"), "{ready}");
    let all = get(metrics, "/metrics").await;
    assert!(all.contains("kafka_log_logmanager_offlinelogdirectorycount 1"));
    let counted = format!("ottla_storage_failures_total{{kind=\"{kind}\"}} 1");
    assert!(all.contains(&counted), "no {counted}");
    let log = broker.log();
    let said: Vec<_> = log
        .lines()
        .filter(|l| l.contains("storage failed"))
        .collect();
    assert_eq!(said.len(), 1, "said once: {said:#?}");
    assert!(said[0].contains(".log: Input/output error"), "{}", said[0]);
}

async fn log_fails(break_it: fn(&Disk), kind: &'static str) {
    let (mut broker, disk, metrics, mut connection) = started().await;
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        assert_eq!(produce(&mut connection, number, 1000).await, 0);
        acknowledged.push(number);
    }
    connection.commit(GROUP, TOPIC, 0, 1).await.expect("stored");
    // It fails once; the next would succeed, and must not be believed.
    break_it(&disk);
    assert!(is_storage_error(produce(&mut connection, 100, 1000).await));
    disk.heal();
    assert_offline(&broker, &metrics, kind, &acknowledged).await;
    broker.terminate().await;
    broker.restart().await;
    let mut connection = connect(&broker).await;
    assert_all_there(&mut connection, &acknowledged).await;
    assert_eq!(produce(&mut connection, 200, 1000).await, 0);
    acknowledged.push(200);
    assert!(
        get(&metrics, "/health/ready")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(log_dir_error(&mut connection).await, 0);
    // What the failed run left was written anew: it does not hang on pages that were never synced.
    let log = broker.log();
    assert!(
        log.contains("storage failed in the last run"),
        "not noticed"
    );
    broker.kill9();
    broker.restart().await;
    assert_all_there(&mut connect(&broker).await, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_final() {
    let once = |disk: &Disk| disk.fail_syncs(kind::LOG, Errno::EIO, 1);
    within(120, "fsync EIO", log_fails(once, "sync")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_is_final() {
    let once = |disk: &Disk| disk.fail_writes(kind::LOG, Errno::EIO, 1);
    within(120, "write EIO", log_fails(once, "write")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_loses_nothing() {
    within(240, "flush EIO", async {
        let (mut broker, disk, _, mut connection) = started().await;
        disk.fail_writes(kind::SST | kind::BLOB, Errno::EIO, u32::MAX);
        let mut acknowledged = Vec::new();
        // More than a memtable: somewhere on the way it is flushed.
        for number in 0..1000 {
            match produce(&mut connection, number, 900_000).await {
                0 => acknowledged.push(number),
                code => {
                    assert!(is_storage_error(code), "code {code}");
                    break;
                }
            }
        }
        assert!(disk.failed_writes() > 0, "no flush was tried");
        let first = read(&mut connection, TOPIC, 0, 0).await;
        assert_eq!(first, Ok(0), "reads go on");
        broker.kill9();
        disk.heal();
        broker.restart().await;
        assert_all_there(&mut connect(&broker).await, &acknowledged).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_syncs_only_slow_down() {
    within(120, "slow sync", async {
        let (_broker, disk, _, mut connection) = started().await;
        disk.slow_syncs(300_000);
        for number in 0..5 {
            assert_eq!(produce(&mut connection, number, 100).await, 0);
        }
        disk.heal();
        assert_all_there(&mut connection, &[0, 1, 2, 3, 4]).await;
    })
    .await;
}

/// What a killed broker wrote and did not sync lies in the page cache only. It is synced before
/// anything is built upon it: where that fails, nothing starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_syncs_what_it_replays() {
    within(120, "sync at the start", async {
        let (mut broker, disk, _, mut connection) = started().await;
        for number in 0..5 {
            assert_eq!(produce(&mut connection, number, 1000).await, 0);
        }
        broker.kill9();
        disk.fail_syncs(kind::LOG, Errno::EIO, 1);
        broker.spawn();
        let ended = broker.up_or_ended().await;
        assert!(!ended.expect_err("it must not start").success());
        let log = broker.log_tail();
        assert!(log.contains(".log: Input/output error"), "{log}");
        broker.restart().await;
        assert_all_there(&mut connect(&broker).await, &[0, 1, 2, 3, 4]).await;
    })
    .await;
}
