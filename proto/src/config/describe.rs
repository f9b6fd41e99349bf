//! What DescribeConfigs answers: every key with its value, where that comes from, and what else
//! could have supplied it.

use std::collections::BTreeMap;

use super::check::canonical;
use super::definitions::{ConfigDef, Kind, Update, broker, topic};
use super::server::ServerConfig;
use super::topic_config::Effective;
use super::values::{Source, Values, family};

/// One config of a topic or broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    /// `None` is unset, or secret.
    pub value: Option<String>,
    pub source: Source,
    pub is_sensitive: bool,
    pub read_only: bool,
    pub kind: Kind,
    pub doc: &'static str,
    /// The values that could count, the one that does first. The names are broker keys, but for the
    /// topic's own.
    pub synonyms: Vec<ConfigSynonym>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: &'static str,
    /// As it was written, in the unit of that key; `None` if it is secret.
    pub value: Option<String>,
    pub source: Source,
}

/// All configs of a topic that has these configs of its own.
pub fn describe_topic(
    server: &ServerConfig,
    overrides: &BTreeMap<String, String>,
) -> Vec<ConfigEntry> {
    let effective = Effective { server, overrides };
    let entry = |def: &'static ConfigDef| {
        let mut synonyms = Vec::new();
        if let Some(value) = overrides.get(def.name) {
            synonyms.push(synonym(def, def.name, value, Source::DynamicTopic));
        }
        if !def.synonyms.is_empty() {
            synonyms.extend(broker_synonyms(def, server.values()));
        }
        new_entry(def, Some(effective.text(def.name)), false, synonyms)
    };
    topic::TOPIC.iter().map(entry).collect()
}

/// All configs of the broker.
pub fn describe_broker(server: &ServerConfig) -> Vec<ConfigEntry> {
    let values = server.values();
    let entry = |def: &'static ConfigDef| {
        let value = values.get(def.name).map(str::to_owned);
        let read_only = def.update == Update::ReadOnly;
        new_entry(def, value, read_only, broker_synonyms(def, values))
    };
    broker::all().map(entry).collect()
}

/// The dynamic configs that all brokers share. Unlike a broker, this resource has only what was set.
pub fn describe_cluster_default(configs: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let entry = |(key, value): (&String, &String)| {
        let def = broker::find(key)?;
        let source = Source::DynamicDefaultBroker;
        let synonyms = vec![synonym(def, def.name, value, source)];
        Some(new_entry(def, Some(value.clone()), false, synonyms))
    };
    configs.iter().filter_map(entry).collect()
}

fn new_entry(
    def: &'static ConfigDef,
    value: Option<String>,
    read_only: bool,
    synonyms: Vec<ConfigSynonym>,
) -> ConfigEntry {
    ConfigEntry {
        name: def.name,
        value: value.filter(|_| !def.is_sensitive()),
        source: synonyms
            .first()
            .map_or(Source::Default, |synonym| synonym.source),
        is_sensitive: def.is_sensitive(),
        read_only,
        kind: def.kind,
        doc: def.doc,
        synonyms,
    }
}

fn synonym(
    def: &'static ConfigDef,
    name: &'static str,
    value: &str,
    source: Source,
) -> ConfigSynonym {
    let value = (!def.is_sensitive()).then(|| canonical(def, value));
    ConfigSynonym {
        name,
        value,
        source,
    }
}

/// What could supply the value: by source, then in the order of the family.
fn broker_synonyms(def: &'static ConfigDef, values: &Values) -> Vec<ConfigSynonym> {
    let mut synonyms = Vec::new();
    for name in family(def) {
        let Some(member) = broker::find(name) else {
            continue;
        };
        let mut has_default = false;
        for setting in values.settings_of(name) {
            let source = setting.origin.source();
            has_default |= source == Source::Default;
            synonyms.push(synonym(member, member.name, &setting.value, source));
        }
        if let (false, Some(default)) = (has_default, member.default) {
            synonyms.push(synonym(member, member.name, default, Source::Default));
        }
    }
    synonyms.sort_by_key(|synonym| synonym.source);
    synonyms
}
