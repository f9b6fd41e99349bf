//! Proof of delivery: for each topic-partition a chain of manifests, each naming the hash of the one before,
//! and signed if there is a key. Who has the manifests and the objects can check, without any broker, that
//! every offset of the range is accounted for, once, and no byte has changed.
//! `docs/decisions/0017-manifest-chains.md` says what that proves and what it cannot.
//!
//! - [`Manifest`] is what one link says, and how it is written, hashed and signed.
//! - [`ChainCheck`] finds the first broken link of a chain.
//!
//! A manifest is written when all objects of its range are: `Outputs` closes all outputs of a
//! topic-partition together for that (`RotationPolicy::chained`).

mod manifest;
mod signature;
mod verify;

pub use manifest::{
    Counts, Link, MANIFESTS, MAX_MANIFEST_BYTES, Manifest, ManifestError, ObjectEntry,
    manifest_name, parse_manifest_name,
};
pub use signature::{HmacKey, KeyError, Signer, Verifier};
pub use verify::{ChainCheck, Fault, Proof, StoredObject, check_object};

/// Lower case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pairs = bytes.iter().flat_map(|b| [b >> 4, b & 15]);
    pairs.map(|n| char::from(DIGITS[usize::from(n)])).collect()
}

#[cfg(test)]
mod tests;
