//! Reads a Java `.properties` file, as `java.util.Properties.load` does.
//!
//! A logical line is a key, then `=`, `:` or space, then a value. A line that ends in an odd number
//! of backslashes continues on the next, whose leading space is dropped. Lines that start with `#`
//! or `!` are comments, which do not continue. `\t`, `\n`, `\r`, `\f` and `\uXXXX` stand for the
//! characters they name; a backslash before anything else is dropped.

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// One entry of a file. Where a key occurs twice, the last one wins; that is left to the caller, who
/// may want to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The line on which the entry starts, from 1.
    pub line: usize,
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    #[error("the file is {0} bytes; {MAX_FILE_BYTES} is the most that is read")]
    TooLarge(usize),
    /// On this line, from 1.
    #[error("\\u must be followed by four hexadecimal digits of a character")]
    BadUnicode(usize),
}

/// Reads the entries of a file, in their order.
pub fn parse(text: &str) -> Result<Vec<Property>, PropertiesError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(PropertiesError::TooLarge(text.len()));
    }
    let mut properties = Vec::new();
    let mut lines = natural_lines(text).enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start_matches(is_space);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(is_space));
        }
        if logical.is_empty() {
            continue;
        }
        let (key, value) = split(&logical);
        let unescape = |raw| unescape(raw).ok_or(PropertiesError::BadUnicode(index + 1));
        properties.push(Property {
            line: index + 1,
            key: unescape(key)?,
            value: unescape(value)?,
        });
    }
    Ok(properties)
}

/// Lines that end in `\n`, `\r` or `\r\n`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.split('\r')
    })
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Whether the line ends in a backslash that is not itself escaped.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// Key and value, both still escaped. The key ends at the first `=`, `:` or space that no backslash
/// precedes; around one separator, any space is dropped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (is_space(*c) || matches!(c, '=' | ':'));
        escaped = !escaped && *c == '\\';
        ends
    });
    let Some((end, _)) = end else {
        return (line, "");
    };
    let rest = line[end..].trim_start_matches(is_space);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(is_space))
}

/// Resolves escapes; `None` if a `\u` is malformed. Two `\u` may form a surrogate pair.
fn unescape(raw: &str) -> Option<String> {
    if !raw.contains('\\') {
        return Some(raw.to_owned());
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => {
                let unit = code_unit(&mut chars)?;
                let mut units = vec![unit];
                if (0xd800..0xdc00).contains(&unit) {
                    if chars.next()? != '\\' || chars.next()? != 'u' {
                        return None;
                    }
                    units.push(code_unit(&mut chars)?);
                }
                out.push_str(&String::from_utf16(&units).ok()?);
            }
            Some(other) => out.push(other),
            // `continues` left no lone backslash except at the end of the file.
            None => {}
        }
    }
    Some(out)
}

fn code_unit(chars: &mut std::str::Chars<'_>) -> Option<u16> {
    let digits = chars.as_str().get(..4)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    *chars = chars.as_str()[4..].chars();
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::Random;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let entries = parse(text).unwrap();
        entries.into_iter().map(|p| (p.key, p.value)).collect()
    }

    /// Expected values are what `java.util.Properties` makes of the same texts.
    #[test]
    fn as_java_reads_it() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("\n\r\n\r", &[]),
            ("a=b", &[("a", "b")]),
            ("a:b", &[("a", "b")]),
            ("a b", &[("a", "b")]),
            ("a\tb", &[("a", "b")]),
            ("  a  =  b  ", &[("a", "b  ")]),
            ("a = = b", &[("a", "= b")]),
            ("a : = b", &[("a", "= b")]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=b", &[("", "b")]),
            ("# a=b\n ! c=d\n\x0c#e=f", &[]),
            ("a=b # no comment", &[("a", "b # no comment")]),
            ("# comment \\\na=b", &[("a", "b")]),
            ("a=b,\\\n   c,\\\r\n\td", &[("a", "b,c,d")]),
            ("a=b\\\n\nc=d", &[("a", "b"), ("c", "d")]),
            ("a=b\\\n#c", &[("a", "b#c")]),
            ("a=b\\\\\nc=d", &[("a", "b\\"), ("c", "d")]),
            ("a=b\\\\\\\nc", &[("a", "b\\c")]),
            ("a=b\\", &[("a", "b")]),
            ("a\\=b\\:c\\ d=e", &[("a=b:c d", "e")]),
            ("a\\\\=b", &[("a\\", "b")]),
            ("a=\\t\\n\\r\\f\\q\\\"", &[("a", "\t\n\r\x0cq\"")]),
            ("a=\\u00e9\\u0041", &[("a", "éA")]),
            ("a=\\ud83d\\ude00", &[("a", "😀")]),
            ("\\u0061=b", &[("a", "b")]),
            ("a=é", &[("a", "é")]),
            ("a=1\ra=2", &[("a", "1"), ("a", "2")]),
            ("a\\\n  b=c", &[("ab", "c")]),
            ("\\\n\na=b", &[("a", "b")]),
            ("\\\n#a=b", &[("#a", "b")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            assert_eq!(pairs(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_count_from_one_and_name_where_an_entry_starts() {
        let entries = parse("#\n\na=1,\\\n2\nb=3\r\nc=4").unwrap();
        let lines: Vec<_> = entries.iter().map(|p| p.line).collect();
        assert_eq!(lines, [3, 5, 6]);
    }

    #[test]
    fn malformed_input_is_an_error() {
        for text in [
            "a=\\u12",
            "a=\\u00g0",
            "a=\\u+123",
            "a=\\ud83d",
            "a=\\ud83dx",
            "a=\\ude00",
        ] {
            assert_eq!(parse(text), Err(PropertiesError::BadUnicode(1)), "{text}");
        }
        let large = " ".repeat(MAX_FILE_BYTES + 1);
        assert_eq!(parse(&large), Err(PropertiesError::TooLarge(large.len())));
    }

    #[test]
    fn no_text_makes_it_panic() {
        let alphabet = [
            'a', 'é', '😀', '\\', 'u', 'd', '8', '0', '=', ':', ' ', '\n', '\r', '#', '\x0c',
        ];
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let text: String = (0..random.below(40))
                .map(|_| alphabet[random.below(alphabet.len())])
                .collect();
            if let Ok(entries) = parse(&text) {
                let bytes: usize = entries.iter().map(|p| p.key.len() + p.value.len()).sum();
                assert!(bytes <= text.len(), "{text:?}");
            }
        }
    }

    /// Whatever a writer escapes comes back as it was.
    #[test]
    fn escaped_texts_come_back() {
        let alphabet = [
            'a', 'é', '\\', '=', ':', ' ', '\n', '\r', '#', '!', '\t', '\x0c',
        ];
        let escape = |text: &str| -> String {
            let each = |c: char| match c {
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                'é' => "\\u00E9".to_owned(),
                'a' => "a".to_owned(),
                other => format!("\\{other}"),
            };
            text.chars().map(each).collect()
        };
        let mut random = Random::new(2);
        for _ in 0..5_000 {
            let mut word = || -> String {
                (0..1 + random.below(8))
                    .map(|_| alphabet[random.below(alphabet.len())])
                    .collect()
            };
            let (key, value) = (word(), word());
            let text = format!("{} = {}\nnext=1", escape(&key), escape(&value));
            assert_eq!(
                pairs(&text),
                [(key, value), ("next".into(), "1".into())],
                "{text:?}"
            );
        }
    }
}
