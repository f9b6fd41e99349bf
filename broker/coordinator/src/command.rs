//! Requests to the coordinator. The API layer builds them from the versions of the wire protocol.
//!
//! Strings and bytes are kept as they are handed in: they must not pin a request frame.

use bytes::Bytes;

/// Names a request; the shell maps it to where the reply goes.
pub type Token = u64;

/// One request, or news from the metadata.
#[derive(Debug, Clone)]
pub enum Command {
    JoinGroup(JoinGroup),
    SyncGroup(SyncGroup),
    Heartbeat(Heartbeat),
    LeaveGroup(LeaveGroup),
    CommitOffsets(CommitOffsets),
    FetchOffsets(FetchOffsets),
    DeleteOffsets(DeleteOffsets),
    DeleteGroups(Vec<String>),
    DescribeGroups(Vec<String>),
    /// Empty `states`: all. The names are compared without regard to case.
    ListGroups {
        states: Vec<String>,
    },
    /// These topics are gone: so are their offsets.
    TopicsDeleted(Vec<String>),
}

/// A protocol a member can speak, in the member's order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Debug, Clone)]
pub struct JoinGroup {
    pub group_id: String,
    /// Empty when the member has none yet.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    pub session_timeout_ms: i32,
    /// JoinGroup v0 has none: pass the session timeout.
    pub rebalance_timeout_ms: i32,
    pub client_id: String,
    pub client_host: String,
    /// v4+: a dynamic member without an id is given one and must come back with it.
    pub requires_known_member_id: bool,
    /// v9+: the client understands `skip_assignment`.
    pub supports_skip_assignment: bool,
    pub reason: Option<String>,
}

#[derive(Debug, Clone)]
pub struct SyncGroup {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    /// v5+.
    pub protocol_type: Option<String>,
    /// v5+.
    pub protocol_name: Option<String>,
    /// Member id and its assignment; only the leader's are used.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
}

#[derive(Debug, Clone)]
pub struct LeaveGroup {
    pub group_id: String,
    pub members: Vec<LeavingMember>,
}

#[derive(Debug, Clone)]
pub struct LeavingMember {
    /// Empty to remove a static member by its instance id alone.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CommitOffsets {
    pub group_id: String,
    /// -1 from consumers that are not members, and from admin clients.
    pub generation_id: i32,
    /// Empty likewise.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    /// TxnOffsetCommit: the offsets count once the producer's transaction commits.
    pub producer: Option<Producer>,
    /// v2 to v4, unless -1: the offsets expire this long after the commit, whatever the broker's setting.
    pub retention_time_ms: Option<i64>,
    pub topics: Vec<CommitTopic>,
}

/// The transactional producer that commits offsets (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

#[derive(Debug, Clone)]
pub struct CommitTopic {
    pub name: String,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Debug, Clone)]
pub struct CommitPartition {
    pub partition: i32,
    pub offset: i64,
    /// -1 when the client does not know it.
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug, Clone)]
pub struct FetchOffsets {
    pub groups: Vec<FetchGroup>,
    /// v7+: answer UNSTABLE_OFFSET_COMMIT where an open transaction has an offset (KIP-447).
    pub require_stable: bool,
}

#[derive(Debug, Clone)]
pub struct FetchGroup {
    pub group_id: String,
    /// `None`: all offsets of the group.
    pub topics: Option<Vec<TopicPartitions>>,
}

#[derive(Debug, Clone)]
pub struct TopicPartitions {
    pub name: String,
    pub partitions: Vec<i32>,
}

#[derive(Debug, Clone)]
pub struct DeleteOffsets {
    pub group_id: String,
    pub topics: Vec<TopicPartitions>,
}
