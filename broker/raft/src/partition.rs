//! A partition as this replica serves it: its state, its recent batches, and who waits for more.
//! Hot path: every produce passes [`Partition::stage`] and `commit`, every fetch `read_cached`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use ottla_log::BATCH_HEAD_BYTES;
use ottla_proto::ids::{GroupId, PartitionId};
use tokio::sync::Notify;

use crate::producer_memory::ProducerMemory;
use crate::state::PartitionState;

/// A recent batch, in the two parts it is written in.
struct CachedBatch {
    base_offset: i64,
    last_offset: i64,
    head: Bytes,
    body: Bytes,
}

#[derive(Default)]
struct Inner {
    /// At the end of the log: decides what comes next.
    tail: PartitionState,
    /// At the high watermark: what clients see.
    applied: PartitionState,
    /// A contiguous run of batches that ends at the log end; may be empty.
    cache: VecDeque<CachedBatch>,
    waiters: Vec<Arc<Waiter>>,
    reclaimed: Reclaimed,
    compacted: Compacted,
}

impl Inner {
    fn producers(&self) -> usize {
        self.tail.producers.len() + self.applied.producers.len()
    }
}

/// What compaction left of the front of the log. Whoever compacts tells it anew after a start.
#[derive(Clone, Copy, Debug, Default)]
struct Compacted {
    /// Bytes appended before the end of the compacted part.
    position_bytes: u64,
    /// Bytes that it has now.
    kept_bytes: u64,
}

/// How far rows before the log start offset are deleted. Not durable: after a start nobody knows, and
/// deleting again is harmless.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reclaimed {
    /// The log start offset at that time.
    pub log_start_offset: i64,
    /// Rows before it are deleted; a batch that holds the log start offset stays whole.
    pub offset: i64,
}

/// One long poll; it may wait on many partitions at once.
#[derive(Default)]
pub struct Waiter(Notify);

impl Waiter {
    /// Returns once any watched partition has changed since the last call.
    pub async fn changed(&self) {
        self.0.notified().await;
    }
}

/// What clients may see of a partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub log_start_offset: i64,
    pub high_watermark: i64,
}

pub struct Partition {
    pub id: PartitionId,
    pub group: GroupId,
    log_start_offset: AtomicI64,
    high_watermark: AtomicI64,
    inner: Mutex<Inner>,
    producers: Arc<ProducerMemory>,
}

impl Drop for Partition {
    fn drop(&mut self) {
        let held = self.inner().producers();
        self.producers.changed(held, 0);
    }
}

impl Partition {
    pub(crate) fn new(
        id: PartitionId,
        group: GroupId,
        state: PartitionState,
        producers: Arc<ProducerMemory>,
    ) -> Partition {
        producers.changed(0, 2 * state.producers.len());
        Partition {
            id,
            group,
            log_start_offset: AtomicI64::new(state.log_start_offset),
            high_watermark: AtomicI64::new(state.log_end_offset),
            inner: Mutex::new(Inner {
                tail: state.clone(),
                applied: state,
                ..Default::default()
            }),
            producers,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no code panics while it holds a partition")
    }

    pub fn bounds(&self) -> Bounds {
        // Start before end: a trim between the two loads can only make the range look larger.
        let log_start_offset = self.log_start_offset.load(Ordering::Acquire);
        Bounds {
            log_start_offset,
            high_watermark: self.high_watermark.load(Ordering::Acquire),
        }
    }

    /// Looks at the state at the high watermark.
    pub fn with_state<T>(&self, look: impl FnOnce(&PartitionState) -> T) -> T {
        look(&self.inner().applied)
    }

    /// The state at the end of the log, to decide the next command by.
    pub(crate) fn stage<T>(&self, change: impl FnOnce(&mut PartitionState) -> T) -> T {
        let mut inner = self.inner();
        let before = inner.producers();
        let done = change(&mut inner.tail);
        self.producers.changed(before, inner.producers());
        done
    }

    /// Whether the producer has written at the end of the log.
    pub(crate) fn knows_producer(&self, id: i64) -> bool {
        self.inner().tail.producers.get(id).is_some()
    }

    pub(crate) fn cache(&self, base_offset: i64, last_offset: i64, head: Bytes, body: Bytes) {
        let cache = &mut self.inner().cache;
        assert!(
            cache.back().is_none_or(|b| b.last_offset < base_offset),
            "the cache is in order"
        );
        cache.push_back(CachedBatch {
            base_offset,
            last_offset,
            head,
            body,
        });
    }

    /// Drops cached batches up to and with the one at `base_offset`.
    pub(crate) fn evict(&self, base_offset: i64) {
        let cache = &mut self.inner().cache;
        while cache.front().is_some_and(|b| b.base_offset <= base_offset) {
            cache.pop_front();
        }
    }

    /// Drops cached batches that end before `offset`: the disk has others by now.
    pub fn forget_cached_before(&self, offset: i64) {
        let cache = &mut self.inner().cache;
        while cache.front().is_some_and(|b| b.last_offset < offset) {
            cache.pop_front();
        }
    }

    /// Takes a committed step into the visible state, and wakes who waits. `producer` wrote it.
    pub(crate) fn commit(&self, producer: Option<i64>, change: impl FnOnce(&mut PartitionState)) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let before = inner.producers();
        change(&mut inner.applied);
        self.producers.changed(before, inner.producers());
        if let Some(id) = producer {
            inner.applied.producers.share(id, &inner.tail.producers);
        }
        self.log_start_offset
            .store(inner.applied.log_start_offset, Ordering::Release);
        self.high_watermark
            .store(inner.applied.log_end_offset, Ordering::Release);
        inner.waiters.iter().for_each(|w| w.0.notify_one());
    }

    /// Back to the high watermark: what was appended beyond it is being cut off.
    pub(crate) fn rewind(&self) {
        let mut inner = self.inner();
        let before = inner.producers();
        inner.tail = inner.applied.clone();
        self.producers.changed(before, inner.producers());
        let end = inner.tail.log_end_offset;
        while inner.cache.back().is_some_and(|b| b.base_offset >= end) {
            inner.cache.pop_back();
        }
    }

    pub(crate) fn reclaimed(&self) -> Reclaimed {
        self.inner().reclaimed
    }

    /// Whether rows before the log start offset may still be there.
    pub fn needs_reclaim(&self) -> bool {
        self.reclaimed().log_start_offset < self.bounds().log_start_offset
    }

    /// Notes which rows are deleted, and how many bytes they were, as the index tells.
    pub(crate) fn note_reclaimed(&self, reclaimed: Reclaimed, position_bytes: u64) {
        let mut inner = self.inner();
        inner.reclaimed = reclaimed;
        inner.tail.start_position_bytes = position_bytes;
        inner.applied.start_position_bytes = position_bytes;
    }

    /// Notes that of the first `position_bytes` ever appended, `kept_bytes` are left.
    pub fn note_compacted(&self, position_bytes: u64, kept_bytes: u64) {
        self.inner().compacted = Compacted {
            position_bytes,
            kept_bytes,
        };
    }

    /// Bytes from the log start offset to the high watermark, to the grain of the index.
    pub fn size_bytes(&self) -> u64 {
        let inner = self.inner();
        let (kept, rest) = sizes(&inner);
        kept + rest
    }

    /// The position in bytes from which on there are `bytes` up to the high watermark; `None` if there
    /// are not so many. Within the compacted part it is taken to be equally dense.
    pub fn position_before_last(&self, bytes: u64) -> Option<u64> {
        let inner = self.inner();
        let (kept, rest) = sizes(&inner);
        let (state, compacted) = (&inner.applied, &inner.compacted);
        if bytes <= rest || kept == 0 {
            return state.position_bytes.checked_sub(bytes);
        }
        let missing = u128::from(bytes - rest);
        let span = u128::from(compacted.position_bytes - state.start_position_bytes);
        let back = missing * span / u128::from(kept);
        let start = u128::from(compacted.position_bytes).checked_sub(back)?;
        (start >= u128::from(state.start_position_bytes)).then_some(start as u64)
    }

    pub fn watch(&self, waiter: &Arc<Waiter>) {
        self.inner().waiters.push(waiter.clone());
    }

    pub fn unwatch(&self, waiter: &Arc<Waiter>) {
        let waiters = &mut self.inner().waiters;
        waiters.retain(|w| !Arc::ptr_eq(w, waiter));
        if waiters.is_empty() {
            *waiters = Vec::new();
        }
    }

    /// Wakes every long poll, so that it looks again: leadership changed or the partition is gone.
    pub fn wake(&self) {
        self.inner().waiters.iter().for_each(|w| w.0.notify_one());
    }

    /// Bytes of record data from `offset` to the high watermark, as far as the cache knows, up to
    /// `enough`; `None` if `offset` lies before the cache (then there is plenty).
    pub fn cached_bytes(&self, offset: i64, enough: usize) -> Option<usize> {
        let inner = self.inner();
        let first = inner.cache.partition_point(|b| b.last_offset < offset);
        if inner
            .cache
            .get(first)
            .is_none_or(|b| b.base_offset > offset)
        {
            return None;
        }
        let end = inner.applied.log_end_offset;
        let mut bytes = 0;
        for batch in inner
            .cache
            .range(first..)
            .take_while(|b| b.base_offset < end)
        {
            bytes += BATCH_HEAD_BYTES + batch.body.len();
            if bytes >= enough {
                break;
            }
        }
        Some(bytes)
    }

    /// Whole batches from the one that holds `offset`, with base offsets below `end_offset`, as
    /// slices of what the producer sent. The first is returned whatever its size. `None` if `offset`
    /// lies before the cache. A caller that passes the high watermark as the end sees committed data.
    pub fn read_cached(
        &self,
        offset: i64,
        end_offset: i64,
        max_bytes: usize,
    ) -> Option<Vec<Bytes>> {
        let inner = self.inner();
        let first = inner.cache.partition_point(|b| b.last_offset < offset);
        if inner
            .cache
            .get(first)
            .is_none_or(|b| b.base_offset > offset)
        {
            return None;
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        for batch in inner
            .cache
            .range(first..)
            .take_while(|b| b.base_offset < end_offset)
        {
            let size = BATCH_HEAD_BYTES + batch.body.len();
            if !found.is_empty() && bytes + size > max_bytes {
                break;
            }
            bytes += size;
            found.push(batch.head.clone());
            found.push(batch.body.clone());
        }
        Some(found)
    }
}

/// Bytes left of the compacted part, and bytes behind it.
fn sizes(inner: &Inner) -> (u64, u64) {
    let (state, compacted) = (&inner.applied, &inner.compacted);
    let start = state.start_position_bytes;
    let span = compacted.position_bytes.saturating_sub(start);
    let rest = state
        .position_bytes
        .saturating_sub(start.max(compacted.position_bytes));
    (compacted.kept_bytes.min(span), rest)
}

/// Partition, base offset and size of a cached batch.
pub(crate) type CachedAt = (Arc<Partition>, i64, usize);

/// The byte budget that all partitions' cached batches share; the oldest go first.
pub(crate) struct TailCache {
    budget_bytes: usize,
    queue: Mutex<(VecDeque<CachedAt>, usize)>,
}

impl TailCache {
    pub(crate) fn new(budget_bytes: usize) -> TailCache {
        TailCache {
            budget_bytes,
            queue: Mutex::default(),
        }
    }

    /// Accounts for batches that were just cached, and makes room.
    pub(crate) fn added(&self, batches: impl Iterator<Item = CachedAt>) {
        let mut evicted = Vec::new();
        {
            let mut guard = self
                .queue
                .lock()
                .expect("no code panics while it holds the queue");
            let (queue, bytes) = &mut *guard;
            for batch in batches {
                *bytes += batch.2;
                queue.push_back(batch);
            }
            while *bytes > self.budget_bytes {
                let Some(oldest) = queue.pop_front() else {
                    break;
                };
                *bytes -= oldest.2;
                evicted.push(oldest);
            }
        }
        evicted
            .iter()
            .for_each(|(partition, base_offset, _)| partition.evict(*base_offset));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.queue
            .lock()
            .expect("no code panics while it holds the queue")
            .1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(start_position_bytes: u64) -> Partition {
        let state = PartitionState {
            position_bytes: 1000,
            start_position_bytes,
            ..PartitionState::new()
        };
        let producers = Arc::new(ProducerMemory::new(0));
        Partition::new(PartitionId(1), GroupId(1), state, producers)
    }

    #[test]
    fn sizes_follow_compaction() {
        let p = partition(100);
        assert_eq!(
            (p.size_bytes(), p.position_before_last(300)),
            (900, Some(700))
        );
        assert_eq!(p.position_before_last(1001), None);
        // Of bytes 100 to 900, 40 are left.
        p.note_compacted(900, 40);
        assert_eq!(p.size_bytes(), 140);
        assert_eq!(p.position_before_last(60), Some(940));
        assert_eq!(p.position_before_last(100), Some(900));
        assert_eq!(p.position_before_last(120), Some(500));
        assert_eq!(p.position_before_last(140), Some(100));
        assert_eq!(p.position_before_last(141), None);
        // The log start offset went past what was compacted.
        let p = partition(950);
        p.note_compacted(900, 40);
        assert_eq!(
            (p.size_bytes(), p.position_before_last(20)),
            (50, Some(980))
        );
    }
}
