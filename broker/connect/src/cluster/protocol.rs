//! What workers and their leader say in JoinGroup and SyncGroup: `ConnectProtocol` and
//! `IncrementalCooperativeConnectProtocol` of Kafka Connect (KIP-415), version 1.
//!
//! ```text
//! subscription: version i16, url string, config offset i64, assignment nullable bytes
//! assignment:   version i16, error i16, leader string, leader's url string, config offset i64,
//!               assigned [connector string, [task i32]], revoked [the same], delay ms i32
//! ```
//! A task of -1 is the connector itself.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Unit;

/// The group's protocol type.
pub const TYPE: &str = "connect";
/// The protocol's name. Not Kafka Connect's `sessioned` or `compatible`: a group of both kinds of workers is
/// refused by the broker, because Kafka's leader waits for task configurations that our workers never send.
pub const NAME: &str = "ottla-cooperative";

const VERSION: i16 = 1;
const THE_CONNECTOR: i32 = -1;

/// What a worker says when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Of its REST API, as `http://host:port/`.
    pub url: String,
    /// Offset in the configurations' topic up to which it has read.
    pub config_offset: i64,
    /// What it runs now.
    pub owned: Vec<Unit>,
}

/// What the leader answers to one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    pub error: i16,
    /// The leader's member id and REST API.
    pub leader: String,
    pub leader_url: String,
    pub config_offset: i64,
    /// To start, beside what it runs.
    pub assigned: Vec<Unit>,
    /// To stop, and then to join again.
    pub revoked: Vec<Unit>,
    /// Milliseconds after which work of a worker that left is given to others; 0: none waits.
    pub delay_ms: i32,
}

/// The leader's image is older than a worker's: nothing changes, all join again.
pub const CONFIG_MISMATCH: i16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("it ends too early")]
    Short,
    #[error("a text is not UTF-8")]
    Text,
    #[error("a count or a task is out of range")]
    Range,
    #[error("version {0} is not known")]
    Version(i16),
}

impl Subscription {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_text(&mut out, &self.url);
        out.put_i64(self.config_offset);
        let owned = Assignment {
            config_offset: self.config_offset,
            assigned: self.owned.clone(),
            ..Assignment::default()
        };
        let owned = owned.encode();
        out.put_i32(owned.len() as i32);
        out.put_slice(&owned);
        out.freeze()
    }

    pub fn decode(mut bytes: &[u8]) -> Result<Subscription, ProtocolError> {
        let from = &mut bytes;
        version(from)?;
        let url = text(from)?;
        let config_offset = from.try_get_i64().map_err(|_| ProtocolError::Short)?;
        let length = int(from)?;
        let owned = match usize::try_from(length) {
            Ok(length) if length <= from.len() => Assignment::decode(&from[..length])?.assigned,
            Ok(_) => return Err(ProtocolError::Short),
            Err(_) => Vec::new(),
        };
        Ok(Subscription {
            url,
            config_offset,
            owned,
        })
    }
}

impl Assignment {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        out.put_i16(self.error);
        put_text(&mut out, &self.leader);
        put_text(&mut out, &self.leader_url);
        out.put_i64(self.config_offset);
        put_units(&mut out, &self.assigned);
        put_units(&mut out, &self.revoked);
        out.put_i32(self.delay_ms);
        out.freeze()
    }

    pub fn decode(mut bytes: &[u8]) -> Result<Assignment, ProtocolError> {
        let from = &mut bytes;
        version(from)?;
        Ok(Assignment {
            error: short(from)?,
            leader: text(from)?,
            leader_url: text(from)?,
            config_offset: from.try_get_i64().map_err(|_| ProtocolError::Short)?,
            assigned: units(from)?,
            revoked: units(from)?,
            delay_ms: int(from)?,
        })
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    debug_assert!(text.len() <= i16::MAX as usize, "a name or an address");
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_units(out: &mut BytesMut, units: &[Unit]) {
    let mut by_connector: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for unit in units {
        let task = match unit {
            Unit::Connector(_) => THE_CONNECTOR,
            Unit::Task(_, index) => *index as i32,
        };
        by_connector.entry(unit.connector()).or_default().push(task);
    }
    out.put_i32(by_connector.len() as i32);
    for (connector, tasks) in by_connector {
        put_text(out, connector);
        out.put_i32(tasks.len() as i32);
        tasks.into_iter().for_each(|task| out.put_i32(task));
    }
}

fn short(from: &mut &[u8]) -> Result<i16, ProtocolError> {
    from.try_get_i16().map_err(|_| ProtocolError::Short)
}

fn int(from: &mut &[u8]) -> Result<i32, ProtocolError> {
    from.try_get_i32().map_err(|_| ProtocolError::Short)
}

fn version(from: &mut &[u8]) -> Result<(), ProtocolError> {
    // Later versions of Kafka Connect's protocol have the same layout up to 2.
    match short(from)? {
        1 | 2 => Ok(()),
        other => Err(ProtocolError::Version(other)),
    }
}

fn text(from: &mut &[u8]) -> Result<String, ProtocolError> {
    let length = usize::try_from(short(from)?).map_err(|_| ProtocolError::Range)?;
    if length > from.len() {
        return Err(ProtocolError::Short);
    }
    let (head, tail) = from.split_at(length);
    *from = tail;
    let text = std::str::from_utf8(head).map_err(|_| ProtocolError::Text)?;
    Ok(text.to_owned())
}

/// A count of things that take at least `size` bytes each.
fn count(from: &mut &[u8], size: usize) -> Result<usize, ProtocolError> {
    let count = int(from)?;
    // An array that is null has -1.
    let count = usize::try_from(count.max(0)).map_err(|_| ProtocolError::Range)?;
    if count > from.len() / size {
        return Err(ProtocolError::Short);
    }
    Ok(count)
}

fn units(from: &mut &[u8]) -> Result<Vec<Unit>, ProtocolError> {
    let mut units = Vec::new();
    for _ in 0..count(from, 6)? {
        let connector = text(from)?;
        for _ in 0..count(from, 4)? {
            units.push(match int(from)? {
                THE_CONNECTOR => Unit::Connector(connector.clone()),
                task => {
                    let task = u32::try_from(task).map_err(|_| ProtocolError::Range)?;
                    Unit::Task(connector.clone(), task)
                }
            });
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_those_of_kafka_connect() {
        let assignment = Assignment {
            error: 0,
            leader: "m".into(),
            leader_url: "u".into(),
            config_offset: 7,
            assigned: vec![Unit::Connector("c".into()), Unit::Task("c".into(), 2)],
            revoked: vec![],
            delay_ms: 9,
        };
        let bytes = [
            &[0, 1, 0, 0, 0, 1, b'm', 0, 1, b'u'][..],
            &[0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 0, 0, 1, 0, 1, b'c', 0, 0, 0, 2],
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 0, 9],
        ]
        .concat();
        assert_eq!(assignment.encode(), bytes);
        assert_eq!(Assignment::decode(&bytes), Ok(assignment));
        let subscription = [0, 1, 0, 1, b'u', 0, 0, 0, 0, 0, 0, 0, 7, 255, 255, 255, 255];
        let decoded = Subscription::decode(&subscription).unwrap();
        assert_eq!((decoded.config_offset, decoded.owned), (7, vec![]));
    }

    fn unit() -> impl Strategy<Value = Unit> {
        ("[a-c]{1,3}", proptest::option::of(0u32..5)).prop_map(|(name, task)| match task {
            None => Unit::Connector(name),
            Some(task) => Unit::Task(name, task),
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            owned in proptest::collection::btree_set(unit(), 0..9),
            url in ".{0,9}",
            config_offset in any::<i64>(),
        ) {
            let owned: Vec<Unit> = owned.into_iter().collect();
            let subscription = Subscription { url, config_offset, owned };
            let mut decoded = Subscription::decode(&subscription.encode()).unwrap();
            decoded.owned.sort();
            prop_assert_eq!(decoded, subscription);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Subscription::decode(&bytes);
            let _ = Assignment::decode(&bytes);
        }
    }
}
