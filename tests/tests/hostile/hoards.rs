//! Clients that make the broker keep what they sent, or what they asked for.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{GroupId, JoinGroupRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::batch::Batch;
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FETCH, FetchAsk, Topic, fetch_request, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::attack;

/// One large request at a time, of each connection.
const WAITING_BYTES: u64 = 96 << 20;
const STALLED_BYTES: u64 = 128 << 20;
/// All that fetches may hold, and sockets' buffers.
const SLOW_READERS_BYTES: u64 = 160 << 20;
/// A small broker, so that a few clients can take all there is.
const SMALL: &[(&str, &str)] = &[("ottla.memory.bytes", "268435456")];
const STORED_BATCHES: usize = 96;

async fn open(broker: &Broker) -> Connection {
    Connection::open(broker.address)
        .await
        .expect("the broker accepts")
}

async fn make_topic(broker: &Broker, name: &str) {
    let topic = Topic {
        name,
        partitions: 1,
        configs: &[],
    };
    let made = open(broker).await.create_topic(topic).await;
    made.expect("a topic can be made");
}

/// A fetch that nothing but its end in 24 days answers.
pub fn endless_fetch(topic: &str) -> Bytes {
    let ask = FetchAsk {
        min_bytes: i32::MAX,
        max_wait_ms: i32::MAX,
        ..FetchAsk::of(topic, 0, 0)
    };
    frame(FETCH, 1, &fetch_request(&[ask])).expect("the request can be written")
}

fn large_join(bytes: usize) -> Bytes {
    let text = StrBytes::from_static_str;
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(vec![0; bytes].into());
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("hoard")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(i32::MAX)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    frame(3, 2, &request).expect("the request can be written")
}

/// Requests of megabytes, all behind one that is not answered. Most stay where they are.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_behind_a_long_poll() {
    attack(
        "large requests that wait",
        WAITING_BYTES,
        &[],
        |broker, _| async move {
            make_topic(&broker, "empty").await;
            let join = large_join(3 << 20);
            let mut hoarders = JoinSet::new();
            for _ in 0..4 {
                let (mut connection, join) = (open(&broker).await, join.clone());
                hoarders.spawn(async move {
                    let poll = endless_fetch("empty");
                    connection.write(&poll).await.expect("a fetch is taken");
                    let mut taken = 0;
                    while taken < 60 {
                        let written =
                            timeout(Duration::from_secs(2), connection.write(&join)).await;
                        if written.is_err() {
                            break;
                        }
                        taken += 1;
                    }
                    (connection, taken)
                });
            }
            let taken: Vec<_> = hoarders.join_all().await;
            assert!(
                taken.iter().all(|(_, taken)| *taken < 60),
                "the broker took all that was sent"
            );
            broker
        },
    )
    .await;
}

/// The largest requests that there may be, and ordinary ones: half sent, then nothing.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests() {
    attack(
        "half sent requests",
        STALLED_BYTES,
        &[],
        |broker, _| async move {
            let mut stalled = Vec::new();
            for (count, announced, sent) in [(4, 100 << 20, 1 << 20), (60, 1 << 20, 512 << 10)] {
                for _ in 0..count {
                    let mut connection = open(&broker).await;
                    let mut half = vec![0; sent];
                    half[..4].copy_from_slice(&i32::to_be_bytes(announced));
                    half[7] = 9;
                    // It takes what there is room for.
                    let _ = timeout(Duration::from_millis(100), connection.write(&half)).await;
                    stalled.push(connection);
                }
            }
            tokio::time::sleep(crate::NEIGHBOUR_WAIT + Duration::from_secs(2)).await;
            broker
        },
    )
    .await;
}

/// Old records, asked for by many and taken byte by byte. Others still get theirs.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_old_records() {
    attack(
        "slow readers",
        SLOW_READERS_BYTES,
        SMALL,
        |broker, _| async move {
            make_topic(&broker, "bulk").await;
            let mut connection = open(&broker).await;
            for _ in 0..STORED_BATCHES {
                let batch = Batch::filled(1, 1_000_000).encode();
                let answer = connection.produce("bulk", 0, batch).await;
                assert_eq!(answer.expect("Produce is answered").error_code, 0);
            }
            let mut slow = JoinSet::new();
            for _ in 0..64 {
                let ask = FetchAsk {
                    partition_max_bytes: 32 << 20,
                    max_bytes: 32 << 20,
                    max_wait_ms: 60_000,
                    ..FetchAsk::of("bulk", 0, 0)
                };
                let request =
                    frame(FETCH, 1, &fetch_request(&[ask])).expect("the request can be written");
                let mut stream = open(&broker).await.into_stream();
                slow.spawn(async move {
                    let asked = stream.write_all(&request.repeat(8)).await;
                    asked.expect("fetches are taken");
                    // Until it is disconnected, or the attack is over.
                    while stream.read_u8().await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                });
            }
            for offset in 0..STORED_BATCHES as i64 / 4 {
                let found = async {
                    loop {
                        let ask = FetchAsk {
                            max_wait_ms: 500,
                            ..FetchAsk::of("bulk", 0, offset)
                        };
                        let answer = connection.fetch(ask).await.expect("Fetch is answered");
                        if answer.records.is_some_and(|records| !records.is_empty()) {
                            return;
                        }
                    }
                };
                timeout(Duration::from_secs(30), found)
                    .await
                    .expect("an honest reader gets old records, too");
            }
            let search = connection.list_offset("bulk", 0, 1);
            assert_eq!(search.await.expect("ListOffsets is answered").offset, 0);
            slow.abort_all();
            broker
        },
    )
    .await;
}
