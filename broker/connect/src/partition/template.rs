//! Aiven's `file.name.template`: `{{topic}}-{{partition}}-{{start_offset:padding=true}}`.
//!
//! | variable | what | parameter |
//! | --- | --- | --- |
//! | `topic` | the topic | |
//! | `partition` | the partition | `padding=true`: ten digits |
//! | `start_offset` | the first record's offset | `padding=true`: twenty digits |
//! | `timestamp` | the time, by `file.name.timestamp.source` and `.timezone` | `unit=yyyy`, `MM`, `dd` or `HH` (required) |
//! | `utc_date`, `local_date` | that time's date | |
//!
//! `topic`, `partition` and `start_offset` must be there. Templates by `key` would overwrite an object with
//! each record, which cannot be exactly once; they are refused.

use crate::data::SinkRecord;
use crate::error::ConnectError;
use crate::time::{Dialect, Locale, Pattern, Zone};

use super::TimestampExtractor;

/// Stands for the offset in an output, without and with padding. Names have no control characters.
const START: char = '\u{1}';
const START_PADDED: char = '\u{2}';

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Topic,
    Partition { padded: bool },
    StartOffset { padded: bool },
    Timestamp(Pattern),
    UtcDate(Pattern),
}

#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
    zone: Zone,
    source: TimestampExtractor,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("{{{{ has no }}}} after it")]
    Open,
    #[error("unknown variable {{{{{0}}}}}")]
    Unknown(String),
    #[error("{{{{{0}}}}}: {1}")]
    Parameter(String, &'static str),
    #[error("the template must have {{{{{0}}}}}, so that no two objects have the same name")]
    Missing(&'static str),
    #[error(
        "{{{{key}}}} is not supported: each record would overwrite the object of the one before"
    )]
    Key,
    #[error("a control character")]
    Control,
}

impl Template {
    /// With times by the wall clock, in UTC.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        Template::parse_parts(text).and_then(|parts| {
            let has = |test: fn(&Part) -> bool| parts.iter().any(test);
            if !has(|p| matches!(p, Part::Topic)) {
                return Err(TemplateError::Missing("topic"));
            }
            if !has(|p| matches!(p, Part::Partition { .. })) {
                return Err(TemplateError::Missing("partition"));
            }
            if !has(|p| matches!(p, Part::StartOffset { .. })) {
                return Err(TemplateError::Missing("start_offset"));
            }
            Ok(Template {
                parts,
                zone: Zone::UTC,
                source: TimestampExtractor::Wallclock,
            })
        })
    }

    /// Puts `aws.s3.prefix` before it, which may have times in it.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Template, TemplateError> {
        let mut parts = Template::parse_parts(prefix)?;
        parts.append(&mut self.parts);
        Ok(Template { parts, ..self })
    }

    /// Which time `{{timestamp}}` is, and where.
    pub fn with_times(self, source: TimestampExtractor, zone: Zone) -> Template {
        Template {
            zone,
            source,
            ..self
        }
    }

    fn parse_parts(text: &str) -> Result<Vec<Part>, TemplateError> {
        if text.chars().any(char::is_control) {
            return Err(TemplateError::Control);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let inner = &rest[start + 2..];
            let end = inner.find("}}").ok_or(TemplateError::Open)?;
            parts.push(variable(inner[..end].trim())?);
            rest = &inner[end + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(parts)
    }

    pub fn is_stable(&self) -> bool {
        let timed = |p: &Part| matches!(p, Part::Timestamp(_) | Part::UtcDate(_));
        self.source.is_stable() || !self.parts.iter().any(timed)
    }

    /// The name with a mark where the offset goes.
    pub fn output(&self, record: &SinkRecord, now_ms: i64) -> Result<String, ConnectError> {
        let mut out = String::new();
        let time = |pattern: &Pattern, zone: Zone| {
            let ms = self.source.extract(record, now_ms)?;
            let text = pattern.format(ms, zone);
            text.ok_or_else(|| ConnectError::data(format!("The time {ms} ms is out of range")))
        };
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Topic => out.push_str(&record.topic),
                Part::Partition { padded: false } => out += &record.partition.to_string(),
                Part::Partition { padded: true } => out += &format!("{:010}", record.partition),
                Part::StartOffset { padded } => {
                    out.push(if *padded { START_PADDED } else { START })
                }
                Part::Timestamp(pattern) => out += &time(pattern, self.zone)?,
                Part::UtcDate(pattern) => out += &time(pattern, Zone::UTC)?,
            }
        }
        Ok(out)
    }

    /// The output's name with this offset.
    pub fn name(&self, output: &str, start_offset: i64) -> String {
        output
            .replace(START, &start_offset.to_string())
            .replace(START_PADDED, &format!("{start_offset:020}"))
    }
}

fn variable(text: &str) -> Result<Part, TemplateError> {
    let (name, parameter) = match text.split_once(':') {
        Some((name, parameter)) => (name.trim(), Some(parameter.trim())),
        None => (text, None),
    };
    let wrong = |why| TemplateError::Parameter(text.to_owned(), why);
    let padded = || match parameter.map(|p| p.split_once('=').map(|(k, v)| (k.trim(), v.trim()))) {
        None => Ok(false),
        Some(Some(("padding", "true"))) => Ok(true),
        Some(Some(("padding", "false"))) => Ok(false),
        Some(_) => Err(wrong("the parameter is padding=true or padding=false")),
    };
    let pattern = |text: &str| {
        Pattern::parse(text, Dialect::Joda, &Locale::english()).expect("a pattern of this file")
    };
    if parameter.is_some() && matches!(name, "topic" | "utc_date" | "local_date") {
        return Err(wrong("it has no parameter"));
    }
    Ok(match name {
        "topic" => Part::Topic,
        "partition" => Part::Partition { padded: padded()? },
        "start_offset" => Part::StartOffset { padded: padded()? },
        "utc_date" => Part::UtcDate(pattern("yyyy-MM-dd")),
        "local_date" => Part::Timestamp(pattern("yyyy-MM-dd")),
        "timestamp" => {
            let unit = parameter
                .and_then(|p| p.split_once('='))
                .filter(|(key, _)| key.trim() == "unit")
                .map(|(_, unit)| unit.trim());
            match unit {
                // The old spelling of the year, as Aiven's connector takes it too.
                Some(unit @ ("yyyy" | "YYYY" | "MM" | "dd" | "HH")) => {
                    Part::Timestamp(pattern(unit))
                }
                _ => return Err(wrong("unit=yyyy, unit=MM, unit=dd or unit=HH is needed")),
            }
        }
        "key" => return Err(TemplateError::Key),
        _ => return Err(TemplateError::Unknown(text.to_owned())),
    })
}
