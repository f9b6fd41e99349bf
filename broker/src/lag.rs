//! How far consumer groups are behind, by topic: the groups that this broker coordinates, in the partitions
//! that have a replica here. Group ids are nobody's business, so each topic's furthest group is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_coordinator::{Command, FetchGroup, FetchOffsets, Response, TopicOffsets};
use ottla_proto::limits::GROUP_LAG_LOOK_MS;
use tokio::sync::watch;

use crate::board::begin;
use crate::coordinator::Coordinators;
use crate::topics::Topics;

const NAME: &str = "ottla_group_lag_records";

/// Records that the furthest group has not committed yet, by topic, as of the last look.
#[derive(Default)]
pub struct Lags(Mutex<BTreeMap<String, i64>>);

impl Lags {
    /// Looks until `stopping`. It asks coordinators for what any client may ask them.
    pub async fn run(
        self: Arc<Self>,
        coordinators: Arc<Coordinators>,
        topics: Arc<Topics>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut ticks = tokio::time::interval(Duration::from_millis(GROUP_LAG_LOOK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // It is told once, to stop.
                _ = stopping.changed() => return,
                _ = ticks.tick() => self.look(&coordinators, &topics).await,
            }
        }
    }

    async fn look(&self, coordinators: &Coordinators, topics: &Topics) {
        // It waits for groups that are being loaded.
        let Ok(groups) = coordinators.list_groups(&[]).await else {
            return;
        };
        let mut furthest = BTreeMap::new();
        for group in groups {
            let asked = FetchGroup {
                group_id: group.group_id.clone(),
                topics: None,
            };
            let command = Command::FetchOffsets(FetchOffsets {
                groups: vec![asked],
                require_stable: false,
            });
            let answer = coordinators.send(&group.group_id, command).await;
            let Ok(Response::FetchOffsets(offsets)) = answer else {
                continue;
            };
            for topic in offsets.into_iter().flat_map(|group| group.topics) {
                let Some(lag) = lag_of(&topic, topics) else {
                    continue;
                };
                let known = furthest.entry(topic.name).or_insert(lag);
                *known = lag.max(*known);
            }
        }
        *self.0.lock().expect("never poisoned") = furthest;
    }

    /// In Prometheus' text format: each topic, and the furthest of all without a label.
    pub fn write(&self, text: &mut String) {
        let lags = self.0.lock().expect("never poisoned");
        let furthest = lags.values().max().copied().unwrap_or(0);
        begin(text, NAME, "gauge");
        let _ = writeln!(text, "{NAME} {furthest}");
        for (topic, lag) in lags.iter() {
            let _ = writeln!(text, "{NAME}{{topic=\"{topic}\"}} {lag}");
        }
    }
}

/// Over the partitions that have a replica here; `None` if there are none.
fn lag_of(offsets: &TopicOffsets, topics: &Topics) -> Option<i64> {
    let topic = topics.by_name(&offsets.name).ok()?;
    let committed = offsets.partitions.iter().filter(|p| p.offset >= 0);
    let lags = committed.filter_map(|p| {
        let bounds = topic.replica(p.partition).ok()?.partition.bounds();
        // What is deleted is nobody's to read any more.
        let next = p.offset.max(bounds.log_start_offset);
        Some(bounds.high_watermark.saturating_sub(next).max(0))
    });
    lags.reduce(i64::saturating_add)
}
