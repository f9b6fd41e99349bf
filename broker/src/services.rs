//! The narrow handles that API handlers work with.

use std::sync::Arc;

use ottla_controller::Controller;
use ottla_wire::guard::GuardLimits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::coordinator::Coordinators;
use crate::metadata::Metadata;
use crate::producer_ids::ProducerIds;
use crate::topics::Topics;

pub struct Services {
    /// The replicated metadata: image, and the configuration in force.
    pub metadata: Arc<Metadata>,
    /// Decides changes of metadata.
    pub controller: Arc<Controller<Metadata>>,
    /// Topics and partitions served here: append, read.
    pub topics: Arc<Topics>,
    /// Consumer groups whose coordinator is here.
    pub coordinators: Arc<Coordinators>,
    pub producer_ids: ProducerIds,
    pub guard_limits: GuardLimits,
    /// Bytes that fetches may read from disk at a time, over all connections.
    pub fetch_permits: Arc<Semaphore>,
    /// All of `fetch_permits`.
    pub fetch_bytes: usize,
    /// Bytes of large requests being read, over all connections.
    pub request_permits: Arc<Semaphore>,
    /// True once the broker stops: long polls end.
    pub stopping: watch::Receiver<bool>,
}

impl Services {
    /// Waits for room to read a request of `bytes`, at most `socket.request.max.bytes`.
    pub async fn reserve_request(&self, bytes: usize) -> OwnedSemaphorePermit {
        reserve(&self.request_permits, bytes).await
    }

    /// Waits for room to read `bytes` of records from the disk.
    pub async fn reserve_fetch(&self, bytes: usize) -> OwnedSemaphorePermit {
        reserve(&self.fetch_permits, bytes.min(self.fetch_bytes)).await
    }
}

async fn reserve(permits: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    permits
        .clone()
        .acquire_many_owned(bytes as u32)
        .await
        .expect("the semaphore is never closed")
}
