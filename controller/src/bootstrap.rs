//! The first records of a new cluster: its id and its feature levels.
use ottla_proto::metadata::{Image, MetadataRecord, SUPPORTED_FEATURES, records};
use thiserror::Error;

use crate::{Decision, features};

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BootstrapError {
    #[error("the metadata log is of cluster {found}, and this server of cluster {expected}")]
    OtherCluster { expected: String, found: String },
    #[error("the cluster id must have 1 to 64 characters")]
    Invalid,
}

/// Changes nothing if the cluster exists under this id.
pub fn decide(image: &Image, cluster_id: &str) -> Decision<Result<(), BootstrapError>> {
    match image.cluster_id() {
        Some(found) if found == cluster_id => Decision::reply(Ok(())),
        Some(found) => Decision::reply(Err(BootstrapError::OtherCluster {
            expected: cluster_id.to_owned(),
            found: found.to_owned(),
        })),
        None if cluster_id.is_empty() || cluster_id.len() > 64 => {
            Decision::reply(Err(BootstrapError::Invalid))
        }
        None => {
            let cluster_id = cluster_id.to_owned();
            let mut records = vec![MetadataRecord::Cluster(records::Cluster { cluster_id })];
            let on = SUPPORTED_FEATURES.iter().filter(|f| f.bootstrap_level > 0);
            records.extend(on.map(|f| features::record(f.name, f.bootstrap_level)));
            Decision {
                records,
                reply: Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ClusterImage;
    use ottla_proto::metadata::METADATA_VERSION;

    #[test]
    fn happens_once() {
        let mut cluster = ClusterImage::default();
        let decision = decide(&Image::default(), "c");
        assert_eq!(decision.reply, Ok(()));
        cluster.replace_with(decision.records);
        assert_eq!(cluster.image().cluster_id(), Some("c"));
        assert_eq!(cluster.image().feature(METADATA_VERSION), 25);
        assert_eq!(decide(&cluster.image(), "c"), Decision::reply(Ok(())));
        let other = decide(&cluster.image(), "d");
        assert!(matches!(
            other.reply,
            Err(BootstrapError::OtherCluster { .. })
        ));
        assert_eq!(
            decide(&Image::default(), "").reply,
            Err(BootstrapError::Invalid)
        );
    }
}
