//! Bytes that are no Kafka request.

use bytes::{BufMut, BytesMut};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, frame};
use ottla_tests::random::Random;

use crate::attack;

/// Nothing of what is sent here needs to be kept.
const NOISE_BYTES: u64 = 32 << 20;

async fn connect(broker: &Broker) -> Connection {
    Connection::open(broker.address)
        .await
        .expect("the broker accepts")
}

#[tokio::test(flavor = "multi_thread")]
async fn noise() {
    attack("noise", NOISE_BYTES, &[], |broker, mut random| async move {
        for _ in 0..500 {
            let mut connection = connect(&broker).await;
            let length = 1 + random.below(4000) as usize;
            // The broker may close while we write; that is its right.
            let _ = connection.write(&random.bytes(length)).await;
            connection.finish().await;
        }
        broker
    })
    .await;
}

/// A frame's length that can't be, and other protocols: closed at once.
#[tokio::test(flavor = "multi_thread")]
async fn impossible_lengths_and_other_protocols() {
    attack("impossible lengths", NOISE_BYTES, &[], |broker, _| async move {
        let lengths = [-1, i32::MIN, i32::MAX, 104_857_601, 0, 1, 7];
        let mut openings: Vec<Vec<u8>> = lengths
            .iter()
            .map(|length| {
                let mut opening = length.to_be_bytes().to_vec();
                opening.extend_from_slice(&[0; 16]);
                opening
            })
            .collect();
        openings.push(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec());
        openings.push(b"POST /topics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".to_vec());
        openings.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03TLS ClientHello".to_vec());
        openings.push(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
        openings.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no HTTP/2 frame at all, whatever the preface said".to_vec());
        for opening in openings {
            let mut connection = connect(&broker).await;
            let _ = connection.write(&opening).await;
            let closed = connection.wait_until_closed().await;
            assert!(closed.is_ok(), "still open after {:?}", opening.escape_ascii().to_string());
        }
        broker
    })
    .await;
}

/// Whole frames whose content is random, behind a header of every API.
#[tokio::test(flavor = "multi_thread")]
async fn random_bodies() {
    attack(
        "random bodies",
        NOISE_BYTES,
        &[],
        |broker, mut random| async move {
            for _ in 0..1500 {
                let mut connection = connect(&broker).await;
                let _ = connection.write(&random_request(&mut random)).await;
                connection.finish().await;
            }
            broker
        },
    )
    .await;
}

fn random_request(random: &mut Random) -> BytesMut {
    let body = random.below(300) as usize;
    let mut request = BytesMut::new();
    request.put_i32((10 + body) as i32);
    request.put_i16(random.below(80) as i16);
    request.put_i16(random.below(16) as i16);
    request.put_i32(1);
    request.put_i16(-1);
    request.extend_from_slice(&random.bytes(body));
    request
}

/// Requests cut off at every byte, some then silent, some closed.
#[tokio::test(flavor = "multi_thread")]
async fn half_frames() {
    attack(
        "half frames",
        NOISE_BYTES,
        &[],
        |broker, mut random| async move {
            let batch = ottla_tests::batch::Batch::filled(3, 20).encode();
            let request = ottla_tests::client::produce_request("neighbours", 0, -1, batch);
            let whole = frame(9, 1, &request).expect("the request can be written");
            let mut silent = Vec::new();
            for end in 0..whole.len() {
                let mut connection = connect(&broker).await;
                connection
                    .write(&whole[..end])
                    .await
                    .expect("half a frame is no reason to close");
                if random.one_in(2) {
                    silent.push(connection);
                }
            }
            // What was announced and never came must not have been appended.
            drop(silent);
            broker
        },
    )
    .await;
}
