//! The task of an OpenSearch sink: gathers bulk requests, and knows up to where all is written.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};

use ottla_connect::data::SinkRecord;
use ottla_connect::error::ConnectError;
use ottla_connect::rotate::Commit;
use ottla_connect::sink::{
    Assigned, BadRecord, Passed, Report, SinkError, SinkTask, TopicPartition,
};
use tokio::task::AbortHandle;

use super::bulk::{Batch, Bulk, Item, Outcome};
use super::document::{Action, Documents};
use super::indices::Target;
use crate::plugins::Surroundings;

/// While requests are on their way, their end is looked for this often.
const LOOK_MS: i64 = 2;
/// A batch's memory beside its lines: the record as it came stays for a dead letter.
const ITEM_BYTES: usize = 200;

/// When a bulk request is sent, and how much waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub records: usize,
    pub bytes: usize,
    pub linger_ms: i64,
    pub in_flight: usize,
    pub buffered_records: usize,
    pub buffered_bytes: usize,
}

/// What a refused document does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// As `errors.tolerance` says.
    Report,
    Warn,
    Ignore,
}

pub struct Behavior {
    pub malformed: Malformed,
    /// `drop.invalid.message`
    pub drop_invalid: bool,
    /// Whether documents that were there already are logged.
    pub log_duplicates: bool,
}

struct Open {
    /// All offsets below have been put or passed.
    position: i64,
    committed: Commit,
    asked: Option<Commit>,
    /// Batches with its records, in their order, with the first offset in each; `true` once written.
    batches: VecDeque<(u64, i64, bool)>,
    paused: bool,
}

impl Open {
    /// Where reading goes on: nothing below is needed any more.
    fn safe(&self) -> i64 {
        self.batches
            .front()
            .map_or(self.position, |(_, first, _)| *first)
    }

    fn written(&mut self, batch: u64) {
        for (id, _, done) in &mut self.batches {
            *done |= *id == batch;
        }
        while self.batches.front().is_some_and(|(.., done)| *done) {
            self.batches.pop_front();
        }
    }
}

struct Filling {
    batch: Batch,
    since_ms: i64,
    targets: HashMap<(String, usize), usize>,
    /// Bytes of the records as they came.
    raw_bytes: usize,
}

struct Sent {
    abort: AbortHandle,
    records: usize,
    bytes: usize,
}

pub struct OpenSearchSink {
    documents: Documents,
    behavior: Behavior,
    limits: Limits,
    bulk: Arc<Bulk>,
    around: Surroundings,
    open: HashMap<TopicPartition, Open>,
    /// The number of the batch that is being filled; those before it are sent or written.
    number: u64,
    filling: Option<Filling>,
    /// Full ones that wait for others to be written.
    waiting: VecDeque<(u64, Filling)>,
    sent: BTreeMap<u64, Sent>,
    done: (Sender<Done>, Receiver<Done>),
    buffered: usize,
    buffered_bytes: usize,
    dropped: u64,
    duplicates: u64,
}

type Done = (u64, Result<Outcome, ConnectError>);

impl OpenSearchSink {
    pub fn new(
        documents: Documents,
        behavior: Behavior,
        limits: Limits,
        bulk: Bulk,
        around: Surroundings,
    ) -> OpenSearchSink {
        OpenSearchSink {
            documents,
            behavior,
            limits,
            bulk: Arc::new(bulk),
            around,
            open: HashMap::new(),
            number: 0,
            filling: None,
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            done: mpsc::channel(),
            buffered: 0,
            buffered_bytes: 0,
            dropped: 0,
            duplicates: 0,
        }
    }

    fn take(&mut self, record: &SinkRecord, now_ms: i64) -> Result<(), ConnectError> {
        let filling = self.filling.get_or_insert_with(|| Filling {
            batch: Batch::default(),
            since_ms: now_ms,
            targets: HashMap::new(),
            raw_bytes: 0,
        });
        let start = filling.batch.lines.len();
        let action = match self.documents.write(record, &mut filling.batch.lines) {
            Ok(Some(action)) => action,
            nothing => {
                filling.batch.lines.truncate(start);
                return nothing.map(|_| ());
            }
        };
        let end = filling.batch.lines.len();
        let bytes = end - start;
        let full = start > 0 && end > self.limits.bytes;
        if full {
            // The record is the first of the next request.
            let lines = filling.batch.lines.split_off(start);
            self.close_batch();
            let filling = self.filling.insert(Filling {
                batch: Batch::default(),
                since_ms: now_ms,
                targets: HashMap::new(),
                raw_bytes: 0,
            });
            filling.batch.lines = lines;
        }
        self.add(record, action, bytes);
        let filling = self.filling.as_ref().expect("it was filled above");
        let batch = &filling.batch;
        if batch.items.len() >= self.limits.records || batch.lines.len() >= self.limits.bytes {
            self.close_batch();
        }
        Ok(())
    }

    /// The record's lines are the last of the batch.
    fn add(&mut self, record: &SinkRecord, action: Action, bytes: usize) {
        let filling = self.filling.as_mut().expect("the caller has filled it");
        let batch = &mut filling.batch;
        let address = action
            .schema
            .as_ref()
            .map_or(0, |s| Arc::as_ptr(s) as usize);
        let hash = action
            .id
            .as_ref()
            .filter(|_| self.documents.upsert)
            .map(|id| {
                let mut hasher = DefaultHasher::new();
                (&action.index, id).hash(&mut hasher);
                hasher.finish()
            });
        let (index, schema) = (action.index, action.schema);
        let target = *filling
            .targets
            .entry((index, address))
            .or_insert_with_key(|key| {
                let index = key.0.clone();
                batch.targets.push(Arc::new(Target { index, schema }));
                batch.targets.len() - 1
            });
        let end = batch.lines.len();
        batch.items.push(Item {
            record: record.original.clone(),
            lines: end - bytes..end,
            target,
            ordered_id: hash,
        });
        let held = bytes + record.original.size_bytes() + ITEM_BYTES;
        filling.raw_bytes += held - bytes;
        self.buffered += 1;
        self.buffered_bytes += held;
        self.around.held_bytes.fetch_add(held, Ordering::Relaxed);
        let number = self.number;
        let open = self
            .open
            .get_mut(&place(record))
            .expect("the caller has looked");
        if open.batches.back().is_none_or(|(id, ..)| *id != number) {
            open.batches.push_back((number, record.offset, false));
        }
    }

    /// The batch takes nothing more.
    fn close_batch(&mut self) {
        if let Some(filling) = self.filling.take_if(|f| !f.batch.items.is_empty()) {
            self.waiting.push_back((self.number, filling));
            self.number += 1;
            self.send();
        }
    }

    /// Changes of a document's fields come one after the other.
    fn in_flight_max(&self) -> usize {
        if self.documents.upsert {
            1
        } else {
            self.limits.in_flight
        }
    }

    fn send(&mut self) {
        while self.sent.len() < self.in_flight_max()
            && let Some((number, filling)) = self.waiting.pop_front()
        {
            let bulk = self.bulk.clone();
            let sender = self.done.0.clone();
            let records = filling.batch.items.len();
            let bytes = filling.batch.lines.len() + filling.raw_bytes;
            let batch = filling.batch;
            let task = self.around.runtime.spawn(async move {
                let outcome = bulk.write(batch).await;
                // A task that has ended does not ask any more.
                let _ = sender.send((number, outcome));
            });
            let abort = task.abort_handle();
            self.sent.insert(
                number,
                Sent {
                    abort,
                    records,
                    bytes,
                },
            );
        }
    }

    fn collect(&mut self, report: &mut Report) -> Result<(), SinkError> {
        while let Ok((number, outcome)) = self.done.1.try_recv() {
            let Some(sent) = self.sent.remove(&number) else {
                continue;
            };
            self.release(sent.records, sent.bytes);
            let outcome = outcome.map_err(SinkError::Fatal)?;
            for open in self.open.values_mut() {
                open.written(number);
            }
            if outcome.duplicates > 0 {
                self.duplicates += outcome.duplicates;
                if self.behavior.log_duplicates {
                    let count = outcome.duplicates;
                    tracing::warn!(
                        "{}: {count} documents were there already",
                        self.bulk.connector
                    );
                }
            }
            report.duplicates += outcome.duplicates;
            for bad in outcome.bad {
                self.refused(bad, report);
            }
        }
        self.send();
        Ok(())
    }

    /// A document that the server does not take.
    fn refused(&mut self, bad: BadRecord, report: &mut Report) {
        let here = TopicPartition {
            topic: bad.record.topic.to_string(),
            partition: bad.record.partition,
        };
        // Of a topic-partition that is somebody else's by now: there it is found again.
        if !self.open.contains_key(&here) {
            return;
        }
        match self.behavior.malformed {
            Malformed::Report => report.bad.push(bad),
            Malformed::Warn => {
                let (record, error) = (&bad.record, &bad.error);
                let (topic, partition, offset) = (&record.topic, record.partition, record.offset);
                tracing::warn!("{topic}-{partition} at {offset}, dropped: {error}");
                self.dropped += 1;
            }
            Malformed::Ignore => self.dropped += 1,
        }
    }

    fn release(&mut self, records: usize, bytes: usize) {
        self.buffered -= records;
        self.buffered_bytes -= bytes;
        self.around.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// With too much waiting, nothing more is taken until half of it is written.
    fn pressure(&mut self, report: &mut Report) {
        let limits = &self.limits;
        let crowded = self.around.held_bytes.load(Ordering::Relaxed) > self.around.memory_bytes;
        let full = self.buffered >= limits.buffered_records
            || self.buffered_bytes >= limits.buffered_bytes
            || crowded && self.buffered > 0;
        let free = self.buffered <= limits.buffered_records / 2
            && self.buffered_bytes <= limits.buffered_bytes / 2
            && (!crowded || self.buffered == 0);
        for (partition, open) in &mut self.open {
            if full && !open.paused {
                open.paused = true;
                report.pause.push(partition.clone());
            } else if free && open.paused {
                open.paused = false;
                report.resume.push(partition.clone());
            }
        }
    }

    fn drop_all(&mut self) {
        for sent in self.sent.values() {
            sent.abort.abort();
        }
        self.sent.clear();
        self.waiting.clear();
        self.filling = None;
        self.release(self.buffered, self.buffered_bytes);
    }
}

fn place(record: &SinkRecord) -> TopicPartition {
    TopicPartition {
        topic: record.original.topic.to_string(),
        partition: record.original.partition,
    }
}

impl SinkTask for OpenSearchSink {
    fn open(&mut self, partitions: Vec<Assigned>, _now_ms: i64) -> Result<(), SinkError> {
        for assigned in partitions {
            let open = Open {
                position: assigned.committed.offset,
                committed: assigned.committed,
                asked: None,
                batches: VecDeque::new(),
                paused: false,
            };
            self.open.insert(assigned.partition, open);
        }
        Ok(())
    }

    fn put(&mut self, records: Vec<SinkRecord>, now_ms: i64) -> Result<Report, SinkError> {
        let mut report = Report::default();
        for record in records {
            let partition = place(&record);
            if !self.open.contains_key(&partition) {
                continue;
            }
            match self.take(&record, now_ms) {
                Ok(()) => {}
                Err(error) if self.behavior.drop_invalid => {
                    tracing::warn!(
                        "{}-{} at {}, dropped: {error}",
                        partition.topic,
                        partition.partition,
                        record.offset
                    );
                    self.dropped += 1;
                }
                Err(error) => report.bad.push(BadRecord {
                    record: record.original.clone(),
                    error,
                }),
            }
            let open = self.open.get_mut(&partition).expect("it was open above");
            open.position = open.position.max(record.offset + 1);
        }
        self.pressure(&mut report);
        Ok(report)
    }

    fn passed(
        &mut self,
        partition: &TopicPartition,
        position: i64,
        _why: Passed,
    ) -> Result<(), SinkError> {
        if let Some(open) = self.open.get_mut(partition) {
            open.position = open.position.max(position);
        }
        Ok(())
    }

    fn flush(&mut self, now_ms: i64, deadline_ms: Option<i64>) -> Result<Report, SinkError> {
        let mut report = Report::default();
        self.collect(&mut report)?;
        // While none can be sent, more records make a better request.
        let can_send = self.waiting.is_empty() && self.sent.len() < self.in_flight_max();
        let due = |sink: &Self| {
            sink.filling
                .as_ref()
                .map(|f| f.since_ms + sink.limits.linger_ms)
        };
        let is_due = can_send && due(self).is_some_and(|due| due <= now_ms);
        if is_due || deadline_ms.is_some() {
            self.close_batch();
        }
        let busy = !self.sent.is_empty() || !self.waiting.is_empty();
        let look = busy.then_some(now_ms + LOOK_MS);
        let due = due(self).filter(|_| can_send);
        report.wake_ms = [due, look].into_iter().flatten().min();
        self.pressure(&mut report);
        Ok(report)
    }

    fn pre_commit(&mut self, _now_ms: i64) -> Result<Vec<(TopicPartition, Commit)>, SinkError> {
        let mut commits = Vec::new();
        for (partition, open) in &mut self.open {
            let commit = Commit {
                offset: open.safe(),
                metadata: String::new(),
            };
            if commit != open.committed {
                open.asked = Some(commit.clone());
                commits.push((partition.clone(), commit));
            }
        }
        Ok(commits)
    }

    fn committed(&mut self, _now_ms: i64) -> Result<(), SinkError> {
        for open in self.open.values_mut() {
            if let Some(commit) = open.asked.take() {
                open.committed = commit;
            }
        }
        Ok(())
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<(), SinkError> {
        for partition in partitions {
            self.open.remove(partition);
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.drop_all();
        self.open.clear();
        if self.duplicates + self.dropped > 0 {
            let (duplicates, dropped) = (self.duplicates, self.dropped);
            tracing::info!(
                "{}: {duplicates} documents were there already, {dropped} were dropped",
                self.bulk.connector
            );
        }
    }
}

impl Drop for OpenSearchSink {
    fn drop(&mut self) {
        self.drop_all();
    }
}
