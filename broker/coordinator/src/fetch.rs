//! OffsetFetch: committed offsets of some or all partitions. A group that is not known has none,
//! which is no error. With `require_stable`, a partition for which a transaction has an offset
//! answers UNSTABLE_OFFSET_COMMIT (KIP-447).

use crate::durable::DurableGroup;
use crate::shard::Shard;
use crate::{FetchGroup, FetchOffsets, GroupError, GroupOffsets, PartitionOffset, TopicOffsets};

impl Shard {
    pub(crate) fn fetch_offsets(&self, request: &FetchOffsets) -> Vec<GroupOffsets> {
        let fetch = |group: &FetchGroup| GroupOffsets {
            group_id: group.group_id.clone(),
            topics: self.fetch_group(group, request.require_stable),
        };
        request.groups.iter().map(fetch).collect()
    }

    fn fetch_group(&self, request: &FetchGroup, stable: bool) -> Vec<TopicOffsets> {
        let group = self.durable.get(&request.group_id);
        let Some(topics) = &request.topics else {
            return group.map_or_else(Vec::new, |g| all_offsets(g, stable));
        };
        let mut found = Vec::with_capacity(topics.len());
        for topic in topics {
            let lookup = |&index: &i32| answer(group, &topic.name, index, stable);
            found.push(TopicOffsets {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(lookup).collect(),
            });
        }
        found
    }
}

/// Every partition with a committed offset.
fn all_offsets(group: &DurableGroup, stable: bool) -> Vec<TopicOffsets> {
    let topics = group.offsets.iter().map(|(name, partitions)| {
        let answer = |&index| answer(Some(group), name, index, stable);
        TopicOffsets {
            name: name.clone(),
            partitions: partitions.keys().map(answer).collect(),
        }
    });
    topics.collect()
}

fn answer(
    group: Option<&DurableGroup>,
    topic: &str,
    partition: i32,
    stable: bool,
) -> PartitionOffset {
    let unstable = stable && group.is_some_and(|g| g.is_pending(topic, partition));
    let value = group.and_then(|g| g.offset(topic, partition));
    let value = value.filter(|_| !unstable);
    PartitionOffset {
        partition,
        offset: value.map_or(-1, |v| v.offset),
        leader_epoch: value.map_or(-1, |v| v.leader_epoch),
        metadata: value.map_or_else(String::new, |v| v.metadata.clone()),
        error: unstable.then_some(GroupError::UnstableOffsetCommit),
    }
}
