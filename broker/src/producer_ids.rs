//! Producer ids for idempotent producers (KIP-730): handed out from a block that the controller
//! allocated, so that no id is ever given twice, whatever crashes.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::controllers::{ControlError, Controllers};
use crate::registration::Registration;

pub struct ProducerIds {
    controllers: Arc<Controllers>,
    registration: Arc<Registration>,
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    pub fn new(controllers: Arc<Controllers>, registration: Arc<Registration>) -> ProducerIds {
        ProducerIds {
            controllers,
            registration,
            block: Mutex::new(0..0),
        }
    }

    pub async fn next(&self) -> Result<i64, ControlError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let epoch = self.registration.epoch();
            let allocated = self.controllers.allocate_producer_ids(epoch).await?;
            *block = allocated.first..allocated.first + allocated.len;
        }
        Ok(block.next().expect("the controller's blocks are not empty"))
    }
}
