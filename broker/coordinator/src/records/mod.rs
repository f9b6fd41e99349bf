//! Records of `__consumer_offsets` in Kafka's format, which lag exporters and Kafka itself read.
//!
//! A key is an int16 type and its fields: 0 and 1 an offset (group, topic, partition), 2 a group
//! (group). Types 3 to 15 belong to the consumer and share protocols (KIP-848, KIP-932) and are
//! skipped. A value is an int16 version and its fields; no value is a tombstone.
//!
//! Offsets are written as value version 3, or 1 when they have an expiry time of their own; groups
//! as version 3. Versions 0 to 4 of both are read.

mod group_value;
mod offset_value;
mod wire;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ReplayError;
pub(crate) use group_value::{GroupValue, MemberValue};
pub(crate) use offset_value::OffsetValue;
pub(crate) use wire::Reader;
use wire::put_string;

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;

/// A record for `__consumer_offsets`; `value: None` is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Record {
    pub(crate) fn offset(group: &str, topic: &str, partition: i32, value: &OffsetValue) -> Record {
        Record {
            key: offset_key(group, topic, partition),
            value: Some(value.encode()),
        }
    }

    pub(crate) fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Record {
        Record {
            key: offset_key(group, topic, partition),
            value: None,
        }
    }

    pub(crate) fn group(group: &str, value: &GroupValue) -> Record {
        Record {
            key: group_key(group),
            value: Some(value.encode()),
        }
    }

    pub(crate) fn group_tombstone(group: &str) -> Record {
        Record {
            key: group_key(group),
            value: None,
        }
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + group.len() + topic.len());
    out.put_i16(OFFSET_KEY);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.put_i32(partition);
    out.freeze()
}

fn group_key(group: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(GROUP_KEY);
    put_string(&mut out, group);
    out.freeze()
}

/// A record as `replay` wants it.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    Offset {
        group: Arc<str>,
        topic: String,
        partition: i32,
        value: Option<OffsetValue>,
    },
    Group {
        group: Arc<str>,
        value: Option<GroupValue>,
    },
    /// A record of another protocol.
    Foreign,
}

impl Change {
    /// The group that changes, if it is one of ours.
    pub(crate) fn group(&self) -> Option<Arc<str>> {
        match self {
            Change::Offset { group, .. } | Change::Group { group, .. } => Some(group.clone()),
            Change::Foreign => None,
        }
    }
}

/// Reads one record. Sizes are bounded by the input; nothing is reserved beyond its length.
pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Change, ReplayError> {
    let mut key = Reader::new(key);
    match key.i16("key type")? {
        0 | OFFSET_KEY => {
            let group = key.string("group id")?.into();
            let topic = key.string("topic")?;
            let partition = key.i32("partition")?;
            key.end()?;
            let value = value.map(OffsetValue::decode).transpose()?;
            Ok(Change::Offset {
                group,
                topic,
                partition,
                value,
            })
        }
        GROUP_KEY => {
            let group = key.string("group id")?.into();
            key.end()?;
            let value = value.map(GroupValue::decode).transpose()?;
            Ok(Change::Group { group, value })
        }
        _ => Ok(Change::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_have_kafkas_bytes() {
        assert_eq!(
            &offset_key("g", "t", 7)[..],
            b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x07"
        );
        assert_eq!(&group_key("grp")[..], b"\x00\x02\x00\x03grp");
    }

    #[test]
    fn other_protocols_are_skipped() {
        for kind in (3i16..=15).chain([-1, 99]) {
            assert_eq!(
                decode(&kind.to_be_bytes(), Some(b"whatever")),
                Ok(Change::Foreign)
            );
        }
    }

    #[test]
    fn broken_keys_are_errors() {
        assert!(decode(b"", None).is_err());
        assert!(decode(b"\x00\x02\x00\x05ab", None).is_err());
        assert!(decode(b"\x00\x02\xff\xff", None).is_err());
        assert!(decode(b"\x00\x02\x00\x01g!", None).is_err());
        assert!(decode(b"\x00\x02\x00\x01\xff", None).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            kind in 0i16..4, key in prop::collection::vec(any::<u8>(), 0..40),
            version in 0i16..6, body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let key = [&kind.to_be_bytes()[..], &key].concat();
            let value = [&version.to_be_bytes()[..], &body].concat();
            let _ = decode(&key, Some(&value));
            let _ = decode(b"\x00\x02\x00\x01g", Some(&value));
            let _ = decode(b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x07", Some(&value));
        }
    }
}
