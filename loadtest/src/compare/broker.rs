//! What is compared: how each broker is configured, started and recognised as ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cluster::Node;
use super::kafka::{KAFKA_VERSION, class_path};
use super::process::Process;
use crate::args::CompareArgs;
use crate::error::{LoadError, Result};

pub const START_TIMEOUT_MS: u64 = 120_000;
const PROPERTIES: &str = "server.properties";
const LOG: &str = "broker.log";
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

    /// Writes a node's properties into `folder`, which is empty, and formats it where that is needed.
    pub async fn prepare(&self, nodes: &[Node], node: &Node, folder: &Path) -> Result<()> {
        let text = server_properties(nodes, node, folder, self.own_properties());
        let properties = folder.join(PROPERTIES);
        fs::write(&properties, text)
            .map_err(|cause| LoadError::system("cannot write server.properties", cause))?;
        if let Kind::Kafka { .. } = self.kind {
            let format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"];
            let command = self.java(&format, &properties);
            let log = folder.join(LOG);
            let process = Process::spawn(&command, Some(&log), &self.environment())?;
            finish(process, &log).await?;
        }
        Ok(())
    }

    /// Starts the broker of a folder that was prepared.
    pub fn spawn(&self, folder: &Path) -> Result<Process> {
        let properties = folder.join(PROPERTIES);
        let command = match &self.kind {
            Kind::Kafka { .. } => self.java(&["kafka.Kafka"], &properties),
            Kind::Ottla { binary } => {
                let file = properties.display().to_string();
                vec![binary.display().to_string(), "server".into(), file]
            }
        };
        Process::spawn(&command, Some(&folder.join(LOG)), &self.environment())
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

/// Combined brokers and controllers, and Kafka's defaults for everything else. The replication factors
/// of internal topics are what so many brokers can have.
fn server_properties(nodes: &[Node], node: &Node, folder: &Path, extra: Vec<String>) -> String {
    let voters: Vec<String> = nodes
        .iter()
        .map(|node| format!("{}@{}", node.id, node.controller))
        .collect();
    let (client, controller) = (&node.client, &node.controller);
    let factor = nodes.len().min(3);
    let mut lines = vec![
        "process.roles=broker,controller".to_string(),
        format!("node.id={}", node.id),
        format!("controller.quorum.voters={}", voters.join(",")),
        format!("listeners=PLAINTEXT://{client},CONTROLLER://{controller}"),
        format!("advertised.listeners=PLAINTEXT://{client}"),
        "controller.listener.names=CONTROLLER".to_string(),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_string(),
        format!("offsets.topic.replication.factor={factor}"),
        format!("transaction.state.log.replication.factor={factor}"),
        format!("transaction.state.log.min.isr={}", factor.min(2)),
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
        let node = |id, client: &str, controller: &str| Node {
            id,
            client: client.into(),
            controller: controller.into(),
        };
        let nodes = [
            node(1, "127.0.0.1:1", "127.0.0.1:2"),
            node(2, "127.0.0.1:3", "127.0.0.1:4"),
        ];
        let text = server_properties(&nodes, &nodes[0], Path::new("/x"), extra);
        assert!(
            text.contains("\nlog.dirs=/x/data\nlog.flush.interval.messages=1\n"),
            "{text}"
        );
        assert!(text.contains("listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n"));
        assert!(text.contains("controller.quorum.voters=1@127.0.0.1:2,2@127.0.0.1:4\n"));
        assert!(text.contains("offsets.topic.replication.factor=2\n"));
    }
}
