//! A result, as a table for a person and as one JSON object for a program. Both come from the same
//! fields, so neither can know more than the other.

use std::fmt::Write as _;

use crate::json::Json;

/// One figure. `name` is the JSON member and carries its unit last (`p99_ms`); `label` and `text`
/// are what the table shows.
struct Field {
    name: String,
    label: String,
    text: String,
    value: Json,
}

/// The result of one scenario.
pub struct Report {
    pub scenario: &'static str,
    /// Ended early by Ctrl-C or SIGTERM: the figures cover the time until then.
    pub interrupted: bool,
    fields: Vec<Field>,
    notes: Vec<String>,
}

impl Report {
    pub fn new(scenario: &'static str) -> Self {
        Report {
            scenario,
            interrupted: false,
            fields: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A figure that is measured: `decimals` shown in the table, all of it in the JSON.
    pub fn number(&mut self, name: &str, label: &str, value: f64, decimals: usize, unit: &str) {
        let text = format!("{} {unit}", grouped(value, decimals));
        self.push(
            name,
            label,
            text.trim_end().to_string(),
            Json::Number(value),
        );
    }

    pub fn count(&mut self, name: &str, label: &str, value: u64) {
        let text = grouped(value as f64, 0);
        self.push(
            name,
            label,
            text,
            Json::Integer(i64::try_from(value).unwrap_or(i64::MAX)),
        );
    }

    pub fn text(&mut self, name: &str, label: &str, value: impl Into<String>) {
        let value = value.into();
        self.push(name, label, value.clone(), Json::Text(value));
    }

    pub fn value(&mut self, name: &str, label: &str, text: impl Into<String>, value: Json) {
        self.push(name, label, text.into(), value);
    }

    fn push(&mut self, name: &str, label: &str, text: String, value: Json) {
        self.fields.push(Field {
            name: name.into(),
            label: label.into(),
            text,
            value,
        });
    }

    /// A sentence about how far the figures can be trusted.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub fn table(&self) -> String {
        let width = self
            .fields
            .iter()
            .map(|field| field.label.len())
            .max()
            .unwrap_or(0);
        let mut out = self.scenario.to_string();
        out.push_str(if self.interrupted {
            " (interrupted: the result so far)\n"
        } else {
            "\n"
        });
        for field in &self.fields {
            let _ = writeln!(out, "  {:width$}  {}", field.label, field.text);
        }
        for note in &self.notes {
            let _ = writeln!(out, "  note: {note}");
        }
        out
    }

    pub fn json(&self) -> Json {
        let mut members = vec![
            ("scenario".to_string(), Json::text(self.scenario)),
            ("interrupted".to_string(), Json::Bool(self.interrupted)),
        ];
        members.extend(
            self.fields
                .iter()
                .map(|f| (f.name.clone(), f.value.clone())),
        );
        let notes = self.notes.iter().map(Json::text).collect();
        members.push(("notes".to_string(), Json::List(notes)));
        Json::Object(members)
    }
}

/// 1234567.8 as "1,234,567.8".
pub fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, digits) = whole
        .strip_prefix('-')
        .map_or(("", whole), |digits| ("-", digits));
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return plain;
    }
    let mut out = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// The middle of the values, or the mean of the two in the middle. Zero of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_thousands() {
        assert_eq!(grouped(0.0, 0), "0");
        assert_eq!(grouped(999.94, 1), "999.9");
        assert_eq!(grouped(1000.0, 0), "1,000");
        assert_eq!(grouped(-1234567.891, 2), "-1,234,567.89");
        assert_eq!(grouped(f64::NAN, 1), "NaN");
    }

    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn table_and_json_hold_the_same_fields() {
        let mut report = Report::new("produce");
        report.number("mb_per_s", "throughput", 1234.5, 1, "MB/s");
        report.count("records", "records", 1000);
        report.note("careful");
        let table = report.table();
        assert!(table.contains("throughput  1,234.5 MB/s"), "{table}");
        assert!(table.contains("records     1,000"), "{table}");
        assert!(table.contains("note: careful"), "{table}");
        assert_eq!(
            report.json().to_string(),
            r#"{"scenario":"produce","interrupted":false,"mb_per_s":1234.5,"records":1000,"notes":["careful"]}"#
        );
    }
}
