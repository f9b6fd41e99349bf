//! Compaction's metrics, under the names that Kafka's have through the Prometheus JMX exporter.

use std::time::Duration;

use ::metrics::{counter, gauge};

use super::pass::Report;

/// After a look at all partitions. `failed` are the sizes of those that could not be compacted.
pub fn looked(max_dirty_ratio: f64, failed: impl Iterator<Item = u64>) {
    let (mut count, mut bytes) = (0, 0);
    for size in failed {
        count += 1;
        bytes += size;
    }
    gauge!("kafka_log_logcleanermanager_max_dirty_percent").set((max_dirty_ratio * 100.0).round());
    gauge!("kafka_log_logcleanermanager_uncleanable_partitions_count").set(count as f64);
    gauge!("kafka_log_logcleanermanager_uncleanable_bytes").set(bytes as f64);
}

pub fn since_last_look(time: Option<Duration>) {
    let ms = time.map_or(0.0, |time| time.as_millis() as f64);
    gauge!("kafka_log_logcleanermanager_time_since_last_run_ms").set(ms);
}

/// After a pass.
pub fn done(report: &Report, took: Duration) {
    let tally = &report.tally;
    let percent = |part: f64| (part * 100.0).round();
    let recopied = tally.kept_bytes as f64 / tally.read_bytes.max(1) as f64;
    gauge!("kafka_log_logcleaner_cleaner_recopy_percent").set(percent(recopied));
    gauge!("kafka_log_logcleaner_max_buffer_utilization_percent")
        .set(percent(report.map_utilization));
    gauge!("kafka_log_logcleaner_max_clean_time_secs").set(took.as_secs_f64());
    counter!("ottla_log_cleaner_passes_total").increment(1);
    counter!("ottla_log_cleaner_read_bytes_total").increment(tally.read_bytes);
    counter!("ottla_log_cleaner_rewritten_bytes_total").increment(tally.rewritten_bytes);
    counter!("ottla_log_cleaner_dropped_records_total").increment(tally.records_dropped);
    counter!("ottla_log_cleaner_unreadable_batches_total").increment(tally.unreadable_batches);
}
