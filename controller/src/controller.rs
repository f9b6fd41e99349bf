//! The controller in motion: takes requests one at a time, decides on the newest image, and answers
//! once the decision is committed.
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ottla_proto::config::ServerConfig;
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{METADATA_BATCH_BYTES, METADATA_RECORD_BYTES};
use ottla_proto::metadata::{Image, MetadataRecord, encoded_len};
use thiserror::Error;
use tokio::time::Instant;
use uuid::Uuid;

use crate::Decision;
use crate::alter_configs::{self, AlterConfigs};
use crate::balance::{self, Replacement};
use crate::bootstrap::{self, BootstrapError};
use crate::brokers::{self, Heartbeat, HeartbeatReply, RegisterBroker, RegisterError, StaleBroker};
use crate::create_partitions::{self, CreatePartitions};
use crate::create_topics::{self, CreateTopics};
use crate::delete_topics::{self, TopicKey};
use crate::features::{self, FeatureError, UpdateFeatures};
use crate::leaders::{self, LeaderReport};
use crate::log::{AppendError, MetadataLog};
use crate::producer_ids::{self, AllocateError, ProducerIdBlock};
use crate::reassignments::{self, AlterReassignments};
use crate::sessions::Sessions;

/// Bytes that Kafka's record format adds to each record, at most.
const RECORD_OVERHEAD_BYTES: usize = 24;

/// The request as a whole did not go through; nothing of it is known to be done.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ControllerError {
    /// NOT_CONTROLLER; UNKNOWN_SERVER_ERROR or REQUEST_TIMED_OUT for the others.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// POLICY_VIOLATION
    #[error(
        "the request needs {0} bytes of metadata records, more than {METADATA_BATCH_BYTES}: split it"
    )]
    TooLarge(usize),
}

pub struct Controller<L> {
    log: L,
    server: ServerConfig,
    /// One decision at a time. Holds the leader epoch whose image is complete: see `ready`.
    deciding: tokio::sync::Mutex<Option<i32>>,
    sessions: Mutex<Sessions>,
}

impl<L: MetadataLog> Controller<L> {
    pub fn new(log: L, server: ServerConfig) -> Self {
        let timeout = Duration::from_millis(server.lifecycle.session_timeout_ms);
        Self {
            log,
            server,
            deciding: tokio::sync::Mutex::new(None),
            sessions: Mutex::new(Sessions::new(timeout)),
        }
    }

    /// What is committed and replayed here.
    pub fn image(&self) -> Arc<Image> {
        self.log.image()
    }

    /// Makes the cluster, if the log is empty.
    pub async fn bootstrap(
        &self,
        cluster_id: &str,
    ) -> Result<Result<(), BootstrapError>, ControllerError> {
        self.run(|image, _| bootstrap::decide(image, cluster_id))
            .await
    }

    pub async fn create_topics(
        &self,
        request: &CreateTopics,
    ) -> Result<create_topics::Reply, ControllerError> {
        self.run(|image, server| {
            create_topics::decide(image, server, request, &mut || new_topic_id(image))
        })
        .await
    }

    pub async fn create_partitions(
        &self,
        request: &CreatePartitions,
    ) -> Result<create_partitions::Reply, ControllerError> {
        self.run(|image, _| create_partitions::decide(image, request))
            .await
    }

    pub async fn delete_topics(
        &self,
        keys: &[TopicKey],
    ) -> Result<delete_topics::Reply, ControllerError> {
        self.run(|image, server| delete_topics::decide(image, server, keys))
            .await
    }

    pub async fn alter_configs(
        &self,
        request: &AlterConfigs,
    ) -> Result<alter_configs::Reply, ControllerError> {
        self.run(|image, server| alter_configs::decide(image, server, request))
            .await
    }

    pub async fn alter_reassignments(
        &self,
        request: &AlterReassignments,
    ) -> Result<reassignments::Reply, ControllerError> {
        self.run(|image, _| reassignments::decide(image, request))
            .await
    }

    pub async fn allocate_producer_ids(
        &self,
        broker_id: NodeId,
        broker_epoch: i64,
    ) -> Result<Result<ProducerIdBlock, AllocateError>, ControllerError> {
        self.run(|image, _| producer_ids::decide(image, broker_id, broker_epoch))
            .await
    }

    pub async fn update_features(
        &self,
        request: &UpdateFeatures,
    ) -> Result<Result<(), FeatureError>, ControllerError> {
        self.run(|image, _| features::decide(image, request)).await
    }

    /// Answers the broker epoch.
    pub async fn register_broker(
        &self,
        request: &RegisterBroker,
        now: Instant,
    ) -> Result<Result<i64, RegisterError>, ControllerError> {
        let decide = |image: &Image, _: &ServerConfig| {
            let known = image.broker(request.broker_id);
            let is_alive = known.is_some_and(|b| self.sessions().is_alive(b.id, b.epoch, now));
            brokers::register(image, is_alive, request)
        };
        let reply = self.run(decide).await?;
        if let Ok(epoch) = reply {
            self.sessions().touch(request.broker_id, epoch, now);
        }
        Ok(reply)
    }

    /// Does not wait for other decisions unless it changes something.
    pub async fn heartbeat(
        &self,
        request: &Heartbeat,
        now: Instant,
    ) -> Result<Result<HeartbeatReply, StaleBroker>, ControllerError> {
        if self.log.leader_epoch().is_none() {
            return Err(AppendError::NotController.into());
        }
        let decision = brokers::heartbeat(&self.log.image(), request);
        if decision.reply.is_ok() {
            self.sessions()
                .touch(request.broker_id, request.broker_epoch, now);
        }
        if decision.reply.is_ok() && decision.records.is_empty() {
            return Ok(decision.reply);
        }
        // The image may be behind the broker's registration, too.
        let reply = self
            .run(|image, _| brokers::heartbeat(image, request))
            .await?;
        if reply.is_ok() {
            self.sessions()
                .touch(request.broker_id, request.broker_epoch, now);
        }
        Ok(reply)
    }

    /// Fences brokers that have not been heard of for `broker.session.timeout.ms`, and answers which.
    /// To be called a few times per timeout.
    pub async fn fence_expired(&self, now: Instant) -> Result<Vec<NodeId>, ControllerError> {
        let decide = |image: &Image, _: &ServerConfig| {
            let sessions = self.sessions();
            brokers::fence_expired(image, &|id, epoch| sessions.is_alive(id, epoch, now))
        };
        let fenced = self.run_at(now, decide).await?;
        for id in &fenced {
            tracing::warn!(broker = id, "fenced a broker whose session ended");
        }
        Ok(fenced)
    }

    /// Begins moves away from brokers that are drained or gone, and to those that have fewer replicas. To be
    /// called every second or so; answers the moves.
    pub async fn balance(&self, now: Instant) -> Result<Vec<Replacement>, ControllerError> {
        let decide = |image: &Image, server: &ServerConfig| {
            let replication = &server.replication;
            let after = replication.replace_after_ms.map(Duration::from_millis);
            // Asked in any case, so that it is known since when who is gone.
            let gone = self
                .sessions()
                .gone_for(after.unwrap_or(Duration::MAX), image, now);
            balance::decide(image, &gone, replication.rebalance)
        };
        self.run_at(now, decide).await
    }

    pub async fn unregister_broker(
        &self,
        id: NodeId,
    ) -> Result<Result<(), StaleBroker>, ControllerError> {
        let reply = self.run(|image, _| brokers::unregister(image, id)).await?;
        if reply.is_ok() {
            self.sessions().remove(id);
        }
        Ok(reply)
    }

    pub async fn report_leaders(
        &self,
        broker_id: NodeId,
        broker_epoch: i64,
        reports: &[LeaderReport],
    ) -> Result<Result<(), StaleBroker>, ControllerError> {
        self.run(|image, _| leaders::decide(image, broker_id, broker_epoch, reports))
            .await
    }

    async fn run<R>(
        &self,
        decide: impl FnOnce(&Image, &ServerConfig) -> Decision<R>,
    ) -> Result<R, ControllerError> {
        self.run_at(Instant::now(), decide).await
    }

    async fn run_at<R>(
        &self,
        now: Instant,
        decide: impl FnOnce(&Image, &ServerConfig) -> Decision<R>,
    ) -> Result<R, ControllerError> {
        let mut ready = self.deciding.lock().await;
        let leader_epoch = self.ready(&mut ready, now).await?;
        let image = self.log.image();
        let Decision { records, reply } = self.decide_on(&image, decide);
        if records.is_empty() {
            return Ok(reply);
        }
        check_size(&records)?;
        // Whatever the outcome, and if this future is dropped: without an answer the records may
        // come later, so the next decision starts with a barrier.
        *ready = None;
        self.log.append(leader_epoch, records).await?;
        *ready = Some(leader_epoch);
        Ok(reply)
    }

    /// The leader epoch of this node, once the image holds all that earlier leaders, and earlier
    /// appends without an answer, have left in the log. Deciding on less could give an id out twice.
    async fn ready(&self, ready: &mut Option<i32>, now: Instant) -> Result<i32, AppendError> {
        let leader_epoch = self.log.leader_epoch().ok_or(AppendError::NotController)?;
        if *ready != Some(leader_epoch) {
            self.log.barrier(leader_epoch).await?;
            self.sessions()
                .activate(leader_epoch, &self.log.image(), now);
            *ready = Some(leader_epoch);
        }
        Ok(leader_epoch)
    }

    /// The server's configuration as it is now: with the dynamic defaults of all brokers.
    fn decide_on<R>(
        &self,
        image: &Image,
        decide: impl FnOnce(&Image, &ServerConfig) -> Decision<R>,
    ) -> Decision<R> {
        let dynamic = image.broker_configs(None);
        if dynamic.is_empty() {
            return decide(image, &self.server);
        }
        match self.server.with_dynamic(dynamic, &Default::default()) {
            Ok(server) => decide(image, &server),
            Err(errors) => {
                tracing::error!(%errors, "the dynamic configs of all brokers do not fit this node's");
                decide(image, &self.server)
            }
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect("no holder of the lock panics")
    }
}

fn check_size(records: &[MetadataRecord]) -> Result<(), ControllerError> {
    let sizes = records.iter().map(encoded_len);
    let largest = sizes.clone().max().unwrap_or(0);
    let all = sizes.map(|bytes| bytes + RECORD_OVERHEAD_BYTES).sum();
    match largest > METADATA_RECORD_BYTES || all > METADATA_BATCH_BYTES {
        true => Err(ControllerError::TooLarge(all)),
        false => Ok(()),
    }
}

/// Kafka's tools take a topic id that starts with a dash, in their base64, for an option.
fn new_topic_id(image: &Image) -> Uuid {
    loop {
        let id = Uuid::new_v4();
        let starts_with_dash = id.as_bytes()[0] >> 2 == 62;
        if !starts_with_dash && image.topic_by_id(id).is_none() {
            return id;
        }
    }
}

#[cfg(test)]
mod tests;
