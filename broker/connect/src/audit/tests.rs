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
            filtered: 0,
            control: 1,
        };
        let manifest = Manifest::following(
            self.manifests.last(),
            ("cluster", "audit"),
            ("t", 0),
            (first, last),
            counts,
            objects.to_vec(),
        );
        self.manifests.push(manifest.signed(&key()));
    }

    fn check(&self, head: Option<&str>) -> Result<Proof, Broken> {
        let files = self.manifests.iter();
        let files: Vec<_> = files
            .map(|m| (manifest_name("audit", "t", 0, m.sequence), m.to_bytes()))
            .collect();
        let listed: Vec<_> = self.objects.keys().cloned().collect();
        let chain = Chain {
            manifests: &files,
            head,
            listed: Some(&listed),
        };
        verify(&chain, &key(), &mut |name| {
            let bytes = self.objects.get(name)?;
            Some(StoredObject {
                sha256: hex(&Sha256::digest(bytes)),
                bytes: bytes.len() as u64,
            })
        })
    }

    fn fault(&self) -> (String, Fault) {
        let broken = self.check(None).unwrap_err();
        let number = broken.manifest.rsplit('/').next().unwrap().to_owned();
        (
            number.trim_start_matches('0').replace(".json", ""),
            broken.fault,
        )
    }
}

#[test]
fn a_whole_chain_holds() {
    let bucket = Bucket::new(5);
    let proof = bucket.check(None).unwrap();
    assert_eq!((proof.manifests, proof.objects, proof.written), (5, 10, 40));
    assert_eq!((proof.first_offset, proof.last_offset), (0, 49));
    assert_eq!(proof.head, bucket.manifests[4].hash());
    let read = Manifest::from_bytes(&bucket.manifests[2].to_bytes());
    assert_eq!(read.as_ref(), Ok(&bucket.manifests[2]));
}

#[test]
fn objects_that_are_missing_changed_or_not_named_are_found() {
    let whole = Bucket::new(5);
    let key = "topics/t/b/t+0+20".to_owned();
    let mut gone = whole.clone();
    gone.objects.remove(&key);
    assert_eq!(
        gone.fault(),
        ("2".into(), Fault::ObjectMissing { key: key.clone() })
    );
    let mut changed = whole.clone();
    changed.objects.get_mut(&key).unwrap()[7] ^= 1;
    assert!(matches!(changed.fault(), (at, Fault::ObjectChanged { .. }) if at == "2"));
    let mut more = whole.clone();
    more.objects.insert("topics/t/x".into(), vec![]);
    let key = "topics/t/x".to_owned();
    assert_eq!(more.fault(), ("4".into(), Fault::ObjectUnknown { key }));
}

#[test]
fn manifests_that_are_removed_or_changed_are_found() {
    let whole = Bucket::new(5);
    for removed in 0..4 {
        let mut bucket = whole.clone();
        bucket.manifests.remove(removed);
        let expected = removed as u64;
        let fault = Fault::ManifestMissing {
            expected,
            found: expected + 1,
        };
        assert_eq!(bucket.fault(), ((removed + 1).to_string(), fault));
    }
    // The last one's absence shows in what it named, or in the head that somebody kept.
    let mut short = whole.clone();
    short.manifests.pop();
    assert!(matches!(short.fault().1, Fault::ObjectUnknown { .. }));
    short.objects.retain(|key, _| !key.ends_with("+40"));
    let broken = short.check(Some(&whole.manifests[4].hash())).unwrap_err();
    assert!(matches!(broken.fault, Fault::CutShort { .. }));
    let mut forged = whole.clone();
    forged.manifests[3].counts.filtered = 1;
    assert_eq!(forged.fault(), ("3".into(), Fault::BadSignature));
    // Signed again by somebody with the key, the next one tells.
    forged.manifests[3].counts = Counts {
        written: 8,
        dead_lettered: 2,
        ..Counts::default()
    };
    forged.manifests[3] = forged.manifests[3].clone().signed(&key());
    assert_eq!(forged.fault(), ("4".into(), Fault::BrokenHash));
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
    sum.manifests[2].counts.control = 0;
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
    let other = HmacKey::new("k2", &Secret::new("0123456789abcdef0123456789abcdef")).unwrap();
    let manifest = Bucket::new(1).manifests[0].clone();
    assert_eq!(
        other.verify(
            &manifest.algorithm,
            &manifest.key_id,
            b"",
            &manifest.signature
        ),
        None
    );
    assert!(HmacKey::new("k", &Secret::new("short")).is_err());
}
