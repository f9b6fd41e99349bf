//! Schemas in JSON, as they stand in envelopes.

use serde::de::DeserializeSeed;
use serde_json::Value as Json;

use super::de::Seed;
use super::pieces::text;
use super::ser::{JsonOptions, write_json};
use crate::data::{Schema, Type};
use crate::error::ConnectError;

/// Schemas within each other at most.
const MAX_DEPTH: usize = 100;

fn kind(name: &str) -> Option<Type> {
    Some(match name {
        "float" => Type::Float32,
        "double" => Type::Float64,
        "float32" | "float64" => return None,
        other => Type::ALL.into_iter().find(|t| t.name() == other)?,
    })
}

fn name(kind: Type) -> &'static str {
    match kind {
        Type::Float32 => "float",
        Type::Float64 => "double",
        other => other.name(),
    }
}

pub(super) fn read(json: &Json, depth: usize) -> Result<Schema, ConnectError> {
    let fail = |message: String| Err(ConnectError::data(message));
    if depth > MAX_DEPTH {
        return fail(format!("Schemas are nested more than {MAX_DEPTH} deep"));
    }
    let Some(type_name) = json.get("type").and_then(Json::as_str) else {
        return fail("Schema must contain 'type' field".into());
    };
    let Some(kind) = kind(type_name) else {
        return fail(format!("Unknown schema type: {type_name}"));
    };
    let inner = |key: &str, missing: &str| match json.get(key) {
        None | Some(Json::Null) => Err(ConnectError::data(missing)),
        Some(schema) => read(schema, depth + 1),
    };
    let mut schema = match kind {
        Type::Array => Schema::array(inner(
            "items",
            "Array schema did not specify the element type",
        )?),
        Type::Map => Schema::map(
            inner("keys", "Map schema did not specify the key type")?,
            inner("values", "Map schema did not specify the value type")?,
        ),
        _ => Schema::new(kind),
    };
    if kind == Type::Struct {
        let Some(fields) = json.get("fields").and_then(Json::as_array) else {
            return fail("Struct schema's \"fields\" argument is not an array.".into());
        };
        for field in fields {
            let Some(name) = field.get("field").and_then(Json::as_str) else {
                return fail("Struct schema's field name not specified properly".into());
            };
            if schema.fields.contains_key(name) {
                return fail(format!(
                    "Cannot create field because of field name duplication {name}"
                ));
            }
            schema = schema.field(name, read(field, depth + 1)?);
        }
    }
    let text = |key: &str| json.get(key).and_then(Json::as_str).map(str::to_owned);
    schema.optional = json
        .get("optional")
        .and_then(Json::as_bool)
        .unwrap_or(false);
    schema.name = text("name");
    schema.doc = text("doc");
    schema.version = json
        .get("version")
        .and_then(Json::as_i64)
        .and_then(|v| i32::try_from(v).ok());
    for (key, value) in json
        .get("parameters")
        .and_then(Json::as_object)
        .into_iter()
        .flatten()
    {
        let Some(value) = value.as_str() else {
            return fail("Schema parameters must have string values.".into());
        };
        schema.parameters.insert(key.clone(), value.into());
    }
    default(schema, json.get("default"))
}

fn default(schema: Schema, json: Option<&Json>) -> Result<Schema, ConnectError> {
    let Some(json) = json.filter(|json| !json.is_null()) else {
        return Ok(schema);
    };
    let schema = schema.into();
    let seed = Seed {
        schema: Some(&schema),
        replace_null: true,
    };
    let default = seed.deserialize(json).map_err(|e| super::error(&e))?;
    Ok(Schema {
        default: Some(default),
        ..schema.as_ref().clone()
    })
}

/// Writes a schema with its members in Kafka Connect's order. `field` is its name in the struct around it.
pub(super) fn write(
    schema: &Schema,
    field: Option<&str>,
    options: JsonOptions,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    out.extend_from_slice(b"{\"type\":");
    text(name(schema.kind), out);
    match (schema.kind, &schema.key, &schema.value) {
        (Type::Struct, ..) => {
            out.extend_from_slice(b",\"fields\":[");
            for (i, (name, inner)) in schema.fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(inner, Some(name), options, out)?;
            }
            out.push(b']');
        }
        (Type::Array, _, Some(items)) => {
            out.extend_from_slice(b",\"items\":");
            write(items, None, options, out)?;
        }
        (Type::Map, Some(keys), Some(values)) => {
            out.extend_from_slice(b",\"keys\":");
            write(keys, None, options, out)?;
            out.extend_from_slice(b",\"values\":");
            write(values, None, options, out)?;
        }
        _ => {}
    }
    out.extend_from_slice(if schema.optional {
        b",\"optional\":true"
    } else {
        b",\"optional\":false"
    });
    member("name", schema.name.as_deref(), out);
    if let Some(version) = schema.version {
        out.extend_from_slice(format!(",\"version\":{version}").as_bytes());
    }
    member("doc", schema.doc.as_deref(), out);
    if !schema.parameters.is_empty() {
        out.extend_from_slice(b",\"parameters\":{");
        for (i, (key, value)) in schema.parameters.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            text(key, out);
            out.push(b':');
            text(value, out);
        }
        out.push(b'}');
    }
    if let Some(default) = &schema.default {
        out.extend_from_slice(b",\"default\":");
        write_json(Some(&schema.clone().into()), default, options, out)?;
    }
    member("field", field, out);
    out.push(b'}');
    Ok(())
}

fn member(key: &str, value: Option<&str>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.push(b',');
        text(key, out);
        out.push(b':');
        text(value, out);
    }
}
