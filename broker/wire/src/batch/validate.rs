//! What a client may append. On the hot path: no allocation for batches that are not compressed.
//!
//! The checks are those of Kafka's broker: a batch is decompressed and its records are walked, so that
//! what is stored can be read by every consumer, and so that the record count, which moves the log end
//! offset, is true. One thing is left to the client: where the header's maximum timestamp is none of
//! the records', Kafka corrects it, and here it stands, within the topic's limits.

use bytes::Bytes;

use super::header::{CRC_STARTS_AT, HEADER_BYTES, LENGTH_STARTS_AT};
use super::{BatchError, BatchHeader, records};
use crate::compress::Codec;

/// Where record timestamps come from: a topic's `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// A topic's rules for batches, named as its configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `max.message.bytes`: the largest batch as it is sent, header included.
    pub max_message_bytes: usize,
    /// The most that a batch's records may be when decompressed; Kafka has no name for it.
    pub max_decompressed_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: i64,
    /// Whether every record must have a key: `cleanup.policy` has `compact`.
    pub require_keys: bool,
    /// Whether zstd is allowed: not before Produce version 7 (KIP-110).
    pub allow_zstd: bool,
}

impl Default for Rules {
    /// Kafka's defaults, and 64 MiB of decompressed records.
    fn default() -> Self {
        Rules {
            max_message_bytes: 1024 * 1024 + LENGTH_STARTS_AT,
            max_decompressed_bytes: 64 * 1024 * 1024,
            timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: 60 * 60 * 1000,
            require_keys: false,
            allow_zstd: true,
        }
    }
}

/// Splits the records field of a message into its batches, without copying.
///
/// The last one must be whole. The magic of each is checked, because only magic 2 has this shape.
pub fn split(records: Bytes) -> Result<Vec<Bytes>, BatchError> {
    let mut rest = records;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let size = front_size(&rest)?;
        batches.push(rest.split_to(size));
    }
    Ok(batches)
}

/// Checks that `records` holds exactly one batch, as Produce 3 and later must per partition, and
/// returns it.
pub fn exactly_one(records: Bytes) -> Result<Bytes, BatchError> {
    if records.is_empty() {
        return Err(BatchError::InvalidRecord("a partition without a batch"));
    }
    if front_size(&records)? != records.len() {
        return Err(BatchError::InvalidRecord(
            "more than one batch for a partition",
        ));
    }
    Ok(records)
}

/// The size of the batch at the front of `bytes`, all of which is there.
fn front_size(bytes: &[u8]) -> Result<usize, BatchError> {
    const MAGIC_AT: usize = 16;
    let Some(&magic) = bytes.get(MAGIC_AT) else {
        return Err(BatchError::Corrupt("shorter than its header"));
    };
    check_magic(magic as i8)?;
    let header = BatchHeader::parse(bytes)?;
    match header.size_bytes() {
        Some(size) if size <= HEADER_BYTES => Err(BatchError::Corrupt("its length is too small")),
        Some(size) if size <= bytes.len() => Ok(size),
        _ => Err(BatchError::Corrupt("its length exceeds the bytes sent")),
    }
}

fn check_magic(magic: i8) -> Result<(), BatchError> {
    match magic {
        2 => Ok(()),
        0 | 1 => Err(BatchError::UnsupportedMagic(magic)),
        _ => Err(BatchError::Corrupt("its magic is unknown")),
    }
}

/// Checks one whole batch that a client wants to append, and returns its header.
///
/// Order matters to clients: size before checksum, so that a batch that is too large is split
/// instead of sent again; checksum before anything that damage could fake.
pub fn validate(batch: &Bytes, rules: &Rules, now_ms: i64) -> Result<BatchHeader, BatchError> {
    if front_size(batch)? != batch.len() {
        return Err(BatchError::Corrupt("bytes follow the batch"));
    }
    let header = BatchHeader::parse(batch)?;
    if batch.len() > rules.max_message_bytes {
        return Err(BatchError::TooLarge {
            size_bytes: batch.len(),
            max_bytes: rules.max_message_bytes,
        });
    }
    if crc32c::crc32c(&batch[CRC_STARTS_AT..]) != header.crc {
        return Err(BatchError::Corrupt("its CRC-32C does not match"));
    }
    check_codec(&header, rules)?;
    check_offsets(&header)?;
    check_producer(&header)?;
    check_timestamps(&header, rules, now_ms)?;
    check_records(batch, rules, now_ms)?;
    Ok(header)
}

fn check_codec(header: &BatchHeader, rules: &Rules) -> Result<(), BatchError> {
    let codec = header.compression()?;
    if codec == Codec::Zstd && !rules.allow_zstd {
        return Err(BatchError::UnsupportedCompression(codec.id()));
    }
    Ok(())
}

fn check_offsets(header: &BatchHeader) -> Result<(), BatchError> {
    let invalid = |reason| Err(BatchError::InvalidRecord(reason));
    if header.base_offset != 0 {
        return invalid("a client's base offset is not 0");
    }
    if header.record_count <= 0 {
        return invalid("the record count is not positive");
    }
    if header.last_offset_delta != header.record_count - 1 {
        return invalid("the last offset delta does not match the record count");
    }
    Ok(())
}

/// Without a producer id, clients put anything into epoch and sequence.
fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    let invalid = |reason| Err(BatchError::InvalidRecord(reason));
    if header.is_control() {
        return invalid("clients may not write control records");
    }
    if header.has_delete_horizon() {
        return invalid("only compaction sets a delete horizon");
    }
    if header.has_producer_id() {
        if header.base_sequence < 0 {
            return invalid("a producer id without a sequence number");
        }
        if header.producer_epoch < 0 {
            return invalid("a producer id without a producer epoch");
        }
    } else if header.is_transactional() {
        return invalid("a transactional batch without a producer id");
    }
    Ok(())
}

/// The base timestamp is the first record's, the maximum timestamp some record's.
fn check_timestamps(header: &BatchHeader, rules: &Rules, now_ms: i64) -> Result<(), BatchError> {
    if header.timestamp_type_is_log_append() {
        return Err(BatchError::InvalidTimestampType);
    }
    check_timestamp(header.base_timestamp, rules, now_ms)?;
    check_timestamp(header.max_timestamp, rules, now_ms)
}

fn check_timestamp(timestamp_ms: i64, rules: &Rules, now_ms: i64) -> Result<(), BatchError> {
    const NO_TIMESTAMP: i64 = -1;
    let min_ms = now_ms.saturating_sub(rules.message_timestamp_before_max_ms);
    let max_ms = now_ms.saturating_add(rules.message_timestamp_after_max_ms);
    if rules.timestamp_type == TimestampType::LogAppendTime
        || timestamp_ms == NO_TIMESTAMP
        || (min_ms..=max_ms).contains(&timestamp_ms)
    {
        return Ok(());
    }
    Err(BatchError::InvalidTimestamp {
        timestamp_ms,
        min_ms,
        max_ms,
    })
}

/// Each record: well-formed, in order without gaps, with a key if there must be one.
fn check_records(batch: &Bytes, rules: &Rules, now_ms: i64) -> Result<(), BatchError> {
    let records = records(batch, rules.max_decompressed_bytes)?;
    for (expected_offset, record) in (0..).zip(&records) {
        let record = record?;
        if record.offset != expected_offset {
            return Err(BatchError::InvalidRecord("record offsets have gaps"));
        }
        if rules.require_keys && record.key.is_none() {
            return Err(BatchError::InvalidRecord(
                "a compacted topic takes no record without a key",
            ));
        }
        check_timestamp(record.timestamp, rules, now_ms)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, with_append_time};

    const NOW_MS: i64 = 1_700_000_000_000;

    fn builder() -> BatchBuilder {
        let mut builder = BatchBuilder::new();
        builder
            .append(Some(b"k"), Some(b"v"), NOW_MS)
            .append(Some(b"l"), None, NOW_MS - 5);
        builder
    }

    /// A batch with a change in its header and the checksum to match.
    fn changed(batch: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
        let mut header = BatchHeader::parse(batch).unwrap();
        change(&mut header);
        let mut out = header.to_bytes().to_vec();
        out.extend_from_slice(&batch[HEADER_BYTES..]);
        let crc = crc32c::crc32c(&out[CRC_STARTS_AT..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out.into()
    }

    fn check(batch: &Bytes) -> Result<BatchHeader, BatchError> {
        validate(batch, &Rules::default(), NOW_MS)
    }

    #[track_caller]
    fn assert_invalid(change: impl FnOnce(&mut BatchHeader)) {
        let refused = check(&changed(&builder().build(), change));
        assert!(
            matches!(refused, Err(BatchError::InvalidRecord(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn sound_batches_pass_under_every_codec() {
        for codec in Codec::ALL {
            let batch = builder().codec(codec).build();
            assert_eq!(check(&batch), BatchHeader::parse(&batch));
        }
        let transactional = builder().producer(4, 0, 7).transactional().build();
        assert!(check(&transactional).is_ok());
    }

    #[test]
    fn damage_is_corrupt() {
        let good = builder().build();
        // base offset and leader epoch are outside the checksum
        for at in (8..12).chain(16..good.len()) {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            let refused = check(&bad.into());
            let expected = matches!(
                refused,
                Err(BatchError::Corrupt(_) | BatchError::UnsupportedMagic(_))
            );
            assert!(expected, "{at}: {refused:?}");
        }
        for cut in 0..good.len() {
            assert!(
                matches!(check(&good.slice(..cut)), Err(BatchError::Corrupt(_))),
                "{cut}"
            );
        }
    }

    #[test]
    fn the_header_must_make_sense() {
        assert_invalid(|h| h.base_offset = 1);
        assert_invalid(|h| h.record_count = 0);
        assert_invalid(|h| h.record_count = -1);
        assert_invalid(|h| h.last_offset_delta = 0);
        assert_invalid(|h| h.last_offset_delta = 2);
        assert_invalid(|h| (h.record_count, h.last_offset_delta) = (i32::MAX, i32::MAX - 1));
        assert_invalid(|h| h.attributes |= 0x20);
        assert_invalid(|h| h.attributes |= 0x40);
        assert_invalid(|h| h.attributes |= 0x10);
        assert_invalid(|h| (h.producer_id, h.producer_epoch, h.base_sequence) = (1, 0, -1));
        assert_invalid(|h| (h.producer_id, h.producer_epoch, h.base_sequence) = (1, -1, 0));
        // clients without a producer id send anything in the other two
        let odd = changed(&builder().build(), |h| {
            (h.producer_epoch, h.base_sequence) = (0, 0)
        });
        assert!(check(&odd).is_ok());
    }

    #[test]
    fn a_compressed_batch_cannot_claim_two_billion_records() {
        let batch = changed(&builder().codec(Codec::Zstd).build(), |h| {
            (h.record_count, h.last_offset_delta) = (i32::MAX, i32::MAX - 1);
        });
        assert!(matches!(check(&batch), Err(BatchError::InvalidRecord(_))));
    }

    #[test]
    fn records_are_what_the_header_says() {
        for codec in Codec::ALL {
            let batch = builder().codec(codec).build();
            for count in [1, 3, 100] {
                let lies = changed(&batch, |h| {
                    (h.record_count, h.last_offset_delta) = (count, count - 1);
                });
                let refused = check(&lies);
                let expected = matches!(refused, Err(BatchError::InvalidRecord(_)));
                assert!(expected, "{codec:?} {count}: {refused:?}");
            }
            // Sound outside, and noise or nothing within.
            for noise in [
                &[][..],
                &[0; 40],
                &[0xff; 40],
                b"once upon a time there was a log",
            ] {
                let mut bytes = batch[..HEADER_BYTES].to_vec();
                bytes.extend_from_slice(noise);
                let length = (bytes.len() - LENGTH_STARTS_AT) as i32;
                bytes[8..12].copy_from_slice(&length.to_be_bytes());
                let crc = crc32c::crc32c(&bytes[CRC_STARTS_AT..]);
                bytes[17..21].copy_from_slice(&crc.to_be_bytes());
                let refused = check(&bytes.into());
                assert!(refused.is_err(), "{codec:?} {noise:?}: {refused:?}");
            }
        }
    }

    #[test]
    fn every_timestamp_counts() {
        let rules = Rules {
            message_timestamp_before_max_ms: 1000,
            ..Rules::default()
        };
        let batch = BatchBuilder::new()
            .append(None, None, NOW_MS)
            .append(None, None, NOW_MS - 1001)
            .build();
        assert!(matches!(
            validate(&batch, &rules, NOW_MS),
            Err(BatchError::InvalidTimestamp { .. })
        ));
    }

    #[test]
    fn size_is_checked_before_the_checksum() {
        let mut bad = builder().build().to_vec();
        bad[60] ^= 1;
        let rules = Rules {
            max_message_bytes: bad.len() - 1,
            ..Rules::default()
        };
        let refused = BatchError::TooLarge {
            size_bytes: bad.len(),
            max_bytes: bad.len() - 1,
        };
        assert_eq!(validate(&bad.into(), &rules, NOW_MS), Err(refused));
        let good = builder().build();
        let rules = Rules {
            max_message_bytes: good.len(),
            ..Rules::default()
        };
        assert!(validate(&good, &rules, NOW_MS).is_ok());
    }

    #[test]
    fn codecs_that_are_not_allowed() {
        let unknown = changed(&builder().build(), |h| h.attributes |= 5);
        assert_eq!(check(&unknown), Err(BatchError::UnsupportedCompression(5)));
        let rules = Rules {
            allow_zstd: false,
            ..Rules::default()
        };
        let zstd = builder().codec(Codec::Zstd).build();
        assert_eq!(
            validate(&zstd, &rules, NOW_MS),
            Err(BatchError::UnsupportedCompression(4))
        );
    }

    #[test]
    fn timestamps_have_bounds_under_create_time_only() {
        let rules = Rules {
            message_timestamp_before_max_ms: 1000,
            message_timestamp_after_max_ms: 500,
            ..Rules::default()
        };
        let at = |timestamp| BatchBuilder::new().append(None, None, timestamp).build();
        for (timestamp, sound) in [
            (NOW_MS - 1000, true),
            (NOW_MS - 1001, false),
            (NOW_MS + 500, true),
            (NOW_MS + 501, false),
            (-1, true),
            (-2, false),
            (i64::MAX, false),
            (i64::MIN, false),
        ] {
            let checked = validate(&at(timestamp), &rules, NOW_MS);
            assert_eq!(checked.is_ok(), sound, "{timestamp}: {checked:?}");
            let appended = Rules {
                timestamp_type: TimestampType::LogAppendTime,
                ..rules.clone()
            };
            assert!(validate(&at(timestamp), &appended, NOW_MS).is_ok());
        }
        let late = BatchBuilder::new()
            .append(None, None, NOW_MS)
            .append(None, None, NOW_MS + 501)
            .build();
        assert!(matches!(
            validate(&late, &rules, NOW_MS),
            Err(BatchError::InvalidTimestamp { .. })
        ));
        let marked = with_append_time(&at(NOW_MS), NOW_MS).unwrap();
        assert_eq!(check(&marked), Err(BatchError::InvalidTimestampType));
    }

    #[test]
    fn compacted_topics_need_keys() {
        let rules = Rules {
            require_keys: true,
            ..Rules::default()
        };
        for codec in Codec::ALL {
            let batch = builder()
                .codec(codec)
                .append(None, Some(b"v"), NOW_MS)
                .build();
            assert!(check(&batch).is_ok());
            assert!(matches!(
                validate(&batch, &rules, NOW_MS),
                Err(BatchError::InvalidRecord(_))
            ));
        }
    }

    #[test]
    fn a_decompression_bomb_stops_at_the_bound() {
        let rules = Rules {
            max_decompressed_bytes: 1 << 20,
            ..Rules::default()
        };
        let zeros = vec![0; 8 << 20];
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd, Codec::Snappy] {
            let batch = BatchBuilder::new()
                .codec(codec)
                .append(Some(b"k"), Some(&zeros), NOW_MS)
                .build();
            assert_eq!(
                validate(&batch, &rules, NOW_MS),
                Err(BatchError::DecompressedTooLarge { max_bytes: 1 << 20 })
            );
        }
    }

    #[test]
    fn old_formats_and_several_batches() {
        let one = builder().build();
        let two: Bytes = [&one[..], &one[..]].concat().into();
        assert_eq!(split(two.clone()), Ok(vec![one.clone(), one.clone()]));
        assert_eq!(split(Bytes::new()), Ok(vec![]));
        assert!(split(two.slice(..two.len() - 1)).is_err());
        assert_eq!(exactly_one(one.clone()), Ok(one.clone()));
        assert!(matches!(
            exactly_one(two),
            Err(BatchError::InvalidRecord(_))
        ));
        assert!(matches!(
            exactly_one(Bytes::new()),
            Err(BatchError::InvalidRecord(_))
        ));
        for (magic, refused) in [
            (0, BatchError::UnsupportedMagic(0)),
            (1, BatchError::UnsupportedMagic(1)),
            (3, BatchError::Corrupt("its magic is unknown")),
        ] {
            // formats 0 and 1 may be shorter than a batch's header
            let mut old = one[..30].to_vec();
            old[16] = magic;
            assert_eq!(exactly_one(old.into()), Err(refused));
        }
    }
}
