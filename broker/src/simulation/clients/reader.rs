//! A reader of one partition, and reads of all there is.

use std::sync::Arc;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use ottla_proto::ids::NodeId;
use ottla_tests::client::{FETCH, FetchAsk, code, fetch_request};
use ottla_tests::history::{Event, Read};
use ottla_tests::reader::decode;
use tokio::time::Instant;

use super::{Client, TOPIC};
use crate::simulation::world::World;

const MAX_WAIT_MS: i32 = 200;

impl Client {
    /// Fetches once, and tells the journal. `None`: nothing came of it, and whoever leads may be another.
    pub async fn fetch(&mut self, broker: NodeId, partition: i32, offset: i64) -> Option<Read> {
        let ask = FetchAsk {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            ..FetchAsk::of(TOPIC, partition, offset)
        };
        let asked_at = self.world.journal.now();
        let answer = self
            .ask::<FetchRequest>(broker, FETCH, &fetch_request(&[ask]))
            .await?;
        let answered_at = self.world.journal.now();
        let mut partitions = answer.responses.into_iter().flat_map(|t| t.partitions);
        let data: PartitionData = partitions.next()?;
        let reader = self.id as u32;
        match data.error_code {
            0 => {}
            other if code::is_misdirected(other) || code::is_retriable(other) => return None,
            error => {
                self.world.journal.add(Event::ReadFailed {
                    reader,
                    partition,
                    offset,
                    error: format!("error {error}"),
                });
                return None;
            }
        }
        let read = decode(reader, data, (asked_at, answered_at), offset);
        match read {
            Ok(read) => {
                self.world.journal.add(Event::Read(read.clone()));
                Some(read)
            }
            Err(error) => {
                self.world.journal.add(Event::ReadFailed {
                    reader,
                    partition,
                    offset,
                    error: error.to_string(),
                });
                None
            }
        }
    }
}

pub struct Reader {
    client: Client,
    partition: i32,
}

impl Reader {
    pub fn new(world: &Arc<World>, id: NodeId, partition: i32) -> Reader {
        Reader {
            client: Client::new(world, id),
            partition,
        }
    }

    /// Follows the partition from its start. Now and then it asks whichever broker: one that does not lead must not
    /// answer as if it did.
    pub async fn run(mut self, until: Instant) {
        let mut offset = 0;
        while Instant::now() < until {
            let broker = match self.client.random.one_in(4) {
                true => Some(self.client.any_broker()),
                false => self.client.leader(self.partition).await,
            };
            let Some(broker) = broker else {
                self.client.pause(10, 60).await;
                continue;
            };
            while Instant::now() < until
                && let Some(read) = self.client.fetch(broker, self.partition, offset).await
            {
                offset = read.records.last().map_or(offset, |last| last.offset + 1);
                self.client.pause(1, 100).await;
            }
            self.client.pause(10, 60).await;
        }
    }
}

/// Reads a partition from its start to its end, through whoever leads it, until that works out.
pub async fn read_all(
    world: &Arc<World>,
    id: NodeId,
    partition: i32,
    until: Instant,
) -> Option<Read> {
    let mut client = Client::new(world, id);
    let mut all: Option<Read> = None;
    while Instant::now() < until {
        let Some(leader) = client.leader(partition).await else {
            client.pause(10, 60).await;
            continue;
        };
        let next = all.as_ref().map_or(0, |all| all.records.len() as i64);
        let Some(read) = client.fetch(leader, partition, next).await else {
            client.pause(10, 60).await;
            continue;
        };
        let all = all.get_or_insert_with(|| Read {
            reader: 0,
            records: Vec::new(),
            ..read.clone()
        });
        all.high_watermark = read.high_watermark;
        all.answered_at = read.answered_at;
        all.records.extend(read.records);
        if all.records.len() as i64 >= all.high_watermark {
            return Some(all.clone());
        }
    }
    None
}
