//! Forgets idempotent producers that have expired, also of partitions that nobody writes to, and where
//! new ones find no room, those that are silent for longer than any client retries.
//!
//! The leader looks; what is forgotten is a command of the group's log, so that every replica forgets
//! the same.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_proto::limits::{
    PRODUCER_SILENT_MS, PRODUCER_SWEEP_MS, PRODUCER_SWEEP_PRESSED_MS, RETENTION_STEP_PARTITIONS,
};

use crate::command::Command;
use crate::group::{Clock, Group};
use crate::producer_memory::ProducerMemory;

/// Until the group is gone.
pub(crate) async fn run(
    group: Weak<Group>,
    memory: Arc<ProducerMemory>,
    clock: Clock,
    expiration_ms: Arc<AtomicI64>,
) {
    loop {
        let usual = Duration::from_millis(PRODUCER_SWEEP_MS);
        let is_pressed = tokio::time::timeout(usual, memory.pressed.notified()).await;
        let Some(group) = group.upgrade() else { return };
        let expiration_ms = expiration_ms.load(Ordering::Relaxed);
        let silent_ms = match memory.has_room() {
            true => expiration_ms,
            false => expiration_ms.min(PRODUCER_SILENT_MS),
        };
        if group.leader_epoch().is_some() {
            sweep(&group, clock().saturating_sub(silent_ms)).await;
        }
        drop(group);
        if is_pressed.is_ok() {
            tokio::time::sleep(Duration::from_millis(PRODUCER_SWEEP_PRESSED_MS)).await;
        }
    }
}

/// Forgets producers of the group that have written nothing since `silent_since_ms`.
pub(crate) async fn sweep(group: &Group, silent_since_ms: i64) {
    let mut due = Vec::new();
    for partition in group.log.partitions() {
        if partition.with_state(|state| state.producers.has_silent_since(silent_since_ms)) {
            due.push(Command::ForgetProducers {
                partition: partition.id,
                silent_since_ms,
            });
        }
    }
    for step in due.chunks(RETENTION_STEP_PARTITIONS) {
        // Whoever leads next looks again.
        let _ = group.append(step.to_vec(), 0, None).outcome().await;
    }
}
