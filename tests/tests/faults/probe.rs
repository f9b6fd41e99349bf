//! The failing disk against a model: after a loss of power exactly what was synced is there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use ottla_tests::disk::{Disk, POWER_LOST, kind, probe};
use ottla_tests::random::Random;

struct Probe {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Probe {
    fn start(disk: &Disk, folder: &Path) -> Probe {
        let mut child = Command::new(probe())
            .arg(folder)
            .envs(disk.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the probe starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Probe {
            child,
            input,
            output,
        }
    }

    /// Does one operation; its errno.
    fn does(&mut self, operation: &str) -> i32 {
        writeln!(self.input, "{operation}").expect("the probe listens");
        let mut answer = String::new();
        self.output
            .read_line(&mut answer)
            .expect("the probe answers");
        answer.trim().parse().expect("an errno")
    }
}

/// What is on a disk, now and synced. A file's data is synced apart from its name.
#[derive(Default)]
struct Model {
    files: Vec<(Vec<u8>, Vec<u8>)>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
}

impl Model {
    fn file(&mut self, name: &str) -> usize {
        if let Some(file) = self.names.get(name) {
            return *file;
        }
        self.files.push(Default::default());
        self.names.insert(name.to_owned(), self.files.len() - 1);
        self.files.len() - 1
    }

    fn write(&mut self, name: &str, at: usize, bytes: &[u8]) {
        let file = self.file(name);
        let data = &mut self.files[file].0;
        data.resize(data.len().max(at + bytes.len()), 0);
        data[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn survivors(&self) -> BTreeMap<String, Vec<u8>> {
        let synced = |(name, file): (&String, &usize)| (name.clone(), self.files[*file].1.clone());
        self.synced_names.iter().map(synced).collect()
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn step(probe: &mut Probe, model: &mut Model, random: &mut Random) {
    let name = NAMES[random.below(4) as usize];
    let exists = model.names.contains_key(name);
    let operation = match random.below(9) {
        0 | 1 => {
            let at = random.below(10_000) as usize;
            let text = vec![b'a' + random.below(26) as u8; 1 + random.below(3000) as usize];
            model.write(name, at, &text);
            format!("write {name} {at} {}", String::from_utf8_lossy(&text))
        }
        2 => {
            let (at, letter) = (
                4096 * random.below(4) as usize,
                b'A' + random.below(26) as u8,
            );
            model.write(name, at, &[letter; 4096]);
            format!("direct {name} {at} {}", char::from(letter))
        }
        3 if exists => {
            let size = random.below(12_000) as usize;
            let file = model.file(name);
            model.files[file].0.resize(size, 0);
            format!("cut {name} {size}")
        }
        4 | 5 if exists => {
            let file = model.file(name);
            model.files[file].1 = model.files[file].0.clone();
            format!("sync {name}")
        }
        6 => {
            model.synced_names = model.names.clone();
            "sync_folder".to_owned()
        }
        7 if exists => {
            model.names.remove(name);
            format!("remove {name}")
        }
        8 if exists => {
            let to = NAMES[random.below(4) as usize];
            if let Some(file) = model.names.remove(name) {
                model.names.insert(to.to_owned(), file);
            }
            format!("rename {name} {to}")
        }
        _ => return,
    };
    assert_eq!(probe.does(&operation), 0, "{operation}");
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("our own names");
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(|e| read(e.expect("an entry"))).collect()
}

#[test]
fn exactly_what_is_synced_survives() {
    let seed = Random::seed();
    println!("OTTLA_SEED={seed}");
    let mut random = Random::new(seed);
    for round in 0..60 {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("root");
        fs::create_dir(&folder).expect("a folder");
        let disk = Disk::new(&folder);
        disk.can_lose_power();
        let mut probe = Probe::start(&disk, &folder);
        let mut model = Model::default();
        for _ in 0..random.below(80) {
            step(&mut probe, &mut model, &mut random);
        }
        disk.lose_power(0);
        let status = probe.child.wait().expect("our own child");
        assert_eq!(status.code(), Some(POWER_LOST));
        assert!(
            contents(&folder) == model.survivors(),
            "round {round}: not what was synced"
        );
    }
}

#[test]
fn failures_come_as_ordered_and_end() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let folder = parent.path().join("root");
    fs::create_dir(&folder).expect("a folder");
    let disk = Disk::new(&folder);
    let mut probe = Probe::start(&disk, &folder);
    let (eio, full) = (Errno::EIO as i32, Errno::ENOSPC as i32);
    assert_eq!(probe.does("write 1.log 0 text"), 0);
    disk.fail_syncs(kind::LOG, Errno::EIO, 1);
    assert_eq!(probe.does("sync 1.log"), eio);
    assert_eq!(probe.does("sync 1.log"), 0, "once");
    disk.fail_writes(kind::SST | kind::BLOB, Errno::ENOSPC, u32::MAX);
    assert_eq!(probe.does("write 1.log 0 text"), 0);
    assert_eq!(probe.does("write 2.sst 0 text"), full);
    assert_eq!(probe.does("write 3.blob 0 text"), full);
    assert_eq!((disk.failed_syncs(), disk.failed_writes()), (1, 2));
    disk.heal();
    assert_eq!(probe.does("write 2.sst 0 text"), 0);
    disk.set_quota(100_000);
    assert_eq!(probe.does("direct 4.sst 0 x"), 0);
    assert_eq!(probe.does("direct 4.sst 0 y"), 0, "it does not grow");
    assert_eq!(disk.used_bytes(), 4096);
    assert_eq!(probe.does("cut 4.sst 200000"), full);
    assert_eq!(probe.does("remove 4.sst"), 0);
    assert_eq!(disk.used_bytes(), 0);
}
