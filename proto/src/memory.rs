//! How a broker divides its memory. One number, `ottla.memory.bytes`, bounds all that grows with load:
//! a share here is the most that its owner holds, and the shares leave a rest for what is fixed
//! (code, stacks, some kilobytes per partition and connection).

use crate::limits::DECOMPRESSED_BATCH_BYTES;

const MB: u64 = 1 << 20;
/// Less is not accepted as a budget.
pub const MIN_MEMORY_BYTES: u64 = 256 * MB;
/// More is not taken unless it is asked for: reads of old records profit from the page cache instead.
const DEFAULT_MAX_BYTES: u64 = 2048 * MB;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShares {
    pub budget_bytes: u64,
    /// One memtable of record data; RocksDB holds at most [`MemoryShares::MEMTABLES`] of them, and
    /// stalls writes above. A start after a crash fills as much again, before anything else is held.
    pub memtable_bytes: usize,
    /// One memtable of each of the small column families, which have two each.
    pub small_memtable_bytes: usize,
    pub block_cache_bytes: usize,
    /// Recent record batches, for apply, followers and consumers at the tail.
    pub tail_cache_bytes: usize,
    /// Record bytes that wait in sequencers; producers wait above it.
    pub append_queue_bytes: usize,
    /// Bytes that fetches hold from reads of the disk.
    pub fetch_bytes: usize,
    /// Bytes of large requests that are being read, unless `queued.max.request.bytes` says otherwise.
    pub request_bytes: usize,
    /// Consumer groups: their members and committed offsets.
    pub group_bytes: usize,
    /// Idempotent producers of all partitions.
    pub producer_bytes: usize,
    /// What one record batch may decompress to; see [`MemoryShares::DECOMPRESSIONS`].
    pub decompressed_bytes: usize,
    /// The most that compaction uses to find duplicate keys, whatever `log.cleaner.dedupe.buffer.size`
    /// says.
    pub dedupe_bytes: usize,
}

impl MemoryShares {
    pub const MEMTABLES: i32 = 4;
    /// Buffers of decompressed records at a time: two batches that are looked into, and one that
    /// compaction reads, writes anew and compresses.
    pub const DECOMPRESSIONS: u64 = 5;

    /// The shares of a budget.
    pub fn of(budget_bytes: u64) -> MemoryShares {
        let share = |parts: u64, of: u64| -> usize {
            // A share counts in permits of a semaphore, which are 32 bits.
            let bytes = budget_bytes / of * parts;
            usize::try_from(bytes.min(2048 * MB)).unwrap_or(usize::MAX)
        };
        let memtable = share(1, 16).min(128 * MB as usize);
        MemoryShares {
            budget_bytes,
            memtable_bytes: memtable,
            small_memtable_bytes: memtable / 8,
            block_cache_bytes: share(1, 16),
            tail_cache_bytes: share(3, 32),
            append_queue_bytes: share(3, 32),
            fetch_bytes: share(3, 32),
            request_bytes: share(3, 32),
            group_bytes: share(1, 16),
            producer_bytes: share(1, 32),
            decompressed_bytes: share(1, 64).min(DECOMPRESSED_BATCH_BYTES),
            dedupe_bytes: share(1, 32),
        }
    }

    /// The budget of a process that may have `available_bytes`, the machine's or its control group's.
    pub fn default_budget(available_bytes: u64) -> u64 {
        (available_bytes / 2).clamp(MIN_MEMORY_BYTES, DEFAULT_MAX_BYTES)
    }

    /// All shares together, with memtables counted as often as they can exist.
    pub fn total_bytes(&self) -> u64 {
        let small_families = 3;
        let memtables = self.memtable_bytes as u64 * Self::MEMTABLES as u64
            + self.small_memtable_bytes as u64 * 2 * small_families;
        let rest = [
            self.block_cache_bytes,
            self.tail_cache_bytes,
            self.append_queue_bytes,
            self.fetch_bytes,
            self.request_bytes,
            self.group_bytes,
            self.producer_bytes,
            self.dedupe_bytes,
        ];
        let decompressed = self.decompressed_bytes as u64 * Self::DECOMPRESSIONS;
        memtables + decompressed + rest.iter().map(|bytes| *bytes as u64).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_fit_the_budget() {
        for budget in [MIN_MEMORY_BYTES, 512 * MB, 2048 * MB, 4096 * MB, 1 << 40] {
            let shares = MemoryShares::of(budget);
            assert!(shares.total_bytes() <= budget - budget / 16, "{shares:?}");
            assert!(shares.small_memtable_bytes >= 2 * MB as usize, "{shares:?}");
        }
    }

    #[test]
    fn half_of_what_there_is_and_not_too_much() {
        assert_eq!(MemoryShares::default_budget(2048 * MB), 1024 * MB);
        assert_eq!(MemoryShares::default_budget(128 * MB), MIN_MEMORY_BYTES);
        assert_eq!(MemoryShares::default_budget(1 << 40), DEFAULT_MAX_BYTES);
    }
}
