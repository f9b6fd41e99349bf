//! Very many connections.

use std::time::Duration;

use ottla_tests::broker::{Broker, raise_open_files};
use ottla_tests::client::{Connection, frame};
use tokio::time::timeout;

use crate::attack;

const IDLE_CONNECTIONS: usize = 5_000;
/// What one idle connection that has once asked something may cost the broker.
const IDLE_CONNECTION_BYTES: u64 = 16 << 10;
const SHORT_CONNECTIONS: usize = 1_000;
/// Nothing stays of a connection that is gone; this is the allocator's slack.
const SHORT_CONNECTIONS_BYTES: u64 = 32 << 20;

pub fn open_files(broker: &Broker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.pid()))
        .expect("the broker runs")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_idle_connections() {
    let files = raise_open_files();
    assert!(
        files > IDLE_CONNECTIONS as u64 + 1000,
        "this machine allows only {files} open files"
    );
    let bound = IDLE_CONNECTION_BYTES * IDLE_CONNECTIONS as u64;
    attack("idle connections", bound, &[], |broker, _| async move {
        let files_before = open_files(&broker);
        let mut crowd = Vec::new();
        for _ in 0..IDLE_CONNECTIONS {
            let mut connection = Connection::open(broker.address)
                .await
                .expect("the broker accepts");
            connection
                .api_versions()
                .await
                .expect("the broker serves everyone");
            crowd.push(connection);
        }
        assert!(
            open_files(&broker) >= files_before + IDLE_CONNECTIONS,
            "all of them are open"
        );
        // The first and the last are still served.
        for index in [0, IDLE_CONNECTIONS / 2, IDLE_CONNECTIONS - 1] {
            crowd[index]
                .api_versions()
                .await
                .expect("an idle connection is still served");
        }
        drop(crowd);
        wait_until_closed(&broker, files_before).await;
        broker
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_open_and_die() {
    attack(
        "short connections",
        SHORT_CONNECTIONS_BYTES,
        &[],
        |broker, mut random| async move {
            let files_before = open_files(&broker);
            let request = kafka_protocol::messages::MetadataRequest::default();
            let whole = frame(12, 1, &request).expect("the request can be written");
            for n in 0..SHORT_CONNECTIONS {
                let mut connection = Connection::open(broker.address)
                    .await
                    .expect("the broker accepts");
                let sent = random.below(whole.len() as u64 + 1) as usize;
                connection
                    .write(&whole[..sent])
                    .await
                    .expect("a new connection takes bytes");
                if n % 2 == 0 {
                    // Dies without a goodbye: a reset, also with an answer on its way.
                    connection
                        .into_stream()
                        .set_zero_linger()
                        .expect("an open socket has options");
                }
            }
            wait_until_closed(&broker, files_before).await;
            broker
        },
    )
    .await;
}

/// The broker lets go of the sockets of clients that are gone.
pub async fn wait_until_closed(broker: &Broker, files_before: usize) {
    let gone = async {
        // The neighbours' own connections and the store's files come and go.
        while open_files(broker) > files_before + 50 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = timeout(Duration::from_secs(20), gone).await;
    assert!(
        waited.is_ok(),
        "{} files are open, {files_before} were before",
        open_files(broker)
    );
}
