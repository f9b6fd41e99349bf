//! Where a field is: its name, or a path through fields in fields (KIP-821).

use std::fmt;

use crate::config::Settings;
use crate::data::{Map, Schema, SchemaRef, Struct, Value};
use crate::error::ConnectError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldPath {
    steps: Vec<String>,
    text: String,
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FieldPath {
    /// As `field.syntax.version` of the settings says.
    pub fn of(text: &str, settings: &Settings) -> Result<FieldPath, ConnectError> {
        let steps = if settings.text(super::SYNTAX) == Some("V2") {
            steps(text)?
        } else {
            vec![text.to_owned()]
        };
        Ok(FieldPath {
            steps,
            text: text.to_owned(),
        })
    }

    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    pub fn schema<'a>(&self, schema: &'a Schema) -> Option<&'a SchemaRef> {
        let (first, rest) = self.steps.split_first()?;
        let found = schema.field_schema(first)?;
        rest.iter()
            .try_fold(found, |schema, step| schema.field_schema(step))
    }

    pub fn in_struct<'a>(
        &self,
        value: &'a Struct,
        replace_null: bool,
    ) -> Result<Option<&'a Value>, ConnectError> {
        let (last, before) = self.steps.split_last().expect("a path has a step");
        let mut value = value;
        for step in before {
            value = match value.get_as(step, replace_null) {
                Some(Value::Struct(inner)) => inner,
                None | Some(Value::Null) => return Ok(None),
                Some(other) => return Err(not_nested("Struct", other)),
            };
        }
        Ok(value.get_as(last, replace_null))
    }

    pub fn in_map<'a>(&self, map: &'a Map) -> Result<Option<&'a Value>, ConnectError> {
        let (last, before) = self.steps.split_last().expect("a path has a step");
        let mut map = map;
        for step in before {
            map = match map.get(step) {
                Some(Value::Map(inner)) => inner,
                None | Some(Value::Null) => return Ok(None),
                Some(other) => return Err(not_nested("Map", other)),
            };
        }
        Ok(map.get(last))
    }
}

fn not_nested(expected: &str, found: &Value) -> ConnectError {
    ConnectError::data(format!(
        "Only {expected} objects supported for [nested field access], found: {}",
        found.type_name()
    ))
}

/// Names between dots. A name between backticks may have dots in it; its closing backtick is the one
/// before a dot or the end, unless a backslash is before it.
fn steps(path: &str) -> Result<Vec<String>, ConnectError> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('`') {
            let (name, after) = backticked(quoted).ok_or_else(|| {
                let at = path.len() - rest.len();
                ConnectError::config(format!(
                    "Incomplete backtick pair in path: [{path}], consider adding a backslash before \
                     backtick at position {at} to escape it"
                ))
            })?;
            steps.push(name);
            after
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            steps.push(rest[..end].to_owned());
            &rest[end..]
        };
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None => return Ok(steps),
        }
    }
}

fn backticked(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('`')?;
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let ends = after.is_empty() || after.starts_with('.');
        match before.strip_suffix('\\') {
            Some(_) if after.is_empty() => return None,
            Some(unescaped) if ends => {
                name.push_str(unescaped);
                name.push('`');
            }
            _ if ends => {
                name.push_str(before);
                return Some((name, after));
            }
            _ => {
                name.push_str(before);
                name.push('`');
            }
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of KIP-821.
    #[test]
    fn paths_of_kip_821() {
        for (path, expected) in [
            ("foo.bar.baz", vec!["foo", "bar", "baz"]),
            ("`foo.bar`.baz", vec!["foo.bar", "baz"]),
            ("foo.`bar.baz`", vec!["foo", "bar.baz"]),
            ("`foo.bar.baz`", vec!["foo.bar.baz"]),
            ("foo.`b`a.r`.baz", vec!["foo", "b`a.r", "baz"]),
            ("`foo\\`.bar`.baz", vec!["foo`.bar", "baz"]),
            ("foo.", vec!["foo", ""]),
            ("", vec![""]),
        ] {
            assert_eq!(steps(path).unwrap(), expected, "{path}");
        }
        for path in ["`foo", "foo.`bar", "`foo\\`"] {
            assert!(steps(path).is_err(), "{path}");
        }
    }
}
