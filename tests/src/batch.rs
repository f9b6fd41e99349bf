//! Record batches, format 2 (KIP-98), built and read here byte by byte: the tests must be able to
//! build wrong ones, and must not trust the code they test.

use std::io::{Read as _, Write as _};

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a batch before its first record.
pub const HEADER_BYTES: usize = 61;
/// The checksum covers everything from here on.
pub const CRC_STARTS_AT: usize = 21;

/// Where fields lie in a batch; for tests that break one.
pub mod at {
    pub const LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const COUNT: usize = 57;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Lz4 = 3,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Milliseconds since 1970; a batch's first one is its base timestamp.
    pub timestamp_ms: i64,
}

impl Record {
    pub fn of(value: impl Into<Bytes>, timestamp_ms: i64) -> Record {
        Record {
            key: Some(Bytes::from_static(b"k")),
            value: Some(value.into()),
            timestamp_ms,
        }
    }
}

/// A batch as a producer would send it.
#[derive(Debug, Clone)]
pub struct Batch {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub codec: Codec,
    pub records: Vec<Record>,
}

impl Batch {
    /// Of a producer without idempotence.
    pub fn plain(records: Vec<Record>) -> Batch {
        Batch {
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            codec: Codec::None,
            records,
        }
    }

    /// `count` records of `value_bytes` bytes, stamped now.
    pub fn filled(count: usize, value_bytes: usize) -> Batch {
        let record = Record::of(vec![b'x'; value_bytes], now_ms());
        Batch::plain(vec![record; count])
    }

    pub fn by(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Batch {
        (self.producer_id, self.producer_epoch, self.base_sequence) =
            (producer_id, producer_epoch, base_sequence);
        self
    }

    pub fn with_codec(mut self, codec: Codec) -> Batch {
        self.codec = codec;
        self
    }

    pub fn encode(&self) -> Bytes {
        self.encode_mut().freeze()
    }

    /// The bytes, still to be changed; [`seal`] makes the checksum true again.
    pub fn encode_mut(&self) -> BytesMut {
        let base = self.records.first().map_or(-1, |r| r.timestamp_ms);
        let newest = self
            .records
            .iter()
            .map(|r| r.timestamp_ms)
            .max()
            .unwrap_or(-1);
        let mut records = BytesMut::new();
        for (delta, record) in self.records.iter().enumerate() {
            put_record(&mut records, record, delta as i64, base);
        }
        let records = compress(&records, self.codec);
        let mut batch = BytesMut::with_capacity(HEADER_BYTES + records.len());
        batch.put_i64(0); // base offset: the broker's
        batch.put_i32((HEADER_BYTES - 12 + records.len()) as i32);
        batch.put_i32(-1); // leader epoch: the broker's
        batch.put_i8(2);
        batch.put_u32(0); // the checksum, below
        batch.put_i16(self.codec as i16);
        batch.put_i32(self.records.len() as i32 - 1);
        batch.put_i64(base);
        batch.put_i64(newest);
        batch.put_i64(self.producer_id);
        batch.put_i16(self.producer_epoch);
        batch.put_i32(self.base_sequence);
        batch.put_i32(self.records.len() as i32);
        batch.extend_from_slice(&records);
        seal(&mut batch);
        batch
    }
}

/// A gzip batch of one record, whose value is `value_bytes` zeros; a thousandth of that on the wire.
pub fn gzip_bomb(value_bytes: usize) -> Bytes {
    let mut front = BytesMut::new();
    front.extend_from_slice(&[0, 0, 0]); // attributes, timestamp and offset deltas
    put_bytes(&mut front, Some(b"k"));
    put_varint(&mut front, value_bytes as i64);
    let mut head = BytesMut::new();
    put_varint(&mut head, (front.len() + value_bytes + 1) as i64);
    head.extend_from_slice(&front);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&head).expect("memory takes every byte");
    // The zero behind the value is the count of headers.
    std::io::copy(
        &mut std::io::repeat(0).take(value_bytes as u64 + 1),
        &mut gzip,
    )
    .expect("memory takes every byte");
    let records = gzip.finish().expect("memory takes every byte");
    let mut batch = Batch::plain(vec![Record::of("", now_ms())])
        .with_codec(Codec::Gzip)
        .encode_mut();
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(&records);
    let length = (batch.len() - 12) as i32;
    batch[at::LENGTH..at::LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    seal(&mut batch);
    batch.freeze()
}

/// Writes the checksum that the bytes have.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_STARTS_AT..]);
    batch[at::CRC..at::CRC + 4].copy_from_slice(&crc.to_be_bytes());
}

fn put_record(out: &mut BytesMut, record: &Record, offset_delta: i64, base_timestamp_ms: i64) {
    let mut body = BytesMut::new();
    body.put_i8(0);
    put_varint(&mut body, record.timestamp_ms - base_timestamp_ms);
    put_varint(&mut body, offset_delta);
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, 0); // headers
    put_varint(out, body.len() as i64);
    out.extend_from_slice(&body);
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn compress(records: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::None => records.to_vec(),
        Codec::Gzip => {
            let mut gzip =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(records)
                .and_then(|()| gzip.finish())
                .expect("memory takes every byte")
        }
        Codec::Lz4 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            lz4.write_all(records).expect("memory takes every byte");
            lz4.finish().expect("memory takes every byte")
        }
    }
}

fn decompress(records: Bytes, codec: i16) -> Result<Bytes, BatchError> {
    let mut plain = Vec::new();
    let read = match codec {
        0 => return Ok(records),
        1 => flate2::read::GzDecoder::new(&*records).read_to_end(&mut plain),
        3 => lz4_flex::frame::FrameDecoder::new(&*records).read_to_end(&mut plain),
        _ => return Err(BatchError::Compressed(codec)),
    };
    read.map_err(|_| BatchError::Compressed(codec))?;
    Ok(plain.into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("a record is cut off")]
    Cut,
    #[error("the CRC-32C does not match")]
    Crc,
    #[error("magic {0}")]
    Magic(i8),
    #[error("codec {0}, or not what that codec writes")]
    Compressed(i16),
    #[error("the header says {said} records, there are {found}")]
    Count { said: i32, found: usize },
}

/// A batch as a fetch returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub leader_epoch: i32,
    pub base_sequence: i32,
    pub producer_id: i64,
    pub records: Vec<(i64, Record)>,
}

/// Splits what a fetch returned. A last batch that is cut off is left out, as the protocol allows.
pub fn read_all(mut bytes: Bytes) -> Result<Vec<ReadBatch>, BatchError> {
    let mut batches = Vec::new();
    while let Some(size) = whole_batch(&bytes) {
        batches.push(read_one(bytes.split_to(size))?);
    }
    Ok(batches)
}

/// The sizes of the whole batches in what a fetch returned, without reading records.
pub fn sizes(bytes: &[u8]) -> Vec<usize> {
    let mut rest = bytes;
    let mut sizes = Vec::new();
    while let Some(size) = whole_batch(rest) {
        sizes.push(size);
        rest = &rest[size..];
    }
    sizes
}

fn whole_batch(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(at::LENGTH..at::LENGTH + 4)?;
    let size = 12 + usize::try_from(i32::from_be_bytes(length.try_into().ok()?)).ok()?;
    (size >= HEADER_BYTES && size <= bytes.len()).then_some(size)
}

fn read_one(batch: Bytes) -> Result<ReadBatch, BatchError> {
    let mut header = Cursor(&batch[..HEADER_BYTES]);
    let base_offset = i64::from_be_bytes(header.array()?);
    let _length = header.array::<4>()?;
    let leader_epoch = i32::from_be_bytes(header.array()?);
    let magic = i8::from_be_bytes(header.array()?);
    if magic != 2 {
        return Err(BatchError::Magic(magic));
    }
    if u32::from_be_bytes(header.array()?) != crc32c::crc32c(&batch[CRC_STARTS_AT..]) {
        return Err(BatchError::Crc);
    }
    let codec = i16::from_be_bytes(header.array()?) & 7;
    let last_delta = i32::from_be_bytes(header.array()?);
    let base_timestamp_ms = i64::from_be_bytes(header.array()?);
    let _newest = header.array::<8>()?;
    let producer_id = i64::from_be_bytes(header.array()?);
    let _epoch = header.array::<2>()?;
    let base_sequence = i32::from_be_bytes(header.array()?);
    let said = i32::from_be_bytes(header.array()?);
    let plain = decompress(batch.slice(HEADER_BYTES..), codec)?;
    let mut rest = Cursor(&plain);
    let mut records = Vec::new();
    while !rest.0.is_empty() {
        let length = usize::try_from(rest.varint()?).map_err(|_| BatchError::Cut)?;
        let (delta, record) = read_record(Cursor(rest.take(length)?), base_timestamp_ms, &plain)?;
        records.push((base_offset + delta, record));
    }
    if said as usize != records.len() {
        return Err(BatchError::Count {
            said,
            found: records.len(),
        });
    }
    let last_offset = base_offset + i64::from(last_delta);
    Ok(ReadBatch {
        base_offset,
        last_offset,
        leader_epoch,
        base_sequence,
        producer_id,
        records,
    })
}

fn read_record(
    mut body: Cursor<'_>,
    base_timestamp_ms: i64,
    owner: &Bytes,
) -> Result<(i64, Record), BatchError> {
    let _attributes = body.array::<1>()?;
    let timestamp_ms = base_timestamp_ms + body.varint()?;
    let delta = body.varint()?;
    let key = body.bytes(owner)?;
    let value = body.bytes(owner)?;
    Ok((
        delta,
        Record {
            key,
            value,
            timestamp_ms,
        },
    ))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BatchError> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(BatchError::Cut)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        self.take(N)?.try_into().map_err(|_| BatchError::Cut)
    }

    fn varint(&mut self) -> Result<i64, BatchError> {
        let mut raw = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.array::<1>()?[0];
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err(BatchError::Cut)
    }

    fn bytes(&mut self, owner: &Bytes) -> Result<Option<Bytes>, BatchError> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| BatchError::Cut)?;
                Ok(Some(owner.slice_ref(self.take(length)?)))
            }
        }
    }
}

pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damage_is_seen() {
        let mut batch = Batch::filled(3, 10).encode_mut();
        let last = batch.len() - 1;
        batch[last] ^= 1;
        assert_eq!(read_all(batch.clone().freeze()), Err(BatchError::Crc));
        batch.truncate(last);
        assert_eq!(read_all(batch.freeze()), Ok(vec![]));
    }

    #[test]
    fn a_bomb_is_a_sound_batch() {
        let bomb = gzip_bomb(1 << 20);
        assert!(bomb.len() < 4096);
        let mut records = Vec::new();
        flate2::read::GzDecoder::new(&bomb[HEADER_BYTES..])
            .read_to_end(&mut records)
            .unwrap();
        let mut plain = Batch::plain(vec![Record::of(vec![0; 1 << 20], 0)]).encode_mut();
        assert_eq!(records, plain.split_off(HEADER_BYTES));
        assert_eq!(sizes(&bomb), vec![bomb.len()]);
    }

    #[test]
    fn the_crate_reads_what_is_built() {
        let batch = Batch::plain(vec![
            Record::of("a", 5),
            Record {
                key: None,
                value: None,
                timestamp_ms: 9,
            },
        ]);
        let mut bytes = batch.by(4, 1, 7).encode();
        let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut bytes).unwrap();
        let seen: Vec<_> = set
            .records
            .iter()
            .map(|r| (r.offset, r.timestamp, r.sequence, r.value.clone()))
            .collect();
        assert_eq!(
            seen,
            vec![(0, 5, 7, Some(Bytes::from_static(b"a"))), (1, 9, 8, None)]
        );
        assert_eq!(
            (set.records[0].producer_id, set.records[0].producer_epoch),
            (4, 1)
        );
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(values in proptest::collection::vec((any::<Option<Vec<u8>>>(), 0i64..1 << 40), 1..20)) {
            let records: Vec<Record> = values.into_iter()
                .map(|(value, timestamp_ms)| Record { key: None, value: value.map(Bytes::from), timestamp_ms })
                .collect();
            let read = read_all(Batch::plain(records.clone()).encode()).unwrap();
            prop_assert_eq!(read.len(), 1);
            let back: Vec<Record> = read[0].records.iter().map(|(_, r)| r.clone()).collect();
            prop_assert_eq!(back, records);
        }

        #[test]
        fn noise_is_an_error_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(Bytes::from(bytes));
        }
    }
}
