//! What comes back: decisions, replies and events.

use std::fmt;

use bytes::Bytes;

use crate::{GroupError, Producer, Record, Token};

/// What an operation decided. See the crate's contract for the order of records and replies.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// To append, in this order. Already replayed into the shard.
    pub records: Vec<Record>,
    /// The records belong into a transactional batch of this producer; else into a plain one.
    pub producer: Option<Producer>,
    /// To send once the records, and all earlier ones, are committed.
    pub replies: Vec<(Token, Response)>,
    /// For logs and metrics; nothing depends on them.
    pub events: Vec<Event>,
}

/// The reply to a [`Command`](crate::Command). Topics and partitions come in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    Leave(Result<Vec<LeftMember>, GroupError>),
    CommitOffsets(Vec<TopicResult>),
    FetchOffsets(Vec<GroupOffsets>),
    DeleteOffsets(Result<Vec<TopicResult>, GroupError>),
    DeleteGroups(Vec<(String, Option<GroupError>)>),
    DescribeGroups(Vec<DescribedGroup>),
    ListGroups(Vec<ListedGroup>),
    TopicsDeleted,
}

/// A generation has formed (or the member's place in the current one is confirmed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub member_id: String,
    pub generation_id: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    /// The leader is to sync without computing an assignment (KIP-814).
    pub skip_assignment: bool,
    /// All members with the metadata of the chosen protocol; only for the leader.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: GroupError,
    /// With [`GroupError::MemberIdRequired`] the id to join with; else the request's, or empty.
    pub member_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub error: Option<GroupError>,
}

/// Outcome per partition; `None` is success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResult {
    pub name: String,
    pub partitions: Vec<(i32, Option<GroupError>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffsets {
    pub group_id: String,
    pub topics: Vec<TopicOffsets>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOffsets {
    pub name: String,
    pub partitions: Vec<PartitionOffset>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    pub partition: i32,
    /// -1 where nothing is committed.
    pub offset: i64,
    /// -1 where the committer gave none.
    pub leader_epoch: i32,
    pub metadata: String,
    pub error: Option<GroupError>,
}

/// An unknown group has state Dead and [`GroupError::GroupIdNotFound`], which the wire shows from
/// DescribeGroups v6 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub group_id: String,
    pub error: Option<GroupError>,
    pub state: GroupState,
    /// Empty for a group that only stores offsets.
    pub protocol_type: String,
    /// Empty unless Stable, as are the members' metadata and assignment.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: String,
    pub protocol_type: String,
    pub state: GroupState,
}

/// The state of a classic group; [`Display`](fmt::Display) gives Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; it may have offsets.
    Empty,
    /// Members are (re)joining.
    PreparingRebalance,
    /// A generation has formed and waits for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// There is no such group.
    Dead,
}

impl GroupState {
    pub fn as_str(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something an operator may want to read in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The group left `generation_id` and waits for its members to join again.
    Rebalancing {
        group_id: String,
        generation_id: i32,
        reason: String,
    },
    /// A generation has formed.
    Formed {
        group_id: String,
        generation_id: i32,
        members: usize,
    },
    /// The leader's assignment is stored.
    Stabilized {
        group_id: String,
        generation_id: i32,
    },
    MemberRemoved {
        group_id: String,
        member_id: String,
        reason: String,
    },
    /// The last member is gone.
    Emptied {
        group_id: String,
        generation_id: i32,
    },
    /// Offsets whose retention is over, and whether the group went with them.
    Expired {
        group_id: String,
        offsets: usize,
        group_removed: bool,
    },
}
