//! Record batches built ahead. Hot path: `Batch::stamp` runs once per batch that is sent.
//!
//! A batch is format v2 (KIP-98), uncompressed, and split in two: a *head* of about a hundred bytes (the
//! 61-byte batch header and the first record up to and including its stamp), copied and patched for
//! every send, and a *tail* (all the rest) that is shared, checksummed once and never copied. The
//! CRC-32C of the whole is put together from the two: a CRC is linear, so moving the head's
//! over the tail's length is four table look-ups.
//!
//! Every record's value begins with a stamp of `STAMP_BYTES`, all big endian:
//!
//! | bytes | what | in |
//! | --- | --- | --- |
//! | 0..4 | `OtLT` | every record |
//! | 4..12 | run id | every record |
//! | 12..16 | slot: which batch of the pool | every record |
//! | 16..20 | index of the record in its batch | every record |
//! | 20..24 | CRC-32C of bytes 0..20 and 40.. | every record |
//! | 24..28 | connection | first record of a batch, else 0 |
//! | 28..32 | partition | first record of a batch, else 0 |
//! | 32..40 | sequence: batches of this connection to this partition, from 0 | first record, else 0 |

use std::sync::Arc;

use bytes::Bytes;

pub const STAMP_BYTES: usize = 40;
pub const BATCH_HEADER_BYTES: usize = 61;
const MAGIC: &[u8; 4] = b"OtLT";
const CRC_FROM: usize = 21;
/// A pool is about this large, so that it does not fit into a cache, as real records would not.
const POOL_BYTES: usize = 8 << 20;
const POOL_SLOTS: std::ops::RangeInclusive<usize> = 16..=1024;

/// What makes one sent batch different from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub connection: u32,
    pub partition: u32,
    pub sequence: u64,
}

/// The idempotent producer's fields of a batch header; -1 each for a producer without an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerFields {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

impl ProducerFields {
    pub const NONE: ProducerFields = ProducerFields {
        id: -1,
        epoch: -1,
        base_sequence: -1,
    };
}

/// A batch of the pool, ready but for its stamp.
pub struct Batch {
    head: Vec<u8>,
    tail: Bytes,
    tail_crc: u32,
    /// Where the first record's stamp begins in `head`.
    stamp_at: usize,
}

/// Milliseconds since 1970, as batches are stamped.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as i64
}

/// Distinct batches of the same size, shared by all connections of a run.
pub struct Pool {
    batches: Vec<Batch>,
    over_tail: CrcShift,
    pub records_per_batch: u32,
    pub record_bytes: usize,
}

impl Pool {
    /// `record_bytes` is the size of a value. A batch holds as many records as fit into
    /// `batch_bytes`, and at least one.
    pub fn new(run_id: u64, record_bytes: usize, batch_bytes: usize) -> Self {
        assert!(record_bytes >= STAMP_BYTES, "checked with the arguments");
        let records_per_batch = records_that_fit(record_bytes, batch_bytes);
        let slots = (POOL_BYTES / batch_bytes.max(record_bytes))
            .clamp(*POOL_SLOTS.start(), *POOL_SLOTS.end());
        let batches: Vec<Batch> = (0..slots as u32)
            .map(|slot| Batch::build(run_id, slot, records_per_batch, record_bytes))
            .collect();
        let over_tail = CrcShift::new(batches[0].tail.len());
        Pool {
            batches,
            over_tail,
            records_per_batch,
            record_bytes,
        }
    }

    /// Value bytes in one batch: what throughput counts.
    pub fn payload_bytes(&self) -> u64 {
        u64::from(self.records_per_batch) * self.record_bytes as u64
    }

    pub fn batch_bytes(&self) -> usize {
        self.batches[0].head.len() + self.batches[0].tail.len()
    }

    /// Appends the stamped head of the `n`th batch (modulo the pool) to `out` and returns its tail.
    pub fn stamp(
        &self,
        n: u64,
        identity: Identity,
        producer: ProducerFields,
        timestamp_ms: i64,
        out: &mut Vec<u8>,
    ) -> Bytes {
        let batch = &self.batches[(n % self.batches.len() as u64) as usize];
        let from = out.len();
        out.extend_from_slice(&batch.head);
        let head = &mut out[from..];
        head[27..35].copy_from_slice(&timestamp_ms.to_be_bytes());
        head[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
        head[43..51].copy_from_slice(&producer.id.to_be_bytes());
        head[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
        head[53..57].copy_from_slice(&producer.base_sequence.to_be_bytes());
        let stamp = &mut head[batch.stamp_at..];
        stamp[24..28].copy_from_slice(&identity.connection.to_be_bytes());
        stamp[28..32].copy_from_slice(&identity.partition.to_be_bytes());
        stamp[32..40].copy_from_slice(&identity.sequence.to_be_bytes());
        let crc = self.over_tail.apply(crc32c::crc32c(&head[CRC_FROM..])) ^ batch.tail_crc;
        head[17..21].copy_from_slice(&crc.to_be_bytes());
        batch.tail.clone()
    }
}

impl Batch {
    fn build(run_id: u64, slot: u32, records: u32, record_bytes: usize) -> Batch {
        let mut noise = Noise(run_id ^ (u64::from(slot) << 32) | 1);
        let mut bytes = vec![0; BATCH_HEADER_BYTES];
        let mut stamp_at = 0;
        for index in 0..records {
            let value_at = append_record(&mut bytes, run_id, slot, index, record_bytes, &mut noise);
            if index == 0 {
                stamp_at = value_at;
            }
        }
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&(records as i32 - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&(records as i32).to_be_bytes());
        let tail = Bytes::from(bytes.split_off(stamp_at + STAMP_BYTES));
        Batch {
            head: bytes,
            tail_crc: crc32c::crc32c(&tail),
            tail,
            stamp_at,
        }
    }
}

/// Appends one record and returns where its value begins.
fn append_record(
    out: &mut Vec<u8>,
    run_id: u64,
    slot: u32,
    index: u32,
    value_bytes: usize,
    noise: &mut Noise,
) -> usize {
    let body = record_body_bytes(index, value_bytes);
    put_varint(out, body as i64);
    out.push(0); // attributes
    put_varint(out, 0); // timestamp delta
    put_varint(out, i64::from(index)); // offset delta
    put_varint(out, -1); // no key
    put_varint(out, value_bytes as i64);
    let value_at = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&run_id.to_be_bytes());
    out.extend_from_slice(&slot.to_be_bytes());
    out.extend_from_slice(&index.to_be_bytes());
    out.resize(value_at + STAMP_BYTES, 0);
    noise.append(out, value_bytes - STAMP_BYTES);
    let crc = payload_crc(&out[value_at..]);
    out[value_at + 20..value_at + 24].copy_from_slice(&crc.to_be_bytes());
    put_varint(out, 0); // no headers
    value_at
}

fn record_body_bytes(index: u32, value_bytes: usize) -> usize {
    // attributes, timestamp delta 0, key length -1 and header count 0 take one byte each
    4 + varint_bytes(i64::from(index)) + varint_bytes(value_bytes as i64) + value_bytes
}

fn records_that_fit(record_bytes: usize, batch_bytes: usize) -> u32 {
    let mut used = BATCH_HEADER_BYTES;
    let mut records = 0;
    loop {
        let body = record_body_bytes(records, record_bytes);
        used += varint_bytes(body as i64) + body;
        if used > batch_bytes && records > 0 {
            return records;
        }
        records += 1;
    }
}

fn payload_crc(value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&value[..20]), &value[STAMP_BYTES..])
}

/// The stamp of a record's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub run_id: u64,
    pub slot: u32,
    pub index: u32,
    pub identity: Identity,
    /// Whether the value's own checksum holds.
    pub intact: bool,
}

impl Stamp {
    /// `None` for a value that the harness did not write.
    pub fn read(value: &[u8]) -> Option<Stamp> {
        if value.len() < STAMP_BYTES || &value[..4] != MAGIC {
            return None;
        }
        let u32_at = |at: usize| u32::from_be_bytes(value[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().expect("8 bytes"));
        Some(Stamp {
            run_id: u64_at(4),
            slot: u32_at(12),
            index: u32_at(16),
            identity: Identity {
                connection: u32_at(24),
                partition: u32_at(28),
                sequence: u64_at(32),
            },
            intact: u32_at(20) == payload_crc(value),
        })
    }
}

/// Zigzag, then seven bits a byte, as in the record format.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Moves a CRC-32C over a fixed number of bytes: `crc(a + b) = shift(crc(a)) ^ crc(b)`. The shift is
/// linear in its 32 bits, so four tables of 256 hold it.
struct CrcShift(Box<[[u32; 256]; 4]>);

impl CrcShift {
    fn new(bytes: usize) -> Self {
        let mut tables = Box::new([[0u32; 256]; 4]);
        for (position, table) in tables.iter_mut().enumerate() {
            for bit in 0..8 {
                let one = 1u32 << (8 * position + bit);
                let moved = crc32c::crc32c_combine(one, 0, bytes);
                for (byte, entry) in table.iter_mut().enumerate() {
                    if byte & (1 << bit) != 0 {
                        *entry ^= moved;
                    }
                }
            }
        }
        CrcShift(tables)
    }

    fn apply(&self, crc: u32) -> u32 {
        let bytes = crc.to_le_bytes();
        (0..4).fold(0, |sum, i| sum ^ self.0[i][usize::from(bytes[i])])
    }
}

/// Payload that does not compress (xorshift64*).
struct Noise(u64);

impl Noise {
    fn append(&mut self, out: &mut Vec<u8>, bytes: usize) {
        let end = out.len() + bytes;
        while out.len() < end {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            out.extend_from_slice(&word[..word.len().min(end - out.len())]);
        }
    }
}

/// A pool that many tasks share.
pub type SharedPool = Arc<Pool>;

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    fn whole(pool: &Pool, n: u64, identity: Identity, producer: ProducerFields) -> Vec<u8> {
        let mut out = vec![7, 7]; // what lies before the batch is left alone
        let tail = pool.stamp(n, identity, producer, 1_700_000_000_123, &mut out);
        assert_eq!(out[..2], [7, 7]);
        out.drain(..2);
        out.extend_from_slice(&tail);
        out
    }

    fn identity(sequence: u64) -> Identity {
        Identity {
            connection: 3,
            partition: 9,
            sequence,
        }
    }

    #[test]
    fn batches_decode_and_their_checksums_hold() {
        for (record_bytes, batch_bytes) in [
            (40, 1),
            (41, 500),
            (100, 16_384),
            (1024, 65_536),
            (20_000, 300_000),
        ] {
            let pool = Pool::new(77, record_bytes, batch_bytes);
            let producer = ProducerFields {
                id: 5000,
                epoch: 2,
                base_sequence: 640,
            };
            let bytes = whole(&pool, 18, identity(12), producer);
            assert_eq!(bytes.len(), pool.batch_bytes());
            assert!(pool.records_per_batch == 1 || bytes.len() <= batch_bytes);
            let stored = u32::from_be_bytes(bytes[17..21].try_into().unwrap());
            assert_eq!(
                stored,
                crc32c::crc32c(&bytes[CRC_FROM..]),
                "{record_bytes} {batch_bytes}"
            );

            let set = RecordBatchDecoder::decode(&mut Bytes::from(bytes)).unwrap();
            assert_eq!(set.records.len(), pool.records_per_batch as usize);
            for (i, record) in set.records.iter().enumerate() {
                assert_eq!(record.offset, i as i64);
                assert_eq!(record.timestamp, 1_700_000_000_123);
                assert_eq!((record.producer_id, record.producer_epoch), (5000, 2));
                assert_eq!(record.sequence, 640 + i as i32);
                assert!(record.key.is_none() && record.headers.is_empty());
                let value = record.value.as_ref().unwrap();
                assert_eq!(value.len(), record_bytes);
                let stamp = Stamp::read(value).unwrap();
                assert!(stamp.intact);
                assert_eq!((stamp.run_id, stamp.slot, stamp.index), (77, 18, i as u32));
                if i == 0 {
                    assert_eq!(stamp.identity, identity(12));
                }
            }
        }
    }

    #[test]
    fn a_batch_is_filled_up_to_its_size() {
        let pool = Pool::new(1, 1024, 65_536);
        assert!(pool.batch_bytes() <= 65_536);
        assert!(pool.batch_bytes() + 1024 + 10 > 65_536);
        assert_eq!(
            pool.payload_bytes(),
            u64::from(pool.records_per_batch) * 1024
        );
    }

    #[test]
    fn every_send_and_every_slot_differs() {
        let pool = Pool::new(1, 200, 1000);
        let first = whole(&pool, 0, identity(0), ProducerFields::NONE);
        assert_ne!(first, whole(&pool, 0, identity(1), ProducerFields::NONE));
        assert_ne!(first, whole(&pool, 1, identity(0), ProducerFields::NONE));
        assert_eq!(first, whole(&pool, 0, identity(0), ProducerFields::NONE));
    }

    #[test]
    fn damage_is_seen() {
        let pool = Pool::new(1, 200, 300);
        let bytes = whole(&pool, 0, identity(0), ProducerFields::NONE);
        let mut value = bytes[bytes.len() - 201..bytes.len() - 1].to_vec();
        assert!(Stamp::read(&value).unwrap().intact);
        value[150] ^= 1;
        assert!(!Stamp::read(&value).unwrap().intact);
        value[0] = b'x';
        assert_eq!(Stamp::read(&value), None);
        assert_eq!(Stamp::read(&value[..39]), None);
    }

    #[test]
    fn varints_take_the_bytes_that_are_counted() {
        for value in [
            0,
            -1,
            1,
            63,
            64,
            -64,
            -65,
            8191,
            8192,
            1 << 30,
            i64::MAX,
            i64::MIN,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_bytes(value), "{value}");
        }
    }
}
