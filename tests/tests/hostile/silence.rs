//! Clients that are slow, or that do not listen.

use std::time::{Duration, Instant};

use kafka_protocol::messages::ApiVersionsRequest;
use ottla_tests::batch::Batch;
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FETCH, FetchAsk, Topic, fetch_request, frame};
use ottla_tests::within;
use tokio::time::timeout;

use crate::attack;

/// Frames that were announced and did not come hold no memory.
const ANNOUNCED_BYTES: u64 = 48 << 20;
const SLOW_SENDERS_BYTES: u64 = 32 << 20;
/// Answers that nobody takes: what sockets hold, and what a bounded queue per connection shares of
/// the records, which lie in memory once.
const DEAF_CLIENTS_BYTES: u64 = 192 << 20;

/// Frames as large as may be, announced by many and sent by none. The neighbours' requests of a
/// megabyte must not wait for them.
#[tokio::test(flavor = "multi_thread")]
async fn announced_and_never_sent() {
    attack(
        "announced frames",
        ANNOUNCED_BYTES,
        &[],
        |broker, _| async move {
            let liars = announce(&broker, 100).await;
            // The attack is to do nothing, for longer than a neighbour may have to wait.
            tokio::time::sleep(crate::NEIGHBOUR_WAIT + Duration::from_secs(2)).await;
            drop(liars);
            broker
        },
    )
    .await;
}

/// Connections that have begun a frame of the largest size, and stop.
async fn announce(broker: &Broker, count: usize) -> Vec<Connection> {
    let mut liars = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(broker.address)
            .await
            .expect("the broker accepts");
        let mut opening = 104_857_600i32.to_be_bytes().to_vec();
        opening.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 1]);
        connection
            .write(&opening)
            .await
            .expect("a frame of the largest size may begin");
        liars.push(connection);
    }
    liars
}

/// None of them keeps the broker from stopping.
#[tokio::test]
async fn sigterm_among_silent_clients() {
    within(60, "SIGTERM", async {
        let mut broker = Broker::start().await;
        let _liars = announce(&broker, 20).await;
        let mut halves = Vec::new();
        let whole =
            frame(0, 0, &ApiVersionsRequest::default()).expect("the request can be written");
        for end in 0..whole.len() {
            let mut connection = Connection::open(broker.address)
                .await
                .expect("the broker accepts");
            connection
                .write(&whole[..end])
                .await
                .expect("half a frame is no reason to close");
            halves.push(connection);
        }
        // A peer that begins HTTP/2, and no more.
        let mut peer = Connection::open(broker.address)
            .await
            .expect("the broker accepts");
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings];
        peer.write(&opening.concat())
            .await
            .expect("a peer may begin");
        let began = Instant::now();
        broker.terminate().await;
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "SIGTERM took {:?}",
            began.elapsed()
        );
    })
    .await;
}

/// One byte at a time; every sender gets its answer in the end.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_dribbled() {
    attack(
        "slow senders",
        SLOW_SENDERS_BYTES,
        &[],
        |broker, _| async move {
            let request = ApiVersionsRequest::default();
            let whole = frame(0, 0, &request).expect("the request can be written");
            let mut senders = Vec::new();
            for _ in 0..300 {
                senders.push(
                    Connection::open(broker.address)
                        .await
                        .expect("the broker accepts"),
                );
            }
            for byte in whole.iter() {
                for sender in &mut senders {
                    sender
                        .write(&[*byte])
                        .await
                        .expect("slow is no reason to close");
                }
            }
            for sender in &mut senders {
                sender
                    .receive::<ApiVersionsRequest>(0, 0)
                    .await
                    .expect("a slow sender is answered");
            }
            broker
        },
    )
    .await;
}

/// Asks for megabytes again and again, and never reads: at some point it is not read any more.
#[tokio::test(flavor = "multi_thread")]
async fn answers_nobody_reads() {
    attack(
        "deaf clients",
        DEAF_CLIENTS_BYTES,
        &[],
        |broker, _| async move {
            let mut connection = Connection::open(broker.address)
                .await
                .expect("the broker accepts");
            let topic = Topic {
                name: "bulk",
                partitions: 1,
                configs: &[],
            };
            connection
                .create_topic(topic)
                .await
                .expect("a topic can be made");
            for _ in 0..32 {
                let batch = Batch::filled(1, 1_000_000).encode();
                let answer = connection
                    .produce("bulk", 0, batch)
                    .await
                    .expect("Produce is answered");
                assert_eq!(answer.error_code, 0);
            }
            let mut deaf = Vec::new();
            for offset in 0..20 {
                let ask = FetchAsk {
                    partition_max_bytes: 16 << 20,
                    max_bytes: 16 << 20,
                    ..FetchAsk::of("bulk", 0, offset)
                };
                let request =
                    frame(FETCH, 1, &fetch_request(&[ask])).expect("the request can be written");
                let mut client = Connection::open(broker.address)
                    .await
                    .expect("the broker accepts");
                let mut asked = 0;
                // Until the broker stops reading: then the sockets' buffers fill, and a write waits.
                while timeout(
                    Duration::from_millis(200),
                    client.write(&request.repeat(100)),
                )
                .await
                .is_ok()
                {
                    asked += 100;
                    assert!(
                        asked < 1_000_000,
                        "the broker reads on and on from a client that takes no answer"
                    );
                }
                deaf.push(client);
            }
            drop(deaf);
            broker
        },
    )
    .await;
}
