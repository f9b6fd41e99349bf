//! RocksDB's settings. Measured with 64 KB batches, 2,000 partitions and one fsync per megabyte:
//! these reach 0.84 to 0.96 of a raw fsynced file, RocksDB's defaults 0.3.

use ottla_proto::memory::MemoryShares;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options,
};

use crate::keys;
use crate::reclaim::BLOB_FILE_BYTES;

const MB: usize = 1 << 20;
/// Bytes that one compaction rewrites, as far as it can be divided.
const COMPACTION_BYTES: u64 = 256 << 20;

/// What an operator decides; everything else here is fixed.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub memory: MemoryShares,
    /// Disk space that new records leave free; by default a share of the volume.
    pub disk_reserve_bytes: Option<u64>,
    /// Starts although acknowledged data is missing.
    pub accept_loss: bool,
}

impl StoreOptions {
    /// The write-ahead logs together; then the oldest memtables are flushed. It is what a start after a
    /// crash replays into memory, at most.
    pub(crate) fn logs_bytes(&self) -> u64 {
        2 * self.memory.memtable_bytes as u64 * MemoryShares::MEMTABLES as u64
    }

    /// Sizes of memtables, by column family.
    pub(crate) fn memtables(&self) -> [(&'static str, usize); 4] {
        let small = self.memory.small_memtable_bytes;
        [
            (keys::RAFT, small),
            (keys::LOG, self.memory.memtable_bytes),
            (keys::INDEX, small),
            (keys::STATE, small),
        ]
    }

    /// What RocksDB allocates ahead for a write-ahead log, all at once: a memtable and a tenth.
    pub(crate) fn log_ahead_bytes(&self) -> u64 {
        (self.memory.memtable_bytes + self.memory.memtable_bytes / 10) as u64
    }

    pub fn new(memory: MemoryShares) -> StoreOptions {
        StoreOptions {
            memory,
            disk_reserve_bytes: None,
            accept_loss: false,
        }
    }
}

pub(crate) fn database(options: &StoreOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // A torn last write is normal after a crash and was never acknowledged; stop at it.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_max_total_wal_size(options.logs_bytes());
    db.set_recycle_log_file_num(4);
    // Each log names the one before it: a missing or cut one is noticed.
    db.set_track_and_verify_wals(true);
    db.set_wal_bytes_per_sync(MB as u64);
    db.set_bytes_per_sync(MB as u64);
    db.set_writable_file_max_buffer_size(4 * MB as u64);
    // The default of 16 MB/s turns a short flush backlog into 62 ms stalls.
    db.set_delayed_write_rate(1 << 30);
    // There is one writer thread, so the concurrent memtable only costs.
    db.set_allow_concurrent_memtable_write(false);
    // A third of the CPU of buffered flushes; what is read again comes from the tail cache.
    db.set_use_direct_io_for_flush_and_compaction(true);
    db.set_advise_random_on_open(false);
    db.set_max_background_jobs(4);
    db.set_max_open_files(1024);
    db.set_keep_log_file_num(3);
    // Start-up after a crash replays the WAL into memtables and serves; flushing comes later.
    db.set_avoid_flush_during_recovery(true);
    db.set_skip_stats_update_on_db_open(true);
    db.set_stats_dump_period_sec(0);
    db
}

/// `roomy`: memtables hold whatever the write-ahead logs hold, so that replaying flushes nothing.
pub(crate) fn column_families(options: &StoreOptions, roomy: bool) -> Vec<ColumnFamilyDescriptor> {
    let memtable = |bytes: usize| {
        if roomy {
            2 * options.logs_bytes() as usize
        } else {
            bytes
        }
    };
    let cache = Cache::new_lru_cache(options.memory.block_cache_bytes);
    let table = |o: &mut Options| {
        let mut block = BlockBasedOptions::default();
        block.set_block_cache(&cache);
        block.set_format_version(5);
        o.set_block_based_table_factory(&block);
        o.set_compression_type(DBCompressionType::None);
    };
    let mut log = Options::default();
    table(&mut log);
    log.set_enable_blob_files(true);
    log.set_min_blob_size(512);
    log.set_blob_file_size(BLOB_FILE_BYTES);
    log.set_blob_compression_type(DBCompressionType::None);
    // What a compaction needs of a disk that is nearly full before it gives anything back.
    log.set_max_compaction_bytes(COMPACTION_BYTES);
    log.set_write_buffer_size(memtable(options.memory.memtable_bytes));
    log.set_max_write_buffer_number(MemoryShares::MEMTABLES);
    log.set_arena_block_size(MB);
    let small = || {
        let mut o = Options::default();
        table(&mut o);
        o.set_write_buffer_size(memtable(options.memory.small_memtable_bytes));
        o.set_max_write_buffer_number(2);
        o
    };
    vec![
        ColumnFamilyDescriptor::new("default", Options::default()),
        ColumnFamilyDescriptor::new(keys::RAFT, small()),
        ColumnFamilyDescriptor::new(keys::LOG, log),
        ColumnFamilyDescriptor::new(keys::INDEX, small()),
        ColumnFamilyDescriptor::new(keys::STATE, small()),
    ]
}
