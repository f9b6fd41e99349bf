//! The calls of brokers on each other, on the port that Kafka clients use. The messages and the path
//! are written down here once more, apart from `proto/proto/peer.proto`: what this test says is what
//! brokers of other releases say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic};
use ottla_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// No test here takes a tenth of this.
const TEST_SECONDS: u64 = 120;
const HELLO: &str = "/ottla.peer.v1.Peer/Hello";

#[derive(Clone, PartialEq, prost::Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    cluster_id: String,
    #[prost(int32, tag = "2")]
    node_id: i32,
    #[prost(int64, tag = "3")]
    broker_epoch: i64,
    #[prost(uint32, tag = "4")]
    min_version: u32,
    #[prost(uint32, tag = "5")]
    max_version: u32,
    #[prost(string, tag = "6")]
    software_version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    cluster_id: String,
    #[prost(int32, tag = "2")]
    node_id: i32,
    #[prost(int64, tag = "3")]
    broker_epoch: i64,
    #[prost(uint32, tag = "4")]
    version: u32,
    #[prost(string, tag = "5")]
    software_version: String,
}

/// The field numbers of a hello with other types: a number where the cluster id belongs.
#[derive(Clone, PartialEq, prost::Message)]
struct Nonsense {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
}

fn hello(cluster_id: &str) -> HelloRequest {
    HelloRequest {
        cluster_id: cluster_id.to_owned(),
        node_id: 7,
        broker_epoch: -1,
        min_version: 1,
        max_version: 1,
        software_version: "9.9.9".to_owned(),
    }
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.expect("HTTP/2 on the Kafka port")
}

async fn call<M>(channel: &Channel, path: &'static str, message: M) -> Result<HelloReply, Status>
where
    M: prost::Message + Send + Sync + 'static,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("the connection is open");
    let codec = ProstCodec::<M, HelloReply>::default();
    let path = PathAndQuery::from_static(path);
    let reply = client.unary(Request::new(message), path, codec).await?;
    Ok(reply.into_inner())
}

/// A broker, its cluster id and its node id as Kafka clients are told them.
async fn start() -> (Broker, String, i32) {
    let broker = Broker::start_with(&[("node.id", "3")]).await;
    let mut connection = Connection::open(broker.address).await.unwrap();
    let topic = Topic {
        name: "orders",
        partitions: 1,
        configs: &[],
    };
    connection.create_topic(topic).await.unwrap();
    let metadata = connection.metadata("orders").await.unwrap();
    let cluster_id = metadata.cluster_id.expect("a broker has a cluster");
    (
        broker,
        cluster_id.to_string(),
        metadata.brokers[0].node_id.0,
    )
}

/// A Kafka client that produces all the time; it counts its records.
struct Producing {
    stop: Arc<AtomicBool>,
    task: JoinHandle<i64>,
}

impl Producing {
    async fn start(address: SocketAddr) -> Producing {
        let mut connection = Connection::open(address).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut next = 0;
            while !stopped.load(Ordering::Acquire) {
                let batch = Batch::plain(vec![Record::of("value", now_ms())]).encode();
                let answer = connection.produce("orders", 0, batch).await;
                let answer = answer.expect("the Kafka client is not disturbed");
                assert_eq!((answer.error_code, answer.base_offset), (0, next));
                next += 1;
            }
            next
        });
        Producing { stop, task }
    }

    /// Waits for one more record, and ends.
    async fn finish(self) -> i64 {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("every record got its offset")
    }
}

#[tokio::test]
async fn a_peer_is_answered_beside_kafka_clients() {
    within(TEST_SECONDS, "hello", async {
        let (broker, cluster_id, node_id) = start().await;
        assert_eq!(node_id, 3);
        let producing = Producing::start(broker.address).await;
        let channel = channel(broker.address).await;
        for _ in 0..50 {
            let reply = call(&channel, HELLO, hello(&cluster_id)).await.unwrap();
            assert_eq!((&reply.cluster_id, reply.node_id), (&cluster_id, node_id));
            assert_eq!(reply.version, 1);
            assert!(reply.broker_epoch >= 0, "it is registered");
            assert!(!reply.software_version.is_empty());
        }
        // A newer peer is answered in the version that both speak.
        let newer = HelloRequest {
            max_version: 9,
            ..hello(&cluster_id)
        };
        assert_eq!(call(&channel, HELLO, newer).await.unwrap().version, 1);
        producing.finish().await;
    })
    .await;
}

#[tokio::test]
async fn strangers_are_told_why() {
    within(TEST_SECONDS, "strangers", async {
        let (broker, cluster_id, _) = start().await;
        let producing = Producing::start(broker.address).await;
        let channel = channel(broker.address).await;
        let refused = async |request| {
            let status = call(&channel, HELLO, request)
                .await
                .expect_err("a stranger");
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
            status.message().to_owned()
        };
        let other = refused(hello("another-cluster")).await;
        assert!(
            other.contains("another-cluster") && other.contains(&cluster_id),
            "{other}"
        );
        refused(hello("")).await;
        refused(hello("\u{20ac}\n\0")).await;
        let long = refused(hello(&"x".repeat(1 << 20))).await;
        assert!(long.len() < 1000, "{} bytes", long.len());
        let too_new = HelloRequest {
            min_version: 2,
            max_version: 3,
            ..hello(&cluster_id)
        };
        let why = refused(too_new).await;
        assert!(why.contains("2 to 3") && why.contains("1 to 1"), "{why}");
        let backwards = HelloRequest {
            min_version: 5,
            max_version: 0,
            ..hello(&cluster_id)
        };
        refused(backwards).await;

        let nonsense = call(&channel, HELLO, Nonsense { cluster_id: 1 }).await;
        assert!(nonsense.is_err(), "{nonsense:?}");
        let enormous = hello(&"x".repeat(64 << 20));
        let enormous = call(&channel, HELLO, enormous).await;
        assert!(enormous.is_err(), "64 MiB were read for a hello");
        for path in [
            "/ottla.peer.v1.Peer/Nothing",
            "/other.Service/Hello",
            "/metrics",
            "/",
        ] {
            let status = call(&channel, path, hello(&cluster_id))
                .await
                .expect_err(path);
            assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
        }
        let reply = call(&channel, HELLO, hello(&cluster_id)).await;
        reply.expect("the connection survived all that");
        producing.finish().await;
    })
    .await;
}

/// What comes back on a connection until the broker closes it.
async fn send(address: SocketAddr, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // It may be closed already.
        let _ = stream.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn other_protocols_are_closed() {
    within(TEST_SECONDS, "other protocols", async {
        let (broker, cluster_id, _) = start().await;
        let producing = Producing::start(broker.address).await;
        for request in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST /ottla.peer.v1.Peer/Hello HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
        ] {
            let answer = send(broker.address, &[request.as_bytes()]).await;
            assert!(
                answer.is_empty(),
                "{request:?} was answered with {answer:?}"
            );
        }
        // Begins as HTTP/2 does, in pieces, and is not: no frame of an answer but a farewell.
        let broken: [&[u8]; 4] = [b"P", b"RI", b" * HTTP/1.1\r\n", b"host: a\r\n\r\n"];
        let answer = send(broker.address, &broken).await;
        assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");
        let channel = channel(broker.address).await;
        let reply = call(&channel, HELLO, hello(&cluster_id)).await;
        reply.expect("peers are served as before");
        producing.finish().await;
    })
    .await;
}

/// Whoever speaks HTTP/2 and makes no hello is let go.
#[tokio::test]
async fn who_makes_no_hello_is_let_go() {
    within(TEST_SECONDS, "no hello", async {
        let (broker, cluster_id, _) = start().await;
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        // Each of them returns when the broker has closed it.
        tokio::join!(
            send(broker.address, &[b"PRI "]),
            send(broker.address, &[PREFACE]),
            send(broker.address, &[PREFACE, SETTINGS]),
        );
        let channel = channel(broker.address).await;
        let reply = call(&channel, HELLO, hello(&cluster_id)).await;
        reply.expect("peers are served as before");
    })
    .await;
}

/// An open peer connection does not hold up a broker that stops.
#[tokio::test]
async fn peers_are_let_go_when_the_broker_stops() {
    within(TEST_SECONDS, "stop", async {
        let (mut broker, cluster_id, _) = start().await;
        let channel = channel(broker.address).await;
        call(&channel, HELLO, hello(&cluster_id)).await.unwrap();
        broker.terminate().await;
        let log = broker.log();
        assert!(!log.contains("did not take their answers"), "{log}");
    })
    .await;
}

/// One connection to the broker through a wire that can be cut without either end being told.
struct Wire {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    /// Ends when the broker has closed its end, or the peer its own.
    task: JoinHandle<()>,
}

impl Wire {
    async fn to(broker: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        let task = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut broker = TcpStream::connect(broker).await.unwrap();
            let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
            loop {
                tokio::select! {
                    read = peer.read(&mut up) => match read {
                        Ok(0) | Err(_) => return,
                        Ok(_) if is_cut.load(Ordering::Acquire) => {}
                        Ok(n) => broker.write_all(&up[..n]).await.unwrap(),
                    },
                    read = broker.read(&mut down) => match read {
                        Ok(0) | Err(_) => return,
                        Ok(_) if is_cut.load(Ordering::Acquire) => {}
                        Ok(n) => peer.write_all(&down[..n]).await.unwrap(),
                    },
                }
            }
        });
        Wire { address, cut, task }
    }
}

/// Pings tell a peer that has nothing to say from one that is gone without a word.
#[tokio::test]
async fn a_silent_peer_stays_and_a_lost_one_is_let_go() {
    within(TEST_SECONDS, "pings", async {
        let (broker, cluster_id, _) = start().await;
        let (silent, lost) = (
            Wire::to(broker.address).await,
            Wire::to(broker.address).await,
        );
        let (to_silent, to_lost) = (channel(silent.address).await, channel(lost.address).await);
        for channel in [&to_silent, &to_lost] {
            call(channel, HELLO, hello(&cluster_id)).await.unwrap();
        }
        lost.cut.store(true, Ordering::Release);
        lost.task.await.expect("the broker closed it");
        assert!(!silent.task.is_finished(), "it was quiet for as long");
        let reply = call(&to_silent, HELLO, hello(&cluster_id)).await;
        reply.expect("on the connection it had: the wire takes no other");
    })
    .await;
}
