//! What the active controller does by itself, on whichever node that is: it makes the cluster's first
//! records, fences brokers that are not heard of, moves replicas to where they should be, and writes
//! snapshots of the metadata.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::balance::Replacement;
use ottla_controller::{AppendError, Controller, ControllerError};
use tokio::time::Instant;

use crate::metadata::Metadata;
use crate::metadata_snapshot;

/// Looks per `broker.session.timeout.ms`.
const LOOKS: u32 = 8;

/// Looks for ever.
pub async fn run(
    controller: Arc<Controller<Metadata>>,
    metadata: Arc<Metadata>,
    cluster_id: String,
) {
    let session = Duration::from_millis(metadata.config().lifecycle.session_timeout_ms);
    loop {
        let mut pause = session / LOOKS;
        if metadata.is_leader() {
            if metadata.current().cluster_id().is_none() {
                match controller.bootstrap(&cluster_id).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "the cluster is not begun"),
                    Err(error) => told(&error),
                }
            }
            if let Err(error) = controller.fence_expired(Instant::now()).await {
                told(&error);
            }
            match controller.balance(Instant::now()).await {
                Ok(moves) => {
                    for Replacement { group, from, to } in moves {
                        tracing::info!(%group, from, to, "a replica moves to another broker");
                    }
                }
                Err(error) => told(&error),
            }
            if let Err(error) = metadata_snapshot::write_if_due(&metadata).await {
                told(&error.into());
            }
        } else if metadata.current().cluster_id().is_none() {
            pause = Duration::from_millis(ottla_proto::limits::CONTROL_PAUSE_MS);
        }
        tokio::time::sleep(pause).await;
    }
}

fn told(error: &ControllerError) {
    match error {
        ControllerError::Append(AppendError::NotController) => {}
        error => tracing::warn!(%error, "the controller could not look after the brokers"),
    }
}
