//! CreateTopics, and with it the automatic creation of topics (KIP-4, KIP-464, KIP-525).
use std::collections::{BTreeMap, BTreeSet};

use ottla_proto::config::{self, ConfigError, ServerConfig};
use ottla_proto::ids::{GroupId, NodeId, PartitionId};
use ottla_proto::limits::{PARTITIONS_PER_CLUSTER, PARTITIONS_PER_REQUEST, PARTITIONS_PER_TOPIC};
use ottla_proto::metadata::{CLUSTER_METADATA_TOPIC, ConfigMap, Image, MetadataRecord, records};
use thiserror::Error;
use uuid::Uuid;

use crate::Decision;
use crate::alter_configs::config_record;
use crate::assignment::{self, AssignmentError};
use crate::placement::{PlacementError, Placer};
use crate::topic_name::{self, NameError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    pub validate_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// -1: the default, or as many as there are assignments.
    pub num_partitions: i32,
    /// -1: the default, or as in the assignments.
    pub replication_factor: i16,
    /// Partition index and replicas, preferred leader first; empty leaves placement to the
    /// controller.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub topic_id: Uuid,
    pub num_partitions: i32,
    pub replication_factor: i16,
    /// Its explicit configs.
    pub configs: ConfigMap,
    /// For the user's eyes, where something is not as it was asked for.
    pub note: Option<String>,
}

/// By topic name, once each, in the order of the request.
pub type Reply = Vec<(String, Result<CreatedTopic, CreateTopicError>)>;

#[derive(Clone, Debug, Error, PartialEq)]
pub enum CreateTopicError {
    /// INVALID_TOPIC_EXCEPTION
    #[error(transparent)]
    Name(#[from] NameError),
    /// TOPIC_AUTHORIZATION_FAILED
    #[error("Topic {CLUSTER_METADATA_TOPIC} is the cluster's own and cannot be created")]
    Prohibited,
    /// TOPIC_ALREADY_EXISTS
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// INVALID_REQUEST
    #[error("Duplicate topic name.")]
    Duplicate,
    /// INVALID_REQUEST
    #[error("With manual partition assignments, num_partitions and replication_factor must be -1")]
    CountsWithAssignments,
    /// INVALID_PARTITIONS
    #[error("Number of partitions must be at least 1, or -1 for the default, not {0}")]
    NoPartitions(i32),
    /// INVALID_PARTITIONS
    #[error("Number of partitions {0} is more than {PARTITIONS_PER_TOPIC}, a topic's maximum")]
    TooManyPartitions(usize),
    /// POLICY_VIOLATION
    #[error("The request makes more than {PARTITIONS_PER_REQUEST} partitions: split it")]
    RequestTooLarge,
    /// POLICY_VIOLATION
    #[error("The cluster would have more than {PARTITIONS_PER_CLUSTER} partitions")]
    ClusterFull,
    /// INVALID_REPLICA_ASSIGNMENT
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// INVALID_REPLICATION_FACTOR, and POLICY_VIOLATION for too many groups
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// INVALID_CONFIG, or INVALID_REQUEST if [`ConfigError::is_invalid_request`]
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// `segment.bytes` of a topic is not smaller, though `offsets.topic.segment.bytes` may be.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// What a topic gets that is made because a client asked about it, or because a coordinator needs
/// its own. The latter's partition counts and configs are those of `server.properties`.
pub fn auto_topic(server: &ServerConfig, name: &str) -> NewTopic {
    let set = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    let (num_partitions, replication_factor, configs) = match name {
        "__consumer_offsets" => (
            server.offsets.num_partitions,
            server.offsets.replication_factor,
            vec![
                set("cleanup.policy", "compact"),
                set("compression.type", "producer"),
                set(
                    "segment.bytes",
                    &server
                        .offsets
                        .segment_bytes
                        .max(SEGMENT_BYTES_MIN)
                        .to_string(),
                ),
            ],
        ),
        "__transaction_state" => (
            server.transactions.num_partitions,
            server.transactions.replication_factor,
            vec![
                set("cleanup.policy", "compact"),
                set(
                    "min.insync.replicas",
                    &server.transactions.min_insync_replicas.to_string(),
                ),
            ],
        ),
        _ => (-1, -1, Vec::new()),
    };
    NewTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor,
        assignments: Vec::new(),
        configs,
    }
}

/// `new_topic_id` draws an id that no topic has or had.
pub fn decide(
    image: &Image,
    server: &ServerConfig,
    request: &CreateTopics,
    new_topic_id: &mut dyn FnMut() -> Uuid,
) -> Decision<Reply> {
    let mut creation = Creation {
        image,
        server,
        placer: Placer::new(image),
        next_partition_id: image.next_partition_id().0,
        partitions: 0,
        normalized: BTreeMap::new(),
        records: Vec::new(),
    };
    let mut names = BTreeMap::new();
    for topic in &request.topics {
        *names.entry(topic.name.as_str()).or_insert(0) += 1;
    }
    let mut reply = Vec::with_capacity(names.len());
    for topic in &request.topics {
        let result = match names.remove(topic.name.as_str()) {
            None => continue,
            Some(1) => creation.create(topic, new_topic_id),
            Some(_) => Err(CreateTopicError::Duplicate),
        };
        reply.push((topic.name.clone(), result));
    }
    if request.validate_only {
        return Decision::reply(reply);
    }
    let mut records = creation.placer.into_new_groups();
    records.append(&mut creation.records);
    Decision { records, reply }
}

/// What the topics of one request have taken so far.
struct Creation<'a> {
    image: &'a Image,
    server: &'a ServerConfig,
    placer: Placer,
    next_partition_id: u64,
    partitions: usize,
    /// New names, by what must differ between any two.
    normalized: BTreeMap<String, &'a str>,
    records: Vec<MetadataRecord>,
}

/// Where a new topic's partitions go.
struct Layout {
    groups: Vec<GroupId>,
    replication_factor: usize,
    note: Option<String>,
}

impl<'a> Creation<'a> {
    fn create(
        &mut self,
        topic: &'a NewTopic,
        new_topic_id: &mut dyn FnMut() -> Uuid,
    ) -> Result<CreatedTopic, CreateTopicError> {
        self.check_name(&topic.name)?;
        let configs = config::replace(&topic.configs, config::Scope::Topic)?;
        config::validate_topic_configs(self.server, &configs)?;
        let layout = match topic.assignments.is_empty() {
            true => self.automatic(topic)?,
            false => self.manual(topic)?,
        };
        self.normalized
            .insert(topic_name::normalized(&topic.name), &topic.name);
        self.partitions += layout.groups.len();
        let topic_id = new_topic_id();
        self.push_records(&topic.name, topic_id, &layout.groups);
        let set = |(key, value): (&String, &String)| {
            config_record(
                records::ConfigResource::Topic,
                &topic.name,
                key,
                Some(value),
            )
        };
        self.records.extend(configs.iter().map(set));
        Ok(CreatedTopic {
            topic_id,
            num_partitions: i32::try_from(layout.groups.len()).expect("bounded per topic"),
            replication_factor: i16::try_from(layout.replication_factor).expect("at most 5"),
            configs,
            note: layout.note,
        })
    }

    fn check_name(&self, name: &str) -> Result<(), CreateTopicError> {
        topic_name::check(name)?;
        if name == CLUSTER_METADATA_TOPIC {
            return Err(CreateTopicError::Prohibited);
        }
        if self.image.topic(name).is_some() {
            return Err(CreateTopicError::Exists(name.to_owned()));
        }
        let of_request = self.normalized.get(&topic_name::normalized(name));
        match of_request
            .copied()
            .or_else(|| topic_name::colliding(self.image, name))
        {
            Some(other) => Err(NameError::Collides(other.to_owned()).into()),
            None => Ok(()),
        }
    }

    fn automatic(&mut self, topic: &NewTopic) -> Result<Layout, CreateTopicError> {
        let defaults = &self.server.topic_creation;
        let asked = match topic.num_partitions {
            -1 => defaults.num_partitions,
            asked => asked,
        };
        let count = usize::try_from(asked).ok().filter(|count| *count > 0);
        let count = count.ok_or(CreateTopicError::NoPartitions(asked))?;
        self.check_room(count)?;
        let factor = self
            .placer
            .replication_factor(match topic.replication_factor {
                -1 => defaults.replication_factor,
                asked => asked,
            })?;
        let before = self.placer.clone();
        let groups = self.placer.place(factor.members, count, &[]);
        Ok(Layout {
            groups: self.all_or_none(before, groups)?,
            replication_factor: factor.members,
            note: factor.note,
        })
    }

    fn manual(&mut self, topic: &NewTopic) -> Result<Layout, CreateTopicError> {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            return Err(CreateTopicError::CountsWithAssignments);
        }
        let count = topic.assignments.len();
        self.check_room(count)?;
        let mut by_index: Vec<_> = topic.assignments.iter().collect();
        by_index.sort_by_key(|(index, _)| *index);
        let indexes: BTreeSet<_> = by_index.iter().map(|(index, _)| *index).collect();
        let last = i32::try_from(count - 1).expect("bounded per topic");
        if !indexes.into_iter().eq(0..=last) || by_index[count - 1].0 != last {
            let found = by_index
                .iter()
                .take(100)
                .map(|(index, _)| index.to_string());
            return Err(CreateTopicError::Assignment(AssignmentError::Indexes {
                found: found.collect::<Vec<_>>().join(", "),
                expected: format!("0 to {last}"),
            }));
        }
        let replication_factor = by_index[0].1.len();
        for (index, replicas) in &by_index {
            assignment::check(self.image, *index, replicas, replication_factor)?;
        }
        let before = self.placer.clone();
        let placed = by_index
            .iter()
            .map(|(_, replicas)| self.placer.place_on(replicas));
        let groups = placed.collect();
        Ok(Layout {
            groups: self.all_or_none(before, groups)?,
            replication_factor,
            note: None,
        })
    }

    /// A topic that is not made leaves no group behind.
    fn all_or_none<T>(
        &mut self,
        before: Placer,
        placed: Result<T, PlacementError>,
    ) -> Result<T, CreateTopicError> {
        if placed.is_err() {
            self.placer = before;
        }
        Ok(placed?)
    }

    fn check_room(&self, count: usize) -> Result<(), CreateTopicError> {
        if count > PARTITIONS_PER_TOPIC {
            return Err(CreateTopicError::TooManyPartitions(count));
        }
        if self.partitions + count > PARTITIONS_PER_REQUEST {
            return Err(CreateTopicError::RequestTooLarge);
        }
        if self.image.partition_count() + self.partitions + count > PARTITIONS_PER_CLUSTER {
            return Err(CreateTopicError::ClusterFull);
        }
        Ok(())
    }

    fn push_records(&mut self, name: &str, id: Uuid, groups: &[GroupId]) {
        let topic_id = Some(id.into());
        self.records.push(MetadataRecord::Topic(records::Topic {
            name: name.to_owned(),
            topic_id,
        }));
        for (index, group) in (0..).zip(groups) {
            let partition = PartitionId(self.next_partition_id);
            self.next_partition_id += 1;
            self.records
                .push(partition_record(id, index, partition, *group));
        }
    }
}

pub(crate) fn partition_record(
    topic_id: Uuid,
    index: i32,
    partition: PartitionId,
    group: GroupId,
) -> MetadataRecord {
    MetadataRecord::Partition(records::Partition {
        topic_id: Some(topic_id.into()),
        index,
        partition_id: partition.0,
        group_id: group.0,
    })
}

#[cfg(test)]
mod tests;
