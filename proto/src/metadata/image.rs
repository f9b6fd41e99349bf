//! The image: what all metadata records up to one offset amount to. It is immutable once published,
//! shared as `Arc<Image>`, and derived from its predecessor by `replay_all`. A partition costs
//! about 60 bytes.
use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::SharedMap;
use super::records::SecurityProtocol;
use crate::ids::{GroupId, NodeId, PartitionId, replica_id};

/// The metadata quorum's own topic. It is in no image, and no client may create it.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Topics that Kafka marks as internal: clients list them apart and applications do not write them.
pub fn is_internal_topic(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state")
}

/// Explicit configs of one resource; an absent key has its default.
pub type ConfigMap = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: Uuid,
    /// By partition index.
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub id: PartitionId,
    pub group: GroupId,
}

/// What a partition id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionHome {
    pub topic_id: Uuid,
    pub index: i32,
}

/// A replication group: its members replicate every partition that is placed in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    /// Voters, or those that are to be; the first is the preferred leader.
    pub members: Arc<[NodeId]>,
    /// The members before the move that is going on, to go back to; empty if there is none.
    pub former: Arc<[NodeId]>,
    /// No members any more, but they may still vote: the move is not done.
    pub leaving: Arc<[NodeId]>,
    /// The replicas that it began with.
    pub founders: Arc<[u64]>,
    /// The leader that was last reported; `None` until then.
    pub leader: Option<NodeId>,
    /// Raft's term, and the leader epoch of all its partitions.
    pub leader_epoch: i32,
    /// In-sync members, as the leader last reported them.
    pub in_sync: Arc<[NodeId]>,
    /// Partitions placed in the group.
    pub partitions: u32,
    /// A person chose the members.
    pub by_hand: bool,
}

impl Group {
    /// Whether the voters may be others than the members.
    pub fn is_moving(&self) -> bool {
        !self.former.is_empty() || !self.leaving.is_empty()
    }

    /// Nodes that have replicas, or are about to: the members, and those that leave.
    pub fn replicas(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().chain(self.leaving.iter()).copied()
    }

    pub fn has_replica(&self, id: NodeId) -> bool {
        self.replicas().any(|replica| replica == id)
    }

    /// Members that the group did not have before it moves.
    pub fn adding(&self) -> impl Iterator<Item = NodeId> {
        let is_new = |id: &NodeId| !self.former.is_empty() && !self.former.contains(id);
        self.members.iter().copied().filter(is_new)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: NodeId,
    pub epoch: i64,
    /// Drawn anew by each start of the broker's process.
    pub incarnation_id: Uuid,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    pub log_dirs: Vec<Uuid>,
    /// Clients are not told of a fenced broker, and it is not placed on.
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
}

impl Broker {
    /// Of its present data folder, in every replication group.
    pub fn replica_id(&self) -> u64 {
        let directory_id = self.log_dirs.first().copied().unwrap_or_default();
        replica_id(self.id, directory_id)
    }

    /// May be given partitions and lead.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security_protocol: SecurityProtocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(super) applied_offset: i64,
    pub(super) cluster_id: Option<Arc<str>>,
    pub(super) topics: SharedMap<Arc<str>, Arc<Topic>>,
    pub(super) topic_names: SharedMap<Uuid, Arc<str>>,
    pub(super) partitions: SharedMap<PartitionId, PartitionHome>,
    pub(super) groups: SharedMap<GroupId, Group>,
    pub(super) brokers: SharedMap<NodeId, Arc<Broker>>,
    pub(super) topic_configs: SharedMap<Arc<str>, Arc<ConfigMap>>,
    pub(super) broker_configs: SharedMap<Arc<str>, Arc<ConfigMap>>,
    pub(super) features: SharedMap<String, i16>,
    pub(super) next_partition_id: u64,
    pub(super) next_group_id: u32,
    pub(super) next_broker_epoch: i64,
    pub(super) next_producer_id: i64,
}

impl Default for Image {
    /// An empty log's image. Partition 0 and group 0 are the metadata quorum's own.
    fn default() -> Self {
        Self {
            applied_offset: -1,
            cluster_id: None,
            topics: SharedMap::default(),
            topic_names: SharedMap::default(),
            partitions: SharedMap::default(),
            groups: SharedMap::default(),
            brokers: SharedMap::default(),
            topic_configs: SharedMap::default(),
            broker_configs: SharedMap::default(),
            features: SharedMap::default(),
            next_partition_id: 1,
            next_group_id: 1,
            next_broker_epoch: 0,
            next_producer_id: 0,
        }
    }
}

static NO_CONFIGS: ConfigMap = ConfigMap::new();

impl Image {
    /// Offset of the last record that was replayed; -1 before the first.
    pub fn applied_offset(&self) -> i64 {
        self.applied_offset
    }

    /// `None` until the cluster is bootstrapped.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topic(self.topic_names.get(&id)?)
    }

    /// Topics in name order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// Topics in name order, from the first whose name is `from` or greater.
    pub fn topics_from(&self, from: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.range_from(from).map(|(_, topic)| topic)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub fn partition(&self, name: &str, index: i32) -> Option<&Partition> {
        let index = usize::try_from(index).ok()?;
        self.topic(name)?.partitions.get(index)
    }

    /// The topic and the partition index that a partition id stands for.
    pub fn partition_by_id(&self, id: PartitionId) -> Option<(&Arc<Topic>, i32)> {
        let home = self.partitions.get(&id)?;
        Some((self.topic_by_id(home.topic_id)?, home.index))
    }

    /// Every partition of the cluster, in partition id order.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, PartitionHome)> {
        self.partitions.iter().map(|(id, home)| (*id, *home))
    }

    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// `true`: the id was given to a partition that is gone. `false` for one still to come, which
    /// an image that lags must not take for removed.
    pub fn is_removed_partition(&self, id: PartitionId) -> bool {
        id.0 != 0 && id.0 < self.next_partition_id && !self.partitions.contains_key(&id)
    }

    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// Groups in id order.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub fn broker(&self, id: NodeId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// A broker that is there: registered, and not fenced.
    pub fn live_broker(&self, id: NodeId) -> Option<&Arc<Broker>> {
        self.broker(id).filter(|broker| !broker.fenced)
    }

    /// Registered brokers, fenced ones too, in id order.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// Explicit configs of a topic; empty if it has none.
    pub fn topic_configs(&self, name: &str) -> &ConfigMap {
        self.topic_configs.get(name).map_or(&NO_CONFIGS, |c| c)
    }

    /// Dynamic configs of one broker; `None` asks for the defaults of all brokers.
    pub fn broker_configs(&self, id: Option<NodeId>) -> &ConfigMap {
        let name = id.map(|id| id.to_string()).unwrap_or_default();
        self.broker_configs.get(&*name).map_or(&NO_CONFIGS, |c| c)
    }

    /// The finalized level of a feature; 0 if it is off.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Finalized features in name order; none has level 0.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features
            .iter()
            .map(|(name, level)| (name.as_str(), *level))
    }

    /// Greater than every partition id that was ever given out.
    pub fn next_partition_id(&self) -> PartitionId {
        PartitionId(self.next_partition_id)
    }

    /// Greater than every group id that was ever given out.
    pub fn next_group_id(&self) -> GroupId {
        GroupId(self.next_group_id)
    }

    /// Greater than every broker epoch so far.
    pub fn next_broker_epoch(&self) -> i64 {
        self.next_broker_epoch
    }

    /// First producer id that no broker has been given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}
