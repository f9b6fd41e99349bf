//! Cluster metadata: the records that the metadata quorum replicates, and the image they replay into.
//!
//! The quorum's log is `__cluster_metadata-0`, the one partition of replication group 0. Controllers
//! and brokers run the same [`replay_all`] over the same batches and so hold equal [`Image`]s at
//! equal offsets. Nothing else changes an image.
//!
//! - `record.rs`: a record's bytes.
//! - `image.rs`: the image and its look-ups; `replay.rs`: what each record does to it.
//! - `snapshot.rs`: the records that rebuild an image without its history.
//! - `follower.rs`: the log from where it begins, snapshots among its records.
//! - `shared_map.rs`: the map that makes an image cheap to derive from its predecessor.
//! - `features.rs`: the feature levels that this build knows.
mod features;
mod follower;
mod image;
mod record;
mod replay;
mod shared_map;
mod snapshot;

pub use features::{FeatureRange, METADATA_VERSION, SUPPORTED_FEATURES};
pub use follower::{Content, Follower, Part, content, snapshot_key};
pub use image::{
    Broker, CLUSTER_METADATA_TOPIC, ConfigMap, Group, Image, Listener, Partition, PartitionHome,
    Topic, is_internal_topic,
};
pub use record::{DecodeError, MetadataRecord, decode, encode, encoded_len, records};
pub use replay::{ReplayError, replay_all};
pub use shared_map::SharedMap;
pub use snapshot::{restore, snapshot};

#[cfg(test)]
mod tests;
