//! Names of objects.

use super::{Partitioner, Template};
use crate::data::SinkRecord;
use crate::error::ConnectError;

/// Longest name of an object (Amazon S3's bound), in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// How a sink names its objects.
#[derive(Clone, Debug)]
pub enum Naming {
    Confluent {
        topics_dir: String,
        directory_delimiter: String,
        file_delimiter: String,
        pad_width: usize,
        partitioner: Partitioner,
    },
    Aiven(Template),
}

impl Naming {
    /// The output of a record: what of its objects' names does not depend on where they start.
    pub fn output(&self, record: &SinkRecord, now_ms: i64) -> Result<String, ConnectError> {
        match self {
            Naming::Confluent { partitioner, .. } => partitioner.encode(record, now_ms),
            Naming::Aiven(template) => template.output(record, now_ms),
        }
    }

    /// Whether a record always has the same output. If not, a plan must keep it.
    pub fn is_stable(&self) -> bool {
        match self {
            Naming::Confluent { partitioner, .. } => partitioner.is_stable(),
            Naming::Aiven(template) => template.is_stable(),
        }
    }

    /// The name of the output's object whose first record has this offset. The extension has its dots.
    pub fn object(
        &self,
        topic: &str,
        partition: i32,
        output: &str,
        start_offset: i64,
        extension: &str,
    ) -> Result<String, ConnectError> {
        let key = match self {
            Naming::Confluent {
                topics_dir,
                directory_delimiter,
                file_delimiter,
                pad_width,
                ..
            } => {
                let file = object_key(topic, partition, start_offset, file_delimiter, *pad_width);
                let parts = [topics_dir.as_str(), topic, output, &file];
                let parts: Vec<_> = parts.into_iter().filter(|p| !p.is_empty()).collect();
                parts.join(directory_delimiter) + extension
            }
            Naming::Aiven(template) => template.name(output, start_offset) + extension,
        };
        check(key)
    }
}

/// `<topic>+<partition>+<start offset>`
pub fn object_key(topic: &str, partition: i32, start: i64, delimiter: &str, pad: usize) -> String {
    format!("{topic}{delimiter}{partition}{delimiter}{start:0pad$}")
}

/// Values of fields make names, so a record can ask for one that no store takes.
fn check(key: String) -> Result<String, ConnectError> {
    if key.len() > MAX_KEY_BYTES {
        let message = format!(
            "The object's name has {} bytes, more than {MAX_KEY_BYTES}",
            key.len()
        );
        return Err(ConnectError::data(message));
    }
    let bad = key.split('/').any(|part| part == "." || part == "..");
    if bad || key.chars().any(char::is_control) {
        let message =
            format!("The object's name {key:?} has a part . or .., or a control character");
        return Err(ConnectError::data(message));
    }
    Ok(key)
}
