//! What transforms of a key or a value have in common.

use std::sync::Arc;

use super::Transform;
use crate::data::{Map, Schema, SchemaAndValue, SchemaRef, SinkRecord, Struct, Value};
use crate::error::ConnectError;

/// Whether a transform works on the key or the value: the `$Key` or `$Value` of its class name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Key,
    Value,
}

impl Side {
    pub fn of(self, record: &mut SinkRecord) -> &mut SchemaAndValue {
        match self {
            Side::Key => &mut record.key,
            Side::Value => &mut record.value,
        }
    }
}

/// A change of the key or the value alone.
pub trait Operation: Send {
    /// `record` is the record without what is being changed.
    fn change(
        &mut self,
        operand: SchemaAndValue,
        record: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError>;
}

/// An operation at work on one side.
pub(super) struct Sided<O> {
    pub side: Side,
    pub operation: O,
}

impl<O: Operation> Transform for Sided<O> {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        let operand = std::mem::replace(self.side.of(&mut record), SchemaAndValue::NULL);
        *self.side.of(&mut record) = self.operation.change(operand, &record)?;
        Ok(Some(record))
    }
}

pub(super) fn sided<O: Operation + 'static>(side: Side, operation: O) -> Box<dyn Transform> {
    Box::new(Sided { side, operation })
}

pub(super) fn require_map(value: Value, purpose: &str) -> Result<Map, ConnectError> {
    match value {
        Value::Map(map) => Ok(map),
        other => Err(ConnectError::data(format!(
            "Only Map objects supported in absence of schema for [{purpose}], found: {}",
            other.type_name()
        ))),
    }
}

pub(super) fn require_struct(value: Value, purpose: &str) -> Result<Struct, ConnectError> {
    match value {
        Value::Struct(value) => Ok(value),
        other => Err(ConnectError::data(format!(
            "Only Struct objects supported for [{purpose}], found: {}",
            other.type_name()
        ))),
    }
}

/// Schemas that came, and what they became. Few are in use at a time.
#[derive(Default)]
pub(super) struct SchemaCache(Vec<(SchemaRef, SchemaRef)>);

const CACHED_SCHEMAS: usize = 16;

impl SchemaCache {
    /// The changed schema, made by `build` the first time.
    pub fn get(
        &mut self,
        schema: &SchemaRef,
        build: impl FnOnce(&Schema) -> Result<Schema, ConnectError>,
    ) -> Result<SchemaRef, ConnectError> {
        let known = |(from, _): &&(SchemaRef, SchemaRef)| Arc::ptr_eq(from, schema);
        let equal = |(from, _): &&(SchemaRef, SchemaRef)| from == schema;
        let found = self
            .0
            .iter()
            .find(known)
            .or_else(|| self.0.iter().find(equal));
        if let Some((_, changed)) = found {
            return Ok(changed.clone());
        }
        let changed: SchemaRef = build(schema)?.into();
        if self.0.len() == CACHED_SCHEMAS {
            self.0.remove(0);
        }
        self.0.push((schema.clone(), changed.clone()));
        Ok(changed)
    }
}

/// A struct made of another, value by value.
pub(super) fn rebuilt(schema: SchemaRef, values: Vec<Value>) -> SchemaAndValue {
    let value = Struct::of(schema.clone(), values);
    SchemaAndValue {
        schema: Some(schema),
        value: Value::Struct(value),
    }
}
