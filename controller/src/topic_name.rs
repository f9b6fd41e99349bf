//! What a topic may be called. Kafka's rules: ASCII letters, digits, `.`, `_` and `-`, at most 249 of
//! them, and no two topics whose names differ only in `.` and `_`, because metric names cannot tell
//! these apart.
use ottla_proto::metadata::Image;
use thiserror::Error;

/// Longest topic name (Kafka's number: a file name minus a partition's suffix).
const NAME_BYTES: usize = 249;

/// Each is Kafka's INVALID_TOPIC_EXCEPTION.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    #[error("Topic name is invalid: '.' and '..' are not allowed")]
    Dots,
    #[error("Topic name is invalid: its length is {0}, more than {NAME_BYTES}")]
    TooLong(usize),
    #[error(
        "Topic name is invalid: {0:?} is not one of the ASCII letters and digits, '.', '_' and '-'"
    )]
    Character(char),
    #[error("Topic name collides with that of topic {0}: '.' and '_' count as equal")]
    Collides(String),
}

/// Whether a topic could have the name, leaving aside what other topics there are.
pub fn check(name: &str) -> Result<(), NameError> {
    match name {
        "" => return Err(NameError::Empty),
        "." | ".." => return Err(NameError::Dots),
        _ if name.len() > NAME_BYTES => return Err(NameError::TooLong(name.len())),
        _ => {}
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.chars().find(|c| !legal(*c)) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

/// Names that collide are equal after this.
pub fn normalized(name: &str) -> String {
    name.replace('.', "_")
}

/// A topic whose name is like `name` but for `.` and `_`. Looks only where such topics can be, so
/// that it does not walk all topics for each one that is made.
pub fn colliding<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    find(image, &mut String::with_capacity(name.len()), name)
}

/// `prefix` has been matched; some topic's name starts with it.
fn find<'a>(image: &'a Image, prefix: &mut String, rest: &str) -> Option<&'a str> {
    let Some(at) = rest.find(['.', '_']) else {
        prefix.push_str(rest);
        let found = image.topic(prefix).map(|topic| &*topic.name);
        prefix.truncate(prefix.len() - rest.len());
        return found;
    };
    let before = prefix.len();
    for separator in ['.', '_'] {
        prefix.push_str(&rest[..at]);
        prefix.push(separator);
        let next = image.topics_from(prefix).next();
        let found = match next.is_some_and(|topic| topic.name.starts_with(&**prefix)) {
            true => find(image, prefix, &rest[at + 1..]),
            false => None,
        };
        prefix.truncate(before);
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::image_with_topics;

    #[test]
    fn legal_names() {
        let longest = "a".repeat(NAME_BYTES);
        for name in ["a", "...", "A-z_0.9", "__consumer_offsets", &longest] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(check("."), Err(NameError::Dots));
        assert_eq!(check(".."), Err(NameError::Dots));
        assert_eq!(check(&"a".repeat(250)), Err(NameError::TooLong(250)));
        for (name, c) in [("a b", ' '), ("a/b", '/'), ("é", 'é'), ("a\0", '\0')] {
            assert_eq!(check(name), Err(NameError::Character(c)));
        }
    }

    #[test]
    fn finds_the_topic_that_collides() {
        let image = image_with_topics(&["a.b_c", "a_x", "a_b", "plain", "_.", "a.bb_c"]);
        for (name, other) in [
            ("a.b_c", Some("a.b_c")),
            ("a_b.c", Some("a.b_c")),
            ("a_b_c", Some("a.b_c")),
            ("a.b", Some("a_b")),
            ("a.x", Some("a_x")),
            ("..", Some("_.")),
            ("a.b.", None),
            ("a", None),
            ("plain", Some("plain")),
            ("plain.", None),
            ("a_b_d", None),
        ] {
            assert_eq!(colliding(&image, name), other, "{name}");
        }
    }
}
