//! Hands groups to their preferred replicas: on request (`ElectLeaders`), and by itself where
//! `auto.leader.rebalance.enable` says so, once the preferred replica has been in sync for a while. A
//! group's partitions have one leader, and move together. A broker that is drained leads nothing that another
//! can lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::balance::is_drained;
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::{
    LEADER_HANDOVER_WAIT_MS, PREFERRED_LAG_MS, PREFERRED_LOOK_MS, PREFERRED_STEADY_MS,
};
use ottla_proto::metadata::Image;
use ottla_raft::{Group, Groups, MembershipError};
use tokio::time::Instant;

use crate::leaderships;
use crate::metadata::Metadata;

pub struct Preferred {
    pub metadata: Arc<Metadata>,
    pub groups: Arc<Groups>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    #[error("broker {0} is not close enough behind the leader")]
    NotInSync(NodeId),
    #[error(transparent)]
    Group(#[from] MembershipError),
}

/// Hands the group to the broker's replica, which follows closely, and waits until it leads.
pub async fn hand_over(image: &Image, group: &Group, to: NodeId) -> Result<(), HandOverError> {
    let replica = close_follower(image, group, to).ok_or(HandOverError::NotInSync(to))?;
    let wait = Duration::from_millis(LEADER_HANDOVER_WAIT_MS);
    Ok(group.transfer_leader(replica, wait).await?)
}

/// The replica of an active broker that votes, answers, and has had all there was a moment ago.
fn close_follower(image: &Image, group: &Group, broker: NodeId) -> Option<u64> {
    let broker = image.broker(broker).filter(|broker| broker.is_active())?;
    let max_lag = Duration::from_millis(PREFERRED_LAG_MS);
    let mut close = group.in_sync(max_lag).into_iter();
    close.find(|replica| *replica == broker.replica_id())
}

/// Since when a group's preferred replica has been close behind this leader, and in which epoch of it.
type Since = BTreeMap<GroupId, (i32, Instant)>;

impl Preferred {
    /// Looks for ever.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(PREFERRED_LOOK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut since, mut checked) = (Since::new(), Instant::now());
        loop {
            ticks.tick().await;
            let image = self.metadata.current();
            let now = Instant::now();
            note(&mut since, self.close(&image), now);
            let replication = &self.metadata.config().replication;
            if replication.drain {
                let max_lag = Duration::from_millis(PREFERRED_LAG_MS);
                let wanted = |node| !is_drained(&image, node);
                leaderships::hand_over(self.groups.all(), max_lag, &wanted).await;
                continue;
            }
            let interval = Duration::from_secs(replication.leader_check_interval_s.into());
            if now < checked + interval {
                continue;
            }
            checked = now;
            if replication.leader_rebalance {
                for id in steady(&since, now) {
                    self.give_back(&image, id).await;
                }
            }
        }
    }

    /// Groups that this broker leads in place of their preferred replica, which follows closely.
    fn close(&self, image: &Image) -> Vec<(GroupId, i32)> {
        let groups = image.groups().filter_map(|known| {
            let group = self.groups.get(known.id)?;
            let epoch = group.leader_epoch()?;
            let preferred = known.members[0];
            let is_other = preferred != group.node() && !is_drained(image, preferred);
            let is_close = is_other && close_follower(image, &group, preferred).is_some();
            is_close.then_some((known.id, epoch))
        });
        groups.collect()
    }

    async fn give_back(&self, image: &Image, id: GroupId) {
        let (Some(known), Some(group)) = (image.group(id), self.groups.get(id)) else {
            return;
        };
        let to = known.members[0];
        match hand_over(image, &group, to).await {
            Ok(()) => tracing::info!(group = %id, to, "handed over to the preferred replica"),
            Err(error) => {
                tracing::warn!(group = %id, to, %error, "the preferred replica does not lead");
            }
        }
    }
}

/// A group that is not among `close` begins anew when it is again, and so does one with a new leader epoch.
fn note(since: &mut Since, close: Vec<(GroupId, i32)>, now: Instant) {
    let before = std::mem::take(since);
    let noted = close.into_iter().map(|(id, epoch)| {
        let known = before.get(&id).filter(|(known, _)| *known == epoch);
        (id, (epoch, known.map_or(now, |(_, at)| *at)))
    });
    *since = noted.collect();
}

fn steady(since: &Since, now: Instant) -> Vec<GroupId> {
    let long = Duration::from_millis(PREFERRED_STEADY_MS);
    let steady = since.iter().filter(|(_, (_, at))| now - *at >= long);
    steady.map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stays_close_in_one_epoch_is_steady() {
        let (one, two) = (GroupId(1), GroupId(2));
        let (began, mut since) = (Instant::now(), Since::new());
        let at = |looks: u64| began + Duration::from_millis(looks * PREFERRED_STEADY_MS / 4);
        for (look, close, expected) in [
            (0, vec![(one, 5), (two, 7)], vec![]),
            (1, vec![(one, 5)], vec![]),
            (2, vec![(one, 5), (two, 7)], vec![]),
            (4, vec![(one, 5), (two, 7)], vec![one]),
            (5, vec![(one, 6), (two, 7)], vec![]),
            (6, vec![(one, 6), (two, 7)], vec![two]),
            (7, vec![], vec![]),
        ] {
            note(&mut since, close, at(look));
            assert_eq!(steady(&since, at(look)), expected, "look {look}");
        }
    }
}
