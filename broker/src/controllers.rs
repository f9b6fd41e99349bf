//! The way to the active controller, wherever it runs: in this process, or over the network. And from it to
//! the leaders that it asks to hand over.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_controller::brokers::{Heartbeat, HeartbeatReply, RegisterBroker};
use ottla_controller::elect_leaders::HandOver;
use ottla_controller::leaders::LeaderReport;
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::{
    CONTROL_CALL_WAIT_MS, CONTROL_PAUSE_MS, LEADER_HANDOVER_WAIT_MS, METADATA_COMMIT_WAIT_MS,
};
use ottla_proto::peer::{
    self, BrokerHeartbeat, ControlRequest, ForwardedRequest, HandOvers, LeaderReports,
    ProducerIdBlock, ProducerIdsRequest, TopicsToCreate, control_reply, control_request,
};
use tokio::time::Instant;

use crate::calls::{CallError, Calls};
use crate::control::{self, ControlService};
use crate::metadata::Metadata;
use crate::skew;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Nothing happened.
    #[error("no active controller was found in time")]
    NoController,
    #[error("the controller refuses: {0}")]
    Refused(String),
    /// It may have happened.
    #[error("the controller did not answer: {0}")]
    Unknown(String),
}

/// A topic that was asked for: its name, and the error if it is not there.
pub type Made = (String, Option<(i16, String)>);

pub struct Controllers {
    cluster_id: String,
    node_id: NodeId,
    here: Arc<ControlService>,
    metadata: Arc<Metadata>,
    /// `None` where there are no other nodes.
    calls: Option<Arc<dyn Calls>>,
    voters: Vec<NodeId>,
}

impl Controllers {
    pub fn new(
        cluster_id: String,
        here: Arc<ControlService>,
        metadata: Arc<Metadata>,
        calls: Option<Arc<dyn Calls>>,
        voters: Vec<NodeId>,
    ) -> Controllers {
        Controllers {
            cluster_id,
            node_id: metadata.node_id(),
            here,
            metadata,
            calls,
            voters,
        }
    }

    /// Answers the broker epoch.
    pub async fn register(&self, request: &RegisterBroker) -> Result<i64, ControlError> {
        let kind = control_request::Kind::Register(control::registration(request));
        match self.ask(kind, CONTROL_CALL_WAIT_MS).await? {
            control_reply::Kind::Registered(registered) => Ok(registered.broker_epoch),
            other => Err(unexpected(&other)),
        }
    }

    pub async fn heartbeat(
        &self,
        beat: &Heartbeat,
        wait: Duration,
    ) -> Result<HeartbeatReply, ControlError> {
        let kind = control_request::Kind::Heartbeat(BrokerHeartbeat {
            broker_epoch: beat.broker_epoch,
            want_fence: beat.want_fence,
            want_shut_down: beat.want_shut_down,
        });
        let asked = Instant::now();
        match self.ask(kind, wait.as_millis() as u64).await? {
            control_reply::Kind::Heartbeat(reply) => {
                skew::note(self.metadata.now_ms(), reply.now_ms, asked.elapsed());
                Ok(HeartbeatReply {
                    is_fenced: reply.is_fenced,
                    should_shut_down: reply.should_shut_down,
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn report_leaders(
        &self,
        broker_epoch: i64,
        reports: &[LeaderReport],
    ) -> Result<(), ControlError> {
        let reports = reports.iter().map(|report| peer::LeaderReport {
            group: report.group.0,
            leader: report.leader.unwrap_or(-1),
            leader_epoch: report.leader_epoch,
            in_sync: report.in_sync.clone(),
            voters: report.voters.clone(),
        });
        let kind = control_request::Kind::Leaders(LeaderReports {
            broker_epoch,
            reports: reports.collect(),
        });
        match self.ask(kind, CONTROL_CALL_WAIT_MS).await? {
            control_reply::Kind::Done(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    pub async fn allocate_producer_ids(
        &self,
        broker_epoch: i64,
    ) -> Result<ProducerIdBlock, ControlError> {
        let kind = control_request::Kind::ProducerIds(ProducerIdsRequest { broker_epoch });
        match self.ask(kind, CONTROL_CALL_WAIT_MS).await? {
            control_reply::Kind::ProducerIds(block) if block.len > 0 => Ok(block),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes topics with the cluster's defaults. Returns once this node's image has them.
    pub async fn create_topics(&self, names: Vec<String>) -> Result<Vec<Made>, ControlError> {
        let kind = control_request::Kind::CreateTopics(TopicsToCreate { names });
        match self.ask(kind, CONTROL_CALL_WAIT_MS).await? {
            control_reply::Kind::CreatedTopics(created) => {
                self.catch_up(created.metadata_offset).await;
                let made = created.topics.into_iter().map(|topic| {
                    let error = i16::try_from(topic.error_code).unwrap_or(-1);
                    let error = (error != 0).then_some((error, topic.error_message));
                    (topic.name, error)
                });
                Ok(made.collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Hands on a client's request; the answer as it goes out. What it changed is in this node's image then.
    pub async fn forward(
        &self,
        frame: Bytes,
        listener: &str,
        address: String,
    ) -> Result<Bytes, ControlError> {
        let kind = control_request::Kind::Forwarded(ForwardedRequest {
            frame,
            listener: listener.to_owned(),
            address,
        });
        match self.ask(kind, CONTROL_CALL_WAIT_MS).await? {
            control_reply::Kind::Forwarded(reply) => {
                self.catch_up(reply.metadata_offset).await;
                Ok(reply.frame)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the leader of these groups to hand them over. Why not, for each that stayed.
    pub async fn hand_over(
        &self,
        leader: NodeId,
        groups: &[HandOver],
    ) -> Result<Vec<(GroupId, String)>, ControlError> {
        let groups = groups.iter().map(|hand_over| peer::HandOver {
            group: hand_over.group.0,
            leader_epoch: hand_over.leader_epoch,
            to: hand_over.to,
        });
        let groups = groups.collect();
        let request = ControlRequest {
            cluster_id: self.cluster_id.clone(),
            kind: Some(control_request::Kind::HandOvers(HandOvers { groups })),
        };
        let wait = Duration::from_millis(LEADER_HANDOVER_WAIT_MS + CONTROL_PAUSE_MS);
        let deadline = Instant::now() + wait;
        let answer = async {
            if leader == self.node_id {
                return Ok(self.here.answer(leader, request).await.kind);
            }
            let calls = self.calls.as_ref();
            let calls =
                calls.ok_or_else(|| ControlError::Unknown("this node runs alone".into()))?;
            let failed = |error: CallError| ControlError::Unknown(error.to_string());
            let answer = calls.call(leader, request, deadline).await;
            Ok(answer.map_err(failed)?.kind)
        };
        let answer = tokio::time::timeout_at(deadline, answer).await;
        let late = |_| ControlError::Unknown("no answer in time".into());
        match answer.map_err(late)?? {
            Some(control_reply::Kind::HandedOver(handed)) => {
                let stayed = handed.results.into_iter().filter(|r| !r.failed.is_empty());
                Ok(stayed.map(|r| (GroupId(r.group), r.failed)).collect())
            }
            Some(control_reply::Kind::Refused(why)) => Err(ControlError::Refused(why)),
            other => Err(ControlError::Unknown(format!(
                "an answer of another kind: {other:?}"
            ))),
        }
    }

    async fn catch_up(&self, offset: i64) {
        let mut image = self.metadata.watch();
        let reached = image.wait_for(|image| image.applied_offset() >= offset);
        let wait = Duration::from_millis(METADATA_COMMIT_WAIT_MS);
        if tokio::time::timeout(wait, reached).await.is_err() {
            tracing::warn!(offset, "the metadata has not come this far in time");
        }
    }

    /// Asks whoever is the active controller, for as long as there is none that takes it.
    async fn ask(
        &self,
        kind: control_request::Kind,
        wait_ms: u64,
    ) -> Result<control_reply::Kind, ControlError> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let request = ControlRequest {
            cluster_id: self.cluster_id.clone(),
            kind: Some(kind),
        };
        for round in 0.. {
            match self.try_ask(round, &request, deadline).await {
                Some(control_reply::Kind::Refused(why)) => return Err(ControlError::Refused(why)),
                Some(control_reply::Kind::Failed(why)) => return Err(ControlError::Unknown(why)),
                Some(control_reply::Kind::NotController(_)) | None => {}
                Some(kind) => return Ok(kind),
            }
            let pause = Instant::now() + Duration::from_millis(CONTROL_PAUSE_MS);
            if pause >= deadline {
                break;
            }
            tokio::time::sleep_until(pause).await;
        }
        Err(ControlError::NoController)
    }

    /// `None`: nobody was reached.
    async fn try_ask(
        &self,
        round: usize,
        request: &ControlRequest,
        deadline: Instant,
    ) -> Option<control_reply::Kind> {
        let node = self.candidate(round)?;
        if node == self.node_id {
            return self.here.answer(node, request.clone()).await.kind;
        }
        match self
            .calls
            .as_ref()?
            .call(node, request.clone(), deadline)
            .await
        {
            Ok(reply) => reply.kind,
            Err(CallError::NotTaken(why)) => {
                tracing::debug!(node, why, "a controller is not reached");
                None
            }
            Err(CallError::Unknown(why)) => Some(control_reply::Kind::Failed(why)),
        }
    }

    /// The leader of the quorum as this node knows it, and every other round somebody who may know better.
    fn candidate(&self, round: usize) -> Option<NodeId> {
        let leader = self.metadata.leader_node();
        if let Some(leader) = leader.filter(|_| round.is_multiple_of(2)) {
            return Some(leader);
        }
        let others = self.voters.len();
        self.voters
            .get(round / 2 % others.max(1))
            .copied()
            .or(leader)
    }
}

fn unexpected(kind: &control_reply::Kind) -> ControlError {
    ControlError::Unknown(format!("an answer of another kind: {kind:?}"))
}

/// Set once the node belongs to a cluster: addresses are looked up before there is metadata.
pub type LateMetadata = Arc<OnceLock<Arc<Metadata>>>;
