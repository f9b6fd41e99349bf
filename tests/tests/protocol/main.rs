//! Exact behaviours of the broker over the raw protocol. Each test has a broker of its own; with
//! `OTTLA_REFERENCE=host:port` those that need no restart ask Apache Kafka instead.

mod compacted;
mod fetch;
mod idempotence;
mod offsets;
mod produce;
mod producers;
mod retention;
mod startup;
mod topics;
mod versions;

use bytes::Bytes;
use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::{Broker, is_reference};
use ottla_tests::client::{Connection, Topic};
use uuid::Uuid;

/// No test here takes a tenth of this.
const TEST_SECONDS: u64 = 120;

/// A broker, a connection to it, and a topic that is new even on a broker that is not.
struct Bench {
    broker: Broker,
    connection: Connection,
    topic: String,
    topic_id: Uuid,
}

impl Bench {
    async fn start() -> Bench {
        Bench::with_topic(1, &[]).await
    }

    async fn with_topic(partitions: i32, configs: &[(&str, &str)]) -> Bench {
        Bench::on(Broker::start().await, partitions, configs).await
    }

    /// A broker that may be killed and restarted.
    async fn restartable() -> Bench {
        Bench::on(Broker::start_with(&[]).await, 1, &[]).await
    }

    async fn on(broker: Broker, partitions: i32, configs: &[(&str, &str)]) -> Bench {
        let mut connection = Connection::open(broker.address)
            .await
            .expect("the broker is up");
        let (topic, topic_id) = new_topic(&mut connection, partitions, configs).await;
        Bench {
            broker,
            connection,
            topic,
            topic_id,
        }
    }

    /// A second client.
    async fn connect(&self) -> Connection {
        Connection::open(self.broker.address)
            .await
            .expect("the broker is up")
    }

    /// Appends to partition 0, and returns the base offset.
    async fn append(&mut self, batch: &Batch) -> i64 {
        self.append_bytes(batch.encode()).await
    }

    async fn append_bytes(&mut self, batch: Bytes) -> i64 {
        let answer = self
            .connection
            .produce(&self.topic, 0, batch)
            .await
            .expect("Produce is answered");
        assert_eq!(answer.error_code, 0, "{answer:?}");
        answer.base_offset
    }

    /// Waits for the broker to be up again after it was restarted, with a new connection.
    async fn reconnect(&mut self) {
        self.connection = self.connect().await;
    }
}

async fn new_topic(
    connection: &mut Connection,
    partitions: i32,
    configs: &[(&str, &str)],
) -> (String, Uuid) {
    let name = format!("topic-{}", Uuid::new_v4());
    let id = connection
        .create_topic(Topic {
            name: &name,
            partitions,
            configs,
        })
        .await
        .expect("a topic can be made");
    if is_reference() {
        wait_until_led(connection, &name, partitions).await;
    }
    (name, id)
}

/// Apache Kafka answers CreateTopics before its partitions are led; Ottla afterwards.
async fn wait_until_led(connection: &mut Connection, topic: &str, partitions: i32) {
    for partition in 0..partitions {
        while connection
            .list_offset(topic, partition, -1)
            .await
            .expect("ListOffsets is answered")
            .error_code
            != 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

/// `count` small records stamped now.
fn small(count: usize) -> Batch {
    Batch::plain(vec![Record::of("value", now_ms()); count])
}
