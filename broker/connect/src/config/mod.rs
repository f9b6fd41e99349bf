//! Configurations: what keys there are, how files are read, and what is wrong with them.
//!
//! - [`def`] says what a key is; [`tables`] has the keys of workers, connectors, converters, transforms
//!   and predicates. What this runtime does with a key is data there ([`Effect`]): used, without effect,
//!   or refused with the reason. A key that no table has is an error that names the nearest one.
//! - [`files`] reads every form in which connectors are written down.
//! - [`providers`] resolves `${env:NAME}` and `${file:path:key}`; what they give is secret.
//! - [`validate`] answers as `PUT /connector-plugins/{class}/config/validate` does.
//! - [`classes`] knows the class names of Kafka Connect and its connectors.
//!
//! Nothing here reads a file or the environment by itself.

pub mod classes;
pub mod def;
pub mod files;
pub mod providers;
mod secret;
mod settings;
pub mod tables;
pub mod validate;

pub use def::{Check, DefaultValue, Definition, Effect, Importance, Kind, Width};
pub use secret::Secret;
pub(crate) use settings::list as settings_list;
pub use settings::{ConfigValue, Problem, Settings};

/// Keys and values as they were given, in their order.
pub type Props = indexmap::IndexMap<String, String>;

/// The entries whose keys start with the prefix, without it.
pub fn with_prefix(props: &Props, prefix: &str) -> Props {
    let entries = props.iter();
    entries
        .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
        .collect()
}

/// Whether the pattern matches the whole text, as Java's `matches`. A malformed pattern matches nothing.
pub fn whole_match(pattern: &str, text: &str) -> bool {
    whole_regex(pattern).is_ok_and(|regex| regex.is_match(text))
}

/// The pattern, bound to match whole texts.
pub fn whole_regex(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::Regex::new(pattern)?;
    regex::Regex::new(&format!("^(?:{pattern})$"))
}
