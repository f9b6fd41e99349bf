//! What the tests of decisions share, and random sequences of decisions.
use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_proto::config::ServerConfig;
use ottla_proto::ids::{GroupId, METADATA_GROUP, NodeId, PartitionId};
use ottla_proto::metadata::{
    Image, Listener, MetadataRecord, decode, encode, records, replay_all, restore, snapshot,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::alter_configs::{self, AlterConfigs, Change, Resource};
use crate::brokers::{self, Heartbeat, RegisterBroker};
use crate::create_partitions::{self, CreatePartitions, MorePartitions};
use crate::create_topics::{self, CreateTopics, NewTopic};
use crate::delete_topics::{self, TopicKey};
use crate::leaders::{self, LeaderReport};
use crate::placement::Placer;
use crate::reassignments::{self, AlterReassignments};
use crate::{Decision, producer_ids};

/// A server with default settings and these on top.
pub fn server(overrides: &[&str]) -> ServerConfig {
    let overrides: Vec<_> = overrides.iter().map(|o| (*o).to_owned()).collect();
    ServerConfig::load(None, [], &overrides).unwrap().0
}

/// An image and the whole history behind it.
pub struct ClusterImage {
    image: Arc<Image>,
    history: Vec<MetadataRecord>,
    next_topic_id: u128,
}

impl Default for ClusterImage {
    /// Cluster `c` without brokers and features.
    fn default() -> Self {
        let mut cluster = Self {
            image: Arc::default(),
            history: Vec::new(),
            next_topic_id: 1,
        };
        let cluster_id = "c".to_owned();
        cluster.replay(vec![MetadataRecord::Cluster(records::Cluster {
            cluster_id,
        })]);
        cluster
    }
}

impl ClusterImage {
    /// Brokers 1 to `count`, live, with epochs from 0.
    pub fn with_brokers(count: i32) -> Self {
        let mut cluster = Self::default();
        for id in 1..=count {
            cluster.add_broker(id, None);
        }
        cluster
    }

    pub fn image(&self) -> Arc<Image> {
        self.image.clone()
    }

    /// A live broker.
    pub fn add_broker(&mut self, id: NodeId, rack: Option<&str>) {
        let decision = brokers::register(&self.image, false, &registration(id, rack, 1));
        let epoch = self.apply(decision).unwrap();
        let heartbeat = Heartbeat {
            broker_id: id,
            broker_epoch: epoch,
            ..Heartbeat::default()
        };
        let decision = brokers::heartbeat(&self.image, &heartbeat);
        assert!(!self.apply(decision).unwrap().is_fenced);
    }

    pub fn fence(&mut self, id: NodeId) {
        let decision = brokers::fence_expired(&self.image, &|broker, _| broker != id);
        assert_eq!(self.apply(decision), [id]);
    }

    pub fn create(&mut self, name: &str, num_partitions: i32, replication_factor: i16) {
        let topic = NewTopic {
            name: name.to_owned(),
            num_partitions,
            replication_factor,
            ..NewTopic::default()
        };
        self.create_topic(topic);
    }

    pub fn create_on(&mut self, name: &str, partitions: &[&[NodeId]]) {
        let topic = NewTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..).zip(partitions.iter().map(|p| p.to_vec())).collect(),
            configs: Vec::new(),
        };
        self.create_topic(topic);
    }

    fn create_topic(&mut self, topic: NewTopic) {
        let topics = vec![topic];
        let validate_only = false;
        let reply = self.create_topics(CreateTopics {
            topics,
            validate_only,
        });
        reply[0].1.as_ref().unwrap();
    }

    pub fn create_topics(&mut self, request: CreateTopics) -> create_topics::Reply {
        let mut next = self.next_topic_id;
        let mut new_id = || {
            next += 1;
            Uuid::from_u128(next)
        };
        let decision = create_topics::decide(&self.image, &server(&[]), &request, &mut new_id);
        self.next_topic_id = next;
        self.apply(decision)
    }

    /// Preferred leaders of a topic's partitions.
    pub fn leaders(&self, topic: &str) -> Vec<NodeId> {
        let partitions = self.image.topic(topic).unwrap().partitions.iter();
        partitions
            .map(|p| self.image.group(p.group).unwrap().members[0])
            .collect()
    }

    pub fn apply<R>(&mut self, decision: Decision<R>) -> R {
        self.replay(decision.records);
        decision.reply
    }

    /// Starts again, from an empty log.
    pub fn replace_with(&mut self, records: Vec<MetadataRecord>) {
        self.image = Arc::default();
        self.history.clear();
        self.replay(records);
    }

    fn replay(&mut self, records: Vec<MetadataRecord>) {
        let offset = self.image.applied_offset() + 1;
        self.image = replay_all(&self.image, offset, &records).unwrap();
        self.history.extend(records);
    }
}

pub fn registration(id: NodeId, rack: Option<&str>, incarnation: u128) -> RegisterBroker {
    RegisterBroker {
        cluster_id: "c".to_owned(),
        broker_id: id,
        incarnation_id: Uuid::from_u128(incarnation),
        rack: rack.map(str::to_owned),
        listeners: vec![Listener {
            name: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
            security_protocol: records::SecurityProtocol::Plaintext,
        }],
        log_dirs: vec![Uuid::from_u128((id as u128) << 64 | 7)],
        features: brokers::supported_features(),
    }
}

pub fn members_of(placer: &Placer, id: GroupId) -> Vec<NodeId> {
    placer.members_of(id).unwrap().to_vec()
}

pub fn image_with_topics(names: &[&str]) -> Arc<Image> {
    let record = |(n, name): (u128, &&str)| {
        MetadataRecord::Topic(records::Topic {
            name: (*name).to_owned(),
            topic_id: Some(Uuid::from_u128(n).into()),
        })
    };
    let records: Vec<_> = (1..).zip(names).map(record).collect();
    replay_all(&Arc::default(), 0, &records).unwrap()
}

/// One request of any kind, with few names so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Create(Vec<NewTopic>, bool),
    Grow(String, i32),
    Delete(String),
    Configure(String, Option<String>),
    Register(NodeId, u128, bool),
    Beat(NodeId, bool, bool),
    Fence(NodeId),
    Unregister(NodeId),
    ProducerIds(NodeId),
    Leader(u32, NodeId, i32),
    /// Moves the group with all its partitions, or cancels that.
    Move(u32, Option<Vec<NodeId>>),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[ab][._]?[ab]?",
        1 => Just(String::new()),
        1 => Just("__cluster_metadata".to_owned()),
        1 => Just("é".to_owned()),
    ]
}

fn node() -> impl Strategy<Value = NodeId> {
    -1i32..7
}

fn new_topic() -> impl Strategy<Value = NewTopic> {
    let replicas = prop::collection::vec(node(), 0..4);
    let assigned = prop::collection::vec((-1i32..3, replicas), 0..3);
    (name(), -1i32..9, -1i16..7, assigned, any::<bool>()).prop_map(
        |(name, num_partitions, replication_factor, assignments, manual)| match manual {
            true => NewTopic {
                name,
                num_partitions: -1,
                replication_factor: -1,
                assignments,
                configs: vec![("retention.ms".to_owned(), Some("5".to_owned()))],
            },
            false => NewTopic {
                name,
                num_partitions,
                replication_factor,
                ..NewTopic::default()
            },
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop::option::of("[0-9]{1,3}|soon");
    prop_oneof![
        6 => (prop::collection::vec(new_topic(), 0..4), prop::bool::weighted(0.1))
            .prop_map(|(topics, validate_only)| Step::Create(topics, validate_only)),
        3 => (name(), 0i32..20).prop_map(|(name, count)| Step::Grow(name, count)),
        3 => name().prop_map(Step::Delete),
        3 => (name(), value).prop_map(|(name, value)| Step::Configure(name, value)),
        4 => (node(), 0u128..4, any::<bool>()).prop_map(|(id, n, a)| Step::Register(id, n, a)),
        8 => (node(), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(id, fence, stop)| Step::Beat(id, fence, stop)),
        1 => node().prop_map(Step::Fence),
        1 => node().prop_map(Step::Unregister),
        1 => node().prop_map(Step::ProducerIds),
        3 => (0u32..20, prop::option::of(prop::collection::vec(node(), 0..4)))
            .prop_map(|(group, replicas)| Step::Move(group, replicas)),
        3 => (0u32..20, node(), -1i32..6).prop_map(|(g, id, epoch)| Step::Leader(g, id, epoch)),
    ]
}

impl ClusterImage {
    fn step(&mut self, step: Step) {
        let image = self.image();
        let epoch = |id| image.broker(id).map_or(3, |broker| broker.epoch);
        match step {
            Step::Create(topics, validate_only) => {
                self.create_topics(CreateTopics {
                    topics,
                    validate_only,
                });
            }
            Step::Grow(name, count) => {
                let (topics, validate_only) = (
                    vec![MorePartitions {
                        name,
                        count,
                        assignments: None,
                    }],
                    false,
                );
                let request = CreatePartitions {
                    topics,
                    validate_only,
                };
                self.apply(create_partitions::decide(&image, &request));
            }
            Step::Delete(name) => {
                let keys = [TopicKey::Name(name)];
                self.apply(delete_topics::decide(&image, &server(&[]), &keys));
            }
            Step::Configure(name, value) => {
                let configs = value.map(|value| ("retention.ms".to_owned(), Some(value)));
                let change = Change::Replace(configs.into_iter().collect());
                let (resources, validate_only) = (vec![(Resource::Topic(name), change)], false);
                let request = AlterConfigs {
                    resources,
                    validate_only,
                };
                self.apply(alter_configs::decide(&image, &server(&[]), &request));
            }
            Step::Register(id, incarnation, alive) => {
                let request = registration(id, None, incarnation);
                let _ = self.apply(brokers::register(&image, alive, &request));
            }
            Step::Beat(broker_id, want_fence, want_shut_down) => {
                let broker_epoch = epoch(broker_id);
                let beat = Heartbeat {
                    broker_id,
                    broker_epoch,
                    want_fence,
                    want_shut_down,
                };
                let _ = self.apply(brokers::heartbeat(&image, &beat));
            }
            Step::Fence(id) => {
                self.apply(brokers::fence_expired(&image, &|broker, _| broker != id));
            }
            Step::Unregister(id) => {
                let _ = self.apply(brokers::unregister(&image, id));
            }
            Step::ProducerIds(id) => {
                let _ = self.apply(producer_ids::decide(&image, id, epoch(id)));
            }
            Step::Move(group, replicas) => {
                let mut request = AlterReassignments {
                    allow_factor_change: true,
                    ..AlterReassignments::default()
                };
                for topic in image.topics() {
                    let partitions = (0..).zip(&topic.partitions);
                    let moved = partitions.filter(|(_, p)| p.group == GroupId(group));
                    let moved = moved.map(|(index, _)| (index, replicas.clone()));
                    request
                        .topics
                        .insert(topic.name.to_string(), moved.collect());
                }
                self.apply(reassignments::decide(&image, &request));
            }
            Step::Leader(group, id, leader_epoch) => {
                let (group, leader) = (GroupId(group), Some(id).filter(|id| *id > 0));
                let report = LeaderReport {
                    group,
                    leader,
                    leader_epoch,
                    in_sync: leader.into_iter().collect(),
                    voters: image.group(group).map_or(vec![], |g| g.members.to_vec()),
                };
                let _ = self.apply(leaders::decide(&image, id, epoch(id), &[report]));
            }
        }
    }

    /// What holds for every image that decisions lead to.
    fn check(&self) {
        let image = &self.image;
        for topic in image.topics() {
            assert!(!topic.partitions.is_empty());
            for partition in &topic.partitions {
                let group = image.group(partition.group).unwrap();
                assert_ne!(group.id, METADATA_GROUP);
                assert!(matches!(group.members.len(), 1 | 3 | 5));
            }
        }
        for group in image.groups() {
            let distinct: BTreeSet<_> = group.members.iter().collect();
            assert_eq!(distinct.len(), group.members.len());
            assert!(group.leaving.iter().all(|id| !distinct.contains(id)));
            assert!(group.leader.is_none_or(|id| group.has_replica(id)));
        }
        let normalized: BTreeSet<_> = image.topics().map(|t| t.name.replace('.', "_")).collect();
        assert_eq!(normalized.len(), image.topic_count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_requests_keep_the_image_whole(steps in prop::collection::vec(step(), 0..80)) {
        let mut cluster = ClusterImage::with_brokers(5);
        for step in steps {
            cluster.step(step);
            cluster.check();
        }
        let bytes: Vec<_> = cluster.history.iter().map(encode).collect();
        let decoded: Vec<_> = bytes.iter().map(|b| decode(b).unwrap()).collect();
        let replayed = replay_all(&Arc::default(), 0, &decoded).unwrap();
        prop_assert_eq!(&replayed, &cluster.image);
        let restored = restore(replayed.applied_offset(), &snapshot(&replayed)).unwrap();
        prop_assert_eq!(&restored, &cluster.image);
        let ids = cluster.history.iter().filter_map(|record| match record {
            MetadataRecord::Partition(p) => Some(PartitionId(p.partition_id)),
            _ => None,
        });
        let ids: Vec<_> = ids.collect();
        prop_assert!(ids.is_sorted_by(|a, b| a < b), "partition ids are used once");
    }
}
