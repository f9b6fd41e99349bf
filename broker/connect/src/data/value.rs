//! Values, with or without a schema.

use bytes::Bytes;
use indexmap::IndexMap;

use super::number::{java_f32, java_f64};
use super::structure::or_default;
use super::{Decimal, Logical, Schema, SchemaRef, Struct, Type};
use crate::error::ConnectError;

/// A map with text keys, in the order it came.
pub type Map = IndexMap<String, Value>;

/// A value of Connect. Where Kafka Connect has `java.util.Date` for all three of Date, Time and
/// Timestamp, here each says what it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Int8(i8),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Float32(f32),
    Float64(f64),
    String(String),
    Bytes(Bytes),
    Array(Vec<Value>),
    Map(Map),
    /// A map whose keys are not text.
    Pairs(Vec<(Value, Value)>),
    Struct(Struct),
    Decimal(Decimal),
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds since midnight.
    Time(i32),
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Of any integer type.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::Int8(v) => Some(v.into()),
            Value::Int16(v) => Some(v.into()),
            Value::Int32(v) => Some(v.into()),
            Value::Int64(v) => Some(v),
            _ => None,
        }
    }

    /// The type that Connect infers for a value without a schema.
    pub fn kind(&self) -> Option<Type> {
        Some(match self {
            Value::Null => return None,
            Value::Boolean(_) => Type::Boolean,
            Value::Int8(_) => Type::Int8,
            Value::Int16(_) => Type::Int16,
            Value::Int32(_) | Value::Date(_) | Value::Time(_) => Type::Int32,
            Value::Int64(_) | Value::Timestamp(_) => Type::Int64,
            Value::Float32(_) => Type::Float32,
            Value::Float64(_) => Type::Float64,
            Value::String(_) => Type::String,
            Value::Bytes(_) | Value::Decimal(_) => Type::Bytes,
            Value::Array(_) => Type::Array,
            Value::Map(_) | Value::Pairs(_) => Type::Map,
            Value::Struct(_) => Type::Struct,
        })
    }

    /// What to call the value in a message.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Decimal(_) => "Decimal",
            Value::Date(_) => "Date",
            Value::Time(_) => "Time",
            Value::Timestamp(_) => "Timestamp",
            other => other.kind().map_or("null", Type::name),
        }
    }

    /// That this value may stand under this schema (`ConnectSchema.validateValue`).
    pub fn check(&self, schema: &SchemaRef, field: &str) -> Result<(), ConnectError> {
        if self.is_null() {
            if schema.optional || schema.default.is_some() {
                return Ok(());
            }
            return Err(ConnectError::data(format!(
                "Invalid value: null used for required field: \"{field}\", schema type: {}",
                schema.kind
            )));
        }
        if !self.fits(schema) {
            return Err(ConnectError::data(format!(
                "Invalid value of type {} for field \"{field}\" of schema type {}",
                self.type_name(),
                schema.name.as_deref().unwrap_or(schema.kind.name()),
            )));
        }
        match (self, &schema.value, &schema.key) {
            (Value::Struct(inner), ..) => inner.validate(),
            (Value::Array(items), Some(element), _) => {
                items.iter().try_for_each(|v| v.check(element, field))
            }
            (Value::Map(map), Some(element), _) => {
                map.values().try_for_each(|v| v.check(element, field))
            }
            (Value::Pairs(pairs), Some(element), Some(key)) => pairs
                .iter()
                .try_for_each(|(k, v)| k.check(key, field).and_then(|()| v.check(element, field))),
            _ => Ok(()),
        }
    }

    fn fits(&self, schema: &SchemaRef) -> bool {
        match (schema.logical_type(), self) {
            (Some(Logical::Decimal), v) => matches!(v, Value::Decimal(_)),
            (Some(Logical::Date), v) => matches!(v, Value::Date(_)),
            (Some(Logical::Time), v) => matches!(v, Value::Time(_)),
            (Some(Logical::Timestamp), v) => matches!(v, Value::Timestamp(_)),
            (None, Value::Decimal(_) | Value::Date(_) | Value::Time(_) | Value::Timestamp(_)) => {
                false
            }
            (None, v) => v.kind() == Some(schema.kind),
        }
    }

    pub fn or_default<'a>(&'a self, schema: &'a SchemaRef) -> &'a Value {
        or_default(self, schema)
    }

    /// The value in its base type: a Date as int32, a Decimal as bytes.
    pub fn to_base(&self) -> Value {
        match self {
            Value::Decimal(v) => Value::Bytes(v.to_bytes().into()),
            Value::Date(v) | Value::Time(v) => Value::Int32(*v),
            Value::Timestamp(v) => Value::Int64(*v),
            other => other.clone(),
        }
    }

    /// The schema of a primitive value, for what comes without one.
    pub fn infer_schema(&self) -> Option<Schema> {
        match self {
            Value::Decimal(v) => Some(Schema::decimal(v.scale())),
            Value::Date(_) => Some(Schema::logical(Logical::Date)),
            Value::Time(_) => Some(Schema::logical(Logical::Time)),
            Value::Timestamp(_) => Some(Schema::logical(Logical::Timestamp)),
            Value::Struct(v) => Some(v.schema().as_ref().clone()),
            other => Some(Schema::new(other.kind().filter(|k| k.is_primitive())?)),
        }
    }

    /// The text of a primitive value as Java's `toString` writes it; `None` for what is not one.
    pub fn to_text(&self) -> Option<String> {
        Some(match self {
            Value::Boolean(v) => v.to_string(),
            Value::Int8(v) => v.to_string(),
            Value::Int16(v) => v.to_string(),
            Value::Int32(v) => v.to_string(),
            Value::Int64(v) => v.to_string(),
            Value::Float32(v) => java_f32(*v),
            Value::Float64(v) => java_f64(*v),
            Value::String(v) => v.clone(),
            Value::Decimal(v) => v.to_string(),
            Value::Date(v) => crate::time::iso_date(*v),
            Value::Time(v) => crate::time::iso_time(*v),
            Value::Timestamp(v) => crate::time::iso_timestamp(*v),
            _ => return None,
        })
    }

    /// Java's `toString` of any value: `Struct{a=1}`, `{a=1}`, `[1, 2]`.
    pub fn java_string(&self) -> String {
        let join = |items: Vec<String>, glue: &str| items.join(glue);
        match self {
            Value::Null => "null".into(),
            Value::Array(items) => {
                format!(
                    "[{}]",
                    join(items.iter().map(Value::java_string).collect(), ", ")
                )
            }
            Value::Map(map) => {
                let entries = map.iter().map(|(k, v)| format!("{k}={}", v.java_string()));
                format!("{{{}}}", join(entries.collect(), ", "))
            }
            Value::Pairs(pairs) => {
                let entry =
                    |(k, v): &(Value, Value)| format!("{}={}", k.java_string(), v.java_string());
                format!("{{{}}}", join(pairs.iter().map(entry).collect(), ", "))
            }
            Value::Struct(v) => {
                let set = v.iter().filter(|(_, _, v)| !v.is_null());
                let fields = set.map(|(name, _, v)| format!("{name}={}", v.java_string()));
                format!("Struct{{{}}}", join(fields.collect(), ","))
            }
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            primitive => primitive.to_text().unwrap_or_default(),
        }
    }
}
