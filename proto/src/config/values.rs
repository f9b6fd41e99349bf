//! The values of broker keys, each with where it came from. Layers shadow one another:
//! default < file < environment < override < cluster-wide dynamic < per-broker dynamic.

use std::collections::BTreeMap;
use std::fmt;

use super::check::{boolean, canonical, list};
use super::definitions::{ConfigDef, Synonym, broker};

/// Where DescribeConfigs says that a value comes from. The discriminants are the numbers of
/// `ConfigSource` in KIP-226.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum Source {
    DynamicTopic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

/// Where a value was written down, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The defaults of a server that was given no file.
    Embedded,
    File {
        name: String,
        line: usize,
    },
    Environment {
        variable: String,
    },
    Override,
    DynamicDefaultBroker,
    DynamicBroker,
}

impl Origin {
    pub fn source(&self) -> Source {
        match self {
            Origin::Embedded => Source::Default,
            Origin::File { .. } | Origin::Environment { .. } | Origin::Override => {
                Source::StaticBroker
            }
            Origin::DynamicDefaultBroker => Source::DynamicDefaultBroker,
            Origin::DynamicBroker => Source::DynamicBroker,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Embedded => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Environment { variable } => write!(f, "environment {variable}"),
            Origin::Override => f.write_str("--override"),
            Origin::DynamicDefaultBroker => f.write_str("cluster-wide dynamic config"),
            Origin::DynamicBroker => f.write_str("dynamic config of this broker"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub value: String,
    pub origin: Origin,
}

/// The values that were set, by key; of a key that nobody set, the default of its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// The settings of a key, the one that counts first: at most one per [`Source`].
    settings: BTreeMap<String, Vec<Setting>>,
}

impl Values {
    /// Sets a key. It shadows, and of the same source replaces, what was set before.
    pub(super) fn set(&mut self, key: &str, value: &str, origin: Origin) {
        let settings = self.settings.entry(key.to_owned()).or_default();
        settings.retain(|setting| setting.origin.source() != origin.source());
        let value = match broker::find(key) {
            Some(def) => canonical(def, value),
            None => value.trim().to_owned(),
        };
        settings.push(Setting { value, origin });
        settings.sort_by_key(|setting| setting.origin.source());
    }

    /// Forgets what was set dynamically.
    pub(super) fn without_dynamic(&self) -> Self {
        let mut values = self.clone();
        values.settings.retain(|_, settings| {
            settings.retain(|s| s.origin.source() >= Source::StaticBroker);
            !settings.is_empty()
        });
        values
    }

    /// The keys that were set, and their settings, the one that counts first.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &[Setting])> {
        self.settings
            .iter()
            .map(|(key, settings)| (key.as_str(), settings.as_slice()))
    }

    /// The settings of one key, the one that counts first; empty if nobody set it.
    pub fn settings_of(&self, key: &str) -> &[Setting] {
        self.settings.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether somebody set the key, to something.
    pub fn is_set(&self, key: &str) -> bool {
        self.settings_of(key)
            .first()
            .is_some_and(|setting| !setting.value.is_empty())
    }

    /// Where the value that counts was written down; `None` for a default.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        Some(&self.settings_of(key).first()?.origin)
    }

    /// The value that counts, or the default; `None` is Kafka's null.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self.settings_of(key).first() {
            Some(setting) => Some(&setting.value),
            None => broker::find(key).and_then(|def| def.default),
        }
    }

    /// The value of the first of these keys that has one, in the unit that they supply. As in
    /// Kafka, -1 means the same in every unit.
    pub(super) fn first_of(&self, synonyms: &[Synonym]) -> Option<String> {
        synonyms.iter().find_map(|synonym| {
            let value = self.get(synonym.key).filter(|value| !value.is_empty())?;
            Some(converted(value, synonym.factor))
        })
    }

    // Readers of values that were checked when they were set. A value that does not parse here is
    // a bug of the caller.
    fn read<T: std::str::FromStr>(&self, key: &str) -> T {
        let value = self
            .get(key)
            .unwrap_or_else(|| panic!("{key} has no default"));
        value
            .parse()
            .unwrap_or_else(|_| panic!("{key} was not checked"))
    }
    pub(super) fn boolean(&self, key: &str) -> bool {
        let value = self.get(key).and_then(boolean);
        value.unwrap_or_else(|| panic!("{key} was not checked"))
    }
    pub(super) fn int(&self, key: &str) -> i32 {
        self.read(key)
    }
    pub(super) fn short(&self, key: &str) -> i16 {
        self.read(key)
    }
    pub(super) fn long(&self, key: &str) -> i64 {
        self.read(key)
    }
    pub(super) fn double(&self, key: &str) -> f64 {
        self.read(key)
    }
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        list(self.get(key).unwrap_or_default())
            .map(str::to_owned)
            .collect()
    }
    /// A text that is set and not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }
}

/// A number in another unit; -1 stays, and what would overflow saturates.
fn converted(value: &str, factor: i64) -> String {
    if factor == 1 {
        return value.to_owned();
    }
    match value.parse::<i64>() {
        Ok(number) if number >= 0 => number.saturating_mul(factor).to_string(),
        _ => value.to_owned(),
    }
}

/// The broker keys that supply the value of `def`, the most specific first.
pub(super) fn family(def: &'static ConfigDef) -> Vec<&'static str> {
    if def.synonyms.is_empty() {
        vec![def.name]
    } else {
        def.synonyms.iter().map(|synonym| synonym.key).collect()
    }
}
