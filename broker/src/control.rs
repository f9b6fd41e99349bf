//! What this node does as the active controller for brokers that ask, and as a leader for the active controller:
//! the answering side of `controllers.rs`.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock, Weak};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use ottla_controller::brokers::{Heartbeat, RegisterBroker};
use ottla_controller::create_topics::{CreateTopicError, CreateTopics, auto_topic};
use ottla_controller::leaders::LeaderReport;
use ottla_controller::{AppendError, Controller, ControllerError};
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::metadata::records;
use ottla_proto::peer::{
    self, BrokerHeartbeatReply, ControlReply, ControlRequest, CreatedTopic, CreatedTopics, Done,
    ForwardedReply, ForwardedRequest, HandOverResult, HandOvers, HandedOver, LeaderReports,
    ProducerIdBlock, Registered, Registration, TopicsToCreate, control_reply, control_request,
};
use ottla_raft::Groups;
use tokio::time::Instant;

use crate::api;
use crate::metadata::Metadata;
use crate::preferred;
use crate::services::Services;

type Reply = Result<control_reply::Kind, Refused>;

/// Why there is no answer of the wanted kind.
enum Refused {
    NotController,
    /// For good.
    Because(String),
    /// It may have happened.
    Unknown(String),
}

impl From<ControllerError> for Refused {
    fn from(error: ControllerError) -> Refused {
        match error {
            ControllerError::Append(AppendError::NotController) => Refused::NotController,
            ControllerError::Append(error) => Refused::Unknown(error.to_string()),
            error => Refused::Because(error.to_string()),
        }
    }
}

fn refused(why: impl ToString) -> Refused {
    Refused::Because(why.to_string())
}

const ALONE: &str = "the controller runs alone: controller.quorum.voters names itself only, and it is a broker, too. More \
     brokers need three voters, or a controller with process.roles=controller";

/// Answers brokers while this node leads the metadata quorum.
pub struct ControlService {
    cluster_id: String,
    controller: Arc<Controller<Metadata>>,
    metadata: Arc<Metadata>,
    groups: Arc<Groups>,
    /// For requests of clients; set once they are served here.
    services: OnceLock<Weak<Services>>,
}

impl ControlService {
    pub fn new(
        cluster_id: String,
        controller: Arc<Controller<Metadata>>,
        metadata: Arc<Metadata>,
        groups: Arc<Groups>,
    ) -> ControlService {
        ControlService {
            cluster_id,
            controller,
            metadata,
            groups,
            services: OnceLock::new(),
        }
    }

    pub fn serve(&self, services: &Arc<Services>) {
        let first = self.services.set(Arc::downgrade(services));
        assert!(first.is_ok(), "clients are served once");
    }

    pub async fn answer(&self, caller: NodeId, request: ControlRequest) -> ControlReply {
        use control_reply::Kind;
        let kind = match self.decide(caller, request).await {
            Ok(kind) => kind,
            Err(Refused::NotController) => Kind::NotController(Done {}),
            Err(Refused::Because(why)) => Kind::Refused(why),
            Err(Refused::Unknown(why)) => Kind::Failed(why),
        };
        ControlReply { kind: Some(kind) }
    }

    async fn decide(&self, caller: NodeId, request: ControlRequest) -> Reply {
        use control_request::Kind;
        if request.cluster_id != self.cluster_id {
            return Err(refused("a node of another cluster"));
        }
        // Whoever leads a group hands it over, the active controller or not.
        if let Some(Kind::HandOvers(asked)) = request.kind {
            return Ok(self.hand_over(asked).await);
        }
        // Before its first records the cluster is not there.
        if !self.metadata.is_leader() || self.metadata.current().cluster_id().is_none() {
            return Err(Refused::NotController);
        }
        match request.kind {
            Some(Kind::Register(registration)) => self.register(caller, registration).await,
            Some(Kind::Heartbeat(beat)) => {
                let heartbeat = Heartbeat {
                    broker_id: caller,
                    broker_epoch: beat.broker_epoch,
                    want_fence: beat.want_fence,
                    want_shut_down: beat.want_shut_down,
                };
                let reply = self
                    .controller
                    .heartbeat(&heartbeat, Instant::now())
                    .await?;
                let reply = reply.map_err(refused)?;
                Ok(control_reply::Kind::Heartbeat(BrokerHeartbeatReply {
                    is_fenced: reply.is_fenced,
                    should_shut_down: reply.should_shut_down,
                    now_ms: self.metadata.now_ms(),
                }))
            }
            Some(Kind::Leaders(reports)) => self.leaders(caller, reports).await,
            Some(Kind::ProducerIds(asked)) => {
                let controller = &self.controller;
                let block = controller.allocate_producer_ids(caller, asked.broker_epoch);
                let block = block.await?.map_err(refused)?;
                Ok(control_reply::Kind::ProducerIds(ProducerIdBlock {
                    first: block.first,
                    len: block.len,
                }))
            }
            Some(Kind::CreateTopics(topics)) => self.create_topics(topics).await,
            Some(Kind::Forwarded(request)) => self.forwarded(request).await,
            Some(Kind::HandOvers(_)) | None => Err(refused(
                "a request of a kind that this release does not know",
            )),
        }
    }

    async fn register(&self, caller: NodeId, registration: Registration) -> Reply {
        if !self.groups.is_clustered() && caller != self.metadata.node_id() {
            return Err(refused(ALONE));
        }
        let request = registration_of(caller, &self.cluster_id, registration).map_err(refused)?;
        let epoch = self
            .controller
            .register_broker(&request, Instant::now())
            .await?;
        let broker_epoch = epoch.map_err(refused)?;
        Ok(control_reply::Kind::Registered(Registered { broker_epoch }))
    }

    async fn leaders(&self, caller: NodeId, reports: LeaderReports) -> Reply {
        let broker_epoch = reports.broker_epoch;
        let report = |report: peer::LeaderReport| LeaderReport {
            group: GroupId(report.group),
            leader: Some(report.leader).filter(|leader| *leader >= 0),
            leader_epoch: report.leader_epoch,
            in_sync: report.in_sync,
            voters: report.voters,
        };
        let reports: Vec<_> = reports.reports.into_iter().map(report).collect();
        let reported = self
            .controller
            .report_leaders(caller, broker_epoch, &reports);
        reported.await?.map_err(refused)?;
        Ok(control_reply::Kind::Done(Done {}))
    }

    async fn create_topics(&self, topics: TopicsToCreate) -> Reply {
        let config = self.metadata.config();
        let topics = topics.names.iter().map(|name| auto_topic(&config, name));
        let request = CreateTopics {
            topics: topics.collect(),
            validate_only: false,
        };
        let reply = self.controller.create_topics(&request).await?;
        let created = reply.into_iter().map(|(name, result)| {
            let (error_code, error_message) = match &result {
                // Somebody else was faster.
                Ok(_) | Err(CreateTopicError::Exists(_)) => (0, String::new()),
                Err(error) => (api::create_topic_error_code(error), error.to_string()),
            };
            CreatedTopic {
                name,
                error_code: error_code.into(),
                error_message,
            }
        });
        Ok(control_reply::Kind::CreatedTopics(CreatedTopics {
            topics: created.collect(),
            metadata_offset: self.metadata.current().applied_offset(),
        }))
    }

    async fn hand_over(&self, asked: HandOvers) -> control_reply::Kind {
        let image = self.metadata.current();
        let hand_over = async |asked: &peer::HandOver| {
            let id = GroupId(asked.group);
            let group = self.groups.get(id);
            let led = group.filter(|group| group.leader_epoch() == Some(asked.leader_epoch));
            let failed = match led {
                None => Some("this broker does not lead the group in that epoch".to_owned()),
                Some(group) => {
                    let handed = preferred::hand_over(&image, &group, asked.to).await;
                    handed.err().map(|error| error.to_string())
                }
            };
            tracing::info!(group = %id, to = asked.to, failed, "asked to hand over");
            HandOverResult {
                group: asked.group,
                failed: failed.unwrap_or_default(),
            }
        };
        let results = join_all(asked.groups.iter().map(hand_over)).await;
        control_reply::Kind::HandedOver(HandedOver { results })
    }

    async fn forwarded(&self, request: ForwardedRequest) -> Reply {
        let services = self.services.get().and_then(Weak::upgrade);
        let services = services.ok_or(Refused::NotController)?;
        let address = request.address.parse().map_err(refused)?;
        let frame = request.frame;
        let answer = api::forwarded(services, address, request.listener, frame);
        let frame = answer.await.map_err(refused)?;
        Ok(control_reply::Kind::Forwarded(ForwardedReply {
            frame,
            metadata_offset: self.metadata.current().applied_offset(),
        }))
    }
}

impl ottla_peer::Control for ControlService {
    fn control(
        self: Arc<Self>,
        caller: NodeId,
        request: ControlRequest,
    ) -> BoxFuture<'static, Result<ControlReply, Infallible>> {
        async move { Ok(self.answer(caller, request).await) }.boxed()
    }
}

/// As the wire has it; the cluster is the one whose members talk here.
fn registration_of(
    caller: NodeId,
    cluster_id: &str,
    registration: Registration,
) -> Result<RegisterBroker, &'static str> {
    let broker = registration
        .broker
        .ok_or("a registration without a broker")?;
    if broker.broker_id != caller {
        return Err("a node registers itself");
    }
    let listeners = broker.listeners.iter().map(|listener| {
        Ok(ottla_proto::metadata::Listener {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: u16::try_from(listener.port).map_err(|_| "a port that is none")?,
            security_protocol: records::SecurityProtocol::try_from(listener.security_protocol)
                .map_err(|_| "a security protocol that this release does not know")?,
        })
    });
    let level = |level: i32| i16::try_from(level).map_err(|_| "a feature level that is none");
    let features = registration.features.into_iter();
    let features = features.map(|f| Ok((f.name, level(f.min_level)?, level(f.max_level)?)));
    Ok(RegisterBroker {
        cluster_id: cluster_id.to_owned(),
        broker_id: caller,
        incarnation_id: broker.incarnation_id.map(Into::into).unwrap_or_default(),
        rack: Some(broker.rack).filter(|rack| !rack.is_empty()),
        listeners: listeners.collect::<Result<_, &'static str>>()?,
        log_dirs: broker.log_dirs.into_iter().map(Into::into).collect(),
        features: features.collect::<Result<_, &'static str>>()?,
    })
}

/// The other way round.
pub fn registration(request: &RegisterBroker) -> Registration {
    let listeners = request.listeners.iter().map(|listener| records::Listener {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port.into(),
        security_protocol: listener.security_protocol.into(),
    });
    let features = request
        .features
        .iter()
        .map(|(name, min, max)| peer::SupportedFeature {
            name: name.clone(),
            min_level: i32::from(*min),
            max_level: i32::from(*max),
        });
    Registration {
        broker: Some(records::RegisterBroker {
            broker_id: request.broker_id,
            incarnation_id: Some(request.incarnation_id.into()),
            rack: request.rack.clone().unwrap_or_default(),
            listeners: listeners.collect(),
            log_dirs: request.log_dirs.iter().map(|id| (*id).into()).collect(),
            ..records::RegisterBroker::default()
        }),
        features: features.collect(),
    }
}

#[cfg(test)]
mod tests {
    use ottla_controller::brokers::supported_features;
    use ottla_proto::metadata::Listener;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_registration_comes_through() {
        let request = RegisterBroker {
            cluster_id: "c".into(),
            broker_id: 3,
            incarnation_id: Uuid::from_u128(7),
            rack: Some("r".into()),
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "h".into(),
                port: 9092,
                security_protocol: records::SecurityProtocol::Plaintext,
            }],
            log_dirs: vec![Uuid::from_u128(9)],
            features: supported_features(),
        };
        let sent = registration(&request);
        assert_eq!(registration_of(3, "c", sent.clone()), Ok(request));
        assert!(
            registration_of(4, "c", sent.clone()).is_err(),
            "another node"
        );
        let mut bad = sent;
        bad.broker.as_mut().unwrap().listeners[0].port = 1 << 20;
        assert!(registration_of(3, "c", bad).is_err());
    }
}
