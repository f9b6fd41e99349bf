//! `Flatten`: fields in fields become fields whose names are joined. Arrays stay as they are.

use super::operand::{Operation, SchemaCache, rebuilt, require_map, require_struct};
use crate::config::tables::{medium, text};
use crate::config::{Definition, Kind, Settings};
use crate::data::{Map, Schema, SchemaAndValue, SinkRecord, Struct, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[medium(
    "delimiter",
    Kind::String,
    text("."),
    "What stands between the joined names.",
)];

const PURPOSE: &str = "flattening";

pub(super) struct Flatten {
    delimiter: String,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<Flatten, ConnectError> {
    Ok(Flatten {
        delimiter: settings.required_text("delimiter").to_owned(),
        schemas: SchemaCache::default(),
    })
}

impl Operation for Flatten {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        if operand.value.is_null() {
            return Ok(operand);
        }
        if operand.schema.is_none() {
            let map = require_map(operand.value, PURPOSE)?;
            let mut flat = Map::new();
            flatten_map(map, "", &self.delimiter, &mut flat)?;
            return Ok(SchemaAndValue::schemaless(Value::Map(flat)));
        }
        let value = require_struct(operand.value, PURPOSE)?;
        let delimiter = &self.delimiter;
        let schema = self.schemas.get(value.schema(), |schema| {
            let mut flat = schema.basics(Type::Struct);
            let default = match &schema.default {
                Some(Value::Struct(default)) => Some(default),
                _ => None,
            };
            flatten_schema(schema, "", delimiter, schema.optional, default, &mut flat)?;
            Ok(flat)
        })?;
        let mut values = Vec::with_capacity(schema.fields.len());
        flatten_struct(value.schema(), Some(&value), &mut values);
        Ok(rebuilt(schema, values))
    }
}

fn joined(prefix: &str, delimiter: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}{delimiter}{name}")
    }
}

fn flatten_map(
    map: Map,
    prefix: &str,
    delimiter: &str,
    flat: &mut Map,
) -> Result<(), ConnectError> {
    for (name, value) in map {
        let name = joined(prefix, delimiter, &name);
        match value {
            Value::Map(inner) => flatten_map(inner, &name, delimiter, flat)?,
            Value::Struct(_) | Value::Pairs(_) => {
                let kind = value.type_name();
                return Err(ConnectError::data(format!(
                    "Flatten transformation does not support {kind} for record without schemas (for field {name})."
                )));
            }
            other => {
                flat.insert(name, other);
            }
        }
    }
    Ok(())
}

/// A field is optional if anything around it is; its default is its own, or that of what is around it.
fn flatten_schema(
    schema: &Schema,
    prefix: &str,
    delimiter: &str,
    optional: bool,
    default: Option<&Struct>,
    flat: &mut Schema,
) -> Result<(), ConnectError> {
    for (name, field) in &schema.fields {
        let joined = joined(prefix, delimiter, name);
        let optional = optional || field.optional;
        let given = default
            .and_then(|d| d.get_or_default(name))
            .filter(|v| !v.is_null());
        let default = field.default.as_ref().or(given);
        match field.kind {
            Type::Struct => {
                let default = match default {
                    Some(Value::Struct(default)) => Some(default),
                    _ => None,
                };
                flatten_schema(field, &joined, delimiter, optional, default, flat)?;
            }
            Type::Map => {
                return Err(ConnectError::data(format!(
                    "Flatten transformation does not support MAP for record with schemas (for field {joined})."
                )));
            }
            _ => {
                let schema = Schema {
                    optional,
                    default: default.cloned(),
                    ..field.as_ref().clone()
                };
                flat.fields.insert(joined, schema.into());
            }
        }
    }
    Ok(())
}

/// In the order of `flatten_schema`. Where a struct is null, so are all its fields.
fn flatten_struct(schema: &Schema, value: Option<&Struct>, out: &mut Vec<Value>) {
    for (name, field) in &schema.fields {
        let value = value.and_then(|v| v.get_or_default(name));
        match (field.kind, value) {
            (Type::Struct, Some(Value::Struct(inner))) => flatten_struct(field, Some(inner), out),
            (Type::Struct, _) => flatten_struct(field, None, out),
            (_, value) => out.push(value.cloned().unwrap_or(Value::Null)),
        }
    }
}
