//! The loop of a task: poll, convert, put, flush, commit.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_connect::data::{RawRecord, SinkRecord};
use ottla_connect::error::{ConnectError, ErrorKind};
use ottla_connect::errors::{
    Attempts, Decision, ErrorHandler, Failure, Pipeline, SINK_TASK_CLASS, Stage,
};
use ottla_connect::sink::{Passed, Report, SinkError, SinkTask, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::runtime::Handle;

use super::consumer::{Committed, Event, TaskConsumer};
use super::{Control, Counts, Spec, State, Status, compacted};
use crate::dead_letters::DeadLetters;
use crate::system::now_ms;

/// Longest wait for records: how soon a task hears of a stop.
const POLL_MS: i64 = 100;
/// One round takes no more than this before the sink is asked to flush.
const ROUND_RECORDS: usize = 2000;
const ROUND_BYTES: usize = 4 << 20;
/// Between two tries of a commit, or of what a sink says may work later.
const RETRY_MS: i64 = 200;
/// How long the sink may take to finish at the end.
const STOP_MS: i64 = 5000;

struct Running<'a> {
    consumer: TaskConsumer,
    admin: ClientConfig,
    runtime: Handle,
    sink: Box<dyn SinkTask>,
    pipeline: Pipeline,
    handler: ErrorHandler,
    dead_letters: Option<DeadLetters>,
    status: &'a Mutex<Status>,
    counts: Counts,
    /// Where the next record of each open topic-partition is expected.
    positions: HashMap<TopicPartition, i64>,
    /// Those that the sink has paused.
    held: HashSet<TopicPartition>,
    paused: bool,
    commit_interval_ms: i64,
    next_commit_ms: i64,
    wake_ms: Option<i64>,
    /// The sink has something to commit that should not wait.
    urgent: bool,
}

pub fn run(
    spec: Spec,
    commands: &Receiver<Control>,
    status: &Mutex<Status>,
) -> Result<(), ConnectError> {
    let pipeline = (spec.pipeline)()?;
    let dead_letters = (spec.dead_letters)()?;
    let sink = (spec.sink)()?;
    let group = format!("connect-{}", spec.connector);
    let consumer = TaskConsumer::start(spec.consumer, &group, &spec.props)?;
    let mut running = Running {
        consumer,
        admin: spec.admin,
        runtime: spec.runtime,
        sink,
        pipeline,
        handler: spec.handler,
        dead_letters,
        status,
        counts: Counts::default(),
        positions: HashMap::new(),
        held: HashSet::new(),
        paused: spec.paused,
        commit_interval_ms: spec.commit_interval_ms,
        next_commit_ms: now_ms() + spec.commit_interval_ms,
        wake_ms: None,
        urgent: false,
    };
    running.show();
    while !running.told_to_stop(commands) {
        running.round()?;
    }
    running.stop()
}

fn fault(error: SinkError) -> ConnectError {
    match error {
        SinkError::Retriable(error) | SinkError::Fatal(error) => error,
    }
}

impl Running<'_> {
    fn show(&self) {
        let mut status = self.status.lock().expect("no panic while it is held");
        status.counts = self.counts;
        status.state = if self.paused {
            State::Paused
        } else {
            State::Running
        };
    }

    fn told_to_stop(&mut self, commands: &Receiver<Control>) -> bool {
        loop {
            match commands.try_recv() {
                Ok(Control::Pause) => {
                    self.paused = true;
                    self.consumer
                        .pause(&self.positions.keys().cloned().collect());
                }
                Ok(Control::Resume) => {
                    self.paused = false;
                    let open = self.positions.keys().filter(|tp| !self.held.contains(*tp));
                    self.consumer.resume(&open.cloned().collect());
                }
                Ok(Control::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    fn round(&mut self) -> Result<(), ConnectError> {
        self.consumer.look_for_topics(now_ms())?;
        let records = self.poll()?;
        self.put_all(records)?;
        let report = self.sink.flush(now_ms(), None);
        match report {
            Ok(report) => {
                self.wake_ms = report.wake_ms;
                self.take(report)?;
            }
            Err(SinkError::Retriable(error)) => self.later("flush", &error),
            Err(SinkError::Fatal(error)) => return Err(error),
        }
        let now = now_ms();
        if now >= self.next_commit_ms || self.urgent {
            self.commit(now)?;
        }
        self.show();
        Ok(())
    }

    fn later(&mut self, what: &str, error: &ConnectError) {
        tracing::warn!("{what}, to be tried again: {error}");
        std::thread::sleep(Duration::from_millis(RETRY_MS as u64));
    }

    /// Records of open topic-partitions. What happened to the assignment meanwhile is done first, so
    /// that no record comes before its topic-partition is open.
    fn poll(&mut self) -> Result<Vec<RawRecord>, ConnectError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let until_wake = self.wake_ms.map_or(POLL_MS, |wake| wake - now_ms());
        let until_commit = self.next_commit_ms - now_ms();
        let mut wait = POLL_MS.min(until_wake).min(until_commit).max(1);
        if self.urgent {
            wait = 1;
        }
        while records.len() < ROUND_RECORDS && bytes < ROUND_BYTES {
            let polled = self.consumer.poll(Duration::from_millis(wait as u64));
            self.assignments(&mut records)?;
            match polled {
                None => break,
                Some(Ok(record)) => {
                    bytes += record.size_bytes();
                    records.push(record);
                }
                Some(Err(error)) => self.client_error(&error)?,
            }
            wait = 0;
        }
        Ok(records)
    }

    fn client_error(&self, error: &KafkaError) -> Result<(), ConnectError> {
        let hopeless = [
            RDKafkaErrorCode::Fatal,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::GroupAuthorizationFailed,
            RDKafkaErrorCode::SaslAuthenticationFailed,
            RDKafkaErrorCode::AutoOffsetReset,
        ];
        if error
            .rdkafka_error_code()
            .is_some_and(|c| hopeless.contains(&c))
        {
            return Err(ConnectError::new(
                ErrorKind::Connect,
                format!("consumer: {error}"),
            ));
        }
        tracing::warn!("consumer: {error}");
        Ok(())
    }

    fn assignments(&mut self, polled: &mut Vec<RawRecord>) -> Result<(), ConnectError> {
        for event in self.consumer.events() {
            match event {
                Event::Assigned(assigned) => {
                    tracing::info!(
                        "{}: {} partitions assigned",
                        self.handler.connector,
                        assigned.len()
                    );
                    let starts = assigned
                        .iter()
                        .map(|a| (a.partition.clone(), a.committed.offset));
                    let starts: Vec<_> = starts.collect();
                    if self.sink.needs_every_record() {
                        let topics = assigned.iter().map(|a| a.partition.topic.as_str());
                        let topics: BTreeSet<_> = topics.collect();
                        let topics: Vec<_> = topics.into_iter().collect();
                        compacted::refuse(&self.admin, &self.runtime, &topics)?;
                    }
                    self.sink.open(assigned, now_ms()).map_err(fault)?;
                    if self.paused {
                        self.consumer
                            .pause(&starts.iter().map(|(tp, _)| tp.clone()).collect());
                    }
                    self.positions.extend(starts);
                }
                Event::Revoked(revoked) => {
                    tracing::info!(
                        "{}: {} partitions revoked",
                        self.handler.connector,
                        revoked.len()
                    );
                    for tp in &revoked {
                        self.positions.remove(tp);
                        self.held.remove(tp);
                    }
                    polled.retain(|r| self.positions.contains_key(&place(r)));
                    self.sink.close(&revoked).map_err(fault)?;
                }
                Event::Failed(message) => {
                    return Err(ConnectError::new(ErrorKind::Connect, message));
                }
            }
        }
        Ok(())
    }

    /// Converts and puts. Runs of good records go together; what lies between them is said in its place,
    /// so that a sink can account for every offset.
    fn put_all(&mut self, records: Vec<RawRecord>) -> Result<(), ConnectError> {
        let mut good: Vec<SinkRecord> = Vec::new();
        for record in records {
            let tp = place(&record);
            let Some(position) = self.positions.get_mut(&tp) else {
                continue;
            };
            let skipped = record.offset - *position;
            let offset = record.offset;
            *position = offset + 1;
            self.counts.records += 1;
            self.counts.bytes += record.size_bytes() as u64;
            if skipped > 0 {
                self.put(&mut good)?;
                let passed = self.sink.passed(&tp, offset, Passed::NoRecord);
                passed.map_err(fault)?;
            }
            match self.convert(Arc::new(record))? {
                Converted::Good(record) => good.push(*record),
                Converted::Not(why) => {
                    self.counts.filtered += u64::from(why == Passed::Filtered);
                    self.put(&mut good)?;
                    self.sink.passed(&tp, offset + 1, why).map_err(fault)?;
                }
            }
        }
        self.put(&mut good)
    }

    fn put(&mut self, records: &mut Vec<SinkRecord>) -> Result<(), ConnectError> {
        if records.is_empty() {
            return Ok(());
        }
        let report = self
            .sink
            .put(std::mem::take(records), now_ms())
            .map_err(fault)?;
        self.take(report)
    }

    fn convert(&mut self, raw: Arc<RawRecord>) -> Result<Converted, ConnectError> {
        let mut attempts = Attempts::start(now_ms());
        loop {
            let failure = match self.pipeline.process(raw.clone()) {
                Ok(Some(record)) => return Ok(Converted::Good(Box::new(record))),
                Ok(None) => return Ok(Converted::Not(Passed::Filtered)),
                Err(failure) => failure,
            };
            if let Some(why) = self.handle(&failure, &mut attempts)? {
                return Ok(Converted::Not(why));
            }
        }
    }

    /// How the record is done with; `None`: it is to be tried again.
    fn handle(
        &mut self,
        failure: &Failure,
        attempts: &mut Attempts,
    ) -> Result<Option<Passed>, ConnectError> {
        match self
            .handler
            .decide(failure, attempts, now_ms(), rand::random())
        {
            Decision::Retry { after_ms } => {
                std::thread::sleep(Duration::from_millis(after_ms.max(0) as u64));
                Ok(None)
            }
            Decision::Skip { dead_letter, log } => {
                if let Some(line) = log {
                    tracing::error!("{line}");
                }
                let mut why = Passed::Skipped;
                if let (Some(letter), Some(queue)) = (&dead_letter, &self.dead_letters) {
                    queue.send(letter)?;
                    why = Passed::DeadLettered;
                }
                self.counts.dead_letters += 1;
                Ok(Some(why))
            }
            Decision::Fail { error, log } => {
                tracing::error!("{log}");
                Err(error)
            }
        }
    }

    fn take(&mut self, report: Report) -> Result<(), ConnectError> {
        for bad in report.bad {
            let failure = Failure {
                stage: Stage::TaskPut,
                class: SINK_TASK_CLASS.to_owned(),
                error: bad.error,
                record: bad.record,
            };
            let mut attempts = Attempts::start(now_ms());
            self.handle(&failure, &mut attempts)?;
        }
        self.urgent |= report.commit;
        self.counts.duplicates_skipped += report.duplicates;
        self.counts.manifests += report.manifests;
        if !report.pause.is_empty() {
            let more = report
                .pause
                .into_iter()
                .filter(|tp| self.positions.contains_key(tp));
            let more: HashSet<_> = more.collect();
            self.consumer.pause(&more);
            self.held.extend(more);
        }
        if !report.resume.is_empty() {
            let freed = report.resume.into_iter().filter(|tp| self.held.remove(tp));
            let freed: HashSet<_> = freed.collect();
            if !self.paused {
                self.consumer.resume(&freed);
            }
        }
        Ok(())
    }

    fn commit(&mut self, now: i64) -> Result<(), ConnectError> {
        self.next_commit_ms = now + self.commit_interval_ms;
        self.urgent = false;
        let mut offsets = self.sink.pre_commit(now).map_err(fault)?;
        offsets.retain(|(tp, _)| self.positions.contains_key(tp));
        if offsets.is_empty() {
            return Ok(());
        }
        match self.consumer.commit(&offsets)? {
            Committed::Yes => {
                self.counts.commits += 1;
                self.sink.committed(now_ms()).map_err(fault)
            }
            Committed::No(why) => {
                tracing::warn!(
                    "{}: offsets are not committed: {why}",
                    self.handler.connector
                );
                self.next_commit_ms = now + RETRY_MS;
                Ok(())
            }
        }
    }

    /// Finishes what can be finished in time, and says so to the brokers.
    fn stop(&mut self) -> Result<(), ConnectError> {
        let deadline = now_ms() + STOP_MS;
        self.consumer
            .pause(&self.positions.keys().cloned().collect());
        loop {
            let report = self.sink.flush(now_ms(), Some(deadline)).map_err(fault)?;
            let busy = report.commit || report.wake_ms.is_some();
            self.take(report)?;
            self.commit(now_ms())?;
            if !busy || now_ms() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.sink.stop();
        Ok(())
    }
}

enum Converted {
    Good(Box<SinkRecord>),
    Not(Passed),
}

fn place(record: &RawRecord) -> TopicPartition {
    TopicPartition {
        topic: record.topic.to_string(),
        partition: record.partition,
    }
}
