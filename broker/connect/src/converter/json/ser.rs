//! Writes Connect's data as JSON. Hot path: everything goes straight into the one buffer.

use super::pieces::{base64, number, sequence, text};
use crate::data::{SchemaRef, Value, java_f32, java_f64};
use crate::error::ConnectError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalFormat {
    /// The unscaled bytes in base64.
    Base64,
    /// A JSON number with all its digits.
    Numeric,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonOptions {
    pub decimals: DecimalFormat,
    /// Whether a null in a field with a default is written as that default.
    pub replace_null: bool,
}

/// Writes a value after the schema that describes it, if any.
pub fn write_json(
    schema: Option<&SchemaRef>,
    value: &Value,
    options: JsonOptions,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    match value {
        Value::Null => return null(schema, options, out),
        Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Int8(v) => number(*v, out),
        Value::Int16(v) => number(*v, out),
        Value::Int32(v) | Value::Date(v) | Value::Time(v) => number(*v, out),
        Value::Int64(v) | Value::Timestamp(v) => number(*v, out),
        Value::Float32(v) => float(v.is_finite(), &java_f32(*v), out),
        Value::Float64(v) => float(v.is_finite(), &java_f64(*v), out),
        Value::String(v) => text(v, out),
        Value::Bytes(v) => base64(v, out),
        // Integers beyond 64 bits come without a schema, from numbers; so they are written as such.
        Value::Decimal(v) if options.decimals == DecimalFormat::Numeric || schema.is_none() => {
            number(v, out);
        }
        Value::Decimal(v) => base64(&v.to_bytes(), out),
        Value::Array(items) => {
            let element = schema.and_then(|s| s.value.as_ref());
            sequence(b"[]", items.iter(), out, |item, out| {
                write_json(element, item, options, out)
            })?;
        }
        Value::Map(map) => {
            let element = schema.and_then(|s| s.value.as_ref());
            sequence(b"{}", map.iter(), out, |(key, item), out| {
                text(key, out);
                out.push(b':');
                write_json(element, item, options, out)
            })?;
        }
        Value::Pairs(pairs) => {
            let key = schema.and_then(|s| s.key.as_ref());
            let element = schema.and_then(|s| s.value.as_ref());
            sequence(b"[]", pairs.iter(), out, |(k, v), out| {
                out.push(b'[');
                write_json(key, k, options, out)?;
                out.push(b',');
                write_json(element, v, options, out)?;
                out.push(b']');
                Ok(())
            })?;
        }
        Value::Struct(v) => sequence(b"{}", v.iter(), out, |(name, schema, item), out| {
            text(name, out);
            out.push(b':');
            write_json(Some(schema), item, options, out)
        })?,
    }
    Ok(())
}

fn null(
    schema: Option<&SchemaRef>,
    options: JsonOptions,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    match schema {
        Some(schema) if options.replace_null && schema.default.is_some() => {
            let default = schema.default.clone().unwrap_or(Value::Null);
            write_json(Some(schema), &default, options, out)
        }
        Some(schema) if !schema.optional && schema.default.is_none() => Err(ConnectError::data(
            "Conversion error: null value for field that is required and has no default value",
        )),
        _ => {
            out.extend_from_slice(b"null");
            Ok(())
        }
    }
}

/// What is no number in JSON is text, as Jackson writes it.
fn float(finite: bool, written: &str, out: &mut Vec<u8>) {
    if finite {
        out.extend_from_slice(written.as_bytes());
    } else {
        text(written, out);
    }
}
