//! The life of a broker (KIP-631): register, heartbeat, controlled shutdown, fence, unregister.
use ottla_proto::ids::NodeId;
use ottla_proto::limits::METADATA_RECORD_BYTES;
use ottla_proto::metadata::{
    Broker, Image, Listener, MetadataRecord, SUPPORTED_FEATURES, encoded_len, records,
};
use thiserror::Error;
use uuid::Uuid;

use crate::{Decision, leaders};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterBroker {
    pub cluster_id: String,
    pub broker_id: NodeId,
    /// Drawn anew by each start of the process.
    pub incarnation_id: Uuid,
    pub rack: Option<String>,
    /// Advertised ones.
    pub listeners: Vec<Listener>,
    pub log_dirs: Vec<Uuid>,
    /// Name, lowest and highest level of each feature that the broker supports.
    pub features: Vec<(String, i16, i16)>,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RegisterError {
    /// INCONSISTENT_CLUSTER_ID
    #[error("Expected cluster ID {expected}, but got cluster ID {found}")]
    ClusterId { expected: String, found: String },
    /// DUPLICATE_BROKER_REGISTRATION
    #[error(
        "Another live broker is registered with id {0}. If this broker was just restarted, the \
         registration becomes free when the session of the one before it ends"
    )]
    Duplicate(NodeId),
    /// UNSUPPORTED_VERSION
    #[error("The cluster runs {feature} at level {level}, which this broker does not support")]
    Feature { feature: String, level: i16 },
    /// INVALID_REGISTRATION
    #[error("{0}")]
    Invalid(&'static str),
}

/// A broker that the controller does not know as what it says it is.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StaleBroker {
    /// BROKER_ID_NOT_REGISTERED
    #[error("Broker {0} is not registered")]
    NotRegistered(NodeId),
    /// STALE_BROKER_EPOCH
    #[error("Broker {id} has epoch {current}, not {found}")]
    Epoch {
        id: NodeId,
        current: i64,
        found: i64,
    },
}

/// The broker, if `epoch` is its current registration's.
pub(crate) fn check_epoch(image: &Image, id: NodeId, epoch: i64) -> Result<&Broker, StaleBroker> {
    let broker = image.broker(id).ok_or(StaleBroker::NotRegistered(id))?;
    match broker.epoch == epoch {
        true => Ok(broker),
        false => Err(StaleBroker::Epoch {
            id,
            current: broker.epoch,
            found: epoch,
        }),
    }
}

/// Answers the broker epoch. `is_alive` says whether the registration that the broker has, if any,
/// has a session. A broker starts fenced. The same incarnation, whose answer was lost, keeps its
/// epoch.
pub fn register(
    image: &Image,
    is_alive: bool,
    request: &RegisterBroker,
) -> Decision<Result<i64, RegisterError>> {
    if let Err(error) = check_registration(image, is_alive, request) {
        return Decision::reply(Err(error));
    }
    let known = image.broker(request.broker_id);
    let known = known.filter(|broker| broker.incarnation_id == request.incarnation_id);
    let next = || image.next_broker_epoch();
    let record = registration(request, known.map_or_else(next, |broker| broker.epoch));
    if encoded_len(&MetadataRecord::RegisterBroker(record.clone())) > METADATA_RECORD_BYTES {
        let what = "the registration does not fit into a metadata record";
        return Decision::reply(Err(RegisterError::Invalid(what)));
    }
    let reply = Ok(record.broker_epoch);
    // Another process: what the one before it led and followed is over.
    let mut records = match known {
        Some(_) => Vec::new(),
        None => leaders::without(image, &[request.broker_id]),
    };
    records.push(MetadataRecord::RegisterBroker(record));
    Decision { records, reply }
}

fn registration(request: &RegisterBroker, broker_epoch: i64) -> records::RegisterBroker {
    let listeners = request.listeners.iter().map(|listener| records::Listener {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port.into(),
        security_protocol: listener.security_protocol.into(),
    });
    records::RegisterBroker {
        broker_id: request.broker_id,
        broker_epoch,
        incarnation_id: Some(request.incarnation_id.into()),
        rack: request.rack.clone().unwrap_or_default(),
        listeners: listeners.collect(),
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: request.log_dirs.iter().map(|id| (*id).into()).collect(),
    }
}

fn check_registration(
    image: &Image,
    is_alive: bool,
    request: &RegisterBroker,
) -> Result<(), RegisterError> {
    let expected = image.cluster_id().unwrap_or_default();
    if request.cluster_id != expected {
        return Err(RegisterError::ClusterId {
            expected: expected.to_owned(),
            found: request.cluster_id.clone(),
        });
    }
    if request.broker_id < 0 {
        return Err(RegisterError::Invalid("the broker id is negative"));
    }
    if request.incarnation_id.is_nil() {
        return Err(RegisterError::Invalid("the incarnation id is zero"));
    }
    if request.listeners.is_empty() {
        return Err(RegisterError::Invalid("the broker has no listener"));
    }
    let known = image.broker(request.broker_id);
    let is_other = |known: &Broker| known.incarnation_id != request.incarnation_id;
    // Who has opened the same data folder knows by its lock that the process before it has ended.
    let has_folder = |known: &Broker| known.log_dirs == request.log_dirs;
    if is_alive && known.is_some_and(|known| is_other(known) && !has_folder(known)) {
        return Err(RegisterError::Duplicate(request.broker_id));
    }
    for (feature, level) in image.features() {
        let supports = |(name, min, max): &(String, i16, i16)| {
            name == feature && (*min..=*max).contains(&level)
        };
        if !request.features.iter().any(supports) {
            let feature = feature.to_owned();
            return Err(RegisterError::Feature { feature, level });
        }
    }
    Ok(())
}

/// This build's answer to [`RegisterBroker::features`].
pub fn supported_features() -> Vec<(String, i16, i16)> {
    let range = SUPPORTED_FEATURES.iter();
    range
        .map(|f| (f.name.to_owned(), f.min_level, f.max_level))
        .collect()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    pub broker_id: NodeId,
    pub broker_epoch: i64,
    /// Not ready to serve. A broker asks for it until its own image has its registration.
    pub want_fence: bool,
    pub want_shut_down: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    pub is_fenced: bool,
    /// The broker leads nothing that another could lead, and may stop.
    pub should_shut_down: bool,
}

pub fn heartbeat(
    image: &Image,
    request: &Heartbeat,
) -> Decision<Result<HeartbeatReply, StaleBroker>> {
    let broker = match check_epoch(image, request.broker_id, request.broker_epoch) {
        Ok(broker) => broker,
        Err(error) => return Decision::reply(Err(error)),
    };
    let leaving = request.want_shut_down || broker.in_controlled_shutdown;
    let should_shut_down = leaving && !leads_what_others_could(image, broker.id);
    let is_fenced = should_shut_down || request.want_fence || (leaving && broker.fenced);
    let reply = HeartbeatReply {
        is_fenced,
        should_shut_down,
    };
    let fenced = (is_fenced != broker.fenced).then_some(is_fenced);
    let in_controlled_shutdown = (leaving && !broker.in_controlled_shutdown).then_some(true);
    if fenced.is_none() && in_controlled_shutdown.is_none() {
        return Decision::reply(Ok(reply));
    }
    Decision {
        records: vec![change(broker, fenced, in_controlled_shutdown)],
        reply: Ok(reply),
    }
}

fn leads_what_others_could(image: &Image, id: NodeId) -> bool {
    let other = |member: &NodeId| {
        *member != id
            && image
                .broker(*member)
                .is_some_and(|broker| broker.is_active())
    };
    let mut led = image.groups().filter(|group| group.leader == Some(id));
    led.any(|group| group.members.iter().any(other))
}

/// Fences the brokers whose sessions have ended. Answers their ids.
pub fn fence_expired(
    image: &Image,
    is_alive: &dyn Fn(NodeId, i64) -> bool,
) -> Decision<Vec<NodeId>> {
    let expired =
        |broker: &&std::sync::Arc<Broker>| !broker.fenced && !is_alive(broker.id, broker.epoch);
    let expired = image.brokers().filter(expired);
    let (mut records, reply): (Vec<_>, Vec<_>) = expired
        .map(|broker| (change(broker, Some(true), None), broker.id))
        .unzip();
    records.extend(leaders::without(image, &reply));
    Decision { records, reply }
}

/// UnregisterBroker: forgets a broker that is gone for good. Groups keep it as a member.
/// BROKER_ID_NOT_REGISTERED is the only error.
pub fn unregister(image: &Image, id: NodeId) -> Decision<Result<(), StaleBroker>> {
    match image.broker(id) {
        None => Decision::reply(Err(StaleBroker::NotRegistered(id))),
        Some(broker) => Decision {
            records: vec![MetadataRecord::UnregisterBroker(
                records::UnregisterBroker {
                    broker_id: id,
                    broker_epoch: broker.epoch,
                },
            )],
            reply: Ok(()),
        },
    }
}

fn change(
    broker: &Broker,
    fenced: Option<bool>,
    in_controlled_shutdown: Option<bool>,
) -> MetadataRecord {
    MetadataRecord::BrokerChange(records::BrokerChange {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
        fenced,
        in_controlled_shutdown,
    })
}

#[cfg(test)]
mod tests;
