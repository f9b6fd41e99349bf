//! The few fields of a stored record batch (v2, KIP-98) that say where it stands and whose it is, and
//! the batch that takes the place of lost ones.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a batch without records.
const HEADER_BYTES: usize = 61;
const CRC_AT: usize = 17;
const CRC_STARTS_AT: usize = 21;

/// What a stored batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    pub base_offset: i64,
    /// Offsets it takes: its last offset delta plus one.
    pub offsets: i32,
    pub leader_epoch: i32,
    pub max_timestamp_ms: i64,
    /// Below zero without idempotence.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub size_bytes: u32,
}

impl BatchFacts {
    /// `None` where it is too short to be a batch, or takes no offsets.
    pub fn of(batch: &[u8]) -> Option<BatchFacts> {
        let delta = last_offset_delta(batch)?;
        Some(BatchFacts {
            base_offset: base_offset(batch)?,
            offsets: delta.checked_add(1).filter(|offsets| *offsets > 0)?,
            leader_epoch: i32::from_be_bytes(field(batch, 12)?),
            max_timestamp_ms: batch_max_timestamp(batch)?,
            producer_id: i64::from_be_bytes(field(batch, 43)?),
            producer_epoch: i16::from_be_bytes(field(batch, 51)?),
            base_sequence: i32::from_be_bytes(field(batch, 53)?),
            size_bytes: u32::try_from(batch.len()).ok()?,
        })
    }

    /// The offset behind its last.
    pub fn end(&self) -> i64 {
        self.base_offset.saturating_add(self.offsets.into())
    }
}

fn field<const N: usize>(batch: &[u8], at: usize) -> Option<[u8; N]> {
    batch.get(at..at + N)?.try_into().ok()
}

fn base_offset(batch: &[u8]) -> Option<i64> {
    field(batch, 0).map(i64::from_be_bytes)
}

fn last_offset_delta(batch: &[u8]) -> Option<i32> {
    field(batch, 23).map(i32::from_be_bytes)
}

/// Highest record timestamp of a stored batch, ms; `None` where it is too short to be one.
pub fn batch_max_timestamp(batch: &[u8]) -> Option<i64> {
    field(batch, 35).map(i64::from_be_bytes)
}

/// First and last offset of a stored batch; `None` where it is too short to be one.
pub fn batch_span(batch: &[u8]) -> Option<(i64, i64)> {
    let (base, delta) = (base_offset(batch)?, last_offset_delta(batch)?);
    Some((base, base.checked_add(delta.max(0).into())?))
}

/// A batch without records that takes `offsets` offsets, as compaction leaves them, too. Nothing else
/// has neither a producer nor a timestamp: it stands for batches that were lost.
pub fn lost_batch(base_offset: i64, offsets: i32, leader_epoch: i32) -> Bytes {
    let mut batch = BytesMut::with_capacity(HEADER_BYTES);
    batch.put_i64(base_offset);
    batch.put_i32((HEADER_BYTES - 12) as i32);
    batch.put_i32(leader_epoch);
    batch.put_u8(2);
    batch.put_u32(0);
    batch.put_i16(0);
    batch.put_i32(offsets - 1);
    batch.put_i64(-1); // base timestamp
    batch.put_i64(-1); // max timestamp
    batch.put_i64(-1); // producer id
    batch.put_i16(-1); // producer epoch
    batch.put_i32(-1); // base sequence
    batch.put_i32(0); // records
    let crc = crc32c::crc32c(&batch[CRC_STARTS_AT..]);
    batch[CRC_AT..CRC_STARTS_AT].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let batch = lost_batch(70, 30, 4);
        assert_eq!(batch.len(), HEADER_BYTES);
        let expected = BatchFacts {
            base_offset: 70,
            offsets: 30,
            leader_epoch: 4,
            max_timestamp_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            size_bytes: 61,
        };
        assert_eq!(BatchFacts::of(&batch), Some(expected));
        assert_eq!(expected.end(), 100);
        for cut in 0..57 {
            assert_eq!(BatchFacts::of(&batch[..cut]), None);
        }
    }
}
