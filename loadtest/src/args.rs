//! The command line.

mod compare;
mod failover;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use self::compare::{CompareArgs, Compared};
pub use self::failover::{FailoverArgs, FailoverShapeArgs, failover_plan};
use crate::batch::STAMP_BYTES;
use crate::error::{LoadError, Result};
use crate::procstat::cores;
use crate::scenario::churn::ChurnPlan;
use crate::scenario::consume::{ConsumePlan, ReadPlan};
use crate::scenario::latency::LatencyPlan;
use crate::scenario::many_partitions::ManyPartitionsPlan;
use crate::scenario::produce::ProducePlan;
use crate::scenario::start::StartPlan;
use crate::scenario::{BYTES_PER_GB, BYTES_PER_MB, Target};

/// Measures anything that speaks the Kafka protocol: throughput, latency, CPU and memory, and that
/// nothing acknowledged is lost.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub scenario: Scenario,
}

#[derive(Subcommand)]
pub enum Scenario {
    /// Send record batches as fast as they are acknowledged, or at a rate
    Produce(ProduceArgs),
    /// Read a topic from its beginning, and check it
    Consume(ConsumeArgs),
    /// Create thousands of partitions at once, produce one record to each, then watch them idle
    ManyPartitions(ManyPartitionsArgs),
    /// Writers that wait for each acknowledgement of a small record
    Latency(LatencyArgs),
    /// Topics that keep very different amounts: what the disk writes and holds for them
    Churn(ChurnArgs),
    /// Millions of offset commits, then kill -9: how long until every group can be read again
    Commits(crate::scenario::commits::CommitsArgs),
    /// Writers to every partition while a broker ends: the longest silence of any partition
    Failover(FailoverArgs),
    /// Time from the start of a broker's process to its first answer
    Start(StartArgs),
    /// Real Kafka and Ottla in turn, each on a fresh data folder; medians and ratios
    Compare(CompareArgs),
}

#[derive(Args, Clone)]
pub struct TargetArgs {
    /// One broker of the cluster, the others are discovered
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// Process of a broker on this machine, for CPU and memory; repeat it for several
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Clone)]
pub struct OutputArgs {
    /// Worker threads of the harness [default: half of the cores]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl OutputArgs {
    pub fn threads(&self) -> usize {
        self.threads
            .map_or((cores() / 2).max(1), |threads| threads as usize)
    }

    pub fn progress(&self) -> bool {
        use std::io::IsTerminal;
        !self.json && std::io::stderr().is_terminal()
    }
}

impl TargetArgs {
    fn target(&self) -> Target {
        Target {
            bootstrap: self.bootstrap.clone(),
            pids: self.pids.clone(),
            threads: self.output.threads(),
            progress: self.output.progress(),
        }
    }
}

/// The topic that is written to, and how long.
#[derive(Args, Clone)]
pub struct WriteArgs {
    /// Created if it does not exist
    #[arg(long, default_value = "loadtest")]
    pub topic: String,
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub partitions: u32,
    /// [default: 1, in `compare` 3 or as many as there are brokers]
    #[arg(long)]
    pub replication_factor: Option<i16>,
    /// all, 1 or 0
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    pub acks: i16,
    /// Give every connection a producer id, and every batch its sequence
    #[arg(long)]
    pub idempotent: bool,
    /// Length of the measured window
    #[arg(long, default_value_t = 20.0, value_parser = parse_seconds)]
    pub seconds: f64,
    /// Sent before it and not counted
    #[arg(long, default_value_t = 3.0, value_parser = parse_seconds)]
    pub warmup_seconds: f64,
    /// Read everything back afterwards; a run that does not verify reports no figures
    #[arg(long)]
    pub verify: bool,
}

/// What `produce` sends; `compare` takes the same.
#[derive(Args, Clone)]
pub struct ShapeArgs {
    /// Size of a record's value
    #[arg(long, default_value_t = 1024)]
    pub record_bytes: usize,
    /// Size of a record batch, header included
    #[arg(long, default_value_t = 65_536)]
    pub batch_bytes: usize,
    /// Batches in one request, each of another partition
    #[arg(long, default_value_t = 1)]
    pub batches_per_request: usize,
    /// Producers; each has a connection to every broker that leads a partition
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// MB/s of record values over all connections, or max
    #[arg(long, default_value = "max", value_parser = parse_rate)]
    pub rate: Rate,
    /// End when so many records were sent, if that is before the time is up
    #[arg(long)]
    pub records: Option<u64>,
}

#[derive(Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub write: WriteArgs,
    #[command(flatten)]
    pub shape: ShapeArgs,
}

impl ProduceArgs {
    pub fn plan(&self) -> Result<ProducePlan> {
        produce_plan(self.target.target(), &self.write, &self.shape)
    }
}

pub fn produce_plan(target: Target, write: &WriteArgs, shape: &ShapeArgs) -> Result<ProducePlan> {
    check_record_bytes(shape.record_bytes)?;
    bounded("--batch-bytes", shape.batch_bytes, 1, 512 << 20)?;
    bounded("--connections", shape.connections, 1, 100_000)?;
    bounded("--in-flight", shape.in_flight, 1, 1_000_000)?;
    bounded(
        "--batches-per-request",
        shape.batches_per_request,
        1,
        100_000,
    )?;
    Ok(ProducePlan {
        target,
        topic: write.topic.clone(),
        partitions: write.partitions,
        replication_factor: write.replication_factor.unwrap_or(1),
        record_bytes: shape.record_bytes,
        batch_bytes: shape.batch_bytes,
        batches_per_request: shape.batches_per_request,
        acks: write.acks,
        connections: shape.connections,
        in_flight: shape.in_flight,
        idempotent: write.idempotent,
        rate_bytes_per_s: shape.rate.0.map(|mb| mb * BYTES_PER_MB),
        warmup: Duration::from_secs_f64(write.warmup_seconds),
        measure: Duration::from_secs_f64(write.seconds),
        records_max: shape.records,
        verify: write.verify,
    })
}

#[derive(Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[arg(long, default_value = "loadtest")]
    pub topic: String,
    /// Connections to each broker; partitions are spread over them
    #[arg(long, default_value_t = 2)]
    pub connections: usize,
    /// Most bytes in one Fetch answer
    #[arg(long, default_value_t = 50 << 20)]
    pub fetch_bytes: usize,
    /// Most bytes of one partition in it
    #[arg(long, default_value_t = 1 << 20)]
    pub partition_fetch_bytes: usize,
    /// Check checksums, offsets and sequences of what is read
    #[arg(long)]
    pub verify: bool,
}

impl ConsumeArgs {
    pub fn plan(&self) -> Result<ConsumePlan> {
        bounded("--connections", self.connections, 1, 100_000)?;
        bounded("--fetch-bytes", self.fetch_bytes, 1, 1 << 30)?;
        bounded(
            "--partition-fetch-bytes",
            self.partition_fetch_bytes,
            1,
            1 << 30,
        )?;
        let mut read = ReadPlan::new(self.connections, self.verify);
        read.bounds.max_bytes = self.fetch_bytes;
        read.bounds.partition_max_bytes = self.partition_fetch_bytes;
        read.progress = self.target.output.progress();
        Ok(ConsumePlan {
            target: self.target.target(),
            topic: self.topic.clone(),
            read,
        })
    }
}

#[derive(Args)]
pub struct ManyPartitionsArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Must not exist
    #[arg(long, default_value = "loadtest-many")]
    pub topic: String,
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub partitions: u32,
    #[arg(long, default_value_t = 1)]
    pub replication_factor: i16,
    #[arg(long, default_value_t = 100)]
    pub record_bytes: usize,
    /// Partitions in one Produce request
    #[arg(long, default_value_t = 500)]
    pub partitions_per_request: usize,
    /// Rest before the idle measurement
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    pub settle_seconds: f64,
    /// Length of the idle measurement (with --pid)
    #[arg(long, default_value_t = 10.0, value_parser = parse_seconds)]
    pub idle_seconds: f64,
    /// For all partitions to acknowledge
    #[arg(long, default_value_t = 300.0, value_parser = parse_seconds)]
    pub timeout_seconds: f64,
}

impl ManyPartitionsArgs {
    pub fn plan(&self) -> Result<ManyPartitionsPlan> {
        check_record_bytes(self.record_bytes)?;
        bounded(
            "--partitions-per-request",
            self.partitions_per_request,
            1,
            100_000,
        )?;
        Ok(ManyPartitionsPlan {
            target: self.target.target(),
            topic: self.topic.clone(),
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            record_bytes: self.record_bytes,
            partitions_per_request: self.partitions_per_request,
            settle: Duration::from_secs_f64(self.settle_seconds),
            idle: Duration::from_secs_f64(self.idle_seconds),
            timeout: Duration::from_secs_f64(self.timeout_seconds),
        })
    }
}

#[derive(Args)]
pub struct LatencyArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub write: WriteArgs,
    /// Connections that each wait for every acknowledgement
    #[arg(long, default_value_t = 1)]
    pub writers: usize,
    #[arg(long, default_value_t = 100)]
    pub record_bytes: usize,
}

impl LatencyArgs {
    pub fn plan(&self) -> Result<ProducePlan> {
        check_record_bytes(self.record_bytes)?;
        bounded("--writers", self.writers, 1, 100_000)?;
        if self.write.acks == 0 {
            return Err(LoadError::Usage(
                "acks=0 has no acknowledgement to wait for".into(),
            ));
        }
        Ok(LatencyPlan {
            target: self.target.target(),
            topic: self.write.topic.clone(),
            partitions: self.write.partitions,
            replication_factor: self.write.replication_factor.unwrap_or(1),
            record_bytes: self.record_bytes,
            acks: self.write.acks,
            writers: self.writers,
            idempotent: self.write.idempotent,
            warmup: Duration::from_secs_f64(self.write.warmup_seconds),
            measure: Duration::from_secs_f64(self.write.seconds),
            verify: self.write.verify,
        }
        .into_produce())
    }
}

#[derive(Args)]
pub struct ChurnArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// The broker's data folder
    #[arg(long)]
    pub data: PathBuf,
    /// Begin of the topics' names
    #[arg(long, default_value = "churn")]
    pub topic: String,
    #[arg(long, default_value_t = 20)]
    pub topics: usize,
    /// Each class keeps four times what the one before keeps
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub classes: u32,
    /// What a topic of the first class keeps
    #[arg(long, default_value_t = 1.0)]
    pub retention_mb: f64,
    #[arg(long, default_value_t = 1024)]
    pub record_bytes: usize,
    #[arg(long, default_value_t = 65_536)]
    pub batch_bytes: usize,
    /// To write in the measured window, after every topic is full
    #[arg(long, default_value_t = 10.0)]
    pub produce_gb: f64,
}

impl ChurnArgs {
    pub fn plan(&self) -> Result<ChurnPlan> {
        check_record_bytes(self.record_bytes)?;
        bounded("--batch-bytes", self.batch_bytes, 1, 512 << 20)?;
        bounded("--topics", self.topics, 1, 10_000)?;
        Ok(ChurnPlan {
            target: self.target.target(),
            data: self.data.clone(),
            topic: self.topic.clone(),
            topics: self.topics,
            classes: self.classes,
            retention_bytes: (self.retention_mb * BYTES_PER_MB) as u64,
            record_bytes: self.record_bytes,
            batch_bytes: self.batch_bytes,
            produce_bytes: (self.produce_gb * BYTES_PER_GB) as u64,
        })
    }
}

#[derive(Args)]
pub struct StartArgs {
    /// Where the broker that is started will answer
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// How often to start it, one after the other
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// For the first answer
    #[arg(long, default_value_t = 60.0, value_parser = parse_seconds)]
    pub timeout_seconds: f64,
    #[command(flatten)]
    pub output: OutputArgs,
    /// The command line, after --
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

impl StartArgs {
    pub fn plan(&self) -> Result<StartPlan> {
        bounded("--runs", self.runs, 1, 10_000)?;
        Ok(StartPlan {
            bootstrap: self.bootstrap.clone(),
            command: self.command.clone(),
            runs: self.runs,
            timeout: Duration::from_secs_f64(self.timeout_seconds),
        })
    }
}

/// MB/s, or none for as fast as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub Option<f64>);

fn parse_rate(text: &str) -> std::result::Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate(Some(rate))),
        _ => Err("MB/s, such as 100 or 0.5, or max".into()),
    }
}

fn parse_acks(text: &str) -> std::result::Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("all, 1 or 0".into()),
    }
}

fn parse_seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, such as 20 or 0.5".into()),
    }
}

pub fn check_record_bytes(record_bytes: usize) -> Result<()> {
    bounded("--record-bytes", record_bytes, STAMP_BYTES, 256 << 20)
}

pub fn bounded(option: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(LoadError::Usage(format!(
        "{option} {value} is not between {least} and {most}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(parse_rate("max"), Ok(Rate(None)));
        assert_eq!(parse_rate("0.5"), Ok(Rate(Some(0.5))));
        for text in ["0", "-1", "inf", "nan", "fast"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert_eq!(parse_acks("all"), Ok(-1));
        assert!(parse_acks("2").is_err());
        assert!(parse_seconds("-1").is_err() && parse_seconds("nan").is_err());
        assert!(check_record_bytes(39).is_err() && check_record_bytes(40).is_ok());
    }
}
