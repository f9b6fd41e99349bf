//! Who runs what: incremental cooperative assignment (KIP-415), decided by the group's leader.
//!
//! A round looks at what every member runs. A unit that nobody runs goes to the member with the least; a unit
//! of a member that has too much is revoked, and goes to another one in the next round, once it has stopped.
//! So no unit is at two members, and what need not move does not.
//!
//! Units of a member that has gone wait for `scheduled.rebalance.max.delay.ms`, so that a worker that is
//! restarted gets its work back. Unlike in Kafka Connect they wait no longer once a member has come.

use std::collections::{BTreeMap, BTreeSet};

use super::Unit;

pub type MemberId = String;

/// What the leader remembers between rounds. A new leader remembers nothing, so that what nobody runs is
/// assigned at once.
#[derive(Clone, Debug, Default)]
pub struct Leader {
    /// What was left with or given to members in the last round.
    given: BTreeSet<Unit>,
    members: BTreeSet<MemberId>,
    /// When units of members that have gone are given to others.
    due_ms: Option<i64>,
}

/// What one member is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub assigned: Vec<Unit>,
    pub revoked: Vec<Unit>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    pub changes: BTreeMap<MemberId, Change>,
    /// Until the leader should have another round, if units wait.
    pub delay_ms: i64,
}

impl Leader {
    /// One round. `owned` is what each member runs, `units` what there is to run.
    pub fn assign(
        &mut self,
        units: &BTreeSet<Unit>,
        owned: &BTreeMap<MemberId, BTreeSet<Unit>>,
        max_delay_ms: i64,
        now_ms: i64,
    ) -> Round {
        let mut changes: BTreeMap<MemberId, Change> = BTreeMap::new();
        let mut kept: BTreeMap<&MemberId, BTreeSet<Unit>> = BTreeMap::new();
        let mut running = BTreeSet::new();
        for (member, owned) in owned {
            let change = changes.entry(member.clone()).or_default();
            let kept = kept.entry(member).or_default();
            for unit in owned {
                if units.contains(unit) && running.insert(unit.clone()) {
                    kept.insert(unit.clone());
                } else {
                    // It is gone, or runs elsewhere too.
                    change.revoked.push(unit.clone());
                }
            }
        }
        let waiting = self.waiting(units, &running, owned, max_delay_ms, now_ms);
        // Units that are being stopped are nobody's until they have been.
        let stopping: BTreeSet<&Unit> = owned.values().flatten().collect();
        let mut free: Vec<Unit> = units.difference(&running).cloned().collect();
        free.retain(|u| !waiting.contains(u) && !stopping.contains(u));
        for kind in [false, true] {
            let of_kind = |u: &&Unit| u.is_task() == kind;
            if waiting.is_empty() {
                let total = units.iter().filter(of_kind).count();
                revoke(&mut kept, &mut changes, total, kind);
            }
            for unit in free.iter().filter(of_kind) {
                let load = |set: &BTreeSet<Unit>| set.iter().filter(of_kind).count();
                let least = kept.iter_mut().min_by_key(|(_, set)| load(set));
                let Some((member, set)) = least else { break };
                set.insert(unit.clone());
                let change = changes.get_mut(*member).expect("each member has one");
                change.assigned.push(unit.clone());
            }
        }
        self.given = kept.into_values().flatten().collect();
        // What waits is still missed in the next round.
        self.given.extend(waiting);
        self.members = owned.keys().cloned().collect();
        let delay_ms = self.due_ms.map_or(0, |due| (due - now_ms).max(1));
        Round { changes, delay_ms }
    }

    /// Units that wait for the member that had them.
    fn waiting(
        &mut self,
        units: &BTreeSet<Unit>,
        running: &BTreeSet<Unit>,
        owned: &BTreeMap<MemberId, BTreeSet<Unit>>,
        max_delay_ms: i64,
        now_ms: i64,
    ) -> BTreeSet<Unit> {
        let missed = |u: &&Unit| units.contains(*u) && !running.contains(*u);
        let missed: BTreeSet<Unit> = self.given.iter().filter(missed).cloned().collect();
        let somebody_came = owned.keys().any(|m| !self.members.contains(m));
        if missed.is_empty() || max_delay_ms <= 0 || somebody_came {
            self.due_ms = None;
            return BTreeSet::new();
        }
        let due = *self.due_ms.get_or_insert(now_ms + max_delay_ms);
        if now_ms >= due {
            self.due_ms = None;
            return BTreeSet::new();
        }
        missed
    }
}

/// Takes from members what they have above an even share of `total`. The fullest may keep one more where it
/// does not divide.
fn revoke(
    kept: &mut BTreeMap<&MemberId, BTreeSet<Unit>>,
    changes: &mut BTreeMap<MemberId, Change>,
    total: usize,
    tasks: bool,
) {
    if kept.is_empty() {
        return;
    }
    let (share, more) = (total / kept.len(), total % kept.len());
    let load = |set: &BTreeSet<Unit>| set.iter().filter(|u| u.is_task() == tasks).count();
    let mut fullest: Vec<_> = kept.iter_mut().collect();
    fullest.sort_by_key(|(_, set)| std::cmp::Reverse(load(set)));
    for (place, (member, set)) in fullest.into_iter().enumerate() {
        let may = share + usize::from(place < more);
        let excess = load(set).saturating_sub(may);
        let of_kind = set.iter().rev().filter(|u| u.is_task() == tasks);
        let revoked: Vec<Unit> = of_kind.take(excess).cloned().collect();
        revoked.iter().for_each(|u| {
            set.remove(u);
        });
        let change = changes.get_mut(*member).expect("each member has one");
        change.revoked.extend(revoked);
    }
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
