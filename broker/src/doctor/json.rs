//! JSON text: objects and arrays of what the report has.

use std::fmt::Write;

pub struct Object(String);

impl Object {
    pub fn new() -> Object {
        Object(String::from("{"))
    }

    fn key(&mut self, key: &str) -> &mut String {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        string(&mut self.0, key);
        self.0.push(':');
        &mut self.0
    }

    pub fn text(mut self, key: &str, value: &str) -> Object {
        string(self.key(key), value);
        self
    }

    pub fn maybe_text(self, key: &str, value: Option<&str>) -> Object {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    /// Numbers above 2^53 lose precision in some readers, as they do everywhere in JSON.
    pub fn number(mut self, key: &str, value: impl Into<i128>) -> Object {
        let _ = write!(self.key(key), "{}", value.into());
        self
    }

    pub fn maybe_number(self, key: &str, value: Option<impl Into<i128>>) -> Object {
        match value {
            Some(value) => self.number(key, value),
            None => self,
        }
    }

    pub fn flag(mut self, key: &str, value: bool) -> Object {
        let _ = write!(self.key(key), "{value}");
        self
    }

    pub fn list(mut self, key: &str, items: impl Iterator<Item = String>) -> Object {
        let out = self.key(key);
        out.push('[');
        for (i, item) in items.enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&item);
        }
        out.push(']');
        self
    }

    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_json() {
        let inner = Object::new().text("a\n", "say \"hi\" \\").end();
        let object = Object::new()
            .number("n", 5u64)
            .maybe_number("none", None::<i64>)
            .flag("ok", true)
            .list("l", [inner.clone(), inner].into_iter());
        let item = r#"{"a\u000a":"say \"hi\" \\"}"#;
        assert_eq!(
            object.end(),
            format!(r#"{{"n":5,"ok":true,"l":[{item},{item}]}}"#)
        );
        assert_eq!(Object::new().end(), "{}");
    }
}
