//! Values of a table's keys, parsed and checked as Kafka's `ConfigDef` does.

use std::collections::HashMap;
use std::fmt;

use super::{DefaultValue, Definition, Effect, Kind, Props, Secret};
use crate::error::ConnectError;

#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    Null,
    Boolean(bool),
    String(String),
    Long(i64),
    Double(f64),
    List(Vec<String>),
    Password(Secret),
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its prefix.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Typed values of one table. Asking for a key that the table has not is a mistake in the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings(HashMap<&'static str, ConfigValue>);

impl Settings {
    /// Values of all keys of the table, or everything that is wrong. Keys that the table has not are
    /// left to whoever knows all tables.
    pub fn parse(table: &[Definition], given: &Props) -> Result<Settings, Vec<Problem>> {
        let mut values = HashMap::new();
        let mut problems = Vec::new();
        for def in table {
            match parse(
                def,
                given.get(def.name).map(String::as_str),
                def.name,
                false,
            ) {
                Ok(value) => {
                    values.insert(def.name, value);
                }
                Err(message) => problems.push(Problem {
                    key: def.name.to_owned(),
                    message,
                }),
            }
        }
        if problems.is_empty() {
            Ok(Settings(values))
        } else {
            Err(problems)
        }
    }

    /// As `parse`, with all problems in one error, and keys outside the table refused.
    pub fn parse_strictly(table: &[Definition], given: &Props) -> Result<Settings, ConnectError> {
        for key in given.keys() {
            if !table.iter().any(|def| def.name == key) {
                let names = table.iter().map(|def| def.name);
                return Err(ConnectError::config(unknown(key, key, names)));
            }
        }
        Settings::parse(table, given).map_err(|problems| {
            let messages: Vec<_> = problems.into_iter().map(|p| p.message).collect();
            ConnectError::config(messages.join("; "))
        })
    }

    pub fn get(&self, name: &str) -> &ConfigValue {
        let value = self.0.get(name);
        value.unwrap_or_else(|| panic!("{name} is a key of the table"))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            ConfigValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Text of a key that always has some.
    pub fn required_text(&self, name: &str) -> &str {
        self.text(name)
            .unwrap_or_else(|| panic!("{name} has a default or is required"))
    }

    pub fn long(&self, name: &str) -> i64 {
        match *self.get(name) {
            ConfigValue::Long(number) => number,
            ref other => panic!("{name} is a number, not {other:?}"),
        }
    }

    pub fn boolean(&self, name: &str) -> bool {
        matches!(self.get(name), ConfigValue::Boolean(true))
    }

    pub fn list(&self, name: &str) -> &[String] {
        match self.get(name) {
            ConfigValue::List(items) => items,
            _ => &[],
        }
    }

    pub fn secret(&self, name: &str) -> Option<&Secret> {
        match self.get(name) {
            ConfigValue::Password(secret) => Some(secret),
            _ => None,
        }
    }
}

/// The value of a key, or what is wrong with it. A `hidden` value is not in the message.
pub(super) fn parse(
    def: &Definition,
    given: Option<&str>,
    key: &str,
    hidden: bool,
) -> Result<ConfigValue, String> {
    let Some(text) = given else {
        return match def.default {
            DefaultValue::Required => Err(format!(
                "Missing required configuration \"{key}\" which has no default value."
            )),
            DefaultValue::Null => Ok(ConfigValue::Null),
            DefaultValue::Text(text) => Ok(typed(def.kind, text).expect("defaults are valid")),
        };
    };
    let text = text.trim();
    let shown = if hidden || def.kind == Kind::Password {
        super::secret::HIDDEN
    } else {
        text
    };
    match def.effect {
        Effect::Refused(why) => return Err(format!("{key} is not supported: {why}")),
        Effect::Only(values, why) if !values.contains(&text) => {
            return Err(format!(
                "Value {shown} of {key} is not supported: {why} (supported: {})",
                values.join(", ")
            ));
        }
        _ => {}
    }
    let wrong = |what: &str| format!("Invalid value {shown} for configuration {key}: {what}");
    let value = typed(def.kind, text).map_err(|what| wrong(&what))?;
    match def.check.fault(text) {
        Some(fault) => Err(wrong(&fault)),
        None => Ok(value),
    }
}

fn typed(kind: Kind, text: &str) -> Result<ConfigValue, String> {
    let number = |least: i64, most: i64| match text.parse::<i64>() {
        Ok(n) if (least..=most).contains(&n) => Ok(ConfigValue::Long(n)),
        _ => Err(format!("Not a number of type {}", kind.name())),
    };
    match kind {
        Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(ConfigValue::Boolean(true)),
        Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(ConfigValue::Boolean(false)),
        Kind::Boolean => Err("Expected value to be either true or false".into()),
        Kind::String | Kind::Class => Ok(ConfigValue::String(text.to_owned())),
        Kind::Int => number(i32::MIN.into(), i32::MAX.into()),
        Kind::Short => number(i16::MIN.into(), i16::MAX.into()),
        Kind::Long => number(i64::MIN, i64::MAX),
        Kind::Double => text
            .parse()
            .map(ConfigValue::Double)
            .map_err(|_| "Not a number of type DOUBLE".into()),
        Kind::List => Ok(ConfigValue::List(list(text))),
        Kind::Password => Ok(ConfigValue::Password(Secret::new(text))),
    }
}

/// Items between commas, without the space around them.
pub(crate) fn list(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim().to_owned()).collect()
}

/// The message for a key that no table has. `key` is with its prefix, `name` and the candidates without.
pub(super) fn unknown<'a>(
    key: &str,
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> String {
    match ottla_proto::config::nearest(name, candidates) {
        Some(near) => {
            let prefix = key.strip_suffix(name).unwrap_or_default();
            format!("Configuration is not defined: {key}. Did you mean {prefix}{near}?")
        }
        None => format!("Configuration is not defined: {key}"),
    }
}
