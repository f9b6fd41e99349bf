//! Which transforms and predicates there are.

use super::operand::{Side, sided};
use super::{Predicate, Transform};
use super::{
    cast, extract_field, extract_new_record_state, filter, flatten, hash_field, header_from,
    headers, hoist_field, insert_field, mask_field, predicate, regex_router, replace_field,
    set_schema_metadata, timestamp_converter, timestamp_router, value_to_key,
};
use crate::config::{Definition, Settings};
use crate::error::ConnectError;

type Build = fn(Side, &Settings) -> Result<Box<dyn Transform>, ConnectError>;

pub struct TransformClass {
    /// Without `$Key` or `$Value`.
    pub class: &'static str,
    /// Whether its name ends in `$Key` or `$Value`.
    pub sided: bool,
    pub table: &'static [Definition],
    pub(super) build: Build,
}

pub struct PredicateClass {
    pub class: &'static str,
    pub table: &'static [Definition],
    pub(super) build: fn(&Settings) -> Result<Predicate, ConnectError>,
}

macro_rules! on_side {
    ($name:literal, $module:ident) => {
        TransformClass {
            class: $name,
            sided: true,
            table: $module::TABLE,
            build: |side, settings| Ok(sided(side, $module::build(settings)?)),
        }
    };
}

macro_rules! on_record {
    ($name:literal, $table:expr, $build:expr) => {
        TransformClass {
            class: $name,
            sided: false,
            table: $table,
            build: |_, settings| Ok(Box::new($build(settings)?)),
        }
    };
}

pub const TRANSFORMS: &[TransformClass] = &[
    on_side!("org.apache.kafka.connect.transforms.Cast", cast),
    on_record!(
        "org.apache.kafka.connect.transforms.DropHeaders",
        headers::DROP,
        headers::drop
    ),
    on_side!(
        "org.apache.kafka.connect.transforms.ExtractField",
        extract_field
    ),
    on_record!(
        "org.apache.kafka.connect.transforms.Filter",
        filter::TABLE,
        filter::build
    ),
    on_side!("org.apache.kafka.connect.transforms.Flatten", flatten),
    TransformClass {
        class: "org.apache.kafka.connect.transforms.HeaderFrom",
        sided: true,
        table: header_from::TABLE,
        build: |side, settings| Ok(Box::new(header_from::build(side, settings)?)),
    },
    on_side!(
        "org.apache.kafka.connect.transforms.HoistField",
        hoist_field
    ),
    on_side!(
        "org.apache.kafka.connect.transforms.InsertField",
        insert_field
    ),
    on_record!(
        "org.apache.kafka.connect.transforms.InsertHeader",
        headers::INSERT,
        headers::insert
    ),
    on_side!("org.apache.kafka.connect.transforms.MaskField", mask_field),
    on_record!(
        "org.apache.kafka.connect.transforms.RegexRouter",
        regex_router::TABLE,
        regex_router::build
    ),
    on_side!(
        "org.apache.kafka.connect.transforms.ReplaceField",
        replace_field
    ),
    on_side!(
        "org.apache.kafka.connect.transforms.SetSchemaMetadata",
        set_schema_metadata
    ),
    on_side!(
        "org.apache.kafka.connect.transforms.TimestampConverter",
        timestamp_converter
    ),
    on_record!(
        "org.apache.kafka.connect.transforms.TimestampRouter",
        timestamp_router::TABLE,
        timestamp_router::build
    ),
    on_record!(
        "org.apache.kafka.connect.transforms.ValueToKey",
        value_to_key::TABLE,
        value_to_key::build
    ),
    on_record!(
        "io.debezium.transforms.ExtractNewRecordState",
        extract_new_record_state::TABLE,
        extract_new_record_state::build
    ),
    on_side!("io.ottla.connect.transforms.HashField", hash_field),
];

pub const PREDICATES: &[PredicateClass] = &[
    PredicateClass {
        class: "org.apache.kafka.connect.transforms.predicates.HasHeaderKey",
        table: predicate::HAS_HEADER_KEY,
        build: predicate::has_header_key,
    },
    PredicateClass {
        class: "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone",
        table: &[],
        build: |_| Ok(Predicate::RecordIsTombstone),
    },
    PredicateClass {
        class: "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
        table: predicate::TOPIC_NAME_MATCHES,
        build: predicate::topic_name_matches,
    },
];

/// A class by its full name, or by its simple name without a package.
fn named(class: &str, asked: &str) -> bool {
    class == asked || (!asked.contains('.') && class.ends_with(&format!(".{asked}")))
}

pub(super) fn transform(name: &str) -> Result<(&'static TransformClass, Side), ConnectError> {
    let (base, side) = match name.trim().split_once('$') {
        Some((base, "Key")) => (base, Some(Side::Key)),
        Some((base, "Value")) => (base, Some(Side::Value)),
        Some(_) => (name, None),
        None => (name.trim(), None),
    };
    let found = TRANSFORMS.iter().find(|t| named(t.class, base));
    let Some(found) = found else {
        let near = ottla_proto::config::nearest(base, TRANSFORMS.iter().map(|t| t.class));
        let near = near.map_or(String::new(), |n| format!(". Did you mean {n}?"));
        let message = format!("Transformation {name} is not supported{near}");
        return Err(ConnectError::config(message));
    };
    match (found.sided, side) {
        (true, None) => Err(ConnectError::config(format!(
            "{name} must say what it changes: {base}$Key or {base}$Value"
        ))),
        (false, Some(_)) => Err(ConnectError::config(format!(
            "{name} has no $Key or $Value"
        ))),
        (_, side) => Ok((found, side.unwrap_or(Side::Value))),
    }
}

pub(super) fn predicate(name: &str) -> Result<&'static PredicateClass, ConnectError> {
    let found = PREDICATES.iter().find(|p| named(p.class, name.trim()));
    found.ok_or_else(|| ConnectError::config(format!("Predicate {name} is not supported")))
}
