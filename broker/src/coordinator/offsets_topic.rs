//! `__consumer_offsets`, which is made when a group is first looked for.

use std::sync::Arc;
use std::time::Duration;

use ottla_proto::limits::{OFFSETS_TOPIC_RETRY_MS, OFFSETS_TOPIC_WAIT_MS};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::CoordinatorError;
use crate::controllers::Controllers;
use crate::topics::{ServedTopic, Topics};

pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

pub struct OffsetsTopic {
    topics: Arc<Topics>,
    controllers: Arc<Controllers>,
    /// One creation at a time; when the last one failed.
    failed_at_ms: Mutex<Option<i64>>,
}

impl OffsetsTopic {
    pub fn new(topics: Arc<Topics>, controllers: Arc<Controllers>) -> OffsetsTopic {
        OffsetsTopic {
            topics,
            controllers,
            failed_at_ms: Mutex::new(None),
        }
    }

    pub fn get(&self) -> Option<Arc<ServedTopic>> {
        self.topics.by_name(OFFSETS_TOPIC).ok()
    }

    /// The topic, made if there is none. Clients ask again and again: after a failure they are
    /// answered at once for a while.
    pub async fn ensure(&self, now_ms: i64) -> Result<Arc<ServedTopic>, CoordinatorError> {
        if let Some(topic) = self.get() {
            return Ok(topic);
        }
        let mut failed_at_ms = self.failed_at_ms.lock().await;
        if let Some(topic) = self.get() {
            return Ok(topic);
        }
        let soon = |failed: i64| (failed..failed + OFFSETS_TOPIC_RETRY_MS).contains(&now_ms);
        if failed_at_ms.is_some_and(soon) {
            return Err(CoordinatorError::NotAvailable);
        }
        match self.create().await {
            Ok(topic) => {
                *failed_at_ms = None;
                Ok(topic)
            }
            Err(reason) => {
                *failed_at_ms = Some(now_ms);
                tracing::warn!(
                    reason,
                    "{OFFSETS_TOPIC} could not be made: no group can be served"
                );
                Err(CoordinatorError::NotAvailable)
            }
        }
    }

    async fn create(&self) -> Result<Arc<ServedTopic>, String> {
        let made = self
            .controllers
            .create_topics(vec![OFFSETS_TOPIC.to_owned()])
            .await;
        for (_, error) in made.map_err(|e| e.to_string())? {
            if let Some((_, why)) = error {
                return Err(why);
            }
        }
        self.wait().await
    }

    /// The topic is in the metadata; waits until it is served here.
    async fn wait(&self) -> Result<Arc<ServedTopic>, String> {
        let deadline = Instant::now() + Duration::from_millis(OFFSETS_TOPIC_WAIT_MS);
        let mut changes = self.topics.changes();
        loop {
            if let Some(topic) = self.get() {
                return Ok(topic);
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err("it was made but is not served in time".into());
            }
        }
    }
}
