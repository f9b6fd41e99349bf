//! An idempotent producer (KIP-98) as real clients have it: up to five batches in flight, and after a
//! lost connection or a retriable error the same batches again, in order, with the same sequences.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;

use crate::batch::{Batch, Record, now_ms};
use crate::client::{ClientError, Connection, PRODUCE, code, produce_request};
use crate::history::{Event, Id, Recorder, Sent, value};
use crate::places::Places;

/// What a broker promises to remember, and so what a producer may have in flight.
pub const IN_FLIGHT: usize = 5;
/// A producer that gets nothing acknowledged for this long gives up: "unseen" is a failure.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Pause before a retry, as a client's `retry.backoff.ms`.
const BACKOFF: Duration = Duration::from_millis(5);

struct Pending {
    batch: Sent,
    records: Bytes,
    /// The correlation id, while an answer is due.
    asked: Option<i32>,
    since: Instant,
}

/// What a producer went through.
#[derive(Debug, Default, Clone, Copy)]
pub struct Trouble {
    /// Retriable errors.
    pub retries: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Batches whose answer was lost with the connection, and which were sent again.
    pub resent: u64,
    /// The longest from the first send of a batch to its acknowledgement.
    pub slowest: Duration,
}

impl std::ops::AddAssign for Trouble {
    fn add_assign(&mut self, other: Trouble) {
        self.retries += other.retries;
        self.disconnects += other.disconnects;
        self.resent += other.resent;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// A batch that was acknowledged, for a test that sends it again.
#[derive(Clone)]
pub struct Acknowledged {
    pub batch: Sent,
    pub records: Bytes,
    pub base_offset: i64,
}

pub struct Producer {
    name: u32,
    places: Places,
    topic: String,
    recorder: Recorder,
    connection: Option<Connection>,
    identity: Option<(i64, i16)>,
    /// Records sent, by partition; the next record's number and, modulo 2^31, its sequence.
    sent: Vec<u64>,
    window: VecDeque<Pending>,
    /// The newest acknowledged batch, by partition.
    pub acknowledged: Vec<Option<Acknowledged>>,
    pub trouble: Trouble,
}

/// The producer was told something that must not happen; the history has it.
#[derive(Debug, thiserror::Error)]
#[error("the producer can't go on")]
pub struct Broken;

impl Producer {
    pub fn new(
        name: u32,
        places: impl Into<Places>,
        topic: &str,
        partitions: i32,
        recorder: Recorder,
    ) -> Producer {
        let partitions = partitions as usize;
        Producer {
            name,
            places: places.into(),
            topic: topic.to_owned(),
            recorder,
            connection: None,
            identity: None,
            sent: vec![0; partitions],
            window: VecDeque::new(),
            acknowledged: vec![None; partitions],
            trouble: Trouble::default(),
        }
    }

    /// Sends one batch, of a record per size. Returns batches that this settled: with five in flight
    /// it waits for one. In a cluster a producer keeps to one partition, whose leader it is connected to.
    pub async fn send(&mut self, partition: i32, value_sizes: &[usize]) -> Result<u64, Broken> {
        let mut settled = 0;
        while self.window.len() >= IN_FLIGHT {
            settled += self.settle().await?;
        }
        if self.connection.is_none() {
            self.connect(partition).await?;
        }
        let pending = self.build(partition, value_sizes);
        self.recorder.add(Event::Send {
            batch: pending.batch,
            at: self.recorder.now(),
        });
        self.window.push_back(pending);
        self.transmit().await;
        Ok(settled)
    }

    /// Waits until everything is settled, and returns how many batches that were.
    pub async fn flush(&mut self) -> Result<u64, Broken> {
        let mut settled = 0;
        while !self.window.is_empty() {
            settled += self.settle().await?;
        }
        Ok(settled)
    }

    fn build(&mut self, partition: i32, value_sizes: &[usize]) -> Pending {
        let first = self.sent[partition as usize];
        let now = now_ms();
        let records = value_sizes.iter().zip(first..).map(|(size, number)| {
            Record::of(
                value(
                    Id {
                        producer: self.name,
                        number,
                    },
                    partition,
                    *size,
                ),
                now,
            )
        });
        let records = records.collect::<Vec<_>>();
        let (producer_id, epoch) = self.identity.expect("a connected producer has an id");
        let count = records.len() as u32;
        self.sent[partition as usize] += u64::from(count);
        let sequence = (first % (1 << 31)) as i32;
        Pending {
            batch: Sent {
                producer: self.name,
                partition,
                first,
                count,
            },
            records: Batch::plain(records)
                .by(producer_id, epoch, sequence)
                .encode(),
            asked: None,
            since: Instant::now(),
        }
    }

    /// Works until the answer to the oldest request has been dealt with. Returns 1 if a batch is settled.
    async fn settle(&mut self) -> Result<u64, Broken> {
        let began = Instant::now();
        loop {
            if began.elapsed() > GIVE_UP {
                return self.give_up(0, format!("nothing was acknowledged for {GIVE_UP:?}"));
            }
            if self.connection.is_none() {
                self.connect(self.window[0].batch.partition).await?;
            }
            self.transmit().await;
            let Some(index) = self
                .window
                .iter()
                .position(|pending| pending.asked.is_some())
            else {
                continue;
            };
            match self.receive(index).await {
                Ok(answer) => return self.take_answer(index, &answer).await,
                Err(error) if error.is_disconnect() => self.disconnect(),
                Err(error) => return self.give_up(index, error.to_string()),
            }
        }
    }

    /// Opens a connection, however long the broker is away (within `GIVE_UP`).
    async fn connect(&mut self, partition: i32) -> Result<(), Broken> {
        let began = Instant::now();
        loop {
            let error = match self.try_connect(partition).await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) => error,
            };
            let passes = match error {
                ClientError::Kafka { code, .. } => code::is_retriable(code),
                ref other => other.is_disconnect(),
            };
            if !passes || began.elapsed() > GIVE_UP {
                self.give_up(0, format!("no connection: {error}"))?;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    async fn try_connect(&mut self, partition: i32) -> Result<Connection, ClientError> {
        let mut connection = self.places.leader(&self.topic, partition).await?;
        connection.api_versions().await?;
        if self.identity.is_none() {
            self.identity = Some(connection.init_producer_id().await?);
        }
        Ok(connection)
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.trouble.disconnects += 1;
        for pending in &mut self.window {
            self.trouble.resent += u64::from(pending.asked.take().is_some());
        }
    }

    /// Puts on the wire what is not there yet. Not while an answer is due to a batch behind one that
    /// must be sent again: the order would be lost.
    async fn transmit(&mut self) {
        let first_idle = self
            .window
            .iter()
            .position(|pending| pending.asked.is_none())
            .unwrap_or(self.window.len());
        if self
            .window
            .iter()
            .skip(first_idle)
            .any(|pending| pending.asked.is_some())
        {
            return;
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        for pending in self.window.iter_mut().skip(first_idle) {
            let request = produce_request(
                &self.topic,
                pending.batch.partition,
                -1,
                pending.records.clone(),
            );
            match connection.send(PRODUCE, &request).await {
                Ok(correlation_id) => pending.asked = Some(correlation_id),
                Err(_) => return self.disconnect(), // the next settle connects again
            }
        }
    }

    async fn receive(&mut self, index: usize) -> Result<PartitionProduceResponse, ClientError> {
        let correlation_id = self.window[index].asked.expect("an answer is due");
        let connection = self
            .connection
            .as_mut()
            .expect("an answer is due on a connection");
        let answer = connection
            .receive::<ProduceRequest>(PRODUCE, correlation_id)
            .await?;
        self.window[index].asked = None;
        let partition = answer
            .responses
            .into_iter()
            .next()
            .and_then(|t| t.partition_responses.into_iter().next());
        let asked = self.window[index].batch.partition;
        partition
            .filter(|p| p.index == asked)
            .ok_or_else(|| ClientError::Codec {
                what: "Produce".to_owned(),
                error: format!("no answer for partition {asked}"),
            })
    }

    async fn take_answer(
        &mut self,
        index: usize,
        answer: &PartitionProduceResponse,
    ) -> Result<u64, Broken> {
        let at = self.recorder.now();
        let batch = self.window[index].batch;
        match answer.error_code {
            0 | code::DUPLICATE_SEQUENCE_NUMBER => {
                let pending = self
                    .window
                    .remove(index)
                    .expect("the index is in the window");
                self.trouble.slowest = self.trouble.slowest.max(pending.since.elapsed());
                let base_offset =
                    Some(answer.base_offset).filter(|o| answer.error_code == 0 && *o >= 0);
                self.recorder.add(Event::Ack {
                    batch,
                    base_offset,
                    at,
                });
                if let Some(base_offset) = base_offset {
                    let newest = Acknowledged {
                        batch,
                        records: pending.records,
                        base_offset,
                    };
                    self.acknowledged[batch.partition as usize] = Some(newest);
                }
                Ok(1)
            }
            code::OUT_OF_ORDER_SEQUENCE_NUMBER if self.waits_for_earlier(index) => Ok(0),
            retriable if code::is_retriable(retriable) => {
                self.trouble.retries += 1;
                if self.places.is_cluster() && code::is_misdirected(retriable) {
                    self.disconnect(); // the next settle looks for the leader
                }
                tokio::time::sleep(BACKOFF).await;
                Ok(0)
            }
            other => self.give_up(index, format!("error {other}")),
        }
    }

    /// Whether an earlier batch of the same partition will be sent again: then this one must be, too.
    fn waits_for_earlier(&self, index: usize) -> bool {
        let partition = self.window[index].batch.partition;
        self.window
            .iter()
            .take(index)
            .any(|pending| pending.batch.partition == partition)
    }

    fn give_up<T>(&mut self, index: usize, error: String) -> Result<T, Broken> {
        let nothing = Sent {
            producer: self.name,
            partition: 0,
            first: 0,
            count: 0,
        };
        let batch = self
            .window
            .get(index)
            .map_or(nothing, |pending| pending.batch);
        self.recorder.add(Event::Failed {
            batch,
            error,
            at: self.recorder.now(),
        });
        Err(Broken)
    }
}
