//! Notices which groups this broker begins and ceases to lead, tells the controller, and starts what a
//! leader does: coordinators load, deleted partitions are swept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use ottla_controller::leaders::LeaderReport;
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::{IN_SYNC_LOOK_MS, LEADER_HANDOVER_WAIT_MS, LEADERSHIP_LOOK_MS};
use ottla_proto::metadata::{self, Image};
use ottla_raft::{Command, Group, Groups, node_of};
use tokio::time::Instant;

use crate::controllers::Controllers;
use crate::coordinator::Coordinators;
use crate::metadata::Metadata;
use crate::registration::Registration;

pub struct Leaderships {
    pub metadata: Arc<Metadata>,
    pub controllers: Arc<Controllers>,
    pub registration: Arc<Registration>,
    pub groups: Arc<Groups>,
    pub coordinators: Arc<Coordinators>,
    /// A report is on its way: the next one waits for what the image says then.
    pub reporting: Arc<AtomicBool>,
}

impl Leaderships {
    /// Looks for ever.
    pub async fn run(self) {
        let mut led: BTreeMap<GroupId, i32> = BTreeMap::new();
        let mut in_sync_look = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(LEADERSHIP_LOOK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let with_in_sync = Instant::now() >= in_sync_look;
            if with_in_sync {
                in_sync_look = Instant::now() + Duration::from_millis(IN_SYNC_LOOK_MS);
            }
            self.look(&mut led, with_in_sync).await;
        }
    }

    async fn look(&self, led: &mut BTreeMap<GroupId, i32>, with_in_sync: bool) {
        let image = self.metadata.current();
        let max_lag = Duration::from_millis(self.metadata.config().replication.lag_time_max_ms);
        let (mut now_led, mut reports, mut gained) = (BTreeMap::new(), Vec::new(), false);
        for known in image.groups() {
            let Some(group) = self.groups.get(known.id) else {
                continue;
            };
            let Some(leader_epoch) = group.leader_epoch() else {
                continue;
            };
            now_led.insert(known.id, leader_epoch);
            let is_new = led.get(&known.id) != Some(&leader_epoch);
            if is_new {
                gained = true;
                sweep(&image, &group);
            }
            let own = Some(self.registration.node_id);
            let is_told = (known.leader, known.leader_epoch) == (own, leader_epoch);
            if is_told && !with_in_sync {
                continue;
            }
            let in_sync = in_sync(&image, &group, max_lag);
            let voters = settled(known, &group);
            if !is_told || *known.in_sync != *in_sync || !voters.is_empty() {
                reports.push(LeaderReport {
                    group: known.id,
                    leader: own,
                    leader_epoch,
                    in_sync,
                    voters,
                });
            }
        }
        *led = now_led;
        if gained {
            self.coordinators.load_all().await;
        }
        if !reports.is_empty() {
            self.report(reports);
        }
    }

    /// Tells the controller, beside the looks: the answer comes as a new image.
    fn report(&self, reports: Vec<LeaderReport>) {
        if self.reporting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (controllers, reporting) = (self.controllers.clone(), self.reporting.clone());
        let epoch = self.registration.epoch();
        tokio::spawn(async move {
            if let Err(error) = controllers.report_leaders(epoch, &reports).await {
                tracing::warn!(%error, "leaders were not reported");
            }
            reporting.store(false, Ordering::Release);
        });
    }
}

/// The voters of a group whose move is done, for the controller to know.
fn settled(known: &metadata::Group, group: &Group) -> Vec<NodeId> {
    let settled = known.is_moving().then(|| group.settled_voters()).flatten();
    let voters: Vec<_> = settled.into_iter().flatten().map(node_of).collect();
    let is_there =
        voters.len() == known.members.len() && known.members.iter().all(|id| voters.contains(id));
    match is_there {
        true => voters,
        false => Vec::new(),
    }
}

/// Nodes in sync, by id. A replica in a data folder that its node has no more is not.
pub fn in_sync(image: &Image, group: &Group, max_lag: Duration) -> Vec<NodeId> {
    let is_there = |replica: &u64| {
        let broker = image.broker(node_of(*replica));
        broker.is_none_or(|broker| broker.replica_id() == *replica)
    };
    let replicas = group.in_sync(max_lag).into_iter().filter(is_there);
    let mut nodes: Vec<_> = replicas.map(node_of).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Removes partitions that were deleted while nobody led the group, or just before this broker stopped.
fn sweep(image: &Image, group: &Group) {
    let gone = group.partition_ids().into_iter();
    let gone = gone.filter(|id| image.is_removed_partition(*id));
    let commands: Vec<_> = gone
        .map(|partition| Command::Remove { partition })
        .collect();
    if !commands.is_empty() {
        tracing::info!(group = %group.id, partitions = commands.len(), "removing deleted partitions");
        drop(group.append(commands, 0, None));
    }
}

/// Hands every leadership of these groups to a follower that is in sync, on a node that is `wanted`, where
/// there is one, and waits until they have it.
pub async fn hand_over(
    groups: Vec<Arc<Group>>,
    max_lag: Duration,
    wanted: &(dyn Fn(NodeId) -> bool + Sync),
) {
    let hand_over = |group: Arc<Group>| async move {
        if group.leader_epoch().is_none() {
            return;
        }
        let in_sync = group.in_sync(max_lag);
        let mut others = group.progress();
        others.retain(|m| m.replica != group.replica && in_sync.contains(&m.replica));
        others.retain(|m| wanted(m.node));
        others.sort_by_key(|m| m.lag_entries);
        let wait = Duration::from_millis(LEADER_HANDOVER_WAIT_MS);
        for other in others {
            match group.transfer_leader(other.replica, wait / 2).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(group = %group.id, to = other.node, %error, "a leadership was not handed over");
                }
            }
        }
    };
    let all = join_all(groups.into_iter().map(hand_over));
    let wait = Duration::from_millis(LEADER_HANDOVER_WAIT_MS);
    if tokio::time::timeout(wait, all).await.is_err() {
        tracing::warn!("some leaderships were not handed over in time");
    }
}
