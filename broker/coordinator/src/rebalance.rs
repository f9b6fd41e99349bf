//! The rebalance itself: PreparingRebalance, the end of the join phase, and its timers.
//!
//! KIP-62 (join waits for the longest rebalance timeout), KIP-134 (initial delay).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::group::{Context, Group, InitialDelay};
use crate::records::{GroupValue, MemberValue};
use crate::{Event, GroupError, GroupState, Joined, JoinedMember, Record, Response};

/// Shortest further wait when nobody has joined at all. Guards against a rebalance timeout of zero.
const POSTPONED_JOIN_MS_MIN: i64 = 1_000;

impl Group {
    /// Membership or metadata has changed: start a rebalance, or see whether the running one can end.
    pub(crate) fn rebalance(&mut self, cx: &mut Context<'_>, reason: &str) {
        match self.state {
            GroupState::PreparingRebalance => self.try_complete_join(cx),
            _ => self.prepare_rebalance(cx, reason),
        }
    }

    /// Ends the join phase if all known members wait in it. The initial delay always runs out.
    pub(crate) fn try_complete_join(&mut self, cx: &mut Context<'_>) {
        let preparing = self.state == GroupState::PreparingRebalance;
        if preparing && self.initial.is_none() && self.all_joined() {
            self.complete_join(cx);
        }
    }

    pub(crate) fn prepare_rebalance(&mut self, cx: &mut Context<'_>, reason: &str) {
        self.drop_waiting_syncs(cx, GroupError::RebalanceInProgress);
        cx.timers.cancel(self.sync_timer());
        self.unsynced.clear();
        cx.event(Event::Rebalancing {
            group_id: self.id.to_string(),
            generation_id: self.generation_id,
            reason: reason.to_owned(),
        });
        let from_empty = self.state == GroupState::Empty;
        self.state = GroupState::PreparingRebalance;
        if from_empty {
            let delay_ms = i64::from(cx.config.initial_rebalance_delay_ms.max(0));
            self.initial = Some(InitialDelay {
                delay_ms,
                remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
                member_added: false,
            });
            cx.timers.set(self.join_timer(), cx.now_ms + delay_ms);
        } else if self.all_joined() {
            self.complete_join(cx);
        } else {
            let timeout_ms = self.rebalance_timeout_ms();
            cx.timers.set(self.join_timer(), cx.now_ms + timeout_ms);
        }
    }

    /// The join phase has lasted long enough, unless it is the initial delay and someone came in it.
    pub(crate) fn on_join_timer(&mut self, cx: &mut Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        if let Some(initial) = &mut self.initial
            && initial.member_added
            && initial.remaining_ms > 0
        {
            let elapsed_ms = initial.delay_ms;
            let delay_ms = i64::from(cx.config.initial_rebalance_delay_ms.max(0));
            initial.delay_ms = delay_ms.min(initial.remaining_ms);
            initial.remaining_ms = (initial.remaining_ms - elapsed_ms).max(0);
            initial.member_added = false;
            let deadline_ms = cx.now_ms + initial.delay_ms;
            cx.timers.set(self.join_timer(), deadline_ms);
            return;
        }
        self.complete_join(cx);
    }

    /// Forms the next generation of those who wait, or empties the group.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        cx.timers.cancel(self.join_timer());
        self.initial = None;
        self.remove_absent(cx);
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none has come back: their sessions decide.
            let wait_ms = self.rebalance_timeout_ms().max(POSTPONED_JOIN_MS_MIN);
            cx.timers.set(self.join_timer(), cx.now_ms + wait_ms);
            return;
        }
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(cx);
        } else {
            self.form_generation(cx);
        }
    }

    /// Static members stay until their session ends; others had their chance (KIP-345).
    fn remove_absent(&mut self, cx: &mut Context<'_>) {
        let absent = |m: &&crate::group::Member| m.joining.is_none() && m.instance_id.is_none();
        let ids: Vec<Arc<str>> = self
            .members
            .values()
            .filter(absent)
            .map(|m| m.id.clone())
            .collect();
        for id in ids {
            self.remove(cx, &id, "it did not join again in the rebalance timeout");
        }
    }

    /// Keeps the leader if it has joined, else picks one who has. False if nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let candidate = self.members.values().find(|m| m.joining.is_some());
        match candidate.map(|m| m.id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    fn become_empty(&mut self, cx: &mut Context<'_>) {
        self.state = GroupState::Empty;
        self.protocol = None;
        self.leader = None;
        let value = self.value(cx, &HashMap::new());
        cx.decision.records.push(Record::group(&self.id, &value));
        cx.event(Event::Emptied {
            group_id: self.id.to_string(),
            generation_id: self.generation_id,
        });
    }

    fn form_generation(&mut self, cx: &mut Context<'_>) {
        let protocol = self.select_protocol();
        assert!(protocol.is_some(), "members share a protocol");
        self.protocol = protocol;
        self.state = GroupState::CompletingRebalance;
        self.unsynced = self.members.keys().cloned().collect();
        cx.event(Event::Formed {
            group_id: self.id.to_string(),
            generation_id: self.generation_id,
            members: self.members.len(),
        });
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("just listed");
            member.is_new = false;
            if let Some(token) = member.joining.take() {
                let joined = self.joined(&id);
                cx.reply(token, Response::Join(Ok(joined)));
            }
            self.touch(cx, &id);
        }
        self.awaiting_join = 0;
        let timeout_ms = self.rebalance_timeout_ms();
        cx.timers.set(self.sync_timer(), cx.now_ms + timeout_ms);
    }

    /// The answer to a member of the current generation; the leader gets the list of members.
    pub(crate) fn joined(&self, id: &str) -> Joined {
        let members = match self.is_leader(id) {
            true => self.joined_members(),
            false => Vec::new(),
        };
        Joined {
            member_id: id.to_owned(),
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: false,
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|m| JoinedMember {
            member_id: m.id.to_string(),
            group_instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol),
        });
        members.collect()
    }

    /// Answers every SyncGroup that waits with an error.
    pub(crate) fn drop_waiting_syncs(&mut self, cx: &mut Context<'_>, error: GroupError) {
        let waiting = |m: &&crate::group::Member| m.syncing.is_some();
        let ids: Vec<Arc<str>> = self
            .members
            .values()
            .filter(waiting)
            .map(|m| m.id.clone())
            .collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("just listed");
            if let Some(token) = member.syncing.take() {
                cx.reply(token, Response::Sync(Err(error)));
            }
            self.touch(cx, &id);
        }
    }

    /// The group as a record value; members without an assignment get an empty one.
    pub(crate) fn value(
        &self,
        cx: &Context<'_>,
        assignments: &HashMap<String, Bytes>,
    ) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|m| MemberValue {
            member_id: m.id.clone(),
            group_instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            session_timeout_ms: m.session_timeout_ms,
            subscription: m.metadata(protocol),
            assignment: assignments.get(&*m.id).cloned().unwrap_or_default(),
        });
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation_id: self.generation_id,
            protocol: self.protocol.clone(),
            leader: self.leader.as_ref().map(|l| l.to_string()),
            current_state_timestamp_ms: Some(cx.now_ms),
            members: members.collect(),
        }
    }
}
