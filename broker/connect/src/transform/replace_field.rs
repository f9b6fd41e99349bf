//! `ReplaceField`: leaves fields out, and renames them.

use std::collections::HashMap;

use super::operand::{Operation, SchemaCache, rebuilt, require_map, require_struct};
use super::{REPLACE_NULL, REPLACE_NULL_DEF};
use crate::config::tables::{NULL, low, medium, text};
use crate::config::{Check, Definition, Kind, Settings, settings_list};
use crate::data::{SchemaAndValue, SinkRecord, Type, Value};
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    medium(
        "exclude",
        Kind::List,
        text(""),
        "Fields to leave out; they are left out even if include names them.",
    ),
    low("blacklist", Kind::List, NULL, "The old name of exclude."),
    medium(
        "include",
        Kind::List,
        text(""),
        "Fields to keep; all if empty.",
    ),
    low("whitelist", Kind::List, NULL, "The old name of include."),
    medium(
        "renames",
        Kind::List,
        text(""),
        "Old and new names, as old:new.",
    )
    .check(Check::By(renames)),
    REPLACE_NULL_DEF,
];

const PURPOSE: &str = "field replacement";

pub(super) struct ReplaceField {
    exclude: Vec<String>,
    include: Vec<String>,
    renames: HashMap<String, String>,
    replace_null: bool,
    schemas: SchemaCache,
}

fn renames(text: &str) -> Result<(), String> {
    settings_list(text)
        .iter()
        .try_for_each(|m| mapping(m).map(|_| ()))
}

fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split(':').collect::<Vec<_>>()[..] {
        [old, new] if !old.is_empty() && !new.is_empty() => {
            Ok((old.trim().into(), new.trim().into()))
        }
        _ => Err(format!("Invalid rename mapping: {text}")),
    }
}

pub(super) fn build(settings: &Settings) -> Result<ReplaceField, ConnectError> {
    let either = |new: &str, old: &str| match settings.list(new) {
        [] => settings.list(old).to_vec(),
        list => list.to_vec(),
    };
    let mappings = settings.list("renames").iter().map(|m| mapping(m));
    Ok(ReplaceField {
        exclude: either("exclude", "blacklist"),
        include: either("include", "whitelist"),
        renames: mappings
            .collect::<Result<_, _>>()
            .map_err(ConnectError::config)?,
        replace_null: settings.boolean(REPLACE_NULL),
        schemas: SchemaCache::default(),
    })
}

impl ReplaceField {
    fn keeps(&self, name: &String) -> bool {
        !self.exclude.contains(name) && (self.include.is_empty() || self.include.contains(name))
    }

    fn renamed(&self, name: &String) -> String {
        self.renames.get(name).unwrap_or(name).clone()
    }
}

impl Operation for ReplaceField {
    fn change(
        &mut self,
        operand: SchemaAndValue,
        _: &SinkRecord,
    ) -> Result<SchemaAndValue, ConnectError> {
        if operand.value.is_null() {
            return Ok(operand);
        }
        if operand.schema.is_none() {
            let map = require_map(operand.value, PURPOSE)?;
            let kept = map.into_iter().filter(|(name, _)| self.keeps(name));
            let renamed = kept.map(|(name, value)| (self.renamed(&name), value));
            return Ok(SchemaAndValue::schemaless(Value::Map(renamed.collect())));
        }
        let value = require_struct(operand.value, PURPOSE)?;
        let mut schemas = std::mem::take(&mut self.schemas);
        let schema = schemas.get(value.schema(), |schema| {
            let mut updated = schema.basics(Type::Struct);
            for (name, field) in schema.fields.iter().filter(|(name, _)| self.keeps(name)) {
                let name = self.renamed(name);
                if updated.fields.insert(name.clone(), field.clone()).is_some() {
                    let message =
                        format!("Cannot create field because of field name duplication {name}");
                    return Err(ConnectError::data(message));
                }
            }
            Ok(updated)
        });
        self.schemas = schemas;
        let names = value.schema().fields.keys().filter(|name| self.keeps(name));
        let values = names.filter_map(|name| value.get_as(name, self.replace_null).cloned());
        Ok(rebuilt(schema?, values.collect()))
    }
}
