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

/// By full name; by simple name, with or without `Connector` at its end. Of several with one simple name,
/// the one that most files mean: Confluent's, then Aiven's.
pub fn connector(name: &str) -> Option<&'static ConnectorClass> {
    let name = name.trim();
    if let Some(found) = CONNECTORS.iter().find(|c| c.class == name) {
        return Some(found);
    }
    CONNECTORS.iter().find(|c| {
        let simple = simple_name(c.class);
        simple == name || simple.strip_suffix("Connector") == Some(name)
    })
}

pub fn simple_name(class: &str) -> &str {
    let name = class.rsplit('.').next().unwrap_or(class);
    name.split('$').next().unwrap_or(name)
}

/// The nearest connector class, for a message.
pub fn nearest_connector(name: &str) -> Option<&'static str> {
    ottla_proto::config::nearest(name, CONNECTORS.iter().map(|c| c.class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_simple_names_and_aliases() {
        let of = |name: &str| connector(name).map(|c| (c.sink, c.vendor));
        let (s3, search) = (SinkKind::S3, SinkKind::OpenSearch);
        for (name, found) in [
            (
                "io.confluent.connect.s3.S3SinkConnector",
                (s3, Vendor::Confluent),
            ),
            ("S3Sink", (s3, Vendor::Confluent)),
            ("AivenKafkaConnectS3SinkConnector", (s3, Vendor::Aiven)),
            (
                "io.aiven.kafka.connect.opensearch.OpensearchSinkConnector",
                (search, Vendor::Aiven),
            ),
            ("ElasticsearchSink", (search, Vendor::Confluent)),
            ("WebhookSinkConnector", (SinkKind::Webhook, Vendor::Ottla)),
        ] {
            assert_eq!(of(name), Some(found), "{name}");
        }
        assert_eq!(of("com.acme.S3SinkConnector"), None);
        assert_eq!(
            nearest_connector("io.confluent.connect.s3.S3SinkConector"),
            Some("io.confluent.connect.s3.S3SinkConnector")
        );
    }
}
