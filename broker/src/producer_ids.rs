//! Producer ids for idempotent producers (KIP-730): handed out from a block that the controller
//! allocated, so that no id is ever given twice, whatever crashes.

use std::ops::Range;
use std::sync::Arc;

use ottla_controller::producer_ids::AllocateError;
use ottla_controller::{Controller, ControllerError};
use tokio::sync::Mutex;

use crate::metadata::Metadata;
use crate::registration::Registration;

#[derive(Debug, thiserror::Error)]
pub enum ProducerIdError {
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error(transparent)]
    Allocate(#[from] AllocateError),
}

pub struct ProducerIds {
    controller: Arc<Controller<Metadata>>,
    registration: Arc<Registration>,
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    pub fn new(
        controller: Arc<Controller<Metadata>>,
        registration: Arc<Registration>,
    ) -> ProducerIds {
        ProducerIds {
            controller,
            registration,
            block: Mutex::new(0..0),
        }
    }

    pub async fn next(&self) -> Result<i64, ProducerIdError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let (id, epoch) = (self.registration.node_id, self.registration.epoch());
            let allocated = self.controller.allocate_producer_ids(id, epoch).await??;
            *block = allocated.first..allocated.first + allocated.len;
        }
        Ok(block.next().expect("the controller's blocks are not empty"))
    }
}
