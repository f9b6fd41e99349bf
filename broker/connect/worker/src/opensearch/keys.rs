//! Keys of OpenSearch sinks: Confluent's names of its Elasticsearch sink, and Aiven's.

use ottla_connect::config::classes::Vendor;
use ottla_connect::config::{Check, Definition, Kind};

use crate::plugins::{NULL, REQUIRED, key, text};

const PAUSES: &str = "partitions are paused while the server is behind";
const FOLLOWS: &str = "offsets follow what is written";
const NO_TYPES: &str = "OpenSearch has no types";
const NO_PROXY: &str = "proxies are not built";
const NO_KERBEROS: &str = "Kerberos is not built";
const CHOSEN: &str = "protocol and ciphers are OpenSSL's choice";

const COMMON: &[Definition] = &[
    key(
        "connection.url",
        Kind::List,
        REQUIRED,
        "Addresses of the nodes, such as http://a:9200,http://b:9200.",
    )
    .check(Check::NonEmptyList),
    key(
        "connection.username",
        Kind::String,
        NULL,
        "User of basic authentication.",
    ),
    key("connection.password", Kind::Password, NULL, "Its password."),
    key(
        "batch.size",
        Kind::Int,
        text("2000"),
        "Most records of a bulk request.",
    )
    .check(Check::Between(1, 1_000_000)),
    key(
        "bulk.size.bytes",
        Kind::Long,
        text("5242880"),
        "Most bytes of a bulk request with several records; -1 for 64 MiB.",
    )
    .check(Check::Between(-1, 64 << 20)),
    key(
        "linger.ms",
        Kind::Long,
        text("1"),
        "How long a bulk request waits for more records.",
    )
    .check(Check::Between(0, 604_800_000)),
    key(
        "max.in.flight.requests",
        Kind::Int,
        text("5"),
        "Most bulk requests of a task on their way.",
    )
    .check(Check::Between(1, 1000)),
    key(
        "max.buffered.records",
        Kind::Int,
        text("20000"),
        "Records of a task that are not written yet, above which it takes no more.",
    )
    .check(Check::AtLeast(1)),
    key(
        "flush.timeout.ms",
        Kind::Long,
        text("180000"),
        "Longest wait for room.",
    )
    .without_effect(PAUSES),
    key(
        "flush.synchronously",
        Kind::Boolean,
        text("false"),
        "Whether to wait before offsets.",
    )
    .without_effect(FOLLOWS),
    key(
        "max.retries",
        Kind::Int,
        text("2147483647"),
        "How often a request is tried again before the task fails.",
    )
    .check(Check::AtLeast(0)),
    key(
        "retry.backoff.ms",
        Kind::Long,
        text("100"),
        "First pause between tries; it doubles, up to 10 s.",
    )
    .check(Check::Between(0, 86_400_000)),
    key(
        "connection.timeout.ms",
        Kind::Int,
        text("1000"),
        "Longest wait for a connection.",
    )
    .check(Check::Between(1, 43_200_000)),
    key(
        "read.timeout.ms",
        Kind::Int,
        text("3000"),
        "Longest wait for an answer; doubled by each timeout, up to 60 s.",
    )
    .check(Check::Between(1, 604_800_000)),
    key(
        "connection.compression",
        Kind::Boolean,
        text("false"),
        "Whether requests are sent as gzip.",
    ),
    key(
        "key.ignore",
        Kind::Boolean,
        text("false"),
        "Whether the record's key is not the document's id.",
    ),
    key(
        "topic.key.ignore",
        Kind::List,
        text(""),
        "Topics of which keys are ignored.",
    ),
    key(
        "schema.ignore",
        Kind::Boolean,
        text("false"),
        "Whether no mapping is made from the schema.",
    ),
    key(
        "topic.schema.ignore",
        Kind::List,
        text(""),
        "Topics of which schemas are ignored.",
    ),
    key(
        "compact.map.entries",
        Kind::Boolean,
        text("true"),
        "Whether maps are objects; else lists of {key, value}.",
    ),
    key(
        "drop.invalid.message",
        Kind::Boolean,
        text("false"),
        "Whether a record that is no document is dropped.",
    ),
    key(
        "behavior.on.malformed.documents",
        Kind::String,
        text("fail"),
        "What becomes of a document that the server refuses: fail and report as errors.tolerance says, warn and ignore drop it.",
    )
    .check(Check::OneOfIgnoringCase(&[
        "ignore", "warn", "fail", "report",
    ])),
    key("type.name", Kind::String, NULL, "Type of documents.").without_effect(NO_TYPES),
    key(
        "topic.index.map",
        Kind::List,
        text(""),
        "Indexes of topics, as topic:index.",
    )
    .check(Check::By(pairs)),
    key(
        "index.name",
        Kind::String,
        NULL,
        "Name of the index, with ${topic} and the record's time as %{+YYYY.MM.dd}, in UTC.",
    )
    .check(Check::By(index_name)),
    key(
        "ottla.index.template.name",
        Kind::String,
        NULL,
        "Index template that is made if it is not there.",
    ),
    key(
        "ottla.index.template",
        Kind::String,
        NULL,
        "That template, as JSON.",
    )
    .check(Check::By(json_object)),
];

const CONFLUENT: &[Definition] = &[
    key(
        "behavior.on.null.values",
        Kind::String,
        text("fail"),
        "What a null does: ignore, delete the key's document, or fail.",
    )
    .check(Check::OneOfIgnoringCase(&["ignore", "delete", "fail"])),
    key(
        "write.method",
        Kind::String,
        text("insert"),
        "insert replaces a document, upsert changes its fields.",
    )
    .check(Check::OneOfIgnoringCase(&["insert", "upsert"])),
    key(
        "use.autogenerated.ids",
        Kind::Boolean,
        text("false"),
        "Whether the server makes ids. A replay makes duplicates then.",
    ),
    key(
        "external.version.header",
        Kind::String,
        text(""),
        "Header with the document's version; the offset if empty.",
    ),
    key(
        "max.connection.idle.time.ms",
        Kind::Int,
        text("60000"),
        "How long an idle connection is kept.",
    )
    .check(Check::AtLeast(-1)),
    key(
        "log.sensitive.data",
        Kind::Boolean,
        text("false"),
        "Whether documents are logged.",
    )
    .only(&["false"], "documents are never logged"),
    key(
        "auto.create.indices.at.start",
        Kind::Boolean,
        text("true"),
        "Of old versions.",
    )
    .without_effect("indexes are made when they are first written to"),
    key(
        "data.stream.type",
        Kind::String,
        text("none"),
        "logs, metrics or traces: first part of a data stream's name.",
    )
    .check(Check::OneOfIgnoringCase(&[
        "none", "logs", "metrics", "traces",
    ])),
    key(
        "data.stream.dataset",
        Kind::String,
        text(""),
        "Second part of a data stream's name.",
    )
    .check(Check::By(dataset)),
    key(
        "data.stream.namespace",
        Kind::String,
        text("${topic}"),
        "Third part of a data stream's name.",
    ),
    key(
        "data.stream.timestamp.field",
        Kind::List,
        text(""),
        "Fields of which the first that is there is @timestamp; the record's time if none is.",
    ),
    key(
        "external.resource.usage",
        Kind::String,
        text("disabled"),
        "Whether indexes, data streams or aliases are there already.",
    )
    .check(Check::OneOfIgnoringCase(&[
        "disabled",
        "index",
        "datastream",
        "alias_index",
        "alias_datastream",
    ])),
    key(
        "topic.to.external.resource.mapping",
        Kind::List,
        text(""),
        "Those of topics, as topic:resource.",
    )
    .check(Check::By(pairs)),
    key("proxy.host", Kind::String, text(""), "Proxy.").only(&[""], NO_PROXY),
    key("proxy.port", Kind::Int, text("8080"), "Its port.").without_effect(NO_PROXY),
    key("proxy.username", Kind::String, text(""), "Its user.").only(&[""], NO_PROXY),
    key("proxy.password", Kind::Password, NULL, "Its password.").refused(NO_PROXY),
    key("kerberos.user.principal", Kind::String, NULL, "Principal.").refused(NO_KERBEROS),
    key("kerberos.keytab.path", Kind::String, NULL, "Key table.").refused(NO_KERBEROS),
    key(
        "elastic.security.protocol",
        Kind::String,
        text("PLAINTEXT"),
        "Whether elastic.https.* is used.",
    )
    .check(Check::OneOfIgnoringCase(&["PLAINTEXT", "SSL"])),
];

const AIVEN: &[Definition] = &[
    key(
        "behavior.on.null.values",
        Kind::String,
        text("ignore"),
        "What a null does: ignore, delete the key's document, or fail.",
    )
    .check(Check::OneOfIgnoringCase(&["ignore", "delete", "fail"])),
    key(
        "index.write.method",
        Kind::String,
        text("insert"),
        "insert replaces a document, upsert changes its fields.",
    )
    .check(Check::OneOfIgnoringCase(&["insert", "upsert"])),
    key(
        "key.ignore.id.strategy",
        Kind::String,
        text("topic.partition.offset"),
        "Ids where keys are ignored: none, record.key, topic.partition.offset.",
    )
    .check(Check::OneOfIgnoringCase(&[
        "none",
        "record.key",
        "topic.partition.offset",
    ])),
    key(
        "behavior.on.version.conflict",
        Kind::String,
        text("ignore"),
        "What a document that is there already does. It never fails: ignore counts it, all else logs it too.",
    )
    .check(Check::OneOfIgnoringCase(&[
        "ignore", "warn", "fail", "report",
    ])),
    key(
        "data.stream.enabled",
        Kind::Boolean,
        text("false"),
        "Whether data streams are written to.",
    ),
    key(
        "data.stream.prefix",
        Kind::String,
        NULL,
        "Stands with a - before the topic in a data stream's name.",
    )
    .check(Check::NonEmpty),
    key(
        "data.stream.timestamp.field",
        Kind::String,
        text("@timestamp"),
        "The data stream's time; the record's time where a document has none.",
    )
    .check(Check::NonEmpty),
    key(
        "data.streams.existing.index.template.name",
        Kind::String,
        NULL,
        "Index template of the data streams, made if it is not there.",
    ),
    key(
        "aws.region",
        Kind::String,
        NULL,
        "Region of AWS: with it requests are signed.",
    ),
    key(
        "aws.service.signing.name",
        Kind::String,
        text("es"),
        "es, or aoss for serverless.",
    ),
    key(
        "aws.access_key_id",
        Kind::String,
        NULL,
        "Access key; the credentials chain if not set.",
    ),
    key(
        "aws.secret_access_key",
        Kind::Password,
        NULL,
        "Secret key.",
    ),
    key("aws.sts.role.arn", Kind::String, NULL, "Role to assume.")
        .refused("assuming roles by STS is not built; web identity tokens are"),
    key(
        "connection.trust.all.certificates",
        Kind::Boolean,
        text("false"),
        "Whether any certificate is accepted.",
    ),
];

macro_rules! tls {
    ($prefix:literal) => {
        &[
            key(
                concat!($prefix, "ssl.truststore.location"),
                Kind::String,
                NULL,
                "File of trusted certificates, PEM.",
            ),
            key(
                concat!($prefix, "ssl.truststore.certificates"),
                Kind::Password,
                NULL,
                "Trusted certificates themselves, PEM.",
            ),
            key(
                concat!($prefix, "ssl.truststore.password"),
                Kind::Password,
                NULL,
                "Of a Java key store.",
            )
            .without_effect("PEM has none"),
            key(
                concat!($prefix, "ssl.truststore.type"),
                Kind::String,
                text("PEM"),
                "Format of that file.",
            )
            .only(&["PEM"], "Java key stores are not read"),
            key(
                concat!($prefix, "ssl.keystore.location"),
                Kind::String,
                NULL,
                "File of the client's certificate and key, PEM.",
            ),
            key(
                concat!($prefix, "ssl.keystore.certificate.chain"),
                Kind::Password,
                NULL,
                "The client's certificate itself, PEM.",
            ),
            key(
                concat!($prefix, "ssl.keystore.key"),
                Kind::Password,
                NULL,
                "Its key, PKCS #8 in PEM.",
            ),
            key(
                concat!($prefix, "ssl.keystore.password"),
                Kind::Password,
                NULL,
                "Of a Java key store.",
            )
            .without_effect("PEM has none"),
            key(
                concat!($prefix, "ssl.keystore.type"),
                Kind::String,
                text("PEM"),
                "Format of that file.",
            )
            .only(&["PEM"], "Java key stores are not read"),
            key(
                concat!($prefix, "ssl.key.password"),
                Kind::Password,
                NULL,
                "Of the client's key.",
            )
            .refused("keys with a password are not read"),
            key(
                concat!($prefix, "ssl.endpoint.identification.algorithm"),
                Kind::String,
                text("https"),
                "https, or nothing: certificates of any host.",
            )
            .only(&["https", "HTTPS", ""], "there are no others"),
            key(
                concat!($prefix, "ssl.protocol"),
                Kind::String,
                text("TLSv1.3"),
                "Version.",
            )
            .without_effect(CHOSEN),
            key(
                concat!($prefix, "ssl.enabled.protocols"),
                Kind::List,
                text("TLSv1.2,TLSv1.3"),
                "Versions.",
            )
            .without_effect(CHOSEN),
            key(
                concat!($prefix, "ssl.cipher.suites"),
                Kind::List,
                NULL,
                "Ciphers.",
            )
            .refused(CHOSEN),
        ]
    };
}

const CONFLUENT_TLS: &[Definition] = tls!("elastic.https.");
const AIVEN_TLS: &[Definition] = tls!("connection.");

fn pairs(value: &str) -> Result<(), String> {
    for pair in value.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match pair.split_once(':') {
            Some((topic, name)) if !topic.is_empty() && !name.is_empty() => {}
            _ => return Err(format!("{pair} is not as topic:name")),
        }
    }
    Ok(())
}

fn index_name(value: &str) -> Result<(), String> {
    ottla_connect::partition::IndexName::parse(value)
        .map(|_| ())
        .map_err(|e| e.to_string())
}

fn json_object(value: &str) -> Result<(), String> {
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err("must be a JSON object".into()),
        Err(error) => Err(format!("is no JSON: {error}")),
    }
}

fn dataset(value: &str) -> Result<(), String> {
    let wrong = |c: char| c.is_uppercase() || "/\\*\"<>|,#:- ".contains(c);
    if value.len() > 100 || value.contains(wrong) {
        return Err(
            "must be at most 100 lower case letters, without / \\ * \" < > | , # : -".into(),
        );
    }
    Ok(())
}

pub fn tables(vendor: Vendor) -> Vec<&'static [Definition]> {
    match vendor {
        Vendor::Confluent => vec![COMMON, CONFLUENT, CONFLUENT_TLS],
        Vendor::Aiven | Vendor::Ottla => vec![COMMON, AIVEN, AIVEN_TLS],
    }
}
