//! `Cast`: makes fields, or the whole key or value, another type. Numbers are cut as Java cuts them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::operand::{Operation, SchemaCache, rebuilt, require_map, require_struct};
use super::{REPLACE_NULL, REPLACE_NULL_DEF};
use crate::config::tables::{REQUIRED, high};
use crate::config::{Check, Definition, Kind, Settings, settings_list};
use crate::data::{Schema, SchemaAndValue, SinkRecord, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    high("spec", Kind::List, REQUIRED, "Fields and their new types as field:type, or one type for the whole. Types: int8, int16, int32, int64, float32, float64, boolean, string. Bytes become base64 text.")
        .check(Check::By(|text| spec(&settings_list(text)).map(|_| ()))),
    REPLACE_NULL_DEF,
];

const PURPOSE: &str = "cast types";

enum Spec {
    Whole(Type),
    Fields(Vec<(String, Type)>),
}

pub(super) struct Cast {
    spec: Spec,
    replace_null: bool,
    schemas: SchemaCache,
}

fn spec(items: &[String]) -> Result<Spec, String> {
    if items.is_empty() {
        return Err("Must specify at least one field to cast.".into());
    }
    let kind = |name: &str| {
        let kind = Type::from_name(name.trim());
        kind.filter(|k| k.is_primitive() && *k != Type::Bytes)
            .ok_or_else(|| format!("{name} is no type that can be cast to"))
    };
    if let [whole] = items
        && !whole.contains(':')
    {
        return Ok(Spec::Whole(kind(whole)?));
    }
    let mut fields: Vec<(String, Type)> = Vec::new();
    for item in items {
        let (name, to) = match item.split(':').collect::<Vec<_>>()[..] {
            [name, to] => (name.trim(), to),
            [_] => {
                return Err("Cast transformations that specify a type to cast the entire value to may ONLY specify a single cast in their spec".into());
            }
            _ => return Err(format!("Invalid cast: {item}")),
        };
        if fields.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} is cast twice"));
        }
        fields.push((name.to_owned(), kind(to)?));
    }
    Ok(Spec::Fields(fields))
}

pub(super) fn build(settings: &Settings) -> Result<Cast, ConnectError> {
    Ok(Cast {
        spec: spec(settings.list("spec")).map_err(ConnectError::config)?,
        replace_null: settings.boolean(REPLACE_NULL),
        schemas: SchemaCache::default(),
    })
}

/// A number between the types: an integer, or a float.
enum Number {
    Whole(i64),
    Float(f64),
}

impl Number {
    /// `Number.longValue`
    fn long(&self) -> i64 {
        match *self {
            Number::Whole(v) => v,
            Number::Float(v) => v as i64,
        }
    }

    /// `Number.intValue`: integers lose their high bits, floats stop at the bounds.
    fn int(&self) -> i32 {
        match *self {
            Number::Whole(v) => v as i32,
            Number::Float(v) => v as i32,
        }
    }

    fn double(&self) -> f64 {
        match *self {
            Number::Whole(v) => v as f64,
            Number::Float(v) => v,
        }
    }
}

fn number(value: &Value) -> Option<Number> {
    Some(match value {
        Value::Boolean(v) => Number::Whole((*v).into()),
        Value::Float32(v) => Number::Float((*v).into()),
        Value::Float64(v) => Number::Float(*v),
        Value::Date(v) | Value::Time(v) => Number::Whole((*v).into()),
        Value::Timestamp(v) => Number::Whole(*v),
        other => Number::Whole(other.as_i64()?),
    })
}

fn cast(value: &Value, to: Type) -> Result<Value, ConnectError> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::String(text) => from_text(text, to).ok_or_else(|| {
            ConnectError::data(format!(
                "Value ({text}) was out of range for requested data type"
            ))
        }),
        Value::Bytes(bytes) if to == Type::String => Ok(Value::String(STANDARD.encode(bytes))),
        Value::Decimal(v) if to != Type::String => {
            let number = match to {
                Type::Float32 | Type::Float64 => Number::Float(v.to_f64()),
                _ => Number::Whole(v.to_i64_wrapping()),
            };
            Ok(from_number(&number, to))
        }
        primitive if to == Type::String => primitive
            .to_text()
            .map(Value::String)
            .ok_or_else(|| wrong(value)),
        other => Ok(from_number(&number(other).ok_or_else(|| wrong(value))?, to)),
    }
}

fn wrong(value: &Value) -> ConnectError {
    let kind = value.type_name();
    ConnectError::data(format!(
        "Cast transformation does not support casting from {kind}"
    ))
}

fn from_number(number: &Number, to: Type) -> Value {
    match to {
        Type::Int8 => Value::Int8(number.int() as i8),
        Type::Int16 => Value::Int16(number.int() as i16),
        Type::Int32 => Value::Int32(number.int()),
        Type::Int64 => Value::Int64(number.long()),
        Type::Float32 => Value::Float32(number.double() as f32),
        Type::Float64 => Value::Float64(number.double()),
        _ => Value::Boolean(number.long() != 0),
    }
}

fn from_text(text: &str, to: Type) -> Option<Value> {
    let float = || text.trim().parse::<f64>().ok();
    Some(match to {
        Type::Int8 => Value::Int8(text.parse().ok()?),
        Type::Int16 => Value::Int16(text.parse().ok()?),
        Type::Int32 => Value::Int32(text.parse().ok()?),
        Type::Int64 => Value::Int64(text.parse().ok()?),
        Type::Float32 => Value::Float32(text.trim().parse().ok()?),
        Type::Float64 => Value::Float64(float()?),
        Type::Boolean => Value::Boolean(text.eq_ignore_ascii_case("true")),
        _ => Value::String(text.to_owned()),
    })
}

/// The schema with another type: its default is cast too.
fn cast_schema(schema: &Schema, to: Type, basics: bool) -> Result<Schema, ConnectError> {
    let mut changed = if basics {
        schema.basics(to)
    } else {
        Schema::new(to)
    };
    changed.optional = schema.optional;
    changed.default = schema.default.as_ref().map(|d| cast(d, to)).transpose()?;
    Ok(changed)
}

impl Operation for Cast {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        if operand.value.is_null() {
            return Ok(operand);
        }
        match (&self.spec, operand.schema) {
            (Spec::Whole(to), None) => Ok(SchemaAndValue::schemaless(cast(&operand.value, *to)?)),
            (Spec::Whole(to), Some(schema)) => {
                let value = cast(&operand.value, *to)?;
                // A logical type's name must not stand over another type.
                let basics = schema.logical_type().is_none();
                let changed = self.schemas.get(&schema, |s| cast_schema(s, *to, basics))?;
                Ok(SchemaAndValue::new(changed, value))
            }
            (Spec::Fields(fields), None) => {
                let mut map = require_map(operand.value, PURPOSE)?;
                for (name, to) in fields {
                    let value = cast(map.get(name).unwrap_or(&Value::Null), *to)?;
                    map.insert(name.clone(), value);
                }
                Ok(SchemaAndValue::schemaless(Value::Map(map)))
            }
            (Spec::Fields(fields), Some(_)) => {
                let value = require_struct(operand.value, PURPOSE)?;
                let target = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, to)| *to);
                let changed = self.schemas.get(value.schema(), |schema| {
                    let mut changed = schema.clone();
                    changed.default = None;
                    for (name, field) in &schema.fields {
                        if let Some(to) = target(name) {
                            let field = cast_schema(field, to, false)?;
                            changed.fields.insert(name.clone(), field.into());
                        }
                    }
                    Ok(changed)
                })?;
                let values = value.schema().fields.keys().map(|name| {
                    let old = value
                        .get_as(name, self.replace_null)
                        .unwrap_or(&Value::Null);
                    target(name).map_or_else(|| Ok(old.clone()), |to| cast(old, to))
                });
                let values = values.collect::<Result<_, _>>()?;
                Ok(rebuilt(changed, values))
            }
        }
    }
}
