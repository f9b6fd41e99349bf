//! `MaskField`: puts nothing, or a replacement, where a value was (KIP-437).

use super::operand::{Operation, rebuilt, require_map, require_struct};
use super::{REPLACE_NULL, REPLACE_NULL_DEF};
use crate::config::tables::{NULL, REQUIRED, high, low};
use crate::config::{Check, Definition, Kind, Settings};
use crate::data::{Decimal, Map, SchemaAndValue, SinkRecord, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    high(
        "fields",
        Kind::List,
        REQUIRED,
        "Names of the fields to mask.",
    )
    .check(Check::NonEmptyList),
    low(
        "replacement",
        Kind::String,
        NULL,
        "What to put in place of numbers and texts; else 0, false, an empty text, array or map.",
    )
    .check(Check::NonEmpty),
    REPLACE_NULL_DEF,
];

const PURPOSE: &str = "mask fields";

pub(super) struct MaskField {
    fields: Vec<String>,
    replacement: Option<String>,
    replace_null: bool,
}

pub(super) fn build(settings: &Settings) -> Result<MaskField, ConnectError> {
    Ok(MaskField {
        fields: settings.list("fields").to_vec(),
        replacement: settings.text("replacement").map(str::to_owned),
        replace_null: settings.boolean(REPLACE_NULL),
    })
}

impl MaskField {
    fn masked(&self, value: &Value) -> Result<Value, ConnectError> {
        match &self.replacement {
            _ if value.is_null() => Ok(Value::Null),
            None => nothing(value),
            Some(text) => replaced(value, text),
        }
    }
}

fn nothing(value: &Value) -> Result<Value, ConnectError> {
    Ok(match value {
        Value::Boolean(_) => Value::Boolean(false),
        Value::Int8(_) => Value::Int8(0),
        Value::Int16(_) => Value::Int16(0),
        Value::Int32(_) => Value::Int32(0),
        Value::Int64(_) => Value::Int64(0),
        Value::Float32(_) => Value::Float32(0.0),
        Value::Float64(_) => Value::Float64(0.0),
        Value::String(_) => "".into(),
        // Of the field's scale, so that it can be written under the field's schema.
        Value::Decimal(v) => Value::Decimal(
            Decimal::zero()
                .rescale(v.scale())
                .unwrap_or(Decimal::zero()),
        ),
        Value::Date(_) => Value::Date(0),
        Value::Time(_) => Value::Time(0),
        Value::Timestamp(_) => Value::Timestamp(0),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Map(_) => Value::Map(Map::new()),
        Value::Pairs(_) => Value::Pairs(Vec::new()),
        Value::Null | Value::Bytes(_) | Value::Struct(_) => {
            let kind = value.type_name();
            return Err(ConnectError::data(format!(
                "Cannot mask value of type: {kind}"
            )));
        }
    })
}

fn replaced(value: &Value, text: &str) -> Result<Value, ConnectError> {
    let number = match value {
        Value::String(_) => return Ok(text.into()),
        Value::Int8(_) => text.parse().ok().map(Value::Int8),
        Value::Int16(_) => text.parse().ok().map(Value::Int16),
        Value::Int32(_) => text.parse().ok().map(Value::Int32),
        Value::Int64(_) => text.parse().ok().map(Value::Int64),
        Value::Float32(_) => text.parse().ok().map(Value::Float32),
        Value::Float64(_) => text.parse().ok().map(Value::Float64),
        Value::Decimal(v) => {
            let parsed = text.parse::<Decimal>().ok();
            parsed
                .and_then(|d| d.rescale(v.scale()))
                .map(Value::Decimal)
        }
        other => {
            let kind = other.type_name();
            return Err(ConnectError::data(format!(
                "Cannot mask value of type {kind} with custom replacement."
            )));
        }
    };
    number.ok_or_else(|| {
        let kind = value.type_name();
        ConnectError::data(format!("Unable to convert {text} to number of type {kind}"))
    })
}

impl Operation for MaskField {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        if operand.schema.is_none() {
            let mut map = require_map(operand.value, PURPOSE)?;
            for field in &self.fields {
                let value = map.get(field).unwrap_or(&Value::Null);
                let masked = self.masked(value)?;
                map.insert(field.clone(), masked);
            }
            return Ok(SchemaAndValue::schemaless(Value::Map(map)));
        }
        let value = require_struct(operand.value, PURPOSE)?;
        let masked = value.schema().fields.keys().map(|name| {
            let value = value
                .get_as(name, self.replace_null)
                .unwrap_or(&Value::Null);
            if self.fields.contains(name) {
                self.masked(value)
            } else {
                Ok(value.clone())
            }
        });
        let masked = masked.collect::<Result<_, _>>()?;
        Ok(rebuilt(value.schema().clone(), masked))
    }
}
