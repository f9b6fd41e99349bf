//! What a shard holds of what is bounded over all shards of a process.

use crate::{GroupState, Shard};

/// How many groups are in which state. The others are Empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct States {
    pub preparing_rebalance: usize,
    pub completing_rebalance: usize,
    pub stable: usize,
}

impl States {
    pub(crate) fn moved(&mut self, from: GroupState, to: GroupState) {
        if let Some(count) = self.count(from) {
            *count -= 1;
        }
        if let Some(count) = self.count(to) {
            *count += 1;
        }
    }

    fn count(&mut self, state: GroupState) -> Option<&mut usize> {
        match state {
            GroupState::PreparingRebalance => Some(&mut self.preparing_rebalance),
            GroupState::CompletingRebalance => Some(&mut self.completing_rebalance),
            GroupState::Stable => Some(&mut self.stable),
            GroupState::Empty | GroupState::Dead => None,
        }
    }

    fn plus(self, other: States) -> States {
        States {
            preparing_rebalance: self.preparing_rebalance + other.preparing_rebalance,
            completing_rebalance: self.completing_rebalance + other.completing_rebalance,
            stable: self.stable + other.stable,
        }
    }

    fn less(self, other: States) -> States {
        let less = usize::saturating_sub;
        States {
            preparing_rebalance: less(self.preparing_rebalance, other.preparing_rebalance),
            completing_rebalance: less(self.completing_rebalance, other.completing_rebalance),
            stable: less(self.stable, other.stable),
        }
    }
}

/// Numbers, and bytes, of what takes memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub groups: usize,
    pub states: States,
    /// Members and pending member ids.
    pub members: usize,
    /// What members sent about themselves, and stored group records.
    pub member_bytes: usize,
    pub offsets: usize,
    /// Metadata of offsets, and ids of groups with stored state.
    pub offset_text_bytes: usize,
}

impl Usage {
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            groups: self.groups + other.groups,
            states: self.states.plus(other.states),
            members: self.members + other.members,
            member_bytes: self.member_bytes + other.member_bytes,
            offsets: self.offsets + other.offsets,
            offset_text_bytes: self.offset_text_bytes + other.offset_text_bytes,
        }
    }

    /// What is left of these; nothing where the other is more.
    pub fn less(self, other: Usage) -> Usage {
        Usage {
            groups: self.groups.saturating_sub(other.groups),
            states: self.states.less(other.states),
            members: self.members.saturating_sub(other.members),
            member_bytes: self.member_bytes.saturating_sub(other.member_bytes),
            offsets: self.offsets.saturating_sub(other.offsets),
            offset_text_bytes: self
                .offset_text_bytes
                .saturating_sub(other.offset_text_bytes),
        }
    }
}

impl Shard {
    pub fn usage(&self) -> Usage {
        Usage {
            groups: self.durable.groups_len().max(self.groups.len()),
            states: self.totals.states,
            members: self.totals.members,
            member_bytes: self.totals.metadata_bytes + self.durable.group_bytes_len(),
            offsets: self.durable.offsets_len(),
            offset_text_bytes: self.durable.text_bytes_len(),
        }
    }

    /// Bounds the shard to what it holds and `more`. What it holds it keeps, however much it is: it
    /// was read from the log.
    pub fn may_take(&mut self, more: Usage) {
        let own = self.usage();
        self.config.groups_max = own.groups + more.groups;
        self.config.members_max = own.members + more.members;
        self.config.offsets_max = own.offsets + more.offsets;
        self.config.offset_text_bytes_max = own.offset_text_bytes + more.offset_text_bytes;
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
        commit_saying(shard, group, partition, "")
    }

    fn commit_saying(shard: &mut Shard, group: &str, partition: i32, metadata: &str) -> bool {
        let partition = CommitPartition {
            partition,
            offset: 1,
            leader_epoch: -1,
            metadata: metadata.into(),
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
            offset_text_bytes: 1,
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

    #[test]
    fn what_offsets_say_and_groups_are_called_takes_room() {
        let mut shard = Shard::new(GroupConfig::default());
        let room = |offset_text_bytes| Usage {
            groups: 9,
            offsets: 9,
            offset_text_bytes,
            ..Usage::default()
        };
        shard.may_take(room(10));
        assert!(!commit(&mut shard, "eleven bytes", 0), "the id is too long");
        assert!(commit_saying(&mut shard, "abc", 0, "1234"));
        assert!(!commit_saying(&mut shard, "abc", 1, "1234"), "11 bytes");
        assert!(commit_saying(&mut shard, "abc", 1, "123"));
        assert!(!commit(&mut shard, "d", 0));
        assert!(commit_saying(&mut shard, "abc", 0, "4321"), "as long");
        assert!(commit_saying(&mut shard, "abc", 0, ""));
        assert_eq!(shard.usage().offset_text_bytes, 6);
        assert!(commit_saying(&mut shard, "d", 0, "123"));
        assert_eq!(shard.usage().offset_text_bytes, 10);
    }
}
