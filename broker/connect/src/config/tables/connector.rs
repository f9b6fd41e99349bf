//! Keys that every sink connector has (Kafka's `ConnectorConfig` and `SinkConnectorConfig`), and those of
//! converters.

use super::{NULL, REQUIRED, high, low, medium, text};
use crate::config::Width::{Long, Medium, Short};
use crate::config::{Check, Definition, Kind};

const COMMON: &str = "Common";
const ERRORS: &str = "Error Handling";

/// Entries under these prefixes go to the Kafka client of the connector, as KIP-458 has it.
pub const CLIENT_PREFIXES: &[&str] = &[
    "consumer.override.",
    "producer.override.",
    "admin.override.",
];

const ONE_LOADER: &str = "there is one version of each plugin, the one that is built in";

pub const CONNECTOR: &[Definition] = &[
    high("name", Kind::String, REQUIRED, "Name of the connector, unique among all connectors of the workers.")
        .check(Check::Name)
        .shown(COMMON, Medium, "Connector name"),
    high("connector.class", Kind::String, REQUIRED, "Class of the connector: its full name, its simple name, or that without Connector at the end.")
        .shown(COMMON, Long, "Connector class"),
    low("connector.plugin.version", Kind::String, NULL, "Version of the connector's plugin.")
        .shown(COMMON, Medium, "Connector version")
        .refused(ONE_LOADER),
    high("tasks.max", Kind::Int, text("1"), "Tasks of this connector at most.")
        .check(Check::AtLeast(1))
        .shown(COMMON, Short, "Tasks max"),
    low("tasks.max.enforce", Kind::Boolean, text("true"), "Whether tasks.max is kept when a connector asks for more tasks.")
        .shown(COMMON, Short, "Enforce tasks max")
        .without_effect("no connector here asks for more tasks than tasks.max"),
    low("key.converter", Kind::Class, NULL, "Converter of record keys; the worker's if not set.")
        .shown(COMMON, Short, "Key converter class")
        .recommend(CONVERTERS),
    low("value.converter", Kind::Class, NULL, "Converter of record values; the worker's if not set.")
        .shown(COMMON, Short, "Value converter class")
        .recommend(CONVERTERS),
    low("header.converter", Kind::Class, NULL, "Converter of header values; the worker's if not set.")
        .shown(COMMON, Short, "Header converter class")
        .recommend(HEADER_CONVERTERS),
    low("transforms", Kind::List, text(""), "Aliases of the transforms that records go through, in this order.")
        .check(Check::Aliases)
        .shown("Transforms", Long, "Transforms"),
    low("predicates", Kind::List, text(""), "Aliases of the predicates that transforms may ask.")
        .check(Check::Aliases)
        .shown("Predicates", Long, "Predicates"),
    low("config.action.reload", Kind::String, text("restart"), "What to do when a config provider says that a value has changed.")
        .one_of(&["none", "restart"])
        .shown(COMMON, Medium, "Reload Action")
        .without_effect("the providers that are built announce no changes"),
    medium("errors.retry.timeout", Kind::Long, text("0"), "Milliseconds for which a failed operation is tried again; -1 is forever, 0 is not at all.")
        .check(Check::AtLeast(-1))
        .shown(ERRORS, Medium, "Retry Timeout for Errors"),
    medium("errors.retry.delay.max.ms", Kind::Long, text("60000"), "Longest pause between two tries.")
        .check(Check::AtLeast(1))
        .shown(ERRORS, Medium, "Maximum Delay Between Retries for Errors"),
    medium("errors.tolerance", Kind::String, text("none"), "none: any error fails the task. all: records with errors are skipped.")
        .one_of(&["none", "all"])
        .shown(ERRORS, Short, "Error Tolerance"),
    medium("errors.log.enable", Kind::Boolean, text("false"), "Whether each error is logged, with what failed and for which record.")
        .shown(ERRORS, Short, "Log Errors"),
    medium("errors.log.include.messages", Kind::Boolean, text("false"), "Whether a logged error names topic, partition, offset and time of the record.")
        .shown(ERRORS, Short, "Log Error Details"),
    high("topics", Kind::List, text(""), "Topics to consume, separated by commas.")
        .shown(COMMON, Long, "Topics"),
    high("topics.regex", Kind::String, text(""), "Pattern of the topics to consume; it must match the whole name. Either this or topics.")
        .check(Check::Regex)
        .shown(COMMON, Long, "Topics regex"),
    medium("errors.deadletterqueue.topic.name", Kind::String, text(""), "Topic for records that failed; none if empty.")
        .shown(ERRORS, Medium, "Dead Letter Queue Topic Name"),
    medium("errors.deadletterqueue.topic.replication.factor", Kind::Short, text("3"), "Replication factor with which the dead letter topic is made if it is missing.")
        .check(Check::By(replication_factor))
        .shown(ERRORS, Medium, "Dead Letter Queue Topic Replication Factor"),
    medium("errors.deadletterqueue.context.headers.enable", Kind::Boolean, text("false"), "Whether dead letters carry __connect.errors.* headers that say what failed.")
        .shown(ERRORS, Medium, "Enable Error Context Headers"),
];

fn replication_factor(text: &str) -> Result<(), String> {
    match text.parse::<i16>() {
        Ok(n) if n < 1 && n != -1 => Err("Value must be -1, or at least 1".into()),
        _ => Ok(()),
    }
}

pub const CONVERTERS: &[&str] = &[
    "org.apache.kafka.connect.converters.BooleanConverter",
    "org.apache.kafka.connect.converters.ByteArrayConverter",
    "org.apache.kafka.connect.converters.DoubleConverter",
    "org.apache.kafka.connect.converters.FloatConverter",
    "org.apache.kafka.connect.converters.IntegerConverter",
    "org.apache.kafka.connect.converters.LongConverter",
    "org.apache.kafka.connect.converters.ShortConverter",
    "org.apache.kafka.connect.json.JsonConverter",
    "org.apache.kafka.connect.storage.StringConverter",
];

pub const HEADER_CONVERTERS: &[&str] = &[
    "org.apache.kafka.connect.converters.BooleanConverter",
    "org.apache.kafka.connect.converters.ByteArrayConverter",
    "org.apache.kafka.connect.converters.DoubleConverter",
    "org.apache.kafka.connect.converters.FloatConverter",
    "org.apache.kafka.connect.converters.IntegerConverter",
    "org.apache.kafka.connect.converters.LongConverter",
    "org.apache.kafka.connect.converters.ShortConverter",
    "org.apache.kafka.connect.json.JsonConverter",
    "org.apache.kafka.connect.storage.SimpleHeaderConverter",
    "org.apache.kafka.connect.storage.StringConverter",
];

/// Keys of all converters, after `key.converter.`, `value.converter.` or `header.converter.`. They are one
/// table, because people leave `schemas.enable` standing when they change the class.
pub const CONVERTER: &[Definition] = &[
    high(
        "schemas.enable",
        Kind::Boolean,
        text("true"),
        "JsonConverter: whether records carry their schema in an envelope of schema and payload.",
    ),
    low(
        "schemas.cache.size",
        Kind::Int,
        text("1000"),
        "JsonConverter: how many schemas are remembered.",
    )
    .check(Check::Between(1, 100_000)),
    low(
        "decimal.format",
        Kind::String,
        text("BASE64"),
        "JsonConverter: how decimals are written.",
    )
    .check(Check::OneOfIgnoringCase(&["BASE64", "NUMERIC"]))
    .recommend(&["BASE64", "NUMERIC"]),
    low(
        "replace.null.with.default",
        Kind::Boolean,
        text("true"),
        "JsonConverter: whether a null becomes the default of its field.",
    ),
    low(
        "schema.content",
        Kind::String,
        NULL,
        "JsonConverter: a schema that stands for the one in the envelope (KIP-1054).",
    )
    .refused("the schema comes with the record"),
    high(
        "converter.encoding",
        Kind::String,
        text("UTF8"),
        "StringConverter: the character encoding.",
    )
    .check(Check::OneOfIgnoringCase(&[
        "UTF8",
        "UTF-8",
        "US-ASCII",
        "ISO-8859-1",
    ])),
    low("converter.type", Kind::String, NULL, "What is converted.")
        .without_effect("it follows from where the converter is used"),
    medium(
        "schema.registry.url",
        Kind::String,
        NULL,
        "Address of a schema registry.",
    )
    .without_effect("no converter that is built asks a registry"),
];
