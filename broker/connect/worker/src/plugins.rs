//! Connector classes: their keys, what is checked of them, and the sinks they make.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ottla_connect::config::classes::{ConnectorClass, SinkKind};
use ottla_connect::config::providers::Resolved;
use ottla_connect::config::validate::{self, ConfigInfos};
use ottla_connect::config::{DefaultValue, Definition, Importance, Kind, Props, classes};
use ottla_connect::error::ConnectError;
use ottla_connect::sink::SinkTask;
use tokio::runtime::Handle;

use crate::net::Guard;
use crate::{opensearch, s3};

/// What a worker lends to its sinks.
#[derive(Clone)]
pub struct Surroundings {
    pub runtime: Handle,
    pub guard: Guard,
    /// Bytes of open outputs that all tasks together hold in memory now.
    pub held_bytes: Arc<AtomicUsize>,
    pub memory_bytes: usize,
    pub spool_dir: PathBuf,
    pub commit_interval_ms: i64,
}

pub fn class(props: &Props) -> Result<&'static ConnectorClass, ConnectError> {
    let name = props.get("connector.class").map_or("", String::as_str);
    let found = classes::connector(name);
    let found = found.ok_or_else(|| {
        let near = classes::nearest_connector(name);
        let near = near.map_or(String::new(), |n| format!(" Did you mean {n}?"));
        ConnectError::config(format!(
            "Failed to find any class that implements Connector and which name matches {name}.{near}"
        ))
    })?;
    if found.sink == SinkKind::Webhook {
        return Err(ConnectError::config(format!(
            "{} is not built yet",
            found.class
        )));
    }
    Ok(found)
}

/// The tables of a class's own keys.
pub fn tables(class: &ConnectorClass) -> Vec<&'static [Definition]> {
    match class.sink {
        SinkKind::S3 => s3::tables(class.vendor),
        SinkKind::OpenSearch => opensearch::tables(class.vendor),
        SinkKind::Webhook => Vec::new(),
    }
}

/// What is wrong with a connector's configuration, key by key.
pub fn validate(shown: &Props, resolved: &Resolved, guard: &Guard) -> ConfigInfos {
    let mut v = validate::connector(shown, resolved);
    let name = shown.get("connector.class").map_or("", String::as_str);
    match class(shown) {
        Ok(class) => {
            for table in tables(class) {
                v.table("", table, None);
            }
            if let Err(error) = check(class, resolved.reveal(), guard) {
                // Keys that are wrong by themselves have said so already.
                if !error.message.starts_with("Missing required")
                    && !error.message.starts_with("Invalid value")
                {
                    v.error("connector.class", error.to_string());
                }
            }
        }
        Err(error) => {
            v.error("connector.class", error.to_string());
            v.pass("");
        }
    }
    v.finish(name)
}

fn check(class: &ConnectorClass, props: &Props, guard: &Guard) -> Result<(), ConnectError> {
    match class.sink {
        SinkKind::S3 => s3::check(class.vendor, props, guard),
        SinkKind::OpenSearch => opensearch::check(class.vendor, props, guard),
        SinkKind::Webhook => Ok(()),
    }
}

/// The sink of one task.
pub fn build(
    class: &ConnectorClass,
    props: &Props,
    around: Surroundings,
) -> Result<Box<dyn SinkTask>, ConnectError> {
    match class.sink {
        SinkKind::S3 => s3::build(class.vendor, props, around),
        SinkKind::OpenSearch => opensearch::build(class.vendor, props, around),
        SinkKind::Webhook => Err(ConnectError::config(format!(
            "{} is not built yet",
            class.class
        ))),
    }
}

pub(crate) const NULL: DefaultValue = DefaultValue::Null;
pub(crate) const REQUIRED: DefaultValue = DefaultValue::Required;

pub(crate) const fn text(value: &'static str) -> DefaultValue {
    DefaultValue::Text(value)
}

pub(crate) const fn key(
    name: &'static str,
    kind: Kind,
    default: DefaultValue,
    doc: &'static str,
) -> Definition {
    Definition::new(name, kind, default, Importance::Medium, doc)
}
