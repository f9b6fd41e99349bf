//! One link of the chain.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Signer, hex};

/// Longest manifest that is read.
pub const MAX_MANIFEST_BYTES: usize = 16 << 20;
const VERSION: u32 = 1;

/// What became of the records of the range. Their sum is the length of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// In the objects.
    pub written: u64,
    pub dead_lettered: u64,
    /// Dropped by a transform or a predicate.
    pub filtered: u64,
    /// Offsets without a record: markers of transactions, batches of aborted ones.
    pub control: u64,
}

impl Counts {
    pub fn sum(&self) -> Option<u64> {
        self.written
            .checked_add(self.dead_lettered)?
            .checked_add(self.filtered)?
            .checked_add(self.control)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    pub key: String,
    /// Of the object's bytes as they are stored, in hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    pub records: u64,
    pub first_offset: i64,
    pub last_offset: i64,
}

/// The members stand in this order in the file, without any space; that text, with `signature` empty, is
/// what is signed, and with it, what the next manifest's `previous` is the SHA-256 of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub cluster_id: String,
    pub connector: String,
    pub topic: String,
    pub partition: i32,
    /// From 0, without a gap.
    pub sequence: u64,
    /// Empty for the first.
    pub previous: String,
    pub first_offset: i64,
    pub last_offset: i64,
    pub counts: Counts,
    pub objects: Vec<ObjectEntry>,
    pub algorithm: String,
    pub key_id: String,
    pub signature: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest has more than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge,
    #[error("the manifest cannot be read: {0}")]
    Malformed(String),
    #[error("the manifest is of version {0}; {VERSION} is known")]
    Version(u32),
    #[error("the manifest is not written as it was signed")]
    NotCanonical,
}

/// The name of a manifest beside the objects: its topic-partition and its number.
pub fn manifest_name(prefix: &str, topic: &str, partition: i32, sequence: u64) -> String {
    let separator = if prefix.is_empty() { "" } else { "/" };
    format!("{prefix}{separator}_manifests/{topic}/{partition}/{sequence:020}.json")
}

impl Manifest {
    /// The first manifest of a chain, or the one after `previous`, not signed yet.
    pub fn following(
        previous: Option<&Manifest>,
        (cluster_id, connector): (&str, &str),
        (topic, partition): (&str, i32),
        (first_offset, last_offset): (i64, i64),
        counts: Counts,
        objects: Vec<ObjectEntry>,
    ) -> Manifest {
        Manifest {
            version: VERSION,
            cluster_id: cluster_id.to_owned(),
            connector: connector.to_owned(),
            topic: topic.to_owned(),
            partition,
            sequence: previous.map_or(0, |p| p.sequence + 1),
            previous: previous.map_or_else(String::new, Manifest::hash),
            first_offset,
            last_offset,
            counts,
            objects,
            algorithm: String::new(),
            key_id: String::new(),
            signature: String::new(),
        }
    }

    pub fn signed(mut self, signer: &dyn Signer) -> Manifest {
        self.algorithm = signer.algorithm().to_owned();
        self.key_id = signer.key_id().to_owned();
        self.signature = signer.sign(&self.signed_text());
        self
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is plain data")
    }

    /// Reads a file. It must be, byte for byte, what `to_bytes` writes, so that nothing hides in it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        if manifest.version != VERSION {
            return Err(ManifestError::Version(manifest.version));
        }
        if manifest.to_bytes() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.to_bytes()))
    }

    pub(super) fn signed_text(&self) -> Vec<u8> {
        let unsigned = Manifest {
            signature: String::new(),
            ..self.clone()
        };
        unsigned.to_bytes()
    }
}
