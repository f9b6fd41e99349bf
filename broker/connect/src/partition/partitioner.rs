//! Confluent's partitioners.

use super::TimestampExtractor;
use super::extractor::field;
use crate::data::{SinkRecord, Value};
use crate::error::ConnectError;
use crate::time::{Pattern, Zone};

#[derive(Clone, Debug)]
pub enum Partitioner {
    /// `partition=3`
    Default,
    /// `country=fr/city=paris`
    Field {
        fields: Vec<String>,
        delimiter: String,
    },
    /// `year=2026/month=11`, by the slice of time that the record's time lies in.
    TimeBased {
        pattern: Pattern,
        duration_ms: i64,
        zone: Zone,
        extractor: TimestampExtractor,
    },
}

impl Partitioner {
    /// Whether a record always gets the same path.
    pub fn is_stable(&self) -> bool {
        match self {
            Partitioner::TimeBased { extractor, .. } => extractor.is_stable(),
            _ => true,
        }
    }

    /// The encoded partition of a record.
    pub fn encode(&self, record: &SinkRecord, now_ms: i64) -> Result<String, ConnectError> {
        match self {
            Partitioner::Default => Ok(format!("partition={}", record.partition)),
            Partitioner::Field { fields, delimiter } => {
                let mut path = String::new();
                for (i, name) in fields.iter().enumerate() {
                    if i > 0 {
                        path.push_str(delimiter);
                    }
                    let value = field(&record.value.value, name)?;
                    path.push_str(name);
                    path.push('=');
                    path.push_str(&part(name, value)?);
                }
                Ok(path)
            }
            Partitioner::TimeBased {
                pattern,
                duration_ms,
                zone,
                extractor,
            } => {
                let time = extractor.extract(record, now_ms)?;
                let path = zone
                    .slice_start(time, *duration_ms)
                    .and_then(|start| pattern.format(start, *zone));
                path.ok_or_else(|| {
                    ConnectError::data(format!("The time {time} ms is out of range"))
                })
            }
        }
    }
}

/// Integers, booleans and texts make paths; so do dates, by their ISO text.
fn part(name: &str, value: &Value) -> Result<String, ConnectError> {
    let text = match value {
        Value::String(_)
        | Value::Boolean(_)
        | Value::Date(_)
        | Value::Time(_)
        | Value::Timestamp(_) => value.to_text(),
        other => other.as_i64().map(|v| v.to_string()),
    };
    text.ok_or_else(|| {
        let kind = value.type_name();
        ConnectError::data(format!(
            "Error encoding partition: field {name} of type {kind} makes no path"
        ))
    })
}
