//! `TimestampConverter`: times between text, Unix epoch, and Connect's Date, Time and Timestamp. All in UTC.

use super::operand::{Operation, SchemaCache, rebuilt, require_map, require_struct};
use super::{REPLACE_NULL, REPLACE_NULL_DEF};
use crate::config::tables::{REQUIRED, high, low, medium, text};
use crate::config::{Definition, Kind, Settings};
use crate::data::{Logical, Schema, SchemaAndValue, SchemaRef, SinkRecord, Type, Value};
use crate::error::ConnectError;
use crate::time::{Dialect, Locale, Pattern, Zone};

pub(super) const TABLE: &[Definition] = &[
    high(
        "field",
        Kind::String,
        text(""),
        "The field that has the time; if empty, the whole key or value is one.",
    ),
    high(
        "target.type",
        Kind::String,
        REQUIRED,
        "What the time becomes.",
    )
    .one_of(&["string", "unix", "Date", "Time", "Timestamp"]),
    medium(
        "format",
        Kind::String,
        text(""),
        "A SimpleDateFormat pattern for texts, read or written.",
    ),
    low(
        "unix.precision",
        Kind::String,
        text("milliseconds"),
        "The unit of Unix times, read or written. Times are reckoned in milliseconds.",
    )
    .one_of(&["nanoseconds", "microseconds", "milliseconds", "seconds"]),
    REPLACE_NULL_DEF,
];

const PURPOSE: &str = "converting timestamp formats";
const DAY_MS: i64 = 86_400_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Unix,
    Date,
    Time,
    Timestamp,
}

#[derive(Clone, Copy)]
enum Precision {
    /// Units that make a millisecond.
    Finer(i64),
    /// Milliseconds that make a unit.
    Coarser(i64),
}

pub(super) struct TimestampConverter {
    field: String,
    target: Format,
    pattern: Option<Pattern>,
    precision: Precision,
    replace_null: bool,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<TimestampConverter, ConnectError> {
    let target = match settings.required_text("target.type") {
        "string" => Format::Text,
        "unix" => Format::Unix,
        "Date" => Format::Date,
        "Time" => Format::Time,
        _ => Format::Timestamp,
    };
    let format = settings.required_text("format");
    if target == Format::Text && format.is_empty() {
        return Err(ConnectError::config(
            "TimestampConverter requires format option to be specified when using string timestamps",
        ));
    }
    let pattern = (!format.is_empty())
        .then(|| Pattern::parse(format, Dialect::SimpleDateFormat, &Locale::english()))
        .transpose()
        .map_err(|e| {
            ConnectError::config(format!(
                "TimestampConverter requires a SimpleDateFormat-compatible pattern for string timestamps: \
                 {format}: {e}"
            ))
        })?;
    Ok(TimestampConverter {
        field: settings.required_text("field").to_owned(),
        target,
        pattern,
        precision: match settings.required_text("unix.precision") {
            "nanoseconds" => Precision::Finer(1_000_000),
            "microseconds" => Precision::Finer(1000),
            "seconds" => Precision::Coarser(1000),
            _ => Precision::Finer(1),
        },
        replace_null: settings.boolean(REPLACE_NULL),
        schemas: SchemaCache::default(),
    })
}

fn schema_of(target: Format, optional: bool) -> Schema {
    let schema = match target {
        Format::Text => Schema::new(Type::String),
        Format::Unix => Schema::new(Type::Int64),
        Format::Date => Schema::logical(Logical::Date),
        Format::Time => Schema::logical(Logical::Time),
        Format::Timestamp => Schema::logical(Logical::Timestamp),
    };
    schema.with_optional(optional)
}

/// That a value under this schema can be a time.
fn check_source(schema: &Schema) -> Result<(), ConnectError> {
    match (schema.logical_type(), schema.kind) {
        (Some(Logical::Date | Logical::Time | Logical::Timestamp), _)
        | (_, Type::String | Type::Int64) => Ok(()),
        _ => Err(ConnectError::new(
            crate::error::ErrorKind::Connect,
            format!(
                "Schema {} does not correspond to a known timestamp type format",
                schema.name.as_deref().unwrap_or(schema.kind.name())
            ),
        )),
    }
}

impl TimestampConverter {
    fn convert(&self, value: &Value) -> Result<Value, ConnectError> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let ms = self.read(value)?;
        let overflow = || ConnectError::data(format!("The time {ms} ms is out of range"));
        Ok(match self.target {
            Format::Text => {
                let pattern = self.pattern.as_ref().expect("text needs a pattern");
                Value::String(pattern.format(ms, Zone::UTC).ok_or_else(overflow)?)
            }
            Format::Unix => Value::Int64(match self.precision {
                Precision::Finer(units) => ms.checked_mul(units).ok_or_else(overflow)?,
                // Towards zero, as Java's TimeUnit.
                Precision::Coarser(unit) => ms / unit,
            }),
            Format::Date => {
                let days = i32::try_from(ms.div_euclid(DAY_MS));
                Value::Date(days.map_err(|_| overflow())?)
            }
            Format::Time => Value::Time(ms.rem_euclid(DAY_MS) as i32),
            Format::Timestamp => Value::Timestamp(ms),
        })
    }

    fn read(&self, value: &Value) -> Result<i64, ConnectError> {
        match value {
            Value::Timestamp(ms) => Ok(*ms),
            Value::Date(days) => Ok(i64::from(*days) * DAY_MS),
            Value::Time(ms) => Ok(i64::from(*ms)),
            Value::Int64(time) => match self.precision {
                Precision::Finer(units) => Ok(time / units),
                Precision::Coarser(unit) => time.checked_mul(unit).ok_or_else(|| {
                    ConnectError::data(format!("The time {time} s is out of range"))
                }),
            },
            Value::String(text) => {
                let Some(pattern) = &self.pattern else {
                    let message = "TimestampConverter needs format to read string timestamps";
                    return Err(ConnectError::data(message));
                };
                pattern.read(text, Zone::UTC).ok_or_else(|| {
                    ConnectError::data(format!(
                        "Could not parse timestamp: value ({text}) does not match pattern ({})",
                        pattern.as_str()
                    ))
                })
            }
            other => Err(ConnectError::data(format!(
                "TimestampConverter does not support {} objects as timestamps",
                other.type_name()
            ))),
        }
    }

    fn field_with_schema(
        &mut self,
        schema: SchemaRef,
        value: Value,
    ) -> Result<SchemaAndValue, ConnectError> {
        let (field, target) = (&self.field, self.target);
        let updated = self.schemas.get(&schema, |schema| {
            let mut updated = schema.clone();
            updated.default = None;
            if let Some(source) = schema.field_schema(field) {
                check_source(source)?;
                updated
                    .fields
                    .insert(field.clone(), schema_of(target, source.optional).into());
            }
            Ok(updated)
        })?;
        if value.is_null() {
            return Ok(SchemaAndValue::new(updated, Value::Null));
        }
        let value = require_struct(value, PURPOSE)?;
        let names = value.schema().fields.keys();
        let values = names.map(|name| {
            let old = value
                .get_as(name, self.replace_null)
                .unwrap_or(&Value::Null);
            if *name == self.field {
                self.convert(old)
            } else {
                Ok(old.clone())
            }
        });
        let values = values.collect::<Result<_, _>>()?;
        Ok(rebuilt(updated, values))
    }
}

impl Operation for TimestampConverter {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        match operand.schema {
            Some(schema) if self.field.is_empty() => {
                check_source(&schema)?;
                let updated = schema_of(self.target, schema.optional);
                Ok(SchemaAndValue::new(updated, self.convert(&operand.value)?))
            }
            Some(schema) => self.field_with_schema(schema, operand.value),
            None if operand.value.is_null() || self.field.is_empty() => {
                Ok(SchemaAndValue::schemaless(self.convert(&operand.value)?))
            }
            None => {
                let mut map = require_map(operand.value, PURPOSE)?;
                let converted = self.convert(map.get(&self.field).unwrap_or(&Value::Null))?;
                map.insert(self.field.clone(), converted);
                Ok(SchemaAndValue::schemaless(Value::Map(map)))
            }
        }
    }
}
