//! The rule about committed group offsets. Each group and partition has one committer, which commits
//! ever larger offsets, one at a time.

use std::collections::BTreeMap;

use super::{Findings, Rule};
use crate::history::{Event, History, Nanos};

#[derive(Default)]
struct Committed {
    sent: Vec<(Nanos, i64)>,
    acked: Vec<(Nanos, i64)>,
    read: Vec<(Nanos, i64)>,
}

pub(super) fn check(history: &History, found: &mut Findings) {
    let mut groups: BTreeMap<(&str, i32), Committed> = BTreeMap::new();
    for event in &history.events {
        match event {
            Event::CommitSent {
                group,
                partition,
                offset,
                at,
            } => {
                groups
                    .entry((group, *partition))
                    .or_default()
                    .sent
                    .push((*at, *offset));
            }
            Event::CommitAcked {
                group,
                partition,
                offset,
                at,
            } => {
                groups
                    .entry((group, *partition))
                    .or_default()
                    .acked
                    .push((*at, *offset));
            }
            Event::CommitRead {
                group,
                partition,
                offset,
                asked_at,
            } => {
                groups
                    .entry((group, *partition))
                    .or_default()
                    .read
                    .push((*asked_at, *offset));
            }
            _ => {}
        }
    }
    for ((group, partition), committed) in &mut groups {
        check_one(group, *partition, committed, found);
    }
}

fn check_one(group: &str, partition: i32, committed: &mut Committed, found: &mut Findings) {
    committed.read.sort_unstable();
    let mut shown = -1;
    for (asked_at, offset) in &committed.read {
        let acked = committed
            .acked
            .iter()
            .filter(|(at, _)| at <= asked_at)
            .map(|(_, o)| *o)
            .max();
        let least = acked.unwrap_or(-1).max(shown);
        if *offset < least {
            found.add(Rule::OffsetRegress, || {
                format!(
                    "group {group} partition {partition}: {offset} is committed, {least} was before"
                )
            });
        }
        let was_sent = *offset == -1 || committed.sent.iter().any(|(_, sent)| sent == offset);
        if !was_sent {
            found.add(Rule::OffsetRegress, || {
                format!(
                    "group {group} partition {partition}: {offset} is committed, which nobody sent"
                )
            });
        }
        shown = shown.max(*offset);
    }
    // An acknowledged commit that nobody looked at afterwards proves nothing.
    let last_look = committed.read.last().map(|(at, _)| *at);
    if let Some((at, offset)) = committed.acked.iter().max()
        && last_look.is_none_or(|look| look < *at)
    {
        found.add(Rule::OffsetRegress, || {
            format!(
                "group {group} partition {partition}: the commit of {offset} was never read back"
            )
        });
    }
}
