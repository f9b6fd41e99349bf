//! Checks a chain of manifests against the objects in the store.

use std::collections::HashMap;

use super::manifest::{Manifest, ManifestError, ObjectEntry};
use super::signature::Verifier;

/// An object of the store: how long it is, and the SHA-256 that was reckoned from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    pub sha256: String,
    pub bytes: u64,
}

/// What is to be checked: all of one topic-partition.
pub struct Chain<'a> {
    /// The manifests found, with their names, in the order of their names.
    pub manifests: &'a [(String, Vec<u8>)],
    /// The newest manifest's hash, if somebody kept it elsewhere. Without it, a chain that was cut
    /// short at its end looks like one that is not longer yet.
    pub head: Option<&'a str>,
    /// Names of objects in the store that manifests should name, to find those that none does.
    pub listed: Option<&'a [String]>,
}

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub manifests: u64,
    pub objects: u64,
    pub first_offset: i64,
    pub last_offset: i64,
    pub written: u64,
    /// What to keep, to prove the next time that nothing was cut off.
    pub head: String,
}

/// The first link that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{manifest}: {fault}")]
pub struct Broken {
    /// The manifest's name.
    pub manifest: String,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("there is no manifest")]
    Empty,
    #[error("{0}")]
    Unreadable(#[from] ManifestError),
    #[error("manifest {expected} is missing: this is {found}")]
    ManifestMissing { expected: u64, found: u64 },
    #[error("it does not follow the manifest before it, which has been changed or replaced")]
    BrokenHash,
    #[error("it is of another cluster, connector, topic or partition than the manifests before it")]
    OtherChain,
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
        "object {key} has been changed: SHA-256 {found} and {bytes} bytes, {expected} was written"
    )]
    ObjectChanged {
        key: String,
        expected: String,
        found: String,
        bytes: u64,
    },
    #[error("object {key} is in the store, and no manifest names it")]
    ObjectUnknown { key: String },
    #[error("the chain ends here, and not at {expected}: manifests are missing at its end")]
    CutShort { expected: String },
}

/// Checks link by link, each with its objects. `stored` says what the store has under a name.
pub fn verify(
    chain: &Chain<'_>,
    keys: &dyn Verifier,
    stored: &mut dyn FnMut(&str) -> Option<StoredObject>,
) -> Result<Proof, Broken> {
    let mut seen = HashMap::new();
    let mut before: Option<Manifest> = None;
    let mut proof = Proof {
        manifests: 0,
        objects: 0,
        first_offset: 0,
        last_offset: 0,
        written: 0,
        head: String::new(),
    };
    for (name, bytes) in chain.manifests {
        let broken = |fault: Fault| Broken {
            manifest: name.clone(),
            fault,
        };
        let manifest = Manifest::from_bytes(bytes).map_err(|e| broken(e.into()))?;
        check_link(before.as_ref(), &manifest, keys).map_err(broken)?;
        check_sum(&manifest).map_err(broken)?;
        for object in &manifest.objects {
            if seen.insert(object.key.clone(), ()).is_some() {
                let key = object.key.clone();
                return Err(broken(Fault::ObjectTwice { key }));
            }
            check_object(&manifest, object, stored(&object.key)).map_err(broken)?;
        }
        if before.is_none() {
            proof.first_offset = manifest.first_offset;
        }
        proof.manifests += 1;
        proof.objects += manifest.objects.len() as u64;
        proof.last_offset = manifest.last_offset;
        proof.written += manifest.counts.written;
        before = Some(manifest);
    }
    let last = chain
        .manifests
        .last()
        .map_or(String::new(), |(name, _)| name.clone());
    let at_end = |fault| Broken {
        manifest: last.clone(),
        fault,
    };
    proof.head = before.ok_or_else(|| at_end(Fault::Empty))?.hash();
    if let Some(expected) = chain.head.filter(|head| *head != proof.head) {
        let expected = expected.to_owned();
        return Err(at_end(Fault::CutShort { expected }));
    }
    let unknown = chain
        .listed
        .unwrap_or_default()
        .iter()
        .find(|key| !seen.contains_key(*key));
    match unknown {
        Some(key) => Err(at_end(Fault::ObjectUnknown { key: key.clone() })),
        None => Ok(proof),
    }
}

/// Number, hash, identity, signature, range: in this order, so that a removed manifest is not called a
/// wrong hash.
fn check_link(
    before: Option<&Manifest>,
    manifest: &Manifest,
    keys: &dyn Verifier,
) -> Result<(), Fault> {
    let expected = before.map_or(0, |b| b.sequence + 1);
    if manifest.sequence != expected {
        return Err(Fault::ManifestMissing {
            expected,
            found: manifest.sequence,
        });
    }
    let signed = keys.verify(
        &manifest.algorithm,
        &manifest.key_id,
        &manifest.signed_text(),
        &manifest.signature,
    );
    match signed {
        None => return Err(Fault::UnknownKey(manifest.key_id.clone())),
        Some(false) => return Err(Fault::BadSignature),
        Some(true) => {}
    }
    if manifest.previous != before.map_or(String::new(), Manifest::hash) {
        return Err(Fault::BrokenHash);
    }
    let (first, last) = (manifest.first_offset, manifest.last_offset);
    if first < 0 || last < first {
        return Err(Fault::BadRange { first, last });
    }
    let Some(before) = before else {
        return Ok(());
    };
    let same = before.cluster_id == manifest.cluster_id
        && before.connector == manifest.connector
        && before.topic == manifest.topic
        && before.partition == manifest.partition;
    if !same {
        return Err(Fault::OtherChain);
    }
    match before.last_offset.saturating_add(1) {
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
    Ok(())
}

fn check_object(
    manifest: &Manifest,
    object: &ObjectEntry,
    stored: Option<StoredObject>,
) -> Result<(), Fault> {
    let key = object.key.clone();
    let inside = manifest.first_offset <= object.first_offset
        && object.first_offset <= object.last_offset
        && object.last_offset <= manifest.last_offset;
    let room = object
        .last_offset
        .saturating_sub(object.first_offset)
        .saturating_add(1);
    if !inside || object.records == 0 || object.records > room as u64 {
        return Err(Fault::ObjectRange { key });
    }
    match stored {
        None => Err(Fault::ObjectMissing { key }),
        Some(found) if found.sha256 != object.sha256 || found.bytes != object.bytes => {
            Err(Fault::ObjectChanged {
                key,
                expected: object.sha256.clone(),
                found: found.sha256,
                bytes: found.bytes,
            })
        }
        Some(_) => Ok(()),
    }
}
