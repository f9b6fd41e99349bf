//! The time of a record that decides about its path.

use crate::data::{SinkRecord, Value};
use crate::error::ConnectError;
use crate::time::{Zone, parse_iso};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampExtractor {
    /// When the record is processed. What is processed again gets another time: a plan must keep it.
    Wallclock,
    /// The record's own time.
    Record,
    /// A field of the value, with dots for fields in fields: a Timestamp, milliseconds, or ISO 8601 text.
    RecordField(String),
}

impl TimestampExtractor {
    /// Whether the same record always has the same time.
    pub fn is_stable(&self) -> bool {
        *self != TimestampExtractor::Wallclock
    }

    pub fn extract(&self, record: &SinkRecord, now_ms: i64) -> Result<i64, ConnectError> {
        match self {
            TimestampExtractor::Wallclock => Ok(now_ms),
            TimestampExtractor::Record => record
                .timestamp
                .ok_or_else(|| ConnectError::data("The record has no timestamp")),
            TimestampExtractor::RecordField(path) => {
                let value = field(&record.value.value, path)?;
                time(value).ok_or_else(|| {
                    let kind = value.type_name();
                    ConnectError::data(format!(
                        "Error extracting timestamp from record field: {path} of type {kind}"
                    ))
                })
            }
        }
    }
}

/// A field of a struct or map, by its path. A name with dots of its own is found too.
pub(super) fn field<'a>(value: &'a Value, path: &str) -> Result<&'a Value, ConnectError> {
    let missing = || ConnectError::data(format!("The field named '{path}' does not exist."));
    let get = |value: &'a Value, name: &str| match value {
        Value::Struct(value) => value.get_or_default(name),
        Value::Map(map) => map.get(name),
        _ => None,
    };
    if let Some(found) = get(value, path) {
        return Ok(found);
    }
    let mut found = value;
    for name in path.split('.') {
        found = get(found, name).ok_or_else(missing)?;
    }
    Ok(found)
}

fn time(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(ms) => Some(*ms),
        Value::Date(days) => Some(i64::from(*days) * super::DAY_MS),
        Value::Int32(_) | Value::Int64(_) => value.as_i64(),
        // JSON without a schema writes large numbers with an exponent at times.
        Value::Float64(ms) if ms.fract() == 0.0 && ms.abs() < 9e15 => Some(*ms as i64),
        Value::String(text) => parse_iso(text, Zone::UTC),
        _ => None,
    }
}
