//! What is compared: how each broker is configured, started and recognised as ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::kafka::{KAFKA_VERSION, class_path};
use super::process::Process;
use crate::args::CompareArgs;
use crate::error::{LoadError, Result};
use crate::scenario::start::{first_answer, free_address};

const START_TIMEOUT_MS: u64 = 120_000;
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

pub struct Contender {
    /// Names columns, folders and JSON members.
    pub name: &'static str,
    pub label: String,
    kind: Kind,
    properties: Vec<String>,
}

enum Kind {
    Kafka {
        java: String,
        heap: String,
        class_path: String,
    },
    Ottla {
        binary: PathBuf,
    },
}

/// A broker that answers.
pub struct Running {
    pub process: Process,
    pub address: String,
    /// From the start of the process to its first answer; formatting is not counted.
    pub start_ms: f64,
}

impl Contender {
    pub async fn kafka(args: &CompareArgs) -> Result<Contender> {
        let class_path = class_path().await?;
        let (java, heap) = (args.java.clone(), args.kafka_heap.clone());
        Ok(Contender {
            name: "kafka",
            label: format!(
                "Apache Kafka {KAFKA_VERSION}{}",
                words(&args.kafka_properties)
            ),
            kind: Kind::Kafka {
                java,
                heap,
                class_path,
            },
            properties: args.kafka_properties.clone(),
        })
    }

    pub fn ottla(args: &CompareArgs) -> Result<Contender> {
        let binary = args.ottla_bin.clone().unwrap_or_default();
        if !binary.is_file() {
            let what = format!(
                "--ottla-bin {}: no such file, build it first",
                binary.display()
            );
            return Err(LoadError::Usage(what));
        }
        Ok(Contender {
            name: "ottla",
            label: format!("Ottla{}", words(&args.ottla_properties)),
            kind: Kind::Ottla { binary },
            properties: args.ottla_properties.clone(),
        })
    }

    /// Starts a broker on `folder`, which is empty.
    pub async fn start(&self, folder: &Path, progress: bool) -> Result<Running> {
        let (client, controller) = (free_address()?, free_address()?);
        let (address, controller) = (client.to_string(), controller.to_string());
        let properties = folder.join("server.properties");
        let log = folder.join("broker.log");
        let text = server_properties(&address, &controller, folder, self.own_properties());
        fs::write(&properties, text)
            .map_err(|cause| LoadError::system("cannot write server.properties", cause))?;
        if progress {
            eprintln!("starting {} on {address}", self.label);
        }
        if let Kind::Kafka { .. } = self.kind {
            let format = self.java(
                &["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"],
                &properties,
            );
            finish(
                Process::spawn(&format, Some(&log), &self.environment())?,
                &log,
            )
            .await?;
        }
        let command = match &self.kind {
            Kind::Kafka { .. } => self.java(&["kafka.Kafka"], &properties),
            Kind::Ottla { binary } => {
                let file = properties.display().to_string();
                vec![binary.display().to_string(), "server".into(), file]
            }
        };
        let start = Instant::now();
        let mut process = Process::spawn(&command, Some(&log), &self.environment())?;
        let deadline = start + Duration::from_millis(START_TIMEOUT_MS);
        first_answer(&address, &mut process, deadline).await?;
        let start_ms = start.elapsed().as_secs_f64() * 1000.0;
        Ok(Running {
            process,
            address,
            start_ms,
        })
    }

    fn own_properties(&self) -> Vec<String> {
        let mut own = match self.kind {
            Kind::Kafka { .. } => Vec::new(),
            // The default port may be taken by a broker that runs beside.
            Kind::Ottla { .. } => vec!["ottla.metrics.listener=".to_string()],
        };
        own.extend(self.properties.iter().cloned());
        own
    }

    fn java(&self, arguments: &[&str], properties: &Path) -> Vec<String> {
        let Kind::Kafka { java, heap, .. } = &self.kind else {
            return Vec::new();
        };
        let mut command = vec![
            java.clone(),
            format!("-Xmx{heap}"),
            format!("-Xms{heap}"),
            "-XX:+UseG1GC".into(),
        ];
        command.extend(arguments.iter().map(|argument| argument.to_string()));
        command.push(properties.display().to_string());
        command
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        match &self.kind {
            Kind::Kafka { class_path, .. } => vec![("CLASSPATH", class_path.clone())],
            Kind::Ottla { .. } => Vec::new(),
        }
    }
}

fn words(properties: &[String]) -> String {
    if properties.is_empty() {
        String::new()
    } else {
        format!(" ({})", properties.join(", "))
    }
}

/// One combined broker and controller, and Kafka's defaults for everything else. The replication
/// factors of internal topics are what a single broker needs.
fn server_properties(address: &str, controller: &str, folder: &Path, extra: Vec<String>) -> String {
    let mut lines = vec![
        "process.roles=broker,controller".to_string(),
        "node.id=1".to_string(),
        format!("controller.quorum.voters=1@{controller}"),
        format!("listeners=PLAINTEXT://{address},CONTROLLER://{controller}"),
        format!("advertised.listeners=PLAINTEXT://{address}"),
        "controller.listener.names=CONTROLLER".to_string(),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_string(),
        "offsets.topic.replication.factor=1".to_string(),
        "transaction.state.log.replication.factor=1".to_string(),
        "transaction.state.log.min.isr=1".to_string(),
        format!("log.dirs={}", folder.join("data").display()),
    ];
    lines.extend(extra);
    lines.join("\n") + "\n"
}

/// Waits for a process that does its work and ends.
async fn finish(mut process: Process, log: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(START_TIMEOUT_MS);
    loop {
        match process.exit_status()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let what = format!("formatting failed ({status}): see {}", log.display());
                return Err(LoadError::Usage(what));
            }
            None if Instant::now() > deadline => {
                return Err(LoadError::Timeout("formatting does not end".to_string()));
            }
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_properties_override() {
        let extra = vec!["log.flush.interval.messages=1".to_string()];
        let text = server_properties("127.0.0.1:1", "127.0.0.1:2", Path::new("/x"), extra);
        assert!(
            text.contains("\nlog.dirs=/x/data\nlog.flush.interval.messages=1\n"),
            "{text}"
        );
        assert!(text.contains("listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n"));
    }
}
