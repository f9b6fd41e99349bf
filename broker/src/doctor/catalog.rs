//! The metadata log of a folder, replayed: what its partitions are called, where they belong, and
//! which of them are, or once were, compacted.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use ottla_log::verify::{Offline, Unreadable, Visitor};
use ottla_proto::ids::{GroupId, METADATA_GROUP, METADATA_PARTITION, PartitionId};
use ottla_proto::metadata::records::{Config, ConfigResource};
use ottla_proto::metadata::{CLUSTER_METADATA_TOPIC, Content, Follower, Image, MetadataRecord};
use ottla_wire::batch::{self, BatchHeader};
use uuid::Uuid;

use super::report::{Check, Finding, Report};
use crate::metadata::content;

/// What the metadata says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It belongs to this group.
    Placed(GroupId),
    /// Its topic was deleted.
    Removed,
    /// Its id was never given.
    Unknown,
    /// The metadata could not be replayed, and nothing is known of it.
    Unclear,
}

pub struct Catalog {
    pub image: Arc<Image>,
    /// False where the metadata log could not be replayed to its end.
    pub is_complete: bool,
    /// Topics that had `cleanup.policy=compact` at some time.
    compacted: HashSet<Uuid>,
    /// The brokers' default was compact at some time.
    compacted_by_default: bool,
}

impl Catalog {
    /// Replays the metadata log as far as it goes.
    pub fn read(store: &Offline, report: &mut Report) -> Catalog {
        let mut replay = Replay {
            catalog: Catalog {
                image: Arc::new(Image::default()),
                is_complete: true,
                compacted: HashSet::new(),
                compacted_by_default: false,
            },
            follower: None,
            configs: Vec::new(),
            report,
        };
        store.batches(METADATA_PARTITION, &mut replay);
        let is_cut = replay.follower.is_some_and(|f| f.image().is_none());
        let mut catalog = replay.catalog;
        if is_cut && catalog.is_complete {
            catalog.is_complete = false;
            let name = catalog.name(METADATA_PARTITION);
            let missing = "no snapshot covers what was before the first record".to_owned();
            report.find(Finding::new(Check::Metadata, missing).of(METADATA_PARTITION, &name));
        }
        if !catalog.is_complete {
            report.note(
                "the metadata cannot be replayed: gaps in partitions that it does not name are not judged"
                    .into(),
            );
        }
        catalog
    }

    pub fn standing(&self, id: PartitionId) -> Standing {
        if id == METADATA_PARTITION {
            return Standing::Placed(METADATA_GROUP);
        }
        match self.image.partition_by_id(id) {
            Some((topic, index)) => match topic.partitions.get(index as usize) {
                Some(partition) => Standing::Placed(partition.group),
                None => Standing::Unclear,
            },
            None if !self.is_complete => Standing::Unclear,
            None if self.image.is_removed_partition(id) => Standing::Removed,
            None => Standing::Unknown,
        }
    }

    /// Topic and index; only the id where the metadata does not know it.
    pub fn name(&self, id: PartitionId) -> String {
        match self.image.partition_by_id(id) {
            Some((topic, index)) => format!("{}-{index}", topic.name),
            None if id == METADATA_PARTITION => format!("{CLUSTER_METADATA_TOPIC}-0"),
            None => id.to_string(),
        }
    }

    /// Whether compaction may have taken offsets out of the middle of a partition.
    pub fn may_be_compacted(&self, id: PartitionId) -> bool {
        match self.image.partition_by_id(id) {
            Some((topic, _)) => self.compacted_by_default || self.compacted.contains(&topic.id),
            None => id != METADATA_PARTITION,
        }
    }

    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        let placed = self.image.partitions().map(|(id, _)| id);
        placed.chain([METADATA_PARTITION])
    }

    fn note_policy(&mut self, config: &Config) {
        let compacts =
            |value: &Option<String>| value.as_deref().is_some_and(|v| v.contains("compact"));
        if !compacts(&config.value) {
            return;
        }
        match config.resource_type() {
            ConfigResource::Topic if config.key == "cleanup.policy" => {
                let topic = self.image.topic(&config.resource_name);
                self.compacted.extend(topic.map(|t| t.id));
            }
            ConfigResource::Broker if config.key == "log.cleanup.policy" => {
                self.compacted_by_default = true;
            }
            _ => {}
        }
    }
}

struct Replay<'a> {
    catalog: Catalog,
    /// From the first batch on.
    follower: Option<Follower>,
    /// Not looked at yet: their topics are not known before the image is.
    configs: Vec<Config>,
    report: &'a mut Report,
}

impl Replay<'_> {
    fn replay(&mut self, key_offset: i64, batch: &[u8]) -> Result<(), String> {
        batch::intact(batch).map_err(|e| e.to_string())?;
        let batch = Bytes::copy_from_slice(batch);
        let header = BatchHeader::parse(&batch).map_err(|e| e.to_string())?;
        let content = content(&batch)?;
        let records = match &content {
            Content::Changes(records) => records,
            Content::Snapshot(part) => &part.records,
        };
        let configs = records.iter().filter_map(|record| match record {
            MetadataRecord::Config(config) => Some(config.clone()),
            _ => None,
        });
        self.configs.extend(configs);
        let follower = self
            .follower
            .get_or_insert_with(|| Follower::new(key_offset));
        let replayed = follower.replay(key_offset, header.last_offset(), content);
        replayed.map_err(|e| e.to_string())?;
        if let Some(image) = follower.image() {
            self.catalog.image = image.clone();
            for config in std::mem::take(&mut self.configs) {
                self.catalog.note_policy(&config);
            }
        }
        Ok(())
    }
}

impl Visitor for Replay<'_> {
    fn batch(&mut self, key_offset: i64, batch: &[u8]) {
        if !self.catalog.is_complete {
            return;
        }
        if let Err(error) = self.replay(key_offset, batch) {
            self.catalog.is_complete = false;
            let finding = Finding::new(Check::Metadata, error);
            let name = self.catalog.name(METADATA_PARTITION);
            self.report.find(
                finding
                    .of(METADATA_PARTITION, &name)
                    .at(key_offset, key_offset),
            );
        }
    }

    /// The check of its batches tells where.
    fn unreadable(&mut self, _: Unreadable) {
        self.catalog.is_complete = false;
    }
}
