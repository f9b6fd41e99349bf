//! Gathers the settings of a server from their sources, checks each, and says what has no effect.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BOOTSTRAP, ConfigErrors, ConfigProblem, LOG_DIRS, NODE_ID, Problems, ROLES, ServerConfig,
    VOTERS,
};
use crate::config::check::{Fault, Shown, check};
use crate::config::definitions::broker::{self, Recognised};
use crate::config::definitions::{ConfigDef, Effect, Update, topic};
use crate::config::environment;
use crate::config::nearest::nearest;
use crate::config::properties::{self, PropertiesError, Property};
use crate::config::values::{Origin, Values};

/// What a server is that was told nothing: a cluster of its own, on this machine only.
const EMBEDDED: &[(&str, &str)] = &[
    (ROLES, "broker,controller"),
    (NODE_ID, "1"),
    ("listeners", "PLAINTEXT://127.0.0.1:9092"),
    (LOG_DIRS, "./ottla-data"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
];

/// A key that was set and has no effect, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub origin: Origin,
    pub key: String,
    /// Whether some of what the key says is done.
    pub in_part: bool,
    pub reason: &'static str,
}

impl Notice {
    /// Whatever a known key has to be said about it.
    fn of(def: &ConfigDef, origin: Origin, key: String) -> Option<Notice> {
        let (in_part, reason) = match def.effect {
            Effect::NoEffect(reason) => (false, reason),
            Effect::Partly(reason) => (true, reason),
            Effect::Honoured | Effect::Only(..) | Effect::NotBuilt(_) => return None,
        };
        Some(Notice {
            origin,
            key,
            in_part,
            reason,
        })
    }
}

/// The notices on one line, the keys gathered by reason; `None` if there are none.
pub fn notices_line(notices: &[Notice]) -> Option<String> {
    let gather = |in_part: bool| {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for notice in notices.iter().filter(|notice| notice.in_part == in_part) {
            reasons.entry(notice.reason).or_default().push(&notice.key);
        }
        let part = |(reason, keys): (&str, Vec<&str>)| format!("{} ({reason})", keys.join(", "));
        reasons.into_iter().map(part).collect::<Vec<_>>().join("; ")
    };
    let titled = |title, keys: String| (!keys.is_empty()).then(|| format!("{title}: {keys}"));
    let parts: Vec<_> = [
        titled("accepted without effect", gather(false)),
        titled("in effect in part", gather(true)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

struct Entry {
    origin: Origin,
    key: String,
    value: String,
}

/// What the entries came to.
#[derive(Default)]
struct Gathered {
    values: Values,
    failed: BTreeSet<String>,
    errors: Vec<ConfigProblem>,
    notices: Vec<Notice>,
    /// `listener.name.` keys, until the listeners are known.
    listeners_named: Vec<(Origin, String)>,
}

impl ServerConfig {
    /// Reads the configuration of a server. `file` is a name for messages, and the text of a
    /// `server.properties`; `env` is the whole environment; `overrides` are `key=value`, from the
    /// command line. Later sources win: file, environment, overrides.
    ///
    /// Without a file, and where nothing says what the process's role or quorum is, the server is a
    /// broker and controller on its own. With a file, `process.roles` and `node.id` are required.
    pub fn load(
        file: Option<(&str, &str)>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[String],
    ) -> Result<(ServerConfig, Vec<Notice>), ConfigErrors> {
        let mut gathered = Gathered::default();
        let mut entries = Vec::new();
        if let Some((name, text)) = file {
            entries = read_file(name, text)?;
        }
        read_environment(env, &mut entries);
        read_overrides(overrides, &mut entries, &mut gathered.errors);
        let decisive = [ROLES, VOTERS, BOOTSTRAP];
        if file.is_none() && !entries.iter().any(|e| decisive.contains(&e.key.as_str())) {
            for (key, value) in EMBEDDED {
                gathered.values.set(key, value, Origin::Embedded);
            }
        }
        gathered.take(entries);
        gathered.finish()
    }
}

/// Fails at once: half a file would only raise problems that follow from what is missing.
fn read_file(name: &str, text: &str) -> Result<Vec<Entry>, ConfigErrors> {
    let origin = |line| Origin::File {
        name: name.to_owned(),
        line,
    };
    let properties = properties::parse(text).map_err(|error| {
        let line = match error {
            PropertiesError::BadUnicode(line) => line,
            PropertiesError::TooLarge(_) => 1,
        };
        ConfigErrors(vec![ConfigProblem {
            origin: Some(origin(line)),
            text: error.to_string(),
        }])
    })?;
    let entry = |property: Property| Entry {
        origin: origin(property.line),
        key: property.key,
        value: property.value,
    };
    Ok(properties.into_iter().map(entry).collect())
}

fn read_environment(env: impl IntoIterator<Item = (String, String)>, entries: &mut Vec<Entry>) {
    let mut found: Vec<_> = env
        .into_iter()
        .filter_map(|(variable, value)| {
            let key = environment::key_of(&variable, &value)?;
            Some(Entry {
                origin: Origin::Environment { variable },
                key,
                value,
            })
        })
        .collect();
    // The environment has no order; messages should.
    found.sort_by(|a, b| a.key.cmp(&b.key));
    entries.append(&mut found);
}

fn read_overrides(overrides: &[String], entries: &mut Vec<Entry>, errors: &mut Vec<ConfigProblem>) {
    for text in overrides {
        match text.split_once('=').map(|(key, value)| (key.trim(), value)) {
            Some((key, value)) if !key.is_empty() => entries.push(Entry {
                origin: Origin::Override,
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => errors.push(ConfigProblem {
                origin: Some(Origin::Override),
                text: format!("{text}: not of the form key=value"),
            }),
        }
    }
}

impl Gathered {
    /// Checks the entries that count: of each key, the last.
    fn take(&mut self, entries: Vec<Entry>) {
        let mut last = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            last.insert(entry.key.clone(), index);
        }
        for (index, entry) in entries.into_iter().enumerate() {
            if last[&entry.key] == index {
                self.take_one(entry);
            }
        }
    }

    fn take_one(&mut self, entry: Entry) {
        match broker::recognise(&entry.key) {
            Recognised::Known(def) => self.take_known(def, entry),
            Recognised::PerListener(def) => self.take_per_listener(def, entry),
            Recognised::Foreign(reason) => {
                if entry.key == "zookeeper.connect" {
                    // Kept for what it says about the file; see `roles`.
                    self.values
                        .set(&entry.key, &entry.value, entry.origin.clone());
                }
                let Entry { origin, key, .. } = entry;
                self.notices.push(Notice {
                    origin,
                    key,
                    in_part: false,
                    reason,
                });
            }
            Recognised::NotBuilt(_) if entry.value.trim().is_empty() => {}
            Recognised::NotBuilt(what) => {
                let text = format!("{}: not built: {what}", entry.key);
                self.fail(entry, text);
            }
            Recognised::Unknown => {
                let text = unknown(&entry);
                self.fail(entry, text);
            }
        }
    }

    fn take_known(&mut self, def: &'static ConfigDef, entry: Entry) {
        // An empty value of a key that is unset by default leaves it unset, whatever its type.
        if def.default.is_none() && entry.value.trim().is_empty() {
            return;
        }
        if let Err(fault) = check(def, &entry.value) {
            return self.fail_value(def, entry, &fault);
        }
        self.values
            .set(&entry.key, &entry.value, entry.origin.clone());
        self.notices
            .extend(Notice::of(def, entry.origin, entry.key));
    }

    fn take_per_listener(&mut self, def: &'static ConfigDef, entry: Entry) {
        self.listeners_named
            .push((entry.origin.clone(), entry.key.clone()));
        if let Err(fault) = check(def, &entry.value) {
            return self.fail_value(def, entry, &fault);
        }
        match def.effect {
            Effect::NoEffect(_) => self
                .notices
                .extend(Notice::of(def, entry.origin, entry.key)),
            // The check let only the default or an empty value through.
            Effect::NotBuilt(_) => {}
            Effect::Honoured | Effect::Partly(_) | Effect::Only(..) => {
                let text = format!(
                    "{}: not built: values per listener; {} holds for all listeners",
                    entry.key, def.name
                );
                self.fail(entry, text);
            }
        }
    }

    fn fail_value(&mut self, def: &ConfigDef, entry: Entry, fault: &Fault) {
        let shown = Shown(&entry.key, entry.value.trim(), def.is_sensitive());
        let text = format!("{shown}: {fault}");
        self.fail(entry, text);
    }

    fn fail(&mut self, entry: Entry, text: String) {
        self.failed.insert(entry.key);
        self.errors.push(ConfigProblem {
            origin: Some(entry.origin),
            text,
        });
    }

    fn finish(mut self) -> Result<(ServerConfig, Vec<Notice>), ConfigErrors> {
        let mut problems = Problems::new(self.failed);
        let config = ServerConfig::build(self.values, &mut problems);
        self.errors.extend(problems.into_errors(&config.values));
        for (origin, key) in self.listeners_named {
            let named = broker::listener_of(&key).unwrap_or_default();
            let all = config
                .listeners
                .broker
                .iter()
                .chain(&config.listeners.controller);
            if !all.into_iter().any(|l| l.name.eq_ignore_ascii_case(named)) {
                let text = format!("{key}: there is no listener {named}");
                self.errors.push(ConfigProblem {
                    origin: Some(origin),
                    text,
                });
            }
        }
        if self.errors.is_empty() {
            Ok((config, self.notices))
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}

/// Says of an unknown key what was probably meant.
fn unknown(entry: &Entry) -> String {
    let key = &entry.key;
    let shown: String = key.chars().take(200).collect();
    let from_environment = matches!(entry.origin, Origin::Environment { .. });
    let spelled = |name: &str| match from_environment {
        true => format!("{name} ({})", environment::variable_of(name)),
        false => name.to_owned(),
    };
    if let Some(def) = topic::find(key) {
        return match def.synonyms.first() {
            Some(synonym) => format!(
                "{shown} is a config of topics; its default for all topics is {}",
                spelled(synonym.key)
            ),
            None => format!("{shown} is a config of topics"),
        };
    }
    // Other images put a word before the key: KAFKA_CFG_NODE_ID.
    let without_word = key.split_once('.').and_then(|(_, rest)| broker::find(rest));
    let meant = match without_word {
        Some(def) => Some(def.name),
        None => nearest(key, broker::all().map(|def| def.name)),
    };
    match meant {
        Some(name) => {
            format!(
                "{shown} is not a configuration key; did you mean {}?",
                spelled(name)
            )
        }
        None => format!("{shown} is not a configuration key"),
    }
}

/// Lays dynamic configs over a configuration.
pub(super) fn with_dynamic(
    base: &ServerConfig,
    cluster: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Result<ServerConfig, ConfigErrors> {
    let mut gathered = Gathered {
        values: base.values.without_dynamic(),
        ..Gathered::default()
    };
    let layers = [
        (cluster, Origin::DynamicDefaultBroker),
        (broker, Origin::DynamicBroker),
    ];
    for (settings, origin) in layers {
        for (key, value) in settings {
            let entry = Entry {
                origin: origin.clone(),
                key: key.clone(),
                value: value.clone(),
            };
            match broker::find(key) {
                Some(def) if def.update != Update::ReadOnly => gathered.take_known(def, entry),
                Some(_) => {
                    let text = format!("{key}: read at start-up only");
                    gathered.fail(entry, text);
                }
                None => {
                    let text = unknown(&entry);
                    gathered.fail(entry, text);
                }
            }
        }
    }
    let (mut config, _) = gathered.finish()?;
    // Addresses cannot change; what start-up has filled in stays.
    config.listeners = base.listeners.clone();
    Ok(config)
}
