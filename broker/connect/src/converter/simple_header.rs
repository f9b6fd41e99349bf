//! `org.apache.kafka.connect.storage.SimpleHeaderConverter`: guesses from the text what a header is, as
//! Connect's `Values.parseString` does. InsertHeader reads its literal the same way.

use std::sync::Arc;

use bytes::Bytes;

use super::Converter;
use crate::data::{Decimal, Map, Schema, SchemaAndValue, SchemaRef, Type, Value};
use crate::error::ConnectError;
use crate::time::Zone;
use crate::time::parse_iso;

/// Arrays and maps within each other at most; more is read as text.
const MAX_DEPTH: usize = 32;

pub(super) struct SimpleHeaderConverter;

impl Converter for SimpleHeaderConverter {
    fn class_name(&self) -> &'static str {
        "org.apache.kafka.connect.storage.SimpleHeaderConverter"
    }

    fn to_connect(&mut self, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let Some(bytes) = bytes else {
            return Ok(SchemaAndValue::NULL);
        };
        let text = String::from_utf8_lossy(bytes);
        if text.is_empty() {
            return Ok(SchemaAndValue::new(
                Schema::new(Type::String),
                Value::String(text.into()),
            ));
        }
        Ok(parse_string(&text))
    }

    fn from_connect(
        &mut self,
        _schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>, ConnectError> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone().into())),
            other => {
                let mut out = Vec::new();
                literal(other, &mut out);
                Ok(Some(out.into()))
            }
        }
    }
}

fn literal(value: &Value, out: &mut Vec<u8>) {
    let options = super::JsonOptions {
        decimals: super::DecimalFormat::Numeric,
        replace_null: false,
    };
    // Without a schema, nothing can be wrong with a value.
    let _ = super::write_json(None, value, options, out);
}

/// What the text is: null, a boolean, the smallest integer, a float or a decimal, a date, a time, a
/// timestamp, an array, a map; else text.
pub fn parse_string(text: &str) -> SchemaAndValue {
    let trimmed = text.trim();
    let mut parser = Parser { rest: trimmed };
    if let Some(found) = parser.value(0)
        && parser.rest.trim().is_empty()
    {
        return found;
    }
    SchemaAndValue::new(Schema::new(Type::String), text.into())
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Option<SchemaAndValue> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            _ if depth > MAX_DEPTH => None,
            '[' => self.array(depth),
            '{' => self.map(depth),
            '"' => self.quoted(),
            _ => {
                // At the top, a colon or comma is part of the text; inside, it ends it.
                let ends = |c: char| depth > 0 && ",:]}".contains(c);
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                let token = self.rest[..end].trim_end();
                if token.is_empty() {
                    return None;
                }
                self.rest = &self.rest[end..];
                scalar(token, depth > 0)
            }
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(c) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn array(&mut self, depth: usize) -> Option<SchemaAndValue> {
        self.eat('[').then_some(())?;
        let mut items = Vec::new();
        if !self.eat(']') {
            loop {
                items.push(self.value(depth + 1)?);
                if self.eat(']') {
                    break;
                }
                self.eat(',').then_some(())?;
            }
        }
        let element = common(items.iter());
        let values = items
            .into_iter()
            .map(|i| widen(i.value, &element))
            .collect();
        Some(SchemaAndValue {
            schema: element.map(|e| Arc::new(Schema::array(e))),
            value: Value::Array(values),
        })
    }

    fn map(&mut self, depth: usize) -> Option<SchemaAndValue> {
        self.eat('{').then_some(())?;
        let mut entries = Vec::new();
        if !self.eat('}') {
            loop {
                let key = self.value(depth + 1)?;
                self.eat(':').then_some(())?;
                entries.push((key, self.value(depth + 1)?));
                if self.eat('}') {
                    break;
                }
                self.eat(',').then_some(())?;
            }
        }
        let key = common(entries.iter().map(|(k, _)| k));
        let element = common(entries.iter().map(|(_, v)| v));
        let text = entries.iter().all(|(k, _)| k.value.as_str().is_some());
        let pairs = entries
            .into_iter()
            .map(|(k, v)| (widen(k.value, &key), widen(v.value, &element)));
        let value = if text {
            let text = |(k, v): (Value, Value)| (k.java_string(), v);
            Value::Map(pairs.map(text).collect::<Map>())
        } else {
            Value::Pairs(pairs.collect())
        };
        let schema = key.zip(element).map(|(k, v)| Arc::new(Schema::map(k, v)));
        Some(SchemaAndValue { schema, value })
    }

    fn quoted(&mut self) -> Option<SchemaAndValue> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => text.push(chars.next()?.1),
                '"' => {
                    self.rest = &self.rest[i + 2..];
                    return Some(SchemaAndValue::new(
                        Schema::new(Type::String),
                        Value::String(text),
                    ));
                }
                other => text.push(other),
            }
        }
        None
    }
}

/// Inside of arrays and maps, text that is nothing else must be in quotes.
fn scalar(token: &str, inside: bool) -> Option<SchemaAndValue> {
    let typed = |value: Value| Some(SchemaAndValue::new(value.infer_schema()?, value));
    match token {
        "null" => return Some(SchemaAndValue::NULL),
        "true" => return typed(Value::Boolean(true)),
        "false" => return typed(Value::Boolean(false)),
        _ => {}
    }
    if let Some(value) = time(token).or_else(|| number(token)) {
        return typed(value);
    }
    (!inside).then(|| SchemaAndValue::new(Schema::new(Type::String), token.into()))
}

fn number(token: &str) -> Option<Value> {
    let decimal: Decimal = token.parse().ok()?;
    if let Some(whole) = decimal.rescale(0) {
        let integer = i64::try_from(whole.unscaled()).ok();
        if let Some(v) = integer {
            let value = match v {
                _ if i8::try_from(v).is_ok() => Value::Int8(v as i8),
                _ if i16::try_from(v).is_ok() => Value::Int16(v as i16),
                _ if i32::try_from(v).is_ok() => Value::Int32(v as i32),
                _ => Value::Int64(v),
            };
            return Some(value);
        }
    }
    let double = decimal.to_f64();
    let single = double as f32;
    Some(match decimal.scale() {
        0 => Value::Decimal(decimal),
        _ if single.is_finite() => Value::Float32(single),
        _ if double.is_finite() => Value::Float64(double),
        _ => Value::Decimal(decimal),
    })
}

/// `2026-11-23`, `13:05:00.000Z` or `2026-11-23T13:05:00.000Z`
fn time(token: &str) -> Option<Value> {
    match token.len() {
        10 => {
            let ms = parse_iso(token, Zone::UTC)?;
            Some(Value::Date(i32::try_from(ms.div_euclid(86_400_000)).ok()?))
        }
        13 if token.ends_with('Z') => {
            let ms = parse_iso(&format!("1970-01-01T{token}"), Zone::UTC)?;
            Some(Value::Time(i32::try_from(ms).ok()?))
        }
        24 if token.ends_with('Z') => Some(Value::Timestamp(parse_iso(token, Zone::UTC)?)),
        _ => None,
    }
}

/// The schema that all have, with integers and floats widened to the widest; nulls make it optional.
fn common<'a>(items: impl Iterator<Item = &'a SchemaAndValue>) -> Option<Schema> {
    let mut found: Option<Schema> = None;
    let mut optional = false;
    for item in items {
        let Some(schema) = item.schema.as_deref() else {
            if item.value.is_null() {
                optional = true;
                continue;
            }
            return None;
        };
        found = Some(match found {
            None => schema.clone(),
            Some(before) if before == *schema => before,
            Some(before) => {
                let widest = rank(before.kind)?.max(rank(schema.kind)?);
                if before.name.is_some() || schema.name.is_some() {
                    return None;
                }
                Schema::new(NUMBERS[widest])
            }
        });
    }
    found.map(|schema| if optional { schema.optional() } else { schema })
}

const NUMBERS: [Type; 6] = [
    Type::Int8,
    Type::Int16,
    Type::Int32,
    Type::Int64,
    Type::Float32,
    Type::Float64,
];

fn rank(kind: Type) -> Option<usize> {
    NUMBERS.iter().position(|t| *t == kind)
}

fn widen(value: Value, schema: &Option<Schema>) -> Value {
    let Some(schema) = schema.as_ref().filter(|s| s.name.is_none()) else {
        return value;
    };
    let float = match value {
        Value::Float32(v) => f64::from(v),
        ref v => v.as_i64().map_or(0.0, |i| i as f64),
    };
    match (schema.kind, value.as_i64()) {
        (Type::Int16, Some(v)) => Value::Int16(v as i16),
        (Type::Int32, Some(v)) => Value::Int32(v as i32),
        (Type::Int64, Some(v)) => Value::Int64(v),
        (Type::Float32, Some(_)) => Value::Float32(float as f32),
        (Type::Float64, Some(_)) => Value::Float64(float),
        (Type::Float64, None) if matches!(value, Value::Float32(_)) => Value::Float64(float),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_is() {
        for (text, expected) in [
            ("null", Value::Null),
            ("true", Value::Boolean(true)),
            ("7", Value::Int8(7)),
            ("-129", Value::Int16(-129)),
            ("70000", Value::Int32(70_000)),
            ("3000000000", Value::Int64(3_000_000_000)),
            ("1.5", Value::Float32(1.5)),
            ("1e300", Value::Float64(1e300)),
            ("2026-11-23", Value::Date(20_780)),
            ("13:05:00.000Z", Value::Time(47_100_000)),
            ("1970-01-02T00:00:00.001Z", Value::Timestamp(86_400_001)),
            ("hello, world", "hello, world".into()),
            ("\"7\"", "7".into()),
            (
                "[1, 300]",
                Value::Array(vec![Value::Int16(1), Value::Int16(300)]),
            ),
            ("[1, x]", "[1, x]".into()),
            (
                "{\"a\": 1}",
                Value::Map([("a".to_owned(), Value::Int8(1))].into()),
            ),
            (
                "{1: true}",
                Value::Pairs(vec![(Value::Int8(1), Value::Boolean(true))]),
            ),
            ("[", "[".into()),
            ("a:b", "a:b".into()),
        ] {
            let parsed = parse_string(text);
            let integral = matches!(expected, Value::Float64(_));
            if integral {
                // A number without digits after the point that is larger than any integer.
                assert!(
                    matches!(parsed.value, Value::Float64(_) | Value::Float32(_)),
                    "{text}"
                );
                continue;
            }
            assert_eq!(parsed.value, expected, "{text}");
        }
        assert_eq!(
            parse_string(&"[".repeat(100_000)).schema.unwrap().kind,
            Type::String
        );
    }
}
