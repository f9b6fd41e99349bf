//! Which brokers are alive: when each was last heard of. Not replicated: a controller that takes over
//! gives every unfenced broker a fresh session.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_proto::ids::NodeId;
use ottla_proto::metadata::Image;
use tokio::time::Instant;

pub struct Sessions {
    timeout: Duration,
    /// The leader epoch of this controller that they are of.
    leader_epoch: Option<i32>,
    /// Broker epoch and time of the last sign of life. Entries are of registered brokers only.
    last: BTreeMap<NodeId, (i64, Instant)>,
    /// Since when this controller has known that a broker is gone.
    gone: BTreeMap<NodeId, Instant>,
}

impl Sessions {
    /// `timeout` is `broker.session.timeout.ms`.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            leader_epoch: None,
            last: BTreeMap::new(),
            gone: BTreeMap::new(),
        }
    }

    /// A controller's start: what an earlier one saw is not known. Nothing happens if it is this one.
    pub fn activate(&mut self, leader_epoch: i32, image: &Image, now: Instant) {
        if self.leader_epoch != Some(leader_epoch) {
            self.leader_epoch = Some(leader_epoch);
            let unfenced = image.brokers().filter(|broker| !broker.fenced);
            self.last = unfenced.map(|b| (b.id, (b.epoch, now))).collect();
            self.gone.clear();
        }
    }

    /// A broker was heard of. Its epoch must be that of its registration.
    pub fn touch(&mut self, id: NodeId, epoch: i64, now: Instant) {
        self.last.insert(id, (epoch, now));
    }

    pub fn remove(&mut self, id: NodeId) {
        self.last.remove(&id);
    }

    /// Brokers that have been fenced and without a session for so long.
    pub fn gone_for(&mut self, after: Duration, image: &Image, now: Instant) -> BTreeSet<NodeId> {
        let before = std::mem::take(&mut self.gone);
        let gone = image
            .brokers()
            .filter(|b| b.fenced && !self.is_alive(b.id, b.epoch, now));
        let since = |id: NodeId| before.get(&id).copied().unwrap_or(now);
        self.gone = gone.map(|b| (b.id, since(b.id))).collect();
        let long = |since: &Instant| now.saturating_duration_since(*since) >= after;
        let gone = self.gone.iter().filter(|(_, since)| long(since));
        gone.map(|(id, _)| *id).collect()
    }

    pub fn is_alive(&self, id: NodeId, epoch: i64, now: Instant) -> bool {
        let last = self
            .last
            .get(&id)
            .filter(|(of_epoch, _)| *of_epoch == epoch);
        last.is_some_and(|(_, last)| now.saturating_duration_since(*last) < self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ClusterImage;

    #[test]
    fn sessions_end_and_belong_to_one_epoch() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut sessions = Sessions::new(Duration::from_millis(100));
        assert!(!sessions.is_alive(1, 5, start));
        sessions.touch(1, 5, start);
        assert!(sessions.is_alive(1, 5, after(99)));
        assert!(!sessions.is_alive(1, 4, after(99)));
        assert!(!sessions.is_alive(1, 5, after(100)));
        sessions.touch(1, 5, after(100));
        assert!(sessions.is_alive(1, 5, after(150)));
        sessions.remove(1);
        assert!(!sessions.is_alive(1, 5, after(150)));
    }

    #[test]
    fn who_is_gone_for_long() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut cluster = ClusterImage::with_brokers(2);
        let mut sessions = Sessions::new(Duration::from_millis(100));
        sessions.activate(1, &cluster.image(), start);
        let long = Duration::from_millis(1000);
        let none = BTreeSet::new();
        assert_eq!(sessions.gone_for(long, &cluster.image(), after(500)), none);
        cluster.fence(2);
        let image = cluster.image();
        assert_eq!(sessions.gone_for(long, &image, after(600)), none);
        assert_eq!(sessions.gone_for(long, &image, after(1599)), none);
        assert_eq!(sessions.gone_for(long, &image, after(1600)), [2].into());
        // A new controller does not know since when.
        sessions.activate(2, &image, after(2000));
        assert_eq!(sessions.gone_for(long, &image, after(2000)), none);
        // Who comes back is not gone, fenced as it still is.
        let epoch = image.broker(2).unwrap().epoch;
        sessions.touch(2, epoch, after(3000));
        assert_eq!(sessions.gone_for(long, &image, after(3010)), none);
        assert_eq!(sessions.gone_for(long, &image, after(3200)), none);
    }

    #[test]
    fn a_new_controller_trusts_unfenced_brokers_at_first() {
        let now = Instant::now();
        let mut cluster = ClusterImage::with_brokers(2);
        cluster.fence(2);
        let image = cluster.image();
        let mut sessions = Sessions::new(Duration::from_millis(100));
        sessions.activate(1, &image, now);
        let alive = |id| sessions.is_alive(id, image.broker(id).unwrap().epoch, now);
        assert_eq!((alive(1), alive(2)), (true, false));
        let later = now + Duration::from_millis(500);
        sessions.activate(1, &image, later);
        assert!(!sessions.is_alive(1, 0, later));
        sessions.activate(2, &image, later);
        assert!(sessions.is_alive(1, 0, later));
    }
}
