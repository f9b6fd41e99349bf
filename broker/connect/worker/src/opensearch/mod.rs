//! The OpenSearch sink: bulk requests whose repetition changes nothing.
//!
//! A document's id and version follow from its record, so that a record that comes again after a crash finds its
//! document there (409) and that is counted. Offsets are committed behind what is written.

mod bulk;
mod client;
mod document;
mod indices;
mod json;
mod keys;
mod mapping;
mod sigv4;
mod sink;
mod tls;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use ottla_connect::config::classes::Vendor;
use ottla_connect::config::{Props, Settings};
use ottla_connect::error::ConnectError;
use ottla_connect::partition::IndexName;
use ottla_connect::sink::SinkTask;

use crate::net::{Guard, GuardedConnector};
use crate::plugins::Surroundings;
use bulk::{Bulk, Retries};
use client::{Cluster, Connection, basic};
use document::{Documents, IdStrategy, Indexes, OnNull, StreamTime};
use indices::{Indices, Kind};
pub use keys::tables;
use sigv4::Signer;
use sink::{Behavior, Limits, Malformed, OpenSearchSink};

/// A bulk request with more than one record has no more bytes than this.
const BULK_BYTES_MAX: i64 = 64 << 20;
/// What a task holds of documents and their records.
const BUFFERED_BYTES_MAX: usize = 128 << 20;

fn settings(vendor: Vendor, props: &Props) -> Result<Settings, ConnectError> {
    let all: Vec<_> = tables(vendor).into_iter().flatten().copied().collect();
    Settings::parse(&all, props).map_err(|problems| {
        let messages: Vec<_> = problems.into_iter().map(|p| p.message).collect();
        ConnectError::config(messages.join("; "))
    })
}

fn lower(settings: &Settings, key: &str) -> String {
    settings.required_text(key).to_lowercase()
}

fn set(settings: &Settings, key: &str) -> HashSet<String> {
    settings.list(key).iter().cloned().collect()
}

fn pairs(settings: &Settings, key: &str) -> HashMap<String, String> {
    let pairs = settings.list(key).iter();
    let pairs = pairs.filter_map(|p| p.split_once(':'));
    pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// What the vendors' keys say of data streams and resources that are there.
struct Streams {
    time: Option<StreamTime>,
    prefix: String,
    /// In the topic's place.
    namespace: Option<String>,
    template: Option<String>,
    external: Option<HashMap<String, String>>,
}

fn confluent(settings: &Settings) -> Result<Streams, ConnectError> {
    let kind = lower(settings, "data.stream.type");
    let dataset = settings.required_text("data.stream.dataset");
    let fields = settings.list("data.stream.timestamp.field").to_vec();
    let usage = lower(settings, "external.resource.usage");
    if (kind == "none") != dataset.is_empty() {
        return Err(ConnectError::config(
            "data.stream.type and data.stream.dataset are set both or not at all",
        ));
    }
    let external = pairs(settings, "topic.to.external.resource.mapping");
    if (usage == "disabled") != external.is_empty() {
        return Err(ConnectError::config(
            "topic.to.external.resource.mapping is set where external.resource.usage is not disabled",
        ));
    }
    let stream = kind != "none" || usage.ends_with("datastream");
    if kind != "none" && usage != "disabled" {
        return Err(ConnectError::config(
            "data.stream.* make data streams; external.resource.usage says that there are some",
        ));
    }
    Ok(Streams {
        time: stream.then_some(StreamTime::FirstOf(fields)),
        prefix: match kind.as_str() {
            "none" => String::new(),
            kind => format!("{kind}-{dataset}-"),
        },
        namespace: match kind.as_str() {
            "none" => None,
            _ => Some(settings.required_text("data.stream.namespace").to_owned()),
        },
        template: None,
        external: (usage != "disabled").then_some(external),
    })
}

fn aiven(settings: &Settings) -> Streams {
    let enabled = settings.boolean("data.stream.enabled");
    let field = settings.required_text("data.stream.timestamp.field");
    let prefix = settings.text("data.stream.prefix").filter(|_| enabled);
    Streams {
        time: enabled.then(|| StreamTime::Field(field.to_owned())),
        prefix: prefix.map_or(String::new(), |p| format!("{}-", p.to_lowercase())),
        namespace: None,
        template: settings
            .text("data.streams.existing.index.template.name")
            .map(str::to_owned),
        external: None,
    }
}

/// The parts of a sink that follow from its keys alone.
struct Parts {
    documents: Documents,
    behavior: Behavior,
    limits: Limits,
    retries: Retries,
    kind: Kind,
    template: Option<(String, String)>,
}

fn parts(vendor: Vendor, settings: &Settings) -> Result<Parts, ConnectError> {
    let of_confluent = vendor == Vendor::Confluent;
    let streams = match of_confluent {
        true => confluent(settings)?,
        false => aiven(settings),
    };
    let strategy = match of_confluent {
        true if settings.boolean("use.autogenerated.ids") => "none".into(),
        true => "topic.partition.offset".into(),
        false => lower(settings, "key.ignore.id.strategy"),
    };
    let ignored_key = match strategy.as_str() {
        "none" => IdStrategy::None,
        "record.key" => IdStrategy::RecordKey,
        _ => IdStrategy::TopicPartitionOffset,
    };
    let method = if of_confluent {
        "write.method"
    } else {
        "index.write.method"
    };
    let upsert = lower(settings, method) == "upsert";
    let on_null = match lower(settings, "behavior.on.null.values").as_str() {
        "delete" => OnNull::Delete,
        "fail" => OnNull::Fail,
        _ => OnNull::Ignore,
    };
    // Of a data stream's documents none replaces another, so that a key would be a poor id.
    let generated = of_confluent && settings.boolean("use.autogenerated.ids");
    let key_ignore = settings.boolean("key.ignore") || generated || streams.time.is_some();
    check_together(&streams, upsert, on_null, key_ignore, ignored_key)?;
    let name = settings
        .text("index.name")
        .map(IndexName::parse)
        .transpose();
    let name = name.map_err(|e| ConnectError::config(format!("index.name: {e}")))?;
    let mut of_topics = pairs(settings, "topic.index.map");
    of_topics.extend(streams.external.clone().unwrap_or_default());
    let text = |key: &str| settings.text(key).map(str::to_owned);
    let template = match (
        text("ottla.index.template.name"),
        text("ottla.index.template"),
    ) {
        (Some(name), Some(body)) => Some((name, body)),
        (None, None) => None,
        _ => {
            return Err(ConnectError::config(
                "ottla.index.template and ottla.index.template.name are set both or not at all",
            ));
        }
    };
    let version_header = text_if(of_confluent, settings, "external.version.header");
    let time_field = streams.time.as_ref().map(|t| t.field().to_owned());
    Ok(Parts {
        kind: match (&streams.external, time_field) {
            (Some(_), _) => Kind::External,
            (None, Some(time_field)) => Kind::DataStream {
                time_field,
                template: streams.template.clone(),
            },
            (None, None) => Kind::Index,
        },
        documents: Documents {
            indexes: Indexes {
                name,
                of_topics,
                prefix: streams.prefix,
                suffix: String::new(),
                fixed: streams.namespace,
            },
            ignored_key,
            key_ignore,
            topic_key_ignore: set(settings, "topic.key.ignore"),
            on_null,
            upsert,
            data_stream: streams.time,
            compact_maps: settings.boolean("compact.map.entries"),
            version_header,
            schema_ignore: settings.boolean("schema.ignore"),
            topic_schema_ignore: set(settings, "topic.schema.ignore"),
        },
        behavior: behavior(of_confluent, settings),
        limits: limits(settings),
        retries: Retries {
            most: settings.long("max.retries") as u32,
            first: Duration::from_millis(settings.long("retry.backoff.ms") as u64),
        },
        template,
    })
}

fn text_if(known: bool, settings: &Settings, key: &str) -> Option<String> {
    let text = known.then(|| settings.required_text(key).to_owned());
    text.filter(|t| !t.is_empty())
}

fn behavior(of_confluent: bool, settings: &Settings) -> Behavior {
    let malformed = lower(settings, "behavior.on.malformed.documents");
    Behavior {
        malformed: match malformed.as_str() {
            "ignore" => Malformed::Ignore,
            "warn" => Malformed::Warn,
            _ => Malformed::Report,
        },
        drop_invalid: settings.boolean("drop.invalid.message"),
        log_duplicates: !of_confluent
            && lower(settings, "behavior.on.version.conflict") != "ignore",
    }
}

fn limits(settings: &Settings) -> Limits {
    let bytes = match settings.long("bulk.size.bytes") {
        most if most <= 0 => BULK_BYTES_MAX,
        most => most,
    };
    Limits {
        records: settings.long("batch.size") as usize,
        bytes: bytes as usize,
        linger_ms: settings.long("linger.ms"),
        in_flight: settings.long("max.in.flight.requests") as usize,
        buffered_records: settings.long("max.buffered.records") as usize,
        buffered_bytes: BUFFERED_BYTES_MAX,
    }
}

fn check_together(
    streams: &Streams,
    upsert: bool,
    on_null: OnNull,
    key_ignore: bool,
    ignored_key: IdStrategy,
) -> Result<(), ConnectError> {
    let wrong = if streams.time.is_some() && upsert {
        "data streams take no upsert"
    } else if streams.time.is_some() && on_null == OnNull::Delete {
        "of data streams nothing is deleted: behavior.on.null.values must be ignore or fail"
    } else if upsert && key_ignore && ignored_key != IdStrategy::RecordKey {
        "upsert needs the record's key as id"
    } else {
        return Ok(());
    };
    Err(ConnectError::config(wrong))
}

fn cluster(vendor: Vendor, settings: &Settings, guard: &Guard) -> Result<Cluster, ConnectError> {
    let wrong = |e: &dyn std::fmt::Display| ConnectError::config(e.to_string());
    let urls = settings.list("connection.url").iter();
    let urls = urls.filter(|u| !u.is_empty()).map(|given| {
        let schemed = given.contains("://");
        let whole = if schemed {
            given.clone()
        } else {
            format!("http://{given}")
        };
        guard.check(&whole).map_err(|e| wrong(&e))
    });
    let urls: Vec<_> = urls.collect::<Result<_, _>>()?;
    if urls.is_empty() {
        return Err(ConnectError::config("connection.url has no address"));
    }
    let user = settings.text("connection.username");
    let password = settings.secret("connection.password");
    let authorization = match (user, password) {
        (Some(user), Some(password)) => {
            let header = basic(user, password.reveal());
            Some(header.ok_or_else(|| wrong(&"connection.username cannot be sent"))?)
        }
        (None, None) => None,
        _ => {
            return Err(ConnectError::config(
                "connection.username and connection.password are set both or not at all",
            ));
        }
    };
    let signer = match vendor {
        Vendor::Confluent => None,
        _ => signer(settings, guard)?,
    };
    if signer.is_some() && authorization.is_some() {
        return Err(ConnectError::config(
            "requests are either signed (aws.region) or have a password",
        ));
    }
    let connect = Duration::from_millis(settings.long("connection.timeout.ms") as u64);
    let builder = guard.builder().connect_timeout(connect);
    let builder = tls::configure(builder, vendor, settings)?;
    Ok(Cluster::new(Connection {
        client: builder.build().map_err(|e| wrong(&crate::net::trace(&e)))?,
        urls,
        authorization,
        signer,
        gzip: settings.boolean("connection.compression"),
        read_timeout: Duration::from_millis(settings.long("read.timeout.ms") as u64),
    }))
}

/// Credentials are those of S3's sink: the file's keys, or the environment's chain.
fn signer(settings: &Settings, guard: &Guard) -> Result<Option<Signer>, ConnectError> {
    let Some(region) = settings.text("aws.region") else {
        return Ok(None);
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_region(region)
        .with_bucket_name("none")
        .with_http_connector(GuardedConnector(guard.clone()));
    let id = settings.text("aws.access_key_id");
    let secret = settings.secret("aws.secret_access_key");
    match (id, secret) {
        (Some(id), Some(secret)) => {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret.reveal());
        }
        (None, None) => {}
        _ => {
            return Err(ConnectError::config(
                "aws.access_key_id and aws.secret_access_key are set both or not at all",
            ));
        }
    }
    let store = builder.build();
    let store = store.map_err(|e| ConnectError::config(format!("AWS credentials: {e}")))?;
    Ok(Some(Signer {
        credentials: store.credentials().clone(),
        service: settings
            .required_text("aws.service.signing.name")
            .to_owned(),
        region: region.to_owned(),
    }))
}

/// What only several keys together get wrong.
pub fn check(vendor: Vendor, props: &Props, guard: &Guard) -> Result<(), ConnectError> {
    let settings = settings(vendor, props)?;
    parts(vendor, &settings)?;
    cluster(vendor, &settings, guard).map(|_| ())
}

pub fn build(
    vendor: Vendor,
    props: &Props,
    around: Surroundings,
) -> Result<Box<dyn SinkTask>, ConnectError> {
    let settings = settings(vendor, props)?;
    let parts = parts(vendor, &settings)?;
    let cluster = cluster(vendor, &settings, &around.guard)?;
    let bulk = Bulk {
        cluster: Arc::new(cluster),
        indices: Arc::new(Indices::new(
            parts.kind,
            parts.documents.compact_maps,
            parts.template,
        )),
        retries: parts.retries,
        connector: props.get("name").cloned().unwrap_or_default(),
    };
    let (documents, behavior, limits) = (parts.documents, parts.behavior, parts.limits);
    let sink = OpenSearchSink::new(documents, behavior, limits, bulk, around);
    Ok(Box::new(sink))
}
