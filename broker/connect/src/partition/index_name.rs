//! Names of indexes by topic and event time: `audit-%{+YYYY.MM.dd}`, `${topic}-%{+YYYY.MM}`.

use crate::time::{Dialect, Locale, Pattern, PatternError, Zone};

/// Longest name of an index, in bytes.
const MAX_INDEX_BYTES: usize = 255;

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Topic,
    Time(Pattern),
}

/// How indexes are called.
#[derive(Clone, Debug)]
pub struct IndexName(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexNameError {
    #[error("{0:?} has an opening %{{ or ${{ without }}")]
    Open(String),
    #[error("{0:?} is neither %{{+PATTERN}} nor ${{topic}}")]
    Unknown(String),
    #[error("%{{+{0}}}: {1}")]
    Pattern(String, PatternError),
    #[error("the record has no time, which the index's name asks for")]
    NoTime,
    #[error("{0:?} cannot be an index: {1}")]
    Invalid(String, &'static str),
}

impl IndexName {
    pub fn parse(text: &str) -> Result<IndexName, IndexNameError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = [rest.find("%{"), rest.find("${")]
            .into_iter()
            .flatten()
            .min()
        {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let end = rest[start..]
                .find('}')
                .ok_or_else(|| IndexNameError::Open(text.to_owned()))?;
            let whole = &rest[start..=start + end];
            let inner = &whole[2..whole.len() - 1];
            parts.push(match (&whole[..1], inner.strip_prefix('+')) {
                ("%", Some(pattern)) => {
                    let parsed = Pattern::parse(pattern, Dialect::Joda, &Locale::english());
                    Part::Time(parsed.map_err(|e| IndexNameError::Pattern(pattern.to_owned(), e))?)
                }
                ("$", None) if inner == "topic" => Part::Topic,
                _ => return Err(IndexNameError::Unknown(whole.to_owned())),
            });
            rest = &rest[start + end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(IndexName(parts))
    }

    /// The index for a record of this topic and event time, in UTC and in lower case.
    pub fn index(&self, topic: &str, time_ms: Option<i64>) -> Result<String, IndexNameError> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Topic => out.push_str(topic),
                Part::Time(pattern) => {
                    let time = time_ms.and_then(|ms| pattern.format(ms, Zone::UTC));
                    out.push_str(&time.ok_or(IndexNameError::NoTime)?);
                }
            }
        }
        check(out.to_lowercase())
    }
}

/// OpenSearch's rules for names of indexes.
fn check(name: String) -> Result<String, IndexNameError> {
    let why = if name.is_empty() || name.len() > MAX_INDEX_BYTES {
        "it must have 1 to 255 bytes"
    } else if name.starts_with(['-', '_', '+']) || name == "." || name == ".." {
        "it begins with -, _ or +, or is . or .."
    } else if name.contains(|c: char| c.is_control() || "\\/*?\"<>| ,#:".contains(c)) {
        "it has one of \\ / * ? \" < > | , # : or a space"
    } else {
        return Ok(name);
    };
    Err(IndexNameError::Invalid(name, why))
}
