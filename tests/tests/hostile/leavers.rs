//! Clients that leave while something is owed to them.

use kafka_protocol::messages::ProduceRequest;
use ottla_tests::batch::Batch;
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, FetchAsk, PRODUCE, Topic, frame, produce_request};
use ottla_tests::within;

use crate::attack;
use crate::crowds::{open_files, wait_until_closed};
use crate::hoards::endless_fetch;

const LEAVERS: usize = 400;
const LEAVERS_BYTES: u64 = 64 << 20;
const PIPED: i64 = 100;

async fn prepare(broker: &Broker) -> Connection {
    let mut connection = Connection::open(broker.address)
        .await
        .expect("the broker accepts");
    let topic = Topic {
        name: "left",
        partitions: 1,
        configs: &[],
    };
    connection
        .create_topic(topic)
        .await
        .expect("a topic can be made");
    connection
}

/// Long polls of clients that are gone end, also where more was sent than the broker reads ahead.
#[tokio::test(flavor = "multi_thread")]
async fn long_polls_left_behind() {
    attack("leavers", LEAVERS_BYTES, &[], |broker, _| async move {
        prepare(&broker).await;
        let files_before = open_files(&broker);
        let mut leavers = Vec::new();
        for n in 0..LEAVERS {
            let mut connection = Connection::open(broker.address)
                .await
                .expect("the broker accepts");
            let polls = endless_fetch("left").repeat(1 + n % 100);
            connection.write(&polls).await.expect("fetches are taken");
            leavers.push(connection);
        }
        drop(leavers);
        wait_until_closed(&broker, files_before).await;
        broker
    })
    .await;
}

/// What was sent before the end counts: without answers, and with answers that are still read.
#[tokio::test(flavor = "multi_thread")]
async fn produce_and_close() {
    within(60, "produce and close", async {
        let broker = Broker::start().await;
        let mut reader = prepare(&broker).await;
        let records = |acks| {
            let batch = Batch::filled(1, 100).encode();
            let request = produce_request("left", 0, acks, batch);
            frame(PRODUCE, 7, &request).expect("the request can be written")
        };
        let open = || async {
            Connection::open(broker.address)
                .await
                .expect("the broker accepts")
        };
        let mut silent = open().await;
        let all = records(0).repeat(PIPED as usize);
        silent.write(&all).await.expect("the broker takes it");
        drop(silent);
        let mut half = open().await;
        let poll_first = [endless_fetch("left"), records(-1)].concat();
        half.write(&poll_first).await.expect("the broker takes it");
        half.close_half().await.expect("an open socket closes");
        half.read_frame().await.expect("the long poll ends");
        let answer = half.receive::<ProduceRequest>(PRODUCE, 7).await;
        answer.expect("Produce is answered");
        half.wait_until_closed().await.expect("and that is all");
        let complete = async {
            let last = FetchAsk {
                min_bytes: 1,
                max_wait_ms: 10_000,
                ..FetchAsk::of("left", 0, PIPED)
            };
            while reader
                .fetch(last.clone())
                .await
                .expect("answered")
                .high_watermark
                <= PIPED
            {}
        };
        complete.await;
    })
    .await;
}
