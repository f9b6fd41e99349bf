//! Runs a simulation in a process of its own, in which nothing is random but its seed: the same seed is the
//! same history, to the bit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const ASKED: &str = "OTTLA_SIM_CHILD";
const ANSWER: &str = "OTTLA_SIM_ANSWER";

/// What this process is to simulate, if it was started by [`run`].
pub fn asked() -> Option<String> {
    std::env::var(ASKED).ok()
}

/// A number in an environment variable.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

/// What the simulation came to, for who asked for it.
pub fn answer(text: &str) {
    let path = std::env::var_os(ANSWER).expect("who asks says where to answer");
    fs::write(path, text).expect("the answer is written");
}

/// Has `test` of this program, which looks at [`asked`] first, simulate what `asked` says.
///
/// # Errors
/// What the process printed, if it ends without an answer.
pub fn run(test: &str, asked: &str) -> Result<String, String> {
    let this = std::env::current_exe().expect("a test knows its program");
    let tools = tools();
    let answer = tempfile::NamedTempFile::new_in(&tools.folder).expect("a temporary file");
    let done = Command::new(this)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ASKED, asked)
        .env(ANSWER, answer.path())
        .env("LD_PRELOAD", &tools.library)
        .output()
        .expect("the test's program runs");
    let text = fs::read_to_string(answer.path()).expect("the answer is text");
    match done.status.success() && !text.is_empty() {
        true => Ok(text),
        false => {
            let said = String::from_utf8_lossy(&done.stdout);
            let errors = String::from_utf8_lossy(&done.stderr);
            Err(format!("{}\n{said}{errors}", done.status))
        }
    }
}

struct Tools {
    folder: tempfile::TempDir,
    library: PathBuf,
}

fn tools() -> &'static Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = build(folder.path());
        Tools { folder, library }
    })
}

fn build(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("random.c"), folder.join("random.so"));
    fs::write(&source, include_str!("fixed_random.c")).expect("the source is written");
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"])
        .args([&library, &source])
        .output()
        .expect("cc runs: the build needs it, too");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    library
}
