//! The command line.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use ottla_connect_worker::audit::{self, AuditCommand};
use ottla_connect_worker::cli::ConnectorCommand;
use ottla_proto::config::{self, LogFormat, ServerConfig, properties::MAX_FILE_BYTES};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, BrokerCommand};
use crate::doctor;
use crate::progress::Progress;
use crate::server::Server;
use crate::telemetry;

/// An event backbone for Kafka clients: every acknowledged record is replicated and synced to disk.
#[derive(Parser)]
#[command(name = "ottla", version, disable_help_subcommand = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker. Without a file: 127.0.0.1:9092, data under ./ottla-data.
    Server {
        /// Kafka's server.properties (KRaft). KAFKA_* environment variables override it.
        file: Option<PathBuf>,
        /// Overrides file and environment; may be given several times.
        #[arg(long = "override", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// Print every configuration key: what it does, its default, and whether it has an effect.
    Config,
    /// Check a data folder that no broker has open. Reads all of it, writes nothing.
    ///
    /// Checks every checksum, that offsets are dense, and what is stored against the log. Exit code 0: whole;
    /// 1: damage was found, and is listed; 2: it could not be checked (in use, or not a data folder).
    Doctor {
        /// The data folder: `log.dirs` of its broker.
        dir: PathBuf,
        /// List every partition, not only damaged ones, however many there are.
        #[arg(long)]
        all: bool,
        /// Print one JSON object instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Look after the brokers of a running cluster.
    Broker {
        #[command(subcommand)]
        command: BrokerCommand,
    },
    /// Run connectors: a worker of Kafka Connect's standalone mode, without a JVM.
    ConnectStandalone {
        /// Kafka Connect's worker.properties.
        worker: PathBuf,
        /// Connectors: .properties, or JSON as Kafka Connect or MSK Connect take it.
        connectors: Vec<PathBuf>,
    },
    /// Run connectors together with other workers: Kafka Connect's distributed mode, without a JVM.
    ///
    /// Workers with the same `group.id` share the connectors that are made by REST, and keep them in topics.
    ConnectDistributed {
        /// Kafka Connect's worker.properties.
        worker: PathBuf,
    },
    /// Check connectors' files, and look after running connectors.
    Connector {
        #[command(subcommand)]
        command: ConnectorCommand,
    },
    /// Prove what connectors have delivered, offline.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
}

pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Server { file, overrides } => serve(file.as_deref(), &overrides),
        Command::Config => {
            // A closed pipe (`| head`) is no error.
            let _ = io::stdout().write_all(config::reference_markdown().as_bytes());
            ExitCode::SUCCESS
        }
        Command::Doctor { dir, all, json } => doctor::run(&dir, all, json),
        Command::Broker { command } => admin::run(command),
        Command::ConnectStandalone { worker, connectors } => {
            telemetry::start_logs(LogFormat::Auto);
            ottla_connect_worker::cli::standalone(&worker, &connectors)
        }
        Command::ConnectDistributed { worker } => {
            telemetry::start_logs(LogFormat::Auto);
            ottla_connect_worker::cli::distributed(&worker)
        }
        Command::Connector { command } => ottla_connect_worker::cli::connector(command),
        Command::Audit { command } => {
            let progress = Progress::new(io::stderr().is_terminal());
            audit::run(command, Arc::new(progress))
        }
    }
}

fn serve(file: Option<&Path>, overrides: &[String]) -> ExitCode {
    let loaded = read(file).and_then(|text| {
        let name = file.map(|f| f.display().to_string()).unwrap_or_default();
        let file = text.as_deref().map(|text| (name.as_str(), text));
        ServerConfig::load(file, environment()?, overrides).map_err(|e| e.to_string())
    });
    let (config, notices) = match loaded {
        Ok(loaded) => loaded,
        Err(message) => return fail(&message),
    };
    telemetry::start_logs(config.log_format);
    if let Some(line) = config::notices_line(&notices) {
        tracing::info!("{line}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads: {error}")),
    };
    runtime.block_on(run_server(config))
}

async fn run_server(config: ServerConfig) -> ExitCode {
    let signals =
        signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("no signals: {error}")),
    };
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => return fail(&error.to_string()),
    };
    let _ = io::stdout().write_all(screen(&server.config).as_bytes());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    server.stop().await;
    tracing::info!("stopped; everything is on disk");
    ExitCode::SUCCESS
}

/// What a person needs to know after a start.
fn screen(config: &ServerConfig) -> String {
    let mut text = format!("Ottla {} is up.\n\n", env!("CARGO_PKG_VERSION"));
    let addresses: Vec<String> = config
        .listeners
        .advertised
        .iter()
        .map(|l| format!("{}:{}", l.host, l.port))
        .collect();
    let data = std::path::absolute(&config.log_dir).unwrap_or_else(|_| config.log_dir.clone());
    let _ = writeln!(text, "  clients  {}", addresses.join(", "));
    let _ = writeln!(text, "  data     {}", data.display());
    if let Some(metrics) = &config.metrics_listener {
        let _ = writeln!(
            text,
            "  metrics  http://{}:{}/metrics",
            metrics.host, metrics.port
        );
    }
    if let Some(address) = addresses.first() {
        let _ = writeln!(text, "\nSend a first message, then read it back:\n");
        let _ = writeln!(text, "  echo hello | kcat -b {address} -t greetings -P");
        let _ = writeln!(
            text,
            "  kcat -b {address} -t greetings -C -o beginning -e\n"
        );
    }
    text
}

/// The file's text. More than a configuration can be is not read.
fn read(file: Option<&Path>) -> Result<Option<String>, String> {
    let Some(path) = file else { return Ok(None) };
    let mut text = String::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    let read = std::fs::File::open(path).and_then(|f| f.take(limit).read_to_string(&mut text));
    read.map_err(|e| format!("{}: {e}", path.display()))?;
    if text.len() > MAX_FILE_BYTES {
        return Err(format!(
            "{}: longer than {MAX_FILE_BYTES} bytes",
            path.display()
        ));
    }
    Ok(Some(text))
}

/// The variables that may be settings. One of those that is not UTF-8 would be a setting without
/// effect.
fn environment() -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.push((name, value)),
            (Ok(name), Err(_)) if name.starts_with("KAFKA_") => {
                return Err(format!("{name}: its value is not UTF-8"));
            }
            (Err(name), _) if name.as_encoded_bytes().starts_with(b"KAFKA_") => {
                return Err(format!("{}: its name is not UTF-8", name.display()));
            }
            _ => {}
        }
    }
    Ok(variables)
}

fn fail(message: &str) -> ExitCode {
    for line in message.lines() {
        eprintln!("ottla: {line}");
    }
    ExitCode::FAILURE
}
