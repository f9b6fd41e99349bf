//! RocksDB's settings. Measured with 64 KB batches, 2,000 partitions and one fsync per megabyte:
//! these reach 0.84 to 0.96 of a raw fsynced file, RocksDB's defaults 0.3.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options,
};

use crate::keys;

const MB: usize = 1 << 20;

/// What an operator's memory budget decides; everything else here is fixed.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// One memtable of record data, and how many of them may exist at once.
    pub memtable_bytes: usize,
    pub memtables: i32,
    pub block_cache_bytes: usize,
    /// Disk space that new records leave free; by default a share of the volume.
    pub disk_reserve_bytes: Option<u64>,
    /// Starts although acknowledged data is missing.
    pub accept_loss: bool,
}

/// One memtable of what is not record data.
const SMALL_MEMTABLE_BYTES: usize = 16 * MB;
/// The write-ahead logs together; then the oldest memtables are flushed.
const LOGS_BYTES: u64 = 1 << 30;

impl StoreOptions {
    /// Sizes of memtables, by column family.
    pub(crate) fn memtables(&self) -> [(&'static str, usize); 4] {
        [
            (keys::RAFT, SMALL_MEMTABLE_BYTES),
            (keys::LOG, self.memtable_bytes),
            (keys::INDEX, SMALL_MEMTABLE_BYTES),
            (keys::STATE, SMALL_MEMTABLE_BYTES),
        ]
    }

    /// What RocksDB allocates ahead for a write-ahead log, all at once: a memtable and a tenth.
    pub(crate) fn log_ahead_bytes(&self) -> u64 {
        (self.memtable_bytes + self.memtable_bytes / 10) as u64
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            memtable_bytes: 128 * MB,
            memtables: 4,
            block_cache_bytes: 64 * MB,
            disk_reserve_bytes: None,
            accept_loss: false,
        }
    }
}

pub(crate) fn database(_options: &StoreOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // A torn last write is normal after a crash and was never acknowledged; stop at it.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_max_total_wal_size(LOGS_BYTES);
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
            2 * LOGS_BYTES as usize
        } else {
            bytes
        }
    };
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
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
    log.set_blob_file_size(256 * MB as u64);
    log.set_blob_compression_type(DBCompressionType::None);
    log.set_write_buffer_size(memtable(options.memtable_bytes));
    log.set_max_write_buffer_number(options.memtables);
    log.set_arena_block_size(MB);
    let small = || {
        let mut o = Options::default();
        table(&mut o);
        o.set_write_buffer_size(memtable(SMALL_MEMTABLE_BYTES));
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
