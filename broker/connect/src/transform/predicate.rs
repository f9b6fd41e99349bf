//! Kafka Connect's predicates (KIP-585).

use regex::Regex;

use crate::config::tables::{REQUIRED, high};
use crate::config::{Check, Definition, Kind, Settings, whole_regex};
use crate::data::SinkRecord;
use crate::error::ConnectError;

pub(super) const TOPIC_NAME_MATCHES: &[Definition] = &[high(
    "pattern",
    Kind::String,
    REQUIRED,
    "A regular expression that must match the whole name of the record's topic.",
)
.check(Check::Regex)];

pub(super) const HAS_HEADER_KEY: &[Definition] =
    &[high("name", Kind::String, REQUIRED, "The header's name.").check(Check::NonEmpty)];

#[derive(Clone, Debug)]
pub enum Predicate {
    TopicNameMatches(Regex),
    HasHeaderKey(String),
    RecordIsTombstone,
}

impl Predicate {
    pub fn test(&self, record: &SinkRecord) -> bool {
        match self {
            Predicate::TopicNameMatches(pattern) => pattern.is_match(&record.topic),
            Predicate::HasHeaderKey(name) => record.header(name).is_some(),
            Predicate::RecordIsTombstone => record.value.value.is_null(),
        }
    }
}

pub(super) fn topic_name_matches(settings: &Settings) -> Result<Predicate, ConnectError> {
    let pattern = whole_regex(settings.required_text("pattern"));
    let pattern = pattern.map_err(|e| ConnectError::config(format!("pattern: {e}")))?;
    Ok(Predicate::TopicNameMatches(pattern))
}

pub(super) fn has_header_key(settings: &Settings) -> Result<Predicate, ConnectError> {
    Ok(Predicate::HasHeaderKey(
        settings.required_text("name").to_owned(),
    ))
}
