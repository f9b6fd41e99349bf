//! One partition of `__consumer_offsets`: routes commands and timers to the operations, and replays
//! what they decide.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::durable::Durable;
use crate::group::{Context, Group, Totals};
use crate::records::{self, Record};
use crate::timers::{Timer, Timers};
use crate::{Command, Decision, GroupConfig, GroupState, ReplayError, Response, Token};

/// Bounds of one tick; what is left stays due.
const TICK_TIMERS_MAX: usize = 4_096;
const TICK_RECORDS_MAX: usize = 10_000;

/// Length of a string in a record of `__consumer_offsets`, in bytes.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// The coordinator of the groups of one partition. See the crate's contract.
pub struct Shard {
    pub(crate) config: GroupConfig,
    pub(crate) ids: Box<dyn FnMut() -> Uuid + Send>,
    pub(crate) durable: Durable,
    /// Groups that have members or pending member ids. Others are Empty, and durable state is all
    /// there is to them.
    pub(crate) groups: HashMap<Arc<str>, Group>,
    pub(crate) timers: Timers,
    pub(crate) totals: Totals,
    /// How many records of the decision at hand are replayed.
    replayed: usize,
}

impl Shard {
    /// An empty shard, with random member ids.
    pub fn new(config: GroupConfig) -> Shard {
        Shard::with_ids(config, Box::new(Uuid::new_v4))
    }

    /// As [`Shard::new`]; `ids` makes the unique part of member ids.
    pub fn with_ids(config: GroupConfig, ids: Box<dyn FnMut() -> Uuid + Send>) -> Shard {
        Shard {
            config,
            ids,
            durable: Durable::default(),
            groups: HashMap::new(),
            timers: Timers::default(),
            totals: Totals::default(),
            replayed: 0,
        }
    }

    /// Takes one record of the log into durable state. Records of other protocols are skipped.
    ///
    /// # Errors
    /// If the record cannot be read; the state is then unchanged.
    pub fn replay(
        &mut self,
        now_ms: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        let change = records::decode(key, value)?;
        if let Some(group) = change.group() {
            self.durable.apply(change, value.map_or(0, <[u8]>::len));
            self.watch_expiry(now_ms, group);
        }
        Ok(())
    }

    /// As [`Shard::replay`], for a record in a transactional batch: its offset is pending until
    /// [`Shard::end_transaction`].
    ///
    /// # Errors
    /// If the record cannot be read; the state is then unchanged.
    pub fn replay_transactional(
        &mut self,
        now_ms: i64,
        producer_id: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        let change = records::decode(key, value)?;
        if let Some(group) = change.group() {
            self.durable.apply_pending(producer_id, change);
            self.watch_expiry(now_ms, group);
        }
        Ok(())
    }

    /// A control batch of the log ends the producer's transaction: at load, and as soon as a marker
    /// that was written to the partition is committed.
    pub fn end_transaction(&mut self, now_ms: i64, producer_id: i64, committed: bool) {
        for group in self.durable.end_transaction(producer_id, committed) {
            self.watch_expiry(now_ms, group);
        }
    }

    /// Looks for expired offsets now and then, as long as the group has stored state.
    fn watch_expiry(&mut self, now_ms: i64, group: Arc<str>) {
        let stored = self.durable.contains(&group);
        let timer = Timer::Expire { group };
        if !stored {
            self.timers.cancel(timer);
        } else if !self.timers.is_set(&timer) {
            let interval_ms = self.config.offsets_retention_check_interval_ms.max(1);
            self.timers.set(timer, now_ms + interval_ms);
        }
    }

    /// The log is read: groups that had members have them again, with fresh sessions, in the last
    /// stored generation.
    ///
    /// A group above the present `group.max.size` goes into a rebalance that will shrink it.
    pub fn loaded(&mut self, now_ms: i64) {
        assert!(
            self.groups.is_empty(),
            "loaded is called once, before commands"
        );
        let with_members = |(id, group): (&Arc<str>, &crate::durable::DurableGroup)| {
            let members = group.metadata.as_ref().map_or(0, |m| m.members.len());
            (members > 0).then(|| id.clone())
        };
        let ids: Vec<Arc<str>> = self.durable.iter().filter_map(with_members).collect();
        let mut decision = Decision::default();
        for id in ids {
            let group = Group::new(id.clone(), self.durable.metadata(&id));
            self.groups.insert(id.clone(), group);
            self.with_group(now_ms, &mut decision, &id, Group::restore);
        }
        assert!(decision.records.is_empty(), "loading writes nothing");
    }

    /// Carries out one request. The records of the decision are replayed already.
    pub fn handle(&mut self, now_ms: i64, token: Token, command: Command) -> Decision {
        let mut decision = Decision::default();
        let out = &mut decision;
        self.replayed = 0;
        match command {
            Command::JoinGroup(request) => self.join_group(now_ms, token, request, out),
            Command::SyncGroup(request) => self.sync_group(now_ms, token, request, out),
            Command::Heartbeat(request) => self.heartbeat(now_ms, token, request, out),
            Command::LeaveGroup(request) => self.leave_group(now_ms, token, request, out),
            Command::CommitOffsets(request) => self.commit_offsets(now_ms, token, request, out),
            Command::FetchOffsets(request) => {
                let offsets = self.fetch_offsets(&request);
                out.replies.push((token, Response::FetchOffsets(offsets)));
            }
            Command::DeleteOffsets(request) => {
                let outcome = self.delete_offsets(&request, out);
                out.replies.push((token, Response::DeleteOffsets(outcome)));
            }
            Command::DeleteGroups(groups) => {
                let outcome = self.delete_groups(now_ms, groups, out);
                out.replies.push((token, Response::DeleteGroups(outcome)));
            }
            Command::DescribeGroups(groups) => {
                let described = groups.into_iter().map(|id| self.describe(id)).collect();
                let response = Response::DescribeGroups(described);
                out.replies.push((token, response));
            }
            Command::ListGroups { states } => {
                let listed = self.list_groups(&states);
                out.replies.push((token, Response::ListGroups(listed)));
            }
            Command::TopicsDeleted(topics) => {
                self.topics_deleted(&topics, out);
                out.replies.push((token, Response::TopicsDeleted));
            }
        }
        self.settle(now_ms, out);
        decision
    }

    /// Does what is due by now, within a bound: if more is due, [`Shard::next_deadline_ms`] still
    /// lies in the past.
    pub fn tick(&mut self, now_ms: i64) -> Decision {
        let mut decision = Decision::default();
        self.replayed = 0;
        for _ in 0..TICK_TIMERS_MAX {
            if decision.records.len() >= TICK_RECORDS_MAX {
                break;
            }
            let Some(timer) = self.timers.pop_due(now_ms) else {
                break;
            };
            let out = &mut decision;
            match timer {
                Timer::Session { group, member } => {
                    self.with_group(now_ms, out, &group, |group, cx| {
                        group.on_session_timer(cx, &member);
                    });
                }
                Timer::Join { group } => {
                    self.with_group(now_ms, out, &group, Group::on_join_timer);
                }
                Timer::Sync { group } => {
                    self.with_group(now_ms, out, &group, Group::on_sync_timer);
                }
                Timer::Expire { group } => self.on_expire_timer(now_ms, &group, out),
            }
            self.settle(now_ms, out);
        }
        decision
    }

    /// When [`Shard::tick`] wants to be called next.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.timers.next_deadline_ms()
    }

    /// Durable state as the fewest records that make it, in the order of groups and topics. Offsets
    /// of open transactions are not part of it.
    pub fn snapshot(&self) -> Vec<Record> {
        self.durable.snapshot()
    }

    /// Replays what was decided since the last call: the one way durable state changes.
    pub(crate) fn settle(&mut self, now_ms: i64, decision: &mut Decision) {
        for record in &decision.records[self.replayed..] {
            let value = record.value.as_deref();
            let replayed = match decision.producer {
                Some(by) => self.replay_transactional(now_ms, by.id, &record.key, value),
                None => self.replay(now_ms, &record.key, value),
            };
            replayed.expect("a record of our own can be read");
        }
        self.replayed = decision.records.len();
    }

    pub(crate) fn context<'a>(
        &'a mut self,
        now_ms: i64,
        decision: &'a mut Decision,
    ) -> Context<'a> {
        Context {
            now_ms,
            config: &self.config,
            durable: &self.durable,
            timers: &mut self.timers,
            totals: &mut self.totals,
            decision,
        }
    }

    /// Runs an operation of a group that has members; drops the group if none are left.
    pub(crate) fn with_group<R>(
        &mut self,
        now_ms: i64,
        decision: &mut Decision,
        id: &str,
        operation: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let mut cx = Context {
            now_ms,
            config: &self.config,
            durable: &self.durable,
            timers: &mut self.timers,
            totals: &mut self.totals,
            decision,
        };
        let before = group.state;
        let result = operation(group, &mut cx);
        cx.totals.states.moved(before, group.state);
        if group.is_idle() {
            assert!(group.members.is_empty(), "an Empty group has no members");
            self.groups.remove(id);
            if self.groups.is_empty() {
                assert_eq!(self.totals, Totals::default(), "no group, no members");
            }
        }
        Some(result)
    }

    /// Dead stands for a group that is not known.
    pub(crate) fn state_of(&self, group: &str) -> GroupState {
        match self.groups.get(group) {
            Some(live) => live.state,
            None if self.durable.contains(group) => GroupState::Empty,
            None => GroupState::Dead,
        }
    }

    /// Whether a group may get its first stored state.
    pub(crate) fn may_store(&self, group: &str) -> bool {
        let text_bytes = self.durable.text_bytes_len() + group.len();
        self.durable.contains(group)
            || (self.durable.groups_len() < self.config.groups_max
                && text_bytes <= self.config.offset_text_bytes_max)
    }
}

/// Groups with members need a name; committing offsets under the empty one is an old custom.
pub(crate) fn valid_group_id(id: &str) -> bool {
    !id.is_empty() && storable(id)
}

/// Whether the string fits into a record.
pub(crate) fn storable(text: &str) -> bool {
    text.len() <= STRING_BYTES_MAX
}
