//! One link of the chain.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Signer, hex};
use crate::sink::Passed;

/// Longest manifest that is read.
pub const MAX_MANIFEST_BYTES: usize = 16 << 20;
const VERSION: u32 = 1;

/// What became of the records of the range. Their sum is the length of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// In the objects.
    pub written: u64,
    /// See [`Passed`] for these.
    pub filtered: u64,
    pub dead_lettered: u64,
    pub skipped: u64,
    pub no_record: u64,
}

impl Counts {
    /// `None` above the largest number.
    pub fn sum(&self) -> Option<u64> {
        let all = [
            self.written,
            self.filtered,
            self.dead_lettered,
            self.skipped,
            self.no_record,
        ];
        all.into_iter().try_fold(0, u64::checked_add)
    }

    /// Stays at the largest number.
    pub fn add(&mut self, other: &Counts) {
        self.written = self.written.saturating_add(other.written);
        self.filtered = self.filtered.saturating_add(other.filtered);
        self.dead_lettered = self.dead_lettered.saturating_add(other.dead_lettered);
        self.skipped = self.skipped.saturating_add(other.skipped);
        self.no_record = self.no_record.saturating_add(other.no_record);
    }

    pub fn pass(&mut self, why: Passed, offsets: u64) {
        *match why {
            Passed::Filtered => &mut self.filtered,
            Passed::DeadLettered => &mut self.dead_lettered,
            Passed::Skipped => &mut self.skipped,
            Passed::NoRecord => &mut self.no_record,
        } += offsets;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} written, {} filtered, {} dead-lettered, {} skipped, {} without a record",
            self.written, self.filtered, self.dead_lettered, self.skipped, self.no_record
        )
    }
}

/// Where a manifest stands in its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// From 0, without a gap.
    pub sequence: u64,
    /// SHA-256 of the manifest before it; `None` for the first.
    pub previous: Option<[u8; 32]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// From the folder on that has [`MANIFESTS`] in it, so that a copy of that folder can be checked anywhere.
    pub key: String,
    /// Of the object's bytes as they are stored, in hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    pub records: u64,
    pub first_offset: i64,
    pub last_offset: i64,
}

/// The members stand in this order in the file, without any space; that text, with `signature` empty, is
/// what is signed, and with it, what the next manifest's `previous` is the SHA-256 of. Without a key
/// `algorithm`, `key_id` and `signature` are empty.
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
    /// By their first offsets.
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

/// The folder of manifests, beside the objects.
pub const MANIFESTS: &str = "_manifests";

/// The name of a manifest from the folder on that has [`MANIFESTS`] in it: topic-partition and number.
pub fn manifest_name(topic: &str, partition: i32, sequence: u64) -> String {
    format!("{MANIFESTS}/{topic}/{partition}/{sequence:020}.json")
}

/// Topic, partition and number of a name that [`manifest_name`] makes.
pub fn parse_manifest_name(name: &str) -> Option<(&str, i32, u64)> {
    let mut parts = name.strip_prefix(MANIFESTS)?.strip_prefix('/')?.split('/');
    let (topic, partition, file) = (parts.next()?, parts.next()?, parts.next()?);
    let sequence = file.strip_suffix(".json")?.parse().ok()?;
    let partition = partition.parse().ok()?;
    // What Kafka allows.
    let is_of_topic = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !topic.bytes().all(is_of_topic) || ["", ".", ".."].contains(&topic) {
        return None;
    }
    (manifest_name(topic, partition, sequence) == name).then_some((topic, partition, sequence))
}

impl Manifest {
    /// Not signed yet.
    pub fn new(
        link: Link,
        (cluster_id, connector): (&str, &str),
        (topic, partition): (&str, i32),
        (first_offset, last_offset): (i64, i64),
        counts: Counts,
        mut objects: Vec<ObjectEntry>,
    ) -> Manifest {
        objects.sort_by_key(|object| object.first_offset);
        Manifest {
            version: VERSION,
            cluster_id: cluster_id.to_owned(),
            connector: connector.to_owned(),
            topic: topic.to_owned(),
            partition,
            sequence: link.sequence,
            previous: link.previous.map_or_else(String::new, |hash| hex(&hash)),
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

    /// SHA-256 of the file.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    pub(super) fn signed_text(&self) -> Vec<u8> {
        let unsigned = Manifest {
            signature: String::new(),
            ..self.clone()
        };
        unsigned.to_bytes()
    }
}
