//! Folders as sinks leave them, and as others do.

use ottla_connect::audit::{Counts, Fault, Link, Manifest, ObjectEntry, hex, manifest_name};
use sha2::{Digest, Sha256};

use super::*;

struct NoMeter;

impl Meter for NoMeter {
    fn expect(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn clear(&self) {}
}

struct Folder {
    dir: tempfile::TempDir,
    manifests: Vec<Manifest>,
}

impl Folder {
    /// So many manifests of `t-0`, each with one object of ten records.
    fn new(manifests: i64) -> Folder {
        let mut folder = Folder {
            dir: tempfile::tempdir().unwrap(),
            manifests: Vec::new(),
        };
        for i in 0..manifests {
            let key = format!("t/t+0+{i}");
            folder.write(&key, key.repeat(9).as_bytes());
            folder.add(&key);
        }
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// One more manifest, which names this object.
    fn add(&mut self, key: &str) {
        let last = self.manifests.last();
        let first = last.map_or(0, |m| m.last_offset + 1);
        let bytes = std::fs::read(self.dir.path().join(key)).unwrap();
        let entry = ObjectEntry {
            key: key.to_owned(),
            sha256: hex(&Sha256::digest(&bytes)),
            bytes: bytes.len() as u64,
            records: 10,
            first_offset: first,
            last_offset: first + 9,
        };
        let link = Link {
            sequence: last.map_or(0, |m| m.sequence + 1),
            previous: last.map(Manifest::hash),
        };
        let counts = Counts {
            written: 10,
            ..Counts::default()
        };
        let range = (first, first + 9);
        let manifest = Manifest::new(link, ("c", "s"), ("t", 0), range, counts, vec![entry]);
        self.write(&manifest_name("t", 0, link.sequence), &manifest.to_bytes());
        self.manifests.push(manifest);
    }

    fn check(&self, heads: &Heads) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let target = Arc::new(Target::Folder(self.dir.path().to_owned()));
        let meter: Arc<dyn Meter> = Arc::new(NoMeter);
        let keys = Keys(Vec::new());
        let checked = check(target, &keys, heads, &meter);
        runtime.block_on(checked).unwrap()
    }

    /// Number of the first manifest that does not hold, and why.
    fn broken(&self, heads: &Heads) -> Option<(u64, Fault)> {
        let report = self.check(heads);
        let (name, fault) = report.first_broken()?;
        let (_, _, sequence) = parse_manifest_name(name).unwrap();
        Some((sequence, fault.clone()))
    }
}

#[test]
fn a_whole_folder_holds_however_many_objects_it_has() {
    let folder = Folder::new(100);
    let report = folder.check(&Heads::default());
    assert!(!report.is_damaged(), "{}", report.text());
    let heads = report.heads();
    let last = hex(&folder.manifests[99].hash());
    assert_eq!(heads.of("t", 0, 99), Some(last.as_str()));
    assert!(!folder.check(&heads).is_damaged());
}

#[test]
fn an_object_counts_once() {
    let mut folder = Folder::new(30);
    folder.add("t/t+0+4");
    folder.add("t/t+0+5");
    let key = "t/t+0+4".to_owned();
    let twice = (30, Fault::ObjectTwice { key });
    assert_eq!(folder.broken(&Heads::default()), Some(twice));
    // What was wrong before comes first, however late it is read.
    folder.write("t/t+0+29", b"other");
    let (at, fault) = folder.broken(&Heads::default()).unwrap();
    assert!(
        matches!(fault, Fault::ObjectChanged { .. }) && at == 29,
        "{at}: {fault}"
    );
}

#[test]
fn names_that_lead_elsewhere_are_missing() {
    for key in ["../t/x", "/t/x", "t//x", "t/./x", "t", "t/x/y", ""] {
        let mut folder = Folder::new(1);
        folder.write("t/x", b"x");
        folder.add("t/x");
        let mut manifest = folder.manifests[1].clone();
        manifest.objects[0].key = key.to_owned();
        folder.write(&manifest_name("t", 0, 1), &manifest.to_bytes());
        let key = key.to_owned();
        let missing = (1, Fault::ObjectMissing { key });
        assert_eq!(folder.broken(&Heads::default()), Some(missing));
    }
}

#[test]
fn kept_hashes_catch_a_chain_that_was_made_anew_or_cut_off() {
    let folder = Folder::new(3);
    let heads = folder.check(&Heads::default()).heads();
    let mut anew = Folder::new(1);
    for key in ["t/a", "t/b"] {
        anew.write(key, b"forged");
        anew.add(key);
    }
    assert_eq!(anew.broken(&Heads::default()), None);
    let (at, fault) = anew.broken(&heads).unwrap();
    assert!(
        matches!(fault, Fault::OtherHead { .. }) && at == 2,
        "{at}: {fault}"
    );
    assert_eq!(Folder::new(2).broken(&heads), Some((2, Fault::CutOff)));
    assert_eq!(Folder::new(0).broken(&heads), Some((2, Fault::CutOff)));
    // It may have grown since.
    assert_eq!(Folder::new(5).broken(&heads), None);
}

#[test]
fn what_is_no_manifest_is_said() {
    let folder = Folder::new(2);
    folder.write("_manifests/t/0/2.json", b"{}");
    let report = folder.check(&Heads::default());
    assert!(report.is_damaged());
    let line = "DAMAGED: _manifests/t/0/2.json is no manifest's name\n";
    assert!(report.text().contains(line), "{}", report.text());
    let folder = Folder::new(2);
    folder.write(&manifest_name("t", 0, 1), b"{\"version\":1}");
    let (at, fault) = folder.broken(&Heads::default()).unwrap();
    assert!(matches!(fault, Fault::Unreadable(_)) && at == 1, "{fault}");
    let folder = Folder::new(2);
    folder.write(&manifest_name("t", 0, 1), &vec![b' '; (16 << 20) + 1]);
    let (at, fault) = folder.broken(&Heads::default()).unwrap();
    assert!(matches!(fault, Fault::Unreadable(_)) && at == 1, "{fault}");
}

#[test]
fn many_objects_without_a_manifest_are_some_names_and_a_number() {
    let folder = Folder::new(1);
    for i in 10..35 {
        folder.write(&format!("t/more-{i}"), b"");
    }
    let text = folder.check(&Heads::default()).text();
    assert_eq!(text.matches("no manifest names it").count(), 10, "{text}");
    assert!(text.contains("so it is with 15 more"), "{text}");
}
