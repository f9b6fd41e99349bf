//! Keys of workers (Kafka's `WorkerConfig`, `StandaloneConfig` and `DistributedConfig`).

use super::{NULL, REQUIRED, high, low, medium, text};
use crate::config::{Check, Definition, Kind};

const NO_JVM: &str = "there is no JVM";
const BUILT_IN: &str = "plugins are built in";
const NO_SOURCES: &str = "there are no source connectors";
const NO_REPORTERS: &str = "metrics are served for Prometheus";

/// What stands before keys of the Kafka clients that a worker makes, and of security, which go to all
/// of them.
pub const CLIENT_PREFIXES: &[&str] = &["consumer.", "producer.", "admin.", "sasl.", "ssl."];

/// Prefixes whose keys belong to something else of the worker.
pub const OTHER_PREFIXES: &[&str] = &[
    "config.providers.",
    "key.converter.",
    "value.converter.",
    "header.converter.",
];

/// Every worker.
pub const WORKER: &[Definition] = &[
    high(
        "bootstrap.servers",
        Kind::List,
        text("localhost:9092"),
        "Brokers to ask first, as host:port.",
    )
    .check(Check::NonEmptyList),
    low(
        "client.dns.lookup",
        Kind::String,
        text("use_all_dns_ips"),
        "How clients use the addresses of a name.",
    )
    .one_of(&[
        "use_all_dns_ips",
        "resolve_canonical_bootstrap_servers_only",
    ]),
    low(
        "client.id",
        Kind::String,
        text(""),
        "Name of this worker in requests to brokers.",
    ),
    medium(
        "security.protocol",
        Kind::String,
        text("PLAINTEXT"),
        "How to talk to brokers.",
    )
    .check(Check::OneOfIgnoringCase(&[
        "PLAINTEXT",
        "SSL",
        "SASL_PLAINTEXT",
        "SASL_SSL",
    ])),
    high(
        "key.converter",
        Kind::Class,
        REQUIRED,
        "Converter of record keys.",
    )
    .recommend(super::connector::CONVERTERS),
    high(
        "value.converter",
        Kind::Class,
        REQUIRED,
        "Converter of record values.",
    )
    .recommend(super::connector::CONVERTERS),
    low(
        "header.converter",
        Kind::Class,
        text("org.apache.kafka.connect.storage.SimpleHeaderConverter"),
        "Converter of header values.",
    )
    .recommend(super::connector::HEADER_CONVERTERS),
    low(
        "internal.key.converter",
        Kind::Class,
        NULL,
        "Converter of the worker's own records.",
    )
    .without_effect(
        "the worker's own records are JSON without schemas, as Kafka Connect's have been since 2.0",
    ),
    low(
        "internal.value.converter",
        Kind::Class,
        NULL,
        "Converter of the worker's own records.",
    )
    .without_effect(
        "the worker's own records are JSON without schemas, as Kafka Connect's have been since 2.0",
    ),
    low(
        "task.shutdown.graceful.timeout.ms",
        Kind::Long,
        text("5000"),
        "Milliseconds that all tasks together have to stop.",
    ),
    low(
        "offset.flush.interval.ms",
        Kind::Long,
        text("60000"),
        "Milliseconds between two commits of offsets.",
    )
    .check(Check::AtLeast(1)),
    low(
        "offset.flush.timeout.ms",
        Kind::Long,
        text("5000"),
        "Milliseconds that a commit may take.",
    )
    .check(Check::AtLeast(1)),
    low(
        "listeners",
        Kind::List,
        text("http://:8083"),
        "Where the REST API listens.",
    )
    .check(Check::By(listeners)),
    low("rest.port", Kind::Int, NULL, "Port of the REST API.")
        .refused("Kafka 3.0 removed it; use listeners"),
    low(
        "rest.host.name",
        Kind::String,
        NULL,
        "Host of the REST API.",
    )
    .refused("Kafka 3.0 removed it; use listeners"),
    low(
        "rest.advertised.host.name",
        Kind::String,
        NULL,
        "Host under which other workers reach this one.",
    ),
    low(
        "rest.advertised.port",
        Kind::Int,
        NULL,
        "Port under which other workers reach this one.",
    )
    .check(Check::Between(1, 65_535)),
    low(
        "rest.advertised.listener",
        Kind::String,
        NULL,
        "Which listener other workers use.",
    )
    .check(Check::OneOfIgnoringCase(&["http", "https"])),
    low(
        "access.control.allow.origin",
        Kind::String,
        text(""),
        "Access-Control-Allow-Origin of answers.",
    ),
    low(
        "access.control.allow.methods",
        Kind::String,
        text(""),
        "Access-Control-Allow-Methods of answers.",
    ),
    low(
        "response.http.headers.config",
        Kind::String,
        text(""),
        "Rules for headers of REST answers.",
    )
    .refused("put a proxy in front to set headers"),
    low(
        "admin.listeners",
        Kind::List,
        NULL,
        "Where the admin endpoints listen.",
    )
    .refused("they are served by listeners"),
    low(
        "rest.extension.classes",
        Kind::List,
        text(""),
        "Extensions of the REST API.",
    )
    .refused("extensions are Java classes"),
    low("plugin.path", Kind::List, NULL, "Folders with plugins.").without_effect(BUILT_IN),
    low(
        "plugin.discovery",
        Kind::String,
        text("hybrid_warn"),
        "How plugins are found.",
    )
    .one_of(&["only_scan", "service_load", "hybrid_warn", "hybrid_fail"])
    .without_effect(BUILT_IN),
    low(
        "metrics.sample.window.ms",
        Kind::Long,
        text("30000"),
        "Window of a metric.",
    )
    .without_effect(NO_REPORTERS),
    low(
        "metrics.num.samples",
        Kind::Int,
        text("2"),
        "Windows of a metric.",
    )
    .without_effect(NO_REPORTERS),
    low(
        "metrics.recording.level",
        Kind::String,
        text("INFO"),
        "Which metrics are kept.",
    )
    .without_effect(NO_REPORTERS),
    low(
        "metric.reporters",
        Kind::List,
        text(""),
        "Java classes that report metrics.",
    )
    .without_effect(NO_REPORTERS),
    low(
        "auto.include.jmx.reporter",
        Kind::Boolean,
        text("true"),
        "Whether metrics go to JMX.",
    )
    .without_effect(NO_JVM),
    low(
        "config.providers",
        Kind::List,
        text(""),
        "Names of config providers, besides env, file and directory.",
    ),
    low(
        "connector.client.config.override.policy",
        Kind::String,
        text("All"),
        "Which client keys a connector may override.",
    )
    .check(Check::By(override_policy))
    .recommend(&["All", "None", "Principal", "Allowlist"]),
    low(
        "connector.client.config.override.allowlist",
        Kind::List,
        text(""),
        "Client keys that a connector may override under the policy Allowlist.",
    ),
    low(
        "topic.tracking.enable",
        Kind::Boolean,
        text("true"),
        "Whether the topics a connector uses are remembered.",
    ),
    low(
        "topic.tracking.allow.reset",
        Kind::Boolean,
        text("true"),
        "Whether somebody may reset them.",
    ),
    low(
        "topic.creation.enable",
        Kind::Boolean,
        text("true"),
        "Whether topics of source connectors are made.",
    )
    .without_effect(NO_SOURCES),
    medium(
        "ottla.connect.memory.bytes",
        Kind::Long,
        text("536870912"),
        "Bytes that records and open outputs of all tasks may take in memory.",
    )
    .check(Check::AtLeast(16 << 20)),
    medium(
        "ottla.connect.spool.dir",
        Kind::String,
        NULL,
        "Folder for outputs that do not fit in memory; the system's folder for temporary files if not set.",
    ),
    medium(
        "ottla.connect.spool.bytes",
        Kind::Long,
        text("10737418240"),
        "Bytes of those files at most.",
    )
    .check(Check::AtLeast(0)),
    medium(
        "ottla.connect.allow.link.local",
        Kind::Boolean,
        text("false"),
        "Whether connectors may talk to link-local addresses, such as those of cloud metadata.",
    ),
    medium(
        "ottla.connect.allowed.hosts",
        Kind::List,
        text(""),
        "Hosts that connectors may talk to; any if empty.",
    ),
];

fn listeners(text: &str) -> Result<(), String> {
    for listener in crate::config::settings_list(text) {
        let known = ["http://", "https://"]
            .iter()
            .any(|s| listener.starts_with(s));
        let port = listener
            .rsplit_once(':')
            .and_then(|(_, p)| p.parse::<u16>().ok());
        if !known || port.is_none() {
            return Err(format!("{listener} is no listener such as http://:8083"));
        }
    }
    Ok(())
}

fn override_policy(text: &str) -> Result<(), String> {
    match crate::config::classes::simple_name(text) {
        "All" | "None" | "Principal" | "Allowlist" => Ok(()),
        name if name.ends_with("ClientConfigOverridePolicy") => Ok(()),
        _ => Err("must be All, None, Principal or Allowlist".into()),
    }
}
