//! The way to the active controller, wherever it runs: in this process, or over the network. And from it to
//! the leaders that it asks to hand over.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_controller::brokers::{Heartbeat, HeartbeatReply, RegisterBroker};
use ottla_controller::elect_leaders::HandOver;
use ottla_controller::leaders::LeaderReport;
use ottla_peer::GrpcTransport;
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::{
    CONTROL_CALL_WAIT_MS, CONTROL_PAUSE_MS, LEADER_HANDOVER_WAIT_MS, METADATA_COMMIT_WAIT_MS,
};
use ottla_proto::peer::{
    self, BrokerHeartbeat, ControlRequest, ForwardedRequest, HandOvers, LeaderReports,
    ProducerIdBlock, ProducerIdsRequest, TopicsToCreate, control_reply, control_request,
};
use ottla_raft::ConnectError;
use tokio::time::Instant;

use crate::control::{self, ControlService};
use crate::metadata::Metadata;
use crate::skew;

type Client = peer::peer_client::PeerClient<tonic::transport::Channel>;

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
    transport: Option<Arc<GrpcTransport>>,
    voters: Vec<NodeId>,
    /// The last controller that was called.
    connection: tokio::sync::Mutex<Option<(NodeId, Client)>>,
}

impl Controllers {
    pub fn new(
        cluster_id: String,
        here: Arc<ControlService>,
        metadata: Arc<Metadata>,
        transport: Option<Arc<GrpcTransport>>,
        voters: Vec<NodeId>,
    ) -> Controllers {
        Controllers {
            cluster_id,
            node_id: metadata.node_id(),
            here,
            metadata,
            transport,
            voters,
            connection: tokio::sync::Mutex::new(None),
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
        let answer = async {
            if leader == self.node_id {
                return Ok(self.here.answer(leader, request).await.kind);
            }
            let unreachable = |error: ConnectError| ControlError::Unknown(error.to_string());
            let mut client = self.dial(leader).await.map_err(unreachable)?;
            let answer = client.control(request).await;
            let failed = |status: tonic::Status| ControlError::Unknown(status.to_string());
            Ok(answer.map_err(failed)?.into_inner().kind)
        };
        let wait = Duration::from_millis(LEADER_HANDOVER_WAIT_MS + CONTROL_PAUSE_MS);
        let answer = tokio::time::timeout(wait, answer).await;
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
        let connected = tokio::time::timeout_at(deadline, self.connect(node))
            .await
            .ok()?;
        let mut client = match connected {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(node, %error, "a controller is not reached");
                return None;
            }
        };
        let answer = tokio::time::timeout_at(deadline, client.control(request.clone())).await;
        match answer {
            Ok(Ok(reply)) => reply.into_inner().kind,
            // It has not been taken.
            Ok(Err(status)) if status.code() == tonic::Code::Unavailable && starting(&status) => {
                None
            }
            Ok(Err(status)) if never_left(&status) => {
                *self.connection.lock().await = None;
                None
            }
            Ok(Err(status)) => {
                *self.connection.lock().await = None;
                Some(control_reply::Kind::Failed(status.to_string()))
            }
            Err(_) => {
                *self.connection.lock().await = None;
                Some(control_reply::Kind::Failed("no answer in time".into()))
            }
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

    async fn connect(&self, node: NodeId) -> Result<Client, ConnectError> {
        let mut connection = self.connection.lock().await;
        if let Some((_, client)) = connection.as_ref().filter(|(to, _)| *to == node) {
            return Ok(client.clone());
        }
        let client = self.dial(node).await?;
        *connection = Some((node, client.clone()));
        Ok(client)
    }

    async fn dial(&self, node: NodeId) -> Result<Client, ConnectError> {
        let alone = || ConnectError::Unreachable("this node runs alone".into());
        let transport = self.transport.as_ref().ok_or_else(alone)?;
        transport.call(node).await
    }
}

/// The node has told so itself.
fn starting(status: &tonic::Status) -> bool {
    std::error::Error::source(status).is_none()
}

/// The connection had ended before the request was written to it, and is not made anew by itself.
fn never_left(status: &tonic::Status) -> bool {
    let first = std::error::Error::source(status);
    let mut causes = std::iter::successors(first, |cause| cause.source());
    let io_kind = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<std::io::Error>()?;
        Some(error.kind())
    };
    causes.any(|cause| io_kind(cause) == Some(std::io::ErrorKind::NotConnected))
}

fn unexpected(kind: &control_reply::Kind) -> ControlError {
    ControlError::Unknown(format!("an answer of another kind: {kind:?}"))
}

/// Set once the node belongs to a cluster: addresses are looked up before there is metadata.
pub type LateMetadata = Arc<OnceLock<Arc<Metadata>>>;
