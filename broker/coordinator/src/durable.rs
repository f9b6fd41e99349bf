//! What the log says: group metadata and committed offsets. Changed by `apply` alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::Record;
use crate::records::{Change, GroupValue, OffsetValue};

#[derive(Debug, Default)]
pub(crate) struct Durable {
    groups: HashMap<Arc<str>, DurableGroup>,
    offsets: usize,
    /// Stored size of all group records, in bytes.
    group_bytes: usize,
}

/// A group without metadata and without offsets is not kept.
#[derive(Debug, Default)]
pub(crate) struct DurableGroup {
    pub(crate) metadata: Option<GroupValue>,
    metadata_bytes: usize,
    pub(crate) offsets: BTreeMap<String, BTreeMap<i32, OffsetValue>>,
}

impl Durable {
    pub(crate) fn get(&self, group: &str) -> Option<&DurableGroup> {
        self.groups.get(group)
    }

    pub(crate) fn get_key_value(&self, group: &str) -> Option<(&Arc<str>, &DurableGroup)> {
        self.groups.get_key_value(group)
    }

    pub(crate) fn contains(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    pub(crate) fn metadata(&self, group: &str) -> Option<&GroupValue> {
        self.groups.get(group)?.metadata.as_ref()
    }

    pub(crate) fn offset(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.groups.get(group)?.offset(topic, partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &DurableGroup)> {
        self.groups.iter()
    }

    pub(crate) fn groups_len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn offsets_len(&self) -> usize {
        self.offsets
    }

    /// Size of all group records if this group's became `bytes` long.
    pub(crate) fn group_bytes_with(&self, group: &str, bytes: usize) -> usize {
        let now = self.groups.get(group).map_or(0, |g| g.metadata_bytes);
        self.group_bytes - now + bytes
    }

    /// Makes one record's change. `value_len` is the length of its value.
    pub(crate) fn apply(&mut self, change: Change, value_len: usize) {
        let group_id = match change {
            Change::Foreign => return,
            Change::Group { group, value } => {
                let entry = self.groups.entry(group.clone()).or_default();
                self.group_bytes -= entry.metadata_bytes;
                entry.metadata_bytes = if value.is_some() { value_len } else { 0 };
                self.group_bytes += entry.metadata_bytes;
                entry.metadata = value;
                group
            }
            Change::Offset {
                group,
                topic,
                partition,
                value: Some(value),
            } => {
                let entry = self.groups.entry(group).or_default();
                let partitions = entry.offsets.entry(topic).or_default();
                if partitions.insert(partition, value).is_none() {
                    self.offsets += 1;
                }
                return;
            }
            Change::Offset {
                group,
                topic,
                partition,
                value: None,
            } => {
                let Some(entry) = self.groups.get_mut(&group) else {
                    return;
                };
                if let Some(partitions) = entry.offsets.get_mut(&topic) {
                    if partitions.remove(&partition).is_some() {
                        self.offsets -= 1;
                    }
                    if partitions.is_empty() {
                        entry.offsets.remove(&topic);
                    }
                }
                group
            }
        };
        if self
            .groups
            .get(&group_id)
            .is_some_and(DurableGroup::is_void)
        {
            self.groups.remove(&group_id);
        }
    }

    /// The whole state as records, in the order of group, topic and partition.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(id, _)| *id);
        let mut records = Vec::new();
        for (id, group) in groups {
            if let Some(metadata) = &group.metadata {
                records.push(Record::group(id, metadata));
            }
            for (topic, partition, value) in group.offsets() {
                records.push(Record::offset(id, topic, partition, value));
            }
        }
        records
    }
}

impl DurableGroup {
    fn is_void(&self) -> bool {
        self.metadata.is_none() && self.offsets.is_empty()
    }

    pub(crate) fn offset(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.offsets.get(topic)?.get(&partition)
    }

    pub(crate) fn offsets(&self) -> impl Iterator<Item = (&str, i32, &OffsetValue)> {
        self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(|(partition, value)| (topic.as_str(), *partition, value))
        })
    }

    /// Empty for a group that only stores offsets (a "simple" consumer).
    pub(crate) fn protocol_type(&self) -> &str {
        self.metadata.as_ref().map_or("", |m| &m.protocol_type)
    }
}
