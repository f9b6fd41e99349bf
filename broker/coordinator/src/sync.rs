//! SyncGroup: the leader hands in the assignment, everyone gets its share. KIP-559 checks.
//! Members that do not sync within the rebalance timeout after the join phase are removed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::group::{Context, Group};
use crate::shard::{Shard, valid_group_id};
use crate::{Decision, Event, GroupError, GroupState, Record, Response, SyncGroup, Synced, Token};

impl Shard {
    pub(crate) fn sync_group(
        &mut self,
        now_ms: i64,
        token: Token,
        request: SyncGroup,
        decision: &mut Decision,
    ) {
        let refuse = |error| (token, Response::Sync(Err(error)));
        if !valid_group_id(&request.group_id) {
            return decision.replies.push(refuse(GroupError::InvalidGroupId));
        }
        let group_id = request.group_id.clone();
        let found = self.with_group(now_ms, decision, &group_id, |group, cx| {
            group.sync(cx, token, request);
        });
        if found.is_none() {
            decision.replies.push(refuse(GroupError::UnknownMemberId));
        }
    }
}

impl Group {
    fn sync(&mut self, cx: &mut Context<'_>, token: Token, request: SyncGroup) {
        if let Err(error) = self.check_sync(&request) {
            return cx.reply(token, Response::Sync(Err(error)));
        }
        let id = request.member_id.as_str();
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            cx.timers.cancel(self.sync_timer());
        }
        if self.state == GroupState::Stable {
            let stored = cx.durable.metadata(&self.id);
            let stored = stored.expect("a stable group is stored");
            debug_assert_eq!(stored.generation_id, self.generation_id);
            let assignment = stored.member(id).map(|m| m.assignment.clone());
            let synced = self.synced(assignment.unwrap_or_default());
            cx.reply(token, Response::Sync(Ok(synced)));
            return self.touch(cx, id);
        }
        let member = self.members.get_mut(id).expect("checked");
        if let Some(older) = member.syncing.replace(token) {
            let error = GroupError::RebalanceInProgress;
            cx.reply(older, Response::Sync(Err(error)));
        }
        if self.is_leader(id) {
            self.assign(cx, request.assignments);
        } else {
            self.touch(cx, id);
        }
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation_id {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |said: &Option<String>, is: &Option<String>| {
            said.is_some() && is.is_some() && said != is
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
        }
    }

    /// Stores the leader's assignment and gives it to those who wait.
    fn assign(&mut self, cx: &mut Context<'_>, assignments: Vec<(String, Bytes)>) {
        let assignments: HashMap<String, Bytes> = assignments.into_iter().collect();
        let record = Record::group(&self.id, &self.value(cx, &assignments));
        if let Some(error) = self.refuses(cx, &record) {
            self.drop_waiting_syncs(cx, error);
            return self.prepare_rebalance(cx, "the assignment cannot be stored");
        }
        cx.decision.records.push(record);
        self.state = GroupState::Stable;
        cx.event(Event::Stabilized {
            group_id: self.id.to_string(),
            generation_id: self.generation_id,
        });
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("just listed");
            if let Some(token) = member.syncing.take() {
                let share = assignments.get(&*id).cloned().unwrap_or_default();
                let synced = self.synced(share);
                cx.reply(token, Response::Sync(Ok(synced)));
                self.touch(cx, &id);
            }
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
        }
    }

    /// Removes the members of this generation that never came for their assignment.
    pub(crate) fn on_sync_timer(&mut self, cx: &mut Context<'_>) {
        if self.unsynced.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.remove(cx, &id, "it did not sync in the rebalance timeout");
        }
        self.prepare_rebalance(cx, "members did not sync in the rebalance timeout");
    }
}
