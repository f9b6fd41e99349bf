//! Topics and partitions as this broker serves them: the metadata image joined with the replication
//! groups that hold the data, and each topic's configuration in force.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use ottla_log::{BATCH_HEAD_BYTES, StoreError};
use ottla_proto::config::{self, ServerConfig, TopicConfig};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::{
    BATCH_INSPECTIONS, INSPECTION_IN_PLACE_BYTES, SMALL_INSPECTION_BYTES, SMALL_INSPECTIONS,
};
use ottla_proto::metadata::{Image, Topic};
use ottla_raft::{BatchMeta, Command, Group, Groups, Partition, ProducerMeta, off_reactor};
use ottla_wire::batch::{self, BatchError, BatchHeader, Rules, TimestampType};
use ottla_wire::compress::Codec;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::board::TopicCounts;

/// Why a partition can't be served here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    UnknownTopic,
    UnknownTopicId,
    UnknownPartition,
    /// The partition is meant to be here, and its replication group could not be started on this disk.
    Offline,
    NotLeader,
    /// The client knows an older leader epoch (KIP-320).
    FencedEpoch,
    /// The client knows a newer leader epoch than this broker.
    UnknownEpoch,
}

/// A partition with the group that replicates it.
#[derive(Clone)]
pub struct Replica {
    pub group: Arc<Group>,
    pub partition: Arc<Partition>,
}

impl Replica {
    /// The leader epoch, if this broker leads the partition and the client's view of it (-1: none) fits.
    pub fn lead(&self, client_epoch: i32) -> Result<i32, Unavailable> {
        let epoch = self.group.leader_epoch().ok_or(Unavailable::NotLeader)?;
        match client_epoch {
            -1 => Ok(epoch),
            e if e < epoch => Err(Unavailable::FencedEpoch),
            e if e > epoch => Err(Unavailable::UnknownEpoch),
            _ => Ok(epoch),
        }
    }

    /// Whether a follower's view of who leads fits the client's (-1: none).
    pub fn follow(&self, image: &Image, client_epoch: i32) -> Result<(), Unavailable> {
        let group = image.group(self.group.id).ok_or(Unavailable::NotLeader)?;
        match client_epoch {
            -1 => Ok(()),
            e if e < group.leader_epoch => Err(Unavailable::FencedEpoch),
            e if e > group.leader_epoch => Err(Unavailable::UnknownEpoch),
            _ => Ok(()),
        }
    }

    /// Reads committed batches from the disk, off the reactor.
    pub async fn read_cold(
        &self,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let replica = self.clone();
        let read = move || {
            replica
                .group
                .read(&replica.partition, offset, end_offset, max_bytes)
        };
        off_reactor(read).await
    }
}

pub struct ServedTopic {
    /// As the metadata image has it: name, id, partitions.
    pub topic: Arc<Topic>,
    pub config: Arc<TopicConfig>,
    /// Lives as long as the topic, whatever its configuration becomes.
    pub counts: Arc<TopicCounts>,
    /// By partition: its replica here, or why there is none.
    replicas: Vec<Result<Replica, Unavailable>>,
}

impl ServedTopic {
    pub fn replica(&self, index: i32) -> Result<&Replica, Unavailable> {
        let index = usize::try_from(index).map_err(|_| Unavailable::UnknownPartition)?;
        let replica = self.replicas.get(index);
        replica
            .ok_or(Unavailable::UnknownPartition)?
            .as_ref()
            .map_err(|why| *why)
    }

    /// Of the topic, wherever their replicas are.
    pub fn partitions(&self) -> i32 {
        self.replicas.len() as i32
    }

    /// The replicas that are here, with the indexes of their partitions.
    pub fn replicas(&self) -> impl Iterator<Item = (i32, &Replica)> {
        let replicas = (0..).zip(&self.replicas);
        replicas.filter_map(|(index, replica)| Some((index, replica.as_ref().ok()?)))
    }
}

#[derive(Default)]
struct View {
    by_name: HashMap<Arc<str>, Arc<ServedTopic>>,
    by_id: HashMap<Uuid, Arc<ServedTopic>>,
}

pub struct Topics {
    groups: Arc<Groups>,
    clock: ottla_raft::Clock,
    view: RwLock<View>,
    /// Told after each new view.
    changes: watch::Sender<()>,
    /// Places for [`Topics::look_inside`].
    inspections: Semaphore,
    small_inspections: Semaphore,
    /// What one batch may decompress to.
    pub decompressed_bytes: usize,
    /// Of all topics, also those that are gone.
    pub counts: TopicCounts,
}

/// A batch that passed validation, ready to be appended.
pub struct Checked {
    pub command: Command,
    /// Size of the batch.
    pub bytes: usize,
    pub records: i32,
    /// Set for topics with LogAppendTime.
    pub log_append_time_ms: i64,
}

impl Topics {
    pub fn new(groups: Arc<Groups>, clock: ottla_raft::Clock, decompressed_bytes: usize) -> Topics {
        Topics {
            groups,
            clock,
            view: RwLock::default(),
            changes: watch::Sender::new(()),
            inspections: Semaphore::new(BATCH_INSPECTIONS),
            small_inspections: Semaphore::new(SMALL_INSPECTIONS),
            decompressed_bytes,
            counts: TopicCounts::default(),
        }
    }

    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    pub fn by_name(&self, name: &str) -> Result<Arc<ServedTopic>, Unavailable> {
        self.view
            .read()
            .expect("never poisoned")
            .by_name
            .get(name)
            .cloned()
            .ok_or(Unavailable::UnknownTopic)
    }

    pub fn by_id(&self, id: Uuid) -> Result<Arc<ServedTopic>, Unavailable> {
        self.view
            .read()
            .expect("never poisoned")
            .by_id
            .get(&id)
            .cloned()
            .ok_or(Unavailable::UnknownTopicId)
    }

    pub fn all(&self) -> Vec<Arc<ServedTopic>> {
        self.view
            .read()
            .expect("never poisoned")
            .by_name
            .values()
            .cloned()
            .collect()
    }

    /// Brings the view to an image. Returns the topics that are gone, whose data is to be removed.
    /// Unchanged topics cost a comparison of pointers. `reconfigure`: the broker's configuration is another;
    /// `regrouped`: groups have been started or stopped here.
    pub fn update(
        &self,
        image: &Image,
        config: &ServerConfig,
        reconfigure: bool,
        regrouped: bool,
    ) -> Vec<Arc<ServedTopic>> {
        let mut next = View::default();
        let old = self.view.read().expect("never poisoned");
        for topic in image.topics() {
            let before = old
                .by_name
                .get(&topic.name)
                .filter(|t| t.topic.id == topic.id);
            let same =
                before.filter(|t| Arc::ptr_eq(&t.topic, topic) && !reconfigure && !regrouped);
            let served = match same {
                Some(same) => same.clone(),
                None => Arc::new(self.serve(topic, before, image, config)),
            };
            next.by_name.insert(topic.name.clone(), served.clone());
            next.by_id.insert(topic.id, served);
        }
        let gone = old
            .by_id
            .iter()
            .filter(|(id, _)| !next.by_id.contains_key(*id))
            .map(|(_, t)| t.clone())
            .collect();
        drop(old);
        *self.view.write().expect("never poisoned") = next;
        self.changes.send_replace(());
        gone
    }

    /// Changes with what is served. Who looks after subscribing misses nothing.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn serve(
        &self,
        topic: &Arc<Topic>,
        before: Option<&Arc<ServedTopic>>,
        image: &Image,
        config: &ServerConfig,
    ) -> ServedTopic {
        let effective = config::topic_config(config, image.topic_configs(&topic.name)).unwrap_or_else(|error| {
            // Validated before it was committed; an older release may not know a key.
            tracing::error!(topic = %topic.name, %error, "topic config not understood; the defaults are in force");
            config::topic_config(config, &Default::default()).expect("the defaults are valid")
        });
        let is_meant = |id| {
            let group = image.group(id);
            group.is_some_and(|g| g.members.contains(&config.node_id))
        };
        let replica = |partition: &ottla_proto::metadata::Partition| {
            let group = self.groups.get(partition.group);
            let group = group.ok_or_else(|| match is_meant(partition.group) {
                true => Unavailable::Offline,
                false => Unavailable::NotLeader,
            })?;
            Ok(Replica {
                partition: group.partition(partition.id),
                group,
            })
        };
        let replicas: Vec<_> = topic.partitions.iter().map(replica).collect();
        let offline = |replica: &&Result<Replica, Unavailable>| {
            replica
                .as_ref()
                .is_err_and(|why| *why == Unavailable::Offline)
        };
        let offline = replicas.iter().filter(offline).count();
        if offline > 0 {
            tracing::error!(topic = %topic.name, partitions = offline, "partitions whose groups do not run here");
        }
        ServedTopic {
            topic: topic.clone(),
            config: Arc::new(effective),
            counts: before.map(|t| t.counts.clone()).unwrap_or_default(),
            replicas,
        }
    }

    /// Runs what may decompress a batch: off the reactor, and only a few at a time, because a batch
    /// can be a thousand times larger inside.
    pub async fn look_inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        look_inside(&self.inspections, work).await
    }

    /// All that can be checked of a batch. Most compressed ones become small ones, many at a time.
    async fn validate(
        &self,
        batch: &Bytes,
        rules: Rules,
        now_ms: i64,
    ) -> Result<BatchHeader, BatchError> {
        if BatchHeader::parse(batch)?.compression()? == Codec::None {
            return batch::validate(batch, &rules, now_ms);
        }
        let within = |max_decompressed_bytes| {
            let (batch, mut rules) = (batch.clone(), rules.clone());
            rules.max_decompressed_bytes = max_decompressed_bytes;
            move || batch::validate(&batch, &rules, now_ms)
        };
        let small = within(SMALL_INSPECTION_BYTES.min(rules.max_decompressed_bytes));
        // Handing it to another thread costs more than most small ones do.
        let checked = match batch.len() <= INSPECTION_IN_PLACE_BYTES {
            true => small(),
            false => look_inside(&self.small_inspections, small).await,
        };
        match checked {
            Err(BatchError::DecompressedTooLarge { .. }) => {
                self.look_inside(within(rules.max_decompressed_bytes)).await
            }
            checked => checked,
        }
    }

    /// Checks what a producer sent for one partition: exactly one batch, intact and allowed.
    pub async fn check(
        &self,
        topic: &ServedTopic,
        partition: PartitionId,
        records: Bytes,
        allow_zstd: bool,
    ) -> Result<Checked, BatchError> {
        let config = &topic.config;
        let log_append_time = config.message_timestamp_type == config::TimestampType::LogAppendTime;
        let rules = Rules {
            max_message_bytes: config.max_message_bytes as usize,
            max_decompressed_bytes: self.decompressed_bytes,
            timestamp_type: if log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            message_timestamp_before_max_ms: config.message_timestamp_before_max_ms as i64,
            message_timestamp_after_max_ms: config.message_timestamp_after_max_ms as i64,
            require_keys: config.cleanup_compact,
            allow_zstd,
        };
        let now_ms = self.now_ms();
        let batch = batch::exactly_one(records)?;
        let mut header = self.validate(&batch, rules, now_ms).await?;
        if header.is_transactional() {
            return Err(BatchError::InvalidRecord(
                "transactional batches need a transaction, and none is open",
            ));
        }
        let batch = if log_append_time {
            let stamped = batch::with_append_time(&batch, now_ms)?;
            header = BatchHeader::parse(&stamped)?;
            stamped
        } else {
            batch
        };
        let log_append_time_ms = if log_append_time { now_ms } else { -1 };
        Ok(Checked {
            log_append_time_ms,
            ..append_command(partition, &batch, &header)
        })
    }
}

async fn look_inside<T: Send + 'static>(
    places: &Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let place = places.acquire().await;
    let done = off_reactor(move || Ok(work())).await;
    drop(place);
    done.expect("looking into a batch does not panic")
}

/// The command that appends a batch that is known to be good.
pub fn append_command(partition: PartitionId, batch: &Bytes, header: &BatchHeader) -> Checked {
    let producer = header.has_producer_id().then(|| ProducerMeta {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
    });
    let meta = BatchMeta {
        partition,
        offsets: header.last_offset_delta + 1,
        max_timestamp_ms: header.max_timestamp,
        size_bytes: batch.len() as u32,
        producer,
    };
    let command = Command::Append {
        meta,
        body: batch.slice(BATCH_HEAD_BYTES..),
    };
    Checked {
        command,
        bytes: batch.len(),
        records: header.record_count,
        log_append_time_ms: -1,
    }
}
