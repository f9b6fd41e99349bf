//! Class names: those of Kafka Connect, in full, by their simple name, or by an alias.

/// A kind of plugin, as `GET /connector-plugins` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginKind {
    Sink,
    Converter,
    HeaderConverter,
    Transformation,
    Predicate,
}

impl PluginKind {
    pub fn name(self) -> &'static str {
        match self {
            PluginKind::Sink => "sink",
            PluginKind::Converter => "converter",
            PluginKind::HeaderConverter => "header_converter",
            PluginKind::Transformation => "transformation",
            PluginKind::Predicate => "predicate",
        }
    }
}

/// A sink, whatever its connector class is called. Which keys it understands depends on the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    S3,
    OpenSearch,
    Webhook,
}

/// Whose configuration keys a connector class speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Confluent,
    Aiven,
    Ottla,
}

pub struct ConnectorClass {
    pub class: &'static str,
    pub sink: SinkKind,
    pub vendor: Vendor,
}

const fn class(class: &'static str, sink: SinkKind, vendor: Vendor) -> ConnectorClass {
    ConnectorClass {
        class,
        sink,
        vendor,
    }
}

pub const CONNECTORS: &[ConnectorClass] = &[
    class(
        "io.confluent.connect.s3.S3SinkConnector",
        SinkKind::S3,
        Vendor::Confluent,
    ),
    class(
        "io.aiven.kafka.connect.s3.AivenKafkaConnectS3SinkConnector",
        SinkKind::S3,
        Vendor::Aiven,
    ),
    class(
        "io.aiven.kafka.connect.s3.S3SinkConnector",
        SinkKind::S3,
        Vendor::Aiven,
    ),
    class(
        "io.aiven.kafka.connect.opensearch.OpenSearchSinkConnector",
        SinkKind::OpenSearch,
        Vendor::Aiven,
    ),
    class(
        "io.aiven.kafka.connect.opensearch.OpensearchSinkConnector",
        SinkKind::OpenSearch,
        Vendor::Aiven,
    ),
    class(
        "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
        SinkKind::OpenSearch,
        Vendor::Confluent,
    ),
    class(
        "io.aiven.connect.elasticsearch.ElasticsearchSinkConnector",
        SinkKind::OpenSearch,
        Vendor::Aiven,
    ),
    class(
        "io.ottla.connect.S3SinkConnector",
        SinkKind::S3,
        Vendor::Ottla,
    ),
    class(
        "io.ottla.connect.OpenSearchSinkConnector",
        SinkKind::OpenSearch,
        Vendor::Ottla,
    ),
    class(
        "io.ottla.connect.WebhookSinkConnector",
        SinkKind::Webhook,
        Vendor::Ottla,
    ),
];

/// By full name; by simple name, with or without `Connector` at its end, where only one kind of sink
/// and one vendor besides ours has it.
pub fn connector(name: &str) -> Option<&'static ConnectorClass> {
    let name = name.trim();
    if let Some(found) = CONNECTORS.iter().find(|c| c.class == name) {
        return Some(found);
    }
    let ours = |c: &&ConnectorClass| c.vendor == Vendor::Ottla;
    let mut found = CONNECTORS.iter().filter(|c| {
        let simple = simple_name(c.class);
        simple == name || simple.strip_suffix("Connector") == Some(name)
    });
    let first = found.clone().find(ours).or_else(|| found.next());
    first
}

pub fn simple_name(class: &str) -> &str {
    let name = class.rsplit('.').next().unwrap_or(class);
    name.split('$').next().unwrap_or(name)
}

/// The nearest connector class, for a message.
pub fn nearest_connector(name: &str) -> Option<&'static str> {
    ottla_proto::config::nearest(name, CONNECTORS.iter().map(|c| c.class))
}
