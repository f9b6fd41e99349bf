//! The value of a group record: a generation and its members with their assignments.
//!
//! protocol type string, generation i32, protocol nullable string, leader nullable string,
//! current state timestamp i64 (v2+), members: member id string, group instance id nullable string
//! (v3+), client id string, client host string, rebalance timeout i32 (v1+), session timeout i32,
//! subscription bytes, assignment bytes. Version 4 is the flexible encoding of version 3.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::{Reader, put_bytes, put_nullable_string, put_string};
use crate::ReplayError;

/// The last stored generation of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupValue {
    /// Empty for groups that only store offsets.
    pub(crate) protocol_type: String,
    pub(crate) generation_id: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    /// When the group came into this state; `None` in records of old versions.
    pub(crate) current_state_timestamp_ms: Option<i64>,
    /// None of them when the group was Empty.
    pub(crate) members: Vec<MemberValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberValue {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// What the member sent for the group's protocol.
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

impl GroupValue {
    pub(crate) fn member(&self, member_id: &str) -> Option<&MemberValue> {
        self.members.iter().find(|m| &*m.member_id == member_id)
    }

    /// Version 3.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(3);
        put_string(&mut out, &self.protocol_type);
        out.put_i32(self.generation_id);
        put_nullable_string(&mut out, self.protocol.as_deref());
        put_nullable_string(&mut out, self.leader.as_deref());
        out.put_i64(self.current_state_timestamp_ms.unwrap_or(-1));
        out.put_i32(i32::try_from(self.members.len()).expect("members are counted in i32"));
        for member in &self.members {
            member.encode(&mut out);
        }
        out.freeze()
    }

    /// Bytes after the fields are ignored, as Kafka does.
    pub(crate) fn decode(value: &[u8]) -> Result<GroupValue, ReplayError> {
        let mut input = Reader::new(value);
        let version = input.i16("value version")?;
        match version {
            0..=3 => Self::decode_plain(&mut input, version),
            4 => Self::decode_flexible(&mut input),
            _ => Err(ReplayError::UnknownVersion {
                kind: "group",
                version,
            }),
        }
    }

    fn decode_plain(input: &mut Reader<'_>, version: i16) -> Result<GroupValue, ReplayError> {
        let protocol_type = input.string("protocol type")?;
        let generation_id = input.i32("generation")?;
        let protocol = input.nullable_string("protocol")?;
        let leader = input.nullable_string("leader")?;
        let timestamp = if version >= 2 {
            input.i64("state timestamp")?
        } else {
            -1
        };
        let count = input.i32("members")?;
        let count = usize::try_from(count).map_err(|_| ReplayError::BadLength("members"))?;
        let members = read_members(input, count, |input| {
            MemberValue::decode_plain(input, version)
        })?;
        Ok(GroupValue {
            protocol_type,
            generation_id,
            protocol,
            leader,
            current_state_timestamp_ms: (timestamp != -1).then_some(timestamp),
            members,
        })
    }

    fn decode_flexible(input: &mut Reader<'_>) -> Result<GroupValue, ReplayError> {
        let protocol_type = input.compact_string("protocol type")?;
        let generation_id = input.i32("generation")?;
        let protocol = input.nullable_compact_string("protocol")?;
        let leader = input.nullable_compact_string("leader")?;
        let timestamp = input.i64("state timestamp")?;
        let count = input
            .uvarint("members")?
            .checked_sub(1)
            .ok_or(ReplayError::BadLength("members"))?;
        let members = read_members(input, count as usize, MemberValue::decode_flexible)?;
        input.tagged_fields(|_, _| Ok(()))?;
        Ok(GroupValue {
            protocol_type,
            generation_id,
            protocol,
            leader,
            current_state_timestamp_ms: (timestamp != -1).then_some(timestamp),
            members,
        })
    }
}

/// Reads `count` members without trusting it: a member takes at least 15 bytes.
fn read_members(
    input: &mut Reader<'_>,
    count: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<MemberValue, ReplayError>,
) -> Result<Vec<MemberValue>, ReplayError> {
    let mut members = Vec::with_capacity(count.min(input.remaining() / 15));
    for _ in 0..count {
        members.push(read(input)?);
    }
    Ok(members)
}

impl MemberValue {
    fn encode(&self, out: &mut BytesMut) {
        put_string(out, &self.member_id);
        put_nullable_string(out, self.group_instance_id.as_deref());
        put_string(out, &self.client_id);
        put_string(out, &self.client_host);
        out.put_i32(self.rebalance_timeout_ms);
        out.put_i32(self.session_timeout_ms);
        put_bytes(out, &self.subscription);
        put_bytes(out, &self.assignment);
    }

    fn decode_plain(input: &mut Reader<'_>, version: i16) -> Result<MemberValue, ReplayError> {
        let member_id = input.string("member id")?.into();
        let group_instance_id = if version >= 3 {
            input.nullable_string("group instance id")?
        } else {
            None
        };
        let client_id = input.string("client id")?;
        let client_host = input.string("client host")?;
        let rebalance = if version >= 1 {
            Some(input.i32("rebalance timeout")?)
        } else {
            None
        };
        let session_timeout_ms = input.i32("session timeout")?;
        Ok(MemberValue {
            member_id,
            group_instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: input.bytes("subscription")?,
            assignment: input.bytes("assignment")?,
        })
    }

    fn decode_flexible(input: &mut Reader<'_>) -> Result<MemberValue, ReplayError> {
        let member = MemberValue {
            member_id: input.compact_string("member id")?.into(),
            group_instance_id: input.nullable_compact_string("group instance id")?,
            client_id: input.compact_string("client id")?,
            client_host: input.compact_string("client host")?,
            rebalance_timeout_ms: input.i32("rebalance timeout")?,
            session_timeout_ms: input.i32("session timeout")?,
            subscription: input.compact_bytes("subscription")?,
            assignment: input.compact_bytes("assignment")?,
        };
        input.tagged_fields(|_, _| Ok(()))?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> GroupValue {
        GroupValue {
            protocol_type: "consumer".into(),
            generation_id: 3,
            protocol: Some("range".into()),
            leader: Some("a".into()),
            current_state_timestamp_ms: Some(9),
            members: vec![MemberValue {
                member_id: "a".into(),
                group_instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/h".into(),
                rebalance_timeout_ms: 60,
                session_timeout_ms: 10,
                subscription: Bytes::from_static(b"sub"),
                assignment: Bytes::from_static(b"as"),
            }],
        }
    }

    #[test]
    fn version_3_has_kafkas_bytes() {
        let expect: &[u8] = b"\0\x03\0\x08consumer\0\0\0\x03\0\x05range\0\x01a\0\0\0\0\0\0\0\x09\
            \0\0\0\x01\0\x01a\0\x01i\0\x01c\0\x02/h\0\0\0\x3c\0\0\0\x0a\0\0\0\x03sub\0\0\0\x02as";
        assert_eq!(&sample().encode()[..], expect);
        assert_eq!(GroupValue::decode(expect), Ok(sample()));
        for cut in 0..expect.len() {
            assert!(GroupValue::decode(&expect[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn every_version_is_read() {
        let mut expect = sample();
        expect.members[0].group_instance_id = None;
        let v2: &[u8] = b"\0\x02\0\x08consumer\0\0\0\x03\0\x05range\0\x01a\0\0\0\0\0\0\0\x09\
            \0\0\0\x01\0\x01a\0\x01c\0\x02/h\0\0\0\x3c\0\0\0\x0a\0\0\0\x03sub\0\0\0\x02as";
        assert_eq!(GroupValue::decode(v2), Ok(expect.clone()));
        expect.current_state_timestamp_ms = None;
        let v1: &[u8] = b"\0\x01\0\x08consumer\0\0\0\x03\0\x05range\0\x01a\
            \0\0\0\x01\0\x01a\0\x01c\0\x02/h\0\0\0\x3c\0\0\0\x0a\0\0\0\x03sub\0\0\0\x02as";
        assert_eq!(GroupValue::decode(v1), Ok(expect.clone()));
        expect.members[0].rebalance_timeout_ms = 10;
        let v0: &[u8] = b"\0\0\0\x08consumer\0\0\0\x03\0\x05range\0\x01a\
            \0\0\0\x01\0\x01a\0\x01c\0\x02/h\0\0\0\x0a\0\0\0\x03sub\0\0\0\x02as";
        assert_eq!(GroupValue::decode(v0), Ok(expect));
        let v4: &[u8] = b"\0\x04\x09consumer\0\0\0\x03\x06range\x02a\0\0\0\0\0\0\0\x09\
            \x02\x02a\x02i\x02c\x03/h\0\0\0\x3c\0\0\0\x0a\x04sub\x03as\x01\x05\x01x\0";
        assert_eq!(GroupValue::decode(v4), Ok(sample()));
    }

    #[test]
    fn a_false_count_reserves_nothing() {
        let lie = b"\0\x03\0\0\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\x09\x7f\xff\xff\xff";
        assert!(GroupValue::decode(lie).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(
            ids in prop::collection::vec("[a-z]{1,8}", 0..4), protocol in prop::option::of("[a-z]{0,5}"),
            generation: i32, at in prop::option::of(0i64..), blob in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let mut value = sample();
            let member = value.members.remove(0);
            value.members = ids.iter().map(|id| MemberValue {
                member_id: id.as_str().into(),
                assignment: Bytes::from(blob.clone()),
                ..member.clone()
            }).collect();
            value.protocol = protocol;
            value.generation_id = generation;
            value.current_state_timestamp_ms = at;
            prop_assert_eq!(GroupValue::decode(&value.encode()), Ok(value));
        }
    }
}
