//! Settings of the coordinator and its limits. The names in brackets are Kafka's broker settings.

/// Behaviour and bounds of one [`Shard`](crate::Shard).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// Shortest session timeout a member may ask for (`group.min.session.timeout.ms`).
    pub min_session_timeout_ms: i32,
    /// Longest session timeout a member may ask for (`group.max.session.timeout.ms`).
    pub max_session_timeout_ms: i32,
    /// How long an empty group waits for more members before its first generation
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: i32,
    /// Members of one group (`group.max.size`); more get GROUP_MAX_SIZE_REACHED.
    pub group_max_size: usize,
    /// Bytes of the metadata string of one offset (`offset.metadata.max.bytes`).
    pub offset_metadata_bytes_max: usize,
    /// How long offsets outlive their group's last member, or their own commit in a group
    /// without members' protocol (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// How often a group is looked at for expired offsets (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval_ms: i64,
    /// How long a member that is new in this rebalance may wait for its end. Kafka: five minutes.
    pub new_member_join_timeout_ms: i64,

    /// Groups with stored state, and groups with members, each. Over it: COORDINATOR_NOT_AVAILABLE.
    pub groups_max: usize,
    /// Members and pending member ids over all groups. Over it: COORDINATOR_NOT_AVAILABLE.
    pub members_max: usize,
    /// Bytes of what members send about themselves, and of stored group records, each.
    /// Over it: COORDINATOR_NOT_AVAILABLE.
    pub member_metadata_bytes_max: usize,
    /// Bytes of one group record, so that it fits into a record batch of the log
    /// (`max.message.bytes` less the batch's overhead). Over it, SyncGroup answers UNKNOWN_SERVER_ERROR as Kafka does.
    pub group_record_bytes_max: usize,
    /// Committed offsets over all groups. Over it: COORDINATOR_NOT_AVAILABLE for a new partition.
    pub offsets_max: usize,
    /// Bytes of the metadata of committed offsets, and of ids of groups with stored state. Over it:
    /// COORDINATOR_NOT_AVAILABLE for what would add to it.
    pub offset_text_bytes_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            group_max_size: i32::MAX as usize,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_retention_check_interval_ms: 600_000,
            new_member_join_timeout_ms: 300_000,
            groups_max: 100_000,
            members_max: 100_000,
            member_metadata_bytes_max: 64 << 20,
            group_record_bytes_max: 1_000_000,
            offsets_max: 2_000_000,
            offset_text_bytes_max: 64 << 20,
        }
    }
}
