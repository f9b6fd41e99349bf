//! The records that rebuild an image without its history: [`restore`] of [`snapshot`] is the image.
use std::sync::Arc;

use super::image::{Broker, ConfigMap, Group, Image, Topic};
use super::record::MetadataRecord;
use super::records::{self, ConfigResource};
use super::replay::ReplayError;

/// What exists, each thing after those it names.
pub fn snapshot(image: &Image) -> Vec<MetadataRecord> {
    let mut out = Vec::with_capacity(image.partition_count() + 2 * image.topic_count() + 64);
    if let Some(id) = image.cluster_id() {
        let cluster_id = id.to_owned();
        out.push(MetadataRecord::Cluster(records::Cluster { cluster_id }));
    }
    out.extend(image.features().map(|(name, level)| feature(name, level)));
    // As they registered: epochs only rise.
    let mut brokers: Vec<_> = image.brokers().collect();
    brokers.sort_unstable_by_key(|broker| broker.epoch);
    out.extend(brokers.into_iter().map(|broker| register_broker(broker)));
    for group in image.groups() {
        push_group(&mut out, group);
    }
    for topic in image.topics() {
        push_topic(&mut out, topic);
    }
    for (name, configs) in image.topic_configs.iter() {
        push_configs(&mut out, ConfigResource::Topic, name, configs);
    }
    for (name, configs) in image.broker_configs.iter() {
        push_configs(&mut out, ConfigResource::Broker, name, configs);
    }
    out.push(MetadataRecord::ProducerIds(records::ProducerIds {
        broker_id: -1,
        broker_epoch: -1,
        next_producer_id: image.next_producer_id,
    }));
    out.push(MetadataRecord::Counters(records::Counters {
        next_partition_id: image.next_partition_id,
        next_group_id: image.next_group_id,
        next_broker_epoch: image.next_broker_epoch,
    }));
    out
}

/// The image that a snapshot was taken of; `applied_offset` is that image's.
pub fn restore<'a>(
    applied_offset: i64,
    snapshot: impl IntoIterator<Item = &'a MetadataRecord>,
) -> Result<Arc<Image>, ReplayError> {
    let mut image = Image::default();
    for record in snapshot {
        image.replay(record)?;
    }
    image.applied_offset = applied_offset;
    Ok(Arc::new(image))
}

fn feature(name: &str, level: i16) -> MetadataRecord {
    MetadataRecord::Feature(records::Feature {
        name: name.to_owned(),
        level: level.into(),
    })
}

fn register_broker(broker: &Broker) -> MetadataRecord {
    let listeners = broker.listeners.iter().map(|l| records::Listener {
        name: l.name.clone(),
        host: l.host.clone(),
        port: l.port.into(),
        security_protocol: l.security_protocol.into(),
    });
    MetadataRecord::RegisterBroker(records::RegisterBroker {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
        incarnation_id: Some(broker.incarnation_id.into()),
        rack: broker.rack.clone().unwrap_or_default(),
        listeners: listeners.collect(),
        fenced: broker.fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
        log_dirs: broker.log_dirs.iter().map(|id| (*id).into()).collect(),
    })
}

fn push_group(out: &mut Vec<MetadataRecord>, group: &Group) {
    out.push(MetadataRecord::Group(records::Group {
        group_id: group.id.0,
        members: group.members.to_vec(),
        removed: false,
        founders: group.founders.to_vec(),
        former: group.former.to_vec(),
        leaving: group.leaving.to_vec(),
        by_hand: group.by_hand,
    }));
    if group.leader.is_some() || group.leader_epoch != 0 {
        out.push(MetadataRecord::LeaderChange(records::LeaderChange {
            group_id: group.id.0,
            leader: group.leader.unwrap_or(-1),
            leader_epoch: group.leader_epoch,
            in_sync: group.in_sync.to_vec(),
        }));
    }
}

fn push_topic(out: &mut Vec<MetadataRecord>, topic: &Topic) {
    out.push(MetadataRecord::Topic(records::Topic {
        name: topic.name.to_string(),
        topic_id: Some(topic.id.into()),
    }));
    out.extend((0..).zip(&topic.partitions).map(|(index, partition)| {
        MetadataRecord::Partition(records::Partition {
            topic_id: Some(topic.id.into()),
            index,
            partition_id: partition.id.0,
            group_id: partition.group.0,
        })
    }));
}

fn push_configs(
    out: &mut Vec<MetadataRecord>,
    resource_type: ConfigResource,
    name: &str,
    configs: &ConfigMap,
) {
    out.extend(configs.iter().map(|(key, value)| {
        MetadataRecord::Config(records::Config {
            resource_type: resource_type.into(),
            resource_name: name.to_owned(),
            key: key.clone(),
            value: Some(value.clone()),
        })
    }));
}
