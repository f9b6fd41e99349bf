//! Cluster features (KIP-584): what this build supports and what a new cluster finalizes.

/// One feature and the levels of it that this build supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureRange {
    pub name: &'static str,
    pub min_level: i16,
    pub max_level: i16,
    /// Finalized when a cluster is made; 0 leaves the feature off.
    pub bootstrap_level: i16,
}

/// Gates the records' format. Its levels are Kafka's, so that Kafka's tools can name them:
/// 25 is 4.0-IV3, whose client-visible behaviour this build follows.
pub const METADATA_VERSION: &str = "metadata.version";

/// A feature that is not listed is neither advertised nor can it be finalized.
pub const SUPPORTED_FEATURES: &[FeatureRange] = &[FeatureRange {
    name: METADATA_VERSION,
    min_level: 25,
    max_level: 25,
    bootstrap_level: 25,
}];
