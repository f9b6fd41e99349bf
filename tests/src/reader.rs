//! Readers: one that follows partitions and commits how far it came, and one that reads a partition
//! from its start to its end.

use std::ops::Range;
use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use tokio::sync::watch;

use crate::batch::read_all;
use crate::client::{ClientError, Connection, FETCH, FetchAsk, checked, code, fetch_request};
use crate::history::{Event, Nanos, Read, Recorder, Seen, name_of};
use crate::places::{Places, passes};

const GIVE_UP: Duration = Duration::from_secs(60);
/// ListOffsets' names for a log's start and its high watermark.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const BACKOFF: Duration = Duration::from_millis(5);
/// Long polls are cut to this, so that a reader notices the end of a test.
const MAX_WAIT_MS: i32 = 50;
/// Reads between two commits.
const READS_PER_COMMIT: u64 = 3;

/// Follows partitions of a topic, in a cluster one.
pub struct Follower {
    pub name: u32,
    pub places: Places,
    pub topic: String,
    pub partitions: Range<i32>,
    pub recorder: Recorder,
}

impl Follower {
    pub fn group(&self) -> String {
        format!("{}-readers-{}", self.topic, self.name)
    }

    /// Reads and commits until `stop` is true, through any number of lost connections; as a restarted
    /// consumer, each connection begins at the committed offsets. Returns how many were lost.
    pub async fn run(self, stop: watch::Receiver<bool>) -> u64 {
        let mut failing_since: Option<Instant> = None;
        let mut lost = 0;
        while !*stop.borrow() {
            let Err(error) = self.follow(&stop, &mut failing_since).await else {
                continue;
            };
            if !passes(&error) || failing_since.get_or_insert_with(Instant::now).elapsed() > GIVE_UP
            {
                self.failed(-1, -1, &error.to_string());
                return lost;
            }
            lost += 1;
            tokio::time::sleep(BACKOFF).await;
        }
        lost
    }

    async fn follow(
        &self,
        stop: &watch::Receiver<bool>,
        failing: &mut Option<Instant>,
    ) -> Result<(), ClientError> {
        let mut coordinator = self.places.coordinator(&self.group()).await?;
        let mut positions = self.committed(&mut coordinator).await?;
        let first = self.partitions.start;
        let mut leader = self.places.leader(&self.topic, first).await?;
        let mut committed = positions.clone();
        let mut reads = 0;
        while !*stop.borrow() {
            self.poll(&mut leader, &mut positions).await?;
            *failing = None;
            reads += 1;
            if reads % READS_PER_COMMIT == 0 {
                self.commit(&mut coordinator, &positions, &mut committed)
                    .await?;
            }
        }
        Ok(())
    }

    /// Where to begin: the committed offsets, which become part of the history.
    pub async fn committed(&self, connection: &mut Connection) -> Result<Vec<i64>, ClientError> {
        let group = self.group();
        connection.find_coordinator(&group).await?;
        let mut positions = Vec::new();
        for partition in self.partitions.clone() {
            let asked_at = self.recorder.now();
            let offset = connection.committed(&group, &self.topic, partition).await?;
            self.recorder.add(Event::CommitRead {
                group: group.clone(),
                partition,
                offset,
                asked_at,
            });
            positions.push(offset.max(0));
        }
        Ok(positions)
    }

    async fn poll(
        &self,
        connection: &mut Connection,
        positions: &mut [i64],
    ) -> Result<(), ClientError> {
        let asks: Vec<FetchAsk<'_>> = positions
            .iter()
            .zip(self.partitions.clone())
            .map(|(offset, partition)| FetchAsk {
                max_wait_ms: MAX_WAIT_MS,
                min_bytes: 1,
                ..FetchAsk::of(&self.topic, partition, *offset)
            })
            .collect();
        let asked_at = self.recorder.now();
        let answer = connection
            .call::<FetchRequest>(FETCH, &fetch_request(&asks))
            .await?;
        let answered_at = self.recorder.now();
        for data in answer
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
        {
            let at = data.partition_index - self.partitions.start;
            let position = usize::try_from(at)
                .ok()
                .and_then(|at| positions.get_mut(at));
            let Some(position) = position else {
                self.failed(
                    data.partition_index,
                    -1,
                    "a partition that was not asked for",
                );
                continue;
            };
            match data.error_code {
                0 => {}
                moved if self.places.is_cluster() && code::is_misdirected(moved) => {
                    return Err(ClientError::Kafka {
                        what: "Fetch",
                        code: moved,
                    });
                }
                retriable if code::is_retriable(retriable) => continue,
                other => {
                    self.failed(data.partition_index, *position, &format!("error {other}"));
                    continue;
                }
            }
            let when = (asked_at, answered_at);
            let read = decode(self.name, data, when, *position)?;
            *position += read.records.len() as i64;
            self.recorder.add(Event::Read(read));
        }
        Ok(())
    }

    async fn commit(
        &self,
        connection: &mut Connection,
        positions: &[i64],
        committed: &mut [i64],
    ) -> Result<(), ClientError> {
        let group = self.group();
        for (partition, (offset, before)) in
            (self.partitions.start..).zip(positions.iter().zip(committed))
        {
            if *offset <= *before {
                continue;
            }
            let (offset, at) = (*offset, self.recorder.now());
            self.recorder.add(Event::CommitSent {
                group: group.clone(),
                partition,
                offset,
                at,
            });
            connection
                .commit(&group, &self.topic, partition, offset)
                .await?;
            let at = self.recorder.now();
            self.recorder.add(Event::CommitAcked {
                group: group.clone(),
                partition,
                offset,
                at,
            });
            *before = offset;
        }
        Ok(())
    }

    fn failed(&self, partition: i32, offset: i64, error: &str) {
        let error = error.to_owned();
        self.recorder.add(Event::ReadFailed {
            reader: self.name,
            partition,
            offset,
            error,
        });
    }
}

/// What a fetch showed, without the records before the offset asked for: a batch comes whole.
pub fn decode(
    reader: u32,
    data: PartitionData,
    (asked_at, answered_at): (Nanos, Nanos),
    fetch_offset: i64,
) -> Result<Read, ClientError> {
    let partition = data.partition_index;
    let batches = read_all(data.records.unwrap_or_default()).map_err(|e| ClientError::Codec {
        what: format!("partition {partition}"),
        error: e.to_string(),
    })?;
    let records = batches.into_iter().flat_map(|batch| batch.records);
    let records = records
        .filter(|(offset, _)| *offset >= fetch_offset)
        .map(|(offset, record)| {
            let id = record
                .value
                .as_deref()
                .and_then(|value| name_of(value, partition));
            Seen { offset, id }
        });
    let high_watermark = data.high_watermark;
    Ok(Read {
        reader,
        partition,
        asked_at,
        answered_at,
        fetch_offset,
        high_watermark,
        records: records.collect(),
    })
}

async fn offset_at(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    place: i64,
) -> Result<i64, ClientError> {
    let answer = connection.list_offset(topic, partition, place).await?;
    checked("ListOffsets", answer.error_code, answer.offset)
}

/// Reads a partition from its first offset to its high watermark, while nobody writes. `node` serves it; 0:
/// whichever node that is.
pub async fn read_complete(
    connection: &mut Connection,
    node: u32,
    topic: &str,
    partition: i32,
    recorder: &Recorder,
) -> Result<(), ClientError> {
    let asked_at = recorder.now();
    let start = offset_at(connection, topic, partition, EARLIEST).await?;
    let end = offset_at(connection, topic, partition, LATEST).await?;
    let mut all = Read {
        reader: node,
        partition,
        asked_at,
        answered_at: asked_at,
        fetch_offset: start,
        high_watermark: end,
        records: vec![],
    };
    let mut offset = start;
    while offset < end {
        let data = connection
            .fetch(FetchAsk::of(topic, partition, offset))
            .await?;
        checked("Fetch", data.error_code, ())?;
        let read = decode(node, data, (asked_at, asked_at), offset)?;
        if read.records.is_empty() {
            let error = format!("no record at {offset}, below the end at {end}");
            return Err(ClientError::Codec {
                what: format!("partition {partition}"),
                error,
            });
        }
        offset += read.records.len() as i64;
        all.records.extend(read.records);
    }
    all.answered_at = recorder.now();
    recorder.add(Event::Complete(all));
    Ok(())
}
