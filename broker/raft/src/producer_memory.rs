//! What the producers of all partitions of the process take in memory, counted in one place
//! (`partition.rs` tells), and what happens when it is too much.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ottla_proto::limits::PRODUCER_MEMORY_BYTES;
use tokio::sync::Notify;

/// Between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct ProducerMemory {
    /// States that may be held: a producer has one at the end of the log and one at the high watermark.
    limit: usize,
    used: AtomicUsize,
    warned: Mutex<Option<Instant>>,
    /// Told when a producer was refused: whoever sweeps looks for silent ones.
    pub(crate) pressed: Notify,
}

impl ProducerMemory {
    pub(crate) fn new(bytes: usize) -> ProducerMemory {
        ProducerMemory {
            limit: bytes / (PRODUCER_MEMORY_BYTES / 2),
            used: AtomicUsize::new(0),
            warned: Mutex::default(),
            pressed: Notify::new(),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) + 2 <= self.limit
    }

    pub(crate) fn bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed) * (PRODUCER_MEMORY_BYTES / 2)
    }

    /// A partition that had `before` states has `after`.
    pub(crate) fn changed(&self, before: usize, after: usize) {
        match after >= before {
            true => self.used.fetch_add(after - before, Ordering::Relaxed),
            false => self.used.fetch_sub(before - after, Ordering::Relaxed),
        };
    }

    /// A new producer was refused.
    pub(crate) fn refused(&self, whose: &str) {
        metrics::counter!("ottla_producers_refused_total").increment(1);
        self.pressed.notify_one();
        let mut warned = self
            .warned
            .lock()
            .expect("no code panics while it holds it");
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!(
                "new idempotent producers are refused: {whose} full of producers that wrote within \
                 the last minutes"
            );
        }
    }
}
