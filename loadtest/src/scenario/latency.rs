//! `latency`: N writers, each with a connection of its own, send one small record and wait for its
//! acknowledgement before the next. It is `produce` with one batch of one record in flight.

use std::time::Duration;

use super::Target;
use super::produce::ProducePlan;

pub struct LatencyPlan {
    pub target: Target,
    pub topic: String,
    pub partitions: u32,
    pub replication_factor: i16,
    pub record_bytes: usize,
    pub acks: i16,
    pub writers: usize,
    pub idempotent: bool,
    pub warmup: Duration,
    pub measure: Duration,
    pub verify: bool,
}

impl LatencyPlan {
    pub fn into_produce(self) -> ProducePlan {
        ProducePlan {
            target: self.target,
            topic: self.topic,
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            record_bytes: self.record_bytes,
            batch_bytes: 1, // a batch holds at least one record, so: exactly one
            batches_per_request: 1,
            acks: self.acks,
            connections: self.writers,
            in_flight: 1,
            idempotent: self.idempotent,
            rate_bytes_per_s: None,
            warmup: self.warmup,
            measure: self.measure,
            records_max: None,
            verify: self.verify,
        }
    }
}
