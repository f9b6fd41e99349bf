//! A partition as this replica serves it: its state, its recent batches, and who waits for more.
//! Hot path: every produce passes [`Partition::stage`] and `commit`, every fetch `read_cached`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use ottla_log::BATCH_HEAD_BYTES;
use ottla_proto::ids::{GroupId, PartitionId};
use tokio::sync::Notify;

use crate::producer_memory::ProducerMemory;
use crate::sizes::{Cut, Sizes, Sizing};
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
    compacted: Sizing,
}

impl Inner {
    fn producers(&self) -> usize {
        self.tail.producers.len() + self.applied.producers.len()
    }
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
    /// The number of its data's life, which no other data of this process has.
    life: Mutex<u64>,
}

fn next_life() -> u64 {
    static LIVES: AtomicU64 = AtomicU64::new(0);
    LIVES.fetch_add(1, Ordering::Relaxed)
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
            life: Mutex::new(next_life()),
            producers,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no code panics while it holds a partition")
    }

    fn current_life(&self) -> MutexGuard<'_, u64> {
        self.life
            .lock()
            .expect("no code panics while it holds a partition's life")
    }

    /// Another number once the data was replaced by a snapshot, or has left this node. Who reads it and
    /// writes what follows from that asks first, and writes by [`Partition::unless_replaced`].
    pub fn life(&self) -> u64 {
        *self.current_life()
    }

    /// Runs what hands a write to the store, unless the data was replaced since `life`; false then.
    /// A snapshot that replaces it waits, and is written after.
    pub fn unless_replaced(&self, life: u64, submit: impl FnOnce()) -> bool {
        let now = self.current_life();
        let same = *now == life;
        if same {
            submit();
        }
        same
    }

    /// Whoever has read the data before must not write any more.
    pub(crate) fn begin_life(&self) {
        *self.current_life() = next_life();
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

    /// After a rewind some of the log's end may have been staged again without its data: a cache that
    /// does not end there has a gap.
    pub(crate) fn drop_broken_cache(&self) {
        let mut inner = self.inner();
        let end = inner.tail.log_end_offset;
        if inner.cache.back().is_some_and(|b| b.last_offset + 1 != end) {
            inner.cache.clear();
        }
    }

    /// Takes the state that a snapshot brought, and wakes who waits. `renewed`: what compaction has left
    /// of the data is not what was known.
    pub(crate) fn install(&self, state: PartitionState, renewed: bool) {
        let mut inner = self.inner();
        let before = inner.producers();
        inner.cache.clear();
        // Rows before the new log start offset are looked for anew.
        inner.reclaimed = Reclaimed::default();
        if renewed {
            inner.compacted.forget();
        }
        self.log_start_offset
            .store(state.log_start_offset, Ordering::Release);
        self.high_watermark
            .store(state.log_end_offset, Ordering::Release);
        inner.tail = state.clone();
        inner.applied = state;
        self.producers.changed(before, inner.producers());
        inner.waiters.iter().for_each(|w| w.0.notify_one());
    }

    /// Log end offset at the end of the log, which may lie above the high watermark.
    pub(crate) fn tail_end(&self) -> i64 {
        self.inner().tail.log_end_offset
    }

    /// The body of the batch at `base_offset`, if it is in the cache.
    pub(crate) fn cached_body(&self, base_offset: i64) -> Option<Bytes> {
        let inner = self.inner();
        let at = inner
            .cache
            .binary_search_by_key(&base_offset, |b| b.base_offset)
            .ok()?;
        Some(inner.cache[at].body.clone())
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

    /// A pass begins to compact: until its end nobody knows what is left.
    pub fn compaction_begins(&self) {
        self.inner().compacted.begin();
    }

    /// The pass over the data of `life` is over; without `sizes` it was not through.
    pub fn compaction_ended(&self, life: u64, mut sizes: Option<Sizes>) {
        if !self.unless_replaced(life, || self.inner().compacted.end(sizes.take())) {
            self.inner().compacted.end(None);
        }
    }

    /// Whether it is known what compaction has left of the log. After a start the disk has to tell.
    pub fn knows_sizes(&self) -> bool {
        self.inner().compacted.is_known()
    }

    /// Goes up whenever a pass begins and ends, and with data that is replaced: what was read of the disk
    /// before may have gone.
    pub fn compactions(&self) -> (u64, u64) {
        (self.life(), self.inner().compacted.changes())
    }

    /// What compaction has left, as far as it is known.
    pub fn sizes(&self) -> Option<Sizes> {
        let inner = self.inner();
        let known = inner.compacted.is_known();
        known.then(|| inner.compacted.sizes.clone())
    }

    /// Has the disk tell what compaction has left, if nobody knows. What it tells counts only if no pass
    /// has begun meanwhile.
    pub fn learn_sizes<E>(&self, look: impl FnOnce() -> Result<Sizes, E>) -> Result<(), E> {
        let Some(number) = self.inner().compacted.look() else {
            return Ok(());
        };
        let sizes = look()?;
        self.inner().compacted.learn(number, sizes);
        Ok(())
    }

    /// Bytes from the log start offset to the high watermark, to the grain of the index.
    pub fn size_bytes(&self) -> u64 {
        let inner = self.inner();
        let (state, sizes) = (&inner.applied, &inner.compacted.sizes);
        let start = state.start_position_bytes.max(sizes.end_position_bytes);
        sizes.bytes_from(state.log_start_offset) + state.position_bytes.saturating_sub(start)
    }

    /// Where to cut the log so that `bytes` remain up to the high watermark; `None` if there are not so
    /// many, or nobody knows how many there are.
    pub(crate) fn cut_before_last(&self, bytes: u64) -> Option<Cut> {
        let inner = self.inner();
        let known = inner.compacted.is_known();
        let position = inner.applied.position_bytes;
        known
            .then(|| inner.compacted.sizes.cut(position, bytes))
            .flatten()
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

    /// Of bytes 0 to 900, offsets 0 to 90, 40 are left: 30 in one batch and 10 in another.
    fn compacted() -> Sizes {
        Sizes::new(90, 900, vec![(10, 40), (80, 10)]).expect("in order")
    }

    #[test]
    fn sizes_follow_compaction() {
        let p = partition(100);
        assert_eq!(p.size_bytes(), 900);
        assert_eq!(p.cut_before_last(300), None, "nobody knows yet");
        p.learn_sizes(|| Ok::<_, ()>(compacted())).unwrap();
        assert_eq!(p.size_bytes(), 140);
        assert_eq!(p.cut_before_last(60), Some(Cut::PositionBytes(940)));
        assert_eq!(p.cut_before_last(100), Some(Cut::PositionBytes(900)));
        assert_eq!(p.cut_before_last(110), Some(Cut::Offset(80)));
        assert_eq!(p.cut_before_last(111), Some(Cut::Offset(10)));
        assert_eq!(p.cut_before_last(141), None);
        p.compaction_begins();
        assert_eq!(p.cut_before_last(60), None, "it changes");
        assert_eq!(p.size_bytes(), 140);
        p.compaction_ended(p.life(), Some(Sizes::default()));
        assert_eq!(p.cut_before_last(300), Some(Cut::PositionBytes(700)));
    }

    /// What was deleted of the compacted part does not count as left for ever.
    #[test]
    fn sizes_follow_the_log_start_offset_into_the_compacted_part() {
        let p = partition(100);
        p.learn_sizes(|| Ok::<_, ()>(compacted())).unwrap();
        p.commit(None, |state| state.log_start_offset = 80);
        let reclaimed = Reclaimed {
            log_start_offset: 80,
            offset: 80,
        };
        p.note_reclaimed(reclaimed, 800);
        assert_eq!(p.size_bytes(), 110);
        assert_eq!(p.cut_before_last(110), Some(Cut::Offset(80)));
        // It went past what was compacted.
        p.commit(None, |state| state.log_start_offset = 95);
        p.note_reclaimed(reclaimed, 950);
        assert_eq!(p.size_bytes(), 50);
        assert_eq!(p.cut_before_last(20), Some(Cut::PositionBytes(980)));
    }
}
