//! The S3 sink: plan, write, commit.
//!
//! Records are gathered by output ([`ottla_connect::partition`]); [`ottla_connect::rotate`] says when an
//! object is closed. Its plan is committed first, in the metadata of the offset, under the group's
//! generation; then the object is put once, with `If-None-Match: *`; then the offset moves on. With
//! `ottla.audit.enable`, a manifest is put in between (`audit.rs`).

mod audit;
mod buffer;
mod format;
mod keys;
mod sink;
mod store;

use ottla_connect::config::classes::{Vendor, simple_name};
use ottla_connect::config::tables::CONNECTOR;
use ottla_connect::config::{Props, Settings};
use ottla_connect::error::ConnectError;
use ottla_connect::partition::{Naming, Template, TimestampExtractor, partitioner};
use ottla_connect::rotate::RotationPolicy;
use ottla_connect::sink::{Passed, SinkTask};
use ottla_connect::time::Zone;

use crate::net::Guard;
use crate::plugins::Surroundings;
use audit::Audit;
use format::{Compression, Field, Format};
pub use keys::tables;
pub use store::{Address, builder};

/// An object is put in one request, from memory: a larger one is closed.
const OBJECT_BYTES_MAX: u64 = 128 << 20;

/// What the keys say.
struct S3Config {
    naming: Naming,
    policy: RotationPolicy,
    format: Format,
    compression: Compression,
    extension: String,
    content_type: &'static str,
    skip_null: bool,
    fail_null: bool,
    /// What a record is that cannot be written, if it is tolerated.
    bad: Passed,
    audit: Option<Audit>,
}

fn settings(vendor: Vendor, props: &Props) -> Result<Settings, ConnectError> {
    let all = tables(vendor).into_iter().flatten().chain(CONNECTOR);
    let all: Vec<_> = all.copied().collect();
    Settings::parse(&all, props).map_err(|problems| {
        let messages: Vec<_> = problems.into_iter().map(|p| p.message).collect();
        ConnectError::config(messages.join("; "))
    })
}

fn config(vendor: Vendor, settings: &Settings, interval_ms: i64) -> Result<S3Config, ConnectError> {
    let mut config = match vendor {
        Vendor::Confluent | Vendor::Ottla => confluent(settings)?,
        Vendor::Aiven => aiven(settings, interval_ms)?,
    };
    let most = config.policy.bytes_max.unwrap_or(OBJECT_BYTES_MAX);
    config.policy.bytes_max = Some(most.min(OBJECT_BYTES_MAX));
    let dead_letters = settings.required_text("errors.deadletterqueue.topic.name");
    if !dead_letters.is_empty() {
        config.bad = Passed::DeadLettered;
    }
    config.audit = Audit::of(vendor, settings, &config.naming)?;
    config.policy.chained = config.audit.is_some();
    Ok(config)
}

fn zone(text: &str) -> Result<Zone, ConnectError> {
    if text.is_empty() || text == "Z" {
        return Ok(Zone::UTC);
    }
    text.parse()
        .map_err(|e| ConnectError::config(format!("timezone: {e}")))
}

fn confluent(settings: &Settings) -> Result<S3Config, ConnectError> {
    let level = u32::try_from(settings.long("s3.compression.level")).ok();
    let compression = compression(settings.required_text("s3.compression.type"), level);
    let class = simple_name(settings.required_text("format.class"));
    let (format, extension, content_type) = if class == "ByteArrayFormat" {
        let separator = settings.text("format.bytearray.separator").unwrap_or("\n");
        let format = Format::Bytes {
            separator: separator.as_bytes().to_vec(),
        };
        let extension = settings.required_text("format.bytearray.extension");
        (format, extension, "application/octet-stream")
    } else {
        (Format::Json, ".json", "application/json")
    };
    let fail_null = settings.required_text("behavior.on.null.values") == "fail";
    Ok(S3Config {
        naming: Naming::Confluent {
            topics_dir: settings.required_text("topics.dir").to_owned(),
            directory_delimiter: settings.required_text("directory.delim").to_owned(),
            file_delimiter: settings.required_text("file.delim").to_owned(),
            pad_width: settings.long("filename.offset.zero.pad.width") as usize,
            partitioner: partitioner(settings)?,
        },
        policy: RotationPolicy::of(settings, zone(settings.required_text("timezone"))?),
        format,
        compression,
        extension: format!("{extension}{}", compression.extension()),
        content_type,
        skip_null: !fail_null,
        fail_null,
        bad: Passed::Skipped,
        audit: None,
    })
}

fn aiven(settings: &Settings, interval_ms: i64) -> Result<S3Config, ConnectError> {
    let compression = compression(settings.required_text("file.compression.type"), None);
    let given = settings.text("file.name.template");
    let template = given.unwrap_or("{{topic}}-{{partition}}-{{start_offset}}");
    let source = match settings.required_text("file.name.timestamp.source") {
        s if s.eq_ignore_ascii_case("event") => TimestampExtractor::Record,
        _ => TimestampExtractor::Wallclock,
    };
    let zone = zone(settings.required_text("file.name.timestamp.timezone"))?;
    let template = Template::parse(template)
        .and_then(|t| t.with_prefix(settings.required_text("aws.s3.prefix")))
        .map_err(|e| ConnectError::config(format!("file.name.template: {e}")))?
        .with_times(source, zone);
    let fields = settings
        .list("format.output.fields")
        .iter()
        .filter_map(|f| Field::of(f));
    let fields: Vec<_> = fields.collect();
    let format = match settings.required_text("format.output.type") {
        "jsonl" => Format::Lines {
            fields,
            envelope: settings.boolean("format.output.envelope"),
        },
        _ => Format::Csv {
            fields,
            base64: settings.required_text("format.output.fields.value.encoding") == "base64",
        },
    };
    let records = settings.long("file.max.records");
    Ok(S3Config {
        naming: Naming::Aiven(template),
        policy: RotationPolicy {
            records_max: (records > 0).then_some(records as u64),
            bytes_max: None,
            record_interval_ms: None,
            // Aiven's sink writes at each flush of offsets.
            schedule_interval_ms: Some(interval_ms),
            idle_ms: None,
            zone: Zone::UTC,
            chained: false,
        },
        format,
        compression,
        extension: if given.is_some() {
            String::new()
        } else {
            compression.extension().to_owned()
        },
        content_type: "application/octet-stream",
        skip_null: false,
        fail_null: false,
        bad: Passed::Skipped,
        audit: None,
    })
}

fn compression(name: &str, level: Option<u32>) -> Compression {
    match name {
        "gzip" => Compression::Gzip(level),
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    }
}

/// What only several keys together get wrong.
pub fn check(vendor: Vendor, props: &Props, guard: &Guard) -> Result<(), ConnectError> {
    let settings = settings(vendor, props)?;
    config(vendor, &settings, 60_000)?;
    store::Bucket::of(vendor, &settings, guard).map(|_| ())
}

pub fn build(
    vendor: Vendor,
    props: &Props,
    around: Surroundings,
) -> Result<Box<dyn SinkTask>, ConnectError> {
    let settings = settings(vendor, props)?;
    let config = config(vendor, &settings, around.commit_interval_ms)?;
    let bucket = store::Bucket::of(vendor, &settings, &around.guard)?;
    Ok(Box::new(sink::S3Sink::new(config, bucket, around)))
}
