//! Checks one value against its definition, and reads checked values.

use std::fmt;

use super::definitions::{ConfigDef, Effect, Kind, Valid};
use crate::limits::{CONFIG_SECRET_BYTES, CONFIG_VALUE_BYTES};

/// Why a value is refused. The texts continue `key=value: `.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("not true or false")]
    NotBoolean,
    #[error("not a whole number")]
    NotWhole,
    #[error("not a number")]
    NotNumber,
    #[error("a whole number, but outside {0} to {1}")]
    TooWide(i64, i64),
    #[error("must be at least {0}")]
    TooSmall(i64),
    #[error("must be from {0} to {1}")]
    Outside(String, String),
    #[error("must be one of: {0}")]
    NotOneOf(String),
    #[error("each element must be one of: {0}")]
    ElementNotOneOf(String),
    #[error("must not be empty")]
    Empty,
    #[error("must be no longer than {0} bytes")]
    TooLong(usize),
    #[error("only {0} is supported: {1}")]
    Only(String, &'static str),
    #[error("not built: {0}")]
    NotBuilt(&'static str),
}

/// Checks a value as it was written. Space around it does not count.
pub fn check(def: &ConfigDef, value: &str) -> Result<(), Fault> {
    let value = value.trim();
    let max_bytes = match def.kind {
        Kind::Password => CONFIG_SECRET_BYTES,
        _ => CONFIG_VALUE_BYTES,
    };
    if value.len() > max_bytes {
        return Err(Fault::TooLong(max_bytes));
    }
    check_effect(def, value)?;
    match def.kind {
        Kind::Boolean => {
            boolean(value).ok_or(Fault::NotBoolean)?;
        }
        Kind::Short => check_whole(def, value, i16::MIN.into(), i16::MAX.into())?,
        Kind::Int => check_whole(def, value, i32::MIN.into(), i32::MAX.into())?,
        Kind::Long => check_whole(def, value, i64::MIN, i64::MAX)?,
        Kind::Double => check_double(def, value)?,
        Kind::List => check_list(def, value)?,
        Kind::String | Kind::Class | Kind::Password => check_text(def, value)?,
    }
    Ok(())
}

/// What this server cannot do comes first: it is the more useful answer.
fn check_effect(def: &ConfigDef, value: &str) -> Result<(), Fault> {
    match def.effect {
        Effect::Honoured | Effect::Partly(_) | Effect::NoEffect(_) => Ok(()),
        Effect::NotBuilt(_) if value.is_empty() || same(def, value, def.default) => Ok(()),
        Effect::NotBuilt(what) => Err(Fault::NotBuilt(what)),
        Effect::Only(accepted, why) => {
            if accepted.iter().any(|a| same(def, value, Some(a))) {
                return Ok(());
            }
            // A value that is not even of the type is told so below.
            if def.kind == Kind::Boolean && boolean(value).is_none() {
                return Ok(());
            }
            Err(Fault::Only(accepted.join(" or "), why))
        }
    }
}

/// Whether two texts are the same value.
fn same(def: &ConfigDef, value: &str, other: Option<&str>) -> bool {
    let Some(other) = other else { return false };
    match def.kind {
        Kind::Boolean => boolean(value) == boolean(other),
        Kind::List => list(value).eq(list(other)),
        Kind::Int | Kind::Short | Kind::Long => {
            value == other || value.parse::<i64>().ok() == other.parse().ok()
        }
        _ => value == other,
    }
}

fn check_whole(def: &ConfigDef, value: &str, min: i64, max: i64) -> Result<(), Fault> {
    let number: i128 = value.parse().map_err(|_| Fault::NotWhole)?;
    let number = match i64::try_from(number) {
        Ok(number) if (min..=max).contains(&number) => number,
        _ => return Err(Fault::TooWide(min, max)),
    };
    match def.valid {
        Valid::AtLeast(least) if number < least => Err(Fault::TooSmall(least)),
        Valid::Between(least, most) if !(least..=most).contains(&number) => {
            Err(Fault::Outside(least.to_string(), most.to_string()))
        }
        _ => Ok(()),
    }
}

fn check_double(def: &ConfigDef, value: &str) -> Result<(), Fault> {
    let number = value.parse::<f64>().ok().filter(|n| n.is_finite());
    let number = number.ok_or(Fault::NotNumber)?;
    match def.valid {
        Valid::Ratio(least, most) if !(least..=most).contains(&number) => {
            Err(Fault::Outside(least.to_string(), most.to_string()))
        }
        _ => Ok(()),
    }
}

fn check_list(def: &ConfigDef, value: &str) -> Result<(), Fault> {
    let Valid::EachOf(known) = def.valid else {
        return Ok(());
    };
    if list(value).all(|element| known.contains(&element)) {
        return Ok(());
    }
    Err(Fault::ElementNotOneOf(known.join(", ")))
}

fn check_text(def: &ConfigDef, value: &str) -> Result<(), Fault> {
    match def.valid {
        Valid::OneOf(known) if !known.contains(&value) => Err(Fault::NotOneOf(known.join(", "))),
        Valid::NonEmpty if value.is_empty() => Err(Fault::Empty),
        _ => Ok(()),
    }
}

/// Kafka reads booleans in any case.
pub fn boolean(value: &str) -> Option<bool> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The elements of a list: separated by commas, with the space around them dropped. An empty text
/// is an empty list.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|e| !e.is_empty())
}

/// A value that passed its check, as DescribeConfigs shows it.
pub fn canonical(def: &ConfigDef, value: &str) -> String {
    match def.kind {
        Kind::Boolean => boolean(value).unwrap_or_default().to_string(),
        Kind::List => list(value).collect::<Vec<_>>().join(","),
        Kind::Int | Kind::Short | Kind::Long => value
            .trim()
            .parse::<i64>()
            .map_or_else(|_| value.to_owned(), |n| n.to_string()),
        _ => value.trim().to_owned(),
    }
}

/// `key=value`, with the value left out where it is secret.
pub struct Shown<'a>(pub &'a str, pub &'a str, pub bool);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(key, value, sensitive) = *self;
        if sensitive {
            return write!(f, "{key}=[hidden]");
        }
        // A line of a terminal, not a megabyte that somebody pasted.
        match value.char_indices().nth(200) {
            Some((end, _)) => write!(f, "{key}={}...", &value[..end]),
            None => write!(f, "{key}={value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::definitions::{broker, topic};
    use super::*;

    fn broker_fault(key: &str, value: &str) -> Option<String> {
        let def = broker::find(key).unwrap();
        check(def, value).err().map(|f| f.to_string())
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for def in topic::TOPIC.iter().chain(broker::all()) {
            if let Some(default) = def.default {
                assert_eq!(check(def, default), Ok(()), "{}", def.name);
            }
        }
    }

    #[test]
    fn values_and_faults() {
        let cases = [
            ("num.partitions", "3", None),
            ("num.partitions", " 3 ", None),
            ("num.partitions", "+3", None),
            ("num.partitions", "0", Some("must be at least 1")),
            ("num.partitions", "3.0", Some("not a whole number")),
            ("num.partitions", "", Some("not a whole number")),
            (
                "num.partitions",
                "2147483648",
                Some("a whole number, but outside -2147483648 to 2147483647"),
            ),
            ("log.retention.hours", "abc", Some("not a whole number")),
            ("auto.create.topics.enable", "TRUE", None),
            (
                "auto.create.topics.enable",
                "yes",
                Some("not true or false"),
            ),
            (
                "log.cleaner.min.cleanable.ratio",
                "1.5",
                Some("must be from 0 to 1"),
            ),
            (
                "log.cleaner.min.cleanable.ratio",
                "NaN",
                Some("not a number"),
            ),
            ("log.cleanup.policy", "compact, delete", None),
            (
                "log.cleanup.policy",
                "compact,archive",
                Some("each element must be one of: compact, delete"),
            ),
            (
                "log.message.timestamp.type",
                "createTime",
                Some("must be one of: CreateTime, LogAppendTime"),
            ),
            (
                "compression.type",
                "gzip",
                Some(
                    "only producer is supported: Ottla keeps batches as the producer compressed \
                     them",
                ),
            ),
            ("ssl.client.auth", "none", None),
            ("ssl.client.auth", "required", Some("not built: TLS")),
            ("ssl.key.password", "", None),
            ("remote.log.storage.system.enable", "False", None),
            (
                "remote.log.storage.system.enable",
                "true",
                Some("not built: tiered storage"),
            ),
            ("log.cleaner.enable", "maybe", Some("not true or false")),
            ("telemetry.max.bytes", "01048576", None),
        ];
        for (key, value, fault) in cases {
            assert_eq!(broker_fault(key, value).as_deref(), fault, "{key}={value}");
        }
    }

    #[test]
    fn an_endless_value_is_refused() {
        let longest = "x".repeat(CONFIG_VALUE_BYTES);
        assert_eq!(broker_fault("broker.rack", &longest), None);
        let value = longest + "x";
        let fault = broker_fault("broker.rack", &value);
        assert_eq!(fault.as_deref(), Some("must be no longer than 32767 bytes"));
        assert_eq!(
            Shown("a", &value, false).to_string().len(),
            "a=".len() + 200 + 3
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(
            Shown("ssl.key.password", "hunter2", true).to_string(),
            "ssl.key.password=[hidden]"
        );
    }
}
