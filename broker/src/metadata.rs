//! The metadata quorum as this broker follows it: committed records of `__cluster_metadata-0`,
//! replayed into an image that everyone else watches.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ottla_controller::{AppendError, MetadataLog};
use ottla_proto::config::ServerConfig;
use ottla_proto::ids::{METADATA_PARTITION, NodeId};
use ottla_proto::limits::{FETCH_READ_BYTES, METADATA_COMMIT_WAIT_MS};
use ottla_proto::metadata::{self, Image, MetadataRecord};
use ottla_raft::{Command, Group, GroupStatus, Outcome, Partition, Waiter, node_of, off_reactor};
use ottla_wire::batch::{self, BatchBuilder, BatchHeader};
use tokio::sync::watch;

use crate::topics::append_command;

/// Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Metadata(Arc<Inner>);

struct Inner {
    group: Arc<Group>,
    partition: Arc<Partition>,
    image: watch::Sender<Arc<Image>>,
    /// What the process was started with.
    static_config: Arc<ServerConfig>,
    /// With the replicated dynamic configs laid over it.
    config: RwLock<Arc<ServerConfig>>,
    clock: ottla_raft::Clock,
}

/// The metadata log holds what this release cannot read: going on would be guessing.
#[derive(Debug, thiserror::Error)]
#[error("metadata at offset {offset}: {reason}")]
pub struct Unreadable {
    offset: i64,
    reason: String,
}

impl Metadata {
    pub fn new(group: Arc<Group>, config: Arc<ServerConfig>, clock: ottla_raft::Clock) -> Metadata {
        let partition = group.partition(METADATA_PARTITION);
        let (image, _) = watch::channel(Arc::new(Image::default()));
        let dynamic = RwLock::new(config.clone());
        Metadata(Arc::new(Inner {
            group,
            partition,
            image,
            config: dynamic,
            static_config: config,
            clock,
        }))
    }

    pub fn current(&self) -> Arc<Image> {
        self.0.image.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.0.image.subscribe()
    }

    /// The configuration in force: static, then the cluster's dynamic default, then this broker's.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.config.read().expect("never poisoned").clone()
    }

    pub fn node_id(&self) -> i32 {
        self.0.static_config.node_id
    }

    /// Whether this node is the active controller.
    pub fn is_leader(&self) -> bool {
        self.0.group.leader_epoch().is_some()
    }

    /// The node that leads the metadata quorum, as far as this one knows. Nobody while it is known to be gone.
    pub fn leader_node(&self) -> Option<NodeId> {
        match self.is_leader() {
            true => Some(self.node_id()),
            false => self
                .0
                .group
                .present_leader()
                .map(node_of)
                .filter(|id| *id != self.node_id()),
        }
    }

    /// The quorum as its leader sees it; `None` on other nodes.
    pub fn quorum(&self) -> Option<GroupStatus> {
        self.0.group.status()
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        (self.0.clock)()
    }

    /// Waits until the image has this node's registration.
    pub async fn wait_for_broker(&self, epoch: i64) {
        let id = self.node_id();
        let is_here = |image: &Arc<Image>| image.broker(id).is_some_and(|b| b.epoch >= epoch);
        let _ = self.watch().wait_for(is_here).await;
    }

    /// Replays what is committed so far, then follows for ever. `caught_up` is told once the image
    /// has reached the high watermark that stood at the start.
    pub async fn follow(
        &self,
        caught_up: tokio::sync::oneshot::Sender<()>,
    ) -> Result<(), Unreadable> {
        let waiter = Arc::new(Waiter::default());
        self.0.partition.watch(&waiter);
        let mut next = 0;
        let mut caught_up = Some(caught_up);
        loop {
            let end = self.0.partition.bounds().high_watermark;
            while next < end {
                next = self.replay_from(next, end).await?;
            }
            if let Some(caught_up) = caught_up.take() {
                let _ = caught_up.send(());
            }
            waiter.changed().await;
        }
    }

    async fn replay_from(&self, next: i64, end: i64) -> Result<i64, Unreadable> {
        let unreadable = |offset, reason: String| Unreadable { offset, reason };
        let (group, partition) = (self.0.group.clone(), self.0.partition.clone());
        let read = move || group.read(&partition, next, end, FETCH_READ_BYTES);
        let segments = off_reactor(read).await;
        let segments = segments.map_err(|e| unreadable(next, e.to_string()))?;
        let bytes = bytes::Bytes::from(segments.concat());
        let mut reached = next;
        for batch in batch::split(bytes).map_err(|e| unreadable(next, e.to_string()))? {
            let header =
                BatchHeader::parse(&batch).map_err(|e| unreadable(reached, e.to_string()))?;
            self.replay_batch(&batch, &header)
                .map_err(|e| unreadable(header.base_offset, e))?;
            reached = header.last_offset() + 1;
        }
        if reached == next {
            return Err(unreadable(
                next,
                "no batch where the log should go on".into(),
            ));
        }
        Ok(reached)
    }

    fn replay_batch(&self, batch: &bytes::Bytes, header: &BatchHeader) -> Result<(), String> {
        let records = batch::records(batch, batch.len()).map_err(|e| e.to_string())?;
        let decode = |r: Result<batch::RecordView, _>| -> Result<MetadataRecord, String> {
            let record = r.map_err(|e: batch::BatchError| e.to_string())?;
            metadata::decode(record.value.unwrap_or_default()).map_err(|e| e.to_string())
        };
        let records = records.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let image = metadata::replay_all(&self.current(), header.base_offset, &records)
            .map_err(|e| e.to_string())?;
        if records
            .iter()
            .any(|r| matches!(r, MetadataRecord::Config(_)))
        {
            self.apply_dynamic(&image);
        }
        self.0.image.send_replace(image);
        Ok(())
    }

    fn apply_dynamic(&self, image: &Image) {
        let empty = BTreeMap::new();
        let cluster = image.broker_configs(None);
        let own = image.broker_configs(Some(self.node_id()));
        match self
            .0
            .static_config
            .with_dynamic(if cluster.is_empty() { &empty } else { cluster }, own)
        {
            Ok(config) => *self.0.config.write().expect("never poisoned") = Arc::new(config),
            // It was validated before it was committed; an older release may know it no more.
            Err(error) => {
                tracing::error!(%error, "a dynamic config is not understood and not in force")
            }
        }
    }
}

impl MetadataLog for Metadata {
    fn image(&self) -> Arc<Image> {
        self.current()
    }

    fn leader_epoch(&self) -> Option<i32> {
        self.0.group.leader_epoch()
    }

    async fn barrier(&self, leader_epoch: i32) -> Result<(), AppendError> {
        self.check_leader(leader_epoch)?;
        // A command that changes nothing takes its place behind everything proposed so far: once it
        // is applied, all of that is decided.
        let log_start_offset = self.0.partition.bounds().log_start_offset;
        let nothing = Command::Trim {
            partition: METADATA_PARTITION,
            log_start_offset,
        };
        self.0
            .group
            .append_in_epoch(leader_epoch, vec![nothing], 0, None)
            .outcome()
            .await
            .map_err(not_appended)?;
        let end = self.0.partition.bounds().high_watermark;
        self.wait_for_offset(end - 1).await
    }

    async fn append(
        &self,
        leader_epoch: i32,
        records: Vec<MetadataRecord>,
    ) -> Result<(), AppendError> {
        let now_ms = (self.0.clock)();
        let mut builder = BatchBuilder::new();
        for record in &records {
            builder.append(None, Some(&metadata::encode(record)), now_ms);
        }
        let batch = builder.build();
        let header = BatchHeader::parse(&batch).expect("the broker builds whole batches");
        let checked = append_command(METADATA_PARTITION, &batch, &header);
        self.check_leader(leader_epoch)?;
        let group = &self.0.group;
        let ticket =
            group.append_in_epoch(leader_epoch, vec![checked.command], checked.bytes, None);
        let outcomes = ticket.outcome().await.map_err(not_appended)?;
        let Some(Outcome::Appended { base_offset }) = outcomes.first() else {
            return Err(AppendError::Storage(format!("{outcomes:?}")));
        };
        self.wait_for_offset(base_offset + records.len() as i64 - 1)
            .await
    }
}

fn not_appended(error: ottla_raft::AppendError) -> AppendError {
    match error {
        ottla_raft::AppendError::NotLeader => AppendError::NotController,
        error => AppendError::Storage(error.to_string()),
    }
}

impl Metadata {
    fn check_leader(&self, leader_epoch: i32) -> Result<(), AppendError> {
        let leads = self.0.group.leader_epoch() == Some(leader_epoch);
        if leads {
            Ok(())
        } else {
            Err(AppendError::NotController)
        }
    }

    async fn wait_for_offset(&self, offset: i64) -> Result<(), AppendError> {
        let mut image = self.watch();
        let replayed = image.wait_for(|image| image.applied_offset() >= offset);
        match tokio::time::timeout(Duration::from_millis(METADATA_COMMIT_WAIT_MS), replayed).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(AppendError::Timeout),
        }
    }
}
