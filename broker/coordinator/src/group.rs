//! A group with members: the state that a crash takes away, apart from its last stored generation.
//!
//! Nothing here decides: these are the moves that keep members, votes, timers and totals in step.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::durable::Durable;
use crate::records::GroupValue;
use crate::subscription::{CONSUMER, collect_topics};
use crate::timers::{Timer, Timers};
use crate::usage::States;
use crate::{
    Decision, Event, GroupConfig, GroupError, GroupState, JoinRefused, Protocol, Response, Token,
};

/// What an operation may touch besides its group. Durable state is behind a shared reference.
pub(crate) struct Context<'a> {
    pub(crate) now_ms: i64,
    pub(crate) config: &'a GroupConfig,
    pub(crate) durable: &'a Durable,
    pub(crate) timers: &'a mut Timers,
    pub(crate) totals: &'a mut Totals,
    pub(crate) decision: &'a mut Decision,
}

impl Context<'_> {
    pub(crate) fn reply(&mut self, token: Token, response: Response) {
        self.decision.replies.push((token, response));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.decision.events.push(event);
    }

    /// Whether one more member of this size may come, or a member grow from `before` to `after`.
    pub(crate) fn has_room(&self, more_members: usize, before: usize, after: usize) -> bool {
        let members = self.totals.members + more_members;
        let bytes = self.totals.metadata_bytes - before + after;
        members <= self.config.members_max && bytes <= self.config.member_metadata_bytes_max
    }
}

/// Sums over the groups of a shard, held against its limits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Members and pending member ids.
    pub(crate) members: usize,
    /// What they sent, and their group's id for each of them.
    pub(crate) metadata_bytes: usize,
    pub(crate) states: States,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// In order of preference, no name twice.
    pub(crate) protocols: Vec<Protocol>,
    /// A JoinGroup that waits for the join phase to end.
    pub(crate) joining: Option<Token>,
    /// A SyncGroup that waits for the leader's assignment.
    pub(crate) syncing: Option<Token>,
    /// Joined for the first time and no generation has formed since: it cannot heartbeat yet.
    pub(crate) is_new: bool,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|p| p.name == protocol)
            .map_or_else(Bytes::new, |p| p.metadata.clone())
    }

    /// Bytes this member keeps in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let names = self.id.len()
            + self.instance_id.as_ref().map_or(0, String::len)
            + self.client_id.len()
            + self.client_host.len();
        names + protocols_weight(&self.protocols)
    }
}

/// A protocol without a byte of its own still costs its slot.
pub(crate) fn protocols_weight(protocols: &[Protocol]) -> usize {
    let bytes = |p: &Protocol| 64 + p.name.len() + p.metadata.len();
    protocols.iter().map(bytes).sum()
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) state: GroupState,
    pub(crate) generation_id: i32,
    pub(crate) protocol_type: Option<String>,
    /// Chosen for the current generation.
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<Arc<str>>,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
    /// How many members can speak each protocol.
    pub(crate) speakers: HashMap<String, usize>,
    pub(crate) static_members: HashMap<String, Arc<str>>,
    /// Ids given out with MEMBER_ID_REQUIRED that have not come back.
    pub(crate) pending: BTreeSet<Arc<str>>,
    /// Members of the current generation whose SyncGroup has not come.
    pub(crate) unsynced: BTreeSet<Arc<str>>,
    pub(crate) awaiting_join: usize,
    /// Set during the join phase that started from Empty.
    pub(crate) initial: Option<InitialDelay>,
}

/// The wait for a first generation (KIP-134).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    pub(crate) delay_ms: i64,
    pub(crate) remaining_ms: i64,
    /// Someone came since the last look, so that a further delay is worthwhile.
    pub(crate) member_added: bool,
}

impl Group {
    /// An Empty group, which carries on from its stored generation.
    pub(crate) fn new(id: Arc<str>, stored: Option<&GroupValue>) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            generation_id: stored.map_or(0, |s| s.generation_id.max(0)),
            protocol_type: stored
                .map(|s| s.protocol_type.clone())
                .filter(|t| !t.is_empty()),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            speakers: HashMap::new(),
            static_members: HashMap::new(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            awaiting_join: 0,
            initial: None,
        }
    }

    /// Nothing here that durable state does not say.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn all_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending.is_empty()
    }

    /// The longest rebalance timeout of the members.
    pub(crate) fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        i64::from(timeouts.max().unwrap_or(0))
    }

    pub(crate) fn add_pending(&mut self, cx: &mut Context<'_>, id: Arc<str>, timeout_ms: i32) {
        if self.pending.insert(id.clone()) {
            cx.totals.members += 1;
            cx.totals.metadata_bytes += id.len() + self.id.len();
        }
        cx.timers
            .set(self.session(&id), cx.now_ms + i64::from(timeout_ms));
    }

    pub(crate) fn remove_pending(&mut self, cx: &mut Context<'_>, id: &str) -> bool {
        let removed = self.pending.remove(id);
        if removed {
            cx.totals.members -= 1;
            cx.totals.metadata_bytes -= id.len() + self.id.len();
            cx.timers.cancel(self.session(&id.into()));
        }
        removed
    }

    /// Makes a new group what the log says of it: a Stable generation, of which only the chosen
    /// protocol's metadata is known.
    pub(crate) fn restore(&mut self, cx: &mut Context<'_>) {
        let Some(stored) = cx.durable.metadata(&self.id) else {
            return;
        };
        let name = stored.protocol.clone().unwrap_or_default();
        for m in &stored.members {
            if self.members.contains_key(&m.member_id) {
                continue;
            }
            let member = Member {
                id: m.member_id.clone(),
                instance_id: m.group_instance_id.clone(),
                client_id: m.client_id.clone(),
                client_host: m.client_host.clone(),
                session_timeout_ms: m.session_timeout_ms.max(0),
                rebalance_timeout_ms: m.rebalance_timeout_ms.max(0),
                protocols: vec![Protocol {
                    name: name.clone(),
                    metadata: m.subscription.clone(),
                }],
                joining: None,
                syncing: None,
                is_new: false,
            };
            self.insert(cx, member);
            self.touch(cx, &m.member_id);
        }
        self.state = GroupState::Stable;
        self.protocol = Some(name);
        if let Some(leader) = &stored.leader
            && let Some((id, _)) = self.members.get_key_value(leader.as_str())
        {
            self.leader = Some(id.clone());
        }
        if self.members.len() > cx.config.group_max_size {
            self.prepare_rebalance(cx, "the group is above its size limit");
        }
    }

    /// Takes in a member; the first one leads.
    pub(crate) fn insert(&mut self, cx: &mut Context<'_>, member: Member) {
        self.leader.get_or_insert_with(|| member.id.clone());
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(instance.clone(), member.id.clone());
        }
        self.awaiting_join += usize::from(member.joining.is_some());
        self.count_votes(&member.protocols, 1);
        cx.totals.members += 1;
        cx.totals.metadata_bytes += member.weight() + self.id.len();
        let before = self.members.insert(member.id.clone(), member);
        assert!(before.is_none(), "a member id has one slot");
    }

    /// Takes out a member with its timer. What waits for it is the caller's to answer.
    pub(crate) fn take(&mut self, cx: &mut Context<'_>, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        cx.timers.cancel(self.session(&member.id));
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        self.awaiting_join -= usize::from(member.joining.is_some());
        self.count_votes(&member.protocols, -1);
        self.unsynced.remove(id);
        cx.totals.members -= 1;
        cx.totals.metadata_bytes -= member.weight() + self.id.len();
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Removes a member, answering what it waits for with UNKNOWN_MEMBER_ID, so that a client that
    /// is still there joins afresh.
    pub(crate) fn remove(&mut self, cx: &mut Context<'_>, id: &str, reason: &str) -> bool {
        let Some(member) = self.take(cx, id) else {
            return false;
        };
        if let Some(token) = member.joining {
            refuse_join(cx, token, GroupError::UnknownMemberId, "");
        }
        if let Some(token) = member.syncing {
            cx.reply(token, Response::Sync(Err(GroupError::UnknownMemberId)));
        }
        cx.event(Event::MemberRemoved {
            group_id: self.id.to_string(),
            member_id: id.to_owned(),
            reason: reason.to_owned(),
        });
        true
    }

    /// Replaces what a member sent when it joined.
    pub(crate) fn set_protocols(&mut self, cx: &mut Context<'_>, id: &str, new: Vec<Protocol>) {
        let member = self.members.get_mut(id).expect("the caller found it");
        let old = std::mem::replace(&mut member.protocols, new);
        let new = member.protocols.clone();
        cx.totals.metadata_bytes -= protocols_weight(&old);
        cx.totals.metadata_bytes += protocols_weight(&new);
        self.count_votes(&old, -1);
        self.count_votes(&new, 1);
    }

    fn count_votes(&mut self, protocols: &[Protocol], by: isize) {
        for protocol in protocols {
            let count = self.speakers.entry(protocol.name.clone()).or_default();
            *count = count.checked_add_signed(by).expect("votes are balanced");
            if *count == 0 {
                self.speakers.remove(&protocol.name);
            }
        }
    }

    /// Lets the member's JoinGroup wait. An older one of its own is a lost retry.
    pub(crate) fn await_join(&mut self, cx: &mut Context<'_>, id: &str, token: Token) {
        let member = self.members.get_mut(id).expect("the caller found it");
        match member.joining.replace(token) {
            Some(older) => refuse_join(cx, older, GroupError::RebalanceInProgress, id),
            None => self.awaiting_join += 1,
        }
        self.touch(cx, id);
    }

    /// Restarts a member's session, or stops it while the member waits for the others.
    ///
    /// A new member does not know its id and cannot retry under it, so its wait is bounded.
    pub(crate) fn touch(&self, cx: &mut Context<'_>, id: &str) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let timer = self.session(&member.id);
        let waits = member.joining.is_some() || member.syncing.is_some();
        if member.is_new && waits {
            if !cx.timers.is_set(&timer) {
                cx.timers
                    .set(timer, cx.now_ms + cx.config.new_member_join_timeout_ms);
            }
        } else if waits {
            cx.timers.cancel(timer);
        } else {
            cx.timers
                .set(timer, cx.now_ms + i64::from(member.session_timeout_ms));
        }
    }

    pub(crate) fn session(&self, member: &Arc<str>) -> Timer {
        Timer::Session {
            group: self.id.clone(),
            member: member.clone(),
        }
    }

    pub(crate) fn join_timer(&self) -> Timer {
        Timer::Join {
            group: self.id.clone(),
        }
    }

    pub(crate) fn sync_timer(&self) -> Timer {
        Timer::Sync {
            group: self.id.clone(),
        }
    }

    /// Whether the request comes from the member it names: known, and not replaced by another
    /// process with the same instance id.
    pub(crate) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(id) if &**id != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(GroupError::UnknownMemberId),
        }
    }

    /// Whether someone with these protocols could be a member besides the present ones.
    pub(crate) fn accepts(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let common = |p: &Protocol| self.speakers.get(&p.name) == Some(&self.members.len());
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(common)
    }

    /// The protocol most members prefer among those all can speak; of equals, the first by name.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let common = |p: &&Protocol| self.speakers.get(&p.name) == Some(&self.members.len());
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(common) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let best = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        best.map(|(name, _)| name.to_owned())
    }

    /// Whether the members subscribe to the topic. When they cannot be understood, a consumer
    /// group is taken to be subscribed to everything.
    pub(crate) fn subscribed_topics(&self) -> Subscribed {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return Subscribed::NotConsumers;
        }
        let Some(protocol) = &self.protocol else {
            return Subscribed::Unknown;
        };
        let mut topics = HashSet::new();
        for member in self.members.values() {
            if collect_topics(&member.metadata(protocol), &mut topics).is_err() {
                return Subscribed::Unknown;
            }
        }
        Subscribed::Topics(topics)
    }
}

/// The topics of a group's current generation.
pub(crate) enum Subscribed {
    /// Another protocol type: its metadata names no topics.
    NotConsumers,
    /// No generation yet, or metadata that does not parse.
    Unknown,
    Topics(HashSet<String>),
}

impl Subscribed {
    pub(crate) fn contains(&self, topic: &str) -> bool {
        match self {
            Subscribed::NotConsumers => false,
            Subscribed::Unknown => true,
            Subscribed::Topics(topics) => topics.contains(topic),
        }
    }
}

pub(crate) fn refuse_join(cx: &mut Context<'_>, token: Token, error: GroupError, member_id: &str) {
    let member_id = member_id.to_owned();
    let refused = JoinRefused { error, member_id };
    cx.reply(token, Response::Join(Err(refused)));
}
