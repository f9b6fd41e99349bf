//! `InsertField`: puts what is known of a record into its fields.

use super::operand::{Operation, SchemaCache, rebuilt, require_map, require_struct};
use super::{REPLACE_NULL, REPLACE_NULL_DEF};
use crate::config::tables::{NULL, medium};
use crate::config::{Definition, Kind, Settings};
use crate::data::{Logical, Schema, SchemaAndValue, SinkRecord, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    medium(
        "topic.field",
        Kind::String,
        NULL,
        "Field for the topic. End it with ! for a required field, with ? (the default) for an optional one.",
    ),
    medium(
        "partition.field",
        Kind::String,
        NULL,
        "Field for the partition, with ! or ?.",
    ),
    medium(
        "offset.field",
        Kind::String,
        NULL,
        "Field for the offset, with ! or ?.",
    ),
    medium(
        "timestamp.field",
        Kind::String,
        NULL,
        "Field for the record's time, with ! or ?.",
    ),
    medium(
        "static.field",
        Kind::String,
        NULL,
        "Field for a fixed text, with ! or ?.",
    ),
    medium("static.value", Kind::String, NULL, "The fixed text."),
    REPLACE_NULL_DEF,
];

const PURPOSE: &str = "field insertion";

struct Insertion {
    name: String,
    optional: bool,
    what: What,
}

enum What {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Static(String),
}

pub(super) struct InsertField {
    insertions: Vec<Insertion>,
    replace_null: bool,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<InsertField, ConnectError> {
    let mut insertions = Vec::new();
    let mut add = |key: &str, what: What| {
        if let Some(spec) = settings.text(key) {
            let required = spec.strip_suffix('!');
            let name = required.or(spec.strip_suffix('?')).unwrap_or(spec);
            insertions.push(Insertion {
                name: name.to_owned(),
                optional: required.is_none(),
                what,
            });
        }
    };
    add("topic.field", What::Topic);
    add("partition.field", What::Partition);
    add("offset.field", What::Offset);
    add("timestamp.field", What::Timestamp);
    match (settings.text("static.field"), settings.text("static.value")) {
        (Some(_), Some(value)) => add("static.field", What::Static(value.to_owned())),
        (Some(_), None) => {
            let message = "static.field needs static.value";
            return Err(ConnectError::config(message));
        }
        _ => {}
    }
    if insertions.is_empty() {
        return Err(ConnectError::config("No field insertion configured"));
    }
    Ok(InsertField {
        insertions,
        replace_null: settings.boolean(REPLACE_NULL),
        schemas: SchemaCache::default(),
    })
}

impl Insertion {
    fn schema(&self) -> Schema {
        let schema = match self.what {
            What::Topic | What::Static(_) => Schema::new(Type::String),
            What::Partition => Schema::new(Type::Int32),
            What::Offset => Schema::new(Type::Int64),
            What::Timestamp => Schema::logical(Logical::Timestamp),
        };
        schema.with_optional(self.optional)
    }

    fn value(&self, record: &SinkRecord) -> Option<Value> {
        Some(match &self.what {
            What::Topic => Value::String(record.topic.to_string()),
            What::Partition => Value::Int32(record.partition),
            What::Offset => Value::Int64(record.offset),
            What::Timestamp => Value::Timestamp(record.timestamp?),
            What::Static(value) => Value::String(value.clone()),
        })
    }
}

impl Operation for InsertField {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        record: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        // A tombstone stays one.
        if operand.value.is_null() {
            return Ok(operand);
        }
        if operand.schema.is_none() {
            let mut map = require_map(operand.value, PURPOSE)?;
            for insertion in &self.insertions {
                match insertion.value(record) {
                    // Without a schema, a time is its milliseconds.
                    Some(value) => map.insert(insertion.name.clone(), value.to_base()),
                    None => continue,
                };
            }
            return Ok(SchemaAndValue::schemaless(Value::Map(map)));
        }
        let value = require_struct(operand.value, PURPOSE)?;
        let insertions = &self.insertions;
        let schema = self.schemas.get(value.schema(), |schema| {
            let mut updated = schema.basics(Type::Struct);
            updated.fields = schema.fields.clone();
            for insertion in insertions {
                let field = insertion.schema().into();
                if updated
                    .fields
                    .insert(insertion.name.clone(), field)
                    .is_some()
                {
                    let name = &insertion.name;
                    let message =
                        format!("Cannot create field because of field name duplication {name}");
                    return Err(ConnectError::data(message));
                }
            }
            Ok(updated)
        })?;
        let names = value.schema().fields.keys();
        let old = names.filter_map(|name| value.get_as(name, self.replace_null).cloned());
        let new = insertions
            .iter()
            .map(|i| i.value(record).unwrap_or(Value::Null));
        Ok(rebuilt(schema, old.chain(new).collect()))
    }
}
