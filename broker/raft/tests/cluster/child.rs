//! Runs a simulation in a process of its own, in which nothing is random but its seed: the same seed is the
//! same history, to the bit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const SEED: &str = "OTTLA_SIM_CHILD";
const ANSWER: &str = "simulated: ";

/// What a seed came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of everything that was seen from outside, with its time.
    pub digest: u64,
    pub acknowledged: u64,
    /// Membership changes that were made.
    pub changes: u64,
}

/// The seed that this process is to run.
pub fn seed() -> Option<u64> {
    std::env::var(SEED).ok()?.parse().ok()
}

pub fn answer(answer: &Answer) {
    let Answer {
        digest,
        acknowledged,
        changes,
    } = answer;
    println!("{ANSWER}{digest} {acknowledged} {changes}");
}

/// Runs `seed` by `test`, which is asked for it by [`seed`].
pub fn run(test: &str, seed: u64) -> Answer {
    let this = std::env::current_exe().expect("a test knows its program");
    let done = Command::new(this)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SEED, seed.to_string())
        .env("LD_PRELOAD", library())
        .output()
        .expect("the test's program runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let found = said.split_once(ANSWER).and_then(|(_, rest)| {
        let mut numbers = rest.split_whitespace().map(|n| n.parse().ok());
        Some(Answer {
            digest: numbers.next()??,
            acknowledged: numbers.next()??,
            changes: numbers.next()??,
        })
    });
    match (done.status.success(), found) {
        (true, Some(found)) => found,
        _ => {
            let errors = String::from_utf8_lossy(&done.stderr);
            panic!("seed {seed} (OTTLA_SIM_SEED={seed} runs it alone): {said}{errors}")
        }
    }
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_folder, library) = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = folder.path().join("fixed_random.so");
        // As cargo says when it runs the test: one target directory may serve several checkouts.
        let package = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
        let source = Path::new(&package).join("tests/cluster/fixed_random.c");
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"])
            .args([&library, &source])
            .output()
            .expect("cc runs: the build needs it, too");
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{errors}");
        (folder, library)
    });
    library
}
