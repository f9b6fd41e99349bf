//! The forms in which connectors are written down.
//!
//! | form | recognised by |
//! | --- | --- |
//! | `.properties` | it does not begin with `{` |
//! | `{"name": .., "config": {..}}`, what `POST /connectors` takes | an object at `config` |
//! | `{"connectorName": .., "connectorConfiguration": {..}}`, what MSK Connect's CreateConnector takes | an object at `connectorConfiguration` |
//! | flat JSON, what `PUT /connectors/{name}/config` takes | anything else |

use ottla_proto::config::properties;
use serde_json::{Map, Value};

use super::Props;

/// Largest file that is read.
pub const MAX_FILE_BYTES: usize = properties::MAX_FILE_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    Running,
    Paused,
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorFile {
    pub name: String,
    pub config: Props,
    /// As KIP-980 has it for `POST /connectors`.
    pub initial_state: InitialState,
    /// What of the file is about where a connector runs and not about what it does: MSK Connect's
    /// capacity, plugins, network. It has no effect here, and is said once.
    pub without_effect: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("{0}: the file is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge(String),
    #[error("{file}: {message}")]
    Malformed { file: String, message: String },
    #[error("{0}: the connector has no name: set \"name\"")]
    NoName(String),
    #[error("{file}: \"name\" is {name:?} beside \"config\", and {inner:?} inside it")]
    TwoNames {
        file: String,
        name: String,
        inner: String,
    },
    #[error("{file}: {key} must be a text, a number or a boolean")]
    NotFlat { file: String, key: String },
    #[error("{file}: initial_state {state:?} is none of RUNNING, PAUSED, STOPPED")]
    BadState { file: String, state: String },
    #[error("{first} and {second} both define the connector {name:?}")]
    Duplicate {
        first: String,
        second: String,
        name: String,
    },
}

/// Several files, as on the command line of `connect-standalone`: each pair is a path and its text.
pub fn parse_all(files: &[(&str, &str)]) -> Result<Vec<ConnectorFile>, FileError> {
    let mut found: Vec<ConnectorFile> = Vec::new();
    for (path, text) in files {
        let connector = parse(path, text)?;
        if let Some(at) = found.iter().position(|c| c.name == connector.name) {
            return Err(FileError::Duplicate {
                first: files[at].0.to_owned(),
                second: (*path).to_owned(),
                name: connector.name,
            });
        }
        found.push(connector);
    }
    Ok(found)
}

/// One connector; `file` is its path, for messages.
pub fn parse(file: &str, text: &str) -> Result<ConnectorFile, FileError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(FileError::TooLarge(file.into()));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with('{') {
        return finish(
            file,
            None,
            parse_properties(file, text)?,
            InitialState::Running,
        );
    }
    let malformed = |message: String| FileError::Malformed {
        file: file.into(),
        message,
    };
    let json: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| malformed(format!("not JSON: {e}")))?;
    if let Some(Value::Object(config)) = json.get("connectorConfiguration") {
        return msk(file, &json, config);
    }
    let Some(Value::Object(config)) = json.get("config") else {
        return finish(file, None, flat(file, &json)?, InitialState::Running);
    };
    let mut state = InitialState::Running;
    for (key, value) in &json {
        match (key.as_str(), value) {
            ("config" | "name", _) => {}
            // `GET /connectors/{name}` answers with these besides; such an answer is often saved.
            ("tasks" | "type", _) => {}
            ("initial_state", value) => state = initial_state(file, value)?,
            (other, _) => {
                return Err(malformed(format!("{other} is not known beside \"config\"")));
            }
        }
    }
    finish(file, json.get("name"), flat(file, config)?, state)
}

fn msk(
    file: &str,
    json: &Map<String, Value>,
    config: &Map<String, Value>,
) -> Result<ConnectorFile, FileError> {
    let mut connector = finish(
        file,
        json.get("connectorName"),
        flat(file, config)?,
        InitialState::Running,
    )?;
    let others = json.keys();
    connector.without_effect = others
        .filter(|key| !["connectorName", "connectorConfiguration"].contains(&key.as_str()))
        .cloned()
        .collect();
    Ok(connector)
}

/// A `.properties` file: a connector's or a worker's. Where a key occurs twice, the last one wins.
pub fn parse_properties(file: &str, text: &str) -> Result<Props, FileError> {
    let entries = properties::parse(text).map_err(|e| FileError::Malformed {
        file: file.into(),
        message: e.to_string(),
    })?;
    Ok(entries.into_iter().map(|p| (p.key, p.value)).collect())
}

fn flat(file: &str, json: &Map<String, Value>) -> Result<Props, FileError> {
    let mut props = Props::new();
    for (key, value) in json {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            // As if it were not there: what Kafka Connect does with it.
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(FileError::NotFlat {
                    file: file.into(),
                    key: key.clone(),
                });
            }
        };
        props.insert(key.clone(), text);
    }
    Ok(props)
}

fn initial_state(file: &str, value: &Value) -> Result<InitialState, FileError> {
    let state = value.as_str().unwrap_or_default();
    match state.to_ascii_uppercase().as_str() {
        "RUNNING" => Ok(InitialState::Running),
        "PAUSED" => Ok(InitialState::Paused),
        "STOPPED" => Ok(InitialState::Stopped),
        _ => Err(FileError::BadState {
            file: file.into(),
            state: value.to_string(),
        }),
    }
}

/// The name beside the configuration also goes into it.
fn finish(
    file: &str,
    name: Option<&Value>,
    mut config: Props,
    initial_state: InitialState,
) -> Result<ConnectorFile, FileError> {
    let inner = config.get("name").cloned();
    let name = match (name.and_then(Value::as_str), inner) {
        (Some(name), Some(inner)) if name != inner => {
            return Err(FileError::TwoNames {
                file: file.into(),
                name: name.into(),
                inner,
            });
        }
        (Some(name), _) => name.to_owned(),
        (None, Some(inner)) => inner,
        (None, None) => return Err(FileError::NoName(file.into())),
    };
    config.insert("name".into(), name.clone());
    Ok(ConnectorFile {
        name,
        config,
        initial_state,
        without_effect: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_says_the_same() {
        let forms = [
            (
                "a.properties",
                "name=x\ntasks.max=2\nconnector.class=S3Sink\n",
            ),
            (
                "b.json",
                r#"{"name":"x","config":{"tasks.max":2,"connector.class":"S3Sink"}}"#,
            ),
            (
                "c.json",
                r#"{"name":"x","tasks.max":"2","connector.class":"S3Sink","n":null}"#,
            ),
            (
                "d.json",
                r#"{"connectorName":"x","capacity":{"autoScaling":{}},
                    "connectorConfiguration":{"tasks.max":"2","connector.class":"S3Sink"}}"#,
            ),
        ];
        for (file, text) in forms {
            let connector = parse(file, text).unwrap();
            assert_eq!(connector.name, "x", "{file}");
            let mut keys: Vec<_> = connector.config.iter().collect();
            keys.sort();
            let keys: Vec<_> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let expected = [
                ("connector.class", "S3Sink"),
                ("name", "x"),
                ("tasks.max", "2"),
            ];
            assert_eq!(keys, expected, "{file}");
        }
        assert_eq!(parse("d", forms[3].1).unwrap().without_effect, ["capacity"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("a=b", "f: the connector has no name: set \"name\""),
            (
                "{",
                "f: not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                r#"{"name":"a","x":[1]}"#,
                "f: x must be a text, a number or a boolean",
            ),
            (
                r#"{"name":"a","config":{"name":"b"}}"#,
                "f: \"name\" is \"a\" beside \"config\", and \"b\" inside it",
            ),
            (
                r#"{"name":"a","config":{},"confg":1}"#,
                "f: confg is not known beside \"config\"",
            ),
            (
                r#"{"name":"a","config":{},"initial_state":"ON"}"#,
                "f: initial_state \"\\\"ON\\\"\" is none of RUNNING, PAUSED, STOPPED",
            ),
        ] {
            assert_eq!(parse("f", text).unwrap_err().to_string(), message);
        }
        let same = parse_all(&[("a", "name=x"), ("b", "name=y"), ("c", "name=x")]);
        assert_eq!(
            same.unwrap_err().to_string(),
            "a and c both define the connector \"x\""
        );
    }
}
