//! An idempotent producer (KIP-98) of one partition: up to five batches in flight, and after anything that goes
//! wrong the same batches again, in order, with the same sequences.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use ottla_proto::ids::NodeId;
use ottla_tests::batch::{Batch, Record};
use ottla_tests::client::{PRODUCE, code, produce_request};
use ottla_tests::history::{Event, Id, Sent, value};
use tokio::time::Instant;

use super::{Asked, Client, PATIENCE, TOPIC};
use crate::simulation::world::World;

const INIT_PRODUCER_ID: i16 = 4;
/// What a broker promises to remember.
const IN_FLIGHT: usize = 5;
const VALUE_BYTES: usize = 40;

struct Pending {
    sent: Sent,
    records: Bytes,
    asked: Option<Asked>,
}

pub struct Producer {
    client: Client,
    partition: i32,
    identity: Option<(i64, i16)>,
    next: u64,
    /// The partition has records of it. Before that there is one batch in flight: a broker takes any sequence
    /// number from a producer that it does not know, so a second batch could come before the first.
    is_known: bool,
    window: VecDeque<Pending>,
}

/// The producer was told what must not happen; the journal has it.
struct Broken;

impl Producer {
    pub fn new(world: &Arc<World>, id: NodeId, partition: i32) -> Producer {
        Producer {
            client: Client::new(world, id),
            partition,
            identity: None,
            next: 0,
            is_known: false,
            window: VecDeque::new(),
        }
    }

    /// Produces until then, and until the last batch is acknowledged.
    pub async fn run(mut self, until: Instant) {
        self.identify().await;
        while Instant::now() < until || !self.window.is_empty() {
            let Some(leader) = self.client.leader(self.partition).await else {
                self.client.pause(10, 60).await;
                continue;
            };
            if self.produce(leader, until).await.is_err() {
                return;
            }
            // Whatever was under way is sent again.
            self.client.hang_up(leader);
            self.window.iter_mut().for_each(|p| p.asked = None);
            self.client.pause(5, 40).await;
        }
    }

    async fn identify(&mut self) {
        while self.identity.is_none() {
            let broker = self.client.any_broker();
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(60_000)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1);
            let answer = self.client.ask(broker, INIT_PRODUCER_ID, &request).await;
            match answer.filter(|answer| answer.error_code == 0) {
                Some(answer) => {
                    self.client.world.journal.producer_id(answer.producer_id.0);
                    self.identity = Some((answer.producer_id.0, answer.producer_epoch));
                }
                None => self.client.pause(20, 100).await,
            }
        }
    }

    /// Produces to this leader for as long as it takes what it is given.
    async fn produce(&mut self, leader: NodeId, until: Instant) -> Result<(), Broken> {
        loop {
            for pending in self.window.iter_mut().filter(|p| p.asked.is_none()) {
                let request = produce_request(TOPIC, self.partition, -1, pending.records.clone());
                match self.client.send(leader, PRODUCE, &request).await {
                    Some(asked) => pending.asked = Some(asked),
                    None => return Ok(()),
                }
            }
            let is_over = Instant::now() >= until;
            let is_full = !self.is_known || self.window.len() == IN_FLIGHT;
            let waits = is_full || self.client.random.one_in(2);
            if is_over || (waits && !self.window.is_empty()) {
                match self.settle(leader).await? {
                    true => continue,
                    false => return Ok(()),
                }
            }
            let batch = self.build();
            self.window.push_back(batch);
            self.client.pause(5, 90).await;
        }
    }

    fn build(&mut self) -> Pending {
        let sent = Sent {
            producer: self.client.id as u32,
            partition: self.partition,
            first: self.next,
            count: 1 + self.client.random.below(3) as u32,
        };
        let record = |step: u32| {
            let number = sent.first + u64::from(step);
            let producer = sent.producer;
            let value = value(Id { producer, number }, self.partition, VALUE_BYTES);
            Record::of(value, 1_700_000_000_000 + number as i64)
        };
        let (id, epoch) = self.identity.expect("it has been identified");
        let batch = Batch::plain((0..sent.count).map(record).collect());
        let records = batch.by(id, epoch, self.next as i32).encode();
        self.next += u64::from(sent.count);
        let journal = &self.client.world.journal;
        journal.add(Event::Send {
            batch: sent,
            at: journal.now(),
        });
        Pending {
            sent,
            records,
            asked: None,
        }
    }

    /// Waits for the answer to the oldest batch; whether the connection is still good.
    async fn settle(&mut self, leader: NodeId) -> Result<bool, Broken> {
        let Some(front) = self.window.front_mut() else {
            return Ok(false);
        };
        let (batch, asked) = (front.sent, front.asked.take().expect("it was sent"));
        let answer = self
            .client
            .receive::<ProduceRequest>(leader, asked, PATIENCE);
        let Some(answer) = answer.await else {
            return Ok(false);
        };
        let mut partitions = answer.responses.into_iter();
        let partition = partitions
            .next()
            .and_then(|topic| topic.partition_responses.into_iter().next());
        let partition = partition.expect("an answer for the partition that was asked for");
        let journal = &self.client.world.journal;
        let at = journal.now();
        match partition.error_code {
            0 | code::DUPLICATE_SEQUENCE_NUMBER => {
                let base_offset = Some(partition.base_offset).filter(|offset| *offset >= 0);
                journal.add(Event::Ack {
                    batch,
                    base_offset,
                    at,
                });
                self.window.pop_front();
                self.is_known = true;
                Ok(true)
            }
            retriable if code::is_retriable(retriable) => Ok(false),
            error => {
                let error = format!("error {error}");
                journal.add(Event::Failed { batch, error, at });
                Err(Broken)
            }
        }
    }
}
