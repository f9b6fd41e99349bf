//! Checks a chain of manifests against the objects in the store, link by link.

use super::hex;
use super::manifest::{Counts, Manifest, ManifestError, ObjectEntry};
use super::signature::Verifier;

/// An object of the store: how long it is, and the SHA-256 that was reckoned from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    pub sha256: String,
    pub bytes: u64,
}

/// What has been checked of a chain, and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    pub manifests: u64,
    pub objects: u64,
    pub bytes: u64,
    /// Of all manifests; 0 to -1 without any.
    pub first_offset: i64,
    pub last_offset: i64,
    /// Of all manifests together.
    pub counts: Counts,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Unreadable(#[from] ManifestError),
    #[error("manifest {expected} is missing: this is {found}")]
    ManifestMissing { expected: u64, found: u64 },
    #[error("it does not follow the manifest before it: that one has been changed or replaced")]
    BrokenHash,
    #[error(
        "it is of another cluster, connector, topic or partition than its place in the chain says"
    )]
    OtherChain,
    #[error("it is not signed")]
    Unsigned,
    #[error("its key {0:?} is not known")]
    UnknownKey(String),
    #[error("its signature is wrong: it has been changed")]
    BadSignature,
    #[error("offsets {first} to {last} are missing")]
    Gap { first: i64, last: i64 },
    #[error("offsets {first} to {last} are accounted for twice")]
    Overlap { first: i64, last: i64 },
    #[error("its last offset {last} is below its first {first}")]
    BadRange { first: i64, last: i64 },
    #[error("its counts sum to {sum}, its range has {range} offsets")]
    Sum { sum: u64, range: u64 },
    #[error("its objects have {objects} records, it counts {written}")]
    Written { objects: u64, written: u64 },
    #[error("object {key} is named twice")]
    ObjectTwice { key: String },
    #[error("object {key} has offsets outside of the manifest's range")]
    ObjectRange { key: String },
    #[error("object {key} is missing")]
    ObjectMissing { key: String },
    #[error(
        "object {key} has been changed: {bytes} bytes with SHA-256 {found}; {expected} was written"
    )]
    ObjectChanged {
        key: String,
        expected: String,
        found: String,
        bytes: u64,
    },
    #[error("it has been replaced: its SHA-256 is {found}, and {kept} was kept")]
    OtherHead { kept: String, found: String },
    #[error("it is missing, and its SHA-256 was kept: the chain has been cut off before it")]
    CutOff,
}

/// Where a chain stands: what the next link must continue.
struct Before {
    manifest: Manifest,
    hash: [u8; 32],
}

/// Checks the manifests of one topic-partition, the first one first.
pub struct ChainCheck<'a> {
    topic: &'a str,
    partition: i32,
    keys: Option<&'a dyn Verifier>,
    before: Option<Before>,
    proof: Proof,
}

impl<'a> ChainCheck<'a> {
    /// Without keys signatures are not looked at; with keys every manifest must have one.
    pub fn new(topic: &'a str, partition: i32, keys: Option<&'a dyn Verifier>) -> ChainCheck<'a> {
        ChainCheck {
            topic,
            partition,
            keys,
            before: None,
            proof: Proof {
                last_offset: -1,
                ..Proof::default()
            },
        }
    }

    /// The number that the next link must have.
    pub fn expected(&self) -> u64 {
        self.before.as_ref().map_or(0, |b| b.manifest.sequence + 1)
    }

    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// SHA-256 of the last link.
    pub fn head(&self) -> Option<[u8; 32]> {
        self.before.as_ref().map(|b| b.hash)
    }

    /// Checks the next link by itself and against the one before. What it says of its objects is to be checked by
    /// [`check_object`].
    pub fn link(&mut self, file: &[u8]) -> Result<&Manifest, Fault> {
        let manifest = Manifest::from_bytes(file)?;
        self.check_place(&manifest)?;
        if let Some(keys) = self.keys {
            check_signature(&manifest, keys)?;
        }
        self.check_range(&manifest)?;
        check_sum(&manifest)?;
        let proof = &mut self.proof;
        if proof.manifests == 0 {
            proof.first_offset = manifest.first_offset;
        }
        proof.manifests += 1;
        proof.last_offset = manifest.last_offset;
        proof.counts.add(&manifest.counts);
        let hash = manifest.hash();
        let before = self.before.insert(Before { manifest, hash });
        Ok(&before.manifest)
    }

    /// An object of a link holds.
    pub fn object(&mut self, stored: &StoredObject) {
        self.proof.objects += 1;
        self.proof.bytes += stored.bytes;
    }

    /// The number comes first, so that a removed manifest is not called a wrong hash.
    fn check_place(&self, manifest: &Manifest) -> Result<(), Fault> {
        let expected = self.expected();
        if manifest.sequence != expected {
            return Err(Fault::ManifestMissing {
                expected,
                found: manifest.sequence,
            });
        }
        let previous = self.head().map_or(String::new(), |hash| hex(&hash));
        if manifest.previous != previous {
            return Err(Fault::BrokenHash);
        }
        let same_source = |before: &Before| {
            before.manifest.cluster_id == manifest.cluster_id
                && before.manifest.connector == manifest.connector
        };
        let here = manifest.topic == self.topic && manifest.partition == self.partition;
        if here && self.before.as_ref().is_none_or(same_source) {
            Ok(())
        } else {
            Err(Fault::OtherChain)
        }
    }

    fn check_range(&self, manifest: &Manifest) -> Result<(), Fault> {
        let (first, last) = (manifest.first_offset, manifest.last_offset);
        if first < 0 || last < first {
            return Err(Fault::BadRange { first, last });
        }
        let Some(before) = &self.before else {
            return Ok(());
        };
        match before.manifest.last_offset.saturating_add(1) {
            next if first > next => Err(Fault::Gap {
                first: next,
                last: first - 1,
            }),
            next if first < next => Err(Fault::Overlap {
                first,
                last: last.min(next - 1),
            }),
            _ => Ok(()),
        }
    }
}

fn check_signature(manifest: &Manifest, keys: &dyn Verifier) -> Result<(), Fault> {
    if manifest.signature.is_empty() {
        return Err(Fault::Unsigned);
    }
    let signed = keys.verify(
        &manifest.algorithm,
        &manifest.key_id,
        &manifest.signed_text(),
        &manifest.signature,
    );
    match signed {
        None => Err(Fault::UnknownKey(manifest.key_id.clone())),
        Some(false) => Err(Fault::BadSignature),
        Some(true) => Ok(()),
    }
}

fn check_sum(manifest: &Manifest) -> Result<(), Fault> {
    let range = manifest
        .last_offset
        .abs_diff(manifest.first_offset)
        .saturating_add(1);
    let sum = manifest.counts.sum().unwrap_or(u64::MAX);
    if sum != range {
        return Err(Fault::Sum { sum, range });
    }
    let records = manifest.objects.iter();
    let objects = records.fold(0, |sum: u64, o| sum.saturating_add(o.records));
    let written = manifest.counts.written;
    if objects != written {
        return Err(Fault::Written { objects, written });
    }
    for object in &manifest.objects {
        let inside = manifest.first_offset <= object.first_offset
            && object.first_offset <= object.last_offset
            && object.last_offset <= manifest.last_offset;
        let room = object.last_offset.abs_diff(object.first_offset);
        if !inside || object.records == 0 || object.records - 1 > room {
            let key = object.key.clone();
            return Err(Fault::ObjectRange { key });
        }
    }
    Ok(())
}

/// Whether the store has the object as it was written.
pub fn check_object(object: &ObjectEntry, stored: Option<&StoredObject>) -> Result<(), Fault> {
    let key = object.key.clone();
    match stored {
        None => Err(Fault::ObjectMissing { key }),
        Some(found) if found.sha256 != object.sha256 || found.bytes != object.bytes => {
            Err(Fault::ObjectChanged {
                key,
                expected: object.sha256.clone(),
                found: found.sha256.clone(),
                bytes: found.bytes,
            })
        }
        Some(_) => Ok(()),
    }
}
