//! A worker process.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ottla_tests::broker::binary;
use ottla_tests::broker::free_address;
use ottla_tests::last_lines;

const START_WAIT: Duration = Duration::from_secs(30);

pub struct Worker {
    folder: tempfile::TempDir,
    command: &'static str,
    arguments: Vec<PathBuf>,
    pub rest: SocketAddr,
    child: Option<Child>,
}

impl Worker {
    /// With these connector files. A worker key of `more` overrides the test's own.
    pub fn prepare(broker: SocketAddr, more: &[(&str, &str)], connectors: &[String]) -> Worker {
        let own = "offset.storage.file.filename=/tmp/unused\nconsumer.session.timeout.ms=6000\n";
        Worker::of("connect-standalone", broker, own, more, connectors)
    }

    /// One of those that share `connect-*` topics.
    pub fn distributed(broker: SocketAddr, more: &[(&str, &str)]) -> Worker {
        let mut own = "group.id=workers\nsession.timeout.ms=6000\nheartbeat.interval.ms=500\n\
                       scheduled.rebalance.max.delay.ms=0\n"
            .to_owned();
        for topic in ["config", "offset", "status"] {
            own += &format!(
                "{topic}.storage.topic=connect-{topic}\n{topic}.storage.replication.factor=1\n"
            );
        }
        Worker::of("connect-distributed", broker, &own, more, &[])
    }

    fn of(
        command: &'static str,
        broker: SocketAddr,
        own: &str,
        more: &[(&str, &str)],
        connectors: &[String],
    ) -> Worker {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rest = free_address();
        let converter = "org.apache.kafka.connect.json.JsonConverter";
        let mut text = format!(
            "bootstrap.servers={broker}\nkey.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter={converter}\nvalue.converter.schemas.enable=false\n\
             offset.flush.interval.ms=500\nlisteners=http://{rest}\n{own}ottla.connect.spool.dir={}\n",
            folder.path().join("spool").display()
        );
        for (key, value) in more {
            text += &format!("{key}={value}\n");
        }
        let mut arguments = vec![folder.path().join("worker.properties")];
        std::fs::write(&arguments[0], text).expect("a file");
        for (i, connector) in connectors.iter().enumerate() {
            let path = folder.path().join(format!("connector-{i}"));
            std::fs::write(&path, connector).expect("a file");
            arguments.push(path);
        }
        Worker {
            folder,
            command,
            arguments,
            rest,
            child: None,
        }
    }

    pub fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let log = log.expect("a log");
        let child = Command::new(binary())
            .arg(self.command)
            .args(&self.arguments)
            .env("TEST_SECRET_KEY", super::seaweed::SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the worker starts"));
    }

    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the worker runs");
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            panic!("the worker ended by itself with {status}:\n{}", self.log());
        }
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the worker runs");
        kill(Pid::from_raw(child.id() as i32), signal).expect("our own child takes signals");
    }

    /// Its exit code, when it ends by itself.
    pub fn wait(&mut self) -> i32 {
        let mut child = self.child.take().expect("the worker runs");
        let status = child.wait().expect("our own child can be waited for");
        status.code().unwrap_or(-1)
    }

    /// SIGTERM once it listens, and its exit code.
    pub fn stop(&mut self) -> i32 {
        let began = Instant::now();
        while TcpStream::connect(self.rest).is_err() {
            let log = self.log();
            assert!(
                began.elapsed() < START_WAIT,
                "the worker does not listen:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the worker's log\n{}", last_lines(&self.log(), 60));
        }
    }
}
