//! The options of `compare`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{FailoverShapeArgs, OutputArgs, ShapeArgs, WriteArgs};

/// What `compare` measures of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compared {
    Produce,
    Latency,
    ManyPartitions,
    /// The leader of partition 0 dies of SIGKILL
    Failover,
    /// It is stopped by SIGTERM and started again
    Restart,
}

impl Compared {
    pub fn name(self) -> &'static str {
        match self {
            Compared::Produce => "produce",
            Compared::Latency => "latency",
            Compared::ManyPartitions => "many-partitions",
            Compared::Failover => "failover",
            Compared::Restart => "restart",
        }
    }
}

#[derive(Args)]
pub struct CompareArgs {
    #[arg(long, value_enum, default_value = "produce")]
    pub scenario: Compared,
    /// The `ottla` binary; without it only Kafka is measured
    #[arg(long, value_name = "PATH")]
    pub ottla_bin: Option<PathBuf>,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Combined brokers and controllers on this machine
    #[arg(long, default_value_t = 1)]
    pub brokers: usize,
    /// Records sent to each broker before it is measured (a fresh JVM is slow)
    #[arg(long, default_value_t = 2_000_000)]
    pub warm_records: u64,
    /// Kafka's heap
    #[arg(long, default_value = "1G")]
    pub kafka_heap: String,
    /// The Java that runs Kafka, 17 or newer
    #[arg(long, default_value = "java", value_name = "PATH")]
    pub java: String,
    /// A line of Kafka's server.properties, such as log.flush.interval.messages=1; repeatable
    #[arg(long = "kafka-property", value_name = "KEY=VALUE")]
    pub kafka_properties: Vec<String>,
    /// A line of Ottla's server.properties; repeatable
    #[arg(long = "ottla-property", value_name = "KEY=VALUE")]
    pub ottla_properties: Vec<String>,
    /// Where data folders are made and removed [default: in the cache folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Writers of the latency scenario
    #[arg(long, default_value_t = 1)]
    pub writers: usize,
    /// Partitions of the many-partitions scenario
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub many_partitions: u32,
    #[command(flatten)]
    pub write: WriteArgs,
    #[command(flatten)]
    pub shape: ShapeArgs,
    #[command(flatten)]
    pub failover: FailoverShapeArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}
