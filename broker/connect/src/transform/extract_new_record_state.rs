//! Debezium's `ExtractNewRecordState`: takes the row after the change out of a change event.
//!
//! Keys of Debezium 2 (`delete.handling.mode`, `drop.tombstones`) and 3
//! (`delete.tombstone.handling.mode`); where none is given, Debezium 3's default `tombstone`.

use super::Transform;
use super::operand::{SchemaCache, rebuilt};
use crate::config::tables::{NULL, low, medium, text};
use crate::config::{Check, ConfigValue, Definition, Kind, Settings, settings_list};
use crate::data::{Header, Schema, SchemaAndValue, SinkRecord, Struct, Type, Value};
use crate::error::ConnectError;

const NOT_BUILT: &str = "changed fields are not taken from headers";

pub(super) const TABLE: &[Definition] = &[
    medium("delete.tombstone.handling.mode", Kind::String, NULL, "What becomes of deletions and of the tombstones after them.")
        .one_of(&["drop", "tombstone", "rewrite", "rewrite-with-tombstone", "delete-to-tombstone"]),
    medium("delete.handling.mode", Kind::String, NULL, "Debezium 2: drop deletions, rewrite them with __deleted, or (none) make them tombstones.")
        .one_of(&["drop", "rewrite", "none"]),
    low("drop.tombstones", Kind::Boolean, NULL, "Debezium 2: whether tombstones are dropped."),
    low("add.fields", Kind::List, text(""), "What of the event goes into fields: op, ts_ms, source.lsn, table:name. Without a struct before the dot, from source.")
        .check(Check::By(references)),
    low("add.fields.prefix", Kind::String, text("__"), "What stands before the names of those fields."),
    low("add.headers", Kind::List, text(""), "What of the event goes into headers.").check(Check::By(references)),
    low("add.headers.prefix", Kind::String, text("__"), "What stands before the names of those headers."),
    low("route.by.field", Kind::String, text(""), "Field of the row whose value becomes the topic."),
    low("drop.fields.header.name", Kind::String, NULL, "Header with names of fields to drop.").refused(NOT_BUILT),
    low("drop.fields.from.key", Kind::Boolean, NULL, "Whether they are dropped from the key too.").refused(NOT_BUILT),
    low("drop.fields.keep.schema.compatible", Kind::Boolean, NULL, "Whether only optional fields are dropped.").refused(NOT_BUILT),
];

/// Which field of the event, and what it is called in the record.
struct Reference {
    /// `None` is the event itself.
    structure: Option<&'static str>,
    field: String,
    name: String,
}

const STRUCTURES: [&str; 4] = ["source", "transaction", "before", "after"];

impl Reference {
    fn parse(text: &str, prefix: &str) -> Result<Reference, String> {
        let (path, alias) = match text.split_once(':') {
            Some((path, alias)) => (path, Some(alias)),
            None => (text, None),
        };
        let invalid = || format!("{text} is no field such as op, source.lsn or table:name");
        let (structure, field) = match path.split_once('.') {
            Some((structure, field)) => {
                let known = STRUCTURES.into_iter().find(|s| *s == structure);
                (Some(known.ok_or_else(invalid)?), field)
            }
            None => (None, path),
        };
        if field.is_empty() || field.contains('.') || alias == Some("") {
            return Err(invalid());
        }
        let name = match (alias, structure) {
            (Some(alias), _) => alias.to_owned(),
            (None, Some(structure)) => format!("{structure}_{field}"),
            (None, None) => field.to_owned(),
        };
        let structure = structure.or(match field {
            "op" | "ts_ms" | "ts_us" | "ts_ns" => None,
            "id" | "total_order" | "data_collection_order" => Some("transaction"),
            _ => Some("source"),
        });
        Ok(Reference {
            structure,
            field: field.to_owned(),
            name: format!("{prefix}{name}"),
        })
    }

    /// The field's schema, always optional, and its value in this event.
    fn get(&self, event: &Struct) -> Option<SchemaAndValue> {
        let of = |value: &Struct| {
            let schema = value.schema().field_schema(&self.field)?;
            let schema = schema.as_ref().clone().optional();
            Some(SchemaAndValue::new(schema, value.get(&self.field)?.clone()))
        };
        match self.structure {
            None => of(event),
            Some(name) => match event.get(name)? {
                Value::Struct(inner) => of(inner),
                // The whole part is missing in this event: null under its schema.
                _ => {
                    let schema = event
                        .schema()
                        .field_schema(name)?
                        .field_schema(&self.field)?;
                    Some(SchemaAndValue::new(
                        schema.as_ref().clone().optional(),
                        Value::Null,
                    ))
                }
            },
        }
    }
}

fn references(text: &str) -> Result<(), String> {
    settings_list(text)
        .iter()
        .try_for_each(|r| Reference::parse(r, "").map(|_| ()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletions {
    Drop,
    Rewrite,
    ToTombstone,
}

pub(super) struct ExtractNewRecordState {
    deletions: Deletions,
    drop_tombstones: bool,
    fields: Vec<Reference>,
    headers: Vec<Reference>,
    route_by: String,
    schemas: SchemaCache,
}

pub(super) fn build(settings: &Settings) -> Result<ExtractNewRecordState, ConnectError> {
    let given = |key: &str| *settings.get(key) != ConfigValue::Null;
    let old = given("delete.handling.mode") || given("drop.tombstones");
    if old && given("delete.tombstone.handling.mode") {
        let message = "delete.tombstone.handling.mode stands for delete.handling.mode and drop.tombstones: set either";
        return Err(ConnectError::config(message));
    }
    let (deletions, drop_tombstones) = if old {
        let deletions = match settings.text("delete.handling.mode") {
            Some("rewrite") => Deletions::Rewrite,
            Some("none") => Deletions::ToTombstone,
            _ => Deletions::Drop,
        };
        (
            deletions,
            !given("drop.tombstones") || settings.boolean("drop.tombstones"),
        )
    } else {
        match settings.text("delete.tombstone.handling.mode") {
            Some("drop") => (Deletions::Drop, true),
            Some("rewrite") => (Deletions::Rewrite, true),
            Some("rewrite-with-tombstone") => (Deletions::Rewrite, false),
            Some("delete-to-tombstone") => (Deletions::ToTombstone, true),
            _ => (Deletions::Drop, false),
        }
    };
    let references = |key: &str, prefix: &str| {
        let prefix = settings.required_text(prefix);
        let parsed = settings
            .list(key)
            .iter()
            .map(|r| Reference::parse(r, prefix));
        parsed
            .collect::<Result<Vec<_>, _>>()
            .map_err(ConnectError::config)
    };
    Ok(ExtractNewRecordState {
        deletions,
        drop_tombstones,
        fields: references("add.fields", "add.fields.prefix")?,
        headers: references("add.headers", "add.headers.prefix")?,
        route_by: settings.required_text("route.by.field").to_owned(),
        schemas: SchemaCache::default(),
    })
}

/// A schema such as `server.table.Envelope`.
fn is_event(value: &SchemaAndValue) -> bool {
    let name = value.schema.as_ref().and_then(|s| s.name.as_deref());
    name.is_some_and(|n| n.ends_with("Envelope")) && matches!(value.value, Value::Struct(_))
}

impl ExtractNewRecordState {
    /// The row, with the fields that are added and `__deleted` where deletions are rewritten.
    fn row(
        &mut self,
        row: Struct,
        event: &Struct,
        deleted: bool,
    ) -> Result<SchemaAndValue, ConnectError> {
        let rewrite = self.deletions == Deletions::Rewrite;
        let mut added = Vec::new();
        for reference in &self.fields {
            let missing = || {
                let field = &reference.field;
                ConnectError::config(format!(
                    "Unable to find field {field} of add.fields in the event"
                ))
            };
            added.push((&reference.name, reference.get(event).ok_or_else(missing)?));
        }
        if added.is_empty() && !rewrite {
            let schema = row.schema().clone();
            return Ok(SchemaAndValue::new(schema, Value::Struct(row)));
        }
        let schema = self.schemas.get(row.schema(), |schema| {
            let mut updated = schema.basics(Type::Struct);
            updated.fields = schema.fields.clone();
            for (name, value) in &added {
                let schema = value.schema.clone().expect("a field of the event");
                updated.fields.insert((*name).clone(), schema);
            }
            if rewrite {
                let text = Schema::new(Type::String).optional();
                updated.fields.insert("__deleted".into(), text.into());
            }
            Ok(updated)
        })?;
        let mut updated = Struct::new(schema.clone());
        for (name, _, value) in row.iter() {
            updated.put(name, value.clone());
        }
        for (name, value) in added {
            updated.put(name, value.value);
        }
        if rewrite {
            updated.put("__deleted", deleted.to_string().as_str().into());
        }
        Ok(rebuilt(schema, updated.into_values()))
    }
}

impl Transform for ExtractNewRecordState {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        if record.value.value.is_null() {
            if self.drop_tombstones {
                return Ok(None);
            }
            if let Some(op) = self
                .headers
                .iter()
                .find(|r| r.structure.is_none() && r.field == "op")
            {
                record.headers.push(Header {
                    key: op.name.clone(),
                    value: SchemaAndValue::new(Schema::new(Type::String), "d".into()),
                });
            }
            return Ok(Some(record));
        }
        // What is no change event, such as a heartbeat, passes.
        if !is_event(&record.value) {
            return Ok(Some(record));
        }
        let value = std::mem::replace(&mut record.value, SchemaAndValue::NULL);
        let Value::Struct(event) = value.value else {
            unreachable!("an event is a struct");
        };
        let found = self
            .headers
            .iter()
            .filter_map(|r| Some((r.name.clone(), r.get(&event)?)));
        record
            .headers
            .extend(found.map(|(key, value)| Header { key, value }));
        let of = |name: &str| match event.get(name) {
            Some(Value::Struct(row)) => Some(row.clone()),
            _ => None,
        };
        let (row, deleted) = match (of("after"), self.deletions) {
            (Some(row), _) => (row, false),
            (None, Deletions::Drop) => return Ok(None),
            (None, Deletions::ToTombstone) => return Ok(Some(record)),
            (None, Deletions::Rewrite) => match of("before") {
                Some(row) => (row, true),
                None => return Err(ConnectError::data("The event has neither before nor after")),
            },
        };
        if !self.route_by.is_empty() {
            let topic = row.get(&self.route_by).and_then(Value::to_text);
            let missing = || ConnectError::data(format!("The row has no field {}", self.route_by));
            record.topic = topic.ok_or_else(missing)?.into();
        }
        record.value = self.row(row, &event, deleted)?;
        Ok(Some(record))
    }
}
