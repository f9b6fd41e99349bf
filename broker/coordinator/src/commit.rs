//! OffsetCommit: by members of the current generation, or by anyone while the group is empty
//! ("simple" consumers and administrators, generation -1). A member's commit counts as a heartbeat.
//!
//! TxnOffsetCommit (KIP-98, KIP-447) is the same with a producer: its offsets are pending until the
//! transaction ends. Old producers name no member, and may commit while there are members.

use crate::group::Group;
use crate::records::OffsetValue;
use crate::shard::{Shard, storable};
use crate::{
    CommitOffsets, CommitPartition, Decision, GroupError, GroupState, Record, Response, Token,
    TopicResult,
};

/// How much more offsets may take.
struct Room {
    offsets: usize,
    text_bytes: usize,
}

impl Room {
    fn take(&mut self, offsets: usize, text_bytes: usize) -> Option<()> {
        *self = Room {
            offsets: self.offsets.checked_sub(offsets)?,
            text_bytes: self.text_bytes.checked_sub(text_bytes)?,
        };
        Some(())
    }
}

impl Shard {
    pub(crate) fn commit_offsets(
        &mut self,
        now_ms: i64,
        token: Token,
        request: CommitOffsets,
        decision: &mut Decision,
    ) {
        let refused = self.check_commit(&request).err();
        if refused.is_none() && request.producer.is_none() {
            self.with_group(now_ms, decision, &request.group_id, |group, cx| {
                group.touch(cx, &request.member_id);
            });
        }

        let retention_ms = request.retention_time_ms.filter(|&ms| ms >= 0);
        let expire_timestamp_ms = retention_ms.map(|ms| now_ms.saturating_add(ms));
        let mut room = self.offset_room();
        let pends = request.producer.is_some();
        let group = request.group_id;
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for commit in topic.partitions {
                let index = commit.partition;
                let checked = match refused {
                    Some(error) => Err(error),
                    None => self.check_offset(&group, &topic.name, &commit, pends, &mut room),
                };
                if checked.is_ok() {
                    let value = OffsetValue {
                        offset: commit.offset,
                        leader_epoch: commit.leader_epoch,
                        metadata: commit.metadata,
                        commit_timestamp_ms: now_ms,
                        expire_timestamp_ms,
                    };
                    let record = Record::offset(&group, &topic.name, index, &value);
                    decision.records.push(record);
                }
                partitions.push((index, checked.err()));
            }
            let name = topic.name;
            results.push(TopicResult { name, partitions });
        }
        decision.producer = request.producer.filter(|_| !decision.records.is_empty());
        decision
            .replies
            .push((token, Response::CommitOffsets(results)));
    }

    fn offset_room(&self) -> Room {
        let config = &self.config;
        Room {
            offsets: config
                .offsets_max
                .saturating_sub(self.durable.offsets_len()),
            text_bytes: config
                .offset_text_bytes_max
                .saturating_sub(self.durable.text_bytes_len()),
        }
    }

    fn check_commit(&self, request: &CommitOffsets) -> Result<(), GroupError> {
        if !storable(&request.group_id) {
            return Err(GroupError::InvalidGroupId);
        }
        if let Some(group) = self.groups.get(&*request.group_id) {
            group.check_commit(request)?;
        } else if request.generation_id >= 0 {
            return Err(match self.durable.contains(&request.group_id) {
                true => GroupError::UnknownMemberId,
                false => GroupError::IllegalGeneration,
            });
        }
        match self.may_store(&request.group_id) {
            true => Ok(()),
            false => Err(GroupError::CoordinatorNotAvailable),
        }
    }

    fn check_offset(
        &self,
        group: &str,
        topic: &str,
        commit: &CommitPartition,
        transactional: bool,
        room: &mut Room,
    ) -> Result<(), GroupError> {
        if !storable(topic) {
            return Err(GroupError::InvalidRequest);
        }
        let bytes_max = self.config.offset_metadata_bytes_max;
        if commit.metadata.len() > bytes_max || !storable(&commit.metadata) {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        // A pending offset takes a place of its own.
        let committed = self.durable.offset(group, topic, commit.partition);
        let replaced = committed.filter(|_| !transactional);
        let places = usize::from(replaced.is_none());
        let more_bytes = (commit.metadata.len())
            .saturating_sub(replaced.map_or(0, |offset| offset.metadata.len()));
        room.take(places, more_bytes)
            .ok_or(GroupError::CoordinatorNotAvailable)
    }
}

impl Group {
    fn check_commit(&self, request: &CommitOffsets) -> Result<(), GroupError> {
        if request.generation_id < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        let instance = request.group_instance_id.as_deref();
        let names_member = !request.member_id.is_empty() || instance.is_some();
        if request.generation_id < 0 && !names_member {
            return match request.producer {
                Some(_) => Ok(()),
                // Only members commit while there are members.
                None => Err(GroupError::UnknownMemberId),
            };
        }
        self.check_member(&request.member_id, instance)?;
        if request.generation_id != self.generation_id {
            return Err(GroupError::IllegalGeneration);
        }
        // The member has joined this generation but may not own what it commits any longer.
        match self.state {
            GroupState::CompletingRebalance if request.producer.is_none() => {
                Err(GroupError::RebalanceInProgress)
            }
            _ => Ok(()),
        }
    }
}
