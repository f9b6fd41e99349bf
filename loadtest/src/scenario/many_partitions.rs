//! `many-partitions`: one CreateTopics for thousands of partitions, one record to each with
//! acks=all, and what they cost when nothing happens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::produce::error_name;
use super::{Interrupt, Target};
use crate::batch::{Identity, Pool, ProducerFields, SharedPool};
use crate::client::cluster::{Topic, create_topic, metadata, wait_for_leaders};
use crate::client::connection::{Connection, open_stream, read_frame};
use crate::client::frame::{ProduceFrame, read_produce_answer};
use crate::error::{LoadError, Result};
use crate::procstat::{cpu_seconds_of_all, rss_bytes_of_all};
use crate::report::Report;

/// Kafka's clients wait as long (`retry.backoff.ms`).
const RETRY_INTERVAL_MS: u64 = 100;
const REQUEST_TIMEOUT_MS: i32 = 30_000;
const ANSWER_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub struct ManyPartitionsPlan {
    pub target: Target,
    pub topic: String,
    pub partitions: u32,
    pub replication_factor: i16,
    pub record_bytes: usize,
    pub partitions_per_request: usize,
    /// Time to rest before the idle measurement, and its length.
    pub settle: Duration,
    pub idle: Duration,
    /// For all partitions to acknowledge.
    pub timeout: Duration,
}

impl ManyPartitionsPlan {
    /// The scenario's defaults: records of 100 bytes, 500 partitions a request.
    pub fn new(target: Target, topic: &str, partitions: u32, replication_factor: i16) -> Self {
        ManyPartitionsPlan {
            target,
            topic: topic.to_string(),
            partitions,
            replication_factor,
            record_bytes: 100,
            partitions_per_request: 500,
            settle: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            timeout: Duration::from_secs(300),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct ManyPartitionsResult {
    pub interrupted: bool,
    /// Each counted from just before CreateTopics was sent.
    pub created_ms: f64,
    pub leaders_ms: f64,
    pub acknowledged_ms: f64,
    pub retried: BTreeMap<i16, u64>,
    pub rss_before_bytes: u64,
    pub rss_acknowledged_bytes: u64,
    pub rss_idle_bytes: u64,
    pub broker_cpu_s: f64,
    pub idle_cores: f64,
}

impl ManyPartitionsResult {
    /// Growth of memory since before the topic was created.
    pub fn kb_per_partition(&self, plan: &ManyPartitionsPlan, rss_bytes: u64) -> f64 {
        let growth = rss_bytes as f64 - self.rss_before_bytes as f64;
        growth / f64::from(plan.partitions.max(1)) / 1000.0
    }
}

pub async fn run(plan: &ManyPartitionsPlan, interrupt: &Interrupt) -> Result<ManyPartitionsResult> {
    let pids = &plan.target.pids;
    let mut control = Connection::open_checked(&plan.target.bootstrap).await?;
    if metadata(&mut control, &plan.topic).await.is_ok() {
        return Err(LoadError::Usage(format!(
            "topic {} exists: the scenario measures its creation, so delete it or choose another \
             --topic",
            plan.topic
        )));
    }
    let mut result = ManyPartitionsResult {
        rss_before_bytes: rss_bytes_of_all(pids)?,
        ..ManyPartitionsResult::default()
    };
    let cpu_before = cpu_seconds_of_all(pids)?;
    let start = Instant::now();
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1000.0;
    create_topic(
        &mut control,
        &plan.topic,
        plan.partitions,
        plan.replication_factor,
        &[],
    )
    .await?;
    result.created_ms = ms(start);
    let topic = wait_for_leaders(&mut control, &plan.topic, Some(plan.partitions)).await?;
    result.leaders_ms = ms(start);
    result.retried = produce_to_all(plan, topic, &mut control, start).await?;
    result.acknowledged_ms = ms(start);
    result.rss_acknowledged_bytes = rss_bytes_of_all(pids)?;
    result.broker_cpu_s = cpu_seconds_of_all(pids)? - cpu_before;
    drop(control);
    measure_idle(plan, interrupt.clone(), &mut result).await?;
    Ok(result)
}

async fn measure_idle(
    plan: &ManyPartitionsPlan,
    mut interrupt: Interrupt,
    result: &mut ManyPartitionsResult,
) -> Result<()> {
    if plan.target.pids.is_empty() {
        return Ok(());
    }
    tokio::select! { () = tokio::time::sleep(plan.settle) => {}, () = interrupt.wait() => {} }
    let (from, before) = (Instant::now(), cpu_seconds_of_all(&plan.target.pids)?);
    tokio::select! { () = tokio::time::sleep(plan.idle) => {}, () = interrupt.wait() => {} }
    let used = cpu_seconds_of_all(&plan.target.pids)? - before;
    result.idle_cores = used / from.elapsed().as_secs_f64().max(1e-3);
    result.rss_idle_bytes = rss_bytes_of_all(&plan.target.pids)?;
    result.interrupted = interrupt.is_set();
    Ok(())
}

/// Produces to every partition until each has acknowledged; what was refused with a retriable error
/// is sent again, to the leader of then. Returns the errors met.
async fn produce_to_all(
    plan: &ManyPartitionsPlan,
    mut topic: Topic,
    control: &mut Connection,
    start: Instant,
) -> Result<BTreeMap<i16, u64>> {
    let pool: SharedPool = Pool::new(1, plan.record_bytes, 1).into();
    let mut pending: Vec<u32> = (0..plan.partitions).collect();
    let mut errors = BTreeMap::new();
    loop {
        let mut tasks = JoinSet::new();
        for (address, led) in topic.by_leader() {
            let pending: std::collections::BTreeSet<u32> = pending.iter().copied().collect();
            let wanted: Vec<u32> = led.into_iter().filter(|p| pending.contains(p)).collect();
            let (name, address, pool) = (topic.name.clone(), address.to_string(), pool.clone());
            let per_request = plan.partitions_per_request;
            tasks.spawn(
                async move { produce_once(&name, &address, &wanted, per_request, &pool).await },
            );
        }
        pending.clear();
        while let Some(ended) = tasks.join_next().await {
            let refused = ended.map_err(|panic| LoadError::Usage(panic.to_string()))??;
            for (partition, code) in refused {
                *errors.entry(code).or_insert(0) += 1;
                pending.push(partition);
            }
        }
        if pending.is_empty() {
            return Ok(errors);
        }
        if start.elapsed() > plan.timeout {
            return Err(LoadError::Timeout(format!(
                "{} of {} partitions did not acknowledge within {} s ({}): raise --timeout-seconds",
                pending.len(),
                plan.partitions,
                plan.timeout.as_secs(),
                errors
                    .keys()
                    .map(|code| error_name(*code))
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
        topic = wait_for_leaders(control, &plan.topic, Some(plan.partitions)).await?;
    }
}

/// One record to each of these partitions, all requests in flight at once on one connection.
/// Returns the partitions that were refused with a retriable error.
async fn produce_once(
    topic: &str,
    address: &str,
    partitions: &[u32],
    per_request: usize,
    pool: &Pool,
) -> Result<Vec<(u32, i16)>> {
    let lost = |cause| LoadError::Lost {
        address: address.to_string(),
        cause,
    };
    let malformed = |what: &str| LoadError::Malformed {
        address: address.into(),
        what: what.into(),
    };
    let mut stream = open_stream(address).await?;
    let (mut read_half, mut write_half) = stream.split();
    let chunks: Vec<&[u32]> = partitions.chunks(per_request.max(1)).collect();
    let write = async {
        let mut frame = ProduceFrame::new(topic, -1, REQUEST_TIMEOUT_MS);
        for (id, chunk) in chunks.iter().enumerate() {
            frame.begin(id as i32, chunk.len());
            for partition in *chunk {
                let identity = Identity {
                    connection: 0,
                    partition: *partition,
                    sequence: 0,
                };
                frame.add(*partition, pool.batch_bytes(), |out| {
                    pool.stamp(
                        u64::from(*partition),
                        identity,
                        ProducerFields::NONE,
                        0,
                        out,
                    )
                });
            }
            frame.finish();
            frame.write(&mut write_half).await.map_err(lost)?;
        }
        Ok(())
    };
    let read = async {
        let (mut buffer, mut refused) = (bytes::BytesMut::new(), Vec::new());
        for (id, chunk) in chunks.iter().enumerate() {
            let answer = read_frame(&mut read_half, &mut buffer, ANSWER_BYTES_MAX)
                .await
                .map_err(lost)?;
            let mut open: std::collections::BTreeSet<u32> = chunk.iter().copied().collect();
            let mut codes = Vec::new();
            let answered = read_produce_answer(&answer, |ack| {
                let partition = ack.partition as u32;
                if open.remove(&partition) {
                    codes.push((partition, ack.code));
                }
            });
            if answered != Ok(id as i32) || !open.is_empty() {
                return Err(malformed(
                    "a produce answer that does not match its request",
                ));
            }
            for (partition, code) in codes.into_iter().filter(|(_, code)| *code != 0) {
                let error = kafka_protocol::ResponseError::try_from_code(code);
                if !error.is_some_and(|error| error.is_retriable()) {
                    LoadError::check(code, || {
                        format!("producing to {topic} partition {partition}")
                    })?;
                }
                refused.push((partition, code));
            }
        }
        Ok(refused)
    };
    tokio::try_join!(write, read).map(|((), refused)| refused)
}

pub fn report(plan: &ManyPartitionsPlan, result: &ManyPartitionsResult) -> Report {
    let mut report = Report::new("many-partitions");
    report.interrupted = result.interrupted;
    report.count("partitions", "partitions", u64::from(plan.partitions));
    report.number(
        "created_ms",
        "CreateTopics answered after",
        result.created_ms,
        1,
        "ms",
    );
    report.number(
        "leaders_ms",
        "all leaders known after",
        result.leaders_ms,
        1,
        "ms",
    );
    report.number(
        "acknowledged_ms",
        "all acknowledged after",
        result.acknowledged_ms,
        1,
        "ms",
    );
    let retried = result.retried.values().sum();
    report.count("retried", "produced again after an error", retried);
    if !plan.target.pids.is_empty() {
        let per_partition = |bytes: u64| result.kb_per_partition(plan, bytes);
        let (acknowledged, idle) = (result.rss_acknowledged_bytes, result.rss_idle_bytes);
        report.number(
            "broker_cpu_s",
            "broker CPU until then",
            result.broker_cpu_s,
            2,
            "s",
        );
        let before_mb = result.rss_before_bytes as f64 / super::BYTES_PER_MB;
        report.number("rss_before_mb", "broker memory before", before_mb, 1, "MB");
        let label = "memory per partition, acknowledged";
        report.number(
            "rss_per_partition_kb",
            label,
            per_partition(acknowledged),
            2,
            "KB",
        );
        let label = "memory per partition, idle";
        report.number(
            "rss_per_partition_idle_kb",
            label,
            per_partition(idle),
            2,
            "KB",
        );
        report.number("idle_cores", "idle CPU", result.idle_cores, 4, "cores");
    }
    if let Some((code, count)) = result.retried.iter().max_by_key(|(_, count)| **count) {
        report.note(format!(
            "most frequent error: {count} times {}",
            error_name(*code)
        ));
    }
    report
}
