//! Keys of sinks that write objects: which path a record goes to, and when an object is closed.
//! Confluent's names; see [`AIVEN_NAMING`] for Aiven's.

use super::{NULL, high, low, medium, text};
use crate::config::Width::{Long, Medium};
use crate::config::{Check, Definition, Kind};
use crate::time::{Dialect, Locale, Pattern, Zone};

const PARTITIONER: &str = "Partitioner";
const ROTATION: &str = "Connector";
const AUDITED: &str = "Audit";

pub const PARTITIONING: &[Definition] = &[
    high("topics.dir", Kind::String, text("topics"), "First part of every object's name.")
        .shown("Storage", Medium, "Topics directory"),
    medium("directory.delim", Kind::String, text("/"), "What stands between the parts of an object's path.")
        .check(Check::NonEmpty)
        .shown("Storage", Medium, "Directory Delimiter"),
    medium("file.delim", Kind::String, text("+"), "What stands between topic, partition and offset in an object's name.")
        .check(Check::NonEmpty)
        .shown("Storage", Medium, "File Delimiter"),
    high("partitioner.class", Kind::Class, text("io.confluent.connect.storage.partitioner.DefaultPartitioner"), "What decides which path a record goes to.")
        .shown(PARTITIONER, Long, "Partitioner Class")
        .recommend(PARTITIONERS),
    medium("partition.field.name", Kind::List, text(""), "FieldPartitioner: the fields whose values make the path.")
        .shown(PARTITIONER, Medium, "Partition Field Name"),
    medium("partition.duration.ms", Kind::Long, text("-1"), "TimeBasedPartitioner: milliseconds that share one path.")
        .check(Check::AtLeast(-1))
        .shown(PARTITIONER, Medium, "Partition Duration (ms)"),
    medium("path.format", Kind::String, text(""), "TimeBasedPartitioner: the path of a time, as a Joda pattern.")
        .check(Check::By(path_format))
        .shown(PARTITIONER, Long, "Path Format"),
    medium("locale", Kind::String, text(""), "Language of names of months and days in the path.")
        .check(Check::By(locale))
        .shown(PARTITIONER, Medium, "Locale"),
    medium("timezone", Kind::String, text(""), "Time zone of the path.")
        .check(Check::By(timezone))
        .shown(PARTITIONER, Medium, "Timezone"),
    medium("timestamp.extractor", Kind::String, text("Wallclock"), "Which time of a record decides: when it is processed (Wallclock), the record's own (Record), or one of its fields (RecordField).")
        .shown(PARTITIONER, Medium, "Timestamp Extractor")
        .recommend(&["Wallclock", "Record", "RecordField"]),
    medium("timestamp.field", Kind::String, text("timestamp"), "RecordField: the field that has the time, with dots for fields in fields.")
        .shown(PARTITIONER, Medium, "Record Field for Timestamp Extractor"),
];

pub const PARTITIONERS: &[&str] = &[
    "io.confluent.connect.storage.partitioner.DefaultPartitioner",
    "io.confluent.connect.storage.partitioner.HourlyPartitioner",
    "io.confluent.connect.storage.partitioner.DailyPartitioner",
    "io.confluent.connect.storage.partitioner.TimeBasedPartitioner",
    "io.confluent.connect.storage.partitioner.FieldPartitioner",
];

pub const ROTATING: &[Definition] = &[
    high("flush.size", Kind::Int, super::REQUIRED, "Records after which an object is closed.")
        .check(Check::AtLeast(1))
        .shown(ROTATION, Long, "Flush Size"),
    high("rotate.interval.ms", Kind::Long, text("-1"), "Span of record time after which an object is closed; -1 is never.")
        .check(Check::AtLeast(-1))
        .shown(ROTATION, Medium, "Rotate Interval (ms)"),
    medium("rotate.schedule.interval.ms", Kind::Long, text("-1"), "Wall clock interval, counted from midnight of the time zone, at whose ends objects are closed; -1 is never.")
        .check(Check::AtLeast(-1))
        .shown(ROTATION, Medium, "Rotate Schedule Interval (ms)"),
    medium("ottla.rotate.size.bytes", Kind::Long, text("-1"), "Bytes of records after which an object is closed; -1 is never.")
        .check(Check::AtLeast(-1))
        .shown(ROTATION, Medium, "Rotate Size (bytes)"),
    medium("ottla.rotate.idle.ms", Kind::Long, text("-1"), "Milliseconds without a record after which an object is closed, so that a topic that falls silent is still delivered; -1 is never.")
        .check(Check::AtLeast(-1))
        .shown(ROTATION, Medium, "Rotate Idle (ms)"),
    low("filename.offset.zero.pad.width", Kind::Int, text("10"), "Digits of the offset in an object's name, at least.")
        .check(Check::Between(0, 20))
        .shown(ROTATION, Medium, "Filename Offset Zero Pad Width"),
];

pub const AUDIT: &[Definition] = &[
    medium("ottla.audit.enable", Kind::Boolean, text("false"), "Whether a chain of manifests accounts for every offset: `ottla audit verify` checks it.")
        .shown(AUDITED, Medium, "Audit"),
    medium("ottla.audit.key", Kind::Password, NULL, "Key of at least 32 bytes that manifests are signed with (HMAC-SHA256); they are not signed if not set.")
        .shown(AUDITED, Long, "Audit key"),
    low("ottla.audit.key.id", Kind::String, text("1"), "Names that key in the manifests.")
        .check(Check::NonEmpty)
        .shown(AUDITED, Medium, "Audit key id"),
];

/// How Aiven's S3 sink names objects and when it closes them.
pub const AIVEN_NAMING: &[Definition] = &[
    medium("file.name.template", Kind::String, NULL, "Name of an object: {{topic}}, {{partition}}, {{start_offset}}, {{timestamp}} and, instead of those, {{key}}.")
        .check(Check::By(aiven_template))
        .shown("File", Long, "File name template"),
    high("file.max.records", Kind::Int, text("0"), "Records of one object at most; 0 is without bound.")
        .check(Check::AtLeast(0))
        .shown("File", Medium, "The max number of records in a file"),
    low("file.name.timestamp.timezone", Kind::String, text("Z"), "Time zone of {{timestamp}}.")
        .check(Check::By(timezone))
        .shown("File", Medium, "Timezone of the timestamp"),
    low("file.name.timestamp.source", Kind::String, text("wallclock"), "Which time {{timestamp}} is.")
        .check(Check::OneOfIgnoringCase(&["wallclock", "event"]))
        .shown("File", Medium, "Source of the timestamp")
        .recommend(&["wallclock", "event"]),
    medium("aws.s3.prefix", Kind::String, text(""), "What stands before the name of every object; it may have {{timestamp}}.")
        .shown("AWS", Medium, "Prefix"),
];

fn path_format(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    // Whether the locale has names for it is checked where both are known.
    let parsed = Pattern::parse(text, Dialect::Joda, &Locale::english());
    parsed.map(|_| ()).map_err(|e| e.to_string())
}

fn locale(text: &str) -> Result<(), String> {
    text.parse::<Locale>()
        .map(|_| ())
        .map_err(|e| e.to_string())
}

fn timezone(text: &str) -> Result<(), String> {
    if text.is_empty() || text == "Z" {
        return Ok(());
    }
    text.parse::<Zone>().map(|_| ()).map_err(|e| e.to_string())
}

fn aiven_template(text: &str) -> Result<(), String> {
    crate::partition::Template::parse(text)
        .map(|_| ())
        .map_err(|e| e.to_string())
}
