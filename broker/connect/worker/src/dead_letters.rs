//! Dead letters, sent and waited for: a record that is skipped is in the dead letter topic first.

use std::time::Duration;

use ottla_connect::error::ConnectError;
use ottla_connect::errors::DeadLetter;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::runtime::Handle;

/// A dead letter that is not acknowledged by then has failed.
const SEND_WAIT: Duration = Duration::from_secs(120);

pub struct DeadLetters {
    producer: FutureProducer,
    runtime: Handle,
}

impl DeadLetters {
    /// Makes the topic if it is missing, with one partition as Kafka Connect does.
    pub fn start(
        mut producer: ClientConfig,
        admin: &ClientConfig,
        topic: &str,
        replication: i16,
        runtime: Handle,
    ) -> Result<DeadLetters, ConnectError> {
        let wrong = |e: KafkaError| ConnectError::config(format!("dead letters: {e}"));
        let admin: AdminClient<DefaultClientContext> = admin.create().map_err(wrong)?;
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(replication.into()));
        let made = runtime.block_on(admin.create_topics([&new], &AdminOptions::new()));
        for result in made.map_err(wrong)? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(ConnectError::config(format!(
                        "dead letter topic {topic}: {code}"
                    )));
                }
            }
        }
        producer
            .set("acks", "all")
            .set("enable.idempotence", "true");
        let producer = producer.create().map_err(wrong)?;
        Ok(DeadLetters { producer, runtime })
    }

    /// Returns when the brokers have it.
    pub fn send(&self, letter: &DeadLetter) -> Result<(), ConnectError> {
        let mut headers = OwnedHeaders::new_with_capacity(letter.headers.len());
        for header in &letter.headers {
            headers = headers.insert(Header {
                key: &header.key,
                value: header.value.as_deref(),
            });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(&letter.topic).headers(headers);
        record.key = letter.key.as_deref();
        record.payload = letter.value.as_deref();
        record.timestamp = letter.timestamp;
        let sent = self.runtime.block_on(self.producer.send(record, SEND_WAIT));
        sent.map(|_| ()).map_err(|(error, _)| {
            ConnectError::retriable(format!("dead letter topic {}: {error}", letter.topic))
        })
    }
}
