//! A proxy in front of a broker that makes it look broken to its clients, in one way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, FetchResponse, OffsetFetchResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use ottla_tests::client::{FETCH, PRODUCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// None: clients see what the broker says.
    None,
    /// Every produce is acknowledged when it arrives, before anybody has the records.
    AckAtOnce,
    /// A broker that does not lead a partition any more serves it as it last knew it.
    StaleReads,
    /// Batches are stored as if no producer had numbered them; and one answer in some is lost.
    ForgetProducers,
    /// The first committed offset that was shown is shown for ever.
    OldOffsets,
}

/// Answers lost by [`Lie::ForgetProducers`].
const ONE_ANSWER_LOST_IN: u32 = 10;
/// A stale answer is one to a long poll.
const STALE_WAIT: Duration = Duration::from_millis(50);
const OFFSET_FETCH: i16 = 8;
const FRAME_BYTES_MAX: usize = 64 << 20;

pub struct Liar {
    pub address: SocketAddr,
    accepts: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

impl Liar {
    pub async fn before(broker: SocketAddr, lie: Lie) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let memory = Arc::new(Mutex::new(Memory::default()));
        let accepts = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, broker, lie, memory.clone()));
            }
        });
        Liar { address, accepts }
    }
}

/// What the liar has seen, of all connections.
#[derive(Default)]
struct Memory {
    high_watermarks: HashMap<i32, i64>,
    offsets: HashMap<(String, i32), i64>,
    answers: u32,
}

/// What the broker has been asked on one connection and not answered yet: kind and version.
type Asked = Arc<Mutex<HashMap<i32, (i16, i16)>>>;

async fn serve(client: TcpStream, broker: SocketAddr, lie: Lie, memory: Arc<Mutex<Memory>>) {
    let Ok(broker) = TcpStream::connect(broker).await else {
        return;
    };
    let (from_client, mut to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let (answers, mut answered) = mpsc::channel::<Bytes>(100);
    let asked = Asked::default();
    let requests = pass_requests(from_client, to_broker, answers.clone(), asked.clone(), lie);
    let responses = pass_answers(from_broker, answers, asked, lie, memory);
    let write = async {
        while let Some(frame) = answered.recv().await {
            if write_frame(&mut to_client, &frame).await.is_err() {
                return;
            }
        }
    };
    // The connection ends when either side, or the lie, has had enough.
    tokio::select! {
        _ = requests => {}
        _ = responses => {}
        () = write => {}
    }
}

async fn pass_requests(
    mut client: OwnedReadHalf,
    mut broker: OwnedWriteHalf,
    answers: mpsc::Sender<Bytes>,
    asked: Asked,
    lie: Lie,
) -> Option<()> {
    loop {
        let frame = read_frame(&mut client).await?;
        let key = i16::from_be_bytes(frame.get(..2)?.try_into().ok()?);
        let version = i16::from_be_bytes(frame.get(2..4)?.try_into().ok()?);
        let id = i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
        let is_produce = key == ApiKey::Produce as i16 && version == PRODUCE;
        let frame = match lie {
            Lie::AckAtOnce if is_produce => {
                answers
                    .send(acknowledgement(frame.clone(), id)?)
                    .await
                    .ok()?;
                frame
            }
            Lie::ForgetProducers if is_produce => {
                asked
                    .lock()
                    .expect("no holder panics")
                    .insert(id, (key, version));
                without_producers(frame)?
            }
            _ => {
                asked
                    .lock()
                    .expect("no holder panics")
                    .insert(id, (key, version));
                frame
            }
        };
        write_frame(&mut broker, &frame).await.ok()?;
    }
}

async fn pass_answers(
    mut broker: OwnedReadHalf,
    answers: mpsc::Sender<Bytes>,
    asked: Asked,
    lie: Lie,
    memory: Arc<Mutex<Memory>>,
) -> Option<()> {
    loop {
        let frame = read_frame(&mut broker).await?;
        let id = i32::from_be_bytes(frame.get(..4)?.try_into().ok()?);
        let question = asked.lock().expect("no holder panics").remove(&id);
        // The client has had its answer.
        let Some((key, version)) = question else {
            continue;
        };
        let is = |api: ApiKey, at: i16| key == api as i16 && version == at;
        let frame = match lie {
            Lie::StaleReads if is(ApiKey::Fetch, FETCH) => {
                let (frame, is_stale) = as_last_known(frame, &memory)?;
                if is_stale {
                    tokio::time::sleep(STALE_WAIT).await;
                }
                frame
            }
            Lie::ForgetProducers if is(ApiKey::Produce, PRODUCE) => {
                let mut memory = memory.lock().expect("no holder panics");
                memory.answers += 1;
                if memory.answers.is_multiple_of(ONE_ANSWER_LOST_IN) {
                    return None;
                }
                frame
            }
            Lie::OldOffsets if is(ApiKey::OffsetFetch, OFFSET_FETCH) => {
                old_offsets(frame, &memory)?
            }
            _ => frame,
        };
        answers.send(frame).await.ok()?;
    }
}

fn acknowledgement(mut request: Bytes, id: i32) -> Option<Bytes> {
    let header = ProduceRequest::header_version(PRODUCE);
    RequestHeader::decode(&mut request, header).ok()?;
    let request = ProduceRequest::decode(&mut request, PRODUCE).ok()?;
    let topics = request.topic_data.into_iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|partition| {
            PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_base_offset(-1)
        });
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_partition_responses(partitions.collect())
    });
    let answer = ProduceResponse::default().with_responses(topics.collect());
    encoded(id, &answer, PRODUCE)
}

/// The same records, of a producer that is not idempotent. (KIP-98: id -1, epoch -1, sequence -1.)
fn without_producers(frame: Bytes) -> Option<Bytes> {
    const CRC: std::ops::Range<usize> = 17..21;
    const CHECKED_FROM: usize = 21;
    const PRODUCER: std::ops::Range<usize> = 43..57;
    let mut rest = frame;
    let header_version = ProduceRequest::header_version(PRODUCE);
    let header = RequestHeader::decode(&mut rest, header_version).ok()?;
    let mut request = ProduceRequest::decode(&mut rest, PRODUCE).ok()?;
    let topics = request.topic_data.iter_mut();
    for partition in topics.flat_map(|topic| &mut topic.partition_data) {
        let mut batch = partition.records.take()?.to_vec();
        batch.get_mut(PRODUCER)?.fill(0xff);
        let crc = crc32c::crc32c(&batch[CHECKED_FROM..]);
        batch[CRC].copy_from_slice(&crc.to_be_bytes());
        partition.records = Some(batch.into());
    }
    let mut frame = BytesMut::new();
    header.encode(&mut frame, header_version).ok()?;
    request.encode(&mut frame, PRODUCE).ok()?;
    Some(frame.freeze())
}

/// An error becomes an answer without records, and with the high watermark of the last good one.
fn as_last_known(frame: Bytes, memory: &Mutex<Memory>) -> Option<(Bytes, bool)> {
    let (id, mut answer) = decoded::<FetchResponse>(frame.clone(), FETCH)?;
    let mut memory = memory.lock().expect("no holder panics");
    let mut is_stale = false;
    for partition in answer
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions)
    {
        let index = partition.partition_index;
        if partition.error_code == 0 {
            memory
                .high_watermarks
                .insert(index, partition.high_watermark);
        } else if let Some(known) = memory.high_watermarks.get(&index) {
            is_stale = true;
            partition.error_code = 0;
            partition.high_watermark = *known;
            partition.last_stable_offset = *known;
            partition.records = None;
        }
    }
    match is_stale {
        true => Some((encoded(id, &answer, FETCH)?, true)),
        false => Some((frame, false)),
    }
}

fn old_offsets(frame: Bytes, memory: &Mutex<Memory>) -> Option<Bytes> {
    let (id, mut answer) = decoded::<OffsetFetchResponse>(frame, OFFSET_FETCH)?;
    let mut memory = memory.lock().expect("no holder panics");
    for group in &mut answer.groups {
        let name = group.group_id.to_string();
        for partition in group
            .topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions)
        {
            let committed = partition.committed_offset;
            if partition.error_code == 0 && committed >= 0 {
                let place = (name.clone(), partition.partition_index);
                partition.committed_offset = *memory.offsets.entry(place).or_insert(committed);
            }
        }
    }
    encoded(id, &answer, OFFSET_FETCH)
}

fn decoded<R: Decodable + HeaderVersion>(mut frame: Bytes, version: i16) -> Option<(i32, R)> {
    let header = ResponseHeader::decode(&mut frame, R::header_version(version)).ok()?;
    let answer = R::decode(&mut frame, version).ok()?;
    Some((header.correlation_id, answer))
}

fn encoded<R: Encodable + HeaderVersion>(id: i32, answer: &R, version: i16) -> Option<Bytes> {
    let mut frame = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(id);
    header.encode(&mut frame, R::header_version(version)).ok()?;
    answer.encode(&mut frame, version).ok()?;
    Some(frame.freeze())
}

/// A frame without its length.
async fn read_frame(from: &mut OwnedReadHalf) -> Option<Bytes> {
    let length = usize::try_from(from.read_i32().await.ok()?).ok()?;
    let mut frame = BytesMut::zeroed(Some(length).filter(|n| *n <= FRAME_BYTES_MAX)?);
    from.read_exact(&mut frame).await.ok()?;
    Some(frame.freeze())
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &Bytes) -> std::io::Result<()> {
    let mut whole = BytesMut::with_capacity(frame.len() + 4);
    whole.put_u32(frame.len() as u32);
    whole.extend_from_slice(frame);
    to.write_all(&whole).await
}
