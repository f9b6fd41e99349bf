//! How records are written into objects. The same records always give the same bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;

use ottla_connect::converter::{DecimalFormat, JsonOptions, write_json};
use ottla_connect::data::{SchemaAndValue, SinkRecord, Value};
use ottla_connect::error::ConnectError;

const JSON: JsonOptions = JsonOptions {
    decimals: DecimalFormat::Numeric,
    replace_null: true,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Key,
    Value,
    Offset,
    Timestamp,
    Headers,
}

impl Field {
    pub fn of(name: &str) -> Option<Field> {
        Some(match name {
            "key" => Field::Key,
            "value" => Field::Value,
            "offset" => Field::Offset,
            "timestamp" => Field::Timestamp,
            "headers" => Field::Headers,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Field::Key => "key",
            Field::Value => "value",
            Field::Offset => "offset",
            Field::Timestamp => "timestamp",
            Field::Headers => "headers",
        }
    }
}

#[derive(Clone, Debug)]
pub enum Format {
    /// A line of JSON with the value.
    Json,
    /// The value's bytes, and the separator after each.
    Bytes { separator: Vec<u8> },
    /// Aiven's jsonl.
    Lines { fields: Vec<Field>, envelope: bool },
    /// Aiven's csv.
    Csv { fields: Vec<Field>, base64: bool },
}

impl Format {
    pub fn write(&self, record: &SinkRecord, out: &mut Vec<u8>) -> Result<(), ConnectError> {
        match self {
            Format::Json => {
                json(&record.value, out)?;
                out.push(b'\n');
            }
            Format::Bytes { separator } => {
                let Value::Bytes(bytes) = &record.value.value else {
                    let kind = record.value.value.type_name();
                    return Err(ConnectError::data(format!(
                        "ByteArrayFormat needs bytes, not {kind}: set value.converter to ByteArrayConverter"
                    )));
                };
                out.extend_from_slice(bytes);
                out.extend_from_slice(separator);
            }
            Format::Lines { fields, envelope } => {
                if let ([field], false) = (fields.as_slice(), envelope) {
                    json_field(*field, record, out)?;
                } else {
                    out.push(b'{');
                    for (i, field) in fields.iter().enumerate() {
                        let comma = if i > 0 { "," } else { "" };
                        write!(out, "{comma}\"{}\":", field.name()).expect("a Vec takes all");
                        json_field(*field, record, out)?;
                    }
                    out.push(b'}');
                }
                out.push(b'\n');
            }
            Format::Csv { fields, base64 } => {
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    csv_field(*field, record, *base64, out)?;
                }
                out.push(b'\n');
            }
        }
        Ok(())
    }
}

fn json(data: &SchemaAndValue, out: &mut Vec<u8>) -> Result<(), ConnectError> {
    write_json(data.schema.as_ref(), &data.value, JSON, out)
}

fn json_field(field: Field, record: &SinkRecord, out: &mut Vec<u8>) -> Result<(), ConnectError> {
    match field {
        Field::Key => json(&record.key, out),
        Field::Value => json(&record.value, out),
        Field::Offset => json(
            &SchemaAndValue::schemaless(Value::Int64(record.offset)),
            out,
        ),
        Field::Timestamp => {
            let value = record.timestamp.map_or(Value::Null, Value::Int64);
            json(&SchemaAndValue::schemaless(value), out)
        }
        Field::Headers => {
            let mut map = ottla_connect::data::Map::new();
            for header in &record.headers {
                map.insert(header.key.clone(), header.value.value.clone());
            }
            json(&SchemaAndValue::schemaless(Value::Map(map)), out)
        }
    }
}

fn csv_field(
    field: Field,
    record: &SinkRecord,
    base64: bool,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    let encoded = |bytes: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    };
    let bytes = |data: &SchemaAndValue| match &data.value {
        Value::Null => Ok(Vec::new()),
        Value::Bytes(bytes) => Ok(bytes.to_vec()),
        Value::String(text) => Ok(text.clone().into_bytes()),
        other => Err(ConnectError::data(format!(
            "csv needs bytes or text, not {}: use ByteArrayConverter or StringConverter",
            other.type_name()
        ))),
    };
    match field {
        Field::Key => encoded(&bytes(&record.key)?, out),
        Field::Value if base64 => encoded(&bytes(&record.value)?, out),
        Field::Value => out.extend_from_slice(&bytes(&record.value)?),
        Field::Offset => out.extend_from_slice(record.offset.to_string().as_bytes()),
        Field::Timestamp => {
            let text = record.timestamp.map(ottla_connect::time::iso_timestamp);
            out.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        Field::Headers => {
            for (i, header) in record.original.headers.iter().enumerate() {
                if i > 0 {
                    out.push(b';');
                }
                encoded(header.key.as_bytes(), out);
                out.push(b':');
                encoded(header.value.as_deref().unwrap_or_default(), out);
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    /// Level 0 to 9, or the usual one.
    Gzip(Option<u32>),
    Zstd,
}

impl Compression {
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip(_) => ".gz",
            Compression::Zstd => ".zst",
        }
    }

    /// The bytes as they are stored. The gzip header has no time in it.
    pub fn compress(self, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(bytes),
            Compression::Gzip(level) => {
                let level = level.map_or(flate2::Compression::default(), flate2::Compression::new);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
            Compression::Zstd => zstd::bulk::compress(&bytes, 3),
        }
    }
}
