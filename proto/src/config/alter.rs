//! IncrementalAlterConfigs (KIP-339) and AlterConfigs as pure functions from configs to configs.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{check, list};
use super::definitions::{ConfigDef, Kind, Update, broker, topic};
use super::error::ConfigError;

/// The discriminants are the numbers of `OpType` in KIP-339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum AlterOp {
    Set = 0,
    /// Back to the default. Deleting what is not set is fine.
    Delete = 1,
    /// Adds the elements of a list that are not in it yet.
    Append = 2,
    /// Removes the elements of a list that are in it.
    Subtract = 3,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    pub op: AlterOp,
    pub key: String,
    /// Not looked at by [`AlterOp::Delete`]; required by the others.
    pub value: Option<String>,
}

/// Whose configs are altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Topic,
    /// One broker.
    Broker,
    /// The defaults of all brokers: the broker resource with an empty name.
    ClusterDefault,
}

/// The configs after the alterations, all of them or none. What must fit together is not checked
/// here: see [`validate_topic_configs`](super::validate_topic_configs) and
/// [`with_dynamic`](super::ServerConfig::with_dynamic).
pub fn alter(
    current: &BTreeMap<String, String>,
    alterations: &[Alteration],
    scope: Scope,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut keys = BTreeSet::new();
    let mut configs = current.clone();
    for Alteration { op, key, value } in alterations {
        if !keys.insert(key) {
            return Err(ConfigError::Duplicate(key.clone()));
        }
        if *op == AlterOp::Delete {
            delete(&mut configs, key, scope)?;
            continue;
        }
        let value = value
            .as_deref()
            .ok_or_else(|| ConfigError::NullValue(key.clone()))?;
        let def = alterable(key, scope)?;
        let value = match op {
            AlterOp::Append => appended(def, configs.get(key), value)?,
            AlterOp::Subtract => subtracted(def, configs.get(key), value)?,
            AlterOp::Set | AlterOp::Delete => value.trim().to_owned(),
        };
        check(def, &value).map_err(|fault| ConfigError::invalid(def, &value, fault))?;
        configs.insert(key.clone(), value);
    }
    Ok(configs)
}

/// The configs that replace all that were there, as the older AlterConfigs does.
pub fn replace(
    configs: &[(String, Option<String>)],
    scope: Scope,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let set = |(key, value): &(String, Option<String>)| Alteration {
        op: AlterOp::Set,
        key: key.clone(),
        value: value.clone(),
    };
    let alterations: Vec<_> = configs.iter().map(set).collect();
    alter(&BTreeMap::new(), &alterations, scope)
}

/// What is there may always be deleted, even if no version of the table allows it today.
fn delete(
    configs: &mut BTreeMap<String, String>,
    key: &str,
    scope: Scope,
) -> Result<(), ConfigError> {
    if configs.remove(key).is_none() {
        alterable(key, scope)?;
    }
    Ok(())
}

fn alterable(key: &str, scope: Scope) -> Result<&'static ConfigDef, ConfigError> {
    if scope == Scope::Topic {
        return topic::find(key).ok_or_else(|| ConfigError::unknown_topic(key));
    }
    let def = broker::find(key).ok_or_else(|| ConfigError::unknown_broker(key))?;
    match (def.update, scope) {
        (Update::ReadOnly, _) => Err(ConfigError::ReadOnly(key.to_owned())),
        (Update::PerBroker, Scope::ClusterDefault) => {
            Err(ConfigError::PerBrokerOnly(key.to_owned()))
        }
        _ => Ok(def),
    }
}

/// As in Kafka, a list that is not set is the default of its definition.
fn elements<'a>(
    def: &ConfigDef,
    current: Option<&'a String>,
    op: &'static str,
) -> Result<Vec<&'a str>, ConfigError> {
    if def.kind != Kind::List {
        return Err(ConfigError::NotList {
            op,
            key: def.name.to_owned(),
        });
    }
    let current = current
        .map(String::as_str)
        .or(def.default)
        .unwrap_or_default();
    Ok(list(current).collect())
}

fn appended(def: &ConfigDef, current: Option<&String>, value: &str) -> Result<String, ConfigError> {
    let mut elements = elements(def, current, "APPEND")?;
    for element in list(value) {
        if !elements.contains(&element) {
            elements.push(element);
        }
    }
    Ok(elements.join(","))
}

fn subtracted(
    def: &ConfigDef,
    current: Option<&String>,
    value: &str,
) -> Result<String, ConfigError> {
    let mut elements = elements(def, current, "SUBTRACT")?;
    elements.retain(|element| !list(value).any(|gone| gone == *element));
    Ok(elements.join(","))
}
