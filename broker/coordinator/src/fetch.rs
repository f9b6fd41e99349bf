//! OffsetFetch: committed offsets of some or all partitions. A group that is not known has none,
//! which is no error.

use crate::durable::DurableGroup;
use crate::records::OffsetValue;
use crate::shard::Shard;
use crate::{FetchGroup, FetchOffsets, GroupOffsets, PartitionOffset, TopicOffsets};

impl Shard {
    pub(crate) fn fetch_offsets(&self, request: &FetchOffsets) -> Vec<GroupOffsets> {
        let fetch = |group: &FetchGroup| GroupOffsets {
            group_id: group.group_id.clone(),
            topics: self.fetch_group(group),
        };
        request.groups.iter().map(fetch).collect()
    }

    fn fetch_group(&self, request: &FetchGroup) -> Vec<TopicOffsets> {
        let group = self.durable.get(&request.group_id);
        let Some(topics) = &request.topics else {
            return group.map_or_else(Vec::new, all_offsets);
        };
        let mut found = Vec::with_capacity(topics.len());
        for topic in topics {
            let lookup = |&index: &i32| {
                let value = group.and_then(|g| g.offset(&topic.name, index));
                answer(index, value)
            };
            found.push(TopicOffsets {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(lookup).collect(),
            });
        }
        found
    }
}

fn all_offsets(group: &DurableGroup) -> Vec<TopicOffsets> {
    let topics = group.offsets.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|(&p, value)| answer(p, Some(value)));
        TopicOffsets {
            name: name.clone(),
            partitions: partitions.collect(),
        }
    });
    topics.collect()
}

fn answer(partition: i32, value: Option<&OffsetValue>) -> PartitionOffset {
    PartitionOffset {
        partition,
        offset: value.map_or(-1, |v| v.offset),
        leader_epoch: value.map_or(-1, |v| v.leader_epoch),
        metadata: value.map_or_else(String::new, |v| v.metadata.clone()),
    }
}
