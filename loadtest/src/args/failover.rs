//! The options of `failover`.

use std::time::Duration;

use clap::Args;

use super::{TargetArgs, parse_seconds};
use crate::error::{LoadError, Result};
use crate::scenario::Target;
use crate::scenario::failover::FailoverPlan;

#[derive(Args)]
pub struct FailoverArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[arg(long, default_value = "loadtest")]
    pub topic: String,
    #[arg(long, default_value_t = 3)]
    pub replication_factor: i16,
    #[command(flatten)]
    pub writing: FailoverShapeArgs,
    /// What ends a broker, for sh; $LEADER is the HOST:PORT of partition 0's leader
    #[arg(long, value_name = "COMMAND")]
    pub command: String,
}

/// What `failover` sends; `compare` takes the same.
#[derive(Args, Clone)]
pub struct FailoverShapeArgs {
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub failover_partitions: u32,
    /// Between an acknowledgement and the partition's next record
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub pause_ms: u64,
    /// For an answer; then the next is asked who leads
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub patience_ms: u64,
    /// Undisturbed, before the fault
    #[arg(long, default_value_t = 3.0, value_parser = parse_seconds)]
    pub before_seconds: f64,
    /// From the fault to the end
    #[arg(long, default_value_t = 20.0, value_parser = parse_seconds)]
    pub after_seconds: f64,
}

impl FailoverArgs {
    pub fn plan(&self) -> Result<FailoverPlan> {
        let target = self.target.target();
        Ok(failover_plan(
            target,
            &self.topic,
            self.replication_factor,
            &self.writing,
        ))
    }

    /// Starts the command, and does not wait for its end.
    pub fn fault(&self, leader: &str) -> Result<()> {
        let mut shell = std::process::Command::new("sh");
        let started = shell
            .args(["-c", &self.command])
            .env("LEADER", leader)
            .spawn();
        let started = started.map_err(|cause| LoadError::system("cannot start sh", cause));
        started.map(|_| ())
    }
}

pub fn failover_plan(
    target: Target,
    topic: &str,
    replication_factor: i16,
    writing: &FailoverShapeArgs,
) -> FailoverPlan {
    FailoverPlan {
        target,
        topic: topic.to_string(),
        partitions: writing.failover_partitions,
        replication_factor,
        record_bytes: 1024,
        pause: Duration::from_millis(writing.pause_ms),
        patience: Duration::from_millis(writing.patience_ms),
        before: Duration::from_secs_f64(writing.before_seconds),
        after: Duration::from_secs_f64(writing.after_seconds),
    }
}
