//! Structs: values by the fields of a schema.

use std::sync::Arc;

use super::{SchemaRef, Type, Value};
use crate::error::ConnectError;

#[derive(Clone, Debug)]
pub struct Struct {
    schema: SchemaRef,
    values: Vec<Value>,
}

impl PartialEq for Struct {
    fn eq(&self, other: &Struct) -> bool {
        (Arc::ptr_eq(&self.schema, &other.schema) || self.schema == other.schema)
            && self.values == other.values
    }
}

impl Struct {
    /// All fields null.
    pub fn new(schema: SchemaRef) -> Struct {
        assert_eq!(schema.kind, Type::Struct, "a struct needs a struct schema");
        let values = vec![Value::Null; schema.fields.len()];
        Struct { schema, values }
    }

    /// The values must be as many as the schema has fields, and in their order.
    pub fn of(schema: SchemaRef, values: Vec<Value>) -> Struct {
        assert_eq!(schema.fields.len(), values.len(), "a value for each field");
        Struct { schema, values }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn values(&self) -> &[Value] {
        &self.values
    }

    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// The value as it was given, or `None` if the schema has no such field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        Some(&self.values[self.schema.fields.get_index_of(name)?])
    }

    /// The value, or the field's default where it is null.
    pub fn get_or_default(&self, name: &str) -> Option<&Value> {
        let (index, _, schema) = self.schema.fields.get_full(name)?;
        Some(or_default(&self.values[index], schema))
    }

    pub fn get_as(&self, name: &str, replace_null_with_default: bool) -> Option<&Value> {
        if replace_null_with_default {
            self.get_or_default(name)
        } else {
            self.get(name)
        }
    }

    /// Panics if there is no such field: who puts knows the schema.
    pub fn put(&mut self, name: &str, value: Value) {
        let index = self.schema.fields.get_index_of(name);
        self.values[index.expect("a field of the schema")] = value;
    }

    /// Fields with their schemas and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SchemaRef, &Value)> {
        let fields = self.schema.fields.iter();
        fields
            .zip(&self.values)
            .map(|((name, schema), value)| (name.as_str(), schema, value))
    }

    /// That every value fits its field, as Connect checks before a struct is written.
    pub fn validate(&self) -> Result<(), ConnectError> {
        for (name, schema, value) in self.iter() {
            value.check(schema, name)?;
        }
        Ok(())
    }
}

pub(super) fn or_default<'a>(value: &'a Value, schema: &'a SchemaRef) -> &'a Value {
    match (&schema.default, value) {
        (Some(default), Value::Null) => default,
        _ => value,
    }
}
