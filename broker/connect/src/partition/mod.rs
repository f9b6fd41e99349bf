//! Which output a record goes to, and what its objects are called.
//!
//! An *output* is what records of one topic-partition are gathered under: the encoded partition of
//! Confluent's partitioners, or what Aiven's template gives. Each output has one object open at a time.

mod extractor;
mod index_name;
mod naming;
mod partitioner;
mod template;

pub use extractor::TimestampExtractor;
pub use index_name::{IndexName, IndexNameError};
pub use naming::{MAX_KEY_BYTES, Naming, object_key};
pub use partitioner::Partitioner;
pub use template::{Template, TemplateError};

use crate::config::{Settings, classes};
use crate::error::ConnectError;
use crate::time::{Dialect, Locale, Pattern, Zone};

pub(crate) const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The partitioner that the keys of [`crate::config::tables::storage::PARTITIONING`] describe.
pub fn partitioner(settings: &Settings) -> Result<Partitioner, ConnectError> {
    let delimiter = settings.required_text("directory.delim");
    let class = classes::simple_name(settings.required_text("partitioner.class"));
    let format = settings.required_text("path.format");
    let duration = settings.long("partition.duration.ms");
    let time_based = |format: &str, duration: i64| {
        let locale = settings.required_text("locale");
        let locale = if locale.is_empty() {
            Locale::english()
        } else {
            locale
                .parse()
                .map_err(|e| ConnectError::config(format!("locale: {e}")))?
        };
        let zone = settings.required_text("timezone");
        let zone = if zone.is_empty() {
            Zone::UTC
        } else {
            zone.parse()
                .map_err(|e| ConnectError::config(format!("timezone: {e}")))?
        };
        let pattern = Pattern::parse(format, Dialect::Joda, &locale)
            .map_err(|e| ConnectError::config(format!("path.format: {e}")))?;
        Ok(Partitioner::TimeBased {
            pattern,
            duration_ms: duration,
            zone,
            extractor: extractor(settings)?,
        })
    };
    match class {
        "DefaultPartitioner" => Ok(Partitioner::Default),
        "FieldPartitioner" => match settings.list("partition.field.name") {
            [] => Err(ConnectError::config(
                "FieldPartitioner needs partition.field.name",
            )),
            fields => Ok(Partitioner::Field {
                fields: fields.to_vec(),
                delimiter: delimiter.to_owned(),
            }),
        },
        "DailyPartitioner" => {
            let format = format!("'year'=YYYY{delimiter}'month'=MM{delimiter}'day'=dd");
            time_based(&format, DAY_MS)
        }
        "HourlyPartitioner" => {
            let format =
                format!("'year'=YYYY{delimiter}'month'=MM{delimiter}'day'=dd{delimiter}'hour'=HH");
            time_based(&format, HOUR_MS)
        }
        "TimeBasedPartitioner" if duration < 1 => Err(ConnectError::config(
            "TimeBasedPartitioner needs partition.duration.ms, a positive number of milliseconds",
        )),
        "TimeBasedPartitioner" if format.is_empty() => Err(ConnectError::config(
            "TimeBasedPartitioner needs path.format",
        )),
        "TimeBasedPartitioner" => time_based(format, duration),
        other => Err(ConnectError::config(format!(
            "partitioner.class {other} is not supported: DefaultPartitioner, FieldPartitioner, \
             TimeBasedPartitioner, DailyPartitioner and HourlyPartitioner are"
        ))),
    }
}

fn extractor(settings: &Settings) -> Result<TimestampExtractor, ConnectError> {
    let name = settings.required_text("timestamp.extractor");
    let simple = classes::simple_name(name);
    match simple.strip_suffix("TimestampExtractor").unwrap_or(simple) {
        "Wallclock" | "WallClock" => Ok(TimestampExtractor::Wallclock),
        "Record" => Ok(TimestampExtractor::Record),
        "RecordField" => Ok(TimestampExtractor::RecordField(
            settings.required_text("timestamp.field").to_owned(),
        )),
        _ => Err(ConnectError::config(format!(
            "timestamp.extractor {name} is not supported: Wallclock, Record and RecordField are"
        ))),
    }
}

#[cfg(test)]
mod tests;
