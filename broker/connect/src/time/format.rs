//! Writes a point in time by a pattern.

use std::fmt::Write;

use chrono::{Datelike, FixedOffset, NaiveDateTime, Timelike};

use super::pattern::{Field, Item, Pattern};
use super::{Zone, naive};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

struct Local {
    time: NaiveDateTime,
    offset: FixedOffset,
    name: String,
    zone: Zone,
}

impl Pattern {
    /// The text of a time in milliseconds since 1970; `None` if its year has more than four digits.
    pub fn format(&self, time_ms: i64, zone: Zone) -> Option<String> {
        let (time, offset, name) = zone.local(naive(time_ms)?);
        let local = Local {
            time,
            offset,
            name,
            zone,
        };
        let mut out = String::with_capacity(self.as_str().len() + 8);
        for item in &self.items {
            match item {
                Item::Text(text) => out.push_str(text),
                Item::Field(field, count) => local.write(*field, *count, &mut out),
            }
        }
        Some(out)
    }
}

impl Local {
    fn write(&self, field: Field, count: usize, out: &mut String) {
        let t = &self.time;
        let number: i64 = match field {
            Field::Era => return out.push_str(if t.year() > 0 { "AD" } else { "BC" }),
            Field::HalfDay => return out.push_str(if t.hour() < 12 { "AM" } else { "PM" }),
            Field::Month if count >= 3 => {
                return out.push_str(short(MONTHS[t.month0() as usize], count));
            }
            Field::DayOfWeekText => {
                let day = t.weekday().num_days_from_monday() as usize;
                return out.push_str(short(DAYS[day], count));
            }
            Field::Year => return year(t.year(), count, out),
            Field::WeekYear => return year(t.iso_week().year(), count, out),
            Field::UsWeekYear => return year(us_week_end(t).year(), count, out),
            Field::Fraction => return fraction(t, count, out),
            Field::ZoneName => return out.push_str(&self.name),
            Field::ZoneId => return out.push_str(&self.zone.id()),
            Field::Offset | Field::OffsetColon | Field::OffsetIso => {
                return self.offset(field, count, out);
            }
            Field::Century => (t.year() / 100).into(),
            Field::Week => t.iso_week().week().into(),
            Field::UsWeek => (us_week_end(t).ordinal0() / 7 + 1).into(),
            Field::DayOfWeekNumber => t.weekday().number_from_monday().into(),
            Field::DayOfYear => t.ordinal().into(),
            Field::Month => t.month().into(),
            Field::Day => t.day().into(),
            Field::HourOfHalfDay => (t.hour() % 12).into(),
            Field::ClockHourOfHalfDay => ((t.hour() + 11) % 12 + 1).into(),
            Field::Hour => t.hour().into(),
            Field::ClockHour => ((t.hour() + 23) % 24 + 1).into(),
            Field::Minute => t.minute().into(),
            Field::Second => t.second().into(),
            Field::Millisecond => t.and_utc().timestamp_subsec_millis().into(),
        };
        write!(out, "{number:0count$}").expect("a String takes all");
    }

    fn offset(&self, field: Field, count: usize, out: &mut String) {
        let minutes = self.offset.local_minus_utc() / 60;
        if field == Field::OffsetIso && minutes == 0 {
            return out.push('Z');
        }
        let sign = if minutes < 0 { '-' } else { '+' };
        let (h, m) = (minutes.abs() / 60, minutes.abs() % 60);
        let _ = match (field, count) {
            (Field::OffsetIso, 1) => write!(out, "{sign}{h:02}"),
            (Field::OffsetColon, _) | (Field::OffsetIso, 3) => write!(out, "{sign}{h:02}:{m:02}"),
            _ => write!(out, "{sign}{h:02}{m:02}"),
        };
    }
}

/// Two letters mean two digits.
fn year(year: i32, count: usize, out: &mut String) {
    let _ = match count {
        2 => write!(out, "{:02}", year.rem_euclid(100)),
        _ => write!(out, "{year:0count$}"),
    };
}

fn fraction(time: &NaiveDateTime, count: usize, out: &mut String) {
    let ms = format!("{:03}", time.and_utc().timestamp_subsec_millis());
    out.extend(ms.chars().chain(std::iter::repeat('0')).take(count));
}

fn short(name: &'static str, count: usize) -> &'static str {
    if count >= 4 { name } else { &name[..3] }
}

/// The Saturday of the week: weeks begin on Sunday, and the first has January 1st in it.
fn us_week_end(time: &NaiveDateTime) -> chrono::NaiveDate {
    let left = 6 - u64::from(time.weekday().num_days_from_sunday());
    time.date()
        .checked_add_days(chrono::Days::new(left))
        .unwrap_or(time.date())
}
