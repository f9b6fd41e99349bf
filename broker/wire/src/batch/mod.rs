//! Record batches: KIP-98's format, magic 2, the only one that is stored or served.
//!
//! A batch is 61 bytes of header and then its records, compressed as a whole or not at all:
//!
//! | bytes | field | bytes | field |
//! | --- | --- | --- | --- |
//! | 0..8 | base offset | 27..35 | base timestamp, ms |
//! | 8..12 | batch length: bytes from 12 on | 35..43 | max timestamp, ms |
//! | 12..16 | partition leader epoch | 43..51 | producer id |
//! | 16 | magic: 2 | 51..53 | producer epoch |
//! | 17..21 | CRC-32C of bytes 21.. | 53..57 | base sequence |
//! | 21..23 | attributes | 57..61 | record count |
//! | 23..27 | last offset delta | 61.. | records |
//!
//! To the broker a batch is opaque: it reads the header, checks the CRC-32C, and stores and serves
//! the client's bytes, with base offset and leader epoch patched ([`head`]). What is inside is read
//! only where a rule asks for it: keys on compacted topics, a search by timestamp, compaction.

mod build;
mod error;
mod filter;
mod header;
mod records;
mod time;
mod validate;

pub use build::{BatchBuilder, ControlType, control_type, end_txn_marker};
pub use error::BatchError;
pub use filter::{intact, retain};
pub use header::{BatchHeader, HEADER_BYTES, head, next_sequence, patch_head};
pub use records::{Headers, RecordView, Records, records};
pub use time::{append_time_header, find_timestamp, with_append_time};
pub use validate::{Rules, TimestampType, exactly_one, split, validate};
