//! Makes this broker be what the metadata says: starts the replication groups it is a member of,
//! serves their partitions, and removes what was deleted. Runs once per new image, in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::Controller;
use ottla_controller::leaders::LeaderReport;
use ottla_proto::config::ServerConfig;
use ottla_proto::ids::GroupId;
use ottla_proto::limits::GROUP_START_WAIT_MS;
use ottla_proto::metadata::Image;
use ottla_raft::{Command, Groups};
use tokio::sync::oneshot;

use crate::coordinator::Coordinators;
use crate::metadata::Metadata;
use crate::registration::Registration;
use crate::topics::{ServedTopic, Topics};

pub struct Reconciler {
    pub metadata: Arc<Metadata>,
    pub controller: Arc<Controller<Metadata>>,
    pub registration: Arc<Registration>,
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
        let mut swept = HashSet::new();
        loop {
            let image = images.borrow_and_update().clone();
            let newest = self.metadata.config();
            self.adopt(&image, &config, &newest, &mut swept).await;
            config = newest;
            if let Some(first) = first.take() {
                let _ = first.send(());
            }
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    async fn adopt(
        &self,
        image: &Image,
        before: &Arc<ServerConfig>,
        config: &Arc<ServerConfig>,
        swept: &mut HashSet<GroupId>,
    ) {
        self.start_groups(image, swept).await;
        self.groups
            .set_producer_expiration_ms(config.transactions.producer_id_expiration_ms as i64);
        let gone = self
            .topics
            .update(image, config, !Arc::ptr_eq(before, config));
        if !gone.is_empty() {
            self.remove(gone).await;
        }
        metrics::gauge!("kafka_server_replicamanager_partitioncount")
            .set(image.partition_count() as f64);
        metrics::gauge!("kafka_controller_kafkacontroller_globaltopiccount")
            .set(image.topic_count() as f64);
    }

    async fn start_groups(&self, image: &Image, swept: &mut HashSet<GroupId>) {
        let me = self.registration.node_id;
        let mut reports = Vec::new();
        for group in image.groups().filter(|g| g.members.contains(&me)) {
            if self.groups.get(group.id).is_none() {
                match self.groups.start_alone(group.id, self.replica).await {
                    Ok(_) => tracing::info!(group = %group.id, "replication group started"),
                    Err(error) => {
                        tracing::error!(%error, "its partitions are not served");
                        continue;
                    }
                }
            }
            let Some(running) = self.groups.get(group.id) else {
                continue;
            };
            let wait = Duration::from_millis(GROUP_START_WAIT_MS);
            let Some(leader_epoch) = running.wait_for_leadership(wait).await else {
                continue;
            };
            if (group.leader, group.leader_epoch) != (Some(me), leader_epoch) {
                reports.push(LeaderReport {
                    group: group.id,
                    leader: Some(me),
                    leader_epoch,
                });
            }
            if swept.insert(group.id) {
                self.sweep(image, group.id);
            }
        }
        if !reports.is_empty() {
            self.report(reports);
        }
    }

    /// Tells the controller who leads, beside the reconciler: the answer comes as a new image.
    fn report(&self, reports: Vec<LeaderReport>) {
        let (controller, registration) = (self.controller.clone(), self.registration.clone());
        tokio::spawn(async move {
            match controller
                .report_leaders(registration.node_id, registration.epoch(), &reports)
                .await
            {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "leaders were not reported"),
                Err(error) => tracing::warn!(%error, "leaders were not reported"),
            }
        });
    }

    /// Partitions that were deleted while this broker was away, or just before it stopped.
    fn sweep(&self, image: &Image, group: GroupId) {
        let Some(group) = self.groups.get(group) else {
            return;
        };
        let gone = group
            .partition_ids()
            .into_iter()
            .filter(|id| image.is_removed_partition(*id));
        let commands: Vec<_> = gone
            .map(|partition| Command::Remove { partition })
            .collect();
        if !commands.is_empty() {
            tracing::info!(group = %group.id, partitions = commands.len(), "removing deleted partitions");
            drop(group.append(commands, 0, None));
        }
    }

    async fn remove(&self, gone: Vec<Arc<ServedTopic>>) {
        for topic in &gone {
            for index in 0..topic.partitions() {
                let Ok(replica) = topic.replica(index) else {
                    continue;
                };
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
