//! Points in time, their text, and the two pattern languages that Connect's configurations use:
//! Joda's (paths, index names) and `SimpleDateFormat`'s (TimestampConverter, TimestampRouter).
//!
//! Nothing here asks what time it is.

mod format;
mod parse;
mod pattern;

use std::str::FromStr;

use chrono::{DateTime, Days, FixedOffset, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{OffsetName, Tz};

pub use pattern::{Dialect, Locale, Pattern, PatternError};

/// The years that are written and read: what fits four digits, and what chrono can reckon with.
const YEARS: std::ops::RangeInclusive<i32> = -9999..=9999;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

impl Zone {
    pub const UTC: Zone = Zone::Named(Tz::UTC);

    /// Local time, its distance from UTC, and what the zone is called then.
    fn local(self, utc: NaiveDateTime) -> (NaiveDateTime, FixedOffset, String) {
        let (offset, name) = match self {
            Zone::Fixed(offset) => (offset, offset.to_string()),
            Zone::Named(tz) => {
                let offset = tz.offset_from_utc_datetime(&utc);
                let name = offset.abbreviation();
                (
                    offset.fix(),
                    name.map_or_else(|| offset.fix().to_string(), Into::into),
                )
            }
        };
        let shift = chrono::TimeDelta::seconds(offset.local_minus_utc().into());
        (utc + shift, offset, name)
    }

    /// From local time. In the hour that the clocks skip, the time an hour later; in the hour that
    /// they repeat, the first.
    fn utc(self, local: NaiveDateTime) -> NaiveDateTime {
        match self {
            Zone::Fixed(offset) => {
                local - chrono::TimeDelta::seconds(offset.local_minus_utc().into())
            }
            Zone::Named(tz) => match tz.from_local_datetime(&local).earliest() {
                Some(time) => time.naive_utc(),
                None => {
                    let hour = chrono::TimeDelta::hours(1);
                    let before = tz.from_local_datetime(&(local - hour)).earliest();
                    before.map_or(local, |time| time.naive_utc() + hour)
                }
            },
        }
    }

    fn id(self) -> String {
        match self {
            Zone::Named(tz) => tz.name().to_owned(),
            Zone::Fixed(offset) => offset.to_string(),
        }
    }

    /// The start of the slice of local time that `time_ms` lies in, slices being `duration_ms` long
    /// and counted from local 1970: what TimeBasedPartitioner calls the partition's time.
    pub fn slice_start(self, time_ms: i64, duration_ms: i64) -> Option<i64> {
        let (local, ..) = self.local(naive(time_ms)?);
        let start = local.and_utc().timestamp_millis();
        // Towards zero before 1970, as Java's division.
        let start = start / duration_ms * duration_ms;
        Some(self.utc(naive(start)?).and_utc().timestamp_millis())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone: a name such as Europe/Paris, or an offset such as +02:00")]
pub struct ZoneError(String);

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Zone, ZoneError> {
        if let Ok(tz) = text.parse::<Tz>() {
            return Ok(Zone::Named(tz));
        }
        let offset = text.strip_prefix("GMT").or(text.strip_prefix("UTC"));
        fixed_offset(offset.unwrap_or(text))
            .map(Zone::Fixed)
            .ok_or_else(|| ZoneError(text.to_owned()))
    }
}

/// `+02:00`, `+0200` or `+02`.
fn fixed_offset(text: &str) -> Option<FixedOffset> {
    let negative = match text.bytes().next()? {
        b'+' => false,
        b'-' => true,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    if !matches!(digits.len(), 1 | 2 | 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = digits.split_at(digits.len().min(2));
    let hours: i32 = hours.parse().ok()?;
    let minutes: i32 = if minutes.is_empty() {
        0
    } else {
        minutes.parse().ok()?
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    FixedOffset::east_opt(if negative { -seconds } else { seconds })
}

/// In UTC, if the year can be written.
fn naive(time_ms: i64) -> Option<NaiveDateTime> {
    use chrono::Datelike;
    let time = DateTime::from_timestamp_millis(time_ms)?.naive_utc();
    // A day's room for the zone.
    YEARS.contains(&time.year()).then_some(time)
}

/// `2026-11-23`, or the number of days where the year has more than four digits.
pub fn iso_date(days: i32) -> String {
    let epoch = NaiveDate::default();
    let date = match u64::from(days.unsigned_abs()) {
        n if days >= 0 => epoch.checked_add_days(Days::new(n)),
        n => epoch.checked_sub_days(Days::new(n)),
    };
    date.map_or_else(|| days.to_string(), |d| d.format("%Y-%m-%d").to_string())
}

/// `13:05:00.000Z`
pub fn iso_time(ms: i32) -> String {
    let ms = ms.rem_euclid(86_400_000);
    let (s, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
}

/// `2026-11-23T13:05:00.000Z`
pub fn iso_timestamp(ms: i64) -> String {
    match naive(ms) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        None => ms.to_string(),
    }
}

/// Reads an ISO 8601 date and time, as Joda's `dateTimeParser` does: `2026-11-23`,
/// `2026-11-23T13:05Z`, `2026-11-23T13:05:00.123+01:00`. Without a zone it is in `zone`.
pub fn parse_iso(text: &str, zone: Zone) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, suffix) = time.split_at(zone_at);
    let zone = match suffix {
        "" => zone,
        "Z" => Zone::UTC,
        other => Zone::Fixed(fixed_offset(other)?),
    };
    let formats = ["%H:%M:%S%.f", "%H:%M"];
    let clock = if clock.is_empty() {
        chrono::NaiveTime::MIN
    } else {
        formats
            .iter()
            .find_map(|f| chrono::NaiveTime::parse_from_str(clock, f).ok())?
    };
    Some(zone.utc(date.and_time(clock)).and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests;
