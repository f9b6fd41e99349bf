//! A record batch from a client, or from disk. Nothing may panic or outgrow its bound.
//!
//! The input's first byte chooses a codec, or leaves the bytes as they are. With a codec, the rest
//! becomes the records of a batch whose header and checksum are sound.

#![no_main]

use bytes::Bytes;
use crc32c::crc32c;
use libfuzzer_sys::fuzz_target;
use ottla_wire::batch::{
    BatchBuilder, BatchHeader, HEADER_BYTES, Rules, exactly_one, find_timestamp, records, retain,
    split, validate, with_append_time,
};
use ottla_wire::compress::{Codec, compress};

const MAX_DECOMPRESSED_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&form, data)) = data.split_first() else {
        return;
    };
    match form % 8 {
        // compressed as it should be, with records that may be anything
        codec @ 0..=4 => {
            let codec = Codec::ALL[usize::from(codec)];
            read(&sealed(codec, &compress(codec, data), form / 8));
        }
        // data that may be no data of its codec
        5 => read(&sealed(Codec::ALL[usize::from(form / 8) % 5], data, 1)),
        _ => read(&Bytes::copy_from_slice(data)),
    }
});

/// A batch of `count` records with a sound header and checksum.
fn sealed(codec: Codec, payload: &[u8], count: u8) -> Bytes {
    let one = BatchBuilder::new().append(None, None, 0).build();
    let Ok(mut header) = BatchHeader::parse(&one) else {
        panic!("a built batch has a header");
    };
    header.attributes |= codec.id();
    header.record_count = i32::from(count);
    header.last_offset_delta = i32::from(count) - 1;
    header.batch_length = (HEADER_BYTES - 12 + payload.len()) as i32;
    let mut out = header.to_bytes().to_vec();
    out.extend_from_slice(payload);
    let crc = crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

fn read(batch: &Bytes) {
    let rules = Rules {
        max_decompressed_bytes: MAX_DECOMPRESSED_BYTES,
        require_keys: true,
        ..Rules::default()
    };
    if let Ok(header) = validate(batch, &rules, 0) {
        assert_eq!(header.size_bytes(), Some(batch.len()));
        let Ok(stamped) = with_append_time(batch, 1) else {
            panic!("a valid batch can be stamped");
        };
        let Ok(header) = BatchHeader::parse(&stamped) else {
            panic!("and has a header then");
        };
        assert_eq!(header.crc, crc32c(&stamped[21..]));
    }
    let _ = split(batch.clone());
    let _ = exactly_one(batch.clone());
    let _ = find_timestamp(batch, 0, 0, MAX_DECOMPRESSED_BYTES);
    let _ = retain(batch, MAX_DECOMPRESSED_BYTES, |record| record.key.is_some());
    if let Ok(records) = records(batch, MAX_DECOMPRESSED_BYTES) {
        if records.header().compression() != Ok(Codec::None) {
            assert!(records.payload().len() <= MAX_DECOMPRESSED_BYTES);
        }
        for record in records.iter().map_while(Result::ok) {
            assert_eq!(record.headers.len(), record.headers.clone().count());
        }
    }
}
