//! `HoistField`: wraps the whole key or value as the one field of a struct or map.

use super::operand::{Operation, SchemaCache, rebuilt};
use crate::config::tables::{REQUIRED, medium};
use crate::config::{Definition, Kind, Settings};
use crate::data::{Map, Schema, SchemaAndValue, SchemaRef, SinkRecord, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[medium(
    "field",
    Kind::String,
    REQUIRED,
    "Name of the field.",
)];

pub(super) struct HoistField {
    field: String,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<HoistField, ConnectError> {
    Ok(HoistField {
        field: settings.required_text("field").to_owned(),
        schemas: SchemaCache::default(),
    })
}

impl Operation for HoistField {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        let Some(schema) = operand.schema else {
            let map = Map::from([(self.field.clone(), operand.value)]);
            return Ok(SchemaAndValue::schemaless(Value::Map(map)));
        };
        let inner: SchemaRef = schema.clone();
        let field = self.field.clone();
        let hoisted = self.schemas.get(&schema, |_| {
            Ok(Schema::new(Type::Struct).field(field, inner))
        })?;
        Ok(rebuilt(hoisted, vec![operand.value]))
    }
}
