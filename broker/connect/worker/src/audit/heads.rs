//! Hashes of manifests that somebody kept elsewhere, in the form of `sha256sum`.

use std::collections::BTreeMap;
use std::fmt;

use ottla_connect::audit::{hex, manifest_name, parse_manifest_name};

/// SHA-256 in hexadecimal, by topic, partition and number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(BTreeMap<(String, i32, u64), String>);

impl Heads {
    pub fn parse(text: &str) -> Result<Heads, String> {
        let mut heads = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = || format!("line {number} is no SHA-256 and name of a manifest");
            let (hash, name) = line.split_once("  ").ok_or_else(wrong)?;
            let (topic, partition, sequence) = parse_manifest_name(name).ok_or_else(wrong)?;
            let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if hash.len() != 64 || !hash.bytes().all(is_digit) {
                return Err(wrong());
            }
            heads.insert((topic.to_owned(), partition, sequence), hash.to_owned());
        }
        Ok(Heads(heads))
    }

    pub fn insert(&mut self, topic: &str, partition: i32, sequence: u64, hash: &[u8; 32]) {
        self.0
            .insert((topic.to_owned(), partition, sequence), hex(hash));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of which a hash was kept, some more than once.
    pub fn chains(&self) -> impl Iterator<Item = (&str, i32)> {
        self.0
            .keys()
            .map(|(topic, partition, _)| (topic.as_str(), *partition))
    }

    pub fn of(&self, topic: &str, partition: i32, sequence: u64) -> Option<&str> {
        let key = (topic.to_owned(), partition, sequence);
        self.0.get(&key).map(String::as_str)
    }

    /// The first one kept of a chain from this number on.
    pub fn from(&self, topic: &str, partition: i32, sequence: u64) -> Option<u64> {
        let from = (topic.to_owned(), partition, sequence);
        let to = (topic.to_owned(), partition, u64::MAX);
        self.0.range(from..=to).next().map(|(key, _)| key.2)
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((topic, partition, sequence), hash) in &self.0 {
            writeln!(f, "{hash}  {}", manifest_name(topic, *partition, *sequence))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_and_what_is_none_is_refused() {
        let mut heads = Heads::default();
        heads.insert("b", 3, 12, &[0xa5; 32]);
        heads.insert("a", 0, 0, &[1; 32]);
        let text = heads.to_string();
        assert!(text.starts_with(&"01".repeat(32)));
        assert_eq!(Heads::parse(&text), Ok(heads.clone()));
        assert_eq!(heads.from("b", 3, 0), Some(12));
        assert_eq!(heads.from("b", 3, 13), None);
        assert_eq!(heads.of("a", 0, 0), Some("01".repeat(32).as_str()));
        let other = text.replace("_manifests", "manifests");
        assert!(Heads::parse(&other).is_err());
        assert!(Heads::parse(&text.replace("a5", "A5")).is_err());
    }
}
