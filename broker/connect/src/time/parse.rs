//! Reads a text by a pattern.

use chrono::{NaiveDate, TimeDelta};

use super::pattern::{Field, Item, Pattern};
use super::{Zone, fixed_offset};

/// Two-digit years are of these hundred years.
const TWO_DIGIT_YEARS_FROM: i32 = 1950;

struct Parts {
    year: i32,
    month: u32,
    day: u32,
    day_of_year: Option<u32>,
    hour: u32,
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    millisecond: i64,
    zone: Zone,
}

impl Pattern {
    /// Milliseconds since 1970. Fields that the pattern lacks are of 1970-01-01T00:00, in `zone` unless
    /// the text names one. Text after what the pattern asks for is left alone, as `DateFormat.parse`
    /// does; unlike it, the 13th month is an error and not the next January.
    pub fn read(&self, text: &str, zone: Zone) -> Option<i64> {
        let mut parts = Parts {
            year: 1970,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: 0,
            afternoon: None,
            minute: 0,
            second: 0,
            millisecond: 0,
            zone,
        };
        let mut rest = text;
        for (i, item) in self.items.iter().enumerate() {
            match item {
                Item::Text(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Item::Field(field, count) => {
                    let adjacent = matches!(self.items.get(i + 1),
                        Some(Item::Field(next, n)) if next.is_number(*n));
                    rest = parts.take(*field, *count, adjacent, rest)?;
                }
            }
        }
        parts.time()
    }
}

impl Parts {
    /// Reads one field off the front of the text.
    fn take<'a>(
        &mut self,
        field: Field,
        count: usize,
        adjacent: bool,
        text: &'a str,
    ) -> Option<&'a str> {
        match field {
            Field::Era => return strip_ignore_case(text, "AD"),
            Field::HalfDay => {
                let afternoon = strip_ignore_case(text, "PM");
                self.afternoon = Some(afternoon.is_some());
                return afternoon.or_else(|| strip_ignore_case(text, "AM"));
            }
            Field::Month if count >= 3 => {
                let (month, rest) = name(text, &super::format::MONTHS)?;
                self.month = month as u32 + 1;
                return Some(rest);
            }
            Field::DayOfWeekText => return Some(name(text, &super::format::DAYS)?.1),
            Field::ZoneName | Field::ZoneId => {
                let end = text.find(|c: char| !(c.is_alphanumeric() || "/_+-:".contains(c)));
                let (zone, rest) = text.split_at(end.unwrap_or(text.len()));
                self.zone = zone.parse().ok()?;
                return Some(rest);
            }
            Field::Offset | Field::OffsetColon | Field::OffsetIso => return self.offset(text),
            _ => {}
        }
        let (number, digits, rest) = number(text, count, adjacent)?;
        let small = u32::try_from(number).ok();
        match field {
            Field::Year if count <= 2 && digits == 2 => self.year = full_year(number as i32),
            Field::Year => self.year = i32::try_from(number).ok()?,
            Field::Month => self.month = small?,
            Field::Day => self.day = small?,
            Field::DayOfYear => self.day_of_year = small,
            Field::Hour => self.hour = small?,
            Field::ClockHour => self.hour = small.filter(|h| *h <= 24)? % 24,
            Field::HourOfHalfDay => self.hour = small.filter(|h| *h < 12)?,
            Field::ClockHourOfHalfDay => self.hour = small.filter(|h| *h <= 12)? % 12,
            Field::Minute => self.minute = small?,
            Field::Second => self.second = small?,
            // As Java counts them: six digits are a million milliseconds at most.
            Field::Millisecond => self.millisecond = number,
            Field::Fraction => {
                let scale = 10_i64.checked_pow(u32::try_from(digits).ok()?)?;
                self.millisecond = number.checked_mul(1000)? / scale;
            }
            // Weeks and the day's number cannot tell a date that month and day do not.
            _ => {}
        }
        Some(rest)
    }

    fn offset<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        if let Some(rest) = text.strip_prefix('Z') {
            self.zone = Zone::UTC;
            return Some(rest);
        }
        let end = text
            .get(1..)?
            .find(|c: char| !c.is_ascii_digit() && c != ':');
        let (offset, rest) = text.split_at(end.map_or(text.len(), |e| e + 1));
        self.zone = Zone::Fixed(fixed_offset(offset)?);
        Some(rest)
    }

    fn time(self) -> Option<i64> {
        if !super::YEARS.contains(&self.year) {
            return None;
        }
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(self.year, day)?,
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day)?,
        };
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            _ => self.hour,
        };
        let time = date.and_hms_opt(hour, self.minute, self.second)?;
        let time = time.checked_add_signed(TimeDelta::try_milliseconds(self.millisecond)?)?;
        Some(self.zone.utc(time).and_utc().timestamp_millis())
    }
}

fn full_year(two_digits: i32) -> i32 {
    let century = TWO_DIGIT_YEARS_FROM / 100 * 100;
    let year = century + two_digits;
    if year < TWO_DIGIT_YEARS_FROM {
        year + 100
    } else {
        year
    }
}

/// A number, how many digits it has, and what follows. Where another number follows without text
/// between, it has as many digits as the pattern has letters.
fn number(text: &str, count: usize, adjacent: bool) -> Option<(i64, usize, &str)> {
    let text = text.trim_start_matches(' ');
    let mut digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if adjacent {
        digits = digits.min(count);
    }
    let (number, rest) = text.split_at(digits.min(18));
    Some((number.parse().ok()?, digits, rest))
}

fn name<'a>(text: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let longest =
        |name: &str| strip_ignore_case(text, name).or_else(|| strip_ignore_case(text, &name[..3]));
    names
        .iter()
        .enumerate()
        .find_map(|(i, name)| Some((i, longest(name)?)))
}

fn strip_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    start
        .eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}
