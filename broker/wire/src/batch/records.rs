//! The records inside a batch.
//!
//! A record is: length (varint), attributes (one byte, unused), timestamp delta (varlong), offset
//! delta (varint), key, value (each a varint length, -1 for null, and bytes), and a varint count of
//! headers, each a non-null key and a value. The varints are zigzag.

use bytes::Bytes;

use super::header::HEADER_BYTES;
use super::{BatchError, BatchHeader};
use crate::compress::{self, Codec};
use crate::varint::{read_int, read_long};

const MALFORMED: BatchError = BatchError::InvalidRecord("a record is malformed");

/// A batch's records, decompressed.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
}

/// One record; the slices point into [`Records`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView<'a> {
    pub offset: i64,
    /// Milliseconds since 1970, or -1 for none; the append time where the broker sets it.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
    /// The whole record as it is encoded, length included.
    pub raw: &'a [u8],
}

/// A record's headers: an iterator over key and value, known to be well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    rest: &'a [u8],
}

/// Reads the records of a whole batch.
///
/// Memory: none but a reference to `batch` if it is not compressed, else up to
/// `max_decompressed_bytes` and what [`compress::decompress`] says.
pub fn records(batch: &Bytes, max_decompressed_bytes: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let payload = match header.compression()? {
        Codec::None => batch.slice(HEADER_BYTES..),
        codec => {
            compress::decompress(codec, &batch[HEADER_BYTES..], max_decompressed_bytes)?.into()
        }
    };
    Ok(Records { header, payload })
}

impl Records {
    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records' bytes, decompressed.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Walks the records. An error ends the walk; so do bytes after the last record, as an error.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            header: &self.header,
            left: self.header.record_count,
            last_delta: -1,
            rest: &self.payload,
        }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<RecordView<'a>, BatchError>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The walk of [`Records::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    header: &'a BatchHeader,
    left: i32,
    last_delta: i32,
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            if self.rest.is_empty() {
                return None;
            }
            self.rest = &[];
            return Some(Err(BatchError::InvalidRecord(
                "bytes follow the last record",
            )));
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            self.left = 0;
            self.rest = &[];
        }
        Some(record)
    }
}

impl<'a> Iter<'a> {
    fn read(&mut self) -> Result<RecordView<'a>, BatchError> {
        let start = self.rest;
        let size = length(&mut self.rest)?.ok_or(MALFORMED)?;
        let mut body = take(&mut self.rest, size)?;
        let raw = &start[..start.len() - self.rest.len()];
        take(&mut body, 1)?;
        let timestamp_delta = read_long(&mut body).ok_or(MALFORMED)?;
        let delta = read_int(&mut body).ok_or(MALFORMED)?;
        if delta <= self.last_delta || delta > self.header.last_offset_delta {
            return Err(BatchError::InvalidRecord("record offsets are out of order"));
        }
        self.last_delta = delta;
        let key = nullable(&mut body)?;
        let value = nullable(&mut body)?;
        Ok(RecordView {
            offset: self.header.base_offset.saturating_add(i64::from(delta)),
            timestamp: self.timestamp(timestamp_delta),
            key,
            value,
            headers: Headers::parse(body)?,
            raw,
        })
    }

    fn timestamp(&self, delta: i64) -> i64 {
        if self.header.timestamp_type_is_log_append() {
            self.header.max_timestamp
        } else {
            self.header.base_timestamp.saturating_add(delta)
        }
    }
}

impl<'a> Headers<'a> {
    /// Checks that `rest` is a count and that many headers, and nothing more.
    fn parse(mut rest: &'a [u8]) -> Result<Headers<'a>, BatchError> {
        let count = length(&mut rest)?.ok_or(MALFORMED)?;
        let headers = Headers { count, rest };
        for _ in 0..count {
            nullable(&mut rest)?.ok_or(MALFORMED)?;
            nullable(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(MALFORMED);
        }
        Ok(headers)
    }

    /// How many headers are left.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let key = nullable(&mut self.rest).ok()??;
        let value = nullable(&mut self.rest).ok()?;
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// A varint length or count; `None` for -1, an error below.
fn length(buf: &mut &[u8]) -> Result<Option<usize>, BatchError> {
    match read_int(buf).ok_or(MALFORMED)? {
        -1 => Ok(None),
        n => usize::try_from(n).map(Some).map_err(|_| MALFORMED),
    }
}

fn nullable<'a>(buf: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BatchError> {
    length(buf)?.map(|size| take(buf, size)).transpose()
}

fn take<'a>(buf: &mut &'a [u8], size: usize) -> Result<&'a [u8], BatchError> {
    let (front, rest) = buf.split_at_checked(size).ok_or(MALFORMED)?;
    *buf = rest;
    Ok(front)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use proptest::prelude::*;

    #[test]
    fn what_was_built_is_read_back_under_every_codec() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new();
            builder.append(Some(b"k0"), Some(b"v0"), 1000);
            builder.append(None, Some(b""), 990);
            builder.append_with_headers(
                Some(b""),
                None,
                1010,
                &[(b"trace", Some(b"1")), (b"empty", None)],
            );
            let batch = builder.base_offset(40).codec(codec).build();
            let records = records(&batch, 1 << 20).unwrap();
            let read: Vec<_> = records.iter().collect::<Result<_, _>>().unwrap();
            assert_eq!(read.len(), 3, "{codec:?}");
            assert_eq!((read[0].offset, read[0].timestamp), (40, 1000));
            assert_eq!(
                (read[0].key, read[0].value),
                (Some(&b"k0"[..]), Some(&b"v0"[..]))
            );
            assert_eq!((read[1].offset, read[1].timestamp), (41, 990));
            assert_eq!((read[1].key, read[1].value), (None, Some(&b""[..])));
            assert_eq!((read[2].key, read[2].value), (Some(&b""[..]), None));
            let headers: Vec<_> = read[2].headers.clone().collect();
            assert_eq!(
                headers,
                [(&b"trace"[..], Some(&b"1"[..])), (&b"empty"[..], None)]
            );
            let raw: Vec<u8> = read.iter().flat_map(|r| r.raw).copied().collect();
            assert_eq!(&raw[..], &records.payload()[..]);
        }
    }

    #[test]
    fn a_huge_header_count_is_refused_without_memory() {
        // attributes, timestamp delta, offset delta, null key, null value, 2^30 headers
        let record = [20u8, 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x08];
        let mut batch = BatchHeader {
            record_count: 1,
            last_offset_delta: 0,
            ..BatchBuilder::template()
        }
        .to_bytes()
        .to_vec();
        batch.extend_from_slice(&record);
        let records = records(&batch.into(), 100).unwrap();
        let read: Vec<_> = records.iter().collect();
        assert_eq!(read, [Err(MALFORMED)]);
    }

    #[test]
    fn a_count_that_lies_is_refused() {
        let mut builder = BatchBuilder::new();
        builder
            .append(None, Some(b"a"), 0)
            .append(None, Some(b"b"), 0);
        let good = builder.build();
        for count in [0i32, 1, 3, i32::MAX, -1] {
            let mut bad = good.to_vec();
            bad[57..61].copy_from_slice(&count.to_be_bytes());
            let records = records(&bad.into(), 100).unwrap();
            assert!(records.iter().any(|r| r.is_err()), "{count}");
            assert!(records.iter().count() <= 3);
        }
    }

    proptest! {
        #[test]
        fn noise_ends_in_an_error_or_the_end(
            noise: Vec<u8>, count: i32, attributes in 0i16..5, delta: i32,
        ) {
            let header = BatchHeader {
                record_count: count, attributes, last_offset_delta: delta,
                ..BatchBuilder::template()
            };
            let mut batch = header.to_bytes().to_vec();
            batch.extend_from_slice(&noise);
            if let Ok(records) = records(&batch.into(), 10_000) {
                prop_assert!(records.iter().count() <= noise.len().max(10_000) / 7 + 1);
            }
        }
    }
}
