//! `TimestampRouter`: puts the record's time into its topic.

use super::Transform;
use crate::config::tables::{high, text};
use crate::config::{Check, Definition, Kind, Settings};
use crate::data::SinkRecord;
use crate::error::ConnectError;
use crate::time::{Dialect, Locale, Pattern, Zone};

pub(super) const TABLE: &[Definition] = &[
    high(
        "topic.format",
        Kind::String,
        text("${topic}-${timestamp}"),
        "The new topic; ${topic} and ${timestamp} stand for the old one and the time.",
    ),
    high(
        "timestamp.format",
        Kind::String,
        text("yyyyMMdd"),
        "A SimpleDateFormat pattern for the time, in UTC.",
    )
    .check(Check::By(pattern)),
];

fn parse(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text, Dialect::SimpleDateFormat, &Locale::english()).map_err(|e| e.to_string())
}

fn pattern(text: &str) -> Result<(), String> {
    parse(text).map(|_| ())
}

pub(super) struct TimestampRouter {
    format: String,
    pattern: Pattern,
}

pub(super) fn build(settings: &Settings) -> Result<TimestampRouter, ConnectError> {
    Ok(TimestampRouter {
        format: settings.required_text("topic.format").to_owned(),
        pattern: parse(settings.required_text("timestamp.format")).map_err(ConnectError::config)?,
    })
}

impl Transform for TimestampRouter {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        let time = record
            .timestamp
            .and_then(|ms| self.pattern.format(ms, Zone::UTC));
        let time = time.ok_or_else(|| ConnectError::data("Timestamp missing on record"))?;
        let topic = self.format.replace("${topic}", &record.topic);
        record.topic = topic.replace("${timestamp}", &time).into();
        Ok(Some(record))
    }
}
