//! `HashField`: replaces values by their HMAC-SHA256 under a secret key, so that equal values stay equal
//! and nobody without the key can tell what they were, not even by trying all card numbers.
//!
//! What is hashed is the UTF-8 of the value's text (numbers as Java writes them), or the bytes
//! themselves. The result is text, in lower case hexadecimal digits or base64. A null stays null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::SYNTAX_DEF;
use super::field_path::FieldPath;
use super::operand::{Operation, SchemaCache, rebuilt};
use crate::config::tables::{REQUIRED, high, low, text};
use crate::config::{Check, Definition, Kind, Settings};
use crate::data::{Schema, SchemaAndValue, SchemaRef, SinkRecord, Struct, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    high(
        "fields",
        Kind::List,
        REQUIRED,
        "Names of the fields to hash, or their paths with field.syntax.version=V2.",
    )
    .check(Check::NonEmptyList),
    high(
        "secret",
        Kind::Password,
        REQUIRED,
        "The key: at least 16 bytes, best from a config provider.",
    )
    .check(Check::By(secret)),
    low(
        "output",
        Kind::String,
        text("hex"),
        "How the hash is written.",
    )
    .one_of(&["hex", "base64"]),
    SYNTAX_DEF,
];

fn secret(text: &str) -> Result<(), String> {
    if text.len() < 16 {
        return Err("The key must have at least 16 bytes".into());
    }
    Ok(())
}

pub(super) struct HashField {
    paths: Vec<FieldPath>,
    key: Hmac<Sha256>,
    base64: bool,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<HashField, ConnectError> {
    let fields = settings.list("fields").iter();
    let secret = settings.secret("secret").expect("a required key");
    Ok(HashField {
        paths: fields
            .map(|f| FieldPath::of(f, settings))
            .collect::<Result<_, _>>()?,
        key: Hmac::new_from_slice(secret.reveal().as_bytes()).expect("a key of any length"),
        base64: settings.required_text("output") == "base64",
        schemas: SchemaCache::default(),
    })
}

impl HashField {
    fn hashed(&self, value: &Value) -> Result<Value, ConnectError> {
        let mut mac = self.key.clone();
        match value {
            Value::Null => return Ok(Value::Null),
            Value::Bytes(bytes) => mac.update(bytes),
            Value::String(text) => mac.update(text.as_bytes()),
            other => {
                let text = other.to_text().ok_or_else(|| {
                    let kind = other.type_name();
                    ConnectError::data(format!("Cannot hash value of type: {kind}"))
                })?;
                mac.update(text.as_bytes());
            }
        }
        let hash = mac.finalize().into_bytes();
        Ok(Value::String(if self.base64 {
            STANDARD.encode(hash)
        } else {
            crate::audit::hex(&hash)
        }))
    }

    /// The value with the hash at the end of the path. A path that leads nowhere changes nothing.
    fn replace(&self, value: &mut Value, path: &[String]) -> Result<(), ConnectError> {
        let Some((step, rest)) = path.split_first() else {
            *value = self.hashed(value)?;
            return Ok(());
        };
        match value {
            Value::Map(map) => map
                .get_mut(step)
                .map_or(Ok(()), |inner| self.replace(inner, rest)),
            Value::Null => Ok(()),
            other => Err(ConnectError::data(format!(
                "Only Map objects supported in absence of schema for [hash fields], found: {}",
                other.type_name()
            ))),
        }
    }

    /// The struct under its changed schema.
    fn rebuild(
        &self,
        value: &Struct,
        schema: &SchemaRef,
        paths: &[&[String]],
    ) -> Result<Value, ConnectError> {
        let fields = value.iter().zip(schema.fields.values());
        let values = fields.map(|((name, _, value), changed)| {
            let inner = below(paths, name);
            match value {
                _ if inner.is_empty() => Ok(value.clone()),
                value if inner.iter().any(|p| p.is_empty()) => self.hashed(value),
                Value::Struct(value) => self.rebuild(value, changed, &inner),
                other => Ok(other.clone()),
            }
        });
        let values = values.collect::<Result<_, _>>()?;
        Ok(Value::Struct(Struct::of(schema.clone(), values)))
    }
}

/// What is left of the paths that begin with the step.
fn below<'a>(paths: &[&'a [String]], step: &str) -> Vec<&'a [String]> {
    let inner = paths.iter().filter_map(|path| match path.split_first() {
        Some((first, rest)) if first == step => Some(rest),
        _ => None,
    });
    inner.collect()
}

/// The schema in which hashed fields are text.
fn text_schema(schema: &Schema, paths: &[&[String]]) -> Schema {
    let fields = schema.fields.iter().map(|(name, field)| {
        let inner = below(paths, name);
        let changed = match field.kind {
            _ if inner.is_empty() => field.clone(),
            _ if inner.iter().any(|p| p.is_empty()) => Schema::new(Type::String)
                .with_optional(field.optional)
                .into(),
            Type::Struct => text_schema(field, &inner).into(),
            _ => field.clone(),
        };
        (name.clone(), changed)
    });
    Schema {
        fields: fields.collect(),
        optional: schema.optional,
        ..schema.basics(Type::Struct)
    }
}

impl Operation for HashField {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        if operand.value.is_null() {
            return Ok(operand);
        }
        let mut value = operand.value;
        let (Some(schema), Value::Struct(inner)) = (&operand.schema, &value) else {
            if operand.schema.is_some() || !matches!(value, Value::Map(_)) {
                let kind = value.type_name();
                let message = format!(
                    "Only Struct and Map objects supported for [hash fields], found: {kind}"
                );
                return Err(ConnectError::data(message));
            }
            for path in &self.paths {
                self.replace(&mut value, path.steps())?;
            }
            return Ok(SchemaAndValue::schemaless(value));
        };
        let paths: Vec<&[String]> = self.paths.iter().map(FieldPath::steps).collect();
        let changed = self
            .schemas
            .get(schema, |schema| Ok(text_schema(schema, &paths)))?;
        match self.rebuild(inner, &changed, &paths)? {
            Value::Struct(value) => Ok(rebuilt(changed, value.into_values())),
            _ => unreachable!("a struct becomes a struct"),
        }
    }
}
