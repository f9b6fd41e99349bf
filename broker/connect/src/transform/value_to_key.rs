//! `ValueToKey`: makes the key of fields of the value.

use super::operand::{SchemaCache, rebuilt};
use super::{REPLACE_NULL, REPLACE_NULL_DEF, Transform};
use crate::config::tables::{REQUIRED, high};
use crate::config::{Check, Definition, Kind, Settings};
use crate::data::{Map, Schema, SchemaAndValue, SinkRecord, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    high(
        "fields",
        Kind::List,
        REQUIRED,
        "Names of the value's fields that make the key.",
    )
    .check(Check::NonEmptyList),
    REPLACE_NULL_DEF,
];

pub(super) struct ValueToKey {
    fields: Vec<String>,
    replace_null: bool,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<ValueToKey, ConnectError> {
    Ok(ValueToKey {
        fields: settings.list("fields").to_vec(),
        replace_null: settings.boolean(REPLACE_NULL),
        schemas: SchemaCache::default(),
    })
}

impl Transform for ValueToKey {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        let fields = &self.fields;
        record.key = match (&record.value.schema, &record.value.value) {
            (None, Value::Map(map)) => {
                let of = |name: &String| map.get(name).cloned().unwrap_or(Value::Null);
                let key: Map = fields.iter().map(|name| (name.clone(), of(name))).collect();
                SchemaAndValue::schemaless(Value::Map(key))
            }
            (Some(_), Value::Struct(value)) => {
                let schema = self.schemas.get(value.schema(), |schema| {
                    let mut key = Schema::new(Type::Struct);
                    for name in fields {
                        let field = schema.field_schema(name).cloned();
                        let missing =
                            || ConnectError::data(format!("Field does not exist: {name}"));
                        key.fields.insert(name.clone(), field.ok_or_else(missing)?);
                    }
                    Ok(key)
                })?;
                let names = schema.fields.keys();
                let values = names.filter_map(|n| value.get_as(n, self.replace_null).cloned());
                rebuilt(schema.clone(), values.collect())
            }
            (schema, other) => {
                let (expected, found) = match schema {
                    None => (
                        "Map objects supported in absence of schema",
                        other.type_name(),
                    ),
                    Some(_) => ("Struct objects supported", other.type_name()),
                };
                return Err(ConnectError::data(format!(
                    "Only {expected} for [copying fields from value to key], found: {found}"
                )));
            }
        };
        Ok(Some(record))
    }
}
