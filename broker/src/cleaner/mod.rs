//! Log compaction: topics with `cleanup.policy=compact` keep the last record of each key.
//!
//! Each replica compacts its own store; nothing of it is replicated. `log.cleaner.threads` threads take
//! the dirtiest partition, make one pass over it, and look again.
//!
//! - `schedule.rs`: what the threads share: which partition is next, who has it, what is known of it.
//! - `survey.rs`: how much of a partition may be compacted, and whether it should be.
//! - `offset_map.rs`: the last offset of each key, in memory of a fixed size.
//! - `plan.rs`: what stays and what goes. No disk, no clock.
//! - `pass.rs`: one pass over a store, throttled by `pace.rs`.
//! - `state.rs`: the row that says how far a partition is compacted and how much is left of it; `recall.rs`
//!   reads it again.
//!
//! Invariants:
//! 1. A record goes only if a later record of its key is in the log, or it is a tombstone that was kept
//!    for `delete.retention.ms` after nothing older of its key was left, or it has no key.
//! 2. Offsets, their order and the last batch of a log never change.
//! 3. Nothing goes because it cannot be read: a batch whose checksum is wrong ends the pass, one that only
//!    cannot be read inside stays as it is.
//! 4. The threads' common state is never locked while one reads the disk.

mod metrics;
mod offset_map;
mod pace;
mod pass;
mod plan;
mod recall;
mod schedule;
mod state;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_log::{StateKey, Store, StoreError};
use ottla_proto::config::{Cleaner as Settings, Compaction};
use ottla_proto::limits::{CLEANER_DAMAGE_RETRY_MS, CLEANER_RETRY_MS};
use tokio::runtime::Handle;

use crate::retention;
use crate::topics::{Replica, Topics};
use pace::{Pacer, Stop};
use pass::{Log, PassError, Report, Task};
use recall::Row;
pub use recall::learn_sizes;
use schedule::{Known, Work};
pub use state::CleanerState;
use state::{Left, Place};
use survey::{Extent, Found};

/// The threads that compact.
pub struct Cleaner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    store: Arc<dyn Store>,
    topics: Arc<Topics>,
    settings: Settings,
    runtime: Handle,
    /// One thread's part of the memory for keys.
    map_bytes: usize,
    stop: Stop,
    work: Mutex<Work<Job>>,
}

#[derive(Clone)]
struct Job {
    topic: Arc<str>,
    index: i32,
    replica: Replica,
    settings: Compaction,
}

/// A job with all that a pass needs.
struct Ready {
    job: Job,
    life: u64,
    state: CleanerState,
    first_dirty: Place,
    end: Place,
}

/// A replica's log as a pass has begun with it.
struct Begun<'a> {
    replica: &'a Replica,
    life: u64,
}

impl Log for Begun<'_> {
    fn log_start_offset(&self) -> Option<i64> {
        let partition = &self.replica.partition;
        let removed = partition.with_state(|s| s.removed);
        (!removed).then(|| partition.bounds().log_start_offset)
    }

    fn unless_replaced(&self, submit: &mut dyn FnMut()) -> bool {
        self.replica.partition.unless_replaced(self.life, submit)
    }
}

impl Cleaner {
    /// Starts the threads, or none where compaction is disabled. `memory_bytes` bounds the memory for
    /// keys, whatever the settings say. `runtime` commits what is to be deleted after a pass.
    pub fn start(
        store: Arc<dyn Store>,
        topics: Arc<Topics>,
        settings: &Settings,
        memory_bytes: usize,
        runtime: Handle,
    ) -> std::io::Result<Cleaner> {
        let threads = match settings.enabled {
            true => settings.threads,
            false => 0,
        };
        let bytes = settings.dedupe_buffer_bytes.min(memory_bytes as u64);
        let shared = Arc::new(Shared {
            store,
            topics,
            settings: settings.clone(),
            runtime,
            map_bytes: (bytes / u64::from(threads.max(1))) as usize,
            stop: Stop::default(),
            work: Mutex::default(),
        });
        let spawn = |number| {
            let shared = shared.clone();
            let name = format!("log-cleaner-{number}");
            std::thread::Builder::new()
                .name(name)
                .spawn(move || shared.run())
        };
        let threads = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok(Cleaner { shared, threads })
    }

    /// Ends the passes under way; the next start makes them again. Blocks until the threads are gone.
    pub fn stop(self) {
        self.shared.stop.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a compaction thread had ended by a panic");
            }
        }
    }
}

impl Shared {
    fn run(&self) {
        let backoff = Duration::from_millis(self.settings.backoff_ms.max(1));
        loop {
            let ready = self.next();
            let rest = match ready {
                Some(ready) => {
                    self.compact(ready);
                    Duration::ZERO
                }
                None => backoff,
            };
            if self.stop.sleep(rest) {
                return;
            }
        }
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work<Job>> {
        self.work.lock().expect("no code panics while it holds it")
    }

    /// The dirtiest partition that nobody works on, after a new look where the last one is used up.
    /// None while the store is in trouble: what is left of a full disk is not for this.
    fn next(&self) -> Option<Ready> {
        if self.store.trouble().is_some() {
            return None;
        }
        for looked in [false, true] {
            while let Some(job) = { self.work().next_due() } {
                // Found due a while ago: it, and its topic's configuration, are looked at again.
                let Some(job) = self.again(job) else { continue };
                let id = job.replica.partition.id;
                if !self.work().claim(id) {
                    continue;
                }
                match self.look(job) {
                    Some((ready, found)) if found.due => return Some(ready),
                    _ => self.work().release(id),
                }
            }
            if !looked {
                self.look_at_all();
            }
        }
        None
    }

    /// Looks at every partition, unless another thread does.
    fn look_at_all(&self) {
        if !self.work().begin_look() {
            return;
        }
        let began = Instant::now();
        let jobs = self.jobs();
        let present: HashSet<_> = jobs.iter().map(|job| job.replica.partition.id).collect();
        self.work().keep_only(&present);
        let mut max_dirty_ratio = 0.0f64;
        let mut due = Vec::new();
        for job in jobs {
            let id = job.replica.partition.id;
            if self.stop.sleep(Duration::ZERO) {
                break;
            }
            if !self.work().claim(id) {
                continue;
            }
            let looked = self.look(job);
            self.work().release(id);
            if let Some((ready, found)) = looked {
                max_dirty_ratio = max_dirty_ratio.max(found.dirty_ratio);
                if found.due {
                    due.push((found.dirty_ratio, ready.job));
                }
            }
        }
        let mut work = self.work();
        let last_look = work.end_look(began, due);
        metrics::looked(max_dirty_ratio, work.failed_bytes());
        metrics::since_last_look(last_look.map(|last| began - last));
    }

    /// The job as it is now; `None` if the topic is gone or not compacted any more.
    fn again(&self, job: Job) -> Option<Job> {
        let topic = self.topics.by_name(&job.topic).ok()?;
        let same = topic.replica(job.index).ok()?.partition.id == job.replica.partition.id;
        (same && topic.config.cleanup_compact).then(|| Job {
            settings: topic.config.compaction.clone(),
            ..job
        })
    }

    /// Every partition here of a topic that is compacted.
    fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for topic in self.topics.all() {
            if !topic.config.cleanup_compact {
                continue;
            }
            let replicas = topic.replicas();
            jobs.extend(replicas.map(|(index, replica)| Job {
                topic: topic.topic.name.clone(),
                index,
                replica: replica.clone(),
                settings: topic.config.compaction.clone(),
            }));
        }
        jobs
    }

    /// What there is to do for a partition that this thread has claimed, as far as it can be told; `None`
    /// where there is nothing.
    fn look(&self, job: Job) -> Option<(Ready, Found)> {
        let now_ms = self.topics.now_ms();
        match surviving(|| self.look_closely(&job, now_ms)) {
            Ok(Some((life, state, first_dirty, found))) => {
                let ready = Ready {
                    job,
                    life,
                    state,
                    first_dirty,
                    end: found.end,
                };
                Some((ready, found))
            }
            Ok(None) => None,
            Err(error) => {
                self.failed(&job, &error);
                None
            }
        }
    }

    fn look_closely(
        &self,
        job: &Job,
        now_ms: i64,
    ) -> Result<Option<(u64, CleanerState, Place, Found)>, StoreError> {
        let Some(log) = extent(&job.replica) else {
            return Ok(None);
        };
        let id = job.replica.partition.id;
        let life = job.replica.partition.life();
        let known = {
            let work = self.work();
            if work.rests(id, Instant::now()) {
                return Ok(None);
            }
            work.known(id, life)
        };
        let mut known = match known {
            Some(known) => known,
            None => match self.recall(job, &log)? {
                Some(known) => known,
                None => return Ok(None),
            },
        };
        let found = self.look_with(&mut known, job, &log, now_ms);
        let (life, state) = (known.life, known.state.clone());
        self.work().remember(id, known);
        Ok(found?.map(|(first_dirty, found)| (life, state, first_dirty, found)))
    }

    fn look_with(
        &self,
        known: &mut Known,
        job: &Job,
        log: &Extent,
        now_ms: i64,
    ) -> Result<Option<(Place, Found)>, StoreError> {
        let (store, id) = (&*self.store, job.replica.partition.id);
        if known.settled == Some(log.end.offset) {
            return Ok(None);
        }
        let start = log.log_start_offset;
        let first_dirty = match known.first_dirty.filter(|(at, _)| *at == start) {
            Some((_, first_dirty)) => first_dirty,
            None => {
                let Some(found) = survey::first_dirty(store, id, log, &known.state)? else {
                    return Ok(None);
                };
                known.first_dirty = Some((start, found));
                found
            }
        };
        let (state, settings) = (&known.state, &job.settings);
        if survey::is_out_of_question(log, state, &first_dirty, settings, now_ms) {
            return Ok(None);
        }
        let found = survey::look(store, id, log, state, &first_dirty, settings, now_ms)?;
        // Tombstones will have to go one day.
        if found.settled && !known.state.marks.hold_tombstones() {
            known.settled = Some(log.end.offset);
        }
        Ok(Some((first_dirty.place, found)))
    }

    /// What the disk says of a partition; `None` if it cannot be told yet.
    fn recall(&self, job: &Job, log: &Extent) -> Result<Option<Known>, StoreError> {
        let (store, replica) = (&*self.store, &job.replica);
        let life = replica.partition.life();
        let mut state = match recall::row(store, replica, log)? {
            Row::TooEarly => return Ok(None),
            Row::None => CleanerState::default(),
            Row::Whole(state) => state,
            Row::Unusable(why) => {
                tracing::warn!(%why, topic = %job.topic, partition = job.index, "compaction begins anew");
                CleanerState {
                    left: Left::ChangedBefore(log.end.offset),
                    ..CleanerState::default()
                }
            }
        };
        if !learn_sizes(store, replica)? {
            return Ok(None);
        }
        // Better known than the row says, where they had to be measured.
        if let (None, Some(sizes)) = (state.left.sizes(), replica.partition.sizes()) {
            state.left = Left::Known(sizes);
        }
        Ok(Some(Known::new(life, state)))
    }

    fn compact(&self, mut ready: Ready) {
        let began = Instant::now();
        let replica = &ready.job.replica;
        // Measured since a pass was cut short.
        if let (None, Some(sizes)) = (ready.state.left.sizes(), replica.partition.sizes()) {
            ready.state.left = Left::Known(sizes);
        }
        let clock = || self.topics.now_ms();
        let task = Task {
            store: &*self.store,
            partition: replica.partition.id,
            row: row_key(replica),
            log: &Begun {
                replica,
                life: ready.life,
            },
            clock: &clock,
            state: &ready.state,
            first_dirty: ready.first_dirty,
            end: ready.end.offset,
            delete_retention_ms: ready.job.settings.delete_retention_ms,
            map_bytes: self.map_bytes,
            load_factor: self.settings.load_factor,
        };
        let share = self.settings.io_max_bytes_per_second / f64::from(self.settings.threads.max(1));
        replica.partition.compaction_begins();
        let done = surviving(|| pass::run(&task, &mut Pacer::new(&self.stop, share)));
        match done {
            Ok(Some(report)) => {
                self.done(&ready, report, began.elapsed());
                self.delete_old(&ready.job);
            }
            Ok(None) => {
                self.cut_short(&ready);
            }
            Err(error) => {
                self.cut_short(&ready);
                self.failed(&ready.job, &error);
            }
        }
        self.work().release(replica.partition.id);
    }

    /// A pass that was not through may have changed anything before its end.
    fn cut_short(&self, ready: &Ready) {
        let partition = &ready.job.replica.partition;
        partition.compaction_ended(ready.life, None);
        self.work().cut_short(partition.id, ready.end.offset);
    }

    fn done(&self, ready: &Ready, report: Report, took: Duration) {
        let tally = &report.tally;
        tracing::info!(
            topic = %ready.job.topic, partition = ready.job.index,
            end_offset = report.state.first_dirty.offset,
            records_dropped = tally.records_dropped, records_kept = tally.records_kept,
            bytes_before = tally.read_bytes, bytes_after = tally.kept_bytes,
            ms = took.as_millis() as u64, "compacted"
        );
        if tally.records_dropped > 0 {
            let partition = &ready.job.replica.partition;
            partition.forget_cached_before(report.state.first_dirty.offset);
        }
        if tally.unreadable_batches > 0 {
            tracing::warn!(
                topic = %ready.job.topic, partition = ready.job.index, batches = tally.unreadable_batches,
                "batches whose records cannot be read were kept as they are"
            );
        }
        metrics::done(&report, took);
        let partition = &ready.job.replica.partition;
        partition.compaction_ended(ready.life, report.state.left.sizes().cloned());
        let known = Known::new(ready.life, report.state);
        self.work().done(partition.id, known);
    }

    /// Retention by size, which has to wait for the end of a pass.
    fn delete_old(&self, job: &Job) {
        if let Ok(topic) = self.topics.by_name(&job.topic) {
            let now_ms = self.topics.now_ms();
            retention::after_pass(&topic, job.index, &job.replica, now_ms, &self.runtime);
        }
    }

    /// The partition stays as it is, and is left alone for a while.
    fn failed(&self, job: &Job, error: &PassError) {
        let retry_ms = match error.is_damage() {
            true => CLEANER_DAMAGE_RETRY_MS,
            false => CLEANER_RETRY_MS,
        };
        tracing::error!(
            %error, topic = %job.topic, partition = job.index, retry_ms,
            "not compacted; nothing that counts was deleted"
        );
        let partition = &job.replica.partition;
        let again_at = Instant::now() + Duration::from_millis(retry_ms);
        let bytes = partition.size_bytes();
        self.work().failed(partition.id, again_at, bytes);
    }
}

/// A panic is a failure like others: the thread goes on with other partitions.
fn surviving<T, E: Into<PassError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, PassError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(PassError::Panic),
    }
}

fn row_key(replica: &Replica) -> StateKey {
    StateKey::cleaner(replica.group.id, replica.partition.id)
}

/// The log up to the high watermark; `None` if there is nothing in it or it is gone.
fn extent(replica: &Replica) -> Option<Extent> {
    let (extent, removed) = replica.partition.with_state(|s| {
        let end = Place {
            offset: s.log_end_offset,
            position_bytes: s.position_bytes,
        };
        let extent = Extent {
            log_start_offset: s.log_start_offset,
            start_position_bytes: s.start_position_bytes,
            end,
            max_timestamp_ms: s.max_timestamp_ms(),
        };
        (extent, s.removed)
    });
    (!removed && extent.log_start_offset < extent.end.offset).then_some(extent)
}
