//! Fetch requests, and answers walked in place: no record is copied.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};

use super::cluster::topic_name;
use super::read::{Reader, Truncated};
use crate::batch::BATCH_HEADER_BYTES;

/// How much a Fetch may return, as Kafka's consumer bounds it.
#[derive(Clone, Copy, Debug)]
pub struct FetchBounds {
    pub max_bytes: usize,
    pub partition_max_bytes: usize,
    pub max_wait_ms: i32,
}

/// A full fetch (no session) of these partitions from these offsets.
pub fn fetch_request(
    topic: &str,
    positions: impl Iterator<Item = (u32, i64)>,
    bounds: FetchBounds,
) -> FetchRequest {
    let limit = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let partitions = positions.map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(partition as i32)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(limit(bounds.partition_max_bytes))
    });
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(bounds.max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(limit(bounds.max_bytes))
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(partitions.collect()),
        ])
}

/// One partition of a Fetch answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    pub partition: i32,
    pub code: i16,
    pub high_watermark: i64,
    pub records: &'a [u8],
}

/// Walks a Fetch answer's body (version 12, after the response header). Returns its own error code.
pub fn read_fetch_answer<'a>(
    body: &'a [u8],
    mut each: impl FnMut(Fetched<'a>),
) -> Result<i16, Truncated> {
    let r = &mut Reader::new(body);
    r.i32()?; // throttle time
    let code = r.i16()?;
    r.i32()?; // session id
    for _ in 0..r.compact_array_len(3)? {
        r.compact_string()?;
        for _ in 0..r.compact_array_len(37)? {
            let (partition, code, high_watermark) = (r.i32()?, r.i16()?, r.i64()?);
            r.take(16)?; // last stable offset, log start offset
            for _ in 0..r.compact_array_len(17)? {
                r.take(16)?; // an aborted transaction
                r.skip_tags()?;
            }
            r.i32()?; // preferred read replica
            let records = r.compact_nullable_bytes()?.unwrap_or_default();
            r.skip_tags()?;
            each(Fetched {
                partition,
                code,
                high_watermark,
                records,
            });
        }
        r.skip_tags()?;
    }
    r.skip_tags()?;
    if r.is_empty() {
        Ok(code)
    } else {
        Err(Truncated)
    }
}

/// A record batch as it lies in a Fetch answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchView<'a> {
    pub base_offset: i64,
    pub last_offset: i64,
    pub records_count: i32,
    pub compressed: bool,
    pub control: bool,
    magic: u8,
    stored_crc: &'a [u8],
    /// What the CRC covers: from the attributes on.
    covered: &'a [u8],
    records: &'a [u8],
}

/// The next whole batch; `None` at the end, where Kafka may have cut a batch off.
pub fn next_batch<'a>(records: &mut &'a [u8]) -> Result<Option<BatchView<'a>>, Truncated> {
    let mut r = Reader::new(records);
    if records.len() < BATCH_HEADER_BYTES {
        return Ok(None);
    }
    let base_offset = r.i64()?;
    let length = usize::try_from(r.i32()?).map_err(|_| Truncated)?;
    if length < BATCH_HEADER_BYTES - 12 {
        return Err(Truncated);
    }
    let Ok(batch) = r.take(length) else {
        return Ok(None);
    };
    let covered = &batch[9..];
    let h = &mut Reader::new(covered);
    let (attributes, last_delta) = (h.i16()?, h.i32()?);
    h.take(30)?; // timestamps, producer id, epoch and sequence
    let view = BatchView {
        base_offset,
        last_offset: base_offset.saturating_add(i64::from(last_delta)),
        records_count: h.i32()?,
        compressed: attributes & 7 != 0,
        control: attributes & 0x20 != 0,
        magic: batch[4],
        stored_crc: &batch[5..9],
        covered,
        records: h.take(h.remaining())?,
    };
    *records = &records[12 + length..];
    Ok(Some(view))
}

impl<'a> BatchView<'a> {
    /// Whether the format is v2 and the batch's CRC-32C is right.
    pub fn intact(&self) -> bool {
        self.magic == 2 && self.stored_crc == crc32c::crc32c(self.covered).to_be_bytes()
    }

    /// Hands the value of every record to `each`; an error if they do not fill the batch exactly.
    pub fn values(&self, mut each: impl FnMut(&'a [u8])) -> Result<(), Truncated> {
        let r = &mut Reader::new(self.records);
        for _ in 0..self.records_count {
            let length = usize::try_from(r.varint()?).map_err(|_| Truncated)?;
            let record = &mut Reader::new(r.take(length)?);
            record.i8()?; // attributes
            record.varint()?; // timestamp delta
            record.varint()?; // offset delta
            let key = record.varint()?;
            record.take(usize::try_from(key).unwrap_or(0))?;
            let value = record.varint()?;
            each(record.take(usize::try_from(value).unwrap_or(0))?);
        }
        if r.is_empty() { Ok(()) } else { Err(Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Identity, Pool, ProducerFields, Stamp};
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_response::*;
    use kafka_protocol::protocol::Encodable;

    fn batches(count: u64) -> Vec<u8> {
        let pool = Pool::new(5, 100, 1000);
        let mut out = Vec::new();
        for n in 0..count {
            let identity = Identity {
                connection: 1,
                partition: 2,
                sequence: n,
            };
            let tail = pool.stamp(n, identity, ProducerFields::NONE, 1, &mut out);
            out.extend_from_slice(&tail);
        }
        out
    }

    #[test]
    fn answers_as_the_crate_encodes_them() {
        let partition = |index: i32, records: &[u8]| {
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(index as i16)
                .with_high_watermark(70)
                .with_aborted_transactions(Some(vec![AbortedTransaction::default()]))
                .with_records(Some(Bytes::copy_from_slice(records)))
        };
        let topic = FetchableTopicResponse::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition(0, b"abc"), partition(1, b"")]);
        let answer = FetchResponse::default()
            .with_error_code(3)
            .with_responses(vec![topic]);
        let mut encoded = BytesMut::new();
        answer.encode(&mut encoded, 12).unwrap();
        let mut seen = Vec::new();
        assert_eq!(
            read_fetch_answer(&encoded, |fetched| seen.push(fetched)),
            Ok(3)
        );
        assert_eq!(
            seen,
            [
                Fetched {
                    partition: 0,
                    code: 0,
                    high_watermark: 70,
                    records: b"abc"
                },
                Fetched {
                    partition: 1,
                    code: 1,
                    high_watermark: 70,
                    records: b""
                }
            ]
        );
        for length in 0..encoded.len() {
            assert_eq!(
                read_fetch_answer(&encoded[..length], |_| ()),
                Err(Truncated)
            );
        }
    }

    #[test]
    fn batches_are_walked_and_checked() {
        let bytes = batches(3);
        let mut rest = &bytes[..bytes.len() - 1]; // the last batch is cut off
        let mut sequences = Vec::new();
        while let Some(batch) = next_batch(&mut rest).unwrap() {
            assert!(batch.intact() && !batch.compressed && !batch.control);
            assert_eq!(batch.last_offset, i64::from(batch.records_count) - 1);
            let mut stamps = Vec::new();
            batch
                .values(|value| stamps.push(Stamp::read(value).unwrap()))
                .unwrap();
            assert_eq!(stamps.len(), batch.records_count as usize);
            assert!(stamps.iter().all(|stamp| stamp.intact));
            sequences.push(stamps[0].identity.sequence);
        }
        assert_eq!(sequences, [0, 1]);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let good = batches(1);
        for at in 8..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let noticed = match next_batch(&mut &bad[..]) {
                Ok(Some(batch)) => !batch.intact() || (12..16).contains(&at),
                Ok(None) | Err(Truncated) => true,
            };
            assert!(noticed, "byte {at}");
        }
    }
}
