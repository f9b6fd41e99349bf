//! Length bombs: a few bytes that claim to be followed by two thousand million things.

use bytes::{BufMut, BytesMut};
use ottla_tests::client::Connection;

use crate::attack;

/// A request of some hundred bytes is read, refused, and forgotten.
const BOMB_BYTES: u64 = 48 << 20;

/// Array counts, string lengths and varints that cannot be true, to stand at any field.
fn bombs() -> Vec<Vec<u8>> {
    let counts: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],       // 2^31 - 1 elements
        &[0x80, 0x00, 0x00, 0x00],       // a negative count
        &[0x00, 0xff, 0xff, 0xff],       // 16 million
        &[0xff, 0xff, 0xff, 0xff, 0x0f], // 2^32 - 2 as a compact count
        &[0xff; 12],                     // a varint that never ends
        &[0x7f, 0xff],                   // a string of 32,767 bytes
    ];
    let mut bombs = Vec::new();
    for count in counts {
        // Behind 0 to 24 bytes that may be read as empty strings, nulls, or numbers.
        for filler in [0x00u8, 0x01, 0xff] {
            for ahead in [0usize, 1, 2, 4, 6, 8, 11, 16, 24] {
                let mut bomb = vec![filler; ahead];
                bomb.extend_from_slice(count);
                bombs.push(bomb);
            }
        }
    }
    bombs
}

fn request(api_key: i16, version: i16, flexible: bool, body: &[u8]) -> BytesMut {
    let mut request = BytesMut::new();
    request.put_i32(0);
    request.put_i16(api_key);
    request.put_i16(version);
    request.put_i32(1);
    request.put_i16(-1);
    if flexible {
        request.put_u8(0);
    }
    request.extend_from_slice(body);
    let length = request.len() as i32 - 4;
    request[..4].copy_from_slice(&length.to_be_bytes());
    request
}

/// Every API, its lowest and highest version, with and without tagged fields in the header.
#[tokio::test(flavor = "multi_thread")]
async fn length_bombs_in_every_api() {
    attack(
        "length bombs",
        BOMB_BYTES,
        &[],
        |mut broker, mut random| async move {
            let mut connection = Connection::open(broker.address)
                .await
                .expect("the broker accepts");
            let apis = connection
                .api_versions()
                .await
                .expect("the broker serves")
                .api_keys;
            let bombs = bombs();
            for api in apis {
                for version in [api.min_version, api.max_version] {
                    for flexible in [false, true] {
                        // A quarter of them, another quarter in each run.
                        for bomb in bombs.iter().filter(|_| random.one_in(4)) {
                            let mut connection = Connection::open(broker.address)
                                .await
                                .expect("the broker accepts");
                            let _ = connection
                                .write(&request(api.api_key, version, flexible, bomb))
                                .await;
                            connection.finish().await;
                        }
                    }
                }
                assert!(
                    broker.is_running(),
                    "API {} ended the broker:\n{}",
                    api.api_key,
                    broker.log_tail()
                );
            }
            broker
        },
    )
    .await;
}

/// The classic one: 12 bytes of body that make a decoder ask for 200 GB.
#[tokio::test(flavor = "multi_thread")]
async fn the_twelve_byte_bomb() {
    attack(
        "12-byte bomb",
        BOMB_BYTES,
        &[],
        |mut broker, _| async move {
            let twelve = [
                0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
            ];
            for api_key in 0..80 {
                for version in 0..14 {
                    let mut connection = Connection::open(broker.address)
                        .await
                        .expect("the broker accepts");
                    let _ = connection
                        .write(&request(api_key, version, false, &twelve))
                        .await;
                    connection.finish().await;
                }
            }
            assert!(broker.is_running(), "{}", broker.log_tail());
            broker
        },
    )
    .await;
}
