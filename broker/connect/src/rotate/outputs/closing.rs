//! Closing objects, as far as the plan has room for them.

use super::super::RotateError;
use super::super::ledger::Ledger;
use super::super::plan::{OutputKey, PlannedObject};
use super::{CHAINED_OUTPUTS_MAX, ObjectId, Outputs, Planned};

impl Outputs {
    pub(super) fn close_by_record_time(&mut self) -> Vec<ObjectId> {
        let (Some(interval), Some(now)) = (self.policy.record_interval_ms, self.stream_time_ms)
        else {
            return Vec::new();
        };
        let due = |(base, _): &&(i64, OutputKey)| now.saturating_sub(*base) >= interval;
        let keys = self
            .by_time
            .iter()
            .take_while(due)
            .map(|(_, key)| *key)
            .collect();
        self.close_keys(keys)
    }

    /// Plans these objects if the plan has room; else makes a cut; else leaves them open.
    pub(super) fn close_keys(&mut self, mut keys: Vec<OutputKey>) -> Vec<ObjectId> {
        keys.retain(|key| !self.open[key].replayed);
        if keys.is_empty() || self.full {
            return Vec::new();
        }
        if self.ledger.is_some() {
            return self.close_segment();
        }
        // What cannot be computed again must not stay open across other objects.
        if !self.stable {
            keys = self.rule_bound();
        }
        keys.sort_by_key(|key| self.open[key].first);
        let mut plan = self.plan();
        let floor = self.floor();
        let mut fitting = 0;
        for key in &keys {
            let open = &self.open[key];
            plan.planned.push(PlannedObject {
                output: *key,
                first: open.first,
                last: open.last,
                name: (!self.stable).then(|| open.output.clone()),
            });
            if !plan.fits(floor) {
                break;
            }
            fitting += 1;
        }
        if fitting == keys.len() || !self.stable {
            self.full = fitting < keys.len();
            keys.truncate(fitting);
            return self.close_planned(keys, false);
        }
        if self.cut.is_some() || self.open.values().any(|o| o.replayed) {
            self.full = true;
            return Vec::new();
        }
        self.cut = Some((self.next - 1, floor));
        let all = self.rule_bound();
        self.cut_left = all.len();
        self.close_planned(all, true)
    }

    /// Closes all outputs of a chain at one offset, so that a manifest can follow; or later, when the one before
    /// has its manifest.
    pub(super) fn close_segment(&mut self) -> Vec<ObjectId> {
        let ledger = self.ledger.as_mut().expect("outputs of a chain");
        if self.cut.is_some() {
            self.full = true;
            return Vec::new();
        }
        if self.next == ledger.start {
            return Vec::new();
        }
        self.cut = Some((self.next - 1, ledger.start));
        ledger.close();
        self.full = false;
        self.quiet_since_ms = None;
        let keys = self.rule_bound();
        self.cut_left = keys.len();
        // A plan without an object is one, too.
        self.version += 1;
        let version = self.version;
        self.cut_version = version;
        let close = |key| self.close_open(key, version, true);
        keys.into_iter().map(close).collect()
    }

    /// Whether a manifest would not take many more objects.
    pub(super) fn is_full_chain(&self) -> bool {
        self.ledger.is_some() && self.open.len() >= CHAINED_OUTPUTS_MAX
    }

    /// A chain accounts for offsets without an object, too: by the rules by which an object is closed.
    pub(super) fn is_quiet_too_long(&mut self, now_ms: i64) -> bool {
        let is_quiet = |ledger: &Ledger| self.next > ledger.start;
        let is_quiet = self.cut.is_none()
            && self.open.is_empty()
            && self.ledger.as_ref().is_some_and(is_quiet);
        if !is_quiet {
            self.quiet_since_ms = None;
            return false;
        }
        self.quiet_since_ms.get_or_insert(now_ms);
        let offsets = (self.next - self.floor()) as u64;
        let many = self.policy.records_max.is_some_and(|most| offsets >= most);
        many || self.quiet_deadline_ms().is_some_and(|due| due <= now_ms)
    }

    pub(super) fn quiet_deadline_ms(&self) -> Option<i64> {
        let since = self.quiet_since_ms?;
        let idle = self.policy.idle_ms.map(|idle| since.saturating_add(idle));
        [self.policy.scheduled(since), idle]
            .into_iter()
            .flatten()
            .min()
    }

    /// Open objects that are not being made again, first things first.
    fn rule_bound(&self) -> Vec<OutputKey> {
        let open = self.open.iter().filter(|(_, open)| !open.replayed);
        let mut keys: Vec<_> = open.map(|(key, open)| (open.first, *key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    fn close_planned(&mut self, keys: Vec<OutputKey>, in_cut: bool) -> Vec<ObjectId> {
        if keys.is_empty() {
            return Vec::new();
        }
        self.version += 1;
        let version = self.version;
        let close = |key| self.close_open(key, version, in_cut);
        keys.into_iter().map(close).collect()
    }

    pub(super) fn close_open(&mut self, key: OutputKey, version: u64, in_cut: bool) -> ObjectId {
        let open = self.open.remove(&key).expect("an open object");
        if let Some(base) = open.base_time_ms {
            self.by_time.remove(&(base, key));
        }
        if let Some(deadline) = open.deadline_ms {
            self.by_deadline.remove(&(deadline, key));
        }
        let planned = Planned {
            id: open.id,
            output: open.output,
            schema: open.schema,
            first: open.first,
            last: open.last,
            records: open.records,
            bytes: open.bytes,
            key,
            version,
            in_cut,
            done: false,
        };
        self.planned.insert(open.id, planned);
        open.id
    }

    /// Closes the objects of a cut that is being made again, once all its offsets have been seen.
    pub(super) fn finish_replayed_cut(&mut self) -> Result<Vec<ObjectId>, RotateError> {
        if !self.replay.cut_ends(self.next) {
            return Ok(Vec::new());
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.close_again(self.next - 1)?;
        }
        let mut keys: Vec<_> = self
            .open
            .iter()
            .map(|(key, open)| (open.first, *key))
            .collect();
        keys.sort_unstable();
        let closed = keys
            .into_iter()
            .map(|(_, key)| self.close_open(key, 0, true));
        let closed: Vec<_> = closed.collect();
        self.cut_left = closed.len();
        if closed.is_empty() && self.ledger.is_none() {
            self.end_cut();
            self.forget();
        }
        Ok(closed)
    }
}
