//! A broker process: started, killed, restarted, stopped.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::Connection;
use crate::last_lines;

/// A broker that does not answer by then has failed to start.
const START_WAIT: Duration = Duration::from_secs(60);
/// A broker that has not ended by then after SIGTERM does not stop.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// Between two looks at something that only another process changes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A test's settings that differ from the broker's defaults: short waits, small internal topics.
const SETTINGS: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "1"),
    ("ottla.metrics.listener", ""),
];

/// The binary under test: `OTTLA_BIN`, else `ottla` in the folder this test was built into.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OTTLA_BIN") {
        return PathBuf::from(path);
    }
    // target/release/deps/<test> -> target/release/ottla
    let here = std::env::current_exe().expect("a running test has a path");
    let release = here
        .parent()
        .and_then(Path::parent)
        .expect("cargo puts tests into target/<profile>/deps");
    let path = release.join("ottla");
    assert!(
        path.exists(),
        "no broker to test: {} does not exist. Build it (cargo build --release --workspace) or set OTTLA_BIN",
        path.display()
    );
    path
}

/// The address in `OTTLA_REFERENCE`: tests that neither restart nor configure their broker then ask
/// that one, which is how their expectations are checked against Apache Kafka.
fn reference() -> Option<SocketAddr> {
    let address = std::env::var("OTTLA_REFERENCE").ok()?;
    Some(address.parse().unwrap_or_else(|_| {
        panic!("OTTLA_REFERENCE={address}: not an address like 127.0.0.1:9092")
    }))
}

/// Whether [`Broker::start`] gives a broker that is not ours.
pub fn is_reference() -> bool {
    reference().is_some()
}

/// A broker on a port of its own, with a data folder that goes away with it.
pub struct Broker {
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    overrides: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where the data lies, if not in the folder.
    data: Option<PathBuf>,
    /// The network namespace that it runs in, if not the test's.
    namespace: Option<String>,
    child: Option<Child>,
}

impl Broker {
    pub async fn start() -> Broker {
        match reference() {
            None => Broker::start_with(&[]).await,
            Some(address) => {
                let mut broker = Broker::prepare(&[]);
                broker.address = address;
                broker
            }
        }
    }

    pub async fn start_with(overrides: &[(&str, &str)]) -> Broker {
        let mut broker = Broker::prepare(overrides);
        broker.restart().await;
        broker
    }

    /// A folder and a port, and no process yet.
    pub fn prepare(overrides: &[(&str, &str)]) -> Broker {
        let folder = tempfile::Builder::new()
            .prefix("ottla-test-")
            .tempdir()
            .expect("a temporary folder");
        let settings = SETTINGS.iter().chain(overrides);
        let overrides = settings
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        Broker {
            address: free_address(),
            folder,
            overrides,
            environment: Vec::new(),
            data: None,
            namespace: None,
            child: None,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.data
            .clone()
            .unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// Keeps the data elsewhere: on a disk made for the test.
    pub fn set_data(&mut self, folder: PathBuf) {
        self.data = Some(folder);
    }

    /// Runs in a network namespace, and ends with this process however that ends.
    pub fn set_namespace(&mut self, name: String) {
        self.namespace = Some(name);
    }

    /// One more setting for the next start; the last of a key counts.
    pub fn set(&mut self, key: &str, value: &str) {
        self.overrides.push(format!("{key}={value}"));
    }

    /// One more environment variable for the next start.
    pub fn set_environment(&mut self, key: &str, value: &str) {
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Starts the broker again on the same port and data, and waits until it answers.
    pub async fn restart(&mut self) {
        self.spawn();
        self.wait_until_up().await;
    }

    /// Starts the process and returns at once.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the broker runs");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log file opens");
        let mut command = self.command();
        command
            .arg("server")
            .env_remove("KAFKA_OPTS")
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .current_dir(self.folder.path());
        let own = [
            format!("listeners=PLAINTEXT://{}", self.address),
            format!("log.dirs={}", self.data().display()),
        ];
        for setting in own.iter().chain(&self.overrides) {
            command.args(["--override", setting]);
        }
        let errors = log.try_clone().expect("the log file opens twice");
        let spawned = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn();
        self.child = Some(spawned.unwrap_or_else(|e| panic!("{}: {e}", binary().display())));
    }

    /// The process will be the broker itself, wherever it runs.
    fn command(&self) -> Command {
        let Some(namespace) = &self.namespace else {
            return Command::new(binary());
        };
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{namespace}"))
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(binary());
        command
    }

    /// Waits until the broker answers ApiVersions.
    pub async fn wait_until_up(&mut self) {
        let began = Instant::now();
        while let Err(error) = self.ask().await {
            if let Some(status) = self.exited() {
                panic!(
                    "the broker ended with {status} at its start:\n{}",
                    self.log_tail()
                );
            }
            if began.elapsed() > START_WAIT {
                panic!(
                    "no answer {START_WAIT:?} after the start ({error}):\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the broker answers, or has ended by itself.
    pub async fn up_or_ended(&mut self) -> Result<(), ExitStatus> {
        let began = Instant::now();
        while self.ask().await.is_err() {
            if let Some(status) = self.exited() {
                self.child = None;
                return Err(status);
            }
            assert!(
                began.elapsed() < START_WAIT,
                "neither up nor ended after {START_WAIT:?}:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn ask(&self) -> Result<(), crate::client::ClientError> {
        let mut connection = Connection::open(self.address).await?;
        connection.api_versions().await.map(drop)
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().expect("our own child can be waited for"))
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// SIGKILL: nothing that was not on its way to the disk gets there.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the broker runs");
        child.kill().expect("our own child can be killed");
        let status = child.wait().expect("our own child can be waited for");
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(
            signal,
            Some(9),
            "the broker had ended by itself with {status}:\n{}",
            self.log_tail()
        );
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            assert!(
                began.elapsed() < STOP_WAIT,
                "still there after {STOP_WAIT:?}:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// SIGTERM; the broker must end by itself, in bounded time, with exit status 0.
    pub async fn terminate(&mut self) {
        self.signal_terminate();
        self.wait_until_ended().await;
    }

    /// SIGTERM, and nothing else.
    pub fn signal_terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32);
        kill(pid, signal).expect("our own child takes signals");
    }

    /// Waits for the end after SIGTERM: by itself, in bounded time, with exit status 0.
    pub async fn wait_until_ended(&mut self) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.exited() {
                break status;
            }
            assert!(
                began.elapsed() < STOP_WAIT,
                "SIGTERM, and still there after {STOP_WAIT:?}:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        self.child = None;
        assert!(
            status.success(),
            "SIGTERM ended the broker with {status}:\n{}",
            self.log_tail()
        );
    }

    /// SIGSTOP: the process holds still, its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT: it goes on, and does not know that time has passed.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Another disk: the data is gone. The process has ended.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "the broker runs");
        std::fs::remove_dir_all(self.data()).expect("a broker's data can be removed");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    /// Memory that the process holds now.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most it has held since [`Broker::reset_peak`].
    pub fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Forgets the highest memory use so far (proc(5), clear_refs 5).
    pub fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")
            .expect("our own child's peak can be reset");
    }

    /// What the process has given to block devices since it started (proc(5), io).
    pub fn written_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid()))
            .expect("the broker runs, and is ours");
        let field = |line: &str| line.strip_prefix("write_bytes: ")?.parse().ok();
        io.lines()
            .find_map(field)
            .expect("Linux tells what it wrote")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the broker runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .expect("Linux tells memory use");
        let kilobytes: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number of kB");
        kilobytes * 1024
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path())
            .unwrap_or_else(|error| format!("the log cannot be read: {error}"))
    }

    pub fn log_tail(&self) -> String {
        last_lines(&self.log(), 40)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the broker's log\n{}\n---", self.log_tail());
            self.folder.disable_cleanup(true);
            eprintln!("its folder is kept: {}", self.folder.path().display());
        }
    }
}

/// An address that nobody listens on, below the ports that outgoing connections take: the broker is
/// restarted on it, and must find it free again.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 11_000;
    const COUNT: u16 = 8_000;
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step.wrapping_mul(7)) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        match TcpListener::bind(address) {
            Ok(_) => return address,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("{address}: {error}"),
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}

/// Raises this process's limit of open files as far as it may go, and says how far that is.
pub fn raise_open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a soft limit may rise to the hard one");
    hard
}
