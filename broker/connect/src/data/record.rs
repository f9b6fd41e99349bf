//! Records on their way to a sink.

use std::sync::Arc;

use bytes::Bytes;

use super::{SchemaRef, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    NoTimestamp,
    CreateTime,
    LogAppendTime,
}

impl TimestampType {
    /// As Kafka names it.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::NoTimestamp => "NoTimestampType",
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawHeader {
    pub key: String,
    pub value: Option<Bytes>,
}

/// A record as it was consumed. It stays with the record through every transform, so that a dead
/// letter carries the bytes that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; `None` if the record has none.
    pub timestamp: Option<i64>,
    pub timestamp_type: TimestampType,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RawHeader>,
}

impl RawRecord {
    /// Bytes of key, value and headers: what a memory budget counts.
    pub fn size_bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|h| h.key.len() + h.value.as_ref().map_or(0, Bytes::len))
            .sum();
        headers
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A value, and the schema that describes it if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaAndValue {
    pub schema: Option<SchemaRef>,
    pub value: Value,
}

impl SchemaAndValue {
    pub const NULL: SchemaAndValue = SchemaAndValue {
        schema: None,
        value: Value::Null,
    };

    pub fn schemaless(value: Value) -> SchemaAndValue {
        SchemaAndValue {
            schema: None,
            value,
        }
    }

    pub fn new(schema: impl Into<SchemaRef>, value: Value) -> SchemaAndValue {
        SchemaAndValue {
            schema: Some(schema.into()),
            value,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub key: String,
    pub value: SchemaAndValue,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SinkRecord {
    /// Transforms may have changed it; [`RawRecord::topic`] is where the record lies.
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub timestamp_type: TimestampType,
    pub key: SchemaAndValue,
    pub value: SchemaAndValue,
    pub headers: Vec<Header>,
    pub original: Arc<RawRecord>,
}

impl SinkRecord {
    /// The record with converted key, value and headers.
    pub fn new(
        original: Arc<RawRecord>,
        key: SchemaAndValue,
        value: SchemaAndValue,
        headers: Vec<Header>,
    ) -> SinkRecord {
        SinkRecord {
            topic: original.topic.clone(),
            partition: original.partition,
            offset: original.offset,
            timestamp: original.timestamp,
            timestamp_type: original.timestamp_type,
            key,
            value,
            headers,
            original,
        }
    }

    /// The last header of this name, which is the one that counts.
    pub fn header(&self, key: &str) -> Option<&Header> {
        self.headers.iter().rev().find(|h| h.key == key)
    }
}
