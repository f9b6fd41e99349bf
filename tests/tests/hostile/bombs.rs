//! Decompression bombs: half a megabyte on the wire, half a gigabyte inside. A broker looks inside a
//! batch where keys are required (compacted topics) and to find a record by its time.

use bytes::Bytes;
use ottla_tests::batch::{gzip_bomb, now_ms};
use ottla_tests::client::{Connection, Topic};
use tokio::task::JoinSet;

use crate::attack;

const INFLATED_BYTES: usize = 500 << 20;
const AT_A_TIME: usize = 8;
/// What all of them together may take: less than one of them inflated.
const BOMBS_BYTES: u64 = 384 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn into_a_compacted_topic() {
    let bomb = gzip_bomb(INFLATED_BYTES);
    attack(
        "bombs for a compacted topic",
        BOMBS_BYTES,
        &[],
        |broker, _| async move {
            let mut connection = Connection::open(broker.address)
                .await
                .expect("the broker accepts");
            let topic = Topic {
                name: "compacted",
                partitions: 1,
                configs: &[("cleanup.policy", "compact")],
            };
            connection
                .create_topic(topic)
                .await
                .expect("a topic can be made");
            let mut throwers = JoinSet::new();
            for _ in 0..AT_A_TIME {
                let (address, bomb) = (broker.address, bomb.clone());
                throwers.spawn(async move { throw(address, "compacted", bomb).await });
            }
            // Refused or stored, but answered; the bound on memory is what counts.
            throwers.join_all().await;
            broker
        },
    )
    .await;
}

async fn throw(address: std::net::SocketAddr, topic: &str, bomb: Bytes) -> i16 {
    let mut connection = Connection::open(address).await.expect("the broker accepts");
    connection
        .produce(topic, 0, bomb)
        .await
        .expect("Produce is answered")
        .error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_search_by_time() {
    let bomb = gzip_bomb(INFLATED_BYTES);
    attack(
        "bombs under a search",
        BOMBS_BYTES,
        &[],
        |broker, _| async move {
            let mut connection = Connection::open(broker.address)
                .await
                .expect("the broker accepts");
            let topic = Topic {
                name: "plain",
                partitions: 1,
                configs: &[],
            };
            connection
                .create_topic(topic)
                .await
                .expect("a topic can be made");
            let stored = throw(broker.address, "plain", bomb).await;
            let mut searchers = JoinSet::new();
            for _ in 0..AT_A_TIME {
                let address = broker.address;
                searchers.spawn(async move {
                    let mut connection =
                        Connection::open(address).await.expect("the broker accepts");
                    connection
                        .list_offset("plain", 0, now_ms() - 60_000)
                        .await
                        .expect("ListOffsets is answered")
                        .error_code
                });
            }
            println!(
                "stored: error {stored}; searches: {:?}",
                searchers.join_all().await
            );
            broker
        },
    )
    .await;
}
