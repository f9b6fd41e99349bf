//! One file per scenario. Each takes a plan, runs, and gives a result that knows how to report
//! itself; `compare` runs the same functions.

pub mod churn;
pub mod commits;
pub mod consume;
pub mod failover;
pub mod latency;
pub mod many_partitions;
pub mod pacer;
pub mod produce;
pub mod producer;
pub mod start;

use tokio::sync::watch;

use crate::procstat::{CpuUsage, cores};
use crate::report::Report;

/// Where and what is measured: the same for every scenario.
#[derive(Clone, Debug)]
pub struct Target {
    pub bootstrap: String,
    /// Broker processes on this machine; their CPU and memory are summed.
    pub pids: Vec<u32>,
    /// Worker threads of the harness.
    pub threads: usize,
    /// Whether a line of progress goes to the terminal each second.
    pub progress: bool,
}

/// Becomes true at the first Ctrl-C or SIGTERM.
#[derive(Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens from now on. A second signal ends the process at once, and the brokers it started.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (sender, receiver) = watch::channel(false);
        let (mut int, mut term) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        tokio::spawn(async move {
            for round in 0.. {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                if round > 0 {
                    crate::compare::process::kill_all();
                    std::process::exit(130);
                }
                let _ = sender.send(true);
            }
        });
        Ok(Interrupt(receiver))
    }

    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once a signal came; never, if none can come any more.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|set| *set).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

pub const BYTES_PER_MB: f64 = 1e6;
pub const BYTES_PER_GB: f64 = 1e9;

/// CPU figures and what they say about who limits whom. `bytes` is what moved meanwhile.
pub fn report_cpu(report: &mut Report, target: &Target, usage: &CpuUsage, bytes: u64) {
    let gb = bytes as f64 / BYTES_PER_GB;
    let per_gb = |seconds: f64| if gb > 0.0 { seconds / gb } else { 0.0 };
    let own_cores = usage.own_s / usage.wall_s.max(1e-9);
    report.number(
        "own_cpu_s_per_gb",
        "harness CPU",
        per_gb(usage.own_s),
        3,
        "s/GB",
    );
    report.number("own_cores", "harness cores", own_cores, 2, "");
    if !target.pids.is_empty() {
        let brokers = usage.brokers_s;
        report.number("broker_cpu_s", "broker CPU", brokers, 2, "s");
        report.number(
            "broker_cpu_s_per_gb",
            "broker CPU",
            per_gb(brokers),
            3,
            "s/GB",
        );
        report.number(
            "broker_cores",
            "broker cores",
            brokers / usage.wall_s.max(1e-9),
            2,
            "",
        );
    }
    let machine_cores = usage.machine_s / usage.wall_s.max(1e-9);
    report.number(
        "machine_busy_cores",
        "machine busy cores",
        machine_cores,
        2,
        "",
    );
    if own_cores > 0.85 * target.threads as f64 {
        report.note(format!(
            "the harness itself is the bottleneck: {own_cores:.2} cores of {} threads; raise --threads",
            target.threads
        ));
    }
    let cores = cores() as f64;
    if machine_cores > 0.9 * cores {
        report.note(format!(
            "the machine was saturated ({machine_cores:.2} of {cores} cores busy): more cores would \
             change the throughput, CPU seconds per GB stay comparable"
        ));
    }
    let others = (usage.machine_s - usage.own_s - usage.brokers_s) / usage.wall_s.max(1e-9);
    if !target.pids.is_empty() && others > 0.25 {
        report.note(format!(
            "{others:.2} cores went to neither broker nor harness (other processes, or the kernel's \
             own threads): the figures are disturbed"
        ));
    }
}

pub fn report_memory(report: &mut Report, target: &Target, peak_bytes: u64) {
    if !target.pids.is_empty() {
        let mb = peak_bytes as f64 / BYTES_PER_MB;
        report.number("broker_rss_peak_mb", "broker memory, peak", mb, 1, "MB");
    }
}
