//! The metadata quorum as this broker follows it: committed records of `__cluster_metadata-0`,
//! replayed into an image that everyone else watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use ottla_controller::{AppendError, MetadataLog};
use ottla_proto::config::ServerConfig;
use ottla_proto::ids::{METADATA_PARTITION, NodeId};
use ottla_proto::limits::{FETCH_READ_BYTES, METADATA_COMMIT_WAIT_MS};
use ottla_proto::metadata::{self, Content, Follower, Image, MetadataRecord};
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
    unsaved: Mutex<Unsaved>,
}

/// What the log holds behind the last snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsaved {
    pub bytes: u64,
    /// Time of its first batch, ms.
    pub since_ms: i64,
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
            unsaved: Mutex::default(),
        }))
    }

    pub fn unsaved(&self) -> Unsaved {
        *self.0.unsaved.lock().expect("never poisoned")
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
    /// has reached the high watermark that stood at the start. A log that was cut is followed from its
    /// snapshot on; so is one whose beginning went beyond what was reached here.
    pub async fn follow(
        &self,
        caught_up: tokio::sync::oneshot::Sender<()>,
    ) -> Result<(), Unreadable> {
        let waiter = Arc::new(Waiter::default());
        self.0.partition.watch(&waiter);
        let (mut follower, mut next) = (Follower::default(), 0);
        let mut caught_up = Some(caught_up);
        loop {
            // The log is cut once the snapshot is committed: it ends before any end that is read after
            // the start.
            let start = self.0.partition.bounds().log_start_offset;
            let end = self.0.partition.bounds().high_watermark;
            if next < start {
                (follower, next) = (Follower::new(start), start);
            }
            if next < end {
                next = match self.replay_from(&mut follower, next, end).await {
                    // It was cut, or replaced by another node's, while it was read.
                    Err(_) if self.0.partition.bounds().log_start_offset > next => next,
                    replayed => replayed?,
                };
                continue;
            }
            if follower.image().is_none() {
                let reason = "the log begins here, and no snapshot covers what was before".into();
                let offset = start;
                return Err(Unreadable { offset, reason });
            }
            self.reclaim().await;
            if let Some(caught_up) = caught_up.take() {
                let _ = caught_up.send(());
            }
            waiter.changed().await;
        }
    }

    /// Frees the space of what a snapshot covers.
    async fn reclaim(&self) {
        let (group, partition) = (self.0.group.clone(), self.0.partition.clone());
        if !partition.needs_reclaim() {
            return;
        }
        if let Err(error) = off_reactor(move || group.reclaim(&partition)).await {
            tracing::error!(%error, "the space of old metadata was not freed");
        }
    }

    async fn replay_from(
        &self,
        follower: &mut Follower,
        next: i64,
        end: i64,
    ) -> Result<i64, Unreadable> {
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
            if header.base_offset != reached {
                return Err(unreadable(reached, "batches are missing".into()));
            }
            self.replay_batch(follower, &batch, &header)
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

    fn replay_batch(
        &self,
        follower: &mut Follower,
        batch: &bytes::Bytes,
        header: &BatchHeader,
    ) -> Result<(), String> {
        let content = content(batch)?;
        self.note_unsaved(&content, batch.len() as u64, header.max_timestamp);
        let configures = |r: &MetadataRecord| matches!(r, MetadataRecord::Config(_));
        let is_config = match &content {
            Content::Changes(records) => records.iter().any(configures),
            // It may have brought a whole image.
            Content::Snapshot(part) => part.is_last,
        };
        follower
            .replay(header.base_offset, header.last_offset(), content)
            .map_err(|e| e.to_string())?;
        if let Some(image) = follower.image() {
            if is_config {
                self.apply_dynamic(image);
            }
            self.0.image.send_replace(image.clone());
        }
        Ok(())
    }

    fn note_unsaved(&self, content: &Content, bytes: u64, timestamp_ms: i64) {
        let mut unsaved = self.0.unsaved.lock().expect("never poisoned");
        match content {
            Content::Changes(_) if unsaved.bytes == 0 => {
                *unsaved = Unsaved {
                    bytes,
                    since_ms: timestamp_ms,
                };
            }
            Content::Changes(_) => unsaved.bytes += bytes,
            // What was committed while it was written waits for the next one.
            Content::Snapshot(part) if part.is_last => *unsaved = Unsaved::default(),
            Content::Snapshot(_) => {}
        }
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

/// Reads a batch of the metadata log.
pub fn content(batch: &bytes::Bytes) -> Result<Content, String> {
    let records = batch::records(batch, batch.len()).map_err(|e| e.to_string())?;
    let views = records.iter().collect::<Result<Vec<_>, _>>();
    let views = views.map_err(|e: batch::BatchError| e.to_string())?;
    let pairs = views.iter().map(|record| (record.key, record.value));
    metadata::content(pairs).map_err(|e| e.to_string())
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
        self.cut_before(leader_epoch, log_start_offset).await?;
        let end = self.0.partition.bounds().high_watermark;
        self.wait_for_offset(end - 1).await
    }

    async fn append(
        &self,
        leader_epoch: i32,
        records: Vec<MetadataRecord>,
    ) -> Result<(), AppendError> {
        let now_ms = self.now_ms();
        let mut builder = BatchBuilder::new();
        for record in &records {
            builder.append(None, Some(&metadata::encode(record)), now_ms);
        }
        let base_offset = self.append_batch(leader_epoch, builder).await?;
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
    /// Its base offset, once it is committed.
    pub async fn append_batch(
        &self,
        leader_epoch: i32,
        builder: BatchBuilder,
    ) -> Result<i64, AppendError> {
        let batch = builder.build();
        let header = BatchHeader::parse(&batch).expect("the broker builds whole batches");
        let checked = append_command(METADATA_PARTITION, &batch, &header);
        self.check_leader(leader_epoch)?;
        let (commands, bytes) = (vec![checked.command], checked.bytes);
        let outcomes = self.commit(leader_epoch, commands, bytes).await?;
        match outcomes.first() {
            Some(Outcome::Appended { base_offset }) => Ok(*base_offset),
            _ => Err(AppendError::Storage(format!("{outcomes:?}"))),
        }
    }

    /// Has the log begin at an offset.
    pub async fn cut_before(
        &self,
        leader_epoch: i32,
        log_start_offset: i64,
    ) -> Result<(), AppendError> {
        let cut = Command::Trim {
            partition: METADATA_PARTITION,
            log_start_offset,
        };
        self.commit(leader_epoch, vec![cut], 0).await.map(drop)
    }

    async fn commit(
        &self,
        leader_epoch: i32,
        commands: Vec<Command>,
        bytes: usize,
    ) -> Result<Vec<Outcome>, AppendError> {
        let group = &self.0.group;
        let ticket = group.append_in_epoch(leader_epoch, commands, bytes, None);
        ticket.outcome().await.map_err(not_appended)
    }

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
