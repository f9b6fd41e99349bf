//! Dead letters: the record as it was consumed, with headers that say what failed.

use bytes::Bytes;

use super::{ErrorHandler, Failure};
use crate::data::RawHeader;

pub const HEADER_PREFIX: &str = "__connect.errors.";

/// A record for the dead letter topic. The partition is left to the producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: String,
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RawHeader>,
}

impl ErrorHandler {
    /// The dead letter of a failure, if the connector has a topic for them. All headers are text; where the
    /// record has one of the same name already, that one stays, as in Kafka Connect: what failed before
    /// it was replayed is the older truth.
    pub fn dead_letter(&self, failure: &Failure) -> Option<DeadLetter> {
        let record = &failure.record;
        let mut letter = DeadLetter {
            topic: self.policy.dead_letter_topic.clone()?,
            timestamp: record.timestamp,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        if self.policy.dead_letter_headers {
            let error = &failure.error;
            letter.add("topic", record.topic.to_string());
            letter.add("partition", record.partition.to_string());
            letter.add("offset", record.offset.to_string());
            letter.add("connector.name", self.connector.clone());
            letter.add("task.id", self.task.to_string());
            letter.add("stage", failure.stage.name().to_owned());
            letter.add("class.name", failure.class.clone());
            letter.add("exception.class.name", error.kind.class_name().to_owned());
            letter.add("exception.message", error.message.clone());
            letter.add("exception.stacktrace", error.trace());
        }
        Some(letter)
    }
}

impl DeadLetter {
    fn add(&mut self, name: &str, value: String) {
        let key = format!("{HEADER_PREFIX}{name}");
        if !self.headers.iter().any(|h| h.key == key) {
            self.headers.push(RawHeader {
                key,
                value: Some(value.into()),
            });
        }
    }
}
