//! The broker's storage: one RocksDB, one writer thread, one fsync for many partitions at a time.
//!
//! [`Store`] is the narrow door: ordered writes with a completion, and plain reads. [`RocksStore`]
//! is the real one; [`MemoryStore`] serves unit tests and simulations. Neither knows Raft, Kafka's
//! protocol or what a record means: a batch is opaque bytes behind a 16-byte head.
//!
//! Invariants:
//! 1. Writes become durable in the order they were submitted; `done` is called in that order.
//! 2. `done(Ok)` means synced to disk: it survives a power loss.
//! 3. A write's operations are atomic.
//! 4. Acknowledged data that is missing after a crash is noticed at the start (`durable.rs`).
//! 5. What a read returns has passed a checksum; what does not pass is an error.

mod batch;
mod durable;
mod health;
mod keys;
mod listener;
mod loss;
mod memory;
mod open;
mod options;
mod reclaim;
mod rocks;
mod space;
mod store;
pub mod verify;
mod wal;
mod writer;

pub use batch::{BatchFacts, batch_max_timestamp, batch_span, lost_batch};
pub use health::{FAILURE_KINDS, Trouble};
pub use keys::{StateKey, Tag};
pub use memory::MemoryStore;
pub use options::StoreOptions;
pub use rocks::{RocksStore, StoreStats};
pub use store::{BATCH_HEAD_BYTES, Done, IndexRow, Op, Store, StoreError, Write};
