//! The 61-byte header. On the hot path: no allocation.

use super::BatchError;
use crate::compress::Codec;

/// The header's size: the smallest batch is one byte more.
pub const HEADER_BYTES: usize = 61;

/// Bytes before the ones that the batch length counts: base offset and the length itself.
pub(super) const LENGTH_STARTS_AT: usize = 12;
/// Where the bytes that the CRC-32C covers begin: at the attributes.
pub(super) const CRC_STARTS_AT: usize = 21;

pub(super) const CODEC_MASK: i16 = 0x07;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(super) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;
pub(super) const DELETE_HORIZON_BIT: i16 = 0x40;

/// A batch's header, as its bytes say it; nothing is checked yet but that they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes of the batch after this field: the whole batch less 12.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    /// CRC-32C of the bytes from the attributes to the end.
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    /// Milliseconds since 1970, or -1 for none.
    pub base_timestamp: i64,
    /// Milliseconds since 1970, or -1 for none.
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `batch`; fails only if `batch` is shorter than a header.
    pub fn parse(batch: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(bytes) = batch.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Corrupt("shorter than its header"));
        };
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            batch_length: i32::from_be_bytes(field(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            magic: bytes[16] as i8,
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        })
    }

    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// The codec of the records.
    pub fn compression(&self) -> Result<Codec, BatchError> {
        let id = self.attributes & CODEC_MASK;
        Codec::from_id(id).ok_or(BatchError::UnsupportedCompression(id))
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are for brokers and clients, not for applications: transaction markers.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether every record's timestamp is the maximum timestamp, set by the broker.
    pub fn timestamp_type_is_log_append(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether compaction put the time at which tombstones may go into the base timestamp (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// Whether an idempotent or transactional producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// The whole batch in bytes, header included; `None` when the length is negative.
    pub fn size_bytes(&self) -> Option<usize> {
        Some(usize::try_from(self.batch_length).ok()? + LENGTH_STARTS_AT)
    }

    /// The last record's sequence number, or -1 where there is none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        next_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// The last record's offset.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }
}

/// The sequence number `increment` after `sequence`: 0 follows `i32::MAX`.
pub fn next_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    sum.rem_euclid(1 << 31) as i32
}

/// The first 16 bytes of a batch, which the broker decides and the checksum does not cover.
pub fn head(base_offset: i64, batch_length: i32, leader_epoch: i32) -> [u8; 16] {
    let mut out = [0; 16];
    out[0..8].copy_from_slice(&base_offset.to_be_bytes());
    out[8..12].copy_from_slice(&batch_length.to_be_bytes());
    out[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    out
}

/// Sets base offset and leader epoch at the front of `batch`, which holds a header.
pub fn patch_head(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= HEADER_BYTES, "a batch has a header");
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// The CRC-32C of a batch with this header and, behind it, these bytes.
pub(super) fn checksum(header: &BatchHeader, payload: &[u8]) -> u32 {
    let front = crc32c::crc32c(&header.to_bytes()[CRC_STARTS_AT..]);
    crc32c::crc32c_append(front, payload)
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES)) {
            let header = BatchHeader::parse(&bytes).unwrap();
            prop_assert_eq!(&header.to_bytes()[..], &bytes[..]);
            header.last_offset();
            header.last_sequence();
            let patch = head(header.base_offset, header.batch_length, header.partition_leader_epoch);
            prop_assert_eq!(&patch[..], &bytes[..16]);
        }
    }

    #[test]
    fn sixty_bytes_are_no_header() {
        assert_eq!(
            BatchHeader::parse(&[0; 60]),
            Err(BatchError::Corrupt("shorter than its header"))
        );
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(next_sequence(5, 3), 8);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 3), 1);
        assert_eq!(next_sequence(i32::MAX, i32::MAX), i32::MAX - 1);
    }
}
