//! Makes this broker be what the metadata says: starts the replication groups it is a member of,
//! serves their partitions, and removes what was deleted. Runs once per new image, in order.

use std::sync::Arc;
use std::time::Duration;

use ottla_proto::config::ServerConfig;
use ottla_proto::limits::{GROUP_START_WAIT_MS, MEMBERSHIP_LOOK_MS};
use ottla_proto::metadata::{Group, Image};
use ottla_raft::{Command, Groups};
use tokio::sync::oneshot;

use crate::coordinator::Coordinators;
use crate::metadata::Metadata;
use crate::topics::{ServedTopic, Topics};

pub struct Reconciler {
    pub metadata: Arc<Metadata>,
    pub groups: Arc<Groups>,
    pub topics: Arc<Topics>,
    pub coordinators: Arc<Coordinators>,
    pub replica: u64,
}

impl Reconciler {
    /// Follows the image for ever; `first` is told when the image of the start is served.
    pub async fn run(self, first: oneshot::Sender<()>) {
        let mut images = self.metadata.watch();
        let mut config = self.metadata.config();
        let mut first = Some(first);
        loop {
            let image = images.borrow_and_update().clone();
            let newest = self.metadata.config();
            self.adopt(&image, &config, &newest).await;
            config = newest;
            if let Some(first) = first.take() {
                let _ = first.send(());
            }
            // A group may be left some time after the metadata said so.
            let pause = Duration::from_millis(MEMBERSHIP_LOOK_MS);
            let changed = match self.is_leaving(&image) {
                true => tokio::time::timeout(pause, images.changed())
                    .await
                    .unwrap_or(Ok(())),
                false => images.changed().await,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn is_leaving(&self, image: &Image) -> bool {
        let me = self.metadata.node_id();
        let mut others = image.groups().filter(|group| !group.members.contains(&me));
        others.any(|group| self.groups.get(group.id).is_some() || group.leaving.contains(&me))
    }

    async fn adopt(&self, image: &Image, before: &Arc<ServerConfig>, config: &Arc<ServerConfig>) {
        let regrouped = self.regroup(image).await;
        self.groups
            .set_producer_expiration_ms(config.transactions.producer_id_expiration_ms as i64);
        let gone = self
            .topics
            .update(image, config, !Arc::ptr_eq(before, config), regrouped);
        if !gone.is_empty() {
            self.remove(gone).await;
        }
        metrics::gauge!("kafka_server_replicamanager_partitioncount")
            .set(image.partition_count() as f64);
        metrics::gauge!("kafka_controller_kafkacontroller_globaltopiccount")
            .set(image.topic_count() as f64);
    }

    /// Starts the groups that this node is a member of, and lets go of those whose leader has said that it
    /// is none any more, or which have moved away. Whether anything has changed.
    async fn regroup(&self, image: &Image) -> bool {
        let me = self.metadata.node_id();
        let mut changed = false;
        for group in image.groups() {
            let running = self.groups.get(group.id);
            match (group.members.contains(&me), running) {
                (true, None) => changed |= self.start_group(group).await,
                // Its vote may be needed, as long as it has one.
                (false, None)
                    if group.leaving.contains(&me)
                        && self.groups.has_rows(group.id).await.unwrap_or(true) =>
                {
                    changed |= self.start_group(group).await;
                }
                (false, Some(running)) if running.is_removed() || !group.is_moving() => {
                    changed = true;
                    match self.groups.remove(group.id).await {
                        Ok(()) => tracing::info!(group = %group.id, "left a replication group"),
                        Err(error) => tracing::error!(group = %group.id, %error, "its data stays"),
                    }
                }
                _ => {}
            }
        }
        changed
    }

    async fn start_group(&self, group: &Group) -> bool {
        // Who is not among those that the group began with waits until its leader adds it.
        let founders = match group.founders.contains(&self.replica) {
            true => &*group.founders,
            false => &[],
        };
        let running = match self.groups.start(group.id, self.replica, founders).await {
            Ok(running) => running,
            Err(error) => {
                tracing::error!(%error, "its partitions are not served");
                return false;
            }
        };
        tracing::info!(group = %group.id, "replication group started");
        if *group.members == [self.metadata.node_id()] && !group.is_moving() {
            let wait = Duration::from_millis(GROUP_START_WAIT_MS);
            running.wait_for_leadership(wait).await;
        }
        true
    }

    async fn remove(&self, gone: Vec<Arc<ServedTopic>>) {
        for topic in &gone {
            for (_, replica) in topic.replicas() {
                // Its place in the log is what counts; the outcome comes by itself.
                drop(replica.group.append(
                    vec![Command::Remove {
                        partition: replica.partition.id,
                    }],
                    0,
                    None,
                ));
                replica.partition.wake();
            }
        }
        let names: Vec<String> = gone.iter().map(|t| t.topic.name.to_string()).collect();
        self.coordinators.topics_deleted(&names).await;
    }
}
