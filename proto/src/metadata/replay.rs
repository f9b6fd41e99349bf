//! What each record does to an image. The only code that changes one: controllers and brokers run it
//! alike, so it depends on nothing but the image and the record.
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use super::image::{Broker, Group, Image, Listener, Partition, PartitionHome, Topic};
use super::record::MetadataRecord;
use super::records::{self, ConfigResource, SecurityProtocol};
use crate::ids::{GroupId, METADATA_GROUP, METADATA_PARTITION, PartitionId};

/// A record that does not fit the image. The log is damaged, or this build is too old for it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReplayError {
    #[error("metadata batch at offset {base_offset} comes after offset {applied_offset}")]
    OutOfOrder {
        base_offset: i64,
        applied_offset: i64,
    },
    #[error("metadata record names {what} {id}, which does not exist")]
    Missing { what: &'static str, id: String },
    #[error("metadata record makes {what} {id}, which exists")]
    Exists { what: &'static str, id: String },
    #[error("metadata record has an impossible {field}: {value}")]
    Field { field: &'static str, value: String },
}

type Replayed = Result<(), ReplayError>;

/// The image after one batch, whose first record has `base_offset`. An error leaves no trace.
pub fn replay_all<'a>(
    image: &Arc<Image>,
    base_offset: i64,
    batch: impl IntoIterator<Item = &'a MetadataRecord>,
) -> Result<Arc<Image>, ReplayError> {
    if base_offset <= image.applied_offset {
        return Err(ReplayError::OutOfOrder {
            base_offset,
            applied_offset: image.applied_offset,
        });
    }
    let mut next = Image::clone(image);
    for (offset, record) in (base_offset..).zip(batch) {
        next.replay(record)?;
        next.applied_offset = offset;
    }
    Ok(Arc::new(next))
}

impl Image {
    pub(super) fn replay(&mut self, record: &MetadataRecord) -> Replayed {
        match record {
            MetadataRecord::Cluster(r) => self.replay_cluster(r),
            MetadataRecord::RegisterBroker(r) => self.replay_register_broker(r),
            MetadataRecord::BrokerChange(r) => self.replay_broker_change(r),
            MetadataRecord::UnregisterBroker(r) => self.replay_unregister_broker(r),
            MetadataRecord::Group(r) => self.replay_group(r),
            MetadataRecord::LeaderChange(r) => self.replay_leader_change(r),
            MetadataRecord::Topic(r) => self.replay_topic(r),
            MetadataRecord::Partition(r) => self.replay_partition(r),
            MetadataRecord::PartitionChange(r) => self.replay_partition_change(r),
            MetadataRecord::RemoveTopic(r) => self.replay_remove_topic(r),
            MetadataRecord::Config(r) => self.replay_config(r),
            MetadataRecord::ProducerIds(r) => self.replay_producer_ids(r),
            MetadataRecord::Feature(r) => self.replay_feature(r),
            MetadataRecord::Counters(r) => self.replay_counters(r),
        }
    }

    fn replay_cluster(&mut self, r: &records::Cluster) -> Replayed {
        match &self.cluster_id {
            Some(id) => Err(exists("cluster", id)),
            None if r.cluster_id.is_empty() => Err(impossible("cluster id", "")),
            None => {
                self.cluster_id = Some(r.cluster_id.as_str().into());
                Ok(())
            }
        }
    }

    fn replay_register_broker(&mut self, r: &records::RegisterBroker) -> Replayed {
        let known_epoch = self.brokers.get(&r.broker_id).map(|b| b.epoch);
        if r.broker_epoch < self.next_broker_epoch && known_epoch != Some(r.broker_epoch) {
            return Err(impossible("broker epoch", r.broker_epoch));
        }
        let after = r.broker_epoch.checked_add(1);
        let after = after.ok_or_else(|| impossible("broker epoch", r.broker_epoch))?;
        let listeners: Result<Vec<_>, _> = r.listeners.iter().map(listener).collect();
        let broker = Broker {
            id: r.broker_id,
            epoch: r.broker_epoch,
            incarnation_id: uuid(r.incarnation_id, "incarnation id")?,
            rack: Some(r.rack.clone()).filter(|rack| !rack.is_empty()),
            listeners: listeners?,
            log_dirs: r.log_dirs.iter().map(|id| Uuid::from(*id)).collect(),
            fenced: r.fenced,
            in_controlled_shutdown: r.in_controlled_shutdown,
        };
        self.brokers.insert(r.broker_id, Arc::new(broker));
        self.next_broker_epoch = self.next_broker_epoch.max(after);
        Ok(())
    }

    /// The broker, if it still has the registration that a record means.
    fn registered(&mut self, id: i32, epoch: i64) -> Result<&mut Broker, ReplayError> {
        let broker = self.brokers.get_mut(&id).filter(|b| b.epoch == epoch);
        let broker = broker.ok_or_else(|| missing("broker", format!("{id} of epoch {epoch}")))?;
        Ok(Arc::make_mut(broker))
    }

    fn replay_broker_change(&mut self, r: &records::BrokerChange) -> Replayed {
        let broker = self.registered(r.broker_id, r.broker_epoch)?;
        broker.fenced = r.fenced.unwrap_or(broker.fenced);
        broker.in_controlled_shutdown = r
            .in_controlled_shutdown
            .unwrap_or(broker.in_controlled_shutdown);
        Ok(())
    }

    fn replay_unregister_broker(&mut self, r: &records::UnregisterBroker) -> Replayed {
        self.registered(r.broker_id, r.broker_epoch)?;
        self.brokers.remove(&r.broker_id);
        Ok(())
    }

    fn replay_group(&mut self, r: &records::Group) -> Replayed {
        let id = GroupId(r.group_id);
        let known = self.groups.get(&id);
        if r.removed {
            return match known {
                None => Err(missing("group", id)),
                Some(g) if g.partitions > 0 => Err(impossible("removed group with partitions", id)),
                Some(_) => {
                    self.groups.remove(&id);
                    Ok(())
                }
            };
        }
        let after = r.group_id.checked_add(1);
        let after = after.ok_or_else(|| impossible("group id", id))?;
        if r.members.is_empty() {
            return Err(impossible("member list of group", id));
        }
        let is_replica = |id: &i32| r.members.contains(id) || r.leaving.contains(id);
        let same_members = |g: &Group| {
            let same = g.members.iter().all(|id| r.members.contains(id));
            same && g.members.len() == r.members.len()
        };
        let moves = !r.former.is_empty() || !r.leaving.is_empty();
        let group = Group {
            id,
            members: r.members.as_slice().into(),
            former: r.former.as_slice().into(),
            leaving: r.leaving.as_slice().into(),
            founders: match known {
                None => r.founders.as_slice().into(),
                // One that has not started yet has to begin as what it is in the others' logs, until its first move
                // is done: those would wait for its answers, and it for a snapshot.
                Some(g) if !g.is_moving() && (same_members(g) || moves) => g.founders.clone(),
                Some(_) => [].into(),
            },
            leader: known.and_then(|g| g.leader).filter(is_replica),
            leader_epoch: known.map_or(0, |g| g.leader_epoch),
            in_sync: known.map_or_else(Default::default, |g| {
                let still = g.in_sync.iter().copied().filter(is_replica);
                still.collect()
            }),
            partitions: known.map_or(0, |g| g.partitions),
            by_hand: r.by_hand,
        };
        self.groups.insert(id, group);
        self.next_group_id = self.next_group_id.max(after);
        Ok(())
    }

    /// Reports of one election may come from several members and late: the highest epoch stands.
    fn replay_leader_change(&mut self, r: &records::LeaderChange) -> Replayed {
        let id = GroupId(r.group_id);
        let group = self
            .groups
            .get_mut(&id)
            .ok_or_else(|| missing("group", id))?;
        if r.leader_epoch >= group.leader_epoch {
            group.leader = Some(r.leader).filter(|leader| *leader >= 0);
            group.leader_epoch = r.leader_epoch;
            group.in_sync = r.in_sync.as_slice().into();
        }
        Ok(())
    }

    fn replay_topic(&mut self, r: &records::Topic) -> Replayed {
        let id = uuid(r.topic_id, "topic id")?;
        if self.topics.contains_key(r.name.as_str()) {
            return Err(exists("topic", &r.name));
        }
        if self.topic_names.contains_key(&id) {
            return Err(exists("topic id", id));
        }
        let name: Arc<str> = r.name.as_str().into();
        let topic = Topic {
            name: name.clone(),
            id,
            partitions: Vec::new(),
        };
        self.topics.insert(name.clone(), Arc::new(topic));
        self.topic_names.insert(id, name);
        Ok(())
    }

    fn topic_mut(&mut self, id: Option<records::Uuid>) -> Result<&mut Topic, ReplayError> {
        let id = uuid(id, "topic id")?;
        let name = self.topic_names.get(&id);
        let topic = name.and_then(|name| self.topics.get_mut(name));
        topic
            .map(Arc::make_mut)
            .ok_or_else(|| missing("topic id", id))
    }

    fn replay_partition(&mut self, r: &records::Partition) -> Replayed {
        let (id, group) = (PartitionId(r.partition_id), GroupId(r.group_id));
        let after = r.partition_id.checked_add(1);
        let after = after.filter(|_| id != METADATA_PARTITION);
        let after = after.ok_or_else(|| impossible("partition id", id))?;
        if self.partitions.contains_key(&id) {
            return Err(exists("partition", id));
        }
        if group == METADATA_GROUP {
            return Err(impossible("partition group", group));
        }
        if !self.groups.contains_key(&group) {
            return Err(missing("group", group));
        }
        let topic = self.topic_mut(r.topic_id)?;
        if usize::try_from(r.index) != Ok(topic.partitions.len()) {
            return Err(impossible("partition index", r.index));
        }
        topic.partitions.push(Partition { id, group });
        let home = PartitionHome {
            topic_id: topic.id,
            index: r.index,
        };
        self.partitions.insert(id, home);
        self.next_partition_id = self.next_partition_id.max(after);
        self.count_partition(group, 1);
        Ok(())
    }

    fn replay_partition_change(&mut self, r: &records::PartitionChange) -> Replayed {
        let group = GroupId(r.group_id);
        if group == METADATA_GROUP || !self.groups.contains_key(&group) {
            return Err(missing("group", group));
        }
        let topic = self.topic_mut(r.topic_id)?;
        let index = usize::try_from(r.index).ok();
        let partition = index.and_then(|index| topic.partitions.get_mut(index));
        let partition = partition.ok_or_else(|| missing("partition index", r.index))?;
        let before = std::mem::replace(&mut partition.group, group);
        self.count_partition(before, -1);
        self.count_partition(group, 1);
        Ok(())
    }

    fn count_partition(&mut self, group: GroupId, change: i32) {
        let group = self.groups.get_mut(&group);
        let group = group.expect("a partition's group exists as long as the partition");
        let count = group.partitions.checked_add_signed(change);
        group.partitions = count.expect("a group's partitions are counted in and out");
    }

    fn replay_remove_topic(&mut self, r: &records::RemoveTopic) -> Replayed {
        let id = uuid(r.topic_id, "topic id")?;
        let name = self.topic_names.remove(&id);
        let name = name.ok_or_else(|| missing("topic id", id))?;
        let topic = self.topics.remove(&*name).expect("both topic maps agree");
        for partition in &topic.partitions {
            self.partitions.remove(&partition.id);
            self.count_partition(partition.group, -1);
        }
        self.topic_configs.remove(&*name);
        Ok(())
    }

    fn replay_config(&mut self, r: &records::Config) -> Replayed {
        let configs = match r.resource_type() {
            ConfigResource::Topic if self.topics.contains_key(r.resource_name.as_str()) => {
                &mut self.topic_configs
            }
            ConfigResource::Topic => return Err(missing("topic", &r.resource_name)),
            ConfigResource::Broker => &mut self.broker_configs,
            ConfigResource::Unspecified => {
                return Err(impossible("config resource type", r.resource_type));
            }
        };
        let name = r.resource_name.as_str();
        match (&r.value, configs.get_mut(name)) {
            (Some(value), Some(map)) => {
                Arc::make_mut(map).insert(r.key.clone(), value.clone());
            }
            (Some(value), None) => {
                let map = [(r.key.clone(), value.clone())].into();
                configs.insert(name.into(), Arc::new(map));
            }
            (None, Some(map)) => {
                let map = Arc::make_mut(map);
                map.remove(&r.key);
                if map.is_empty() {
                    configs.remove(name);
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn replay_producer_ids(&mut self, r: &records::ProducerIds) -> Replayed {
        if r.next_producer_id < self.next_producer_id {
            return Err(impossible("next producer id", r.next_producer_id));
        }
        self.next_producer_id = r.next_producer_id;
        Ok(())
    }

    fn replay_feature(&mut self, r: &records::Feature) -> Replayed {
        let level = i16::try_from(r.level).ok().filter(|level| *level >= 0);
        match level.ok_or_else(|| impossible("feature level", r.level))? {
            0 => self.features.remove(&r.name),
            level => self.features.insert(r.name.clone(), level),
        };
        Ok(())
    }

    fn replay_counters(&mut self, r: &records::Counters) -> Replayed {
        self.next_partition_id = self.next_partition_id.max(r.next_partition_id);
        self.next_group_id = self.next_group_id.max(r.next_group_id);
        self.next_broker_epoch = self.next_broker_epoch.max(r.next_broker_epoch);
        Ok(())
    }
}

fn listener(r: &records::Listener) -> Result<Listener, ReplayError> {
    let port = u16::try_from(r.port).map_err(|_| impossible("listener port", r.port))?;
    let security_protocol = SecurityProtocol::try_from(r.security_protocol)
        .map_err(|_| impossible("security protocol", r.security_protocol))?;
    Ok(Listener {
        name: r.name.clone(),
        host: r.host.clone(),
        port,
        security_protocol,
    })
}

fn uuid(id: Option<records::Uuid>, field: &'static str) -> Result<Uuid, ReplayError> {
    let id = id.map(Uuid::from).filter(|id| !id.is_nil());
    id.ok_or_else(|| impossible(field, "nil"))
}

fn missing(what: &'static str, id: impl ToString) -> ReplayError {
    let id = id.to_string();
    ReplayError::Missing { what, id }
}

fn exists(what: &'static str, id: impl ToString) -> ReplayError {
    let id = id.to_string();
    ReplayError::Exists { what, id }
}

fn impossible(field: &'static str, value: impl ToString) -> ReplayError {
    let value = value.to_string();
    ReplayError::Field { field, value }
}
