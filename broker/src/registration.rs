//! This broker's place in the cluster: it registers, then keeps its session alive (KIP-631).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use ottla_controller::brokers::{self, Heartbeat, HeartbeatReply, RegisterBroker};
use ottla_proto::config::{SecurityProtocol, ServerConfig};
use ottla_proto::metadata::{Listener, records};
use tokio::time::Instant;
use uuid::Uuid;

use crate::controllers::{ControlError, Controllers};
use crate::identity::Identity;

pub struct Registration {
    pub node_id: i32,
    epoch: AtomicI64,
    /// What the metadata says is served: until then the broker stays fenced.
    ready: AtomicBool,
    request: RegisterBroker,
    interval: Duration,
    timeout: Duration,
}

impl Registration {
    pub fn new(identity: &Identity, config: &ServerConfig) -> Registration {
        let listeners = config.listeners.advertised.iter().map(|l| Listener {
            name: l.name.clone(),
            host: l.host.clone(),
            port: l.port,
            security_protocol: match l.protocol {
                SecurityProtocol::Plaintext => records::SecurityProtocol::Plaintext,
                SecurityProtocol::Ssl => records::SecurityProtocol::Ssl,
                SecurityProtocol::SaslPlaintext => records::SecurityProtocol::SaslPlaintext,
                SecurityProtocol::SaslSsl => records::SecurityProtocol::SaslSsl,
            },
        });
        let request = RegisterBroker {
            cluster_id: identity.cluster_id.clone(),
            broker_id: config.node_id,
            incarnation_id: Uuid::new_v4(),
            rack: config.rack.clone(),
            listeners: listeners.collect(),
            log_dirs: vec![identity.directory_id],
            features: brokers::supported_features(),
        };
        let interval = Duration::from_millis(config.lifecycle.heartbeat_interval_ms);
        Registration {
            node_id: config.node_id,
            epoch: AtomicI64::new(-1),
            ready: AtomicBool::new(false),
            request,
            interval,
            timeout: Duration::from_millis(config.lifecycle.registration_timeout_ms),
        }
    }

    /// The broker epoch of the current registration; -1 before the first.
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Registers. A quorum without a leader is waited for, a refusal only for
    /// `initial.broker.registration.timeout.ms`: another process that is registered as this node may end.
    pub async fn register(&self, controllers: &Controllers) -> Result<(), ControlError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match controllers.register(&self.request).await {
                Ok(epoch) => {
                    self.epoch.store(epoch, Ordering::Release);
                    return Ok(());
                }
                Err(error @ ControlError::Refused(_)) => {
                    if Instant::now() + self.interval > deadline {
                        return Err(error);
                    }
                    tracing::warn!(%error, "not registered yet");
                    tokio::time::sleep(self.interval).await;
                }
                Err(error) => tracing::warn!(%error, "not registered yet"),
            }
        }
    }

    /// Asks to be unfenced: clients may be sent here.
    pub async fn ready(&self, controllers: &Controllers) {
        self.ready.store(true, Ordering::Release);
        self.beat(controllers).await;
    }

    /// Keeps the session alive for as long as the process runs.
    pub async fn keep_alive(self: Arc<Self>, controllers: Arc<Controllers>) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.beat(&controllers).await;
        }
    }

    async fn beat(&self, controllers: &Controllers) {
        match self.heartbeat(controllers, false, self.interval * 2).await {
            Ok(_) => {}
            Err(ControlError::Refused(why)) => {
                tracing::error!(
                    why,
                    "the controller does not know this broker as what it is: registering anew"
                );
                if let Err(error) = self.register(controllers).await {
                    tracing::error!(%error, "this broker is not registered");
                }
            }
            Err(error) => tracing::warn!(%error, "a heartbeat did not reach the controller"),
        }
    }

    /// Says that this broker is about to stop: nothing new is placed on it.
    pub async fn leave(&self, controllers: &Controllers) {
        if let Err(error) = self.heartbeat(controllers, true, self.interval).await {
            tracing::warn!(%error, "the controller does not know that this broker stops");
        }
    }

    async fn heartbeat(
        &self,
        controllers: &Controllers,
        want_shut_down: bool,
        wait: Duration,
    ) -> Result<HeartbeatReply, ControlError> {
        let heartbeat = Heartbeat {
            broker_id: self.node_id,
            broker_epoch: self.epoch(),
            want_fence: !self.ready.load(Ordering::Acquire),
            want_shut_down,
        };
        controllers.heartbeat(&heartbeat, wait).await
    }
}
