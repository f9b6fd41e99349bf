//! A full disk of small batches, which lie in sorted files: what is deleted comes back although it is
//! little of the whole.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic, produce_request};
use ottla_tests::disk::SmallDisk;
use ottla_tests::within;

use crate::support::{broker_on, connect, is_storage_error, until};

const MB: u64 = 1 << 20;
const DISK_BYTES: u64 = 1024 * MB;
/// Room for one compaction. A quarter of it must come back before records are taken again.
const RESERVE_BYTES: &str = "209715200";
const PARTITIONS: i32 = 500;
/// Far below the size from which on batches lie in blob files.
const VALUE_BYTES: usize = 300;
/// About 80 MB.
const DELETED_REQUESTS: usize = 400;
const REFUSALS: usize = 100;

fn batch() -> Bytes {
    Batch::plain(vec![Record::of(vec![b'x'; VALUE_BYTES], now_ms())]).encode()
}

/// One small batch for each partition; false if one was refused.
async fn produce(connection: &mut Connection, topic: &str, batch: &Bytes) -> bool {
    let mut request = produce_request(topic, 0, -1, batch.clone());
    let data = |index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(batch.clone()))
    };
    request.topic_data[0].partition_data = (0..PARTITIONS).map(data).collect();
    let answer = connection.call(9, &request).await.expect("it is answered");
    let answers = &answer.responses[0].partition_responses;
    assert_eq!(answers.len(), PARTITIONS as usize);
    let codes = || answers.iter().map(|p| p.error_code);
    assert!(codes().all(|code| code == 0 || is_storage_error(code)));
    codes().all(|code| code == 0)
}

async fn make_topic(broker: &Broker, name: &str) {
    let topic = Topic {
        name,
        partitions: PARTITIONS,
        configs: &[],
    };
    let mut connection = connect(broker).await;
    connection.create_topic(topic).await.expect("a topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_small_batches_gives_a_full_disk_space() {
    let Some(small) = SmallDisk::mount(DISK_BYTES) else {
        return;
    };
    within(400, "small batches", async {
        let (mut broker, _disk, _) = broker_on(&[
            ("ottla.disk.reserve.bytes", RESERVE_BYTES),
            ("ottla.memory.bytes", "268435456"),
        ]);
        broker.set_data(small.path().join("data"));
        broker.restart().await;
        for topic in ["goes", "stays"] {
            make_topic(&broker, topic).await;
        }
        let mut connection = connect(&broker).await;
        let batch = batch();
        for _ in 0..DELETED_REQUESTS {
            assert!(produce(&mut connection, "goes", &batch).await);
        }
        // Until it is full for good: while memtables are flushed, there may be room again.
        let (mut kept, mut refused) = (0, 0);
        while refused < REFUSALS {
            match produce(&mut connection, "stays", &batch).await {
                true => (kept, refused) = (kept + 1, 0),
                false => {
                    refused += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
        println!("{kept} requests stay, {DELETED_REQUESTS} go");
        assert!(
            kept > 3 * DELETED_REQUESTS,
            "so much goes that it would come back anyhow"
        );
        connection
            .delete_topic("goes")
            .await
            .expect("deletes go on");
        until("records are taken again", || async {
            let mut connection = connect(&broker).await;
            produce(&mut connection, "stays", &batch).await
        })
        .await;
        broker.terminate().await;
    })
    .await;
}
