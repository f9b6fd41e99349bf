//! `consume`: reads a topic from its beginning to what was its end when reading began, over several
//! connections, each with one Fetch at a time. Also how `produce --verify` reads back. Hot path:
//! answers are walked in the receive buffer, nothing is copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{BYTES_PER_MB, Interrupt, Target, report_cpu, report_memory};
use crate::client::cluster::{EARLIEST, LATEST, Topic, list_offsets, wait_for_leaders};
use crate::client::connection::Connection;
use crate::client::fetch::{FetchBounds, Fetched, fetch_request, next_batch, read_fetch_answer};
use crate::client::version;
use crate::error::{LoadError, Result};
use crate::procstat::{CpuSample, CpuUsage, MemoryWatch};
use crate::report::Report;
use crate::verify::{Expected, Findings, PartitionVerifier};

/// Kafka's consumer defaults.
const FETCH_MAX_BYTES: usize = 50 << 20;
const PARTITION_MAX_BYTES: usize = 1 << 20;
const MAX_WAIT_MS: i32 = 500;
/// Fetches without any record before reading gives up on reaching the end.
const EMPTY_FETCHES_MAX: u32 = 60;

pub struct ConsumePlan {
    pub target: Target,
    pub topic: String,
    pub read: ReadPlan,
}

#[derive(Clone)]
pub struct ReadPlan {
    pub connections: usize,
    pub bounds: FetchBounds,
    /// Check every batch and record; without it they are only counted.
    pub check: bool,
    pub expected: Option<Expected>,
    pub progress: bool,
    pub interrupt: Option<Interrupt>,
}

impl ReadPlan {
    pub fn new(connections: usize, check: bool) -> Self {
        let bounds = FetchBounds {
            max_bytes: FETCH_MAX_BYTES,
            partition_max_bytes: PARTITION_MAX_BYTES,
            max_wait_ms: MAX_WAIT_MS,
        };
        ReadPlan {
            connections,
            bounds,
            check,
            expected: None,
            progress: false,
            interrupt: None,
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::is_set)
    }
}

pub struct ReadResult {
    pub seconds: f64,
    pub findings: Findings,
}

pub struct ConsumeResult {
    pub interrupted: bool,
    pub partitions: u32,
    pub read: ReadResult,
    pub cpu: CpuUsage,
    pub rss_peak_bytes: u64,
}

pub async fn run(plan: &ConsumePlan) -> Result<ConsumeResult> {
    let mut control = Connection::open_checked(&plan.target.bootstrap).await?;
    let topic = wait_for_leaders(&mut control, &plan.topic, None).await?;
    let from = list_offsets(&topic, EARLIEST).await?;
    let to = list_offsets(&topic, LATEST).await?;
    if from == to {
        let what = format!("topic {} holds no records: run `produce` first", plan.topic);
        return Err(LoadError::Usage(what));
    }
    let memory = MemoryWatch::start(&plan.target.pids);
    let before = CpuSample::take(&plan.target.pids)?;
    let read = read_topic(&topic, &from, &to, &plan.read).await?;
    let cpu = CpuSample::take(&plan.target.pids)?.since(&before);
    if let Some(problem) = read.findings.problem() {
        return Err(LoadError::NotVerified(problem));
    }
    Ok(ConsumeResult {
        interrupted: plan.read.interrupted(),
        partitions: topic.partitions(),
        read,
        cpu,
        rss_peak_bytes: memory.peak_bytes(),
    })
}

/// Reads every partition from `from` up to `to`.
pub async fn read_topic(
    topic: &Topic,
    from: &[i64],
    to: &[i64],
    plan: &ReadPlan,
) -> Result<ReadResult> {
    let run_id = plan.expected.as_ref().map(|expected| expected.run_id);
    let bytes = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let mut untouched = Vec::new();
    let start = Instant::now();
    for (address, partitions) in topic.by_leader() {
        let positions = partitions.iter().map(|partition| {
            let index = *partition as usize;
            let verifier = PartitionVerifier::new(*partition, from[index], run_id);
            Position {
                partition: *partition,
                end: to[index],
                verifier,
            }
        });
        let (open, done): (Vec<_>, Vec<_>) = positions.partition(|p| !p.is_done());
        untouched.extend(done);
        let mut shares: Vec<Vec<Position>> = Vec::new();
        for (i, position) in open.into_iter().enumerate() {
            if i < plan.connections.max(1) {
                shares.push(Vec::new());
            }
            let index = i % plan.connections.max(1);
            shares[index].push(position);
        }
        for positions in shares {
            let (topic, address) = (topic.name.clone(), address.to_string());
            let consumer = Consumer {
                topic,
                address,
                plan: plan.clone(),
                positions,
                bytes: bytes.clone(),
            };
            tasks.spawn(consumer.read());
        }
    }
    let mut positions = join_all(&mut tasks, plan, &bytes).await?;
    let seconds = start.elapsed().as_secs_f64();
    positions.extend(untouched);
    let mut findings = Findings::default();
    for position in positions {
        findings.add(&position.verifier.finish(plan.expected.as_ref()));
    }
    Ok(ReadResult { seconds, findings })
}

async fn join_all(
    tasks: &mut JoinSet<Result<Vec<Position>>>,
    plan: &ReadPlan,
    bytes: &AtomicU64,
) -> Result<Vec<Position>> {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let (mut positions, mut shown) = (Vec::new(), 0);
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => break,
                Some(ended) => {
                    positions.extend(ended.map_err(|panic| LoadError::Usage(panic.to_string()))??);
                }
            },
            _ = tick.tick(), if plan.progress => {
                let read = bytes.load(Ordering::Relaxed);
                eprint!("\rreading  {:8.1} MB/s ", (read - shown) as f64 / BYTES_PER_MB);
                shown = read;
            }
        }
    }
    if plan.progress {
        eprint!("\r{:70}\r", "");
    }
    Ok(positions)
}

/// A partition that is being read.
struct Position {
    partition: u32,
    /// Reading ends here.
    end: i64,
    verifier: PartitionVerifier,
}

impl Position {
    fn is_done(&self) -> bool {
        self.verifier.next_offset() >= self.end
    }
}

/// One connection and the partitions it reads.
struct Consumer {
    topic: String,
    address: String,
    plan: ReadPlan,
    positions: Vec<Position>,
    bytes: Arc<AtomicU64>,
}

impl Consumer {
    async fn read(mut self) -> Result<Vec<Position>> {
        let mut connection = Connection::open(&self.address).await?;
        connection.answer_bytes_max = self.plan.bounds.max_bytes.saturating_add(128 << 20);
        let mut empty = 0;
        while self.positions.iter().any(|p| !p.is_done()) && !self.plan.interrupted() {
            let wanted = self.positions.iter().filter(|p| !p.is_done());
            let wanted = wanted.map(|p| (p.partition, p.verifier.next_offset()));
            let request = fetch_request(&self.topic, wanted, self.plan.bounds);
            let body = connection.request(version::FETCH, &request).await?;
            let progressed = self.take(&body)?;
            // The next fetch begins elsewhere, so that a small answer does not starve a partition.
            self.positions.rotate_left(1);
            empty = if progressed { 0 } else { empty + 1 };
            if empty > EMPTY_FETCHES_MAX {
                let what = format!(
                    "{}: fetches return nothing before the end offset",
                    self.topic
                );
                return Err(LoadError::Timeout(what));
            }
        }
        Ok(self.positions)
    }

    /// Walks an answer; whether any partition moved on.
    fn take(&mut self, body: &[u8]) -> Result<bool> {
        let malformed = || LoadError::Malformed {
            address: self.address.clone(),
            what: "a fetch answer that ends too early, or records that are no batches".into(),
        };
        let mut fetched = Vec::new();
        let code = read_fetch_answer(body, |part| fetched.push(part)).map_err(|_| malformed())?;
        LoadError::check(code, || format!("fetching from {}", self.topic))?;
        let mut progressed = false;
        for Fetched {
            partition,
            code,
            records,
            ..
        } in fetched
        {
            LoadError::check(code, || {
                format!("fetching {} partition {partition}", self.topic)
            })?;
            let wanted = |p: &&mut Position| i64::from(p.partition) == i64::from(partition);
            let Some(position) = self.positions.iter_mut().find(wanted) else {
                return Err(malformed());
            };
            let mut rest = records;
            while let Some(batch) = next_batch(&mut rest).map_err(|_| malformed())? {
                if position.is_done() {
                    break;
                }
                position.verifier.batch(&batch, self.plan.check);
                progressed = true;
            }
            self.bytes
                .fetch_add(records.len() as u64, Ordering::Relaxed);
        }
        Ok(progressed)
    }
}

pub fn report(plan: &ConsumePlan, result: &ConsumeResult) -> Report {
    let mut report = Report::new("consume");
    report.interrupted = result.interrupted;
    let (seconds, findings) = (result.read.seconds.max(1e-9), &result.read.findings);
    report.text(
        "topic",
        "topic",
        format!("{}, {} partitions", plan.topic, result.partitions),
    );
    report.number("seconds", "measured", seconds, 2, "s");
    let mb_per_s = findings.bytes as f64 / BYTES_PER_MB / seconds;
    report.number("mb_per_s", "throughput", mb_per_s, 2, "MB/s");
    report.number(
        "records_per_s",
        "",
        findings.records as f64 / seconds,
        0,
        "records/s",
    );
    report.count("records", "records read", findings.records);
    report.count("batches", "batches read", findings.batches);
    report_cpu(&mut report, &plan.target, &result.cpu, findings.bytes);
    report_memory(&mut report, &plan.target, result.rss_peak_bytes);
    if plan.read.check {
        report.count(
            "foreign_batches",
            "batches not of the harness",
            findings.foreign_batches,
        );
        report.count(
            "missing_batches",
            "sequences not found",
            findings.missing_batches,
        );
        report.note(
            "checked: CRC-32C, record checksums, dense offsets, each sequence once and in order; a \
             sequence that is missing may never have been acknowledged",
        );
    } else {
        report.note("counted, not checked (see --verify)");
    }
    report
}
