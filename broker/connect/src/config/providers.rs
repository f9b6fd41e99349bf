//! Config providers (KIP-297): `${env:NAME}`, `${file:path:key}`, `${directory:path:file}` in values.
//!
//! What a provider gives is a secret. The unresolved text is what is stored, shown and logged; the
//! resolved values live in [`Resolved`], which shows nothing.

use std::collections::BTreeSet;
use std::fmt;

use ottla_proto::config::properties;
use regex::Regex;

use super::{Problem, Props, with_prefix};
use crate::error::ConnectError;

/// What a provider reads. The caller does it, so that nothing here touches the system.
pub trait Lookup {
    fn environment(&self, name: &str) -> Option<String>;
    /// The text of a file, or why not. The path is absolute, or as it was written.
    fn file(&self, path: &str) -> Result<String, String>;
}

#[derive(Clone, Debug)]
enum Provider {
    /// Only names that the pattern matches as a whole.
    Environment {
        allowed: Option<Regex>,
    },
    /// Only files under these paths.
    File {
        allowed: Vec<String>,
    },
    Directory {
        allowed: Vec<String>,
    },
}

/// The providers of a worker.
#[derive(Clone, Debug)]
pub struct Providers(Vec<(String, Provider)>);

/// A configuration with its secrets in it.
#[derive(Clone)]
pub struct Resolved {
    values: Props,
    secret_keys: BTreeSet<String>,
}

impl Resolved {
    /// With secrets: for those who act by it, never for those who show it.
    pub fn reveal(&self) -> &Props {
        &self.values
    }

    pub fn is_secret(&self, key: &str) -> bool {
        self.secret_keys.contains(key)
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().map(|(key, value)| {
            let hidden = self.is_secret(key);
            (key, if hidden { super::secret::HIDDEN } else { value })
        });
        f.debug_map().entries(shown).finish()
    }
}

impl Default for Providers {
    /// What there is without configuration: `env`, `file` and `directory`.
    fn default() -> Providers {
        Providers(vec![
            ("env".into(), Provider::Environment { allowed: None }),
            ("file".into(), Provider::File { allowed: vec![] }),
            ("directory".into(), Provider::Directory { allowed: vec![] }),
        ])
    }
}

impl Providers {
    /// The providers that `config.providers` of a worker names, besides those there always are.
    pub fn of_worker(worker: &Props) -> Result<Providers, ConnectError> {
        let mut providers = Providers::default();
        let names = worker.get("config.providers").map_or("", String::as_str);
        for name in super::settings::list(names) {
            let keys = with_prefix(worker, &format!("config.providers.{name}."));
            let provider = provider(&name, &keys)?;
            providers.0.retain(|(known, _)| *known != name);
            providers.0.push((name, provider));
        }
        Ok(providers)
    }

    /// Puts what the providers give into the values. All problems at once.
    pub fn resolve(&self, props: &Props, lookup: &dyn Lookup) -> Result<Resolved, Vec<Problem>> {
        let mut values = Props::new();
        let mut secret_keys = BTreeSet::new();
        let mut problems = Vec::new();
        for (key, text) in props {
            match self.resolve_text(text, lookup) {
                Ok((value, secret)) => {
                    if secret {
                        secret_keys.insert(key.clone());
                    }
                    values.insert(key.clone(), value);
                }
                Err(why) => problems.push(Problem {
                    key: key.clone(),
                    message: format!("{key}: {why}"),
                }),
            }
        }
        if problems.is_empty() {
            Ok(Resolved {
                values,
                secret_keys,
            })
        } else {
            Err(problems)
        }
    }

    /// The text with what the providers give, and whether there was any. What a provider gives is not
    /// looked through again.
    fn resolve_text(&self, text: &str, lookup: &dyn Lookup) -> Result<(String, bool), String> {
        let mut out = String::new();
        let mut rest = text;
        let mut any = false;
        while let Some(start) = rest.find("${") {
            let (before, reference) = rest.split_at(start);
            out.push_str(before);
            let Some(end) = reference.find('}') else {
                rest = reference;
                break;
            };
            let inner = &reference[2..end];
            let found = inner
                .split_once(':')
                .and_then(|(name, what)| Some((self.provider(name)?, what)));
            match found {
                Some((provider, what)) => {
                    out.push_str(&provider.get(what, lookup)?);
                    any = true;
                }
                // Kafka leaves what names no provider as it is; `${topic}` is used by sinks.
                None => out.push_str(&reference[..=end]),
            }
            rest = &reference[end + 1..];
        }
        out.push_str(rest);
        Ok((out, any))
    }

    fn provider(&self, name: &str) -> Option<&Provider> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, p)| p)
    }
}

impl Provider {
    fn get(&self, what: &str, lookup: &dyn Lookup) -> Result<String, String> {
        match self {
            Provider::Environment { allowed } => {
                let name = what.trim_start_matches(':');
                let pass = |r: &Regex| r.find(name).is_some_and(|m| m.len() == name.len());
                if !allowed.as_ref().is_none_or(pass) {
                    return Err(format!(
                        "environment variable {name} is not in the allow list"
                    ));
                }
                lookup
                    .environment(name)
                    .ok_or_else(|| format!("environment variable {name} is not set"))
            }
            Provider::File { allowed } => {
                let (path, key) = path_and_key(what, allowed)?;
                let text = lookup.file(path).map_err(|e| format!("file {path}: {e}"))?;
                let entries = properties::parse(&text).map_err(|e| format!("file {path}: {e}"))?;
                let entry = entries.into_iter().rev().find(|p| p.key == key);
                entry
                    .map(|p| p.value)
                    .ok_or_else(|| format!("file {path} has no key {key}"))
            }
            Provider::Directory { allowed } => {
                let (path, file) = path_and_key(what, allowed)?;
                if file.contains(['/', '\\']) || file == ".." {
                    return Err(format!("{file} is no file name"));
                }
                let path = format!("{}/{file}", path.trim_end_matches('/'));
                lookup.file(&path).map_err(|e| format!("file {path}: {e}"))
            }
        }
    }
}

fn path_and_key<'a>(what: &'a str, allowed: &[String]) -> Result<(&'a str, &'a str), String> {
    let (path, key) = what
        .rsplit_once(':')
        .ok_or_else(|| format!("{what:?} must be a path, a colon and a key"))?;
    let outside = path.split('/').any(|part| part == "..");
    let under = |dir: &String| {
        let rest = path.strip_prefix(dir.trim_end_matches('/'));
        rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    if !allowed.is_empty() && (outside || !allowed.iter().any(under)) {
        return Err(format!("file {path} is not under allowed.paths"));
    }
    Ok((path, key))
}

fn provider(name: &str, keys: &Props) -> Result<Provider, ConnectError> {
    let class = keys.get("class").map_or("", String::as_str);
    let param = |key: &str| keys.get(&format!("param.{key}"));
    let allowed = || super::settings::list(param("allowed.paths").map_or("", |v| v));
    Ok(match super::classes::simple_name(class) {
        "EnvVarConfigProvider" => {
            let pattern = param("allowlist.pattern")
                .map(|p| Regex::new(p))
                .transpose();
            let allowed = pattern.map_err(|e| {
                ConnectError::config(format!(
                    "config.providers.{name}.param.allowlist.pattern: {e}"
                ))
            })?;
            Provider::Environment { allowed }
        }
        "FileConfigProvider" => Provider::File { allowed: allowed() },
        "DirectoryConfigProvider" => Provider::Directory { allowed: allowed() },
        "" => {
            let message = format!("config.providers.{name}.class is missing");
            return Err(ConnectError::config(message));
        }
        _ => {
            let message = format!(
                "config.providers.{name}.class {class} is not supported: EnvVarConfigProvider, \
                 FileConfigProvider and DirectoryConfigProvider are"
            );
            return Err(ConnectError::config(message));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;
    impl Lookup for Fake {
        fn environment(&self, name: &str) -> Option<String> {
            (name == "PASSWORD").then(|| "s3cret".into())
        }
        fn file(&self, path: &str) -> Result<String, String> {
            match path {
                "/run/keys" => Ok("user=me\npassword=${env:PASSWORD}".into()),
                "/run/dir/token" => Ok("tok".into()),
                _ => Err("no such file".into()),
            }
        }
    }

    fn props(pairs: &[(&str, &str)]) -> Props {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn secrets_are_resolved_and_never_shown() {
        let given = props(&[
            ("a", "${env:PASSWORD}"),
            (
                "b",
                "x-${file:/run/keys:user}-${directory:/run/dir:token}-y",
            ),
            ("c", "${topic} ${unknown:x} ${env"),
            ("d", "${file:/run/keys:password}"),
        ]);
        let resolved = Providers::default().resolve(&given, &Fake).unwrap();
        let values = resolved.reveal();
        assert_eq!(values["a"], "s3cret");
        assert_eq!(values["b"], "x-me-tok-y");
        assert_eq!(values["c"], "${topic} ${unknown:x} ${env");
        assert_eq!(values["d"], "${env:PASSWORD}", "not looked through again");
        assert!(resolved.is_secret("b") && !resolved.is_secret("c"));
        assert!(!format!("{resolved:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_missing_or_not_allowed_is_a_problem() {
        let worker = props(&[
            ("config.providers", "env, files"),
            (
                "config.providers.env.class",
                "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
            ),
            ("config.providers.env.param.allowlist.pattern", "CONNECT_.*"),
            ("config.providers.files.class", "FileConfigProvider"),
            ("config.providers.files.param.allowed.paths", "/run/dir"),
        ]);
        let providers = Providers::of_worker(&worker).unwrap();
        let given = props(&[
            ("a", "${env:PASSWORD}"),
            ("b", "${files:/run/keys:user}"),
            ("c", "${files:/run/dir/../keys:user}"),
            ("d", "${env:CONNECT_X}"),
            ("e", "${file:/gone:x}"),
        ]);
        let problems = providers.resolve(&given, &Fake).unwrap_err();
        let messages: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "a: environment variable PASSWORD is not in the allow list",
                "b: file /run/keys is not under allowed.paths",
                "c: file /run/dir/../keys is not under allowed.paths",
                "d: environment variable CONNECT_X is not set",
                "e: file /gone: no such file",
            ]
        );
    }
}
