//! UpdateFeatures (KIP-584, KIP-778): which level of each feature the cluster runs at.
use std::collections::BTreeSet;

use ottla_proto::metadata::{
    FeatureRange, Image, METADATA_VERSION, MetadataRecord, SUPPORTED_FEATURES, records,
};
use thiserror::Error;

use crate::Decision;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateFeatures {
    pub updates: Vec<FeatureUpdate>,
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    pub feature: String,
    /// 0 turns the feature off.
    pub level: i16,
    pub allow_downgrade: bool,
}

/// The updates are made together: the first that cannot be fails them all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FeatureError {
    /// INVALID_UPDATE_VERSION
    #[error("Invalid update version {level} for feature {feature}. {reason}")]
    Level {
        feature: String,
        level: i16,
        reason: String,
    },
    /// INVALID_REQUEST
    #[error("The request names feature {0} more than once")]
    Duplicate(String),
}

/// The record that sets a feature's level.
pub(crate) fn record(name: &str, level: i16) -> MetadataRecord {
    MetadataRecord::Feature(records::Feature {
        name: name.to_owned(),
        level: level.into(),
    })
}

pub fn decide(image: &Image, request: &UpdateFeatures) -> Decision<Result<(), FeatureError>> {
    decide_among(image, request, SUPPORTED_FEATURES)
}

fn decide_among(
    image: &Image,
    request: &UpdateFeatures,
    supported: &[FeatureRange],
) -> Decision<Result<(), FeatureError>> {
    let mut names = BTreeSet::new();
    for update in &request.updates {
        let checked = match names.insert(&update.feature) {
            true => check(image, update, supported),
            false => Err(FeatureError::Duplicate(update.feature.clone())),
        };
        if checked.is_err() {
            return Decision::reply(checked);
        }
    }
    let changes = request.updates.iter();
    let changes =
        changes.filter(|u| !request.validate_only && image.feature(&u.feature) != u.level);
    Decision {
        records: changes.map(|u| record(&u.feature, u.level)).collect(),
        reply: Ok(()),
    }
}

fn check(
    image: &Image,
    update: &FeatureUpdate,
    supported: &[FeatureRange],
) -> Result<(), FeatureError> {
    let refuse = |reason: String| {
        let (feature, level) = (update.feature.clone(), update.level);
        Err(FeatureError::Level {
            feature,
            level,
            reason,
        })
    };
    let range = supported.iter().find(|range| range.name == update.feature);
    let Some(range) = range else {
        return refuse("This version does not support the feature.".to_owned());
    };
    let off = update.level == 0 && update.feature != METADATA_VERSION;
    if !off && !(range.min_level..=range.max_level).contains(&update.level) {
        return refuse(format!(
            "Levels {} to {} are supported.",
            range.min_level, range.max_level
        ));
    }
    let current = image.feature(&update.feature);
    if update.level < current && !update.allow_downgrade {
        return refuse(format!(
            "It is a downgrade from {current}, and was not asked for as one."
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ClusterImage;

    const RANGES: &[FeatureRange] = &[
        FeatureRange {
            name: METADATA_VERSION,
            min_level: 25,
            max_level: 27,
            bootstrap_level: 25,
        },
        FeatureRange {
            name: "group.version",
            min_level: 1,
            max_level: 1,
            bootstrap_level: 0,
        },
    ];

    fn update(feature: &str, level: i16, allow_downgrade: bool) -> FeatureUpdate {
        FeatureUpdate {
            feature: feature.to_owned(),
            level,
            allow_downgrade,
        }
    }

    #[test]
    fn levels_go_up_and_on_request_down() {
        let mut cluster = ClusterImage::with_brokers(1);
        for (feature, level, downgrade, fine) in [
            (METADATA_VERSION, 26, false, true),
            (METADATA_VERSION, 25, false, false),
            (METADATA_VERSION, 28, false, false),
            (METADATA_VERSION, 0, true, false),
            (METADATA_VERSION, 25, true, true),
            ("group.version", 1, false, true),
            ("group.version", 0, false, false),
            ("group.version", 0, true, true),
            ("share.version", 1, false, false),
        ] {
            let updates = vec![update(feature, level, downgrade)];
            let request = UpdateFeatures {
                updates,
                validate_only: false,
            };
            let decision = decide_among(&cluster.image(), &request, RANGES);
            let before = cluster.image().feature(feature);
            let result = cluster.apply(decision);
            assert_eq!(result.is_ok(), fine, "{feature} {level}: {result:?}");
            let expected = if fine { level } else { before };
            assert_eq!(cluster.image().feature(feature), expected);
        }
    }

    #[test]
    fn all_or_none() {
        let cluster = ClusterImage::with_brokers(1);
        let decide = |updates: &[FeatureUpdate], validate_only| {
            let updates = updates.to_vec();
            let request = UpdateFeatures {
                updates,
                validate_only,
            };
            decide_among(&cluster.image(), &request, RANGES)
        };
        let (good, bad) = (update(METADATA_VERSION, 26, false), update("x", 1, false));
        assert!(decide(&[good.clone(), bad], false).records.is_empty());
        let twice = decide(&[good.clone(), good.clone()], false);
        let duplicate = FeatureError::Duplicate(METADATA_VERSION.to_owned());
        assert_eq!(twice, Decision::reply(Err(duplicate)));
        assert_eq!(
            decide(std::slice::from_ref(&good), true),
            Decision::reply(Ok(()))
        );
        assert_eq!(decide(&[good], false).records.len(), 1);
    }
}
