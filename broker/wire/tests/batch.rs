//! Damaged batches: every function that reads one ends in an error or an answer, never in a panic.

use bytes::Bytes;
use ottla_wire::batch::{
    BatchBuilder, BatchHeader, Rules, exactly_one, find_timestamp, records, retain, split,
    validate, with_append_time,
};
use ottla_wire::compress::Codec;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const MAX_DECOMPRESSED_BYTES: usize = 1 << 20;

type Record = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn record() -> impl Strategy<Value = Record> {
    let bytes = || option::of(vec(any::<u8>(), 0..60));
    (bytes(), bytes(), -1i64..2_000_000_000_000)
}

fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(&Codec::ALL[..])
}

fn build(list: &[Record], codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (key, value, timestamp) in list {
        builder.append(key.as_deref(), value.as_deref(), *timestamp);
    }
    builder.codec(codec).build()
}

/// Everything that reads a batch, one after the other.
fn read(batch: &Bytes) {
    let rules = Rules {
        max_decompressed_bytes: MAX_DECOMPRESSED_BYTES,
        require_keys: true,
        ..Rules::default()
    };
    let _ = validate(batch, &rules, 0);
    let _ = split(batch.clone());
    let _ = exactly_one(batch.clone());
    let _ = find_timestamp(batch, 1000, 0, MAX_DECOMPRESSED_BYTES);
    let _ = with_append_time(batch, 5);
    let _ = retain(batch, MAX_DECOMPRESSED_BYTES, |record| record.key.is_some());
    if let Ok(records) = records(batch, MAX_DECOMPRESSED_BYTES) {
        for record in &records {
            let Ok(record) = record else { break };
            assert_eq!(record.headers.len(), record.headers.clone().count());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn records_come_back_as_they_went_in(list in vec(record(), 1..20), codec in codec()) {
        let batch = build(&list, codec);
        let records = records(&batch, MAX_DECOMPRESSED_BYTES).unwrap();
        prop_assert_eq!(records.iter().count(), list.len());
        for (i, (record, (key, value, timestamp))) in records.iter().zip(&list).enumerate() {
            let record = record.unwrap();
            prop_assert_eq!(record.offset, i as i64);
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            prop_assert_eq!(record.timestamp, *timestamp);
        }
    }

    #[test]
    fn a_search_by_time_is_a_search_from_the_front(
        list in vec(record(), 1..20), codec in codec(), target in 0i64..2_000_000_000_000,
        min_offset in 0i64..20,
    ) {
        let batch = build(&list, codec);
        let expected = (0i64..)
            .zip(&list)
            .map(|(offset, (_, _, timestamp))| (offset, *timestamp))
            .find(|&(offset, timestamp)| offset >= min_offset && timestamp >= target);
        let found = find_timestamp(&batch, target, min_offset, MAX_DECOMPRESSED_BYTES);
        prop_assert_eq!(found, Ok(expected));
    }

    #[test]
    fn damage_with_a_valid_checksum_is_survived(
        list in vec(record(), 1..6), codec in codec(), cut: usize,
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = build(&list, codec).to_vec();
        let size = bytes.len();
        for (at, byte) in changes {
            bytes[at % size] = byte;
        }
        if cut.is_multiple_of(4) {
            bytes.truncate(cut / 4 % size);
        }
        if let Ok(mut header) = BatchHeader::parse(&bytes) {
            header.batch_length = bytes.len() as i32 - 12;
            header.crc = crc32c::crc32c(&bytes[21..]);
            bytes[..61].copy_from_slice(&header.to_bytes());
        }
        read(&bytes.into());
    }

    #[test]
    fn noise_is_survived(noise in vec(any::<u8>(), 0..200)) {
        read(&noise.into());
    }
}
