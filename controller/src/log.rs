//! Where decisions are written: the metadata quorum's log, as far as the controller needs to know it.
use std::future::Future;
use std::sync::Arc;

use ottla_proto::metadata::{Image, MetadataRecord};
use thiserror::Error;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// Nothing was written.
    #[error("this node does not lead the metadata quorum")]
    NotController,
    /// The records may be committed, now or later, or may be lost.
    #[error("the metadata quorum did not commit in time")]
    Timeout,
    /// As for a timeout, the outcome is unknown.
    #[error("the metadata log failed: {0}")]
    Storage(String),
}

/// The metadata quorum's log and the image that it replays into.
pub trait MetadataLog: Send + Sync + 'static {
    /// The image of what is committed and replayed on this node.
    fn image(&self) -> Arc<Image>;

    /// The leader epoch in which this node leads the quorum, if it does.
    fn leader_epoch(&self) -> Option<i32>;

    /// Returns once `image()` holds everything that was appended to the log before the call, by
    /// earlier leaders too: whatever is still undecided is then decided. Fails with `NotController`
    /// unless this node leads in `leader_epoch`.
    fn barrier(&self, leader_epoch: i32) -> impl Future<Output = Result<(), AppendError>> + Send;

    /// Appends the records as one atomic batch, and returns once it is committed and replayed into
    /// `image()`. Fails with `NotController`, and appends nothing, unless this node leads in
    /// `leader_epoch` when the batch enters its log: the records were decided on the image of that
    /// epoch, and would contradict another leader's.
    fn append(
        &self,
        leader_epoch: i32,
        records: Vec<MetadataRecord>,
    ) -> impl Future<Output = Result<(), AppendError>> + Send;
}
