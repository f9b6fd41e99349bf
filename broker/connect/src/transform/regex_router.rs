//! `RegexRouter`: makes another topic of a topic that a pattern matches.

use regex::{Captures, Regex};

use super::Transform;
use crate::config::tables::{REQUIRED, high};
use crate::config::{Check, Definition, Kind, Settings, whole_regex};
use crate::data::SinkRecord;
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[
    high("regex", Kind::String, REQUIRED, "Pattern that must match the whole topic. Look-around and back references are not supported.")
        .check(Check::Regex),
    high("replacement", Kind::String, REQUIRED, "The new topic; $1 or ${name} stand for groups of the pattern."),
];

enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

pub(super) struct RegexRouter {
    regex: Regex,
    replacement: Vec<Part>,
}

pub(super) fn build(settings: &Settings) -> Result<RegexRouter, ConnectError> {
    let regex = whole_regex(settings.required_text("regex"));
    let regex = regex.map_err(|e| ConnectError::config(format!("regex: {e}")))?;
    let replacement = replacement(settings.required_text("replacement"), &regex)?;
    Ok(RegexRouter { regex, replacement })
}

/// As `Matcher.replaceFirst` reads it: `\` takes the next character as it is; of digits after `$`, as many
/// as still name a group.
fn replacement(text: &str, regex: &Regex) -> Result<Vec<Part>, ConnectError> {
    let fail = |why: &str| Err(ConnectError::config(format!("replacement {text}: {why}")));
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let group = match c {
            '\\' => {
                match chars.next() {
                    Some(c) => literal.push(c),
                    None => return fail("character to be escaped is missing"),
                }
                continue;
            }
            '$' if chars.next_if_eq(&'{').is_some() => {
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                if !regex.capture_names().flatten().any(|n| n == name) {
                    return fail(&format!("the pattern has no group {name}"));
                }
                Part::Named(name)
            }
            '$' => {
                let digit = chars.next().and_then(|c| c.to_digit(10));
                let Some(mut group) = digit.map(|d| d as usize) else {
                    return fail("$ must be followed by the number or {name} of a group");
                };
                if group >= regex.captures_len() {
                    return fail(&format!("the pattern has no group {group}"));
                }
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + digit as usize;
                    if longer >= regex.captures_len() {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                Part::Group(group)
            }
            other => {
                literal.push(other);
                continue;
            }
        };
        parts.push(Part::Text(std::mem::take(&mut literal)));
        parts.push(group);
    }
    parts.push(Part::Text(literal));
    Ok(parts)
}

impl RegexRouter {
    fn routed(&self, found: &Captures<'_>) -> String {
        let parts = self.replacement.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Group(group) => found.get(*group).map_or("", |m| m.as_str()),
            Part::Named(name) => found.name(name).map_or("", |m| m.as_str()),
        });
        parts.collect()
    }
}

impl Transform for RegexRouter {
    fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        let routed = self
            .regex
            .captures(&record.topic)
            .map(|found| self.routed(&found));
        if let Some(topic) = routed {
            record.topic = topic.into();
        }
        Ok(Some(record))
    }
}
