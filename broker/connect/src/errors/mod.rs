//! What happens to records that fail (KIP-298, KIP-610): tried again, skipped with a dead letter, or the end
//! of the task. Decisions are values; time and chance are arguments.

mod dead_letter;
mod pipeline;
mod retry;

use std::sync::Arc;

pub use dead_letter::{DeadLetter, HEADER_PREFIX};
pub use pipeline::Pipeline;
pub use retry::Attempts;

use crate::config::Settings;
use crate::data::RawRecord;
use crate::error::{ConnectError, ErrorKind};

/// Where in a task something failed, as Kafka Connect names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    TaskPut,
    Transformation,
    KeyConverter,
    ValueConverter,
    HeaderConverter,
    KafkaProduce,
    KafkaConsume,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::TaskPut => "TASK_PUT",
            Stage::Transformation => "TRANSFORMATION",
            Stage::KeyConverter => "KEY_CONVERTER",
            Stage::ValueConverter => "VALUE_CONVERTER",
            Stage::HeaderConverter => "HEADER_CONVERTER",
            Stage::KafkaProduce => "KAFKA_PRODUCE",
            Stage::KafkaConsume => "KAFKA_CONSUME",
        }
    }

    /// Whether a failure is of the record alone, so that skipping the record helps. The stage of the
    /// sink is so where the sink reports the record (KIP-610).
    fn is_of_the_record(self) -> bool {
        !matches!(self, Stage::KafkaProduce | Stage::KafkaConsume)
    }
}

/// The class that dead letters name where a sink refused a record.
pub const SINK_TASK_CLASS: &str = "org.apache.kafka.connect.sink.SinkTask";

/// A record that failed, where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    pub class: String,
    pub error: ConnectError,
    pub record: Arc<RawRecord>,
}

/// The `errors.*` keys of a connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPolicy {
    /// `errors.tolerance=all`
    pub tolerate: bool,
    /// -1 is forever.
    pub retry_timeout_ms: i64,
    pub retry_delay_max_ms: i64,
    pub log: bool,
    pub log_records: bool,
    pub dead_letter_topic: Option<String>,
    pub dead_letter_replication_factor: i16,
    pub dead_letter_headers: bool,
}

impl ErrorPolicy {
    /// From the values of [`crate::config::tables::CONNECTOR`].
    pub fn of(settings: &Settings) -> ErrorPolicy {
        let topic = settings.required_text("errors.deadletterqueue.topic.name");
        let factor = settings.long("errors.deadletterqueue.topic.replication.factor");
        ErrorPolicy {
            tolerate: settings.required_text("errors.tolerance") == "all",
            retry_timeout_ms: settings.long("errors.retry.timeout"),
            retry_delay_max_ms: settings.long("errors.retry.delay.max.ms"),
            log: settings.boolean("errors.log.enable"),
            log_records: settings.boolean("errors.log.include.messages"),
            dead_letter_topic: (!topic.is_empty()).then(|| topic.to_owned()),
            dead_letter_replication_factor: factor as i16,
            dead_letter_headers: settings.boolean("errors.deadletterqueue.context.headers.enable"),
        }
    }
}

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try the same again after this many milliseconds.
    Retry { after_ms: i64 },
    /// Go on without the record, once the dead letter is acknowledged.
    Skip {
        dead_letter: Option<DeadLetter>,
        log: Option<String>,
    },
    /// The task has failed. There is no dead letter: the record is not lost, it will be read again.
    Fail { error: ConnectError, log: String },
}

/// Decides for one task.
#[derive(Clone, Debug)]
pub struct ErrorHandler {
    pub policy: ErrorPolicy,
    pub connector: String,
    pub task: u32,
}

impl ErrorHandler {
    /// `attempts` are those of the operation that failed; `chance` is a random number in 0..1.
    pub fn decide(
        &self,
        failure: &Failure,
        attempts: &mut Attempts,
        now_ms: i64,
        chance: f64,
    ) -> Decision {
        let retriable = failure.error.kind == ErrorKind::Retriable;
        if retriable && let Some(after_ms) = attempts.next_delay_ms(&self.policy, now_ms, chance) {
            return Decision::Retry { after_ms };
        }
        let unhandled = !failure.stage.is_of_the_record() && !retriable;
        if unhandled || !self.policy.tolerate {
            let why = if unhandled {
                "Unhandled exception in error handler"
            } else {
                "Tolerance exceeded in error handler"
            };
            let error = ConnectError::new(ErrorKind::Connect, why).because(failure.error.clone());
            return Decision::Fail {
                error,
                log: self.log_line(failure),
            };
        }
        Decision::Skip {
            dead_letter: self.dead_letter(failure),
            log: self.policy.log.then(|| self.log_line(failure)),
        }
    }

    /// As Kafka Connect's `LogReporter` writes it. The record is named, not shown; but an error's message may
    /// quote the value that it is about, as Kafka Connect's do.
    pub fn log_line(&self, failure: &Failure) -> String {
        let (stage, class) = (failure.stage.name(), &failure.class);
        let mut line = format!(
            "Error encountered in task {}-{}. Executing stage '{stage}' with class '{class}'",
            self.connector, self.task
        );
        if self.policy.log_records {
            let record = &failure.record;
            line += &format!(
                ", where consumed record is {{topic='{}', partition={}, offset={}",
                record.topic, record.partition, record.offset
            );
            if let Some(timestamp) = record.timestamp {
                let kind = record.timestamp_type.name();
                line += &format!(", timestamp={timestamp}, timestampType={kind}");
            }
            line.push('}');
        }
        line + ". " + failure.error.trace().trim_end()
    }
}

#[cfg(test)]
mod tests;
