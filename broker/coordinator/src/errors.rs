//! What the coordinator can answer besides success, and what can be wrong with a stored record.

/// One variant per Kafka error code that the group coordinator answers. The numbers of the wire
/// belong to the API layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// COORDINATOR_NOT_AVAILABLE: a limit of this shard is reached (groups, members, metadata
    /// bytes, offsets). Clients back off and retry.
    #[error("the coordinator has no room left")]
    CoordinatorNotAvailable,
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    #[error("the protocols have nothing in common with the group's")]
    InconsistentGroupProtocol,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the member is not in the group")]
    UnknownMemberId,
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the metadata of an offset is too large")]
    OffsetMetadataTooLarge,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("the group does not exist")]
    GroupIdNotFound,
    /// MEMBER_ID_REQUIRED: join again with the member id of this answer (KIP-394).
    #[error("join again with the given member id")]
    MemberIdRequired,
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// FENCED_INSTANCE_ID: another member has taken this instance id (KIP-345).
    #[error("another member has this instance id")]
    FencedInstanceId,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// UNSTABLE_OFFSET_COMMIT: an open transaction has an offset for this partition (KIP-447).
    #[error("a transaction has a pending offset here")]
    UnstableOffsetCommit,
    /// INVALID_REQUEST: a string does not fit into the 32 KiB that a stored string can have.
    #[error("a string of the request is too long to be stored")]
    InvalidRequest,
    /// UNKNOWN_SERVER_ERROR: the assignment does not fit into one record.
    #[error("the group's metadata does not fit into a record")]
    UnknownServerError,
}

/// A record of `__consumer_offsets` that cannot be read. The state is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("the record ends in the middle of {0}")]
    Truncated(&'static str),
    #[error("{0} is not valid UTF-8")]
    NotUtf8(&'static str),
    #[error("{0} has an invalid length")]
    BadLength(&'static str),
    #[error("value version {version} of a {kind} record is not known")]
    UnknownVersion { kind: &'static str, version: i16 },
    #[error("{0} bytes follow the end of the record key")]
    TrailingBytes(usize),
}
