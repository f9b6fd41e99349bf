//! Building batches: for the broker's own topics and for transaction markers.

use bytes::Bytes;

use super::header::{
    CODEC_MASK, CONTROL_BIT, HEADER_BYTES, LENGTH_STARTS_AT, TRANSACTIONAL_BIT, checksum,
};
use super::{BatchError, BatchHeader, RecordView};
use crate::compress::{self, Codec};
use crate::varint::{int_size, long_size, put_int, put_long};

/// Builds one batch, record by record.
///
/// The caller bounds it by [`size_bytes`](Self::size_bytes).
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    records: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch without producer, at base offset 0, uncompressed.
    pub fn new() -> Self {
        BatchBuilder {
            header: Self::template(),
            codec: Codec::None,
            records: Vec::new(),
        }
    }

    /// The header of a batch without records and producer.
    pub(super) fn template() -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: (HEADER_BYTES - LENGTH_STARTS_AT) as i32,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        }
    }

    /// Sets the first record's offset.
    pub fn base_offset(&mut self, base_offset: i64) -> &mut Self {
        self.header.base_offset = base_offset;
        self
    }

    /// Sets the leader epoch.
    pub fn leader_epoch(&mut self, leader_epoch: i32) -> &mut Self {
        self.header.partition_leader_epoch = leader_epoch;
        self
    }

    /// Sets the idempotent producer and its sequence number for the first record.
    pub fn producer(&mut self, id: i64, epoch: i16, base_sequence: i32) -> &mut Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of its producer's transaction.
    pub fn transactional(&mut self) -> &mut Self {
        self.header.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Marks the batch as one of control records.
    pub fn control(&mut self) -> &mut Self {
        self.header.attributes |= CONTROL_BIT;
        self
    }

    /// Sets the codec; the default is none.
    pub fn codec(&mut self, codec: Codec) -> &mut Self {
        self.codec = codec;
        self
    }

    /// Appends a record; `timestamp` in ms since 1970.
    pub fn append(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> &mut Self {
        self.append_with_headers(key, value, timestamp, &[])
    }

    /// Appends a record with headers: key and value each.
    pub fn append_with_headers(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> &mut Self {
        let header = &mut self.header;
        if header.record_count == 0 {
            header.base_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.saturating_sub(header.base_timestamp);
        let offset_delta = header.record_count;
        header.max_timestamp = header.max_timestamp.max(timestamp);
        header.record_count += 1;
        header.last_offset_delta = offset_delta;

        let headers_size: usize = headers
            .iter()
            .map(|(key, value)| nullable_size(Some(key)) + nullable_size(*value))
            .sum();
        let size = 1
            + long_size(timestamp_delta)
            + int_size(offset_delta)
            + nullable_size(key)
            + nullable_size(value)
            + int_size(to_i32(headers.len()))
            + headers_size;
        let out = &mut self.records;
        put_int(out, to_i32(size));
        out.push(0);
        put_long(out, timestamp_delta);
        put_int(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_int(out, to_i32(headers.len()));
        for (key, value) in headers {
            put_nullable(out, Some(key));
            put_nullable(out, *value);
        }
        self
    }

    /// Records so far.
    pub fn record_count(&self) -> usize {
        self.header.record_count as usize
    }

    /// The batch's size so far, uncompressed.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The finished batch. The builder keeps its records and may go on.
    ///
    /// Panics without a record: a batch of none has no last offset.
    pub fn build(&self) -> Bytes {
        assert!(
            self.header.record_count > 0,
            "a batch has at least one record"
        );
        match self.codec {
            Codec::None => assemble(self.header, Codec::None, &self.records),
            codec => assemble(
                self.header,
                codec,
                &compress::compress(codec, &self.records),
            ),
        }
    }
}

/// Puts a header with length, codec and checksum in front of `payload`, which is compressed already.
pub(super) fn assemble(mut header: BatchHeader, codec: Codec, payload: &[u8]) -> Bytes {
    header.batch_length = to_i32(HEADER_BYTES - LENGTH_STARTS_AT + payload.len());
    header.attributes = header.attributes & !CODEC_MASK | codec.id();
    header.crc = checksum(&header, payload);
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(payload);
    out.into()
}

/// What a control record says (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's transaction is aborted.
    Abort,
    /// The producer's transaction is committed.
    Commit,
    /// Something that ends no transaction.
    Other(i16),
}

/// Reads a control record's type from its key: a version (int16), then the type (int16).
pub fn control_type(record: &RecordView<'_>) -> Result<ControlType, BatchError> {
    let Some(&[_, _, high, low]) = record.key.and_then(|key| key.first_chunk::<4>()) else {
        return Err(BatchError::InvalidRecord(
            "a control record's key is too short",
        ));
    };
    Ok(match i16::from_be_bytes([high, low]) {
        0 => ControlType::Abort,
        1 => ControlType::Commit,
        other => ControlType::Other(other),
    })
}

/// The control batch that ends a producer's transaction in a partition.
///
/// Its key is version 0 and the type, its value version 0 and the coordinator's epoch.
pub fn end_txn_marker(
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    commit: bool,
    timestamp: i64,
) -> Bytes {
    let key = [0, 0, 0, u8::from(commit)];
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    BatchBuilder::new()
        .producer(producer_id, producer_epoch, -1)
        .transactional()
        .control()
        .append(Some(&key), Some(&value), timestamp)
        .build()
}

fn to_i32(size: usize) -> i32 {
    i32::try_from(size).expect("the caller keeps a batch below 2 GiB")
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| int_size(to_i32(bytes.len())) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_int(out, -1),
        Some(bytes) => {
            put_int(out, to_i32(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::records;
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn kafka_protocol_reads_what_is_built() {
        let batch = BatchBuilder::new()
            .base_offset(7)
            .leader_epoch(3)
            .producer(99, 2, 5)
            .append(Some(b"k"), Some(b"v"), 1_700_000_000_000)
            .append_with_headers(None, None, 1_700_000_000_500, &[(b"h", Some(b"x"))])
            .build();
        let set = RecordBatchDecoder::decode(&mut batch.clone()).unwrap();
        assert_eq!(set.records.len(), 2);
        let last = &set.records[1];
        assert_eq!((last.offset, last.sequence, last.producer_id), (8, 6, 99));
        assert_eq!((last.producer_epoch, last.partition_leader_epoch), (2, 3));
        assert_eq!(last.timestamp, 1_700_000_000_500);
        assert_eq!((&last.key, &last.value), (&None, &None));
        assert_eq!(last.headers.len(), 1);
        assert_eq!(set.records[0].key.as_deref(), Some(&b"k"[..]));
    }

    #[test]
    fn markers_say_how_a_transaction_ended() {
        for (commit, expected) in [(true, ControlType::Commit), (false, ControlType::Abort)] {
            let batch = end_txn_marker(5, 1, 9, commit, 1000);
            let header = BatchHeader::parse(&batch).unwrap();
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.base_sequence, header.last_sequence()), (-1, -1));
            let records = records(&batch, 0).unwrap();
            let record = records.iter().next().unwrap().unwrap();
            assert_eq!(control_type(&record), Ok(expected));
            assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 9][..]));
        }
    }

    #[test]
    fn size_is_known_while_building() {
        let mut builder = BatchBuilder::new();
        for i in 0..300 {
            builder.append(
                Some(&vec![b'k'; i]),
                Some(&vec![b'v'; i * 7]),
                i as i64 * 1000,
            );
            assert_eq!(builder.build().len(), builder.size_bytes());
        }
        assert_eq!(builder.record_count(), 300);
    }
}
