//! `SetSchemaMetadata`: gives a schema a name and a version.

use super::operand::{Operation, SchemaCache};
use super::{REPLACE_NULL, REPLACE_NULL_DEF};
use crate::config::tables::{NULL, high};
use crate::config::{ConfigValue, Definition, Kind, Settings};
use crate::data::{Schema, SchemaAndValue, SinkRecord, Struct, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    high("schema.name", Kind::String, NULL, "The schema's new name."),
    high(
        "schema.version",
        Kind::Int,
        NULL,
        "The schema's new version.",
    ),
    REPLACE_NULL_DEF,
];

pub(super) struct SetSchemaMetadata {
    name: Option<String>,
    version: Option<i32>,
    replace_null: bool,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<SetSchemaMetadata, ConnectError> {
    let name = settings.text("schema.name").map(str::to_owned);
    let version = match settings.get("schema.version") {
        ConfigValue::Long(version) => i32::try_from(*version).ok(),
        _ => None,
    };
    if name.is_none() && version.is_none() {
        let message = "Neither schema name nor version configured";
        return Err(ConnectError::config(message));
    }
    Ok(SetSchemaMetadata {
        name,
        version,
        replace_null: settings.boolean(REPLACE_NULL),
        schemas: SchemaCache::default(),
    })
}

impl Operation for SetSchemaMetadata {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        let Some(schema) = &operand.schema else {
            if operand.value.is_null() {
                return Ok(operand);
            }
            let message = "Schema required for [updating schema metadata]";
            return Err(ConnectError::data(message));
        };
        let (name, version) = (&self.name, self.version);
        let updated = self.schemas.get(schema, |schema| {
            Ok(Schema {
                name: name.clone().or(schema.name.clone()),
                version: version.or(schema.version),
                ..schema.clone()
            })
        })?;
        let value = match operand.value {
            Value::Struct(value) => {
                let fields = value.schema().fields.keys();
                let values = fields.filter_map(|f| value.get_as(f, self.replace_null).cloned());
                Value::Struct(Struct::of(updated.clone(), values.collect()))
            }
            other => other,
        };
        Ok(SchemaAndValue::new(updated, value))
    }
}
