//! Checks a configuration key by key, and answers in the shape of Kafka Connect's
//! `PUT /connector-plugins/{class}/config/validate` (`ConfigInfos`).

use serde::Serialize;
use std::collections::HashMap;

use super::providers::Resolved;
use super::secret::HIDDEN;
use super::settings::{self, ConfigValue};
use super::tables::{CLIENT_PREFIXES, CONNECTOR, connector::CONVERTER};
use super::{DefaultValue, Definition, Effect, Kind, Props};
use crate::transform;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigInfos {
    /// The connector class, as it was asked for.
    pub name: String,
    pub error_count: usize,
    pub groups: Vec<String>,
    pub configs: Vec<ConfigInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigInfo {
    /// `null` for a key that is not defined.
    pub definition: Option<ConfigKeyInfo>,
    pub value: ConfigValueInfo,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigKeyInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub required: bool,
    pub default_value: Option<String>,
    pub importance: &'static str,
    pub documentation: String,
    pub group: Option<String>,
    pub width: &'static str,
    pub display_name: String,
    pub dependents: Vec<String>,
    /// Place in the group, from 1; -1 outside of groups.
    pub order: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigValueInfo {
    pub name: String,
    pub value: Option<String>,
    pub recommended_values: Vec<String>,
    pub errors: Vec<String>,
    pub visible: bool,
}

impl ConfigInfos {
    /// Every error, with the key it is about.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.configs.iter().flat_map(|c| {
            let name = c.value.name.as_str();
            c.value.errors.iter().map(move |e| (name, e.as_str()))
        })
    }
}

/// A configuration under check. Tables are laid over it one after the other; what none of them knows is
/// an error in the end.
pub struct Validation<'a> {
    shown: &'a Props,
    resolved: &'a Resolved,
    infos: Vec<ConfigInfo>,
    groups: Vec<String>,
    orders: HashMap<String, i32>,
    /// Prefix and name of every key there is, for the nearest one.
    known: Vec<String>,
    passed: Vec<String>,
}

impl<'a> Validation<'a> {
    /// `shown` is the configuration as it was given, with references to secrets; `resolved` is what it
    /// becomes.
    pub fn new(shown: &'a Props, resolved: &'a Resolved) -> Validation<'a> {
        Validation {
            shown,
            resolved,
            infos: Vec::new(),
            groups: Vec::new(),
            orders: HashMap::new(),
            known: Vec::new(),
            passed: Vec::new(),
        }
    }

    /// Checks the keys of a table, each with the prefix before it.
    pub fn table(&mut self, prefix: &str, table: &[Definition], group: Option<&str>) {
        for def in table {
            let key = format!("{prefix}{}", def.name);
            let group = group.or(def.group);
            let info = self.info(def, &key, group);
            self.known.push(key);
            self.infos.push(info);
        }
    }

    /// Checks only those keys of the table that are given. What is missing is no error.
    pub fn given(&mut self, prefix: &str, table: &[Definition]) {
        for def in table {
            let key = format!("{prefix}{}", def.name);
            if self.shown.contains_key(&key) {
                let info = self.info(def, &key, def.group);
                self.infos.push(info);
            }
            self.known.push(key);
        }
    }

    /// Lets keys pass that begin so: they belong to somebody else.
    pub fn pass(&mut self, prefix: &str) {
        self.passed.push(prefix.to_owned());
    }

    /// Adds an error to a key, unless it has one already that says the same.
    pub fn error(&mut self, key: &str, message: impl Into<String>) {
        let message = message.into();
        let info = self.infos.iter_mut().find(|i| i.value.name == key);
        let errors = match info {
            Some(info) => &mut info.value.errors,
            None => {
                self.infos.push(self.undefined(key));
                let last = self.infos.last_mut().expect("just pushed");
                &mut last.value.errors
            }
        };
        if !errors.contains(&message) {
            errors.push(message);
        }
    }

    pub fn finish(mut self, name: &str) -> ConfigInfos {
        for key in self.shown.keys() {
            let passes = self.passed.iter().any(|p| key.starts_with(p));
            if passes || self.known.contains(key) {
                continue;
            }
            let candidates = self.known.iter().map(String::as_str);
            let message = settings::unknown(key, key, candidates);
            self.error(key, message);
        }
        ConfigInfos {
            name: name.to_owned(),
            error_count: self.infos.iter().map(|i| i.value.errors.len()).sum(),
            groups: self.groups,
            configs: self.infos,
        }
    }

    fn undefined(&self, key: &str) -> ConfigInfo {
        ConfigInfo {
            definition: None,
            value: ConfigValueInfo {
                name: key.to_owned(),
                value: self.shown.get(key).cloned(),
                recommended_values: Vec::new(),
                errors: Vec::new(),
                visible: true,
            },
        }
    }

    fn info(&mut self, def: &Definition, key: &str, group: Option<&str>) -> ConfigInfo {
        let order = group.map_or(-1, |group| {
            if !self.groups.iter().any(|g| g == group) {
                self.groups.push(group.to_owned());
            }
            let order = self.orders.entry(group.to_owned()).or_default();
            *order += 1;
            *order
        });
        let hidden = self.resolved.is_secret(key);
        let given = self.resolved.reveal().get(key).map(String::as_str);
        let (value, errors) = match settings::parse(def, given, key, hidden) {
            Ok(value) if hidden => (self.shown.get(key).cloned().or(shown(&value)), vec![]),
            Ok(value) => (shown(&value), vec![]),
            Err(message) => (self.as_given(def, key), vec![message]),
        };
        ConfigInfo {
            definition: Some(key_info(def, key, group, order)),
            value: ConfigValueInfo {
                name: key.to_owned(),
                value,
                recommended_values: def.recommended.iter().map(|v| v.to_string()).collect(),
                errors,
                visible: true,
            },
        }
    }

    fn as_given(&self, def: &Definition, key: &str) -> Option<String> {
        let given = self.shown.get(key)?;
        let secret = def.kind == Kind::Password && !given.contains("${");
        Some(if secret { HIDDEN.into() } else { given.clone() })
    }
}

fn key_info(def: &Definition, key: &str, group: Option<&str>, order: i32) -> ConfigKeyInfo {
    let mut documentation = def.doc.to_owned();
    match def.effect {
        Effect::Used => {}
        Effect::WithoutEffect(why) => documentation += &format!(" Without effect: {why}."),
        Effect::Refused(why) => documentation += &format!(" Not supported: {why}."),
        Effect::Only(values, why) => {
            documentation += &format!(" Only {}: {why}.", values.join(", "));
        }
    }
    ConfigKeyInfo {
        name: key.to_owned(),
        kind: def.kind.name(),
        required: def.default == DefaultValue::Required,
        default_value: match def.default {
            DefaultValue::Text(text) => Some(text.to_owned()),
            _ => None,
        },
        importance: def.importance.name(),
        documentation,
        group: group.map(str::to_owned),
        width: def.width.name(),
        display_name: if def.display == def.name {
            key.to_owned()
        } else {
            def.display.to_owned()
        },
        dependents: def.dependents.iter().map(|d| d.to_string()).collect(),
        order,
    }
}

fn shown(value: &ConfigValue) -> Option<String> {
    Some(match value {
        ConfigValue::Null => return None,
        ConfigValue::Boolean(v) => v.to_string(),
        ConfigValue::String(v) => v.clone(),
        ConfigValue::Long(v) => v.to_string(),
        ConfigValue::Double(v) => crate::data::java_f64(*v),
        ConfigValue::List(v) => v.join(","),
        ConfigValue::Password(_) => HIDDEN.into(),
    })
}

/// Lays the tables over the configuration that every sink connector has: common keys, client
/// overrides, converters, transforms and predicates. The sink's own tables come after, then `finish`.
pub fn connector<'a>(shown: &'a Props, resolved: &'a Resolved) -> Validation<'a> {
    let mut v = Validation::new(shown, resolved);
    v.table("", CONNECTOR, None);
    for prefix in CLIENT_PREFIXES {
        v.pass(prefix);
    }
    for prefix in ["key.converter.", "value.converter.", "header.converter."] {
        v.given(prefix, CONVERTER);
    }
    let props = resolved.reveal();
    topics(&mut v, props);
    for key in ["key.converter", "value.converter", "header.converter"] {
        if let Some(class) = props.get(key)
            && let Err(e) = crate::converter::check_class(class, key == "header.converter")
        {
            v.error(key, e.to_string());
        }
    }
    transform::validate(&mut v, props);
    v
}

fn topics(v: &mut Validation<'_>, props: &Props) {
    let given = |key: &str| props.get(key).is_some_and(|text| !text.trim().is_empty());
    let dead_letters = props.get("errors.deadletterqueue.topic.name");
    let dead_letters = dead_letters.map_or("", |t| t.trim());
    match (given("topics"), given("topics.regex")) {
        (true, true) => {
            let message =
                "topics and topics.regex are mutually exclusive options, but both are set.";
            v.error("topics", message);
            v.error("topics.regex", message);
        }
        (false, false) => v.error("topics", "Must configure one of topics or topics.regex"),
        _ => {}
    }
    if dead_letters.is_empty() {
        return;
    }
    // A dead letter that comes back as a record fails again, forever.
    if given("topics")
        && settings::list(&props["topics"])
            .iter()
            .any(|t| t == dead_letters)
    {
        let message = format!(
            "The DLQ topic '{dead_letters}' may not be included in the list of topics \
             ('topics') consumed by the connector"
        );
        v.error("topics", message);
    }
    if given("topics.regex") && crate::config::whole_match(&props["topics.regex"], dead_letters) {
        let message = format!(
            "The DLQ topic '{dead_letters}' may not be included in the regex matching of topics \
             ('topics.regex') consumed by the connector"
        );
        v.error("topics.regex", message);
    }
}
