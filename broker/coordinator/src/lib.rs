//! Kafka's group coordinator (classic protocol) as a pure state machine.
//!
//! One [`Shard`] is the coordinator of one partition of `__consumer_offsets`: the groups that
//! [`partition_for`] maps there, their members and their committed offsets. There is no I/O, no
//! clock and no runtime in this crate. Time is an argument, in milliseconds; requests are values
//! with a [`Token`] for the reply; what must be stored comes back as records in Kafka's own format.
//!
//! # Contract with the shell
//!
//! The shell is the one task that owns a shard.
//!
//! 1. *Load*: read the partition from the start, [`Shard::replay`] each record, then call
//!    [`Shard::loaded`] once. No command before that.
//! 2. *Serve*: [`Shard::handle`] for each request, [`Shard::tick`] no later than
//!    [`Shard::next_deadline_ms`]. Both return a [`Decision`] whose records they have **already
//!    replayed**. The shell appends the records, and sends the replies only once these records and
//!    all earlier ones of the shard are committed, in order. A decision without records still waits
//!    for the earlier ones, since its replies may speak of state they carry. The records of one decision may be
//!    split over several batches: each is meaningful alone.
//!
//!    If [`Decision::producer`] is set, the batch is a transactional one of that producer. When a
//!    transaction marker for it is committed to the partition, the shell calls
//!    [`Shard::end_transaction`]; at load it does so at the control batch, and hands records of
//!    transactional batches to [`Shard::replay_transactional`].
//! 3. *Failure*: if an append fails, the state in memory is ahead of the log. The shell drops the
//!    shard, answers every token that waits with a retriable error, and loads again from the log.
//!
//! Every token is answered exactly once. JoinGroup and SyncGroup may wait; all else is answered in
//! the decision of its own command.
//!
//! # State
//!
//! `Durable` (durable.rs) is what the log says: group metadata and offsets. Only `replay` changes
//! it; operations see it behind a shared reference. `Group` (group.rs) is a group that has members:
//! who waits, who is pending, which state of the rebalance. It is gone after a crash, apart from
//! what `loaded` can restore from the last group record, exactly as in Kafka. An Empty group costs
//! its durable rows and one timer.
//!
//! Sources: KIP-62 (rebalance timeout), KIP-134 (initial delay), KIP-211 (offset expiration), KIP-345
//! (static members), KIP-394 (known member ids), KIP-496 (OffsetDelete), KIP-559 (protocol type and
//! name), KIP-98 and KIP-447 (offsets in transactions), KIP-800 (reasons), KIP-814 (a static leader keeps its assignment).

mod admin;
mod command;
mod commit;
mod config;
mod durable;
mod errors;
mod expire;
mod fetch;
mod group;
mod heartbeat;
mod join;
mod leave;
mod partition;
mod rebalance;
mod records;
mod response;
mod shard;
mod subscription;
mod sync;
mod timers;
mod usage;

pub use command::*;
pub use config::GroupConfig;
pub use errors::{GroupError, ReplayError};
pub use partition::partition_for;
pub use records::Record;
pub use response::*;
pub use shard::Shard;
pub use usage::{States, Usage};
