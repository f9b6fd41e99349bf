use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::*;
use crate::config::Secret;

fn key() -> HmacKey {
    HmacKey::new("k1", &Secret::new("0123456789abcdef0123456789abcdef")).unwrap()
}

/// A chain with its objects, as a sink leaves it.
#[derive(Clone)]
struct Bucket {
    manifests: Vec<Manifest>,
    objects: BTreeMap<String, Vec<u8>>,
}

impl Bucket {
    /// Each manifest has eight records in two objects, one dead letter and one marker.
    fn new(manifests: i64) -> Bucket {
        let mut bucket = Bucket {
            manifests: vec![],
            objects: BTreeMap::new(),
        };
        for i in 0..manifests {
            bucket.add(i * 10, i * 10 + 9);
        }
        bucket
    }

    fn add(&mut self, first: i64, last: i64) {
        let objects = ["a", "b"].map(|output| {
            let key = format!("topics/t/{output}/t+0+{first}");
            let bytes = key.repeat(3).into_bytes();
            let entry = ObjectEntry {
                key: key.clone(),
                sha256: hex(&Sha256::digest(&bytes)),
                bytes: bytes.len() as u64,
                records: (last - first + 1) as u64 / 2 - 1,
                first_offset: first,
                last_offset: last,
            };
            self.objects.insert(key, bytes);
            entry
        });
        let counts = Counts {
            written: (last - first + 1) as u64 - 2,
            dead_lettered: 1,
            no_record: 1,
            ..Counts::default()
        };
        let manifest = Manifest::new(
            self.link(),
            ("cluster", "audit"),
            ("t", 0),
            (first, last),
            counts,
            objects.to_vec(),
        );
        self.manifests.push(manifest.signed(&key()));
    }

    /// Of the next manifest.
    fn link(&self) -> Link {
        let last = self.manifests.last();
        Link {
            sequence: last.map_or(0, |m| m.sequence + 1),
            previous: last.map(Manifest::hash),
        }
    }

    /// The proof, and the last hash; or which manifest is broken, by its number.
    fn check(&self, keys: Option<&dyn Verifier>) -> Result<(Proof, [u8; 32]), (u64, Fault)> {
        let mut check = ChainCheck::new("t", 0, keys);
        for manifest in &self.manifests {
            let broken = |fault| (manifest.sequence, fault);
            let objects = check.link(&manifest.to_bytes()).map_err(broken)?;
            for object in objects.objects.clone() {
                let stored = self.objects.get(&object.key).map(|bytes| StoredObject {
                    sha256: hex(&Sha256::digest(bytes)),
                    bytes: bytes.len() as u64,
                });
                check_object(&object, stored.as_ref()).map_err(broken)?;
                check.object(&stored.expect("it was checked"));
            }
        }
        Ok((check.proof().clone(), check.head().expect("a manifest")))
    }

    fn fault(&self) -> (u64, Fault) {
        self.check(Some(&key())).unwrap_err()
    }
}

#[test]
fn a_whole_chain_holds() {
    let bucket = Bucket::new(5);
    let (proof, head) = bucket.check(Some(&key())).unwrap();
    assert_eq!((proof.manifests, proof.objects), (5, 10));
    assert_eq!((proof.counts.written, proof.counts.no_record), (40, 5));
    assert_eq!((proof.first_offset, proof.last_offset), (0, 49));
    assert_eq!(head, bucket.manifests[4].hash());
    let bytes: usize = bucket.objects.values().map(Vec::len).sum();
    assert_eq!(proof.bytes, bytes as u64);
    let read = Manifest::from_bytes(&bucket.manifests[2].to_bytes());
    assert_eq!(read.as_ref(), Ok(&bucket.manifests[2]));
}

#[test]
fn objects_that_are_missing_or_changed_are_found() {
    let whole = Bucket::new(5);
    let key = "topics/t/b/t+0+20".to_owned();
    let mut gone = whole.clone();
    gone.objects.remove(&key);
    assert_eq!(gone.fault(), (2, Fault::ObjectMissing { key: key.clone() }));
    let mut changed = whole.clone();
    changed.objects.get_mut(&key).unwrap()[7] ^= 1;
    assert!(matches!(changed.fault(), (2, Fault::ObjectChanged { .. })));
}

#[test]
fn manifests_that_are_removed_or_changed_are_found() {
    let whole = Bucket::new(5);
    for removed in 0..4 {
        let mut bucket = whole.clone();
        bucket.manifests.remove(removed);
        let expected = removed as u64;
        let found = expected + 1;
        let fault = Fault::ManifestMissing { expected, found };
        assert_eq!(bucket.fault(), (found, fault));
    }
    let mut forged = whole.clone();
    forged.manifests[3].counts.filtered = 1;
    assert_eq!(forged.fault(), (3, Fault::BadSignature));
    // Signed again by somebody with the key, the next one tells.
    forged.manifests[3].counts = Counts {
        written: 8,
        dead_lettered: 2,
        ..Counts::default()
    };
    forged.manifests[3] = forged.manifests[3].clone().signed(&key());
    assert_eq!(forged.fault(), (4, Fault::BrokenHash));
    assert_eq!(forged.check(None).unwrap_err(), (4, Fault::BrokenHash));
    let mut other = whole.clone();
    other.manifests[0].partition = 1;
    assert_eq!(other.check(None).unwrap_err(), (0, Fault::OtherChain));
}

#[test]
fn a_key_asks_for_signatures() {
    let mut plain = Bucket::new(1);
    let manifest = &mut plain.manifests[0];
    (manifest.algorithm, manifest.key_id, manifest.signature) = Default::default();
    assert!(plain.check(None).is_ok());
    assert_eq!(plain.fault(), (0, Fault::Unsigned));
    let other = HmacKey::new("k2", &Secret::new("0123456789abcdef0123456789abcdef")).unwrap();
    let signed = Bucket::new(1);
    let fault = signed.check(Some(&other)).unwrap_err();
    assert_eq!(fault, (0, Fault::UnknownKey("k1".into())));
    assert!(HmacKey::new("k", &Secret::new("short")).is_err());
}

#[test]
fn ranges_must_meet_and_sums_must_hold() {
    let mut gap = Bucket::new(2);
    gap.add(25, 34);
    assert_eq!(
        gap.fault().1,
        Fault::Gap {
            first: 20,
            last: 24
        }
    );
    let mut twice = Bucket::new(2);
    twice.add(15, 24);
    assert_eq!(
        twice.fault().1,
        Fault::Overlap {
            first: 15,
            last: 19
        }
    );
    let mut sum = Bucket::new(2);
    sum.add(20, 29);
    sum.manifests[2].counts.no_record = 0;
    sum.manifests[2] = sum.manifests[2].clone().signed(&key());
    assert_eq!(sum.fault().1, Fault::Sum { sum: 9, range: 10 });
    let mut written = Bucket::new(1);
    written.manifests[0].objects.pop();
    written.manifests[0] = written.manifests[0].clone().signed(&key());
    assert_eq!(
        written.fault().1,
        Fault::Written {
            objects: 4,
            written: 8
        }
    );
}

#[test]
fn files_that_are_no_manifests_are_errors() {
    let bytes = Bucket::new(1).manifests[0].to_bytes();
    let spaced = String::from_utf8(bytes.clone())
        .unwrap()
        .replace("{\"version\"", "{ \"version\"");
    assert_eq!(
        Manifest::from_bytes(spaced.as_bytes()),
        Err(ManifestError::NotCanonical)
    );
    assert!(matches!(
        Manifest::from_bytes(&bytes[..50]),
        Err(ManifestError::Malformed(_))
    ));
}

#[test]
fn names_of_manifests_are_read_as_they_are_written() {
    let name = manifest_name("a.b", 7, 12);
    assert_eq!(name, "_manifests/a.b/7/00000000000000000012.json");
    assert_eq!(parse_manifest_name(&name), Some(("a.b", 7, 12)));
    for other in [
        "_manifests/a.b/7/12.json",
        "_manifests/a.b/07/00000000000000000012.json",
        "_manifests/a.b/7/00000000000000000012.json/x",
        "_manifests/7/00000000000000000012.json",
        "_manifests/../7/00000000000000000012.json",
        "_manifestsa.b/7/00000000000000000012.json",
    ] {
        assert_eq!(parse_manifest_name(other), None, "{other}");
    }
}
