//! `org.apache.kafka.connect.json.JsonConverter`
//!
//! With `schemas.enable`, a record is `{"schema": .., "payload": ..}`; without, it is any JSON.
//!
//! Where Jackson's conversions lose something in silence (`"abc"` in an int32 field becomes 0, 2^40
//! becomes 0, 1.5 becomes 1), this is an error of the record. Integers above 64 bits are decimals in
//! records without a schema.

mod de;
pub mod pieces;
mod schema;
mod ser;

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny};
use serde_json::value::RawValue;

use super::Converter;
use crate::config::Settings;
use crate::data::{SchemaAndValue, SchemaRef, Value};
use crate::error::{ConnectError, ErrorKind};

pub use ser::{DecimalFormat, JsonOptions, write_json};

pub struct JsonConverter {
    schemas_enabled: bool,
    options: JsonOptions,
    cache_size: usize,
    /// By the text of the schema: a producer writes the same text each time.
    read: HashMap<Box<str>, SchemaRef>,
    /// By the address of the schema, which is kept alive here.
    written: HashMap<usize, (SchemaRef, Bytes)>,
}

const NO_ENVELOPE: &str = "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields \
    and may not contain additional fields. If you are trying to deserialize plain JSON data, set \
    schemas.enable=false in your converter configuration.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    schema: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl JsonConverter {
    pub fn new(settings: &Settings) -> JsonConverter {
        let format = settings.required_text("decimal.format");
        JsonConverter {
            schemas_enabled: settings.boolean("schemas.enable"),
            options: JsonOptions {
                decimals: if format.eq_ignore_ascii_case("NUMERIC") {
                    DecimalFormat::Numeric
                } else {
                    DecimalFormat::Base64
                },
                replace_null: settings.boolean("replace.null.with.default"),
            },
            cache_size: settings.long("schemas.cache.size") as usize,
            read: HashMap::new(),
            written: HashMap::new(),
        }
    }

    fn value(&self, schema: Option<&SchemaRef>, json: &[u8]) -> Result<Value, ConnectError> {
        let seed = de::Seed {
            schema,
            replace_null: self.options.replace_null,
        };
        let mut reader = serde_json::Deserializer::from_slice(json);
        let value = seed.deserialize(&mut reader);
        value
            .and_then(|v| reader.end().map(|()| v))
            .map_err(|e| error(&e))
    }

    fn read_schema(&mut self, json: &str) -> Result<Option<SchemaRef>, ConnectError> {
        if json == "null" {
            return Ok(None);
        }
        if let Some(schema) = self.read.get(json) {
            return Ok(Some(schema.clone()));
        }
        let parsed: serde_json::Value = serde_json::from_str(json).map_err(|e| error(&e))?;
        let schema: SchemaRef = schema::read(&parsed, 0)?.into();
        if self.read.len() >= self.cache_size {
            self.read.clear();
        }
        self.read.insert(json.into(), schema.clone());
        Ok(Some(schema))
    }

    /// The JSON of a schema, as it stands in envelopes.
    fn schema_json(&mut self, schema: &SchemaRef) -> Result<Bytes, ConnectError> {
        let address = std::sync::Arc::as_ptr(schema) as usize;
        if let Some((_, json)) = self.written.get(&address) {
            return Ok(json.clone());
        }
        let mut out = Vec::new();
        schema::write(schema, None, self.options, &mut out)?;
        let json = Bytes::from(out);
        if self.written.len() >= self.cache_size {
            self.written.clear();
        }
        self.written.insert(address, (schema.clone(), json.clone()));
        Ok(json)
    }
}

impl Converter for JsonConverter {
    fn class_name(&self) -> &'static str {
        "org.apache.kafka.connect.json.JsonConverter"
    }

    fn to_connect(&mut self, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let Some(bytes) = bytes else {
            return Ok(SchemaAndValue::NULL);
        };
        if !self.schemas_enabled {
            return Ok(SchemaAndValue::schemaless(self.value(None, bytes)?));
        }
        // That it is JSON at all is said first.
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|e| {
            let json = serde_json::from_slice::<IgnoredAny>(bytes);
            json.map_or_else(|_| error(&e), |_| ConnectError::data(NO_ENVELOPE))
        })?;
        let schema = self.read_schema(envelope.schema.get())?;
        let value = self.value(schema.as_ref(), envelope.payload.get().as_bytes())?;
        Ok(SchemaAndValue { schema, value })
    }

    fn from_connect(
        &mut self,
        schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>, ConnectError> {
        if schema.is_none() && value.is_null() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(256);
        if self.schemas_enabled {
            out.extend_from_slice(b"{\"schema\":");
            match schema {
                Some(schema) => out.extend_from_slice(&self.schema_json(schema)?),
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b",\"payload\":");
            write_json(schema, value, self.options, &mut out)?;
            out.push(b'}');
        } else {
            write_json(schema, value, self.options, &mut out)?;
        }
        Ok(Some(out.into()))
    }
}

/// What the reader of JSON says. A record that is JSON but not what its schema says is a different
/// failure from bytes that are no JSON.
fn error(error: &serde_json::Error) -> ConnectError {
    if error.is_data() {
        return ConnectError::data(error.to_string());
    }
    ConnectError::data(
        "Converting byte[] to Kafka Connect data failed due to serialization error: ",
    )
    .because(ConnectError::new(
        ErrorKind::Serialization,
        error.to_string(),
    ))
}
