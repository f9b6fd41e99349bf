//! The objects of one topic-partition: open, planned, written. Time is an argument, and a record costs a
//! look-up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

mod closing;
mod durable;

use super::RotationPolicy;
use super::ledger::Ledger;
use super::plan::{Commit, OutputKey, Plan, PlannedObject};
use super::replay::Replay;
use crate::audit::Counts;
use crate::sink::Passed;

/// Longest text of an output; two of them fit a plan.
const MAX_OUTPUT_BYTES: usize = 1024;
/// With a chain, all outputs are closed when so many are open: a manifest names them all, and has a bound.
const CHAINED_OUTPUTS_MAX: usize = 8000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u64);

/// A record on its way into an object.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    pub output: &'a str,
    /// Fingerprint of the schema: an object has records of one.
    pub schema: u64,
    pub offset: i64,
    /// The time that `rotate.interval.ms` counts.
    pub time_ms: Option<i64>,
    pub bytes: u64,
}

/// Where a record belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// `None` if it is in an object that is written already.
    pub object: Option<ObjectId>,
    /// Objects that are closed now. Only the one above has this record in it.
    pub closed: Vec<ObjectId>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    #[error("offset {offset} comes after {next} was expected")]
    Order { offset: i64, next: i64 },
    /// Records of a planned object are gone, or go elsewhere now: the topic lost records, or the
    /// configuration changed between plan and write.
    #[error("the planned object from offset {first} to {last} cannot be made again at offset {at}")]
    Replay { first: i64, last: i64, at: i64 },
    #[error("the output's name has {0} bytes, more than {MAX_OUTPUT_BYTES}")]
    LongOutput(usize),
    /// A chain can begin only where nothing is half delivered.
    #[error(
        "its manifests cannot begin: objects above offset {0} were written or planned before \
         ottla.audit.enable was set. Give the connector another name and another topics.dir"
    )]
    Unchained(i64),
    #[error(
        "the manifest of offsets {first} to {last} was planned with {promised}, and now there are {found}: the \
         topic has lost records, or the connector's configuration has changed"
    )]
    Counts {
        first: i64,
        last: i64,
        promised: Counts,
        found: Counts,
    },
}

/// An object that is closed, and promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub id: ObjectId,
    pub output: String,
    pub schema: u64,
    pub first: i64,
    pub last: i64,
    pub records: u64,
    pub bytes: u64,
    key: OutputKey,
    version: u64,
    in_cut: bool,
    done: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Open {
    id: ObjectId,
    output: String,
    schema: u64,
    first: i64,
    last: i64,
    records: u64,
    bytes: u64,
    base_time_ms: Option<i64>,
    scheduled_ms: Option<i64>,
    touched_ms: i64,
    deadline_ms: Option<i64>,
    /// It is made again after a crash: no rule closes it.
    replayed: bool,
}

#[derive(Clone, Debug)]
pub struct Outputs {
    policy: RotationPolicy,
    /// Whether a record always gets the same output.
    stable: bool,
    open: HashMap<OutputKey, Open>,
    by_time: BTreeSet<(i64, OutputKey)>,
    by_deadline: BTreeSet<(i64, OutputKey)>,
    planned: BTreeMap<ObjectId, Planned>,
    /// First offsets of all objects that hold the floor.
    firsts: BTreeSet<(i64, ObjectId)>,
    written: BTreeMap<OutputKey, i64>,
    /// Last offset of the cut, and the floor that stays until all of it is written.
    cut: Option<(i64, i64)>,
    /// Objects of the cut that are not written.
    cut_left: usize,
    cut_version: u64,
    ledger: Option<Ledger>,
    /// Since when there is something to account for, and no object open. Of chained outputs.
    quiet_since_ms: Option<i64>,
    replay: Replay,
    next: i64,
    settled: i64,
    stream_time_ms: Option<i64>,
    version: u64,
    durable: u64,
    last_id: u64,
    /// No plan with another object fits until one is written.
    full: bool,
}

impl Outputs {
    /// From what is committed: the offset, and its metadata as [`Plan::decode`] reads it. Panics if the outputs
    /// of a chain are not stable.
    pub fn restore(
        policy: RotationPolicy,
        stable: bool,
        offset: i64,
        plan: Plan,
    ) -> Result<Outputs, RotateError> {
        assert!(stable || !policy.chained, "a chain needs stable outputs");
        let ledger = match (policy.chained, plan.chain) {
            (false, _) => None,
            (true, None) if !plan.is_empty() => return Err(RotateError::Unchained(offset)),
            (true, chain) => Some(Ledger::restore(offset, chain.unwrap_or_default())),
        };
        Ok(Outputs {
            policy,
            stable,
            open: HashMap::new(),
            by_time: BTreeSet::new(),
            by_deadline: BTreeSet::new(),
            planned: BTreeMap::new(),
            firsts: BTreeSet::new(),
            written: plan.written.into_iter().collect(),
            cut: plan.cut.map(|last| (last, offset)),
            cut_left: 0,
            cut_version: 0,
            ledger,
            quiet_since_ms: None,
            replay: Replay::new(plan.planned, plan.cut),
            next: offset,
            settled: plan.settled.max(offset),
            stream_time_ms: None,
            version: 0,
            durable: 0,
            last_id: 0,
            full: false,
        })
    }

    /// The output that the plan gives a record whose own would be another by now.
    pub fn replayed_output(&self, offset: i64, schema: u64) -> Option<&str> {
        self.replay.output(offset, schema)
    }

    /// Places a record. Its offset is not below any that came before.
    pub fn append(&mut self, record: Incoming<'_>, now_ms: i64) -> Result<Appended, RotateError> {
        if record.output.len() > MAX_OUTPUT_BYTES {
            return Err(RotateError::LongOutput(record.output.len()));
        }
        let mut closed = self.advance(record.offset, Passed::NoRecord)?;
        let key = OutputKey::of(record.output, record.schema);
        if self
            .written
            .get(&key)
            .is_some_and(|last| *last >= record.offset)
        {
            self.next = record.offset + 1;
            closed.extend(self.finish_replayed_cut()?);
            return Ok(Appended {
                object: None,
                closed,
            });
        }
        let replayed = self
            .replay
            .place(key, record.offset, self.open.contains_key(&key))?;
        if !replayed && let Some(time) = record.time_ms {
            self.stream_time_ms = Some(self.stream_time_ms.map_or(time, |s| s.max(time)));
            closed.extend(self.close_by_record_time());
        }
        let id = self.put(key, record, now_ms, replayed);
        self.next = record.offset + 1;
        if let Some(ledger) = &mut self.ledger {
            ledger.written();
        }
        if self.replay.ends(key, record.offset) {
            closed.push(self.close_open(key, 0, false));
        } else if !replayed && (self.is_full_size(&key) || self.is_full_chain()) {
            closed.extend(self.close_keys(vec![key]));
        }
        closed.extend(self.finish_replayed_cut()?);
        Ok(Appended {
            object: Some(id),
            closed,
        })
    }

    /// All offsets below `position` have been seen; those that were not appended have no object, for this reason.
    pub fn advance(&mut self, position: i64, why: Passed) -> Result<Vec<ObjectId>, RotateError> {
        if position < self.next {
            return Err(RotateError::Order {
                offset: position,
                next: self.next,
            });
        }
        let mut closed = Vec::new();
        // What is counted for a cut ends with it.
        if let Some(end) = self.replay.cut().map(|cut| cut + 1)
            && (self.next..position).contains(&end)
        {
            closed = self.advance_to(end, why)?;
        }
        closed.extend(self.advance_to(position, why)?);
        Ok(closed)
    }

    fn advance_to(&mut self, position: i64, why: Passed) -> Result<Vec<ObjectId>, RotateError> {
        if let Some(ledger) = &mut self.ledger {
            ledger.pass(why, (position - self.next) as u64);
        }
        self.next = position;
        self.replay.passed(position)?;
        self.finish_replayed_cut()
    }

    /// Closes what the clock says: scheduled and idle objects.
    pub fn tick(&mut self, now_ms: i64) -> Vec<ObjectId> {
        if self.full {
            return Vec::new();
        }
        let mut due = Vec::new();
        while let Some(&(deadline, key)) = self.by_deadline.first() {
            if deadline > now_ms {
                break;
            }
            self.by_deadline.pop_first();
            let open = &self.open[&key];
            let actual = open.deadline(&self.policy);
            if actual.is_some_and(|actual| actual > now_ms) {
                self.set_deadline(key, actual);
            } else {
                due.push((deadline, key));
            }
        }
        // They are entered again, in case they cannot be closed yet.
        self.by_deadline.extend(due.iter().copied());
        if self.is_quiet_too_long(now_ms) {
            return self.close_segment();
        }
        self.close_keys(due.into_iter().map(|(_, key)| key).collect())
    }

    /// When `tick` may have something to do next.
    pub fn deadline_ms(&self) -> Option<i64> {
        let first = self.by_deadline.first().map(|(deadline, _)| *deadline);
        let deadlines = [first, self.quiet_deadline_ms()].into_iter().flatten();
        deadlines.min().filter(|_| !self.full)
    }

    /// Closes an object to make room. It stays open if the plan has none, or if it is being made again.
    pub fn close(&mut self, id: ObjectId) -> Vec<ObjectId> {
        let found = self.open.iter().find(|(_, open)| open.id == id);
        let key = found.map(|(key, _)| *key);
        self.close_keys(key.into_iter().collect())
    }

    pub fn close_all(&mut self) -> Vec<ObjectId> {
        if self.ledger.is_some() {
            return self.close_segment();
        }
        let keys = self.open.keys().copied().collect();
        self.close_keys(keys)
    }

    /// Open objects and their bytes.
    pub fn open(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.open.values().map(|open| (open.id, open.bytes))
    }

    /// What to commit, and the version to name once it is durable.
    pub fn commit(&self) -> (Commit, u64) {
        (self.plan().encode(self.floor()), self.version)
    }

    /// A commit of this version is durable: what it planned may be written.
    pub fn durable(&mut self, version: u64) {
        self.durable = self.durable.max(version);
    }

    /// Objects to write now, in the order they were closed.
    pub fn writable(&self) -> impl Iterator<Item = &Planned> {
        let ready = |p: &&Planned| !p.done && p.version <= self.durable;
        self.planned.values().filter(ready)
    }

    pub fn planned(&self, id: ObjectId) -> Option<&Planned> {
        self.planned.get(&id)
    }

    /// Dead letters of all offsets below this are acknowledged.
    pub fn settle(&mut self, offset: i64) {
        self.settled = self.settled.max(offset);
    }

    /// Whether the dead letter of this offset was sent before the crash.
    pub fn is_settled(&self, offset: i64) -> bool {
        offset < self.settled
    }

    /// Everything below this offset is written, or needs no writing.
    pub fn floor(&self) -> i64 {
        if let Some(ledger) = &self.ledger {
            return ledger.start;
        }
        if let Some((_, floor)) = self.cut {
            return floor;
        }
        let first = self.firsts.first().map(|(first, _)| *first);
        let first = [first, self.replay.first()].into_iter().flatten().min();
        first.unwrap_or(self.next).min(self.next)
    }

    fn plan(&self) -> Plan {
        let listed = self.planned.values().filter(|p| !p.in_cut);
        let listed = listed.map(|p| PlannedObject {
            output: p.key,
            first: p.first,
            last: p.last,
            name: (!self.stable).then(|| p.output.clone()),
        });
        // The floor rises too when records pass that are written already.
        let floor = self.floor();
        let written = self.written.iter().filter(|(_, last)| **last >= floor);
        Plan {
            settled: self.settled,
            cut: self.cut.map(|(last, _)| last),
            written: written.map(|(key, last)| (*key, *last)).collect(),
            planned: listed.chain(self.replay.objects().cloned()).collect(),
            chain: self.ledger.as_ref().and_then(Ledger::chain),
        }
    }

    fn put(
        &mut self,
        key: OutputKey,
        record: Incoming<'_>,
        now_ms: i64,
        replayed: bool,
    ) -> ObjectId {
        if let Some(open) = self.open.get_mut(&key) {
            open.last = record.offset;
            open.records += 1;
            open.bytes += record.bytes;
            open.touched_ms = now_ms;
            return open.id;
        }
        self.last_id += 1;
        let mut open = Open {
            id: ObjectId(self.last_id),
            output: record.output.to_owned(),
            schema: record.schema,
            first: record.offset,
            last: record.offset,
            records: 1,
            bytes: record.bytes,
            // A late record does not make an object that is due at once.
            base_time_ms: self.stream_time_ms.or(record.time_ms),
            scheduled_ms: self.policy.scheduled(now_ms),
            touched_ms: now_ms,
            deadline_ms: None,
            replayed,
        };
        let id = open.id;
        self.firsts.insert((open.first, id));
        if replayed {
            open.base_time_ms = None;
            self.open.insert(key, open);
            return id;
        }
        if let (Some(base), Some(_)) = (open.base_time_ms, self.policy.record_interval_ms) {
            self.by_time.insert((base, key));
        }
        let deadline = open.deadline(&self.policy);
        self.open.insert(key, open);
        self.set_deadline(key, deadline);
        id
    }

    fn set_deadline(&mut self, key: OutputKey, deadline: Option<i64>) {
        let open = self.open.get_mut(&key).expect("an open object");
        open.deadline_ms = deadline;
        self.by_deadline.extend(deadline.map(|d| (d, key)));
    }

    fn is_full_size(&self, key: &OutputKey) -> bool {
        let open = &self.open[key];
        self.policy
            .records_max
            .is_some_and(|most| open.records >= most)
            || self.policy.bytes_max.is_some_and(|most| open.bytes >= most)
    }
}

impl Open {
    fn deadline(&self, policy: &RotationPolicy) -> Option<i64> {
        let idle = policy
            .idle_ms
            .map(|idle| self.touched_ms.saturating_add(idle));
        [self.scheduled_ms, idle].into_iter().flatten().min()
    }
}
