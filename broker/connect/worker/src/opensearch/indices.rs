//! Indexes, data streams and their templates: made when they are first written to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_connect::data::SchemaRef;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::client::{Answer, Cluster};
use super::mapping;
use crate::net::path_part;

const TYPE: &str = "application/json";
/// Pairs of an index and a schema that are remembered.
const REMEMBERED: usize = 10_000;
/// Above templates that match all, and those that come with the server.
const PRIORITY: u32 = 300;

/// Where documents go, and what they are like.
#[derive(Debug)]
pub struct Target {
    pub index: String,
    pub schema: Option<SchemaRef>,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub enum Kind {
    Index,
    /// With its time field, and the template's name if one is given.
    DataStream {
        time_field: String,
        template: Option<String>,
    },
    /// Nothing: it is there, or the user sees to it.
    External,
}

pub enum Prepared {
    Ready,
    /// There can be no such index: its records are bad.
    Refused(String),
    Later(String),
    Never(String),
}

pub struct Indices {
    kind: Kind,
    compact_maps: bool,
    /// `ottla.index.template`
    template: Option<(String, String)>,
    /// What is known to be there: an index, and the schemas of which it has the mapping. One at a time
    /// asks the server.
    ready: Mutex<Ready>,
}

#[derive(Default)]
struct Ready {
    template: bool,
    indexes: HashMap<String, Schemas>,
    pairs: usize,
}

/// Addresses of schemas, which are kept so that an address names one schema.
#[derive(Default)]
struct Schemas {
    addresses: HashSet<usize>,
    kept: Vec<SchemaRef>,
}

/// Why a request did not do what it should.
enum Failed {
    Later(String),
    Refused(String),
    Never(String),
}

impl Indices {
    pub fn new(kind: Kind, compact_maps: bool, template: Option<(String, String)>) -> Indices {
        Indices {
            kind,
            compact_maps,
            template,
            ready: Mutex::default(),
        }
    }

    pub async fn prepare(&self, cluster: &Cluster, target: &Target) -> Prepared {
        let mut ready = self.ready.lock().await;
        if let Some((name, body)) = self.template.as_ref().filter(|_| !ready.template) {
            if let Err(failed) = template(cluster, name, body).await {
                // Without it, no index is as it was meant.
                return match failed {
                    Failed::Later(why) => Prepared::Later(why),
                    Failed::Refused(why) | Failed::Never(why) => Prepared::Never(why),
                };
            }
            ready.template = true;
        }
        let address = target
            .schema
            .as_ref()
            .map_or(0, |s| Arc::as_ptr(s) as usize);
        let known = ready.indexes.get(&target.index);
        if known.is_some_and(|s| s.addresses.contains(&address)) {
            return Prepared::Ready;
        }
        let made = match &self.kind {
            Kind::External => Ok(()),
            Kind::Index => self.index(cluster, target).await,
            Kind::DataStream {
                time_field,
                template,
            } => {
                let template = template.as_deref();
                self.data_stream(cluster, target, time_field, template)
                    .await
            }
        };
        match made {
            Ok(()) => {
                if ready.pairs >= REMEMBERED {
                    ready.indexes.clear();
                    ready.pairs = 0;
                }
                ready.pairs += 1;
                let schemas = ready.indexes.entry(target.index.clone()).or_default();
                schemas.addresses.insert(address);
                schemas.kept.extend(target.schema.clone());
                Prepared::Ready
            }
            Err(Failed::Later(why)) => Prepared::Later(why),
            Err(Failed::Refused(why)) => Prepared::Refused(why),
            Err(Failed::Never(why)) => Prepared::Never(why),
        }
    }

    /// It has gone since.
    pub fn forget(&self, target: &Target) {
        // Held over a request: whoever asks then finds out by itself.
        if let Ok(mut ready) = self.ready.try_lock() {
            ready.indexes.remove(&target.index);
        }
    }

    fn mapping(&self, target: &Target) -> Option<Value> {
        let schema = target.schema.as_ref()?;
        mapping::of_document(schema, self.compact_maps)
    }

    /// An index, unless there is an index, an alias or a data stream of its name.
    async fn index(&self, cluster: &Cluster, target: &Target) -> Result<(), Failed> {
        let path = format!("/{}", path_part(&target.index));
        let found = ask(cluster, Method::HEAD, &path, Bytes::new()).await?;
        if found.is_success() {
            return self.map(cluster, target, &path).await;
        }
        if found.status != 404 {
            return Err(failure("index", &target.index, &found));
        }
        let body = match self.mapping(target) {
            Some(mapping) => json!({"mappings": mapping}).to_string(),
            None => String::new(),
        };
        let made = ask(cluster, Method::PUT, &path, body.into()).await?;
        // Another task was faster.
        if made.is_success() || made.reason().contains("resource_already_exists_exception") {
            return Ok(());
        }
        Err(failure("index", &target.index, &made))
    }

    /// The mapping of an index that has none.
    async fn map(&self, cluster: &Cluster, target: &Target, path: &str) -> Result<(), Failed> {
        let Some(mapping) = self.mapping(target) else {
            return Ok(());
        };
        let path = format!("{path}/_mapping");
        let found = ask(cluster, Method::GET, &path, Bytes::new()).await?;
        if !found.is_success() {
            return Err(failure("mapping of", &target.index, &found));
        }
        let parsed: Value = serde_json::from_slice(&found.body).unwrap_or_default();
        let mut mapped = parsed.as_object().into_iter().flat_map(|o| o.values());
        let empty = |index: &Value| index["mappings"]["properties"].as_object().is_none();
        if !mapped.all(empty) {
            return Ok(());
        }
        let put = ask(cluster, Method::PUT, &path, mapping.to_string().into()).await?;
        match put.is_success() {
            true => Ok(()),
            false => Err(failure("mapping of", &target.index, &put)),
        }
    }

    async fn data_stream(
        &self,
        cluster: &Cluster,
        target: &Target,
        time_field: &str,
        template_name: Option<&str>,
    ) -> Result<(), Failed> {
        let path = format!("/_data_stream/{}", path_part(&target.index));
        let found = ask(cluster, Method::GET, &path, Bytes::new()).await?;
        if found.is_success() {
            return Ok(());
        }
        if found.status != 404 {
            return Err(failure("data stream", &target.index, &found));
        }
        let mut mapping = self.mapping(target).unwrap_or_else(|| json!({}));
        mapping["properties"][time_field] = json!({"type": "date"});
        let body = json!({
            "index_patterns": [target.index],
            "priority": PRIORITY,
            "data_stream": {"timestamp_field": {"name": time_field}},
            "template": {"mappings": mapping},
        });
        let own = format!("{}-template", target.index);
        // With a template of the user's own name, its patterns are the user's matter.
        template(cluster, template_name.unwrap_or(&own), &body.to_string()).await?;
        let made = ask(cluster, Method::PUT, &path, Bytes::new()).await?;
        if made.is_success() || made.reason().contains("resource_already_exists_exception") {
            return Ok(());
        }
        Err(failure("data stream", &target.index, &made))
    }
}

/// An index template, unless there is one of its name.
async fn template(cluster: &Cluster, name: &str, body: &str) -> Result<(), Failed> {
    let path = format!("/_index_template/{}", path_part(name));
    let found = ask(cluster, Method::HEAD, &path, Bytes::new()).await?;
    if found.is_success() {
        return Ok(());
    }
    if found.status != 404 {
        return Err(failure("index template", name, &found));
    }
    let put = ask(cluster, Method::PUT, &path, body.to_owned().into()).await?;
    match put.is_success() {
        true => Ok(()),
        false => Err(failure("index template", name, &put)),
    }
}

async fn ask(cluster: &Cluster, method: Method, path: &str, body: Bytes) -> Result<Answer, Failed> {
    let answer = cluster.send(method, path, TYPE, body).await;
    answer.map_err(|e| Failed::Later(e.to_string()))
}

fn failure(what: &str, name: &str, answer: &Answer) -> Failed {
    let why = format!("{what} {name}: {}", answer.reason());
    match answer.status {
        400 => Failed::Refused(why),
        404 | 408 | 429 | 500.. => Failed::Later(why),
        _ => Failed::Never(why),
    }
}
