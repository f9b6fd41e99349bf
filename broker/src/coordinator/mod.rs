//! The group coordinators of this broker: the shell around [`ottla_coordinator::Shard`]s.
//!
//! One task owns one shard, which is one partition of `__consumer_offsets` that this broker leads.
//! A task starts when its partition is first needed and ends with the leadership.
//!
//! - `task.rs`: the loop: commands, timers, appends, and the replies that wait for them.
//! - `replies.rs`: the order in which replies may leave.
//! - `bounds.rs`: what all shards may hold together.
//! - `load.rs`: a shard from its partition's log.
//! - `offsets_topic.rs`: making `__consumer_offsets` when it is first needed.

mod bounds;
mod load;
mod offsets_topic;
mod replies;
mod task;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use ottla_coordinator::{Command, GroupConfig, ListedGroup, Response, partition_for};
use ottla_proto::config::ServerConfig;
use ottla_proto::ids::{NodeId, PartitionId};
use ottla_proto::limits::{COORDINATOR_LOADS, COORDINATOR_QUEUE, GROUP_RECORD_OVERHEAD_BYTES};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::controllers::Controllers;
use crate::metadata::Metadata;
use crate::topics::{Replica, ServedTopic, Topics};
use bounds::Bounds;
use offsets_topic::{OFFSETS_TOPIC, OffsetsTopic};
use task::{Answer, Request, Task};

/// Why a group's coordinator cannot take a command here and now. Each is worth a retry, but for the
/// last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    #[error("the coordinator is loading the group")]
    LoadInProgress,
    #[error("the coordinator is not available")]
    NotAvailable,
    #[error("the group id is not valid")]
    InvalidGroupId,
}

/// A running shard.
struct Handle {
    partition: PartitionId,
    sender: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

pub struct Coordinators {
    metadata: Arc<Metadata>,
    clock: ottla_raft::Clock,
    offsets_topic: OffsetsTopic,
    /// By partition index; `None` after [`Coordinators::shutdown`].
    shards: Mutex<Option<HashMap<i32, Handle>>>,
    loads: Arc<Semaphore>,
    bounds: Arc<Bounds>,
}

impl Coordinators {
    pub fn new(
        topics: Arc<Topics>,
        metadata: Arc<Metadata>,
        controllers: Arc<Controllers>,
        clock: ottla_raft::Clock,
        memory_bytes: usize,
    ) -> Arc<Coordinators> {
        Arc::new(Coordinators {
            offsets_topic: OffsetsTopic::new(topics, controllers),
            metadata,
            clock,
            shards: Mutex::new(Some(HashMap::new())),
            loads: Arc::new(Semaphore::new(COORDINATOR_LOADS)),
            bounds: Bounds::new(memory_bytes),
        })
    }

    /// The broker that coordinates a group. Makes `__consumer_offsets` if there is none yet.
    pub async fn find(&self, group_id: &str) -> Result<NodeId, CoordinatorError> {
        let topic = self.offsets_topic.ensure((self.clock)()).await?;
        let index = index_of(&topic, group_id)?;
        if topic.replica(index).is_ok_and(|r| r.lead(-1).is_ok()) {
            return Ok(self.metadata.node_id());
        }
        let image = self.metadata.current();
        let partition = image.partition(OFFSETS_TOPIC, index);
        let leader = partition.and_then(|p| image.group(p.group)?.leader);
        leader.ok_or(CoordinatorError::NotAvailable)
    }

    /// Hands a command to the group's shard and waits for what it answers, which it does once all
    /// that the answer speaks of is committed. `group_id` is a group of the command.
    pub async fn send(
        &self,
        group_id: &str,
        command: Command,
    ) -> Result<Response, CoordinatorError> {
        if group_id.is_empty() && !allows_empty_group(&command) {
            return Err(CoordinatorError::InvalidGroupId);
        }
        let topic = match &command {
            Command::JoinGroup(_) | Command::CommitOffsets(_) => {
                self.offsets_topic.ensure((self.clock)()).await?
            }
            _ => self
                .offsets_topic
                .get()
                .ok_or(CoordinatorError::NotCoordinator)?,
        };
        let index = index_of(&topic, group_id)?;
        let writes = matches!(&command, Command::JoinGroup(_) | Command::CommitOffsets(_));
        let replica = topic.replica(index);
        if writes && replica.is_ok_and(|r| r.group.admit_small().is_err()) {
            return Err(CoordinatorError::NotAvailable);
        }
        let shard = self.shard(&topic, index)?;
        ask(shard, command).await
    }

    /// The groups of all partitions that this broker leads. Waits for those that are being loaded.
    pub async fn list_groups(
        &self,
        states: &[String],
    ) -> Result<Vec<ListedGroup>, CoordinatorError> {
        let list = |shard: mpsc::Sender<Request>| async move {
            let states = states.to_vec();
            ask(shard, Command::ListGroups { states }).await
        };
        let mut groups = Vec::new();
        for answer in join_all(self.stored_shards().into_iter().map(list)).await {
            match answer {
                Ok(Response::ListGroups(listed)) => groups.extend(listed),
                Ok(other) => unreachable!("ListGroups was answered with {other:?}"),
                // Its groups are another broker's now.
                Err(CoordinatorError::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    /// Drops the committed offsets of topics that are gone. Returns once every shard has the news in
    /// its queue, before any later command.
    pub async fn topics_deleted(&self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        for shard in self.stored_shards() {
            let Ok(answer) = put(shard, Command::TopicsDeleted(names.to_vec())).await else {
                continue;
            };
            tokio::spawn(async move {
                if !matches!(answer.await, Ok(Ok(_))) {
                    tracing::warn!("some offsets of deleted topics stay until they expire");
                }
            });
        }
    }

    /// Starts loading every partition that this broker leads and that holds anything, so that the
    /// session timers of its groups run. To be called at start and when leaderships are gained.
    pub async fn load_all(&self) {
        let started = self.stored_shards().len();
        if started > 0 {
            tracing::info!(partitions = started, "loading consumer groups");
        }
    }

    /// Answers who waits, and ends all shards once their appends are decided. To be called while
    /// the replication groups still run.
    pub async fn shutdown(&self) {
        let shards = self.shards.lock().expect("never poisoned").take();
        let end = |handle: Handle| async move {
            drop(handle.sender);
            let _ = handle.task.await;
        };
        join_all(shards.into_iter().flatten().map(|(_, handle)| end(handle))).await;
    }

    /// The shards of all partitions led here that are not empty.
    fn stored_shards(&self) -> Vec<mpsc::Sender<Request>> {
        let Some(topic) = self.offsets_topic.get() else {
            return Vec::new();
        };
        let is_stored = |&index: &i32| {
            let replica = topic.replica(index);
            replica.is_ok_and(|r| r.partition.bounds().high_watermark > 0)
        };
        let stored = (0..topic.partitions()).filter(is_stored);
        stored
            .filter_map(|index| self.shard(&topic, index).ok())
            .collect()
    }

    /// The way to a partition's shard, which is started if it does not run.
    fn shard(
        &self,
        topic: &ServedTopic,
        index: i32,
    ) -> Result<mpsc::Sender<Request>, CoordinatorError> {
        let replica = topic
            .replica(index)
            .map_err(|_| CoordinatorError::NotCoordinator)?;
        replica
            .lead(-1)
            .map_err(|_| CoordinatorError::NotCoordinator)?;
        let mut shards = self.shards.lock().expect("never poisoned");
        let shards = shards.as_mut().ok_or(CoordinatorError::NotCoordinator)?;
        let runs = |h: &&Handle| h.partition == replica.partition.id && !h.sender.is_closed();
        if let Some(handle) = shards.get(&index).filter(runs) {
            return Ok(handle.sender.clone());
        }
        let handle = self.start(topic, index, replica);
        let sender = handle.sender.clone();
        shards.insert(index, handle);
        Ok(sender)
    }

    fn start(&self, topic: &ServedTopic, index: i32, replica: &Replica) -> Handle {
        let (sender, requests) = mpsc::channel(COORDINATOR_QUEUE);
        let max_message_bytes = topic.config.max_message_bytes as usize;
        let task = Task {
            name: format!("{OFFSETS_TOPIC}-{index}"),
            replica: replica.clone(),
            config: group_config(&self.metadata.config(), max_message_bytes),
            clock: self.clock.clone(),
            loads: self.loads.clone(),
            bounds: self.bounds.clone(),
            requests,
        };
        Handle {
            partition: replica.partition.id,
            sender,
            task: tokio::spawn(task.run()),
        }
    }
}

async fn ask(shard: mpsc::Sender<Request>, command: Command) -> Answer {
    let answer = put(shard, command).await?;
    answer
        .await
        .unwrap_or(Err(CoordinatorError::NotCoordinator))
}

/// Queues a command, and lets go of the sender: a task ends when the last one is gone.
async fn put(
    shard: mpsc::Sender<Request>,
    command: Command,
) -> Result<oneshot::Receiver<Answer>, CoordinatorError> {
    let (reply, answer) = oneshot::channel();
    let sent = shard.send(Request { command, reply }).await;
    // A task that is gone has lost the leadership, or stops.
    sent.map_err(|_| CoordinatorError::NotCoordinator)?;
    Ok(answer)
}

fn index_of(topic: &ServedTopic, group_id: &str) -> Result<i32, CoordinatorError> {
    match topic.topic.partitions.len() as i32 {
        0 => Err(CoordinatorError::NotAvailable),
        partitions => Ok(partition_for(group_id, partitions)),
    }
}

/// Offsets under the empty group id are an old custom that Kafka keeps up.
fn allows_empty_group(command: &Command) -> bool {
    matches!(
        command,
        Command::CommitOffsets(_)
            | Command::FetchOffsets(_)
            | Command::DescribeGroups(_)
            | Command::DeleteGroups(_)
    )
}

fn group_config(server: &ServerConfig, max_message_bytes: usize) -> GroupConfig {
    let (groups, offsets) = (&server.groups, &server.offsets);
    let timeout = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
    let span = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    GroupConfig {
        min_session_timeout_ms: timeout(groups.min_session_timeout_ms),
        max_session_timeout_ms: timeout(groups.max_session_timeout_ms),
        initial_rebalance_delay_ms: timeout(groups.initial_rebalance_delay_ms),
        group_max_size: groups.max_size as usize,
        offset_metadata_bytes_max: offsets.metadata_max_bytes as usize,
        offsets_retention_ms: span(offsets.retention_ms),
        offsets_retention_check_interval_ms: span(offsets.retention_check_interval_ms),
        group_record_bytes_max: max_message_bytes.saturating_sub(GROUP_RECORD_OVERHEAD_BYTES),
        ..GroupConfig::default()
    }
}
