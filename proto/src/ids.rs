//! Identifiers shared by every crate. Each is a plain number with a type of its own, so that the
//! compiler tells a partition from a group.

use std::fmt;

use uuid::Uuid;

/// A partition's id, unique in the cluster and never used again. `0` is `__cluster_metadata-0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u64);

/// A replication group's id: one Raft group that holds many partitions. `0` is the metadata quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// Kafka's `node.id`.
pub type NodeId = i32;

/// The Raft id of a node's replicas, in every group: the node, and which of all the data folders that
/// it has ever had. A node with a new disk is another replica: it has forgotten what it voted.
pub fn replica_id(node: NodeId, directory_id: Uuid) -> u64 {
    let directory = (directory_id.as_u128() >> 96) as u32;
    u64::from(node as u32) << 32 | u64::from(directory)
}

/// The metadata quorum's replication group.
pub const METADATA_GROUP: GroupId = GroupId(0);
/// The one partition of the metadata quorum, `__cluster_metadata-0`.
pub const METADATA_PARTITION: PartitionId = PartitionId(0);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}
