//! This broker's place in the cluster: it registers, then keeps its session alive (KIP-631).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ottla_controller::brokers::{self, Heartbeat, RegisterBroker};
use ottla_controller::{Controller, ControllerError};
use ottla_proto::config::{SecurityProtocol, ServerConfig};
use ottla_proto::metadata::{Listener, records};
use uuid::Uuid;

use crate::identity::Identity;
use crate::metadata::Metadata;

#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error(transparent)]
    Refused(#[from] brokers::RegisterError),
}

pub struct Registration {
    pub node_id: i32,
    epoch: AtomicI64,
    request: RegisterBroker,
    interval: Duration,
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
            request,
            interval,
        }
    }

    /// The broker epoch of the current registration; -1 before the first.
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub async fn register(
        &self,
        controller: &Controller<Metadata>,
    ) -> Result<(), RegistrationError> {
        let epoch = controller
            .register_broker(&self.request, Instant::now())
            .await??;
        self.epoch.store(epoch, Ordering::Release);
        self.beat(controller).await;
        Ok(())
    }

    /// Keeps the session alive for as long as the process runs.
    pub async fn keep_alive(self: Arc<Self>, controller: Arc<Controller<Metadata>>) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.beat(&controller).await;
        }
    }

    async fn beat(&self, controller: &Controller<Metadata>) {
        let heartbeat = Heartbeat {
            broker_id: self.node_id,
            broker_epoch: self.epoch(),
            want_fence: false,
            want_shut_down: false,
        };
        match controller.heartbeat(&heartbeat, Instant::now()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the controller does not know this broker"),
            Err(error) => tracing::warn!(%error, "a heartbeat did not reach the controller"),
        }
    }
}
