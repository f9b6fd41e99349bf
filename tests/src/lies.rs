//! What a broken broker would say: frames changed on their way, in one way. A checker that does not find it out
//! proves nothing. Frames are without their length.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    FetchResponse, OffsetFetchResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use crate::client::{FETCH, OFFSET_FETCH, PRODUCE};

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

/// What the liar has seen, of all connections.
#[derive(Default)]
pub struct Memory {
    high_watermarks: HashMap<i32, i64>,
    offsets: HashMap<(String, i32), i64>,
    answers: u32,
}

/// Whether [`Lie::ForgetProducers`] loses this answer to a produce.
pub fn loses_answer(memory: &Mutex<Memory>) -> bool {
    let mut memory = memory.lock().expect("no holder panics");
    memory.answers += 1;
    memory.answers.is_multiple_of(ONE_ANSWER_LOST_IN)
}

/// The answer that says that all is stored. `id` is the request's correlation id.
pub fn acknowledgement(mut request: Bytes, id: i32) -> Option<Bytes> {
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
pub fn without_producers(frame: Bytes) -> Option<Bytes> {
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
pub fn as_last_known(frame: Bytes, memory: &Mutex<Memory>) -> Option<(Bytes, bool)> {
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

/// The first offsets that were shown, once more.
pub fn old_offsets(frame: Bytes, memory: &Mutex<Memory>) -> Option<Bytes> {
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
