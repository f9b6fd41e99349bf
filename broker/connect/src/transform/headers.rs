//! `InsertHeader` and `DropHeaders` (KIP-145).

use super::Transform;
use crate::config::tables::{REQUIRED, high};
use crate::config::{Check, Definition, Kind, Settings};
use crate::converter::parse_string;
use crate::data::{Header, SchemaAndValue, SinkRecord};
use crate::error::ConnectError;

pub(super) const INSERT: &[Definition] = &[
    high("header", Kind::String, REQUIRED, "The header's name.").check(Check::NonEmpty),
    high(
        "value.literal",
        Kind::String,
        REQUIRED,
        "The header's value; a number, boolean, date, array or map is read as such.",
    )
    .check(Check::NonEmpty),
];

pub(super) const DROP: &[Definition] = &[high(
    "headers",
    Kind::List,
    REQUIRED,
    "Names of the headers to remove.",
)
.check(Check::NonEmptyList)];

pub(super) struct InsertHeader {
    header: String,
    value: SchemaAndValue,
}

pub(super) fn insert(settings: &Settings) -> Result<InsertHeader, ConnectError> {
    Ok(InsertHeader {
        header: settings.required_text("header").to_owned(),
        value: parse_string(settings.required_text("value.literal")),
    })
}

impl Transform for InsertHeader {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        record.headers.push(Header {
            key: self.header.clone(),
            value: self.value.clone(),
        });
        Ok(Some(record))
    }
}

pub(super) struct DropHeaders(Vec<String>);

pub(super) fn drop(settings: &Settings) -> Result<DropHeaders, ConnectError> {
    Ok(DropHeaders(settings.list("headers").to_vec()))
}

impl Transform for DropHeaders {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        record.headers.retain(|h| !self.0.contains(&h.key));
        Ok(Some(record))
    }
}
