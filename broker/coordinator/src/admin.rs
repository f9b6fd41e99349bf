//! What administrators ask: DescribeGroups, ListGroups, DeleteGroups, OffsetDelete (KIP-496), and
//! the end of topics.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::group::{Group, Member, Subscribed};
use crate::shard::Shard;
use crate::{
    Decision, DeleteOffsets, DescribedGroup, DescribedMember, GroupError, GroupState, ListedGroup,
    Record, TopicResult,
};

impl Shard {
    pub(crate) fn describe(&self, group_id: String) -> DescribedGroup {
        let state = self.state_of(&group_id);
        let live = self.groups.get(&*group_id);
        let stable = live.filter(|g| g.state == GroupState::Stable);
        let protocol = stable.and_then(|g| g.protocol.clone());
        let unknown = state == GroupState::Dead;
        DescribedGroup {
            error: unknown.then_some(GroupError::GroupIdNotFound),
            state,
            protocol_type: self.protocol_type(&group_id),
            protocol: protocol.unwrap_or_default(),
            members: live.map_or_else(Vec::new, |g| self.describe_members(g)),
            group_id,
        }
    }

    fn describe_members(&self, group: &Group) -> Vec<DescribedMember> {
        let stable = group.state == GroupState::Stable;
        let protocol = group.protocol.as_deref().unwrap_or_default();
        let stored = self.durable.metadata(&group.id).filter(|_| stable);
        let assignments: HashMap<&str, &Bytes> = stored
            .iter()
            .flat_map(|s| &s.members)
            .map(|m| (&*m.member_id, &m.assignment))
            .collect();
        let describe = |m: &Member| DescribedMember {
            member_id: m.id.to_string(),
            group_instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            metadata: match stable {
                true => m.metadata(protocol),
                false => Bytes::new(),
            },
            assignment: assignments
                .get(&*m.id)
                .map_or_else(Bytes::new, |a| Bytes::clone(a)),
        };
        group.members.values().map(describe).collect()
    }

    fn protocol_type(&self, group_id: &str) -> String {
        let live = self.groups.get(group_id);
        let live = live.and_then(|g| g.protocol_type.clone());
        let stored = || {
            self.durable
                .get(group_id)
                .map(|g| g.protocol_type().to_owned())
        };
        live.or_else(stored).unwrap_or_default()
    }

    /// In the order of group ids.
    pub(crate) fn list_groups(&self, states: &[String]) -> Vec<ListedGroup> {
        let stored = self.durable.iter().map(|(id, _)| id);
        let unstored = self.groups.keys().filter(|id| !self.durable.contains(id));
        let mut listed = Vec::new();
        for id in stored.chain(unstored) {
            let state = self.state_of(id);
            let wanted = |s: &String| s.eq_ignore_ascii_case(state.as_str());
            if states.is_empty() || states.iter().any(wanted) {
                listed.push(ListedGroup {
                    group_id: id.to_string(),
                    protocol_type: self.protocol_type(id),
                    state,
                });
            }
        }
        listed.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
        listed
    }

    pub(crate) fn delete_groups(
        &mut self,
        now_ms: i64,
        groups: Vec<String>,
        decision: &mut Decision,
    ) -> Vec<(String, Option<GroupError>)> {
        let mut outcomes = Vec::with_capacity(groups.len());
        for id in groups {
            let error = self.delete_group(now_ms, &id, decision).err();
            // A group named twice is gone the second time.
            self.settle(now_ms, decision);
            outcomes.push((id, error));
        }
        outcomes
    }

    fn delete_group(
        &mut self,
        now_ms: i64,
        id: &str,
        decision: &mut Decision,
    ) -> Result<(), GroupError> {
        match self.state_of(id) {
            GroupState::Dead => return Err(GroupError::GroupIdNotFound),
            GroupState::Empty => {}
            _ => return Err(GroupError::NonEmptyGroup),
        }
        self.with_group(now_ms, decision, id, |group, cx| {
            for pending in group.pending.clone() {
                group.remove_pending(cx, &pending);
            }
        });
        if let Some(stored) = self.durable.get(id) {
            let partitions = stored.partitions().into_iter();
            let tombstones = partitions.map(|(t, p)| Record::offset_tombstone(id, t, p));
            decision.records.extend(tombstones);
            if stored.metadata.is_some() {
                decision.records.push(Record::group_tombstone(id));
            }
        }
        Ok(())
    }

    /// Deletes offsets of topics that the group does not read. Groups of other protocol types
    /// must be empty, because their subscriptions cannot be known.
    pub(crate) fn delete_offsets(
        &mut self,
        request: &DeleteOffsets,
        decision: &mut Decision,
    ) -> Result<Vec<TopicResult>, GroupError> {
        let id = request.group_id.as_str();
        if self.state_of(id) == GroupState::Dead {
            return Err(GroupError::GroupIdNotFound);
        }
        let live = self.groups.get(id).filter(|g| g.state != GroupState::Empty);
        let subscribed = live.map(Group::subscribed_topics);
        if matches!(subscribed, Some(Subscribed::NotConsumers)) {
            return Err(GroupError::NonEmptyGroup);
        }
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let in_use = subscribed.as_ref().is_some_and(|s| s.contains(&topic.name));
            let error = in_use.then_some(GroupError::GroupSubscribedToTopic);
            for &partition in &topic.partitions {
                let stored = self.durable.get(id).is_some_and(|g| {
                    let pending = g.is_pending(&topic.name, partition);
                    pending || g.offset(&topic.name, partition).is_some()
                });
                if stored && !in_use {
                    let record = Record::offset_tombstone(id, &topic.name, partition);
                    decision.records.push(record);
                }
            }
            results.push(TopicResult {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(|&p| (p, error)).collect(),
            });
        }
        Ok(results)
    }

    /// Drops every offset of the topics. Rare, so it looks at all groups.
    pub(crate) fn topics_deleted(&mut self, topics: &[String], decision: &mut Decision) {
        let gone: HashSet<&str> = topics.iter().map(String::as_str).collect();
        for (id, group) in self.durable.iter() {
            for (topic, partition) in group.partitions() {
                if gone.contains(topic) {
                    let record = Record::offset_tombstone(id, topic, partition);
                    decision.records.push(record);
                }
            }
        }
        // The order of a hash map is no one's business.
        decision.records.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    }
}
