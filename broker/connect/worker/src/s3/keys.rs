//! Keys of S3 sinks: Confluent's names, and Aiven's.

use ottla_connect::config::classes::Vendor;
use ottla_connect::config::tables::storage::{AIVEN_NAMING, AUDIT, PARTITIONING, ROTATING};
use ottla_connect::config::{Check, Definition, Kind};

use crate::plugins::{NULL, REQUIRED, key, text};

const NOT_PUBLIC: &str = "objects keep the access that their bucket gives";
const PRIVATE_JVM: &str = "there is no JVM";
const RETRIES: &str = "retries are without bound, with a growing pause";
const PARTS: &str = "an object is put in one request";

const CONFLUENT: &[Definition] = &[
    key(
        "s3.bucket.name",
        Kind::String,
        REQUIRED,
        "Bucket that objects go to.",
    )
    .check(Check::NonEmpty),
    key(
        "s3.region",
        Kind::String,
        text("us-west-2"),
        "Region of the bucket.",
    ),
    key(
        "store.url",
        Kind::String,
        NULL,
        "Address of an S3-compatible store; Amazon's if not set.",
    ),
    key(
        "s3.path.style.access.enabled",
        Kind::Boolean,
        text("true"),
        "Whether the bucket's name stands in the path and not in the host.",
    ),
    key(
        "aws.access.key.id",
        Kind::Password,
        text(""),
        "Access key; the credentials chain if empty.",
    ),
    key(
        "aws.secret.access.key",
        Kind::Password,
        text(""),
        "Secret key.",
    ),
    key(
        "s3.credentials.provider.class",
        Kind::Class,
        NULL,
        "Java class that gives credentials.",
    )
    .only(
        &["com.amazonaws.auth.DefaultAWSCredentialsProviderChain"],
        "credentials come from keys or the default chain",
    ),
    key(
        "format.class",
        Kind::Class,
        REQUIRED,
        "How records are written.",
    )
    .check(Check::By(format_class)),
    key("storage.class", Kind::Class, NULL, "Where objects go.").only(
        &["io.confluent.connect.s3.storage.S3Storage"],
        "this is the S3 sink",
    ),
    key(
        "s3.compression.type",
        Kind::String,
        text("none"),
        "none, gzip or zstd.",
    )
    .one_of(&["none", "gzip", "zstd"]),
    key(
        "s3.compression.level",
        Kind::Int,
        text("-1"),
        "Level of gzip; -1 is its default.",
    )
    .check(Check::Between(-1, 9)),
    key(
        "s3.part.size",
        Kind::Int,
        text("26214400"),
        "Bytes of a part.",
    )
    .without_effect(PARTS),
    key(
        "s3.part.retries",
        Kind::Int,
        text("3"),
        "Tries of a request before it is reported.",
    )
    .check(Check::AtLeast(0)),
    key(
        "s3.retry.backoff.ms",
        Kind::Long,
        text("200"),
        "First pause between tries.",
    )
    .check(Check::AtLeast(0)),
    key(
        "retry.backoff.ms",
        Kind::Long,
        text("5000"),
        "Longest pause between tries.",
    )
    .check(Check::AtLeast(0)),
    key(
        "s3.ssea.name",
        Kind::String,
        text(""),
        "Server side encryption: AES256 or aws:kms.",
    )
    .one_of(&["", "AES256", "aws:kms"]),
    key(
        "s3.sse.kms.key.id",
        Kind::String,
        text(""),
        "Key of aws:kms.",
    ),
    key("s3.sse.customer.key", Kind::Password, NULL, "Key of SSE-C.").refused("SSE-C is not built"),
    key("s3.acl.canned", Kind::String, NULL, "Canned ACL.").refused(NOT_PUBLIC),
    key(
        "s3.wan.mode",
        Kind::Boolean,
        text("false"),
        "Transfer acceleration.",
    )
    .only(&["false"], "transfer acceleration is not built"),
    key("s3.proxy.url", Kind::String, NULL, "Proxy.").refused("proxies are not built"),
    key(
        "s3.object.tagging",
        Kind::String,
        text("false"),
        "Whether objects get tags.",
    )
    .only(&["false"], "tags are not built"),
    key(
        "s3.object.behavior.on.tagging.error",
        Kind::String,
        text("ignore"),
        "What a failed tagging does.",
    )
    .without_effect("tags are not built"),
    key(
        "s3.elastic.buffer.enable",
        Kind::Boolean,
        text("false"),
        "Buffers of the JVM.",
    )
    .without_effect(PRIVATE_JVM),
    key(
        "s3.http.send.expect.continue",
        Kind::Boolean,
        text("true"),
        "Whether Expect: 100-continue is sent.",
    )
    .without_effect("it is not sent"),
    key(
        "send.digest",
        Kind::Boolean,
        text("false"),
        "Whether an MD5 is sent.",
    )
    .without_effect("x-amz-checksum-sha256 is always sent"),
    key(
        "behavior.on.null.values",
        Kind::String,
        text("fail"),
        "What a record without a value is: an error (fail), or skipped (ignore).",
    )
    .one_of(&["fail", "ignore"]),
    key(
        "format.bytearray.extension",
        Kind::String,
        text(".bin"),
        "ByteArrayFormat: end of objects' names.",
    ),
    key(
        "format.bytearray.separator",
        Kind::String,
        NULL,
        "ByteArrayFormat: what follows each record; a line feed if not set.",
    ),
    key(
        "store.kafka.keys",
        Kind::Boolean,
        text("false"),
        "Whether keys are written too.",
    )
    .only(&["false"], "keys are not written"),
    key(
        "store.kafka.headers",
        Kind::Boolean,
        text("false"),
        "Whether headers are written too.",
    )
    .only(&["false"], "headers are not written"),
    key(
        "schema.generator.class",
        Kind::Class,
        NULL,
        "Unused since long.",
    )
    .without_effect("there are no Hive tables"),
    key(
        "schema.compatibility",
        Kind::String,
        text("NONE"),
        "How schemas may change in an object.",
    )
    .without_effect("an object has records of one schema"),
    key(
        "schema.cache.size",
        Kind::Int,
        text("1000"),
        "Schemas that are remembered.",
    )
    .without_effect("schemas are shared"),
    key(
        "enhanced.avro.schema.support",
        Kind::Boolean,
        text("false"),
        "Of Avro.",
    )
    .without_effect("Avro is not built"),
    key("connect.meta.data", Kind::Boolean, text("true"), "Of Avro.")
        .without_effect("Avro is not built"),
    key("avro.codec", Kind::String, text("null"), "Codec of Avro.")
        .without_effect("Avro is not built"),
    key(
        "parquet.codec",
        Kind::String,
        text("snappy"),
        "Codec of Parquet.",
    )
    .without_effect("Parquet is not built"),
    key(
        "rotate.file.on.partition.change",
        Kind::Boolean,
        text("false"),
        "Whether another path closes the object.",
    )
    .only(&["false"], "several outputs are open at a time"),
];

fn format_class(value: &str) -> Result<(), String> {
    match value.rsplit('.').next().unwrap_or(value) {
        "JsonFormat" | "ByteArrayFormat" => Ok(()),
        "AvroFormat" | "ParquetFormat" => {
            Err("not supported: JsonFormat and ByteArrayFormat are built".into())
        }
        _ => Err("must be JsonFormat or ByteArrayFormat of io.confluent.connect.s3.format".into()),
    }
}

const AIVEN: &[Definition] = &[
    key(
        "aws.s3.bucket.name",
        Kind::String,
        REQUIRED,
        "Bucket that objects go to.",
    )
    .check(Check::NonEmpty),
    key(
        "aws.s3.region",
        Kind::String,
        text("us-west-2"),
        "Region of the bucket.",
    ),
    key(
        "aws.s3.endpoint",
        Kind::String,
        NULL,
        "Address of an S3-compatible store; Amazon's if not set.",
    ),
    key(
        "aws.access.key.id",
        Kind::Password,
        text(""),
        "Access key; the credentials chain if empty.",
    ),
    key(
        "aws.secret.access.key",
        Kind::Password,
        text(""),
        "Secret key.",
    ),
    key(
        "aws.s3.path.style.access.enabled",
        Kind::Boolean,
        text("true"),
        "Whether the bucket's name stands in the path.",
    ),
    key(
        "aws.s3.sse.algorithm",
        Kind::String,
        text(""),
        "Server side encryption.",
    )
    .one_of(&["", "AES256", "aws:kms"]),
    key(
        "aws.s3.part.size",
        Kind::Int,
        text("5242880"),
        "Bytes of a part.",
    )
    .without_effect(PARTS),
    key(
        "aws.s3.backoff.delay.ms",
        Kind::Long,
        text("100"),
        "First pause between tries.",
    )
    .check(Check::AtLeast(1)),
    key(
        "aws.s3.backoff.max.delay.ms",
        Kind::Long,
        text("20000"),
        "Longest pause between tries.",
    )
    .check(Check::AtLeast(1)),
    key("aws.s3.backoff.max.retries", Kind::Int, text("3"), "Tries.").without_effect(RETRIES),
    key("aws.sts.role.arn", Kind::String, NULL, "Role to assume.")
        .refused("assuming roles by STS is not built; web identity tokens are"),
    key(
        "file.compression.type",
        Kind::String,
        text("gzip"),
        "none, gzip or zstd.",
    )
    .one_of(&["none", "gzip", "zstd"]),
    key(
        "format.output.type",
        Kind::String,
        text("csv"),
        "How records are written.",
    )
    .check(Check::By(aiven_type)),
    key(
        "format.output.fields",
        Kind::List,
        text("value"),
        "What of a record is written: key, value, offset, timestamp, headers.",
    )
    .check(Check::By(aiven_fields)),
    key(
        "format.output.fields.value.encoding",
        Kind::String,
        text("base64"),
        "csv: base64 or none.",
    )
    .one_of(&["base64", "none"]),
    key(
        "format.output.envelope",
        Kind::Boolean,
        text("true"),
        "jsonl: whether a single field stands in an object of its own.",
    ),
];

fn aiven_type(value: &str) -> Result<(), String> {
    match value {
        "csv" | "jsonl" => Ok(()),
        "json" | "avro" | "parquet" => {
            Err(format!("{value} is not supported: csv and jsonl are built"))
        }
        _ => Err("must be csv or jsonl".into()),
    }
}

fn aiven_fields(value: &str) -> Result<(), String> {
    let known = ["key", "value", "offset", "timestamp", "headers"];
    match value.split(',').map(str::trim).find(|f| !known.contains(f)) {
        None => Ok(()),
        Some(other) => Err(format!("{other} is none of {}", known.join(", "))),
    }
}

pub fn tables(vendor: Vendor) -> Vec<&'static [Definition]> {
    match vendor {
        Vendor::Confluent | Vendor::Ottla => vec![CONFLUENT, PARTITIONING, ROTATING, AUDIT],
        Vendor::Aiven => vec![AIVEN, AIVEN_NAMING, AUDIT],
    }
}
