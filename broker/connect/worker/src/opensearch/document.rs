//! What becomes of a record: a line or two of a bulk request.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use ottla_connect::converter::json_pieces;
use ottla_connect::data::{SchemaRef, SinkRecord, Value};
use ottla_connect::error::ConnectError;
use ottla_connect::partition::IndexName;

use super::json;

/// OpenSearch's own bound.
const ID_BYTES_MAX: usize = 512;
const INDEX_BYTES_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdStrategy {
    /// The server makes it: a replay makes another document.
    None,
    RecordKey,
    TopicPartitionOffset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNull {
    Ignore,
    Delete,
    Fail,
}

/// From where a data stream's `@timestamp` comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamTime {
    /// The first of these fields that is there, else the record's time.
    FirstOf(Vec<String>),
    /// This field; the record's time where it is missing.
    Field(String),
}

impl StreamTime {
    pub fn field(&self) -> &str {
        match self {
            StreamTime::FirstOf(_) => "@timestamp",
            StreamTime::Field(name) => name,
        }
    }
}

/// How a topic's index is called.
#[derive(Clone, Debug)]
pub struct Indexes {
    /// `index.name`
    pub name: Option<IndexName>,
    /// Topics with an index, data stream or alias of another name.
    pub of_topics: HashMap<String, String>,
    /// Before and after what the topic says.
    pub prefix: String,
    pub suffix: String,
    /// Stands in the topic's place.
    pub fixed: Option<String>,
}

impl Indexes {
    pub fn index(&self, topic: &str, time_ms: Option<i64>) -> Result<String, ConnectError> {
        if let Some(found) = self.of_topics.get(topic) {
            return Ok(found.clone());
        }
        if let Some(name) = &self.name {
            let name = name.index(topic, time_ms);
            return name.map_err(|e| ConnectError::data(format!("index.name: {e}")));
        }
        let middle = match &self.fixed {
            Some(text) => text.replace("${topic}", topic),
            None => topic.to_owned(),
        };
        let (prefix, suffix) = (&self.prefix, &self.suffix);
        Ok(format!("{prefix}{}{suffix}", index_of(&middle)))
    }
}

/// A topic's name as an index's, by the rules of Aiven's sink: names of topics are ASCII.
fn index_of(topic: &str) -> String {
    let mut name = topic.to_lowercase();
    name.truncate(INDEX_BYTES_MAX);
    let name = name.replace(':', "_");
    let name = name.strip_prefix(['-', '_', '+']).unwrap_or(&name);
    match name {
        "." => "dot".into(),
        ".." => "dotdot".into(),
        name => name.to_owned(),
    }
}

/// How records become documents.
#[derive(Clone, Debug)]
pub struct Documents {
    pub indexes: Indexes,
    pub ignored_key: IdStrategy,
    pub key_ignore: bool,
    pub topic_key_ignore: HashSet<String>,
    pub on_null: OnNull,
    pub upsert: bool,
    pub data_stream: Option<StreamTime>,
    pub compact_maps: bool,
    /// `external.version.header`
    pub version_header: Option<String>,
    pub schema_ignore: bool,
    pub topic_schema_ignore: HashSet<String>,
}

/// A document on its way.
#[derive(Debug, PartialEq)]
pub struct Action {
    pub index: String,
    pub id: Option<String>,
    /// Makes the index's mapping.
    pub schema: Option<SchemaRef>,
}

impl Documents {
    fn strategy(&self, topic: &str) -> IdStrategy {
        if self.key_ignore || self.topic_key_ignore.contains(topic) {
            self.ignored_key
        } else {
            IdStrategy::RecordKey
        }
    }

    /// Writes the record's lines. `None` if it makes none.
    pub fn write(
        &self,
        record: &SinkRecord,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, ConnectError> {
        let strategy = self.strategy(&record.topic);
        let delete = record.value.value.is_null();
        if delete {
            match self.on_null {
                OnNull::Ignore => return Ok(None),
                // No document has such an id.
                OnNull::Delete
                    if strategy != IdStrategy::RecordKey || record.key.value.is_null() =>
                {
                    return Ok(None);
                }
                OnNull::Delete => {}
                OnNull::Fail => {
                    return Err(ConnectError::data(
                        "the value is null (behavior.on.null.values is fail)",
                    ));
                }
            }
        }
        let id = id(strategy, record)?;
        let index = self.indexes.index(&record.topic, record.timestamp)?;
        // Without an id of ours there is nothing that a version could be of, and updates count their own:
        // there the order of requests decides, also of deletes.
        let versioned = id.is_some() && self.data_stream.is_none() && !self.upsert;
        let version = match versioned {
            true => Some(self.version(record)?),
            false => None,
        };
        let kind = match (delete, self.upsert, &self.data_stream) {
            (true, ..) => "delete",
            (_, true, _) => "update",
            (.., Some(_)) => "create",
            _ => "index",
        };
        write!(out, "{{\"{kind}\":{{\"_index\":").expect("a Vec takes all");
        json_pieces::text(&index, out);
        if let Some(id) = &id {
            out.extend_from_slice(b",\"_id\":");
            json_pieces::text(id, out);
        }
        if let Some(version) = version {
            write!(out, ",\"version\":{version},\"version_type\":\"external\"")
                .expect("a Vec takes all");
        }
        if kind == "update" {
            out.extend_from_slice(b",\"retry_on_conflict\":3");
        }
        out.extend_from_slice(b"}}\n");
        if !delete {
            self.document(record, out)?;
        }
        let ignored = self.schema_ignore || self.topic_schema_ignore.contains(&*record.topic);
        let schema = record.value.schema.clone();
        Ok(Some(Action {
            index,
            id,
            schema: schema.filter(|_| !ignored && !delete),
        }))
    }

    fn document(&self, record: &SinkRecord, out: &mut Vec<u8>) -> Result<(), ConnectError> {
        if self.upsert {
            out.extend_from_slice(b"{\"doc\":");
        }
        let value = &record.value.value;
        let start = out.len();
        match value {
            // Without a schema nothing tells a map from an object.
            Value::Map(_) if record.value.schema.is_none() => json::write(value, true, out)?,
            Value::Map(_) | Value::Struct(_) => json::write(value, self.compact_maps, out)?,
            // Text or bytes may hold a document. A line feed would end its line, so it is written anew.
            Value::String(text) => object(text.as_bytes(), out)?,
            Value::Bytes(bytes) => object(bytes, out)?,
            other => {
                return Err(ConnectError::data(format!(
                    "a document must be an object, not {}",
                    other.type_name()
                )));
            }
        }
        if out.get(start) != Some(&b'{') {
            return Err(ConnectError::data(
                "a document must be an object: compact.map.entries=false makes a list of a map",
            ));
        }
        if let Some(time) = &self.data_stream {
            self.stamp(time, record, start, out)?;
        }
        if self.upsert {
            out.extend_from_slice(b",\"doc_as_upsert\":true}");
        }
        out.push(b'\n');
        Ok(())
    }

    /// Puts the time that a data stream needs at the document's beginning.
    fn stamp(
        &self,
        time: &StreamTime,
        record: &SinkRecord,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ConnectError> {
        let value = &record.value.value;
        let field = |name: &str| match value {
            Value::Map(map) => map.get(name).filter(|v| !v.is_null()),
            Value::Struct(fields) => fields.get_or_default(name).filter(|v| !v.is_null()),
            _ => None,
        };
        let taken = match time {
            StreamTime::Field(name) if field(name).is_some() => return Ok(()),
            StreamTime::Field(_) => None,
            StreamTime::FirstOf(names) => {
                let found = names.iter().find_map(|n| field(n).map(|v| (n.as_str(), v)));
                match found {
                    Some(("@timestamp", _)) => return Ok(()),
                    found => found.map(|(_, value)| value),
                }
            }
        };
        let mut stamp = Vec::from(&b"{"[..]);
        json_pieces::text(time.field(), &mut stamp);
        stamp.push(b':');
        match (taken, record.timestamp) {
            (Some(value), _) => json::write(value, true, &mut stamp)?,
            (None, Some(ms)) => write!(stamp, "{ms}").expect("a Vec takes all"),
            (None, None) => {
                return Err(ConnectError::data(
                    "the record has no time, which a data stream needs",
                ));
            }
        }
        if out[start + 1] != b'}' {
            stamp.push(b',');
        }
        out.splice(start..=start, stamp);
        Ok(())
    }

    fn version(&self, record: &SinkRecord) -> Result<i64, ConnectError> {
        let Some(name) = &self.version_header else {
            return Ok(record.offset);
        };
        let header = record.header(name).ok_or_else(|| {
            ConnectError::data(format!("there is no header {name}, which has the version"))
        })?;
        let value = &header.value.value;
        let parsed = value
            .as_i64()
            .or_else(|| value.to_text().and_then(|t| t.trim().parse().ok()));
        let wrong = || ConnectError::data(format!("header {name} is no version from 0 on"));
        parsed.filter(|v| *v >= 0).ok_or_else(wrong)
    }
}

/// Copies a document, compact.
fn object(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ConnectError> {
    let wrong = |e: &dyn std::fmt::Display| {
        ConnectError::data(format!("a document must be an object: {e}"))
    };
    let parsed: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| wrong(&e))?;
    if !parsed.is_object() {
        return Err(wrong(&"it is another JSON value"));
    }
    serde_json::to_writer(out, &parsed).map_err(|e| wrong(&e))
}

fn id(strategy: IdStrategy, record: &SinkRecord) -> Result<Option<String>, ConnectError> {
    let id = match strategy {
        IdStrategy::None => return Ok(None),
        IdStrategy::TopicPartitionOffset => {
            format!("{}+{}+{}", record.topic, record.partition, record.offset)
        }
        IdStrategy::RecordKey => match &record.key.value {
            Value::Null => {
                return Err(ConnectError::data(
                    "the key is null, and it is the document's id (key.ignore is false)",
                ));
            }
            Value::String(text) => text.clone(),
            key => match key.as_i64() {
                Some(number) => number.to_string(),
                None => {
                    return Err(ConnectError::data(format!(
                        "{} cannot be a document's id: text and integers can",
                        key.type_name()
                    )));
                }
            },
        },
    };
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(ConnectError::data(format!(
            "a document's id has 1 to {ID_BYTES_MAX} bytes, not {}",
            id.len()
        )));
    }
    Ok(Some(id))
}

#[cfg(test)]
mod tests;
