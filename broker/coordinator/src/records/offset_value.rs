//! The value of an offset record.
//!
//! | version | fields |
//! | --- | --- |
//! | 0, 2 | offset i64, metadata string, commit timestamp i64 |
//! | 1 | the same, expire timestamp i64 |
//! | 3 | offset i64, leader epoch i32, metadata string, commit timestamp i64 |
//! | 4 | as 3 in the flexible encoding, tag 0: topic id |

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::{Reader, put_string};
use crate::ReplayError;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetValue {
    pub(crate) offset: i64,
    /// -1: not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) commit_timestamp_ms: i64,
    /// Only from commits with a retention time of their own (OffsetCommit v2 to v4).
    pub(crate) expire_timestamp_ms: Option<i64>,
}

impl OffsetValue {
    /// Version 1 loses the leader epoch, as in Kafka: clients that set a retention do not know epochs.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.metadata.len());
        out.put_i16(if self.expire_timestamp_ms.is_some() {
            1
        } else {
            3
        });
        out.put_i64(self.offset);
        if self.expire_timestamp_ms.is_none() {
            out.put_i32(self.leader_epoch);
        }
        put_string(&mut out, &self.metadata);
        out.put_i64(self.commit_timestamp_ms);
        if let Some(expire) = self.expire_timestamp_ms {
            out.put_i64(expire);
        }
        out.freeze()
    }

    /// Bytes after the fields are ignored, as Kafka does.
    pub(crate) fn decode(value: &[u8]) -> Result<OffsetValue, ReplayError> {
        let mut input = Reader::new(value);
        let version = input.i16("value version")?;
        if !(0..=4).contains(&version) {
            return Err(ReplayError::UnknownVersion {
                kind: "offset",
                version,
            });
        }
        let offset = input.i64("offset")?;
        let leader_epoch = if version >= 3 {
            input.i32("leader epoch")?
        } else {
            -1
        };
        let metadata = if version >= 4 {
            input.compact_string("metadata")?
        } else {
            input.string("metadata")?
        };
        let commit_timestamp_ms = input.i64("commit timestamp")?;
        let expire_timestamp_ms = match version {
            1 => Some(input.i64("expire timestamp")?).filter(|&at| at != -1),
            _ => None,
        };
        if version >= 4 {
            input.tagged_fields(topic_id_is_16_bytes)?;
        }
        Ok(OffsetValue {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms,
        })
    }
}

/// Offsets are kept by topic name, and dropped when the topic is deleted, so the id of version 4 has
/// nothing to tell; its shape is still checked.
fn topic_id_is_16_bytes(tag: u32, field: &[u8]) -> Result<(), ReplayError> {
    match (tag, field.len()) {
        (0, 16) => Ok(()),
        (0, _) => Err(ReplayError::BadLength("topic id")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(leader_epoch: i32, expire_timestamp_ms: Option<i64>) -> OffsetValue {
        OffsetValue {
            offset: 42,
            leader_epoch,
            metadata: "m".into(),
            commit_timestamp_ms: 5,
            expire_timestamp_ms,
        }
    }

    #[test]
    fn version_3_has_kafkas_bytes() {
        assert_eq!(
            &value(9, None).encode()[..],
            b"\0\x03\0\0\0\0\0\0\0\x2a\0\0\0\x09\0\x01m\0\0\0\0\0\0\0\x05"
        );
    }

    #[test]
    fn every_version_is_read() {
        let v0 = b"\0\0\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\0\x05";
        assert_eq!(OffsetValue::decode(v0), Ok(value(-1, None)));
        let v1 = b"\0\x01\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x08";
        assert_eq!(OffsetValue::decode(v1), Ok(value(-1, Some(8))));
        assert_eq!(&value(-1, Some(8)).encode()[..], v1);
        let v2 = b"\0\x02\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\0\x05";
        assert_eq!(OffsetValue::decode(v2), Ok(value(-1, None)));
        let mut v4 = b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x09\x02m\0\0\0\0\0\0\0\x05".to_vec();
        let untagged = [&v4[..], &[0]].concat();
        assert_eq!(OffsetValue::decode(&untagged), Ok(value(9, None)));
        v4.extend_from_slice(&[1, 0, 16]);
        v4.extend_from_slice(&[7; 16]);
        assert_eq!(OffsetValue::decode(&v4), Ok(value(9, None)));
        v4.truncate(v4.len() - 1);
        assert!(OffsetValue::decode(&v4).is_err());
        assert!(matches!(
            OffsetValue::decode(b"\0\x05"),
            Err(ReplayError::UnknownVersion { version: 5, .. })
        ));
    }

    proptest! {
        #[test]
        fn round_trip(offset: i64, epoch: i32, metadata in ".{0,40}", at: i64, expire in prop::option::of(0i64..)) {
            let value = OffsetValue {
                offset,
                leader_epoch: if expire.is_some() { -1 } else { epoch },
                metadata,
                commit_timestamp_ms: at,
                expire_timestamp_ms: expire,
            };
            prop_assert_eq!(OffsetValue::decode(&value.encode()), Ok(value));
        }
    }
}
