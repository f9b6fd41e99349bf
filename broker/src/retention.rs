//! Deletes old records: by time (`retention.ms`) and by size (`retention.bytes`), where
//! `cleanup.policy` contains `delete`.
//!
//! The leader of a partition raises its log start offset through the replicated log, so that all
//! replicas agree on it and it survives restarts; then each frees its own disk. A record goes when it
//! and all before it are older than `retention.ms`, or when `retention.bytes` remain without it. Both
//! are kept to the grain of the sparse index (64 KB), which is finer than any `segment.bytes`; records
//! never wait for a segment to be closed. Kafka's rules otherwise: a record with a timestamp in the
//! future keeps what follows it, and a negative limit is none. By size nothing goes while it is not known
//! what compaction has left: while a pass is under way, and until the disk has told. So that passes that
//! follow each other closely do not keep all of it, each ends with a look at its partition ([`after_pass`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::{Store, StoreError};
use ottla_proto::config::TopicConfig;
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::RETENTION_STEP_PARTITIONS;
use ottla_raft::{Command, Outcome};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cleaner;
use crate::metadata::Metadata;
use crate::topics::{Replica, ServedTopic, Topics};

pub struct Retention {
    store: Arc<dyn Store>,
    topics: Arc<Topics>,
    metadata: Arc<Metadata>,
    hints: HashMap<PartitionId, Oldest>,
}

/// What the last look at a partition's disk told, so that most looks need none.
#[derive(Clone, Copy)]
struct Oldest {
    log_start_offset: i64,
    /// [Compactions](ottla_raft::Partition::compactions) before the look: another one may have taken
    /// what was young.
    compactions: (u64, u64),
    /// Highest timestamp of the first index interval: nothing is to be deleted by time before it is.
    timestamp_ms: i64,
}

impl Oldest {
    /// Whether it still holds.
    fn is_of(&self, log_start_offset: i64, compactions: (u64, u64)) -> bool {
        (self.log_start_offset, self.compactions) == (log_start_offset, compactions)
    }
}

/// A partition that may have something to delete.
struct Candidate {
    topic: Arc<str>,
    index: i32,
    replica: Replica,
    cut: Cut,
}

/// What is to be deleted, as far as memory tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cut {
    /// Records with lower timestamps.
    before_ms: Option<i64>,
    /// All but this many bytes.
    keep_bytes: Option<u64>,
}

/// A partition's log, as memory tells.
#[derive(Clone, Copy, Debug)]
struct Extent {
    log_start_offset: i64,
    high_watermark: i64,
    /// 0 if it is not known.
    size_bytes: u64,
    oldest_ms: Option<i64>,
}

impl Cut {
    /// What the configuration deletes of such a log now; `None` if that is nothing.
    fn of(config: &TopicConfig, log: Extent, now_ms: i64) -> Option<Cut> {
        if !config.cleanup_delete || log.log_start_offset >= log.high_watermark {
            return None;
        }
        let age_ms = |ms: u64| i64::try_from(ms).ok();
        let before_ms = config
            .retention_ms
            .and_then(age_ms)
            .map(|ms| now_ms.saturating_sub(ms));
        let keep_bytes = config.retention_bytes;
        let cut = Cut {
            before_ms: before_ms.filter(|ms| log.oldest_ms.is_none_or(|oldest| oldest < *ms)),
            keep_bytes: keep_bytes.filter(|bytes| log.size_bytes > *bytes),
        };
        (cut != Cut::default()).then_some(cut)
    }
}

impl Retention {
    pub fn new(store: Arc<dyn Store>, topics: Arc<Topics>, metadata: Arc<Metadata>) -> Retention {
        Retention {
            store,
            topics,
            metadata,
            hints: HashMap::new(),
        }
    }

    /// Looks at all partitions every `log.retention.check.interval.ms`, until the broker stops.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let config = self.metadata.config().retention.clone();
        let mut wait = Duration::from_millis(config.initial_delay_ms);
        loop {
            let due = Instant::now() + wait;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            self.pass().await;
            wait = Duration::from_millis(config.check_interval_ms);
        }
    }

    async fn pass(&mut self) {
        self.learn_sizes().await;
        let mut seen = HashMap::with_capacity(self.hints.len());
        let candidates = self.candidates(&mut seen);
        // Partitions that are gone or empty take their hints with them.
        self.hints = seen;
        for step in candidates.chunks(RETENTION_STEP_PARTITIONS) {
            self.step(step).await;
        }
        self.reclaim_all().await;
    }

    /// Has the disk tell what compaction has left, wherever nobody knows.
    async fn learn_sizes(&self) {
        let mut unknown = Vec::new();
        for topic in self.topics.all() {
            let replicas = topic.replicas().map(|(_, replica)| replica);
            unknown.extend(replicas.filter(|r| !r.partition.knows_sizes()).cloned());
        }
        if unknown.is_empty() {
            return;
        }
        let store = self.store.clone();
        let learn = move || {
            for replica in unknown {
                if let Err(error) = cleaner::learn_sizes(&*store, &replica) {
                    tracing::error!(%error, partition = %replica.partition.id, "its size is not known: nothing of it is deleted by size");
                }
            }
        };
        let _ = tokio::task::spawn_blocking(learn).await;
    }

    /// Frees what lies before log start offsets, also those that were raised before the last stop.
    async fn reclaim_all(&self) {
        let mut due = Vec::new();
        for topic in self.topics.all() {
            let replicas = topic.replicas().map(|(_, replica)| replica);
            due.extend(replicas.filter(|r| r.partition.needs_reclaim()).cloned());
        }
        let reclaim_all = move || due.iter().for_each(reclaim);
        let _ = tokio::task::spawn_blocking(reclaim_all).await;
    }

    /// Partitions led here that have something to delete, as far as memory tells.
    fn candidates(&self, seen: &mut HashMap<PartitionId, Oldest>) -> Vec<Candidate> {
        let now_ms = self.topics.now_ms();
        let mut candidates = Vec::new();
        for topic in self.topics.all() {
            for (index, replica) in topic.replicas() {
                let id = replica.partition.id;
                let log_start_offset = replica.partition.bounds().log_start_offset;
                let compactions = replica.partition.compactions();
                let hint = self.hints.get(&id).copied();
                let hint = hint.filter(|h| h.is_of(log_start_offset, compactions));
                seen.extend(hint.map(|hint| (id, hint)));
                let oldest_ms = hint.map(|hint| hint.timestamp_ms);
                candidates.extend(Candidate::of(&topic, index, replica, oldest_ms, now_ms));
            }
        }
        candidates
    }

    /// Finds the new log start offsets of some partitions, and commits them.
    async fn step(&mut self, candidates: &[Candidate]) {
        let mut trims: HashMap<GroupId, Vec<(&Candidate, i64)>> = HashMap::new();
        for candidate in candidates {
            let (replica, cut) = (candidate.replica.clone(), candidate.cut);
            let looked = tokio::task::spawn_blocking(move || look(&replica, cut))
                .await
                .unwrap_or_else(|e| Err(StoreError::Io(e.to_string().into())));
            match looked {
                Ok((Some(offset), _)) => {
                    let group = candidate.replica.group.id;
                    trims.entry(group).or_default().push((candidate, offset));
                }
                Ok((None, oldest)) => {
                    self.hints.insert(candidate.replica.partition.id, oldest);
                }
                Err(error) => candidate.not_looked_at(&error),
            }
        }
        for trims in trims.into_values() {
            trim(&trims).await;
        }
    }
}

impl Candidate {
    /// `None` if nothing is to be deleted of it, or not by this broker.
    fn of(
        topic: &ServedTopic,
        index: i32,
        replica: &Replica,
        oldest_ms: Option<i64>,
        now_ms: i64,
    ) -> Option<Candidate> {
        let bounds = replica.partition.bounds();
        let log = Extent {
            log_start_offset: bounds.log_start_offset,
            high_watermark: bounds.high_watermark,
            size_bytes: match replica.partition.knows_sizes() {
                true => replica.partition.size_bytes(),
                false => 0,
            },
            oldest_ms,
        };
        let cut = Cut::of(&topic.config, log, now_ms)?;
        replica.lead(-1).ok()?;
        Some(Candidate {
            topic: topic.topic.name.clone(),
            index,
            replica: replica.clone(),
            cut,
        })
    }

    fn not_looked_at(&self, error: &StoreError) {
        tracing::error!(%error, topic = %self.topic, partition = self.index, "old records could not be looked for");
    }
}

/// What a compaction has left of a partition may still be too much: looks at it now, before the next pass
/// hides its size again. Blocks on the disk; what is to be deleted is committed by `runtime`.
pub fn after_pass(
    topic: &ServedTopic,
    index: i32,
    replica: &Replica,
    now_ms: i64,
    runtime: &Handle,
) {
    let Some(mut candidate) = Candidate::of(topic, index, replica, None, now_ms) else {
        return;
    };
    // Time is no matter of sizes.
    candidate.cut.before_ms = None;
    match look(&candidate.replica, candidate.cut) {
        Ok((Some(offset), _)) => {
            runtime.spawn(async move { trim(&[(&candidate, offset)]).await });
        }
        Ok((None, _)) => {}
        Err(error) => candidate.not_looked_at(&error),
    }
}

/// The log start offset that a cut comes to, or else what to remember until the next look.
/// Blocks on the disk.
fn look(replica: &Replica, cut: Cut) -> Result<(Option<i64>, Oldest), StoreError> {
    let compactions = replica.partition.compactions();
    let bounds = replica.partition.bounds();
    let (start, end) = (bounds.log_start_offset, bounds.high_watermark);
    let id = replica.partition.id;
    let mut offset = start;
    if let Some(before_ms) = cut.before_ms {
        let newest_ms = replica.partition.with_state(|s| s.max_timestamp_ms());
        offset = match newest_ms >= 0 && newest_ms < before_ms {
            true => end,
            false => replica.group.seek_timestamp(id, before_ms, start, end)?,
        };
    }
    if let Some(keep_bytes) = cut.keep_bytes {
        let by_size = replica
            .group
            .seek_size(&replica.partition, keep_bytes, start, end)?;
        offset = offset.max(by_size);
    }
    let oldest = Oldest {
        log_start_offset: start,
        compactions,
        timestamp_ms: match offset > start {
            true => i64::MIN,
            false => replica
                .group
                .first_timestamp(id, start, end)?
                .unwrap_or(i64::MIN),
        },
    };
    Ok(((offset > start).then_some(offset), oldest))
}

/// Raises the log start offsets of partitions of one group.
async fn trim(trims: &[(&Candidate, i64)]) {
    let Some((first, _)) = trims.first() else {
        return;
    };
    let command = |(candidate, offset): &(&Candidate, i64)| Command::Trim {
        partition: candidate.replica.partition.id,
        log_start_offset: *offset,
    };
    let commands = trims.iter().map(command).collect();
    let outcomes = match first
        .replica
        .group
        .append(commands, 0, None)
        .outcome()
        .await
    {
        Ok(outcomes) => outcomes,
        // The next look tries again.
        Err(error) => {
            return tracing::warn!(%error, partitions = trims.len(), "old records were not deleted");
        }
    };
    for ((candidate, _), outcome) in trims.iter().zip(outcomes) {
        if let Outcome::Trimmed { log_start_offset } = outcome {
            tracing::info!(topic = %candidate.topic, partition = candidate.index, log_start_offset, "deleted old records");
        }
    }
}

/// Frees the space before a partition's log start offset. Blocks on the disk.
pub fn reclaim(replica: &Replica) {
    if let Err(error) = replica.group.reclaim(&replica.partition) {
        tracing::error!(%error, partition = %replica.partition.id, "the space of deleted records was not freed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_proto::config::{ServerConfig, topic_config};

    const NOW_MS: i64 = 1_000_000_000;

    fn cut(configs: &[(&str, &str)], log: Extent) -> Option<Cut> {
        let server = ServerConfig::load(None, [], &[])
            .expect("the defaults are valid")
            .0;
        let own = configs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        Cut::of(&topic_config(&server, &own).expect("valid"), log, NOW_MS)
    }

    const LOG: Extent = Extent {
        log_start_offset: 5,
        high_watermark: 100,
        size_bytes: 1000,
        oldest_ms: None,
    };

    #[test]
    fn only_what_the_configuration_lets_go() {
        let by_time = |before_ms| {
            Some(Cut {
                before_ms: Some(before_ms),
                keep_bytes: None,
            })
        };
        let by_size = |bytes| {
            Some(Cut {
                before_ms: None,
                keep_bytes: Some(bytes),
            })
        };
        assert_eq!(cut(&[], LOG), by_time(NOW_MS - 604_800_000));
        let size = |bytes| cut(&[("retention.ms", "-1"), ("retention.bytes", bytes)], LOG);
        assert_eq!(
            (size("999"), size("1000"), size("-1")),
            (by_size(999), None, None)
        );
        assert_eq!(cut(&[("cleanup.policy", "compact")], LOG), None);
        assert!(cut(&[("cleanup.policy", "compact,delete")], LOG).is_some());
        assert_eq!(
            cut(
                &[],
                Extent {
                    high_watermark: 5,
                    ..LOG
                }
            ),
            None
        );
        assert_eq!(
            cut(&[("retention.ms", "9223372036854775807")], LOG),
            by_time(NOW_MS - i64::MAX)
        );
    }

    #[test]
    fn what_is_known_to_be_young_needs_no_look() {
        let at = |oldest_ms| cut(&[("retention.ms", "1000")], Extent { oldest_ms, ..LOG });
        assert_eq!(at(Some(NOW_MS - 1000)), None);
        assert!(at(Some(NOW_MS - 1001)).is_some());
        assert!(at(Some(i64::MIN)).is_some());
    }
}
