//! What the log says: group metadata and committed offsets. Changed by `apply` alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::Record;
use crate::records::{Change, GroupValue, OffsetValue};

#[derive(Debug, Default)]
pub(crate) struct Durable {
    groups: HashMap<Arc<str>, DurableGroup>,
    /// Groups in which an open transaction has offsets, by producer id.
    open: HashMap<i64, BTreeSet<Arc<str>>>,
    offsets: Held,
    /// Counts changes of offsets.
    sequence: u64,
    /// Stored size of all group records, in bytes.
    group_bytes: usize,
}

/// Committed and pending offsets.
#[derive(Debug, Default)]
struct Held {
    number: usize,
    /// Their metadata strings, and the ids of the groups that have state.
    text_bytes: usize,
}

impl Held {
    fn add(&mut self, value: Option<&OffsetValue>) {
        self.number += 1;
        self.text_bytes += text_bytes(value);
    }

    fn remove(&mut self, value: Option<&OffsetValue>) {
        self.number -= 1;
        self.text_bytes -= text_bytes(value);
    }
}

fn text_bytes(value: Option<&OffsetValue>) -> usize {
    value.map_or(0, |value| value.metadata.len())
}

/// A group without metadata and without offsets is not kept.
#[derive(Debug, Default)]
pub(crate) struct DurableGroup {
    pub(crate) metadata: Option<GroupValue>,
    metadata_bytes: usize,
    pub(crate) offsets: BTreeMap<String, BTreeMap<i32, OffsetValue>>,
    /// Offsets of open transactions, by topic, partition and producer id.
    pending: BTreeMap<(String, i32), BTreeMap<i64, Pending>>,
}

/// An offset of an open transaction.
#[derive(Debug)]
struct Pending {
    /// Its place among the changes of this shard.
    sequence: u64,
    /// `None` once a later commit of the partition has taken effect: the transaction's end then
    /// changes nothing, as the later record wins.
    value: Option<OffsetValue>,
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
        self.offsets.number
    }

    /// Bytes of the metadata of all offsets, and of the ids of groups.
    pub(crate) fn text_bytes_len(&self) -> usize {
        self.offsets.text_bytes
    }

    /// Size of all group records.
    pub(crate) fn group_bytes_len(&self) -> usize {
        self.group_bytes
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
                let entry = entry(&mut self.groups, &mut self.offsets, group.clone());
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
                let entry = entry(&mut self.groups, &mut self.offsets, group);
                self.sequence += 1;
                entry.commit(topic, partition, value, self.sequence, &mut self.offsets);
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
                // A deleted offset does not come back when a transaction commits.
                let pending = entry.pending.remove(&(topic.clone(), partition));
                for pending in pending.into_iter().flat_map(BTreeMap::into_values) {
                    self.offsets.remove(pending.value.as_ref());
                }
                if let Some(partitions) = entry.offsets.get_mut(&topic) {
                    if let Some(value) = partitions.remove(&partition) {
                        self.offsets.remove(Some(&value));
                    }
                    if partitions.is_empty() {
                        entry.offsets.remove(&topic);
                    }
                }
                group
            }
        };
        self.drop_if_void(&group_id);
    }

    fn drop_if_void(&mut self, group: &str) {
        if self.groups.get(group).is_some_and(DurableGroup::is_void) {
            self.groups.remove(group);
            self.offsets.text_bytes -= group.len();
        }
    }

    /// Makes the change of a record in a transactional batch. Only offsets come in these.
    pub(crate) fn apply_pending(&mut self, producer_id: i64, change: Change) {
        let Change::Offset {
            group,
            topic,
            partition,
            value: Some(value),
        } = change
        else {
            return;
        };
        self.open
            .entry(producer_id)
            .or_default()
            .insert(group.clone());
        let entry = entry(&mut self.groups, &mut self.offsets, group);
        let pending = entry.pending.entry((topic, partition)).or_default();
        self.sequence += 1;
        self.offsets.add(Some(&value));
        let value = Pending {
            sequence: self.sequence,
            value: Some(value),
        };
        if let Some(old) = pending.insert(producer_id, value) {
            self.offsets.remove(old.value.as_ref());
        }
    }

    /// Turns the offsets of a transaction into committed ones, or forgets them. Returns the groups
    /// it touched.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, committed: bool) -> Vec<Arc<str>> {
        let groups = self.open.remove(&producer_id).unwrap_or_default();
        for group in &groups {
            let Some(entry) = self.groups.get_mut(group) else {
                continue;
            };
            for (topic, partition, pending) in entry.take_pending(producer_id) {
                self.offsets.remove(pending.value.as_ref());
                if let Some(value) = pending.value.filter(|_| committed) {
                    entry.commit(topic, partition, value, pending.sequence, &mut self.offsets);
                }
            }
            self.drop_if_void(group);
        }
        groups.into_iter().collect()
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

/// The group's state, begun if there is none.
fn entry<'a>(
    groups: &'a mut HashMap<Arc<str>, DurableGroup>,
    held: &mut Held,
    group: Arc<str>,
) -> &'a mut DurableGroup {
    let id_bytes = group.len();
    groups.entry(group).or_insert_with(|| {
        held.text_bytes += id_bytes;
        DurableGroup::default()
    })
}

impl DurableGroup {
    fn is_void(&self) -> bool {
        self.metadata.is_none() && self.offsets.is_empty() && self.pending.is_empty()
    }

    /// Sets a committed offset, which outdates pending ones from before `sequence`.
    fn commit(
        &mut self,
        topic: String,
        partition: i32,
        value: OffsetValue,
        sequence: u64,
        held: &mut Held,
    ) {
        if !self.pending.is_empty()
            && let Some(producers) = self.pending.get_mut(&(topic.clone(), partition))
        {
            for pending in producers.values_mut().filter(|p| p.sequence < sequence) {
                held.text_bytes -= text_bytes(pending.value.take().as_ref());
            }
        }
        let partitions = self.offsets.entry(topic).or_default();
        held.add(Some(&value));
        if let Some(old) = partitions.insert(partition, value) {
            held.remove(Some(&old));
        }
    }

    fn take_pending(&mut self, producer_id: i64) -> Vec<(String, i32, Pending)> {
        let mut taken = Vec::new();
        self.pending.retain(|(topic, partition), producers| {
            if let Some(value) = producers.remove(&producer_id) {
                taken.push((topic.clone(), *partition, value));
            }
            !producers.is_empty()
        });
        taken
    }

    /// Whether an open transaction has an offset for the partition.
    pub(crate) fn is_pending(&self, topic: &str, partition: i32) -> bool {
        !self.pending.is_empty() && self.pending.contains_key(&(topic.to_owned(), partition))
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Partitions that have committed or pending offsets, each once.
    pub(crate) fn partitions(&self) -> BTreeSet<(&str, i32)> {
        let committed = self
            .offsets()
            .map(|(topic, partition, _)| (topic, partition));
        let pending = self.pending.keys().map(|(topic, p)| (topic.as_str(), *p));
        committed.chain(pending).collect()
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
