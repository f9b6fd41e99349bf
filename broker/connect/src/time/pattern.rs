//! Reads date patterns: letters stand for fields, `'text'` and other characters for themselves.

use std::str::FromStr;

/// Whose letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `org.joda.time.format.DateTimeFormat`
    Joda,
    /// `java.text.SimpleDateFormat`, with the week rules of the United States as a JVM has by default.
    SimpleDateFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Era,
    Century,
    Year,
    WeekYear,
    Week,
    UsWeekYear,
    UsWeek,
    DayOfWeekNumber,
    DayOfWeekText,
    DayOfYear,
    Month,
    Day,
    HalfDay,
    /// 0 to 11
    HourOfHalfDay,
    /// 1 to 12
    ClockHourOfHalfDay,
    /// 0 to 23
    Hour,
    /// 1 to 24
    ClockHour,
    Minute,
    Second,
    /// Joda: the first digits of the fraction.
    Fraction,
    /// SimpleDateFormat: the number of milliseconds.
    Millisecond,
    ZoneName,
    ZoneId,
    /// `+0100`
    Offset,
    /// `+01:00`
    OffsetColon,
    /// `Z`, or `+01`, `+0100`, `+01:00` by the count.
    OffsetIso,
}

impl Field {
    pub(super) fn is_text(self, count: usize) -> bool {
        match self {
            Field::Era | Field::DayOfWeekText | Field::HalfDay | Field::ZoneName => true,
            Field::Month => count >= 3,
            _ => false,
        }
    }

    pub(super) fn is_number(self, count: usize) -> bool {
        let zone = matches!(
            self,
            Field::ZoneId | Field::Offset | Field::OffsetColon | Field::OffsetIso
        );
        !zone && !self.is_text(count)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Text(String),
    Field(Field, usize),
}

/// The language of names of months and days. English is what is built; a pattern without names needs
/// none, so it goes with any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locale(String);

impl Locale {
    pub fn english() -> Locale {
        Locale("en".into())
    }

    fn is_english(&self) -> bool {
        let language = self.0.split(['-', '_']).next().unwrap_or_default();
        // Old files write the country alone: Locale.forLanguageTag("US") has no names of its own.
        language.is_empty() || ["en", "us"].contains(&language.to_ascii_lowercase().as_str())
    }
}

impl FromStr for Locale {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Locale, PatternError> {
        let tag = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if tag && text.len() <= 35 {
            Ok(Locale(text.to_owned()))
        } else {
            Err(PatternError::BadLocale(text.to_owned()))
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("{0:?} is no letter of a date pattern; put text between single quotes")]
    UnknownLetter(char),
    #[error("a single quote has no other to end the text")]
    OpenQuote,
    #[error("the pattern is empty")]
    Empty,
    #[error("{0:?} is no language tag such as en-US")]
    BadLocale(String),
    #[error("names of months, days and eras are built in English, not for locale {0:?}")]
    NamesNotBuilt(String),
    #[error("{0:?} asks for the long name of a time zone, which is not built")]
    LongZoneName(String),
    #[error("the pattern is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
}

const MAX_PATTERN_BYTES: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub(super) items: Vec<Item>,
    text: String,
}

impl Pattern {
    pub fn parse(text: &str, dialect: Dialect, locale: &Locale) -> Result<Pattern, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        let mut items = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c == '\'' {
                rest = quoted(rest, &mut literal)?;
            } else if c.is_ascii_alphabetic() {
                let count = rest.bytes().take_while(|b| *b == c as u8).count();
                if !literal.is_empty() {
                    items.push(Item::Text(std::mem::take(&mut literal)));
                }
                items.push(Item::Field(field(c, count, dialect)?, count));
                rest = &rest[count..];
            } else {
                literal.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            items.push(Item::Text(literal));
        }
        let pattern = Pattern {
            items,
            text: text.to_owned(),
        };
        pattern.check_names(locale)?;
        Ok(pattern)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn check_names(&self, locale: &Locale) -> Result<(), PatternError> {
        for item in &self.items {
            let Item::Field(field, count) = *item else {
                continue;
            };
            if field == Field::ZoneName && count >= 4 {
                return Err(PatternError::LongZoneName(self.text.clone()));
            }
            if field != Field::ZoneName && field.is_text(count) && !locale.is_english() {
                return Err(PatternError::NamesNotBuilt(locale.0.clone()));
            }
        }
        Ok(())
    }
}

/// Takes a quoted text off the front; two quotes are one quote, inside and outside.
fn quoted<'a>(text: &'a str, literal: &mut String) -> Result<&'a str, PatternError> {
    let mut rest = &text[1..];
    if let Some(after) = rest.strip_prefix('\'') {
        literal.push('\'');
        return Ok(after);
    }
    loop {
        let end = rest.find('\'').ok_or(PatternError::OpenQuote)?;
        literal.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                literal.push('\'');
                rest = after;
            }
            None => return Ok(rest),
        }
    }
}

fn field(letter: char, count: usize, dialect: Dialect) -> Result<Field, PatternError> {
    let joda = dialect == Dialect::Joda;
    Ok(match letter {
        'G' => Field::Era,
        'C' if joda => Field::Century,
        'y' => Field::Year,
        'Y' if joda => Field::Year,
        'Y' => Field::UsWeekYear,
        'x' if joda => Field::WeekYear,
        'w' if joda => Field::Week,
        'w' => Field::UsWeek,
        'e' if joda => Field::DayOfWeekNumber,
        'u' if !joda => Field::DayOfWeekNumber,
        'E' => Field::DayOfWeekText,
        'D' => Field::DayOfYear,
        'M' => Field::Month,
        'L' if !joda => Field::Month,
        'd' => Field::Day,
        'a' => Field::HalfDay,
        'K' => Field::HourOfHalfDay,
        'h' => Field::ClockHourOfHalfDay,
        'H' => Field::Hour,
        'k' => Field::ClockHour,
        'm' => Field::Minute,
        's' => Field::Second,
        'S' if joda => Field::Fraction,
        'S' => Field::Millisecond,
        'z' => Field::ZoneName,
        'Z' if joda && count == 2 => Field::OffsetColon,
        'Z' if joda && count >= 3 => Field::ZoneId,
        'Z' => Field::Offset,
        'X' if !joda && count <= 3 => Field::OffsetIso,
        other => return Err(PatternError::UnknownLetter(other)),
    })
}
