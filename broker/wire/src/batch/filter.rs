//! Compaction's view of stored batches: whether one is whole, and one without some of its records.

use bytes::Bytes;

use super::build::assemble;
use super::header::{CRC_STARTS_AT, HEADER_BYTES};
use super::{BatchError, BatchHeader, RecordView, records};
use crate::compress::{self, Codec};

/// The header of a stored batch, if it is what was once accepted: magic, length and CRC-32C are
/// right. The checksum covers all but the first 16 bytes, of which the length is checked here.
pub fn intact(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.magic != 2 {
        return Err(BatchError::Corrupt("its magic is unknown"));
    }
    if header.size_bytes() != Some(batch.len()) {
        return Err(BatchError::Corrupt("its length is not that of its bytes"));
    }
    if crc32c::crc32c(&batch[CRC_STARTS_AT..]) != header.crc {
        return Err(BatchError::Corrupt("its CRC-32C does not match"));
    }
    if header.last_offset_delta < 0 || batch.len() < HEADER_BYTES {
        return Err(BatchError::Corrupt("its offsets are out of order"));
    }
    Ok(header)
}

/// Drops the records that `keep` refuses.
///
/// `Ok(None)` when it keeps all: the batch stays as it is. Otherwise the batch anew, under the same
/// codec and with the same base offset, last offset delta, base timestamp, leader epoch and producer
/// fields, so that offsets never move. The maximum timestamp becomes that of the records which are
/// left (the append time stays, where the broker set it). With no record left nothing but the count
/// changes; whether an empty batch may go is up to the caller.
pub fn retain(
    batch: &Bytes,
    max_decompressed_bytes: usize,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Option<Bytes>, BatchError> {
    let records = records(batch, max_decompressed_bytes)?;
    let mut header = *records.header();
    let mut kept = Vec::new();
    let mut count = 0;
    let mut max_timestamp = None;
    for record in &records {
        let record = record?;
        if keep(&record) {
            kept.extend_from_slice(record.raw);
            max_timestamp = max_timestamp.max(Some(record.timestamp));
            count += 1;
        }
    }
    if count == header.record_count {
        return Ok(None);
    }
    header.record_count = count;
    header.max_timestamp = max_timestamp.unwrap_or(header.max_timestamp);
    Ok(Some(match header.compression()? {
        Codec::None => assemble(header, Codec::None, &kept),
        _ if count == 0 => assemble(header, Codec::None, &kept),
        codec => assemble(header, codec, &compress::compress(codec, &kept)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, BatchHeader};

    #[test]
    fn offsets_and_producer_survive() {
        for codec in Codec::ALL {
            let batch = BatchBuilder::new()
                .base_offset(50)
                .producer(9, 1, 20)
                .codec(codec)
                .append(Some(b"a"), Some(b"1"), 10)
                .append(Some(b"b"), Some(b"2"), 30)
                .append(Some(b"a"), Some(b"3"), 20)
                .build();
            let thin = retain(&batch, 1000, |r| r.key == Some(b"b"))
                .unwrap()
                .unwrap();
            let header = BatchHeader::parse(&thin).unwrap();
            assert_eq!(header.crc, crc32c::crc32c(&thin[21..]));
            assert_eq!(header.size_bytes(), Some(thin.len()));
            assert_eq!((header.base_offset, header.last_offset()), (50, 52));
            assert_eq!((header.last_sequence(), header.record_count), (22, 1));
            let read = records(&thin, 1000).unwrap();
            let read: Vec<_> = read
                .iter()
                .map(|r| r.map(|r| (r.offset, r.timestamp)))
                .collect();
            assert_eq!(read, [Ok((51, 30))], "{codec:?}");
            assert_eq!(intact(&thin), Ok(header));
            assert_eq!(header.compression(), Ok(codec));
            assert_eq!((header.base_timestamp, header.max_timestamp), (10, 30));
            let last = retain(&batch, 1000, |r| r.offset == 52).unwrap().unwrap();
            assert_eq!(BatchHeader::parse(&last).unwrap().max_timestamp, 20);

            assert_eq!(retain(&batch, 1000, |_| true), Ok(None));
            let empty = retain(&batch, 1000, |_| false).unwrap().unwrap();
            assert_eq!(BatchHeader::parse(&empty).unwrap().last_offset(), 52);
            assert_eq!(records(&empty, 1000).unwrap().iter().count(), 0);
        }
    }
    #[test]
    fn an_append_time_stays() {
        let sent = BatchBuilder::new()
            .append(Some(b"a"), Some(b"1"), 10)
            .append(Some(b"b"), Some(b"2"), 30)
            .build();
        let stamped = crate::batch::with_append_time(&sent, 99).unwrap();
        let thin = retain(&stamped, 1000, |r| r.offset == 0).unwrap().unwrap();
        let header = intact(&thin).unwrap();
        assert_eq!(header.max_timestamp, 99);
        assert!(header.timestamp_type_is_log_append());
    }

    #[test]
    fn any_flipped_bit_behind_the_head_is_seen() {
        let batch = BatchBuilder::new()
            .append(Some(b"key"), Some(b"value"), 10)
            .build();
        assert!(intact(&batch).is_ok());
        for at in (8..12).chain(16..batch.len()) {
            let mut bad = batch.to_vec();
            bad[at] ^= 1;
            assert!(intact(&bad).is_err(), "byte {at}");
        }
        assert!(intact(&batch[..batch.len() - 1]).is_err());
        assert!(intact(&batch[..20]).is_err());
    }
}
