//! `HeaderFrom`: moves or copies fields into headers (KIP-145).

use super::operand::{SchemaCache, Side, rebuilt, require_map, require_struct};
use super::{REPLACE_NULL, REPLACE_NULL_DEF, Transform};
use crate::config::tables::{REQUIRED, high};
use crate::config::{Check, Definition, Kind, Settings};
use crate::data::{Header, Schema, SchemaAndValue, SinkRecord, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    high("fields", Kind::List, REQUIRED, "Names of the fields.").check(Check::NonEmptyList),
    high(
        "headers",
        Kind::List,
        REQUIRED,
        "Names of the headers, in the order of the fields.",
    )
    .check(Check::NonEmptyList),
    high(
        "operation",
        Kind::String,
        REQUIRED,
        "move: the fields are removed; copy: they stay.",
    )
    .one_of(&["move", "copy"]),
    REPLACE_NULL_DEF,
];

pub(super) struct HeaderFrom {
    side: Side,
    fields: Vec<String>,
    headers: Vec<String>,
    moves: bool,
    replace_null: bool,
    schemas: SchemaCache,
}

pub(super) fn build(side: Side, settings: &Settings) -> Result<HeaderFrom, ConnectError> {
    let fields = settings.list("fields").to_vec();
    let headers = settings.list("headers").to_vec();
    if fields.len() != headers.len() {
        let message = "'fields' config must have the same number of elements as 'headers' config.";
        return Err(ConnectError::config(message));
    }
    Ok(HeaderFrom {
        side,
        fields,
        headers,
        moves: settings.required_text("operation") == "move",
        replace_null: settings.boolean(REPLACE_NULL),
        schemas: SchemaCache::default(),
    })
}

impl HeaderFrom {
    fn purpose(&self) -> &'static str {
        if self.moves {
            "header move"
        } else {
            "header copy"
        }
    }

    fn with_schema(
        &mut self,
        operand: SchemaAndValue,
        found: &mut Vec<SchemaAndValue>,
    ) -> Result<SchemaAndValue, ConnectError> {
        let value = require_struct(operand.value, self.purpose())?;
        for field in &self.fields {
            let schema = value.schema().field_schema(field).cloned();
            let schema = schema
                .ok_or_else(|| ConnectError::data(format!("Field does not exist: {field}")))?;
            let value = value.get_as(field, self.replace_null);
            found.push(SchemaAndValue::new(
                schema,
                value.cloned().unwrap_or(Value::Null),
            ));
        }
        if !self.moves {
            return Ok(SchemaAndValue {
                schema: operand.schema,
                value: Value::Struct(value),
            });
        }
        let fields = &self.fields;
        let schema = self.schemas.get(value.schema(), |schema| {
            let kept = schema
                .fields
                .iter()
                .filter(|(name, _)| !fields.contains(name));
            let kept = kept.map(|(name, schema)| (name.clone(), schema.clone()));
            Ok(Schema {
                fields: kept.collect(),
                ..schema.basics(Type::Struct)
            })
        })?;
        let values = schema.fields.keys();
        let values = values.filter_map(|name| value.get_as(name, self.replace_null).cloned());
        Ok(rebuilt(schema.clone(), values.collect()))
    }
}

impl Transform for HeaderFrom {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        let operand = std::mem::replace(self.side.of(&mut record), SchemaAndValue::NULL);
        let mut found = Vec::with_capacity(self.fields.len());
        let changed = if operand.schema.is_some() {
            self.with_schema(operand, &mut found)?
        } else {
            let mut map = require_map(operand.value, self.purpose())?;
            for field in &self.fields {
                let value = map.get(field).cloned().unwrap_or(Value::Null);
                found.push(SchemaAndValue::schemaless(value));
            }
            if self.moves {
                map.retain(|name, _| !self.fields.contains(name));
            }
            SchemaAndValue::schemaless(Value::Map(map))
        };
        *self.side.of(&mut record) = changed;
        let headers = self.headers.iter().zip(found);
        record.headers.extend(headers.map(|(key, value)| Header {
            key: key.clone(),
            value,
        }));
        Ok(Some(record))
    }
}
