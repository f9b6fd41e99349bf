//! The bounds of an object.

use crate::config::Settings;
use crate::time::Zone;

const DAY_MS: i64 = 86_400_000;

/// Each bound closes an object by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    /// `flush.size`, `file.max.records`
    pub records_max: Option<u64>,
    pub bytes_max: Option<u64>,
    /// `rotate.interval.ms`: span of record time.
    pub record_interval_ms: Option<i64>,
    /// `rotate.schedule.interval.ms`: multiples of it since midnight of the zone.
    pub schedule_interval_ms: Option<i64>,
    pub idle_ms: Option<i64>,
    pub zone: Zone,
    /// Whether a chain of manifests accounts for every offset. Outputs must be stable for that.
    pub chained: bool,
}

impl RotationPolicy {
    /// From the values of [`crate::config::tables::storage::ROTATING`].
    pub fn of(settings: &Settings, zone: Zone) -> RotationPolicy {
        let positive = |key: &str| Some(settings.long(key)).filter(|v| *v > 0);
        RotationPolicy {
            records_max: Some(settings.long("flush.size") as u64),
            bytes_max: positive("ottla.rotate.size.bytes").map(|v| v as u64),
            record_interval_ms: positive("rotate.interval.ms"),
            schedule_interval_ms: positive("rotate.schedule.interval.ms"),
            idle_ms: positive("ottla.rotate.idle.ms"),
            zone,
            chained: false,
        }
    }

    /// The end of the scheduled interval that a time lies in. The last one of a day ends at midnight.
    pub(super) fn scheduled(&self, now_ms: i64) -> Option<i64> {
        let interval = self.schedule_interval_ms?;
        let start = self.zone.slice_start(now_ms, DAY_MS)?;
        // Noon of the next day is in the next day, however long this one is.
        let next = self.zone.slice_start(start + DAY_MS + DAY_MS / 2, DAY_MS)?;
        let end = start + ((now_ms - start) / interval + 1).saturating_mul(interval);
        Some(end.min(next))
    }
}
