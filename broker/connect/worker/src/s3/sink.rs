//! The task of an S3 sink.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};

use bytes::Bytes;
use ottla_connect::audit::ObjectEntry;
use ottla_connect::data::{SchemaRef, SinkRecord};
use ottla_connect::error::{ConnectError, ErrorKind};
use ottla_connect::rotate::{Commit, Incoming, ObjectId, Outputs, Plan, RotateError};
use ottla_connect::sink::{
    Assigned, BadRecord, Passed, Report, SinkError, SinkTask, TopicPartition,
};

use super::S3Config;
use super::audit::{ChainState, Place};
use super::buffer::Buffer;
use super::store::{Bucket, NewObject};
use crate::plugins::Surroundings;

/// Objects of a task that are being put at a time; each is in memory as a whole.
const PUTS_MAX: usize = 4;
/// Records are taken until this many objects wait to be put.
const WAITING_MAX: usize = 16;
/// No more records are taken while objects are due, cannot be closed yet (see [`Outputs::is_overdue`]), and hold
/// so much.
const OVERDUE_BYTES_MAX: u64 = 32 << 20;
/// The record's topic stands before this in an output if a transform has changed it.
const TOPIC_MARK: char = '\u{3}';

struct Open {
    outputs: Outputs,
    buffers: HashMap<ObjectId, Buffer>,
    /// What is committed, and what of that is being committed now.
    committed: Commit,
    asked: Option<(Commit, u64)>,
    /// Tells puts of an earlier assignment apart.
    epoch: u64,
    putting: usize,
    paused: bool,
    /// Where there are manifests.
    chain: Option<ChainState>,
}

/// Work on a topic-partition that has ended.
struct Done {
    partition: TopicPartition,
    epoch: u64,
    result: Result<What, ConnectError>,
}

enum What {
    /// Put, with this SHA-256 and so many bytes.
    Object {
        id: ObjectId,
        key: String,
        sha256: String,
        bytes: u64,
    },
    Manifest {
        hash: [u8; 32],
    },
    /// The chain goes on where the metadata says so.
    Place,
}

pub struct S3Sink {
    config: S3Config,
    bucket: Bucket,
    around: Surroundings,
    open: HashMap<TopicPartition, Open>,
    done: (Sender<Done>, Receiver<Done>),
    putting: usize,
    epoch: u64,
    schemas: Schemas,
    line: Vec<u8>,
}

/// Numbers of schemas, the same in each process: by what a schema says.
#[derive(Default)]
struct Schemas(HashMap<usize, (SchemaRef, u64)>);

impl Schemas {
    /// Memory of the schema's address is kept, so that it names the schema.
    fn number(&mut self, schema: Option<&SchemaRef>) -> u64 {
        const REMEMBERED: usize = 10_000;
        let Some(schema) = schema else { return 0 };
        let address = Arc::as_ptr(schema) as usize;
        if let Some((_, number)) = self.0.get(&address) {
            return *number;
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        // FNV-1a of its text.
        let text = format!("{schema:?}");
        let number = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.0.insert(address, (schema.clone(), number));
        number
    }
}

fn fatal(message: impl ToString) -> SinkError {
    SinkError::Fatal(ConnectError::new(ErrorKind::Connect, message.to_string()))
}

impl S3Sink {
    pub fn new(config: S3Config, bucket: Bucket, around: Surroundings) -> S3Sink {
        S3Sink {
            config,
            bucket,
            around,
            open: HashMap::new(),
            done: mpsc::channel(),
            putting: 0,
            epoch: 0,
            schemas: Schemas::default(),
            line: Vec::new(),
        }
    }

    /// The record's place and bytes, or why it has none.
    fn place(&mut self, record: &SinkRecord, now_ms: i64) -> Result<Option<String>, ConnectError> {
        if record.value.value.is_null() {
            if self.config.skip_null {
                return Ok(None);
            }
            if self.config.fail_null {
                return Err(ConnectError::data(
                    "Null valued records are not writeable with current behavior.on.null.values 'fail'",
                ));
            }
        }
        let schema = self.schemas.number(record.value.schema.as_ref());
        let partition = partition(record);
        let open = &self.open[&partition];
        let output = match open.outputs.replayed_output(record.offset, schema) {
            Some(output) => output.to_owned(),
            None => {
                let output = self.config.naming.output(record, now_ms)?;
                if record.topic == record.original.topic {
                    output
                } else {
                    format!("{}{TOPIC_MARK}{output}", record.topic)
                }
            }
        };
        // A name that no store takes is the record's fault, not the task's.
        let key = self.name(&partition, &output, record.offset)?;
        if let Some(audit) = &self.config.audit {
            audit.name(&key)?;
        }
        self.line.clear();
        self.config.format.write(record, &mut self.line)?;
        Ok(Some(output))
    }

    fn name(
        &self,
        partition: &TopicPartition,
        output: &str,
        first: i64,
    ) -> Result<String, ConnectError> {
        let (topic, output) = output
            .split_once(TOPIC_MARK)
            .unwrap_or((&partition.topic, output));
        let extension = &self.config.extension;
        self.config
            .naming
            .object(topic, partition.partition, output, first, extension)
    }

    fn take(&mut self, record: &SinkRecord, output: &str, now_ms: i64) -> Result<(), SinkError> {
        let schema = self.schemas.number(record.value.schema.as_ref());
        let held = self.around.held_bytes.clone();
        let Some(open) = self.open.get_mut(&partition(record)) else {
            return Ok(());
        };
        let incoming = Incoming {
            output,
            schema,
            offset: record.offset,
            time_ms: record.timestamp,
            bytes: self.line.len() as u64,
        };
        let appended = open.outputs.append(incoming, now_ms).map_err(fatal)?;
        if let Some(id) = appended.object {
            let buffer = open.buffers.entry(id).or_insert_with(|| Buffer::new(held));
            buffer.push(&self.line);
        }
        Ok(())
    }

    /// The record goes into no object.
    fn step_over(&mut self, record: &SinkRecord, why: Passed) -> Result<(), SinkError> {
        let open = self.open.get_mut(&partition(record)).expect("it is open");
        open.outputs
            .advance(record.offset + 1, why)
            .map(|_| ())
            .map_err(fatal)
    }

    /// Moves the largest buffers into files until half of the budget is free.
    fn spool(&mut self) -> Result<(), SinkError> {
        let held = || self.around.held_bytes.load(Ordering::Relaxed);
        if held() <= self.around.memory_bytes {
            return Ok(());
        }
        let buffers = self.open.values_mut().flat_map(|o| o.buffers.values_mut());
        let mut buffers: Vec<_> = buffers.collect();
        buffers.sort_by_key(|b| std::cmp::Reverse(b.memory_bytes()));
        for buffer in buffers {
            if held() <= self.around.memory_bytes / 2 {
                break;
            }
            buffer
                .spool(&self.around.spool_dir)
                .map_err(|e| fatal(format!("spool in {}: {e}", self.around.spool_dir.display())))?;
        }
        Ok(())
    }

    fn collect_done(&mut self, report: &mut Report) -> Result<(), SinkError> {
        while let Ok(done) = self.done.1.try_recv() {
            self.putting -= 1;
            let Some(open) = self.open.get_mut(&done.partition) else {
                continue;
            };
            if open.epoch != done.epoch {
                continue;
            }
            open.putting -= 1;
            match done.result.map_err(SinkError::Fatal)? {
                What::Object {
                    id,
                    key,
                    sha256,
                    bytes,
                } => {
                    if let (Some(chain), Some(audit)) = (&mut open.chain, &self.config.audit) {
                        let planned = open.outputs.planned(id).expect("it was planned above");
                        chain.objects.push(ObjectEntry {
                            key: audit.name(&key).map_err(SinkError::Fatal)?.to_owned(),
                            sha256,
                            bytes,
                            records: planned.records,
                            first_offset: planned.first,
                            last_offset: planned.last,
                        });
                    }
                    open.outputs.written(id);
                }
                What::Manifest { hash } => {
                    let chain = open.chain.as_mut().expect("it has manifests");
                    chain.objects.clear();
                    chain.putting = false;
                    open.outputs.manifested(hash);
                    report.manifests += 1;
                }
                What::Place => {
                    let chain = open.chain.as_mut().expect("it has manifests");
                    chain.place = Place::Sure;
                }
            }
        }
        Ok(())
    }

    /// Does work whose end [`S3Sink::collect_done`] hears of.
    fn spawn(
        &mut self,
        partition: &TopicPartition,
        work: impl Future<Output = Result<What, ConnectError>> + Send + 'static,
    ) {
        let open = self.open.get_mut(partition).expect("it is open");
        open.putting += 1;
        self.putting += 1;
        let (sender, epoch, partition) = (self.done.0.clone(), open.epoch, partition.clone());
        self.around.runtime.spawn(async move {
            let result = work.await;
            // A task that has ended does not ask any more.
            let _ = sender.send(Done {
                partition,
                epoch,
                result,
            });
        });
    }

    /// Puts manifests whose objects are all there. Before the first objects, asks whether the chain goes on where
    /// it should.
    fn start_manifests(&mut self) {
        let Some(audit) = self.config.audit.clone() else {
            return;
        };
        let (mut ask, mut put) = (Vec::new(), Vec::new());
        for (partition, open) in &mut self.open {
            let (Some(chain), Some(segment)) = (&mut open.chain, open.outputs.segment()) else {
                continue;
            };
            match chain.place {
                Place::Unknown => {
                    chain.place = Place::Asked;
                    ask.push((partition.clone(), segment));
                }
                Place::Sure if segment.complete && !chain.putting => {
                    chain.putting = true;
                    let (object, hash) = audit.manifest(chain, partition, &segment);
                    put.push((partition.clone(), object, hash));
                }
                _ => {}
            }
        }
        for (partition, segment) in ask {
            let check = audit
                .clone()
                .check_place(self.bucket.clone(), partition.clone(), segment);
            self.spawn(&partition, async { check.await.map(|()| What::Place) });
        }
        for (partition, object, hash) in put {
            let bucket = self.bucket.clone();
            self.spawn(&partition, async move {
                bucket.put(object).await.map(|_| What::Manifest { hash })
            });
        }
    }

    /// Puts what is planned durably and not on its way yet.
    fn start_puts(&mut self) -> Result<(), SinkError> {
        self.start_manifests();
        let mut ready = Vec::new();
        for (partition, open) in &self.open {
            if open.chain.as_ref().is_some_and(|c| c.place != Place::Sure) {
                continue;
            }
            for planned in open.outputs.writable() {
                if self.putting + ready.len() >= PUTS_MAX {
                    break;
                }
                if open.buffers.contains_key(&planned.id) {
                    ready.push((partition.clone(), planned.clone()));
                }
            }
        }
        for (partition, planned) in ready {
            let key = self.name(&partition, &planned.output, planned.first);
            let key = key.map_err(SinkError::Fatal)?;
            let open = self.open.get_mut(&partition).expect("it was open above");
            let buffer = open
                .buffers
                .remove(&planned.id)
                .expect("it was there above");
            let (compression, content_type) = (self.config.compression, self.config.content_type);
            let bucket = self.bucket.clone();
            self.spawn(&partition, async move {
                let body = tokio::task::spawn_blocking(move || {
                    buffer.bytes().and_then(|bytes| compression.compress(bytes))
                });
                let wrong = |e: String| ConnectError::new(ErrorKind::Connect, e);
                let body = body.await.map_err(|e| wrong(e.to_string()))?;
                let body = Bytes::from(body.map_err(|e| wrong(e.to_string()))?);
                let bytes = body.len() as u64;
                let object = NewObject {
                    key: key.clone(),
                    body,
                    first: planned.first,
                    last: planned.last,
                    content_type,
                };
                let sha256 = bucket.put(object).await?;
                Ok(What::Object {
                    id: planned.id,
                    key,
                    sha256,
                    bytes,
                })
            });
        }
        Ok(())
    }

    /// Topic-partitions with too much waiting take nothing more until it is put.
    fn pressure(&mut self, report: &mut Report) {
        for (partition, open) in &mut self.open {
            let waiting = open
                .buffers
                .len()
                .saturating_sub(open.outputs.open().count())
                + open.putting;
            let overdue = open.outputs.is_overdue();
            let held = || open.outputs.open().map(|(_, bytes)| bytes).sum::<u64>();
            let behind = waiting > WAITING_MAX || overdue && held() > OVERDUE_BYTES_MAX;
            if behind && !open.paused {
                open.paused = true;
                report.pause.push(partition.clone());
            } else if waiting <= WAITING_MAX / 2 && !overdue && open.paused {
                open.paused = false;
                report.resume.push(partition.clone());
            }
        }
    }

    /// Whether there is a plan to commit, or an end of one: both unlock work.
    fn is_urgent(&self) -> bool {
        self.open.values().any(|open| {
            let (commit, _) = open.outputs.commit();
            let unplanned = open.buffers.len() > open.outputs.open().count();
            commit != open.committed && (unplanned || commit.metadata != open.committed.metadata)
        })
    }
}

fn partition(record: &SinkRecord) -> TopicPartition {
    TopicPartition {
        topic: record.original.topic.to_string(),
        partition: record.original.partition,
    }
}

impl SinkTask for S3Sink {
    fn needs_every_record(&self) -> bool {
        self.config.audit.is_some()
    }

    fn open(&mut self, partitions: Vec<Assigned>, _now_ms: i64) -> Result<(), SinkError> {
        for Assigned {
            partition,
            committed,
            cluster_id,
        } in partitions
        {
            let wrong = |e: &dyn Display| {
                fatal(format!("{}-{}: {e}", partition.topic, partition.partition))
            };
            let plan = Plan::decode(committed.offset, &committed.metadata);
            let plan = plan.map_err(|e| wrong(&e))?;
            let (policy, stable) = (self.config.policy.clone(), self.config.naming.is_stable());
            if plan.chain.is_some() && !policy.chained {
                tracing::warn!(
                    "{}-{}: its chain of manifests ends at offset {}: ottla.audit.enable was set before",
                    partition.topic,
                    partition.partition,
                    committed.offset
                );
            }
            let outputs = Outputs::restore(policy, stable, committed.offset, plan);
            let chain = self.config.audit.as_ref().map(|a| a.new_chain(cluster_id));
            self.epoch += 1;
            let open = Open {
                outputs: outputs.map_err(|e| wrong(&e))?,
                chain: chain.transpose().map_err(|e| wrong(&e))?,
                buffers: HashMap::new(),
                committed,
                asked: None,
                epoch: self.epoch,
                putting: 0,
                paused: false,
            };
            self.open.insert(partition, open);
        }
        Ok(())
    }

    fn put(&mut self, records: Vec<SinkRecord>, now_ms: i64) -> Result<Report, SinkError> {
        let mut report = Report::default();
        for record in records {
            if !self.open.contains_key(&partition(&record)) {
                continue;
            }
            match self.place(&record, now_ms) {
                Ok(Some(output)) => self.take(&record, &output, now_ms)?,
                Ok(None) => self.step_over(&record, Passed::Skipped)?,
                Err(error) => {
                    self.step_over(&record, self.config.bad)?;
                    report.bad.push(BadRecord {
                        record: record.original.clone(),
                        error,
                    });
                }
            }
        }
        self.spool()?;
        self.pressure(&mut report);
        Ok(report)
    }

    fn passed(
        &mut self,
        partition: &TopicPartition,
        position: i64,
        why: Passed,
    ) -> Result<(), SinkError> {
        match self.open.get_mut(partition) {
            Some(open) => match open.outputs.advance(position, why) {
                Ok(_) | Err(RotateError::Order { .. }) => Ok(()),
                Err(error) => Err(fatal(error)),
            },
            None => Ok(()),
        }
    }

    fn flush(&mut self, now_ms: i64, deadline_ms: Option<i64>) -> Result<Report, SinkError> {
        let mut report = Report::default();
        self.collect_done(&mut report)?;
        if deadline_ms.is_none() {
            for open in self.open.values_mut() {
                open.outputs.tick(now_ms);
            }
        }
        self.start_puts()?;
        report.commit = self.is_urgent();
        let clocks = self.open.values().filter_map(|o| o.outputs.deadline_ms());
        report.wake_ms = match (self.putting, deadline_ms) {
            (0, Some(_)) => None,
            (0, None) => clocks.min(),
            _ => Some(now_ms + 5),
        };
        self.pressure(&mut report);
        Ok(report)
    }

    fn pre_commit(&mut self, _now_ms: i64) -> Result<Vec<(TopicPartition, Commit)>, SinkError> {
        let mut commits = Vec::new();
        for (partition, open) in &mut self.open {
            let (commit, version) = open.outputs.commit();
            if commit != open.committed {
                open.asked = Some((commit.clone(), version));
                commits.push((partition.clone(), commit));
            }
        }
        Ok(commits)
    }

    fn committed(&mut self, _now_ms: i64) -> Result<(), SinkError> {
        for open in self.open.values_mut() {
            if let Some((commit, version)) = open.asked.take() {
                open.committed = commit;
                open.outputs.durable(version);
            }
        }
        self.start_puts()
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<(), SinkError> {
        for partition in partitions {
            self.open.remove(partition);
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.open.clear();
    }
}
