//! Values as JSON that OpenSearch takes. Hot path: everything goes straight into the one buffer.

use ottla_connect::converter::json_pieces::{base64, number, sequence, text};
use ottla_connect::data::{Value, java_f32, java_f64};
use ottla_connect::error::ConnectError;

/// How deep values may lie in each other; the server's own bound is 1000 tokens.
const DEPTH_MAX: usize = 200;

/// Writes a value. Maps whose keys are no text, and all maps unless `compact`, are lists of
/// `{"key", "value"}`. Decimals are numbers, dates `yyyy-MM-dd`, timestamps and times milliseconds.
pub fn write(value: &Value, compact: bool, out: &mut Vec<u8>) -> Result<(), ConnectError> {
    nested(value, compact, DEPTH_MAX, out)
}

fn nested(
    value: &Value,
    compact: bool,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    let Some(depth) = depth.checked_sub(1) else {
        let message = format!("the document is more than {DEPTH_MAX} levels deep");
        return Err(ConnectError::data(message));
    };
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Int8(v) => number(v, out),
        Value::Int16(v) => number(v, out),
        Value::Int32(v) | Value::Time(v) => number(v, out),
        Value::Int64(v) | Value::Timestamp(v) => number(v, out),
        Value::Float32(v) if v.is_finite() => out.extend_from_slice(java_f32(*v).as_bytes()),
        Value::Float64(v) if v.is_finite() => out.extend_from_slice(java_f64(*v).as_bytes()),
        // Neither JSON nor a field of numbers has these.
        Value::Float32(_) | Value::Float64(_) => out.extend_from_slice(b"null"),
        Value::Decimal(v) => number(v, out),
        Value::Date(days) => text(&ottla_connect::time::iso_date(*days), out),
        Value::String(v) => text(v, out),
        Value::Bytes(v) => base64(v, out),
        Value::Array(items) => sequence(b"[]", items.iter(), out, |item, out| {
            nested(item, compact, depth, out)
        })?,
        Value::Map(map) if compact => sequence(b"{}", map.iter(), out, |(key, item), out| {
            text(key, out);
            out.push(b':');
            nested(item, true, depth, out)
        })?,
        Value::Map(map) => sequence(b"[]", map.iter(), out, |(key, item), out| {
            out.extend_from_slice(b"{\"key\":");
            text(key, out);
            out.extend_from_slice(b",\"value\":");
            nested(item, compact, depth, out)?;
            out.push(b'}');
            Ok(())
        })?,
        Value::Pairs(pairs) => sequence(b"[]", pairs.iter(), out, |(key, item), out| {
            out.extend_from_slice(b"{\"key\":");
            nested(key, compact, depth, out)?;
            out.extend_from_slice(b",\"value\":");
            nested(item, compact, depth, out)?;
            out.push(b'}');
            Ok(())
        })?,
        Value::Struct(fields) => {
            sequence(b"{}", fields.iter(), out, |(name, schema, item), out| {
                text(name, out);
                out.push(b':');
                nested(item.or_default(schema), compact, depth, out)
            })?
        }
    }
    Ok(())
}
