//! `ExtractField`: makes one field the whole key or value.

use super::field_path::FieldPath;
use super::operand::Operation;
use super::{REPLACE_NULL, REPLACE_NULL_DEF, SYNTAX_DEF};
use crate::config::tables::{REQUIRED, medium};
use crate::config::{Definition, Kind, Settings};
use crate::data::{SchemaAndValue, SinkRecord, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    medium(
        "field",
        Kind::String,
        REQUIRED,
        "Name of the field, or its path with field.syntax.version=V2.",
    ),
    SYNTAX_DEF,
    REPLACE_NULL_DEF,
];

pub(super) struct ExtractField {
    path: FieldPath,
    replace_null: bool,
}

pub(super) fn build(settings: &Settings) -> Result<ExtractField, ConnectError> {
    Ok(ExtractField {
        path: FieldPath::of(settings.required_text("field"), settings)?,
        replace_null: settings.boolean(REPLACE_NULL),
    })
}

impl Operation for ExtractField {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        let Some(schema) = &operand.schema else {
            let value = match &operand.value {
                Value::Null => None,
                Value::Map(map) => self.path.in_map(map)?,
                other => return Err(wrong("Map objects supported in absence of schema", other)),
            };
            return Ok(SchemaAndValue::schemaless(
                value.cloned().unwrap_or(Value::Null),
            ));
        };
        let field = self.path.schema(schema).cloned();
        let field =
            field.ok_or_else(|| ConnectError::data(format!("Unknown field: {}", self.path)))?;
        let value = match &operand.value {
            Value::Null => None,
            Value::Struct(value) => self.path.in_struct(value, self.replace_null)?,
            other => return Err(wrong("Struct objects supported", other)),
        };
        Ok(SchemaAndValue::new(
            field,
            value.cloned().unwrap_or(Value::Null),
        ))
    }
}

fn wrong(what: &str, found: &Value) -> ConnectError {
    let found = found.type_name();
    ConnectError::data(format!(
        "Only {what} for [field extraction], found: {found}"
    ))
}
