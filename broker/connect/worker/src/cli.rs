//! `ottla connect-standalone`, `ottla connect-distributed` and `ottla connector`.

mod remote;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use ottla_connect::config::{ConfigValue, Props, files};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::distributed::Distributed;
use crate::herder::Herder;
use crate::rest;
use crate::standalone::Standalone;
use crate::system::read_text;
use crate::worker::{Mode, Worker, WorkerError};

/// What `ottla connector` does.
#[derive(Subcommand)]
pub enum ConnectorCommand {
    /// Check a connector's file, and print each key that is wrong. Exit code 0: nothing is.
    Validate {
        /// .properties, or JSON as Kafka Connect or MSK Connect take it.
        file: PathBuf,
    },
    /// Names of the connectors of a worker, with their states.
    List {
        #[command(flatten)]
        worker: Rest,
    },
    /// A connector's state and its tasks', with what failed. Exit code 1: something has.
    Status {
        name: String,
        #[command(flatten)]
        worker: Rest,
    },
    /// Restart the tasks of a connector.
    Restart {
        name: String,
        /// Only tasks that have failed.
        #[arg(long)]
        only_failed: bool,
        #[command(flatten)]
        worker: Rest,
    },
    /// How far a connector is behind, by topic-partition.
    Lag {
        name: String,
        #[command(flatten)]
        worker: Rest,
    },
}

/// Which worker to ask.
#[derive(Args)]
pub struct Rest {
    /// Its REST API.
    #[arg(long = "url", default_value = "http://localhost:8083")]
    url: String,
}

type Outcome = Result<ExitCode, String>;

/// Runs a worker until SIGTERM or SIGINT.
pub fn standalone(worker: &Path, connectors: &[PathBuf]) -> ExitCode {
    finish(run_standalone(worker, connectors))
}

/// Runs one worker of many until SIGTERM or SIGINT.
pub fn distributed(worker: &Path) -> ExitCode {
    finish(run_distributed(worker))
}

pub fn connector(command: ConnectorCommand) -> ExitCode {
    finish(match command {
        ConnectorCommand::Validate { file } => validate(&file),
        ConnectorCommand::List { worker } => remote::list(&worker.url),
        ConnectorCommand::Status { name, worker } => remote::status(&worker.url, &name),
        ConnectorCommand::Restart {
            name,
            only_failed,
            worker,
        } => remote::restart(&worker.url, &name, only_failed),
        ConnectorCommand::Lag { name, worker } => remote::lag(&worker.url, &name),
    })
}

fn finish(outcome: Outcome) -> ExitCode {
    outcome.unwrap_or_else(|message| {
        for line in message.lines() {
            eprintln!("ottla: {line}");
        }
        ExitCode::FAILURE
    })
}

fn named_text(path: &Path) -> Result<(String, String), String> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|e| format!("{name}: {e}"))?;
    Ok((name, text))
}

fn runtime() -> Result<Runtime, String> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    built.map_err(|e| format!("no threads: {e}"))
}

/// What every worker begins with. From here on a signal stops it in order.
struct Begun {
    name: String,
    runtime: Runtime,
    signals: Signals,
    worker: Arc<Worker>,
    listening: Vec<(String, tokio::net::TcpListener)>,
    /// `host:port` under which others reach the REST API.
    id: String,
}

fn begin(mode: Mode, file: &Path) -> Result<Begun, String> {
    let (name, text) = named_text(file)?;
    let props = files::parse_properties(&name, &text).map_err(|e| e.to_string())?;
    let runtime = runtime()?;
    let signals = runtime.block_on(async { Signals::listen() })?;
    let worker = Worker::new(mode, props, runtime.handle().clone());
    let worker = Arc::new(worker.map_err(|e| format!("{name}:\n{e}"))?);
    let mut listening = Vec::new();
    for address in listeners(&worker)? {
        let bound = runtime.block_on(tokio::net::TcpListener::bind(&address));
        let bound = bound.map_err(|e| format!("listeners: {address}: {e}"))?;
        listening.push((address, bound));
    }
    let id = advertised(
        &worker,
        listening.first().map_or("", |(address, _)| address),
    );
    Ok(Begun {
        name,
        runtime,
        signals,
        worker,
        listening,
        id,
    })
}

impl Begun {
    /// Serves the REST API until a signal, then stops.
    fn serve(self, herder: Arc<dyn Herder>) -> Outcome {
        for (address, listener) in self.listening {
            tracing::info!("REST API at {address}");
            let router = rest::router(herder.clone());
            self.runtime
                .spawn(async move { axum::serve(listener, router).await });
        }
        self.runtime.block_on(self.signals.told_to_stop());
        tracing::info!("stopping");
        herder.stop();
        Ok(ExitCode::SUCCESS)
    }
}

fn run_standalone(worker: &Path, connectors: &[PathBuf]) -> Outcome {
    let texts: Vec<_> = connectors
        .iter()
        .map(|p| named_text(p))
        .collect::<Result<_, _>>()?;
    let pairs: Vec<_> = texts
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    let connectors = files::parse_all(&pairs).map_err(|e| e.to_string())?;
    let begun = begin(Mode::Standalone, worker)?;
    let herder = Arc::new(Standalone::new(begun.worker.clone(), begun.id.clone()));
    for connector in connectors {
        for key in &connector.without_effect {
            tracing::info!("connector {}: {key} has no effect here", connector.name);
        }
        let state = Some(connector.initial_state);
        let put = herder.put(&connector.name, connector.config, state, false);
        put.map_err(|e| format!("connector {}:\n{e}", connector.name))?;
    }
    begun.serve(herder)
}

fn run_distributed(worker: &Path) -> Outcome {
    let begun = begin(Mode::Distributed, worker)?;
    let runtime = begun.runtime.handle().clone();
    let herder = Distributed::start(begun.worker.clone(), begun.id.clone(), runtime);
    let herder = herder.map_err(|e| format!("{}:\n{e}", begun.name))?;
    begun.serve(Arc::new(herder))
}

/// Addresses to listen on; `http://:8083` is all of this machine's.
fn listeners(worker: &Worker) -> Result<Vec<String>, String> {
    let listeners = worker.settings().list("listeners").iter().map(|listener| {
        let address = listener.strip_prefix("http://").ok_or_else(|| {
            format!("listeners: {listener} is not supported: put a proxy with TLS in front")
        })?;
        Ok(match address.strip_prefix(':') {
            Some(port) => format!("0.0.0.0:{port}"),
            None => address.to_owned(),
        })
    });
    listeners.collect()
}

/// How statuses name this worker, and others reach it.
fn advertised(worker: &Worker, address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "8083"));
    let settings = worker.settings();
    let host = match settings.text("rest.advertised.host.name") {
        Some(host) => host.to_owned(),
        // Nobody can connect to all addresses.
        None if ["0.0.0.0", "[::]"].contains(&host) => {
            let name = nix::unistd::gethostname().ok();
            let name = name.and_then(|n| n.into_string().ok());
            name.unwrap_or_else(|| "localhost".into())
        }
        None => host.to_owned(),
    };
    match settings.get("rest.advertised.port") {
        ConfigValue::Long(port) => format!("{host}:{port}"),
        _ => format!("{host}:{port}"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, String> {
        let wrong = |e: std::io::Error| format!("no signals: {e}");
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(wrong)?,
            interrupt: signal(SignalKind::interrupt()).map_err(wrong)?,
        })
    }

    async fn told_to_stop(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The least that a worker needs, for checks without one.
fn any_worker() -> Props {
    let converter = "org.apache.kafka.connect.converters.ByteArrayConverter";
    let pairs = [
        ("bootstrap.servers", "localhost:9092"),
        ("key.converter", converter),
        ("value.converter", converter),
    ];
    pairs
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

fn validate(file: &Path) -> Outcome {
    let (name, text) = named_text(file)?;
    let connector = files::parse(&name, &text).map_err(|e| e.to_string())?;
    let runtime = runtime()?;
    let worker = Worker::new(Mode::Standalone, any_worker(), runtime.handle().clone());
    let infos = worker.and_then(|w| w.validate(&connector.config));
    let infos = match infos {
        Ok(infos) => infos,
        Err(WorkerError::Config(problems)) => {
            for problem in problems {
                println!("{name}: {}", problem.message);
            }
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.to_string()),
    };
    for key in &connector.without_effect {
        println!("{name}: {key} has no effect here");
    }
    for (_, message) in infos.errors() {
        println!("{name}: {message}");
    }
    if infos.error_count > 0 {
        return Ok(ExitCode::FAILURE);
    }
    println!("{name}: connector {} is valid", connector.name);
    Ok(ExitCode::SUCCESS)
}
