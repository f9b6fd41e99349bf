//! Expiry of offsets and of groups without them (KIP-211).
//!
//! | group | an offset is over |
//! | --- | --- |
//! | Empty | retention after the group became empty; after the commit if that time is not stored |
//! | without protocol type | retention after its commit |
//! | Stable consumers | retention after its commit, if its topic is no longer subscribed |
//! | otherwise | never |
//!
//! An expiry time from an old commit request takes the place of commit time and retention.
//! An Empty group without offsets gets a tombstone. Where a transaction is open, nothing expires.

use crate::durable::DurableGroup;
use crate::group::{Group, Subscribed};
use crate::records::OffsetValue;
use crate::shard::Shard;
use crate::timers::Timer;
use crate::{Decision, Event, GroupState, Record};

/// Offsets that one look at a group expires; more follow at once, in the next.
const EXPIRED_MAX: usize = 5_000;

impl Shard {
    pub(crate) fn on_expire_timer(&mut self, now_ms: i64, id: &str, decision: &mut Decision) {
        let Some((key, stored)) = self.durable.get_key_value(id) else {
            return;
        };
        let live = self.groups.get(id);
        let rule = Rule::of(live, stored);
        let retention_ms = self.config.offsets_retention_ms;
        let over =
            |topic: &str, value: &OffsetValue| rule.is_over(topic, value, now_ms, retention_ms);
        let expired: Vec<_> = stored
            .offsets()
            .filter(|(topic, _, value)| over(topic, value))
            .filter(|(topic, partition, _)| !stored.is_pending(topic, *partition))
            .take(EXPIRED_MAX)
            .map(|(topic, partition, _)| Record::offset_tombstone(id, topic, partition))
            .collect();
        let none_left = expired.len() == stored.offsets().count();
        let group_removed = none_left && live.is_none() && !stored.has_pending();
        let more = expired.len() == EXPIRED_MAX;
        let group = key.clone();
        let removes_metadata = group_removed && stored.metadata.is_some();
        if !expired.is_empty() || removes_metadata {
            decision.events.push(Event::Expired {
                group_id: id.to_owned(),
                offsets: expired.len(),
                group_removed,
            });
        }
        decision.records.extend(expired);
        if removes_metadata {
            decision.records.push(Record::group_tombstone(id));
        }
        let interval_ms = self.config.offsets_retention_check_interval_ms.max(1);
        let next_ms = if more { now_ms } else { now_ms + interval_ms };
        self.timers.set(Timer::Expire { group }, next_ms);
    }
}

/// From when the retention of a group's offsets counts.
enum Rule {
    Never,
    SinceCommit,
    SinceEmpty { at_ms: i64 },
    SinceCommitUnlessIn(Subscribed),
}

impl Rule {
    fn of(live: Option<&Group>, stored: &DurableGroup) -> Rule {
        if let Some(group) = live.filter(|g| g.state != GroupState::Empty) {
            return match (group.state, group.subscribed_topics()) {
                (GroupState::Stable, topics @ Subscribed::Topics(_)) => {
                    Rule::SinceCommitUnlessIn(topics)
                }
                _ => Rule::Never,
            };
        }
        let emptied = stored.metadata.as_ref();
        let emptied = emptied.filter(|m| !m.protocol_type.is_empty());
        match emptied.and_then(|m| m.current_state_timestamp_ms) {
            Some(at_ms) => Rule::SinceEmpty { at_ms },
            None => Rule::SinceCommit,
        }
    }

    fn is_over(&self, topic: &str, value: &OffsetValue, now_ms: i64, retention_ms: i64) -> bool {
        let since_ms = match self {
            Rule::Never => return false,
            Rule::SinceCommit => value.commit_timestamp_ms,
            Rule::SinceEmpty { at_ms } => *at_ms,
            Rule::SinceCommitUnlessIn(topics) if topics.contains(topic) => return false,
            Rule::SinceCommitUnlessIn(_) => value.commit_timestamp_ms,
        };
        match value.expire_timestamp_ms {
            Some(at_ms) => now_ms >= at_ms,
            None => now_ms.saturating_sub(since_ms) >= retention_ms,
        }
    }
}
