//! Compaction's rewrite of a batch.

use bytes::Bytes;

use super::build::assemble;
use super::{BatchError, RecordView, records};
use crate::compress::{self, Codec};

/// Drops the records that `keep` refuses.
///
/// `Ok(None)` when it keeps all: the batch stays as it is. Otherwise the batch anew, under the same
/// codec and with the same base offset, last offset delta, timestamps, leader epoch and producer
/// fields; only the record count and the records change, so that offsets never move and the
/// producer's state can still be read from it. It may have no record left, which says the same for
/// offsets and producer; whether an empty batch may go is up to the caller.
pub fn retain(
    batch: &Bytes,
    max_decompressed_bytes: usize,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Option<Bytes>, BatchError> {
    let records = records(batch, max_decompressed_bytes)?;
    let mut header = *records.header();
    let mut kept = Vec::new();
    let mut count = 0;
    for record in &records {
        let record = record?;
        if keep(&record) {
            kept.extend_from_slice(record.raw);
            count += 1;
        }
    }
    if count == header.record_count {
        return Ok(None);
    }
    header.record_count = count;
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

            assert_eq!(retain(&batch, 1000, |_| true), Ok(None));
            let empty = retain(&batch, 1000, |_| false).unwrap().unwrap();
            assert_eq!(BatchHeader::parse(&empty).unwrap().last_offset(), 52);
            assert_eq!(records(&empty, 1000).unwrap().iter().count(), 0);
        }
    }
}
