//! `churn`: topics that keep very different amounts share a broker, long after each is full. Shows what
//! the disk has to write for each byte produced, and how much of it is taken for what is kept.
//!
//! Topics fall into classes; each class keeps four times what the one before keeps. All are written
//! to alike, so the records of one moment die at very different times.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{BYTES_PER_GB, BYTES_PER_MB, Interrupt, Target};
use crate::batch::{Identity, Pool, ProducerFields, now_ms};
use crate::client::cluster::{EARLIEST, LATEST, create_topic, list_offsets, wait_for_leaders};
use crate::client::connection::{Connection, open_stream, read_frame};
use crate::client::frame::{ProduceFrame, read_produce_answer};
use crate::error::{LoadError, Result};
use crate::procstat::{CpuSample, device_write_bytes};
use crate::report::Report;

const REQUEST_TIMEOUT_MS: i32 = 30_000;
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Requests in flight: enough that the broker writes large groups.
const IN_FLIGHT: usize = 16;
/// Each class keeps so many times what the one before keeps.
const STEP: u64 = 4;

#[derive(Clone, Debug)]
pub struct ChurnPlan {
    pub target: Target,
    /// The broker's data folder.
    pub data: PathBuf,
    pub topic: String,
    pub topics: usize,
    pub classes: u32,
    /// `retention.bytes` of a topic of the first class.
    pub retention_bytes: u64,
    pub record_bytes: usize,
    pub batch_bytes: usize,
    /// To write in the measured window, after every topic is full.
    pub produce_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct ChurnResult {
    pub interrupted: bool,
    pub seconds: f64,
    pub produced_bytes: u64,
    /// What the broker's process gave to block devices meanwhile.
    pub device_bytes: u64,
    pub broker_cpu_s: f64,
    /// Between log start and log end of all topics, at the end.
    pub kept_bytes: u64,
    /// Files of the data folder then, without the write-ahead log.
    pub record_file_bytes: u64,
    pub data_bytes: u64,
}

impl ChurnPlan {
    fn retention_of(&self, topic: usize) -> u64 {
        self.retention_bytes * STEP.pow(topic as u32 % self.classes)
    }

    fn name_of(&self, topic: usize) -> String {
        format!("{}-{topic}", self.topic)
    }

    /// Bytes until the topic that keeps most is full; all topics get the same.
    fn fill_bytes(&self) -> u64 {
        let most = self.retention_bytes * STEP.pow(self.classes - 1);
        most * self.topics as u64
    }
}

pub async fn run(plan: &ChurnPlan, interrupt: &Interrupt) -> Result<ChurnResult> {
    let mut control = Connection::open_checked(&plan.target.bootstrap).await?;
    for topic in 0..plan.topics {
        let bytes = plan.retention_of(topic).to_string();
        let configs = [("retention.bytes", bytes.as_str()), ("retention.ms", "-1")];
        create_topic(&mut control, &plan.name_of(topic), 1, 1, &configs).await?;
    }
    let mut writer = Writer::connect(plan).await?;
    writer.write(plan.fill_bytes(), interrupt).await?;
    let pids = &plan.target.pids;
    let (cpu, device) = (CpuSample::take(pids)?, device_write_bytes(pids)?);
    let started = Instant::now();
    let produced_bytes = writer.write(plan.produce_bytes, interrupt).await?;
    let mut result = ChurnResult {
        interrupted: interrupt.is_set(),
        seconds: started.elapsed().as_secs_f64(),
        produced_bytes,
        device_bytes: device_write_bytes(pids)? - device,
        broker_cpu_s: CpuSample::take(pids)?.since(&cpu).brokers_s,
        ..ChurnResult::default()
    };
    for topic in 0..plan.topics {
        let topic = wait_for_leaders(&mut control, &plan.name_of(topic), Some(1)).await?;
        let (start, end) = (
            list_offsets(&topic, EARLIEST).await?,
            list_offsets(&topic, LATEST).await?,
        );
        let records = end.iter().sum::<i64>() - start.iter().sum::<i64>();
        result.kept_bytes += records as u64 * plan.record_bytes as u64;
    }
    (result.data_bytes, result.record_file_bytes) = disk_bytes(&plan.data)?;
    Ok(result)
}

/// One connection that writes to all topics in turn.
struct Writer {
    stream: tokio::net::TcpStream,
    address: String,
    frames: Vec<ProduceFrame>,
    pool: Pool,
    sent: u64,
}

impl Writer {
    async fn connect(plan: &ChurnPlan) -> Result<Writer> {
        let frame = |topic| ProduceFrame::new(&plan.name_of(topic), -1, REQUEST_TIMEOUT_MS);
        Ok(Writer {
            stream: open_stream(&plan.target.bootstrap).await?,
            address: plan.target.bootstrap.clone(),
            frames: (0..plan.topics).map(frame).collect(),
            pool: Pool::new(1, plan.record_bytes, plan.batch_bytes),
            sent: 0,
        })
    }

    /// Writes at least so many bytes of records; returns how many were acknowledged.
    async fn write(&mut self, bytes: u64, interrupt: &Interrupt) -> Result<u64> {
        let payload = self.pool.payload_bytes();
        let requests = bytes.div_ceil(payload);
        let lost = |cause| LoadError::Lost {
            address: self.address.clone(),
            cause,
        };
        let (mut read_half, mut write_half) = self.stream.split();
        let mut buffer = bytes::BytesMut::new();
        let (mut begun, mut answered) = (0, 0);
        while answered < requests {
            let stop = interrupt.is_set() && begun == answered;
            if stop {
                break;
            }
            if begun < requests && begun - answered < IN_FLIGHT as u64 && !interrupt.is_set() {
                let topic = (self.sent % self.frames.len() as u64) as usize;
                let frame = &mut self.frames[topic];
                frame.begin(self.sent as i32, 1);
                let identity = Identity {
                    connection: 0,
                    partition: 0,
                    sequence: self.sent,
                };
                frame.add(0, self.pool.batch_bytes(), |out| {
                    let now = now_ms();
                    self.pool
                        .stamp(self.sent, identity, ProducerFields::NONE, now, out)
                });
                frame.finish();
                frame.write(&mut write_half).await.map_err(lost)?;
                (self.sent, begun) = (self.sent + 1, begun + 1);
                continue;
            }
            let answer = read_frame(&mut read_half, &mut buffer, ANSWER_BYTES_MAX).await;
            let mut code = None;
            let read = read_produce_answer(&answer.map_err(lost)?, |ack| code = Some(ack.code));
            if read.is_err() {
                return Err(LoadError::Malformed {
                    address: self.address.clone(),
                    what: "a produce answer".into(),
                });
            }
            LoadError::check(code.unwrap_or(0), || "producing".to_string())?;
            answered += 1;
        }
        Ok(answered * payload)
    }
}

/// Bytes on disk of all files, and of those that are no write-ahead log.
fn disk_bytes(folder: &Path) -> Result<(u64, u64)> {
    let failed = |cause| LoadError::system("cannot read the data folder", cause);
    let (mut all, mut records) = (0, 0);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A file may go between the listing and the look.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let (inner, inner_records) = disk_bytes(&entry.path())?;
            (all, records) = (all + inner, records + inner_records);
            continue;
        }
        let bytes = meta.blocks() * 512;
        all += bytes;
        if entry.path().extension().is_none_or(|kind| kind != "log") {
            records += bytes;
        }
    }
    Ok((all, records))
}

pub fn report(plan: &ChurnPlan, result: &ChurnResult) -> Report {
    let mut report = Report::new("churn");
    report.interrupted = result.interrupted;
    let gb = |bytes: u64| bytes as f64 / BYTES_PER_GB;
    let ratio = |a: u64, b: u64| a as f64 / (b as f64).max(1.0);
    report.count("topics", "topics", plan.topics as u64);
    report.number("seconds", "measured window", result.seconds, 1, "s");
    let mb_per_s = result.produced_bytes as f64 / BYTES_PER_MB / result.seconds.max(1e-9);
    report.number("mb_per_s", "throughput", mb_per_s, 1, "MB/s");
    report.number(
        "produced_gb",
        "produced",
        gb(result.produced_bytes),
        2,
        "GB",
    );
    report.number(
        "device_gb",
        "written to the device",
        gb(result.device_bytes),
        2,
        "GB",
    );
    let written = ratio(result.device_bytes, result.produced_bytes);
    report.number(
        "write_amplification",
        "written per byte produced",
        written,
        2,
        "",
    );
    let cpu = result.broker_cpu_s / gb(result.produced_bytes).max(1e-9);
    report.number("broker_cpu_s_per_gb", "broker CPU", cpu, 3, "s/GB");
    report.number("kept_gb", "records kept", gb(result.kept_bytes), 2, "GB");
    report.number(
        "record_files_gb",
        "files of records",
        gb(result.record_file_bytes),
        2,
        "GB",
    );
    report.number("data_gb", "data folder", gb(result.data_bytes), 2, "GB");
    let space = ratio(result.record_file_bytes, result.kept_bytes);
    report.number("space_amplification", "files per byte kept", space, 2, "");
    report
}
