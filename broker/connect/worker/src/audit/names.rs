//! Which objects there are, and which of them manifests name: by hashes, so that millions fit in memory.

use std::collections::HashMap;

use ottla_connect::audit::MANIFESTS;
use sha2::{Digest, Sha256};

/// 128 bits of a name's SHA-256: two names with the same are not found, even by looking for them.
type Key = [u8; 16];

#[derive(Default)]
pub struct Names {
    /// Whether a manifest names it.
    named: HashMap<Key, bool>,
    unnamed: u64,
}

fn key(name: &str) -> Key {
    let hash: [u8; 32] = Sha256::digest(name).into();
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

impl Names {
    /// An object that is in the store.
    pub fn listed(&mut self, name: &str) {
        if self.named.insert(key(name), false).is_none() {
            self.unnamed += 1;
        }
    }

    /// A manifest names it. False if one has already.
    pub fn name(&mut self, name: &str) -> bool {
        // What is not listed is missing, or has come since.
        match self.named.insert(key(name), true) {
            Some(true) => return false,
            Some(false) => self.unnamed -= 1,
            None => {}
        }
        true
    }

    /// How many listed objects no manifest names.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }

    pub fn is_unnamed(&self, name: &str) -> bool {
        self.named.get(&key(name)) == Some(&false)
    }
}

/// Whether it lies in the folder of manifests, whatever it is.
pub fn is_among_manifests(name: &str) -> bool {
    let rest = name.strip_prefix(MANIFESTS);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_named_once_and_the_rest_is_known() {
        let mut names = Names::default();
        names.listed("a");
        names.listed("b");
        assert!(names.name("a"));
        assert!(!names.name("a"));
        // Written after the list was read.
        assert!(names.name("c"));
        assert_eq!(names.unnamed(), 1);
        assert!(names.is_unnamed("b") && !names.is_unnamed("a") && !names.is_unnamed("d"));
    }
}
