//! JoinGroup: KIP-62, KIP-134, KIP-345 (static members), KIP-394 (known member ids), KIP-559,
//! KIP-800 (reasons), KIP-814 (a static leader that comes back skips the assignment).
//!
//! One deviation: a static member that restarts is let into a full group, since it takes no more room.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::group::{Context, Group, Member, protocols_weight, refuse_join};
use crate::shard::{Shard, storable, valid_group_id};
use crate::{Decision, GroupError, GroupState, JoinGroup, Record, Response, Token};

/// Leaves room for the dash and the UUID of a member id within a stored string.
const CLIENT_ID_BYTES_MAX: usize = 32_000;

impl Shard {
    pub(crate) fn join_group(
        &mut self,
        now_ms: i64,
        token: Token,
        mut request: JoinGroup,
        decision: &mut Decision,
    ) {
        if let Err(error) = self.check_join(&request) {
            let mut cx = self.context(now_ms, decision);
            return refuse_join(&mut cx, token, error, &request.member_id);
        }
        let mut names = HashSet::new();
        request.protocols.retain(|p| names.insert(p.name.clone()));
        request.rebalance_timeout_ms = request.rebalance_timeout_ms.max(0);
        let prefix = request.group_instance_id.as_ref();
        let prefix = prefix.unwrap_or(&request.client_id);
        let new_id = match request.member_id.is_empty() {
            true => Some(format!("{prefix}-{}", (self.ids)()).into()),
            false => None,
        };
        let group_id = request.group_id.clone();
        if !self.groups.contains_key(&*group_id) {
            let id: Arc<str> = group_id.as_str().into();
            let group = Group::new(id.clone(), self.durable.metadata(&group_id));
            self.groups.insert(id, group);
        }
        self.with_group(now_ms, decision, &group_id, |group, cx| {
            group.join(cx, token, request, new_id);
        });
    }

    /// What can be said without the group's state, and whether there may be such a group.
    fn check_join(&self, request: &JoinGroup) -> Result<(), GroupError> {
        if !valid_group_id(&request.group_id) {
            return Err(GroupError::InvalidGroupId);
        }
        let timeouts = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !timeouts.contains(&request.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let instance = request.group_instance_id.as_deref().unwrap_or_default();
        let prefixes = [instance, &request.client_id];
        let strings = [&*request.client_host, &request.protocol_type];
        let names = request.protocols.iter().map(|p| p.name.as_str());
        if prefixes.iter().any(|s| s.len() > CLIENT_ID_BYTES_MAX)
            || !strings.into_iter().chain(names).all(storable)
        {
            return Err(GroupError::InvalidRequest);
        }
        if self.groups.contains_key(&*request.group_id) {
            return Ok(());
        }
        if !request.member_id.is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let live = self.groups.len() < self.config.groups_max;
        match live && self.may_store(&request.group_id) {
            true => Ok(()),
            false => Err(GroupError::CoordinatorNotAvailable),
        }
    }
}

impl Group {
    /// `new_id` is for a member that has none yet.
    fn join(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        request: JoinGroup,
        new_id: Option<Arc<str>>,
    ) {
        if let Err(error) = self.check_joining(cx, &request) {
            if error == GroupError::GroupMaxSizeReached {
                self.remove(cx, &request.member_id, "the group is full");
                self.remove_pending(cx, &request.member_id);
                refuse_join(cx, token, error, "");
                return self.try_complete_join(cx);
            }
            return refuse_join(cx, token, error, &request.member_id);
        }
        let Some(id) = new_id else {
            let id: Arc<str> = request.member_id.as_str().into();
            return match self.remove_pending(cx, &id) {
                true => self.add_member(cx, token, request, id),
                false => self.join_again(cx, token, request, &id),
            };
        };
        match &request.group_instance_id {
            Some(instance) => match self.static_members.get(instance).cloned() {
                Some(old) => self.replace_static(cx, token, request, &old, id),
                None => self.add_member(cx, token, request, id),
            },
            None if request.requires_known_member_id => {
                self.add_pending(cx, id.clone(), request.session_timeout_ms);
                refuse_join(cx, token, GroupError::MemberIdRequired, &id);
            }
            None => self.add_member(cx, token, request, id),
        }
    }

    /// Size, protocols, identity, and room, in the order of Kafka's checks.
    fn check_joining(&self, cx: &Context<'_>, request: &JoinGroup) -> Result<(), GroupError> {
        let id = request.member_id.as_str();
        let instance = request.group_instance_id.as_deref();
        let replaced = instance.and_then(|i| self.static_members.get(i));
        let known = match id.is_empty() {
            true => replaced.and_then(|old| self.members.get(old)),
            false => self.members.get(id),
        };
        let full = match self.state {
            GroupState::Empty | GroupState::Dead => false,
            GroupState::PreparingRebalance => {
                let waits = known.is_some_and(|m| m.joining.is_some());
                !waits && self.awaiting_join >= cx.config.group_max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_none() && self.members.len() >= cx.config.group_max_size
            }
        };
        if full {
            return Err(GroupError::GroupMaxSizeReached);
        }
        if !self.accepts(&request.protocol_type, &request.protocols) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let pending = self.pending.contains(id);
        if !id.is_empty() && !pending {
            self.check_member(id, instance)?;
        }
        if pending && instance.is_some() {
            return Err(GroupError::UnknownMemberId);
        }
        let names = [
            &*request.client_id,
            &request.client_host,
            instance.unwrap_or_default(),
        ];
        let prefix = instance.unwrap_or(&request.client_id).len();
        let names = names.iter().map(|n| n.len()).sum::<usize>() + prefix + 37;
        let weight = names + protocols_weight(&request.protocols);
        let newcomers = usize::from(known.is_none() && !pending);
        let before = match known {
            Some(member) => member.weight() + self.id.len(),
            None if pending => id.len() + self.id.len(),
            None => 0,
        };
        match cx.has_room(newcomers, before, weight + self.id.len()) {
            true => Ok(()),
            false => Err(GroupError::CoordinatorNotAvailable),
        }
    }

    fn add_member(&mut self, cx: &mut Context<'_>, token: Token, request: JoinGroup, id: Arc<str>) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(initial) = &mut self.initial {
            initial.member_added = true;
        }
        let why = format!("member {id} joined{}", because(&request));
        let mut member = new_member(request, id.clone());
        member.joining = Some(token);
        member.is_new = true;
        self.insert(cx, member);
        self.touch(cx, &id);
        self.rebalance(cx, &why);
    }

    /// A member of this group joins under its id.
    fn join_again(&mut self, cx: &mut Context<'_>, token: Token, request: JoinGroup, id: &str) {
        let same = self.members[id].protocols == request.protocols;
        let confirm = match self.state {
            // It may not have received the answer of this generation.
            GroupState::CompletingRebalance => same,
            // The leader joins when what it assigns from has changed.
            GroupState::Stable => same && !self.is_leader(id),
            _ => false,
        };
        if confirm {
            let joined = self.joined(id);
            return cx.reply(token, Response::Join(Ok(joined)));
        }
        let leads = self.is_leader(id) && same;
        let what = if leads { "the leader" } else { "member" };
        let why = format!("{what} {id} joined again{}", because(&request));
        self.update_member(cx, id, request);
        self.await_join(cx, id, token);
        self.rebalance(cx, &why);
    }

    fn update_member(&mut self, cx: &mut Context<'_>, id: &str, request: JoinGroup) {
        let member = self.members.get_mut(id).expect("the caller found it");
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        self.set_protocols(cx, id, request.protocols);
    }

    /// A new process has the instance id of a member: it takes its place, and the old id is fenced.
    fn replace_static(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        request: JoinGroup,
        old_id: &str,
        id: Arc<str>,
    ) {
        let old_leader = self.leader.clone();
        let unsynced = self.unsynced.contains(old_id);
        let skips = request.supports_skip_assignment;
        let why = format!("static member {id} replaced {old_id}{}", because(&request));
        let old = self.take(cx, old_id).expect("static members are members");
        if let Some(token) = old.joining {
            refuse_join(cx, token, GroupError::FencedInstanceId, old_id);
        }
        if let Some(token) = old.syncing {
            cx.reply(token, Response::Sync(Err(GroupError::FencedInstanceId)));
        }
        self.insert(cx, new_member(request, id.clone()));
        let led = old_leader.as_deref() == Some(old_id);
        if led {
            self.leader = Some(id.clone());
        }
        if unsynced {
            self.unsynced.insert(id.clone());
        }
        if self.state == GroupState::Stable && self.store_replaced(cx, old_id, &id) {
            self.touch(cx, &id);
            let mut joined = self.joined(&id);
            if led && skips {
                joined.skip_assignment = true;
            } else if led {
                // An old client that believes to lead would assign; as a follower it keeps its share.
                joined.leader = old_id.to_owned();
                joined.members.clear();
            }
            return cx.reply(token, Response::Join(Ok(joined)));
        }
        self.await_join(cx, &id, token);
        self.rebalance(cx, &why);
    }

    /// Stores the generation with the new member id in place of the old one. False if the member's
    /// new metadata asks for a rebalance: another protocol would win, or the record grows too large.
    fn store_replaced(&mut self, cx: &mut Context<'_>, old_id: &str, id: &str) -> bool {
        if self.select_protocol() != self.protocol {
            return false;
        }
        let stored = cx.durable.metadata(&self.id);
        let stored = stored.expect("a stable group is stored");
        let assignment = |m: &crate::records::MemberValue| {
            let holder = if &*m.member_id == old_id {
                id
            } else {
                &m.member_id
            };
            (holder.to_owned(), m.assignment.clone())
        };
        let assignments: HashMap<_, _> = stored.members.iter().map(assignment).collect();
        let record = Record::group(&self.id, &self.value(cx, &assignments));
        if self.refuses(cx, &record).is_some() {
            return false;
        }
        cx.decision.records.push(record);
        true
    }

    /// Why a record of this group may not be stored.
    pub(crate) fn refuses(&self, cx: &Context<'_>, record: &Record) -> Option<GroupError> {
        let bytes = record.value.as_ref().map_or(0, |v| v.len());
        if bytes > cx.config.group_record_bytes_max {
            return Some(GroupError::UnknownServerError);
        }
        let stored = cx.durable.group_bytes_with(&self.id, bytes);
        (stored > cx.config.member_metadata_bytes_max)
            .then_some(GroupError::CoordinatorNotAvailable)
    }
}

fn new_member(request: JoinGroup, id: Arc<str>) -> Member {
    Member {
        id,
        instance_id: request.group_instance_id,
        client_id: request.client_id,
        client_host: request.client_host,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocols: request.protocols,
        joining: None,
        syncing: None,
        is_new: false,
    }
}

fn because(request: &JoinGroup) -> String {
    let reason = request.reason.as_deref().filter(|r| !r.is_empty());
    reason.map_or_else(String::new, |r| format!(": {r}"))
}
