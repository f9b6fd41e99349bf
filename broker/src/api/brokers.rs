//! What clients are told of brokers and of who leads a partition: Metadata, DescribeTopicPartitions
//! and DescribeCluster say the same.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;
use ottla_controller::topic_name;
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::metadata::{Broker, Group, Image, Listener, Topic};
use tokio::time::Instant;
use uuid::Uuid;

use super::errors::NONE;
use crate::leaderships;
use crate::services::Services;
use crate::topics::Replica;

/// Kafka's number for "nobody", where a leader or a controller is named.
pub(super) const NOBODY: NodeId = -1;
/// Authorized operations where nobody asked for them.
pub(super) const NOT_ASKED: i32 = i32::MIN;
/// The bits of read, write, create, delete, alter, describe, describe_configs and alter_configs
/// (KIP-430): without an authorizer everyone may do everything.
pub(super) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The bits of create, alter, describe, cluster_action, describe_configs, alter_configs and
/// idempotent_write.
pub(super) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

const fn bits(operations: &[u8]) -> i32 {
    let (mut set, mut i) = (0, 0);
    while i < operations.len() {
        set |= 1 << operations[i];
        i += 1;
    }
    set
}

/// What a client is told of one partition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    pub error_code: i16,
    pub leader: BrokerId,
    pub leader_epoch: i32,
    pub replicas: Vec<BrokerId>,
    pub in_sync: Vec<BrokerId>,
    pub offline: Vec<BrokerId>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Leader {
    id: Option<NodeId>,
    epoch: i32,
}

/// One moment's image, seen by clients of one listener.
pub(super) struct ClusterView<'a> {
    pub image: Arc<Image>,
    services: &'a Services,
    listener: &'a str,
    /// The error for a leader without this listener: not every version has LISTENER_NOT_FOUND.
    no_listener: ResponseError,
    leaders: HashMap<GroupId, Leader>,
    placements: HashMap<GroupId, Placement>,
}

impl<'a> ClusterView<'a> {
    pub fn new(
        services: &'a Services,
        listener: &'a str,
        no_listener: ResponseError,
    ) -> ClusterView<'a> {
        let image = services.metadata.current();
        ClusterView {
            image,
            services,
            listener,
            no_listener,
            leaders: HashMap::new(),
            placements: HashMap::new(),
        }
    }

    /// Where these partitions of the topic are, by index.
    pub fn placements(&mut self, topic: &Topic, range: Range<usize>) -> Vec<(i32, Placement)> {
        let served = self.services.topics.by_id(topic.id).ok();
        let partitions = topic
            .partitions
            .iter()
            .enumerate()
            .skip(range.start)
            .take(range.len());
        let placed = partitions.map(|(index, partition)| {
            let mut placement = self.placement(partition.group);
            let is_here = served
                .as_ref()
                .is_some_and(|s| s.replica(index as i32).is_ok());
            if !is_here && placement.leader.0 == self.services.metadata.node_id() {
                placement.leader = BrokerId(NOBODY);
                placement.error_code = ResponseError::LeaderNotAvailable.code();
            }
            (index as i32, placement)
        });
        placed.collect()
    }

    fn placement(&mut self, id: GroupId) -> Placement {
        if let Some(placement) = self.placements.get(&id) {
            return placement.clone();
        }
        let leader = self.leader(id);
        let placement = match self.image.group(id) {
            Some(group) => place(&self.image, group, leader, self.listener, self.no_listener),
            None => unreachable!("the image places partitions only in groups that it has"),
        };
        self.placements.insert(id, placement.clone());
        placement
    }

    fn leader(&mut self, id: GroupId) -> Leader {
        if let Some(leader) = self.leaders.get(&id) {
            return *leader;
        }
        let own_epoch = self
            .services
            .topics
            .groups()
            .get(id)
            .and_then(|group| group.leader_epoch());
        let group = self.image.group(id);
        let leader =
            group.map(|group| leader_of(group, self.services.metadata.node_id(), own_epoch));
        let leader = leader.unwrap_or(Leader { id: None, epoch: 0 });
        self.leaders.insert(id, leader);
        leader
    }

    /// Whether clients can go to work on the first `partitions` of a topic. A topic that is gone has
    /// nothing left to wait for.
    fn is_served(&mut self, topic: Uuid, partitions: usize) -> bool {
        let Some(topic) = self.image.topic_by_id(topic).cloned() else {
            return true;
        };
        let own_id = self.services.metadata.node_id();
        let served = self.services.topics.by_id(topic.id).ok();
        // A controller that is no broker serves none.
        if served.is_none() && self.image.broker(own_id).is_some() {
            return false;
        }
        let is_here = |index| served.as_ref().is_some_and(|s| s.replica(index).is_ok());
        let mut first = (0..).zip(topic.partitions.iter().take(partitions));
        let all_led = first.all(|(index, partition)| match self.leader(partition.group).id {
            None => false,
            Some(leader) => leader != own_id || is_here(index),
        });
        all_led && topic.partitions.len() >= partitions
    }
}

/// Whether fewer than `min_insync_replicas` replicas are there. As in Kafka 4, no more are asked for
/// than the partition has.
pub(super) fn lacks_replicas(
    services: &Services,
    replica: &Replica,
    min_insync_replicas: usize,
) -> bool {
    let image = services.metadata.current();
    let Some(group) = image.group(replica.group.id) else {
        return true;
    };
    // A leader that serves has a majority behind it.
    let asked = min_insync_replicas.min(group.members.len());
    if asked <= group.members.len() / 2 + 1 {
        return false;
    }
    let config = services.metadata.config();
    let max_lag = Duration::from_millis(config.replication.lag_time_max_ms);
    leaderships::in_sync(&image, &replica.group, max_lag).len() < asked
}

/// This broker knows best whether it leads; of others it knows what they reported. The only member
/// of a group needs no report.
fn leader_of(group: &Group, own_id: NodeId, own_epoch: Option<i32>) -> Leader {
    if let Some(epoch) = own_epoch {
        return Leader {
            id: Some(own_id),
            epoch,
        };
    }
    let is_alone = group.members.len() == 1 && !group.is_moving();
    let alone = || is_alone.then(|| group.members[0]);
    let id = group.leader.or_else(alone).filter(|id| *id != own_id);
    Leader {
        id,
        epoch: group.leader_epoch.max(0),
    }
}

fn place(
    image: &Image,
    group: &Group,
    leader: Leader,
    listener: &str,
    no_listener: ResponseError,
) -> Placement {
    let alive = |id: NodeId| image.live_broker(id);
    let error = match leader.id.map(alive) {
        None | Some(None) => Some(ResponseError::LeaderNotAvailable),
        Some(Some(broker)) if endpoint(broker, listener).is_none() => Some(no_listener),
        Some(Some(_)) => None,
    };
    let named = if error.is_none() { leader.id } else { None };
    let is_offline = |id: &NodeId| alive(*id).is_none();
    // Until a leader has said who follows it, those that are alive are thought to.
    let is_in_sync =
        |id: &NodeId| !is_offline(id) && (group.in_sync.is_empty() || group.in_sync.contains(id));
    let ids = |filter: &dyn Fn(&NodeId) -> bool| {
        let replicas = group.replicas().filter(|id| filter(id));
        replicas.map(BrokerId).collect()
    };
    Placement {
        error_code: error.map_or(NONE, |e| e.code()),
        leader: BrokerId(named.unwrap_or(NOBODY)),
        leader_epoch: leader.epoch,
        replicas: ids(&|_| true),
        in_sync: ids(&is_in_sync),
        offline: ids(&is_offline),
    }
}

/// Where clients of this listener reach the broker.
fn endpoint<'b>(broker: &'b Broker, listener: &str) -> Option<&'b Listener> {
    broker
        .listeners
        .iter()
        .find(|l| l.name.eq_ignore_ascii_case(listener))
}

/// One broker as clients are told of it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub id: BrokerId,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
    pub fenced: bool,
}

/// The brokers that have the listener, in id order.
pub(super) fn endpoints(image: &Image, listener: &str, with_fenced: bool) -> Vec<Endpoint> {
    let told = image
        .brokers()
        .filter(|broker| with_fenced || !broker.fenced);
    let endpoint = |broker: &Arc<Broker>| {
        let listener = endpoint(broker, listener)?;
        Some(Endpoint {
            id: BrokerId(broker.id),
            host: StrBytes::from_string(listener.host.clone()),
            port: listener.port.into(),
            rack: broker.rack.clone().map(StrBytes::from_string),
            fenced: broker.fenced,
        })
    };
    told.filter_map(endpoint).collect()
}

/// Where to send what only the controller decides: the metadata quorum's leader, or while nobody knows it,
/// this broker, which will know it soon. Clients keep the answer, so it is nobody of whom this one has not heard.
pub(super) fn controller_id(services: &Services, image: &Image) -> BrokerId {
    let metadata = &services.metadata;
    BrokerId(controller_of(
        image,
        metadata.leader_node(),
        metadata.node_id(),
    ))
}

fn controller_of(image: &Image, leader: Option<NodeId>, own: NodeId) -> NodeId {
    let alive = |id: &NodeId| image.live_broker(*id).is_some();
    let any = || {
        image
            .brokers()
            .find(|broker| !broker.fenced)
            .map(|broker| broker.id)
    };
    let own = || Some(own).filter(alive);
    leader
        .filter(alive)
        .or_else(own)
        .or_else(any)
        .unwrap_or(NOBODY)
}

pub(super) fn cluster_id(image: &Image) -> StrBytes {
    StrBytes::from_string(image.cluster_id().unwrap_or_default().to_owned())
}

/// Waits until clients can go to work on new topics, given by id and number of partitions, but no
/// longer than to the deadline. Answers those that are not there yet.
pub(super) async fn wait_until_served(
    services: &Services,
    topics: Vec<(Uuid, usize)>,
    deadline: Instant,
) -> Vec<Uuid> {
    // Partitions begin to be served here, or the image tells of a new leader, here or elsewhere.
    let (mut served, mut image) = (services.topics.changes(), services.metadata.watch());
    let mut missing = topics;
    let look = |missing: &mut Vec<(Uuid, usize)>| {
        let mut view = ClusterView::new(services, "", ResponseError::ListenerNotFound);
        missing.retain(|(id, partitions)| !view.is_served(*id, *partitions));
    };
    look(&mut missing);
    while !missing.is_empty() {
        let is_over = tokio::select! {
            _ = served.changed() => false,
            _ = image.changed() => false,
            _ = tokio::time::sleep_until(deadline) => true,
        };
        look(&mut missing);
        if is_over {
            break;
        }
    }
    missing.into_iter().map(|(id, _)| id).collect()
}

/// What to call a topic that does not exist: it may be that none could have the name.
pub(super) fn unknown_topic(name: &str) -> ResponseError {
    match topic_name::check(name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(_) => ResponseError::InvalidTopicException,
    }
}

/// When a request's `timeout_ms` is over.
pub(super) fn deadline(timeout_ms: i32) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms.max(0) as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ottla_proto::metadata::{MetadataRecord, records, restore};

    /// Broker ids, and which of them are fenced. Each has a listener PLAINTEXT on port 9000 + id.
    pub(in crate::api) fn image(brokers: &[(NodeId, bool)]) -> Arc<Image> {
        let registration = |(id, fenced): &(NodeId, bool)| {
            let listener = records::Listener {
                name: "PLAINTEXT".to_owned(),
                host: "example".to_owned(),
                port: 9000 + *id as u32,
                security_protocol: records::SecurityProtocol::Plaintext.into(),
            };
            MetadataRecord::RegisterBroker(records::RegisterBroker {
                broker_id: *id,
                broker_epoch: (*id).into(),
                incarnation_id: Some(Uuid::from_u128(1).into()),
                rack: "r".to_owned(),
                listeners: vec![listener],
                fenced: *fenced,
                in_controlled_shutdown: false,
                log_dirs: vec![],
            })
        };
        let records: Vec<_> = brokers.iter().map(registration).collect();
        restore(0, &records).unwrap()
    }

    fn group(members: &[NodeId], leader: Option<NodeId>) -> Group {
        Group {
            id: GroupId(1),
            members: members.into(),
            founders: [].into(),
            former: [].into(),
            leaving: [].into(),
            leader,
            leader_epoch: 7,
            in_sync: [].into(),
            partitions: 1,
            by_hand: false,
        }
    }

    #[test]
    fn operations_are_kafkas_bits() {
        assert_eq!(TOPIC_OPERATIONS, 0b1101_1111_1000);
        assert_eq!(CLUSTER_OPERATIONS, 0b1_1111_1010_0000);
    }

    #[test]
    fn a_name_that_no_topic_can_have_is_invalid() {
        for name in ["a", "...", "__consumer_offsets", "A-9"] {
            assert_eq!(
                unknown_topic(name),
                ResponseError::UnknownTopicOrPartition,
                "{name}"
            );
        }
        for name in ["", ".", "..", "a b", "\u{e9}", &"a".repeat(250)] {
            assert_eq!(
                unknown_topic(name),
                ResponseError::InvalidTopicException,
                "{name}"
            );
        }
    }

    #[test]
    fn its_own_word_on_leadership_counts_most() {
        let leader = |members: &[NodeId], reported, own_epoch| {
            leader_of(&group(members, reported), 1, own_epoch)
        };
        let is = |id, epoch| Leader { id, epoch };
        assert_eq!(leader(&[1], None, Some(3)), is(Some(1), 3));
        assert_eq!(leader(&[1, 2, 3], Some(2), Some(9)), is(Some(1), 9));
        // It does not lead, or not yet, whatever was reported.
        assert_eq!(leader(&[1], None, None), is(None, 7));
        assert_eq!(leader(&[1, 2, 3], Some(1), None), is(None, 7));
        assert_eq!(leader(&[1, 2, 3], Some(2), None), is(Some(2), 7));
        assert_eq!(leader(&[2], None, None), is(Some(2), 7));
        assert_eq!(leader(&[2, 3, 4], None, None), is(None, 7));
        assert_eq!(
            leader_of(
                &Group {
                    leader_epoch: -1,
                    ..group(&[2], None)
                },
                1,
                None
            ),
            is(Some(2), 0)
        );
    }

    #[test]
    fn a_leader_that_cannot_be_reached_is_not_named() {
        let image = image(&[(1, false), (2, true), (3, false)]);
        let placed = |id, listener| {
            let leader = Leader { id, epoch: 5 };
            place(
                &image,
                &group(&[1, 2, 4], id),
                leader,
                listener,
                ResponseError::ListenerNotFound,
            )
        };
        let fine = placed(Some(1), "plaintext");
        assert_eq!(
            (fine.error_code, fine.leader.0, fine.leader_epoch),
            (NONE, 1, 5)
        );
        assert_eq!(fine.replicas, [1, 2, 4].map(BrokerId));
        assert_eq!(
            (fine.in_sync, fine.offline),
            (vec![BrokerId(1)], [2, 4].map(BrokerId).to_vec())
        );
        for (leader, listener, error) in [
            (Some(1), "SSL", ResponseError::ListenerNotFound),
            (Some(2), "PLAINTEXT", ResponseError::LeaderNotAvailable),
            (Some(4), "PLAINTEXT", ResponseError::LeaderNotAvailable),
            (None, "PLAINTEXT", ResponseError::LeaderNotAvailable),
        ] {
            let placement = placed(leader, listener);
            assert_eq!(
                (placement.error_code, placement.leader.0),
                (error.code(), NOBODY)
            );
            assert_eq!(placement.leader_epoch, 5);
        }
    }

    #[test]
    fn tells_of_brokers_that_are_alive() {
        let image = image(&[(1, true), (2, false), (3, false)]);
        let ids = |with_fenced| -> Vec<_> {
            endpoints(&image, "PLAINTEXT", with_fenced)
                .iter()
                .map(|e| (e.id.0, e.port, e.fenced))
                .collect()
        };
        assert_eq!(ids(false), [(2, 9002, false), (3, 9003, false)]);
        assert_eq!(
            ids(true),
            [(1, 9001, true), (2, 9002, false), (3, 9003, false)]
        );
        assert!(endpoints(&image, "SSL", true).is_empty());
        assert_eq!(controller_of(&image, Some(2), 3), 2);
        assert_eq!(controller_of(&image, Some(1), 3), 3);
        assert_eq!(controller_of(&image, None, 3), 3);
        assert_eq!(controller_of(&image, None, 1), 2);
        assert_eq!(controller_of(&Image::default(), Some(1), 1), NOBODY);
    }
}
