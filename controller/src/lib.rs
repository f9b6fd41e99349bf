//! The controller: every decision about the cluster's metadata.
//!
//! A decision is a value. `decide(image, ..., request)` reads the [`Image`] and answers with the
//! records that would change it and the reply that holds once they are committed ([`Decision`]). It
//! touches no clock, no disk and no network, and draws no random number: time and ids are arguments.
//! Only [`Controller`] appends records, to a [`MetadataLog`], one decision at a time.
//!
//! One file per operation: [`create_topics`], [`create_partitions`], [`delete_topics`],
//! [`alter_configs`], [`elect_leaders`], [`reassignments`], [`balance`], [`producer_ids`], [`brokers`], [`leaders`], [`features`], [`bootstrap`].
//! `placement.rs` chooses replication groups for new partitions, `topic_name.rs` knows what a topic
//! may be called, `sessions.rs` which brokers are alive.
//!
//! Architecture invariants: this crate knows neither Raft nor RocksDB, whose place the
//! [`MetadataLog`] takes, nor Kafka's API versions and error codes, which the broker's API layer maps
//! the errors of each operation to (each variant names its code).
//!
//! [`Image`]: ottla_proto::metadata::Image
use ottla_proto::metadata::MetadataRecord;

pub mod alter_configs;
mod assignment;
pub mod balance;
pub mod bootstrap;
pub mod brokers;
mod controller;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod elect_leaders;
pub mod features;
pub mod leaders;
mod log;
mod memory_log;
mod placement;
pub mod producer_ids;
pub mod reassignments;
mod sessions;
pub mod topic_name;

pub use assignment::AssignmentError;
pub use controller::{Controller, ControllerError};
pub use log::{AppendError, MetadataLog};
pub use memory_log::MemoryLog;
pub use placement::PlacementError;
pub use topic_name::NameError;

#[cfg(test)]
mod tests;

/// What is to be written, and what is to be answered once it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<R> {
    /// Committed together or not at all. None: nothing changes.
    pub records: Vec<MetadataRecord>,
    pub reply: R,
}

impl<R> Decision<R> {
    /// A reply that changes nothing.
    pub fn reply(reply: R) -> Self {
        let records = Vec::new();
        Self { records, reply }
    }
}
