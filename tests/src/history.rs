//! What clients did and saw. Workloads write it; the checker reads it afterwards.
//!
//! Every record has a name: who sent it, to which partition, and its number there, which counts up
//! from 0. Its value carries the name, and padding that follows from it, so that a reader can tell
//! a damaged record from a foreign one.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::{Batch, Record};
use crate::random::Random;

/// Since the history began.
pub type Nanos = u64;

/// A record's name within its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub producer: u32,
    pub number: u64,
}

/// Records that were sent as one batch: `first..first + count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub producer: u32,
    pub partition: i32,
    pub first: u64,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A batch was given to the network for the first time. Retries are not events.
    Send { batch: Sent, at: Nanos },
    /// The broker took the batch. `base_offset` is absent where it said only "a duplicate".
    Ack {
        batch: Sent,
        base_offset: Option<i64>,
        at: Nanos,
    },
    /// The producer was told something that must not happen to it, or gave up.
    Failed {
        batch: Sent,
        error: String,
        at: Nanos,
    },
    /// One answer to a fetch from `fetch_offset`.
    Read(Read),
    /// A reader was told something that must not happen to it.
    ReadFailed {
        reader: u32,
        partition: i32,
        offset: i64,
        error: String,
    },
    /// A partition was read from its start to its end while nobody wrote. The reader is the number of the
    /// node that served it, 0 for whichever led it.
    Complete(Read),
    /// A committed offset was sent; whether it counts is unknown until it is acknowledged.
    CommitSent {
        group: String,
        partition: i32,
        offset: i64,
        at: Nanos,
    },
    CommitAcked {
        group: String,
        partition: i32,
        offset: i64,
        at: Nanos,
    },
    /// The committed offset that the broker showed; -1 is none.
    CommitRead {
        group: String,
        partition: i32,
        offset: i64,
        asked_at: Nanos,
    },
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Read {
    pub reader: u32,
    pub partition: i32,
    pub asked_at: Nanos,
    pub answered_at: Nanos,
    pub fetch_offset: i64,
    pub high_watermark: i64,
    pub records: Vec<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    /// `None`: the value is not one that a producer of this history sent to this partition.
    pub id: Option<Id>,
}

#[derive(Debug, Default)]
pub struct History {
    pub events: Vec<Event>,
}

/// A handle that tasks share.
#[derive(Clone)]
pub struct Recorder {
    began: Instant,
    history: Arc<Mutex<History>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder {
            began: Instant::now(),
            history: Arc::default(),
        }
    }
}

impl Recorder {
    pub fn now(&self) -> Nanos {
        self.began.elapsed().as_nanos() as Nanos
    }

    pub fn add(&self, event: Event) {
        self.history
            .lock()
            .expect("no holder panics")
            .events
            .push(event);
    }

    /// Shows the history so far, which goes on: it may be judged again.
    pub fn look<T>(&self, judge: impl FnOnce(&History) -> T) -> T {
        judge(&self.history.lock().expect("no holder panics"))
    }

    /// The history so far; a new one begins.
    pub fn take(&self) -> History {
        std::mem::take(&mut self.history.lock().expect("no holder panics"))
    }
}

const NAME_BYTES: usize = 16;

/// One batch of one record of producer 1, whose value says which it is; written long ago.
pub fn batch(number: u64, partition: i32, size_bytes: usize) -> Bytes {
    let id = Id {
        producer: 1,
        number,
    };
    let record = Record::of(value(id, partition, size_bytes), 1_700_000_000_000);
    Batch::plain(vec![record]).encode()
}

/// The value that carries a record's name, of at least `size_bytes` bytes.
pub fn value(id: Id, partition: i32, size_bytes: usize) -> Bytes {
    let size_bytes = size_bytes.max(NAME_BYTES);
    let mut value = BytesMut::with_capacity(size_bytes + 8);
    value.put_u32(id.producer);
    value.put_i32(partition);
    value.put_u64(id.number);
    let whose = Random::new(u64::from(id.producer) << 32 | size_bytes as u64).number();
    let mut padding = Random::new(id.number ^ whose);
    value.extend_from_slice(&padding.bytes(size_bytes - NAME_BYTES));
    value.freeze()
}

/// The name in a value, if the value is whole and was meant for this partition.
pub fn name_of(bytes: &[u8], partition: i32) -> Option<Id> {
    let name = bytes.get(..NAME_BYTES)?;
    let producer = u32::from_be_bytes(name[..4].try_into().ok()?);
    let number = u64::from_be_bytes(name[8..].try_into().ok()?);
    let id = Id { producer, number };
    (value(id, partition, bytes.len()) == bytes).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_record() {
        let id = Id {
            producer: 3,
            number: 1 << 40,
        };
        for size in [0, 16, 17, 1000] {
            let value = value(id, 2, size);
            assert_eq!(value.len(), size.max(16));
            assert_eq!(name_of(&value, 2), Some(id));
            assert_eq!(name_of(&value, 1), None, "meant for another partition");
        }
    }

    #[test]
    fn a_damaged_value_names_nothing() {
        let good = value(
            Id {
                producer: 3,
                number: 9,
            },
            2,
            100,
        );
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 4;
            assert_eq!(name_of(&bad, 2), None, "byte {at}");
        }
        assert!(
            (0..good.len()).all(|end| name_of(&good[..end], 2).is_none_or(|_| end == 16)),
            "cut off"
        );
    }
}
