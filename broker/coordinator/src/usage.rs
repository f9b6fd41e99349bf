//! What a shard holds of what is bounded over all shards of a process.

use crate::Shard;

/// Numbers, and bytes, of what takes memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub groups: usize,
    /// Members and pending member ids.
    pub members: usize,
    /// What members sent about themselves, and stored group records.
    pub member_bytes: usize,
    pub offsets: usize,
}

impl Usage {
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            groups: self.groups + other.groups,
            members: self.members + other.members,
            member_bytes: self.member_bytes + other.member_bytes,
            offsets: self.offsets + other.offsets,
        }
    }

    /// What is left of these; nothing where the other is more.
    pub fn less(self, other: Usage) -> Usage {
        Usage {
            groups: self.groups.saturating_sub(other.groups),
            members: self.members.saturating_sub(other.members),
            member_bytes: self.member_bytes.saturating_sub(other.member_bytes),
            offsets: self.offsets.saturating_sub(other.offsets),
        }
    }
}

impl Shard {
    pub fn usage(&self) -> Usage {
        Usage {
            groups: self.durable.groups_len().max(self.groups.len()),
            members: self.totals.members,
            member_bytes: self.totals.metadata_bytes + self.durable.group_bytes_len(),
            offsets: self.durable.offsets_len(),
        }
    }

    /// Bounds the shard to what it holds and `more`. What it holds it keeps, however much it is: it
    /// was read from the log.
    pub fn may_take(&mut self, more: Usage) {
        let own = self.usage();
        self.config.groups_max = own.groups + more.groups;
        self.config.members_max = own.members + more.members;
        self.config.offsets_max = own.offsets + more.offsets;
        // A member's metadata is held twice: live, and in the group's record.
        let larger = self
            .totals
            .metadata_bytes
            .max(self.durable.group_bytes_len());
        self.config.member_metadata_bytes_max = larger + more.member_bytes / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, CommitOffsets, CommitPartition, CommitTopic, GroupConfig, Response};

    fn commit(shard: &mut Shard, group: &str, partition: i32) -> bool {
        let partition = CommitPartition {
            partition,
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
        };
        let command = Command::CommitOffsets(CommitOffsets {
            group_id: group.into(),
            generation_id: -1,
            member_id: String::new(),
            group_instance_id: None,
            producer: None,
            retention_time_ms: None,
            topics: vec![CommitTopic {
                name: "t".into(),
                partitions: vec![partition],
            }],
        });
        let decision = shard.handle(1, 1, command);
        assert!(matches!(
            decision.replies[..],
            [(1, Response::CommitOffsets(_))]
        ));
        !decision.records.is_empty()
    }

    #[test]
    fn a_shard_takes_what_it_may() {
        let mut shard = Shard::new(GroupConfig::default());
        shard.may_take(Usage {
            groups: 1,
            offsets: 2,
            ..Usage::default()
        });
        assert!(commit(&mut shard, "a", 0) && commit(&mut shard, "a", 1));
        assert!(!commit(&mut shard, "a", 2), "two offsets");
        shard.may_take(Usage {
            offsets: 1,
            ..Usage::default()
        });
        assert!(!commit(&mut shard, "b", 0), "no other group");
        assert!(commit(&mut shard, "a", 2));
        let used = shard.usage();
        assert_eq!((used.groups, used.offsets), (1, 3));
        shard.may_take(Usage::default());
        assert!(commit(&mut shard, "a", 2), "what is there may change");
    }
}
