//! A metadata record's bytes: two bytes of frame version (big endian), then `metadata.proto`'s
//! `Record`. A record that this build does not know is an error: skipping it would let this node's
//! image drift from everybody else's.
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use thiserror::Error;
use uuid::Uuid;

use crate::limits::METADATA_RECORD_BYTES;

/// The generated message types, as `metadata.proto` documents them.
pub mod records {
    #[allow(clippy::all, missing_docs)]
    mod generated {
        tonic::include_proto!("ottla.metadata.v1");
    }
    pub use generated::*;
}

/// One change of the cluster's metadata.
pub use records::record::Kind as MetadataRecord;

/// The only frame so far. Another one means another encoding of what follows.
const FRAME_VERSION: u16 = 1;
const FRAME_BYTES: usize = 2;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("metadata record has {0} bytes, the frame alone needs {FRAME_BYTES}")]
    Truncated(usize),
    #[error("metadata record has {0} bytes, more than {METADATA_RECORD_BYTES}")]
    TooLarge(usize),
    #[error(
        "metadata record frame version {0} is unknown: a newer Ottla wrote it; run at least that \
         version on this node"
    )]
    UnknownFrame(u16),
    #[error(
        "metadata record type {0} is unknown: a newer Ottla wrote it; run at least that version on \
         this node"
    )]
    UnknownType(u32),
    #[error("metadata record is malformed: {0}")]
    Malformed(String),
}

/// Size of [`encode`]'s answer in bytes.
pub fn encoded_len(record: &MetadataRecord) -> usize {
    FRAME_BYTES + record.encoded_len()
}

/// The value of the Kafka record that carries `record`.
pub fn encode(record: &MetadataRecord) -> Bytes {
    let mut value = BytesMut::with_capacity(encoded_len(record));
    value.put_u16(FRAME_VERSION);
    record.encode(&mut value);
    value.freeze()
}

/// Reads what [`encode`] wrote. Takes memory in proportion to the value, and no more.
pub fn decode(value: &[u8]) -> Result<MetadataRecord, DecodeError> {
    if value.len() > METADATA_RECORD_BYTES {
        return Err(DecodeError::TooLarge(value.len()));
    }
    if value.len() < FRAME_BYTES {
        return Err(DecodeError::Truncated(value.len()));
    }
    let mut body = value;
    let frame = body.get_u16();
    if frame != FRAME_VERSION {
        return Err(DecodeError::UnknownFrame(frame));
    }
    let record =
        records::Record::decode(body).map_err(|e| DecodeError::Malformed(e.to_string()))?;
    record.kind.ok_or_else(|| match first_field(body) {
        Some(field) => DecodeError::UnknownType(field),
        None => DecodeError::Malformed("no record type".to_owned()),
    })
}

/// The number of a message's first field, which prost drops if it does not know it.
fn first_field(mut body: &[u8]) -> Option<u32> {
    let key = prost::encoding::decode_varint(&mut body).ok()?;
    u32::try_from(key >> 3).ok()
}

impl From<Uuid> for records::Uuid {
    fn from(id: Uuid) -> Self {
        let (high, low) = id.as_u64_pair();
        Self { high, low }
    }
}

impl From<records::Uuid> for Uuid {
    fn from(id: records::Uuid) -> Self {
        Uuid::from_u64_pair(id.high, id.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::{Cluster, Topic};

    fn topic() -> MetadataRecord {
        MetadataRecord::Topic(Topic {
            name: "orders".to_owned(),
            topic_id: Some(Uuid::from_u128(7).into()),
        })
    }

    #[test]
    fn encoding_is_stable() {
        let record = MetadataRecord::Cluster(Cluster {
            cluster_id: "c".to_owned(),
        });
        assert_eq!(&encode(&record)[..], b"\x00\x01\x0a\x03\x0a\x01c");
    }

    #[test]
    fn round_trips() {
        let value = encode(&topic());
        assert_eq!(value.len(), encoded_len(&topic()));
        assert_eq!(decode(&value), Ok(topic()));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        assert_eq!(decode(b"\0"), Err(DecodeError::Truncated(1)));
        assert_eq!(decode(b"\0\x02\x0a\0"), Err(DecodeError::UnknownFrame(2)));
        // Field 1000, length-delimited and empty.
        assert_eq!(
            decode(b"\0\x01\xc2\x3e\0"),
            Err(DecodeError::UnknownType(1000))
        );
        assert!(matches!(decode(b"\0\x01"), Err(DecodeError::Malformed(_))));
        assert!(matches!(
            decode(b"\0\x01\x0a\x7f"),
            Err(DecodeError::Malformed(_))
        ));
        let huge = vec![0; METADATA_RECORD_BYTES + 1];
        assert_eq!(decode(&huge), Err(DecodeError::TooLarge(huge.len())));
        let message = DecodeError::UnknownType(1000).to_string();
        assert!(
            message.contains("1000") && message.contains("newer"),
            "{message}"
        );
    }
}
