//! `produce`: N connections send prepared batches, closed loop or at a rate, and every answer is
//! timed. `latency` is the same with one small record at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use tokio::task::JoinSet;

use super::consume::{ReadPlan, read_topic};
use super::pacer::Pacer;
use super::producer::{Measured, Producer, Run, Schedule};
use super::{BYTES_PER_MB, Interrupt, Target, report_cpu, report_memory};
use crate::batch::{Pool, SharedPool};
use crate::client::cluster::{LATEST, Topic, init_producer_id, list_offsets, prepare_topic};
use crate::client::connection::Connection;
use crate::error::{LoadError, Result};
use crate::histogram::{Latencies, LatencySummary};
use crate::json::Json;
use crate::procstat::{CpuSample, CpuUsage, MemoryWatch};
use crate::report::Report;
use crate::verify::{Expected, Findings, Ledger};

/// How long answers are awaited after the last request.
const DRAIN_TIMEOUT_MS: u64 = 30_000;
const VERIFY_CONNECTIONS: usize = 2;

#[derive(Clone, Debug)]
pub struct ProducePlan {
    pub target: Target,
    pub topic: String,
    pub partitions: u32,
    pub replication_factor: i16,
    pub record_bytes: usize,
    pub batch_bytes: usize,
    pub batches_per_request: usize,
    pub acks: i16,
    pub connections: usize,
    pub in_flight: usize,
    pub idempotent: bool,
    /// Payload bytes per second over all connections; without it as fast as answers come.
    pub rate_bytes_per_s: Option<f64>,
    pub warmup: Duration,
    pub measure: Duration,
    /// Ends the run when so many records were sent, if that is earlier.
    pub records_max: Option<u64>,
    pub verify: bool,
}

#[derive(Clone, Debug, Default)]
pub struct ProduceResult {
    pub interrupted: bool,
    /// Length of the measured window.
    pub seconds: f64,
    pub records: u64,
    pub bytes: u64,
    pub requests: u64,
    pub sent: u64,
    pub waited: u64,
    pub latency: LatencySummary,
    pub cpu: CpuUsage,
    pub rss_peak_bytes: u64,
    /// Refused batches by Kafka error code, over the whole run.
    pub errors: BTreeMap<i16, u64>,
    /// Over the whole run, warm-up included.
    pub acknowledged_batches: u64,
    pub unacknowledged_batches: u64,
    pub verified: Option<Findings>,
}

impl ProduceResult {
    pub fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / BYTES_PER_MB / self.seconds.max(1e-9)
    }

    pub fn requests_per_s(&self) -> f64 {
        self.requests as f64 / self.seconds.max(1e-9)
    }

    pub fn broker_cpu_us_per_request(&self) -> f64 {
        self.cpu.brokers_s * 1e6 / (self.requests as f64).max(1.0)
    }

    pub fn broker_cpu_s_per_gb(&self) -> f64 {
        self.cpu.brokers_s / (self.bytes as f64 / super::BYTES_PER_GB).max(1e-9)
    }
}

/// Runs the plan; an error if the run does not verify.
pub async fn run(plan: &ProducePlan, interrupt: &Interrupt) -> Result<ProduceResult> {
    let mut control = Connection::open_checked(&plan.target.bootstrap).await?;
    let topic = prepare_topic(
        &mut control,
        &plan.topic,
        plan.partitions,
        plan.replication_factor,
    )
    .await?;
    // Also shows that every leader is ready, so that creation is not measured.
    let first_offsets = list_offsets(&topic, LATEST).await?;
    let run_id = uuid::Uuid::new_v4().as_u64_pair().0;
    let pool = Arc::new(Pool::new(run_id, plan.record_bytes, plan.batch_bytes));
    let latencies = Latencies::new();
    let fleet = Fleet::assemble(plan, &topic, pool.clone(), &latencies, &mut control).await?;
    let (mut result, ledgers) = fleet.measure(plan, &latencies, interrupt.clone()).await?;
    if plan.verify {
        let expected = Expected::new(run_id, &ledgers);
        let progress = plan.target.progress;
        result.verified = Some(read_back(&topic, first_offsets, &expected, progress).await?);
    }
    Ok(result)
}

/// Reads the topic and compares; an error if anything is wrong.
pub async fn read_back(
    topic: &Topic,
    first_offsets: Vec<i64>,
    expected: &Expected,
    progress: bool,
) -> Result<Findings> {
    let mut read = ReadPlan::new(VERIFY_CONNECTIONS, true);
    read.expected = Some(expected.clone());
    read.progress = progress;
    let end_offsets = list_offsets(topic, LATEST).await?;
    let findings = read_topic(topic, &first_offsets, &end_offsets, &read)
        .await?
        .findings;
    match findings.problem() {
        Some(problem) => Err(LoadError::NotVerified(problem)),
        None => Ok(findings),
    }
}

/// The producing connections of a run.
struct Fleet {
    run: Arc<Run>,
    producers: Vec<Arc<Producer>>,
    streams: Vec<tokio::net::TcpStream>,
    /// Of an open loop.
    pacer: Option<Pacer>,
}

impl Fleet {
    async fn assemble(
        plan: &ProducePlan,
        topic: &Topic,
        pool: SharedPool,
        latencies: &Latencies,
        control: &mut Connection,
    ) -> Result<Fleet> {
        let slots = connection_slots(plan, topic)?;
        let ids = producer_ids(plan, slots.len(), control).await?;
        let start = Instant::now();
        let pacer = Pacer::new(start);
        let run = Arc::new(Run {
            topic: topic.name.clone(),
            acks: plan.acks,
            batches_per_request: plan.batches_per_request,
            start,
            measure_from: start + plan.warmup,
            measure_to_ns: AtomicU64::new((plan.warmup + plan.measure).as_nanos() as u64),
            records_left: AtomicU64::new(plan.records_max.unwrap_or(u64::MAX)),
            measured: Measured::default(),
            pool,
        });
        let total_weight: f64 = slots.iter().map(|slot| slot.weight).sum();
        let request_bytes = run.pool.payload_bytes() as f64 * plan.batches_per_request as f64;
        let count = slots.len();
        let mut producers = Vec::new();
        let mut streams = Vec::new();
        for (i, slot) in slots.into_iter().enumerate() {
            let schedule = plan.rate_bytes_per_s.map(|rate| {
                let own_rate = rate * slot.weight / total_weight;
                let interval = Duration::from_secs_f64(request_bytes / own_rate);
                Schedule {
                    first: interval.mul_f64(i as f64 / count as f64),
                    interval,
                }
            });
            let gate = pacer.gate(plan.in_flight, schedule.map(|s| s.interval));
            let ledger = Ledger {
                connection: i as u32,
                partitions: slot.partitions,
                ..Ledger::default()
            };
            let local = latencies.local();
            let producer = Producer::new(
                run.clone(),
                gate,
                &slot.address,
                ledger,
                local,
                schedule,
                ids.get(i).copied(),
            );
            streams.push(producer.connect().await?);
            producers.push(Arc::new(producer));
        }
        let pacer = plan.rate_bytes_per_s.map(|_| pacer);
        Ok(Fleet {
            run,
            producers,
            streams,
            pacer,
        })
    }

    /// Sends, measures, drains. The ledgers say what to expect in the log.
    async fn measure(
        self,
        plan: &ProducePlan,
        latencies: &Latencies,
        mut interrupt: Interrupt,
    ) -> Result<(ProduceResult, Vec<Ledger>)> {
        let mut tasks = JoinSet::new();
        for (producer, stream) in self.producers.iter().cloned().zip(self.streams) {
            tasks.spawn(async move { producer.produce(stream).await });
        }
        if let Some(pacer) = self.pacer {
            pacer.spawn(self.producers.iter().map(|p| p.gate.clone()).collect());
        }
        let memory = MemoryWatch::start(&plan.target.pids);
        let mut samples = None;
        let ended = watch(plan, &self.run, &mut tasks, &mut samples, &mut interrupt).await;
        let last = CpuSample::take(&plan.target.pids)?;
        self.run.end_measuring(last.at);
        let measured_until_ns = self.run.measure_to_ns.load(Ordering::Relaxed);
        self.producers
            .iter()
            .for_each(|producer| producer.gate.close());
        let drained = drain(&mut tasks).await;
        ended.and(drained)?;
        if plan.target.progress {
            eprint!("\r{:70}\r", "");
        }
        let first = samples.unwrap_or(last);
        let until = self.run.start + Duration::from_nanos(measured_until_ns);
        let measured = &self.run.measured;
        let batches = measured.batches.load(Ordering::Relaxed);
        let mut result = ProduceResult {
            interrupted: interrupt.is_set(),
            seconds: until
                .saturating_duration_since(self.run.measure_from)
                .as_secs_f64(),
            records: batches * u64::from(self.run.pool.records_per_batch),
            bytes: batches * self.run.pool.payload_bytes(),
            requests: measured.requests.load(Ordering::Relaxed),
            sent: measured.sent.load(Ordering::Relaxed),
            waited: measured.waited.load(Ordering::Relaxed),
            cpu: last.since(&first),
            rss_peak_bytes: memory.peak_bytes(),
            ..ProduceResult::default()
        };
        let mut ledgers = Vec::new();
        for outcome in self.producers.iter().map(|producer| producer.outcome()) {
            for (code, count) in outcome.errors {
                *result.errors.entry(code).or_insert(0) += count;
            }
            result.acknowledged_batches += outcome.ledger.acknowledged();
            result.unacknowledged_batches += outcome.ledger.unacknowledged.len() as u64;
            ledgers.push(outcome.ledger);
        }
        result.latency = latencies.summary();
        Ok((result, ledgers))
    }
}

/// Waits for the end of the measured window, a failed connection, the last record, or an interrupt.
async fn watch(
    plan: &ProducePlan,
    run: &Run,
    tasks: &mut JoinSet<Result<()>>,
    first_sample: &mut Option<CpuSample>,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let measure_from = tokio::time::sleep_until(run.measure_from.into());
    let end = tokio::time::sleep_until((run.measure_from + plan.measure).into());
    tokio::pin!(measure_from, end);
    let mut shown = 0;
    loop {
        tokio::select! {
            () = &mut measure_from, if first_sample.is_none() => {
                *first_sample = Some(CpuSample::take(&plan.target.pids)?);
            }
            () = &mut end => return Ok(()),
            () = interrupt.wait() => return Ok(()),
            ended = tasks.join_next() => match ended {
                None => return Ok(()),
                Some(ended) => ended.map_err(|panic| LoadError::Usage(panic.to_string()))??,
            },
            _ = tick.tick(), if plan.target.progress => {
                let bytes = run.measured.batches.load(Ordering::Relaxed) * run.pool.payload_bytes();
                let mb_per_s = (bytes - shown) as f64 / BYTES_PER_MB;
                let at = run.start.elapsed().as_secs();
                let phase = if first_sample.is_none() { "warming up" } else { "measuring" };
                eprint!("\r{at:4} s  {phase:10}  {mb_per_s:8.1} MB/s ");
                shown = bytes;
            }
        }
    }
}

/// Lets every connection finish what is in flight; what is not answered in time is given up.
async fn drain(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(DRAIN_TIMEOUT_MS);
    let mut first_error = Ok(());
    while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
        let ended = ended
            .map_err(|panic| LoadError::Usage(panic.to_string()))
            .and_then(|r| r);
        first_error = first_error.and(ended);
    }
    tasks.shutdown().await;
    first_error
}

/// One connection to be: a broker, the partitions it is sent, and its share of the rate.
struct Slot {
    address: String,
    partitions: Vec<u32>,
    weight: f64,
}

/// Every producer has one connection to every broker that leads partitions, as a client has. Each
/// begins its round at another partition.
fn connection_slots(plan: &ProducePlan, topic: &Topic) -> Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for producer in 0..plan.connections {
        for (address, partitions) in topic.by_leader() {
            if plan.batches_per_request > partitions.len() {
                return Err(LoadError::Usage(format!(
                    "--batches-per-request {} needs as many partitions on each broker, {address} \
                     leads {}",
                    plan.batches_per_request,
                    partitions.len()
                )));
            }
            let weight = partitions.len() as f64;
            let mut partitions = partitions;
            let shift = producer * partitions.len() / plan.connections.max(1);
            let shift = (shift + producer) % partitions.len();
            partitions.rotate_left(shift);
            slots.push(Slot {
                address: address.to_string(),
                partitions,
                weight,
            });
        }
    }
    Ok(slots)
}

async fn producer_ids(
    plan: &ProducePlan,
    count: usize,
    control: &mut Connection,
) -> Result<Vec<(i64, i16)>> {
    let mut ids = Vec::new();
    while plan.idempotent && ids.len() < count {
        ids.push(init_producer_id(control).await?);
    }
    Ok(ids)
}

pub fn report(scenario: &'static str, plan: &ProducePlan, result: &ProduceResult) -> Report {
    let mut report = Report::new(scenario);
    report.interrupted = result.interrupted;
    report.text(
        "topic",
        "topic",
        format!("{}, {} partitions", plan.topic, plan.partitions),
    );
    report.number("seconds", "measured", result.seconds, 1, "s");
    report.number("mb_per_s", "throughput", result.mb_per_s(), 2, "MB/s");
    let records_per_s = result.records as f64 / result.seconds.max(1e-9);
    report.number("records_per_s", "", records_per_s, 0, "records/s");
    report.number(
        "requests_per_s",
        "",
        result.requests_per_s(),
        0,
        "requests/s",
    );
    report.count("records", "records acknowledged", result.records);
    if plan.acks != 0 {
        result.latency.report(&mut report);
    }
    report_cpu(&mut report, &plan.target, &result.cpu, result.bytes);
    if !plan.target.pids.is_empty() {
        let per_request = result.broker_cpu_us_per_request();
        report.number(
            "broker_cpu_us_per_request",
            "broker CPU",
            per_request,
            1,
            "us/request",
        );
    }
    report_memory(&mut report, &plan.target, result.rss_peak_bytes);
    report.count(
        "unacknowledged_batches",
        "batches not acknowledged",
        result.unacknowledged_batches,
    );
    let errors: Vec<(String, u64)> = result
        .errors
        .iter()
        .map(|(code, n)| (error_name(*code), *n))
        .collect();
    let words: Vec<String> = errors
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let json = errors
        .into_iter()
        .map(|(name, n)| (name, Json::Integer(n as i64)))
        .collect();
    let shown = if words.is_empty() {
        "none".to_string()
    } else {
        words.join(", ")
    };
    report.value("errors", "errors", shown, Json::Object(json));
    match &result.verified {
        None => report.value(
            "verified",
            "verified",
            "no (see --verify)",
            Json::Bool(false),
        ),
        Some(findings) => report_verified(&mut report, findings),
    }
    notes(&mut report, plan, result);
    report
}

fn report_verified(report: &mut Report, findings: &Findings) {
    let shown = format!(
        "yes: {} batches read back",
        findings.batches - findings.foreign_batches
    );
    report.value("verified", "verified", shown, Json::Bool(true));
    report.count(
        "verified_batches",
        "",
        findings.batches - findings.foreign_batches,
    );
    if findings.foreign_batches > 0 {
        report.note(format!(
            "{} batches of other producers were in the topic meanwhile",
            findings.foreign_batches
        ));
    }
}

fn notes(report: &mut Report, plan: &ProducePlan, result: &ProduceResult) {
    if result.interrupted && result.seconds == 0.0 {
        report.note("interrupted during the warm-up: nothing was measured");
    }
    if let Some(rate) = plan.rate_bytes_per_s {
        if result.mb_per_s() * BYTES_PER_MB < 0.98 * rate && !result.interrupted {
            report.note(format!(
                "the rate of {:.1} MB/s was not sustained; latencies count from when requests were due",
                rate / BYTES_PER_MB
            ));
        }
    } else if result.sent > 100 && result.waited * 20 < result.sent && plan.acks != 0 {
        report.note(
            "requests seldom waited for an acknowledgement: the harness is the bottleneck; raise \
             --threads or --connections",
        );
    }
    if plan.acks == 0 {
        report.note("acks=0: counted when written, nothing is acknowledged");
    }
}

pub fn error_name(code: i16) -> String {
    ResponseError::try_from_code(code).map_or("none".into(), |error| error.to_string())
}
