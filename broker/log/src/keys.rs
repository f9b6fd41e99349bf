//! Every RocksDB key, in one place. All integers are big endian, so that byte order is number order.
//!
//! | column family | key | value |
//! | --- | --- | --- |
//! | `raft` | group u32, index u64 | a raft row (the raft crate's encoding) |
//! | `log` | partition u64, base offset i64 | one record batch as Kafka writes it |
//! | `index` | partition u64, base offset i64 | [`IndexRow`](crate::IndexRow): highest timestamp so far i64, bytes before the batch u64, highest timestamp since the row before i64 |
//! | `state` | tag u8, group u32 (0 where none), id u64 (0 where none) | by [`Tag`] |

use ottla_proto::ids::{GroupId, PartitionId};

pub(crate) const RAFT: &str = "raft";
pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const STATE: &str = "state";
/// Every column family; RocksDB's own `default` stays empty.
pub(crate) const ALL: [&str; 5] = ["default", RAFT, LOG, INDEX, STATE];

/// What a row of the `state` column family holds. The numbers are on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tag {
    /// The folder's identity: cluster id, node id, replica id. One row.
    Identity = 1,
    /// How many syncs there were, u64. Written with each of them; see `durable.rs`. One row.
    Synced = 2,
    /// Bytes that were deleted and are not given back to the disk yet, u64. One row.
    Freed = 3,
    /// How often an operator accepted that data is lost, u64. One row.
    Losses = 4,
    /// A group's Raft vote. Durable before it counts.
    Vote = 16,
    /// A group's checkpoint: applied log id and membership. Raft rows above it are replayed at start.
    Checkpoint = 17,
    /// The last log id purged from a group's raft rows.
    Purged = 18,
    /// Up to which accepted loss a group was made consistent again, u64; see [`Tag::Losses`].
    Mended = 19,
    /// Ids of a group's partitions that are gone, at its checkpoint.
    Removed = 20,
    /// A partition's state at its group's checkpoint.
    Partition = 32,
    /// How far a partition is compacted on this replica. Losing it costs work, not data.
    Cleaner = 33,
}

const TAGS: [Tag; 11] = [
    Tag::Identity,
    Tag::Synced,
    Tag::Freed,
    Tag::Losses,
    Tag::Vote,
    Tag::Checkpoint,
    Tag::Purged,
    Tag::Mended,
    Tag::Removed,
    Tag::Partition,
    Tag::Cleaner,
];

/// A key of the `state` column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    pub tag: Tag,
    pub group: GroupId,
    pub id: u64,
}

impl StateKey {
    pub fn node(tag: Tag) -> StateKey {
        StateKey {
            tag,
            group: GroupId(0),
            id: 0,
        }
    }

    pub fn group(tag: Tag, group: GroupId) -> StateKey {
        StateKey { tag, group, id: 0 }
    }

    pub fn partition(group: GroupId, partition: PartitionId) -> StateKey {
        StateKey {
            tag: Tag::Partition,
            group,
            id: partition.0,
        }
    }

    pub fn cleaner(group: GroupId, partition: PartitionId) -> StateKey {
        StateKey {
            tag: Tag::Cleaner,
            ..StateKey::partition(group, partition)
        }
    }

    pub fn encode(&self) -> [u8; 13] {
        let mut key = [0; 13];
        key[0] = self.tag as u8;
        key[1..5].copy_from_slice(&self.group.0.to_be_bytes());
        key[5..13].copy_from_slice(&self.id.to_be_bytes());
        key
    }

    pub fn decode(key: &[u8]) -> Option<StateKey> {
        let key: &[u8; 13] = key.try_into().ok()?;
        let tag = TAGS.into_iter().find(|t| *t as u8 == key[0])?;
        Some(StateKey {
            tag,
            group: GroupId(u32::from_be_bytes(key[1..5].try_into().ok()?)),
            id: u64::from_be_bytes(key[5..13].try_into().ok()?),
        })
    }
}

/// Key of the `raft` column family.
pub(crate) fn raft(group: GroupId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

pub(crate) fn raft_index(key: &[u8]) -> Option<(GroupId, u64)> {
    let key: &[u8; 12] = key.try_into().ok()?;
    let group = u32::from_be_bytes(key[..4].try_into().ok()?);
    Some((
        GroupId(group),
        u64::from_be_bytes(key[4..].try_into().ok()?),
    ))
}

/// Key of the `log` and `index` column families. Offsets are never negative on disk.
pub(crate) fn batch(partition: PartitionId, base_offset: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&partition.0.to_be_bytes());
    key[8..].copy_from_slice(&base_offset.to_be_bytes());
    key
}

pub(crate) fn batch_offset(key: &[u8]) -> Option<(PartitionId, i64)> {
    let key: &[u8; 16] = key.try_into().ok()?;
    let partition = u64::from_be_bytes(key[..8].try_into().ok()?);
    Some((
        PartitionId(partition),
        i64::from_be_bytes(key[8..].try_into().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn state_keys_round_trip_and_sort(t in 0..TAGS.len(), g: u32, id: u64, t2 in 0..TAGS.len(), g2: u32, id2: u64) {
            let a = StateKey { tag: TAGS[t], group: GroupId(g), id };
            let b = StateKey { tag: TAGS[t2], group: GroupId(g2), id: id2 };
            prop_assert_eq!(StateKey::decode(&a.encode()), Some(a));
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }

        #[test]
        fn log_keys_round_trip_and_sort(p: u64, o in 0..i64::MAX, o2 in 0..i64::MAX) {
            prop_assert_eq!(batch_offset(&batch(PartitionId(p), o)), Some((PartitionId(p), o)));
            prop_assert_eq!(batch(PartitionId(p), o).cmp(&batch(PartitionId(p), o2)), o.cmp(&o2));
        }

        #[test]
        fn raft_keys_round_trip(g: u32, i: u64) {
            prop_assert_eq!(raft_index(&raft(GroupId(g), i)), Some((GroupId(g), i)));
        }

        #[test]
        fn foreign_keys_are_refused(key in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = (StateKey::decode(&key), raft_index(&key), batch_offset(&key));
        }
    }
}
