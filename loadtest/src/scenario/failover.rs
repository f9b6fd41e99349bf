//! `failover`: a producer for each partition, one record in flight, goes on across the end of a broker.
//! Measured is the longest time between two acknowledgements of one partition.
//!
//! Producers behave as Kafka's do: idempotent, the same bytes again after a retriable error or a lost
//! connection, to whoever Metadata then says leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::produce::{error_name, read_back};
use super::{BYTES_PER_MB, Interrupt, Target};
use crate::batch::{Identity, Pool, ProducerFields, SharedPool, now_ms};
use crate::client::cluster::{
    EARLIEST, init_producer_id, leaders_now, list_offsets, prepare_topic, wait_for_leaders,
};
use crate::client::connection::{Connection, open_stream, read_frame};
use crate::client::frame::{ProduceFrame, read_produce_answer};
use crate::error::{LoadError, Result};
use crate::json::Json;
use crate::report::{Report, grouped, median};
use crate::verify::{Expected, Findings, Ledger};

const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Between a lost leader and the question who leads now.
const RETRY_INTERVAL_MS: u64 = 20;

#[derive(Clone, Debug)]
pub struct FailoverPlan {
    pub target: Target,
    pub topic: String,
    pub partitions: u32,
    pub replication_factor: i16,
    pub record_bytes: usize,
    /// Between an acknowledgement and the partition's next record.
    pub pause: Duration,
    /// An answer that takes longer is not waited for any more.
    pub patience: Duration,
    /// Before the fault, and from the fault to the end.
    pub before: Duration,
    pub after: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct FailoverResult {
    pub interrupted: bool,
    /// One for each partition: the longest time without an acknowledgement, from before the fault on.
    pub silences_ms: Vec<f64>,
    /// The same in the undisturbed time before.
    pub usual_ms: f64,
    pub acknowledged: u64,
    /// Sends that had to be repeated, by Kafka's error code; -1 is a lost connection or no answer.
    pub repeated: BTreeMap<i16, u64>,
    pub seconds: f64,
    pub verified: Findings,
}

impl FailoverResult {
    pub fn longest_ms(&self) -> f64 {
        self.silences_ms.iter().copied().fold(0.0, f64::max)
    }
}

/// What all partitions' producers share.
struct Run {
    plan: FailoverPlan,
    /// Brokers that can be asked who leads.
    brokers: Vec<String>,
    pool: SharedPool,
    fault_at: Instant,
    end_at: Instant,
}

/// One partition's producer and its account.
struct Writer {
    run: Arc<Run>,
    partition: u32,
    /// Where it sends: none while nobody is known to lead.
    leader: Option<String>,
    stream: Option<TcpStream>,
    buffer: BytesMut,
    producer: (i64, i16),
    ledger: Ledger,
    acknowledged_at: Instant,
    usual: Duration,
    silence: Duration,
    repeated: BTreeMap<i16, u64>,
}

/// `fault` is called with the address of partition 0's leader, and must not take long: what it starts
/// goes on by itself.
pub async fn run(
    plan: &FailoverPlan,
    interrupt: &Interrupt,
    fault: impl AsyncFnOnce(&str) -> Result<()>,
) -> Result<FailoverResult> {
    let mut control = Connection::open_checked(&plan.target.bootstrap).await?;
    let (name, factor) = (&plan.topic, plan.replication_factor);
    let topic = prepare_topic(&mut control, name, plan.partitions, factor).await?;
    // Every leader answers before anything is measured.
    let first_offsets = list_offsets(&topic, EARLIEST).await?;
    let run_id = uuid::Uuid::new_v4().as_u64_pair().0;
    let begin = Instant::now();
    let run = Arc::new(Run {
        plan: plan.clone(),
        brokers: topic.by_leader().into_keys().map(String::from).collect(),
        pool: Arc::new(Pool::new(run_id, plan.record_bytes, 1)),
        fault_at: begin + plan.before,
        end_at: begin + plan.before + plan.after,
    });
    let mut writers = JoinSet::new();
    for (partition, leader) in topic.leaders.iter().enumerate() {
        let producer = init_producer_id(&mut control).await?;
        let writer = Writer::new(run.clone(), partition as u32, leader, producer);
        writers.spawn(writer.write());
    }
    let mut stop = interrupt.clone();
    tokio::select! {
        () = tokio::time::sleep_until(run.fault_at.into()) => fault(&topic.leaders[0]).await?,
        () = stop.wait() => return Err(LoadError::Usage("interrupted before the fault".into())),
    }
    tokio::select! {
        () = tokio::time::sleep_until(run.end_at.into()) => {}
        () = stop.wait() => {}
    }
    let mut result = FailoverResult {
        interrupted: interrupt.is_set(),
        seconds: begin.elapsed().as_secs_f64(),
        ..FailoverResult::default()
    };
    let ledgers = gather(writers, &mut result).await?;
    let expected = Expected::new(run_id, &ledgers);
    let mut control = ask_any(&run).await?;
    let topic = wait_for_leaders(&mut control, name, Some(plan.partitions)).await?;
    result.verified = read_back(&topic, first_offsets, &expected, plan.target.progress).await?;
    Ok(result)
}

async fn gather(
    mut writers: JoinSet<Result<Writer>>,
    result: &mut FailoverResult,
) -> Result<Vec<Ledger>> {
    let mut ledgers = Vec::new();
    while let Some(ended) = writers.join_next().await {
        let writer = ended.map_err(|panic| LoadError::Usage(panic.to_string()))??;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        result.silences_ms.push(ms(writer.silence));
        result.usual_ms = result.usual_ms.max(ms(writer.usual));
        result.acknowledged += writer.ledger.acknowledged();
        for (code, count) in writer.repeated {
            *result.repeated.entry(code).or_insert(0) += count;
        }
        ledgers.push(writer.ledger);
    }
    Ok(ledgers)
}

/// A connection to whichever broker answers.
async fn ask_any(run: &Run) -> Result<Connection> {
    let mut last = LoadError::Usage("no broker is known".into());
    for address in &run.brokers {
        match timeout(run.plan.patience, Connection::open(address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = error,
            Err(_) => last = LoadError::Timeout(format!("{address} takes no connection")),
        }
    }
    Err(last)
}

impl Writer {
    fn new(run: Arc<Run>, partition: u32, leader: &str, producer: (i64, i16)) -> Writer {
        Writer {
            run,
            partition,
            leader: Some(leader.to_string()),
            stream: None,
            buffer: BytesMut::new(),
            producer,
            ledger: Ledger {
                connection: partition,
                partitions: vec![partition],
                ..Ledger::default()
            },
            acknowledged_at: Instant::now(),
            usual: Duration::ZERO,
            silence: Duration::ZERO,
            repeated: BTreeMap::new(),
        }
    }

    /// Sends until the time is up. What is not acknowledged then may be in the log or not.
    async fn write(mut self) -> Result<Writer> {
        let end_at = self.run.end_at;
        while Instant::now() < end_at {
            let send = self.ledger.sent;
            self.ledger.sent += 1;
            while !self.attempt(send).await? {
                if Instant::now() >= end_at {
                    self.ledger.unacknowledged.insert(send);
                    break;
                }
            }
            self.note(Instant::now());
            tokio::time::sleep(self.run.plan.pause).await;
        }
        Ok(self)
    }

    /// An acknowledgement, or the end.
    fn note(&mut self, now: Instant) {
        let gap = now - self.acknowledged_at;
        let longest = match now < self.run.fault_at {
            true => &mut self.usual,
            false => &mut self.silence,
        };
        *longest = gap.max(*longest);
        self.acknowledged_at = now;
    }

    /// Whether it was acknowledged. Who was not looks who leads.
    async fn attempt(&mut self, send: u64) -> Result<bool> {
        let patience = self.run.plan.patience;
        let code = match timeout(patience, self.send(send)).await {
            Ok(Ok(0)) => return Ok(true),
            Ok(Ok(code)) => code,
            Ok(Err(_)) | Err(_) => -1,
        };
        *self.repeated.entry(code).or_insert(0) += 1;
        self.stream = None;
        self.buffer.clear();
        let retriable = |code| ResponseError::try_from_code(code).is_some_and(|e| e.is_retriable());
        if code > 0 && !retriable(code) {
            let partition = self.partition;
            LoadError::check(code, || format!("producing to partition {partition}"))?;
        }
        tokio::time::sleep(Duration::from_millis(RETRY_INTERVAL_MS)).await;
        if let Ok(Ok(leader)) = timeout(patience, self.look()).await {
            self.leader = leader;
        }
        Ok(false)
    }

    async fn look(&self) -> Result<Option<String>> {
        let mut connection = ask_any(&self.run).await?;
        let leaders = leaders_now(&mut connection, &self.run.plan.topic).await?;
        Ok(leaders.into_iter().nth(self.partition as usize).flatten())
    }

    /// One request and its answer's code.
    async fn send(&mut self, send: u64) -> Result<i16> {
        let Some(leader) = self.leader.clone() else {
            return Ok(ResponseError::LeaderNotAvailable.code());
        };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => open_stream(&leader).await?,
        };
        let lost = |cause| LoadError::Lost {
            address: leader.clone(),
            cause,
        };
        self.frame(send).write(&mut stream).await.map_err(lost)?;
        let answer = read_frame(&mut stream, &mut self.buffer, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(lost)?;
        let mut code = None;
        let read = read_produce_answer(&answer, |ack| code = Some(ack.code));
        let malformed = |what: &str| LoadError::Malformed {
            address: leader.clone(),
            what: what.into(),
        };
        if read != Ok(send as i32) {
            return Err(malformed(
                "a produce answer that does not match its request",
            ));
        }
        self.stream = Some(stream);
        code.ok_or_else(|| malformed("a produce answer without the partition"))
    }

    fn frame(&self, send: u64) -> ProduceFrame {
        let run = &*self.run;
        let patience_ms = run.plan.patience.as_millis() as i32;
        let mut frame = ProduceFrame::new(&run.plan.topic, -1, patience_ms);
        frame.begin(send as i32, 1);
        let identity = Identity {
            connection: self.partition,
            partition: self.partition,
            sequence: send,
        };
        let (id, epoch) = self.producer;
        let base_sequence = send.wrapping_mul(run.pool.records_per_batch.into()) & 0x7fff_ffff;
        let producer = ProducerFields {
            id,
            epoch,
            base_sequence: base_sequence as i32,
        };
        frame.add(self.partition, run.pool.batch_bytes(), |out| {
            run.pool.stamp(send, identity, producer, now_ms(), out)
        });
        frame.finish();
        frame
    }
}

pub fn report(plan: &FailoverPlan, result: &FailoverResult) -> Report {
    let mut report = Report::new("failover");
    report.interrupted = result.interrupted;
    let topic = format!("{}, {} partitions", plan.topic, plan.partitions);
    report.text("topic", "topic", topic);
    let longest = result.longest_ms();
    report.number("silence_ms", "longest silence", longest, 1, "ms");
    let middle = median(&result.silences_ms);
    report.number(
        "silence_median_ms",
        "of the median partition",
        middle,
        1,
        "ms",
    );
    report.number(
        "usual_ms",
        "longest before the fault",
        result.usual_ms,
        1,
        "ms",
    );
    report.count("acknowledged", "records acknowledged", result.acknowledged);
    let name = |code: i16| match code {
        -1 => "no answer".to_string(),
        code => error_name(code),
    };
    let counts = || {
        result
            .repeated
            .iter()
            .map(|(code, count)| (name(*code), *count))
    };
    let shown: Vec<String> = counts()
        .map(|(name, count)| format!("{name} {}", grouped(count as f64, 0)))
        .collect();
    let members = counts().map(|(name, count)| (name, Json::Number(count as f64)));
    let members = Json::Object(members.collect());
    report.value("repeated", "sent again after", shown.join(", "), members);
    let bytes = result.acknowledged * plan.record_bytes as u64;
    let mb_per_s = bytes as f64 / BYTES_PER_MB / result.seconds.max(1e-9);
    report.number("mb_per_s", "throughput", mb_per_s, 2, "MB/s");
    report.count("verified_batches", "read back", result.verified.batches);
    report
}
