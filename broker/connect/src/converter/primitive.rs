//! `ByteArrayConverter`, and the converters of numbers and booleans: big endian, as Kafka's serializers
//! write them. All have optional schemas.

use bytes::Bytes;

use super::Converter;
use crate::data::{Schema, SchemaAndValue, SchemaRef, Type, Value};
use crate::error::{ConnectError, ErrorKind};

pub(super) struct ByteArrayConverter;

impl Converter for ByteArrayConverter {
    fn class_name(&self) -> &'static str {
        "org.apache.kafka.connect.converters.ByteArrayConverter"
    }

    fn to_connect(&mut self, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let value = bytes.map_or(Value::Null, |b| Value::Bytes(b.clone()));
        Ok(SchemaAndValue::new(
            Schema::new(Type::Bytes).optional(),
            value,
        ))
    }

    fn from_connect(
        &mut self,
        schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>, ConnectError> {
        if let Some(schema) = schema
            && schema.kind != Type::Bytes
        {
            let message = format!(
                "Invalid schema type for ByteArrayConverter: {}",
                schema.kind
            );
            return Err(ConnectError::data(message));
        }
        match value {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes.clone())),
            other => Err(ConnectError::data(format!(
                "ByteArrayConverter is not compatible with objects of type {}",
                other.type_name()
            ))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Boolean,
    Double,
    Float,
    Integer,
    Long,
    Short,
}

impl Number {
    pub(super) fn of_class(simple_name: &str) -> Option<Number> {
        Some(match simple_name {
            "BooleanConverter" => Number::Boolean,
            "DoubleConverter" => Number::Double,
            "FloatConverter" => Number::Float,
            "IntegerConverter" => Number::Integer,
            "LongConverter" => Number::Long,
            "ShortConverter" => Number::Short,
            _ => return None,
        })
    }

    fn kind(self) -> Type {
        match self {
            Number::Boolean => Type::Boolean,
            Number::Double => Type::Float64,
            Number::Float => Type::Float32,
            Number::Integer => Type::Int32,
            Number::Long => Type::Int64,
            Number::Short => Type::Int16,
        }
    }

    fn read(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Number::Boolean => match bytes {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return None,
            },
            Number::Double => Value::Float64(f64::from_be_bytes(bytes.try_into().ok()?)),
            Number::Float => Value::Float32(f32::from_be_bytes(bytes.try_into().ok()?)),
            Number::Integer => Value::Int32(i32::from_be_bytes(bytes.try_into().ok()?)),
            Number::Long => Value::Int64(i64::from_be_bytes(bytes.try_into().ok()?)),
            Number::Short => Value::Int16(i16::from_be_bytes(bytes.try_into().ok()?)),
        })
    }

    fn write(self, value: &Value) -> Option<Bytes> {
        Some(match (self, value) {
            (Number::Boolean, Value::Boolean(v)) => Bytes::copy_from_slice(&[u8::from(*v)]),
            (Number::Double, Value::Float64(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Number::Float, Value::Float32(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Number::Integer, Value::Int32(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Number::Long, Value::Int64(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            (Number::Short, Value::Int16(v)) => Bytes::copy_from_slice(&v.to_be_bytes()),
            _ => return None,
        })
    }
}

pub(super) struct NumberConverter(pub(super) Number);

impl Converter for NumberConverter {
    fn class_name(&self) -> &'static str {
        match self.0 {
            Number::Boolean => "org.apache.kafka.connect.converters.BooleanConverter",
            Number::Double => "org.apache.kafka.connect.converters.DoubleConverter",
            Number::Float => "org.apache.kafka.connect.converters.FloatConverter",
            Number::Integer => "org.apache.kafka.connect.converters.IntegerConverter",
            Number::Long => "org.apache.kafka.connect.converters.LongConverter",
            Number::Short => "org.apache.kafka.connect.converters.ShortConverter",
        }
    }

    fn to_connect(&mut self, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let kind = self.0.kind();
        let value = match bytes {
            None => Value::Null,
            Some(bytes) => self.0.read(bytes).ok_or_else(|| {
                let message = format!("{} bytes are no {kind}", bytes.len());
                ConnectError::data(format!("Failed to deserialize {kind}: "))
                    .because(ConnectError::new(ErrorKind::Serialization, message))
            })?,
        };
        Ok(SchemaAndValue::new(Schema::new(kind).optional(), value))
    }

    fn from_connect(
        &mut self,
        _schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>, ConnectError> {
        if value.is_null() {
            return Ok(None);
        }
        let kind = self.0.kind();
        let written = self.0.write(value);
        written.map(Some).ok_or_else(|| {
            let message = format!("a value of type {} is no {kind}", value.type_name());
            ConnectError::data(format!("Failed to serialize to a {kind}: "))
                .because(ConnectError::new(ErrorKind::Serialization, message))
        })
    }
}
