//! Reads JSON into Connect's data in one pass, led by the schema if there is one. Hot path: what is
//! allocated is what the value holds.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::data::{Decimal, Logical, Map, Schema, SchemaRef, Struct, Type, Value};

#[derive(Clone, Copy)]
pub(super) struct Seed<'a> {
    pub schema: Option<&'a SchemaRef>,
    pub replace_null: bool,
}

impl<'a> Seed<'a> {
    fn inner(self, schema: Option<&'a SchemaRef>) -> Seed<'a> {
        Seed { schema, ..self }
    }

    /// What null stands for here.
    fn null<E: Error>(self) -> Result<Value, E> {
        let Some(schema) = self.schema else {
            return Ok(Value::Null);
        };
        match &schema.default {
            Some(default) if self.replace_null => Ok(default.clone()),
            _ if schema.optional => Ok(Value::Null),
            _ => Err(E::custom(format_args!(
                "Invalid null value for required {} field",
                schema.kind
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.schema.and_then(|s| s.logical_type().map(|l| (s, l))) {
            Some((schema, Logical::Decimal)) => decimal(self, schema, deserializer),
            _ => deserializer.deserialize_any(self),
        }
    }
}

/// A decimal is base64 or a number; the number is read as it is written, so that no digit is lost.
fn decimal<'de, D: Deserializer<'de>>(
    seed: Seed<'_>,
    schema: &Schema,
    deserializer: D,
) -> Result<Value, D::Error> {
    let raw = <Box<RawValue> as serde::Deserialize>::deserialize(deserializer)?;
    let json = raw.get();
    if json == "null" {
        return seed.null();
    }
    let scale = schema
        .scale()
        .ok_or_else(|| D::Error::custom("Invalid Decimal schema: scale parameter not found"))?;
    let decimal = if json.starts_with('"') {
        let text: String = serde_json::from_str(json).map_err(D::Error::custom)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        Decimal::from_bytes(&bytes, scale)
    } else {
        json.parse()
    };
    decimal.map(Value::Decimal).map_err(|_| {
        D::Error::custom(format_args!(
            "Invalid type for Decimal, underlying representation should be numeric or bytes but was {json:.40}"
        ))
    })
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schema {
            None => f.write_str("JSON"),
            Some(schema) => match schema.kind {
                Type::Struct => f.write_str("a JSON object for a struct"),
                Type::Map if string_keys(schema) => f.write_str("a JSON object for a map"),
                Type::Map => f.write_str("a JSON array of pairs for a map"),
                Type::Bytes => f.write_str("text in base64 for bytes"),
                kind => write!(f, "a value for {kind}"),
            },
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.null()
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        match self.schema.map(|s| s.kind) {
            None | Some(Type::Boolean) => Ok(Value::Boolean(v)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(v), &self)),
        }
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        let Some(schema) = self.schema else {
            return Ok(Value::Int64(v));
        };
        let value = match schema.kind {
            Type::Int8 => i8::try_from(v).ok().map(Value::Int8),
            Type::Int16 => i16::try_from(v).ok().map(Value::Int16),
            Type::Int32 => i32::try_from(v).ok().map(|v| match schema.logical_type() {
                Some(Logical::Date) => Value::Date(v),
                Some(Logical::Time) => Value::Time(v),
                _ => Value::Int32(v),
            }),
            Type::Int64 if schema.logical_type().is_some() => Some(Value::Timestamp(v)),
            Type::Int64 => Some(Value::Int64(v)),
            Type::Float32 => Some(Value::Float32(v as f32)),
            Type::Float64 => Some(Value::Float64(v as f64)),
            _ => None,
        };
        value.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(v), &self))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        match (i64::try_from(v), self.schema.map(|s| s.kind)) {
            (Ok(v), _) => self.visit_i64(v),
            (_, None) => Decimal::new(v, 0).map(Value::Decimal).map_err(E::custom),
            (_, Some(Type::Float32)) => Ok(Value::Float32(v as f32)),
            (_, Some(Type::Float64)) => Ok(Value::Float64(v as f64)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(v), &self)),
        }
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        match self.schema.map(|s| s.kind) {
            None | Some(Type::Float64) => Ok(Value::Float64(v)),
            Some(Type::Float32) => Ok(Value::Float32(v as f32)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Float(v), &self)),
        }
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        match self.schema.map(|s| s.kind) {
            None | Some(Type::String) => Ok(Value::String(v.to_owned())),
            Some(Type::Bytes) => match STANDARD.decode(v) {
                Ok(bytes) => Ok(Value::Bytes(bytes.into())),
                Err(e) => Err(E::custom(format_args!("Invalid bytes field: {e}"))),
            },
            // What is no number in JSON, Jackson writes as text.
            Some(Type::Float64) => special(v).map(Value::Float64).ok_or_else(|| self.text(v)),
            Some(Type::Float32) => {
                let value = special(v).map(|v| Value::Float32(v as f32));
                value.ok_or_else(|| self.text(v))
            }
            _ => Err(self.text(v)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let element = match self.schema {
            None => None,
            Some(schema) if schema.kind == Type::Array => schema.value.as_ref(),
            Some(schema) if schema.kind == Type::Map && !string_keys(schema) => {
                return self.pairs(schema, seq);
            }
            Some(_) => return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        };
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.inner(element))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let element = match self.schema {
            None => None,
            Some(schema) if schema.kind == Type::Struct => return self.structure(schema, map),
            Some(schema) if schema.kind == Type::Map && string_keys(schema) => {
                schema.value.as_ref()
            }
            Some(_) => return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        };
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            // Of a name that occurs twice the last value counts, as in Jackson.
            entries.insert(key, map.next_value_seed(self.inner(element))?);
        }
        Ok(Value::Map(entries))
    }
}

impl Seed<'_> {
    fn text<E: Error>(&self, v: &str) -> E {
        E::invalid_type(serde::de::Unexpected::Str(v), self)
    }

    fn structure<'de, A: MapAccess<'de>>(
        self,
        schema: &SchemaRef,
        mut map: A,
    ) -> Result<Value, A::Error> {
        let mut values: Vec<Option<Value>> = vec![None; schema.fields.len()];
        while let Some(name) = map.next_key_seed(Name)? {
            match schema.fields.get_full(name.as_ref()) {
                Some((index, _, field)) => {
                    values[index] = Some(map.next_value_seed(self.inner(Some(field)))?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let filled = values.into_iter().zip(schema.fields.values());
        let filled = filled.map(|(value, field)| match value {
            Some(value) => Ok(value),
            None => self.inner(Some(field)).null(),
        });
        let values = filled.collect::<Result<_, A::Error>>()?;
        Ok(Value::Struct(Struct::of(schema.clone(), values)))
    }

    fn pairs<'de, A: SeqAccess<'de>>(
        self,
        schema: &SchemaRef,
        mut seq: A,
    ) -> Result<Value, A::Error> {
        let pair = Pair {
            key: self.inner(schema.key.as_ref()),
            value: self.inner(schema.value.as_ref()),
        };
        let mut pairs = Vec::new();
        while let Some(entry) = seq.next_element_seed(pair)? {
            pairs.push(entry);
        }
        Ok(Value::Pairs(pairs))
    }
}

pub(super) fn string_keys(schema: &Schema) -> bool {
    schema.key.as_ref().is_none_or(|k| k.kind == Type::String)
}

fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A field's name, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
        Ok(v.into())
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok(v.to_owned().into())
    }
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    key: Seed<'a>,
    value: Seed<'a>,
}

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = (Value, Value);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = (Value, Value);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of a key and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let short = |n| A::Error::invalid_length(n, &"a key and a value");
        let key = seq.next_element_seed(self.key)?.ok_or_else(|| short(0))?;
        let value = seq.next_element_seed(self.value)?.ok_or_else(|| short(1))?;
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(short(3));
        }
        Ok((key, value))
    }
}
