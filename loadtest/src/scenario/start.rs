//! `start`: from the start of a broker's process to its first ApiVersions answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Interrupt;
use crate::client::connection::Connection;
use crate::compare::process::Process;
use crate::error::{LoadError, Result};
use crate::json::Json;
use crate::report::{Report, grouped, median};

const RETRY_INTERVAL_MS: u64 = 1;
/// One attempt to connect and ask.
const ATTEMPT_TIMEOUT_MS: u64 = 2_000;

pub struct StartPlan {
    pub bootstrap: String,
    /// Program and arguments.
    pub command: Vec<String>,
    pub runs: usize,
    pub timeout: Duration,
}

pub struct StartResult {
    pub interrupted: bool,
    /// One value per run; the first may be on an empty data folder, the others are not.
    pub first_answer_ms: Vec<f64>,
}

pub async fn run(plan: &StartPlan, interrupt: &Interrupt) -> Result<StartResult> {
    if answers(&plan.bootstrap).await {
        return Err(LoadError::Usage(format!(
            "something answers on {} already: stop it first, or give the --bootstrap of the broker \
             that the command starts",
            plan.bootstrap
        )));
    }
    let mut result = StartResult {
        interrupted: false,
        first_answer_ms: Vec::new(),
    };
    for _ in 0..plan.runs {
        let start = Instant::now();
        let mut process = Process::spawn(&plan.command, None, &[])?;
        let waited = tokio::select! {
            waited = first_answer(&plan.bootstrap, &mut process, start + plan.timeout) => waited,
            () = async { interrupt.clone().wait().await } => break,
        };
        waited?;
        result
            .first_answer_ms
            .push(start.elapsed().as_secs_f64() * 1000.0);
        process.terminate().await?;
    }
    result.interrupted = interrupt.is_set();
    Ok(result)
}

/// Waits until the broker answers ApiVersions; an error if its process ends first.
pub async fn first_answer(address: &str, process: &mut Process, deadline: Instant) -> Result<()> {
    while !answers(address).await {
        process.check_alive()?;
        if Instant::now() > deadline {
            return Err(LoadError::Timeout(format!(
                "{address} does not answer: see what the command prints, and whether it listens there"
            )));
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
    }
    Ok(())
}

async fn answers(address: &str) -> bool {
    let ask = async {
        let mut connection = Connection::open(address).await?;
        connection.api_versions().await
    };
    let bound = Duration::from_millis(ATTEMPT_TIMEOUT_MS);
    matches!(tokio::time::timeout(bound, ask).await, Ok(Ok(served)) if !served.is_empty())
}

/// An address on loopback that nothing listens on now.
pub fn free_address() -> Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|cause| LoadError::system("cannot find a free port", cause))
}

pub fn report(plan: &StartPlan, result: &StartResult) -> Report {
    let mut report = Report::new("start");
    report.interrupted = result.interrupted;
    report.text("command", "command", plan.command.join(" "));
    let shown: Vec<String> = result
        .first_answer_ms
        .iter()
        .map(|ms| grouped(*ms, 1))
        .collect();
    let values = result
        .first_answer_ms
        .iter()
        .map(|ms| Json::Number(*ms))
        .collect();
    report.value(
        "first_answer_ms",
        "first answer after, ms",
        shown.join("  "),
        Json::List(values),
    );
    let middle = median(&result.first_answer_ms);
    report.number("median_ms", "median", middle, 1, "ms");
    report.note("the first run is on the data folder as it was given, the others find it as the run before left it");
    report
}
