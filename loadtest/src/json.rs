//! JSON out, and nothing more: reports are small and their shape is fixed.

use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Bool(bool),
    Integer(i64),
    /// Written with up to six decimals; a value that is not finite is written as null.
    Number(f64),
    Text(String),
    List(Vec<Json>),
    /// Members keep the order they were given in.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn text(text: impl Into<String>) -> Json {
        Json::Text(text.into())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Bool(value) => write!(f, "{value}"),
            Json::Integer(value) => write!(f, "{value}"),
            Json::Number(value) if !value.is_finite() => f.write_str("null"),
            Json::Number(value) => {
                let digits = format!("{value:.6}");
                f.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
            }
            Json::Text(value) => write_text(f, value),
            Json::List(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (i, (name, value)) in members.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    write_text(f, name)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_every_kind() {
        let value = Json::Object(vec![
            ("a\"\n\u{1}".into(), Json::Integer(-3)),
            (
                "b".into(),
                Json::List(vec![Json::Bool(true), Json::Bool(false), Json::Number(1.5)]),
            ),
            ("c".into(), Json::Number(f64::NAN)),
            ("d".into(), Json::Number(200.0)),
            ("e".into(), Json::text("\\")),
        ]);
        assert_eq!(
            value.to_string(),
            r#"{"a\"\n\u0001":-3,"b":[true,false,1.5],"c":null,"d":200,"e":"\\"}"#
        );
    }
}
