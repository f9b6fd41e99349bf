//! `ottla doctor`: a folder that a broker left is whole, whatever ended it; a damaged one is said to be
//! so, with the place; and no folder makes it panic or is changed by it.

mod damage;
mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ottla_tests::broker::{Broker, binary};
use ottla_tests::client::{Connection, Topic};
use ottla_tests::damage::flush;
use ottla_tests::history::batch;

pub const TOPIC: &str = "doctor";
pub const PARTITIONS: i32 = 3;
pub const WHOLE: i32 = 0;
pub const DAMAGED: i32 = 1;
pub const NOT_CHECKED: i32 = 2;

/// What the doctor said: its exit code, and all it printed.
pub struct Verdict {
    pub code: i32,
    pub text: String,
}

impl Verdict {
    #[track_caller]
    pub fn assert(self, code: i32, named: &[&str]) -> Verdict {
        assert_eq!(self.code, code, "{}", self.text);
        for word in named {
            assert!(
                self.text.contains(word),
                "{word:?} is not in: {}",
                self.text
            );
        }
        self
    }
}

pub fn doctor_with(folder: &Path, flags: &[&str]) -> Verdict {
    let run = Command::new(binary())
        .arg("doctor")
        .args(flags)
        .arg(folder)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = run.expect("the doctor runs");
    let stdout = String::from_utf8(stdout).expect("text");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(
        !stdout.contains('\r') && !stderr.contains('\r'),
        "a progress bar"
    );
    let code = status
        .code()
        .unwrap_or_else(|| panic!("{status}: {stderr}"));
    Verdict {
        code,
        text: stdout + &stderr,
    }
}

pub fn doctor(broker: &Broker) -> Verdict {
    doctor_with(&broker.data(), &[])
}

pub async fn connect(broker: &Broker) -> Connection {
    Connection::open(broker.address)
        .await
        .expect("the broker is up")
}

pub async fn create(broker: &Broker, name: &str, configs: &[(&str, &str)]) {
    let topic = Topic {
        name,
        partitions: PARTITIONS,
        configs,
    };
    let created = connect(broker).await.create_topic(topic).await;
    created.expect("a topic");
}

/// Records `numbers` to every partition, below and above what goes into a blob file.
pub async fn produce(broker: &Broker, topic: &str, numbers: std::ops::Range<u64>) {
    let mut connection = connect(broker).await;
    for number in numbers {
        for partition in 0..PARTITIONS {
            let size = [40, 300, 3000, 40_000][number as usize % 4];
            let sent = connection.produce(topic, partition, batch(number, partition, size));
            assert_eq!(sent.await.expect("answered").error_code, 0);
        }
    }
}

pub fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Every file below a folder, with its bytes.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => {
                all.insert(path.clone(), Vec::new());
                all.extend(contents(&path));
            }
            false => drop(all.insert(path.clone(), fs::read(&path).expect("readable"))),
        }
    }
    all
}
