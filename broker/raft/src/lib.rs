//! Replication groups: Raft groups (openraft) that each hold many partitions.
//!
//! A group's log is a list of commands: append this batch to that partition, raise a log start
//! offset, forget a partition. What a command becomes (an offset, a duplicate, a refusal) follows
//! from the log before it, so every replica decides the same. This crate knows neither Kafka's
//! protocol nor the controller; openraft's types do not leave it.
//!
//! Words: a Raft *term* is Kafka's *leader epoch*; the applied prefix of a group's log ends at its
//! partitions' *high watermarks*.
//!
//! Invariants:
//! 1. A command is answered after its entry is on disk on a majority and applied here.
//! 2. Offsets of a partition are dense: base offset = log end offset before it.
//! 3. Nothing above the high watermark is ever shown to a client.
//! 4. A replica serves as leader only after it has applied an entry of its own term.

mod codec;
mod command;
mod group;
mod group_log;
mod id_set;
mod maxima;
mod mend;
mod network;
mod partition;
mod producer_memory;
mod producers;
mod restored;
mod rows;
mod sequencer;
mod sizes;
mod state;
mod step;
mod storage;
mod sweep;
mod trim;
mod types;
pub mod verify;

pub use codec::{RowReader, RowWriter};
pub use command::{BatchMeta, Command, GroupEntry, Outcome, Payload, ProducerMeta};
pub use group::{AppendError, Clock, Group, GroupError, Groups, Ticket};
pub use maxima::Maxima;
pub use partition::{Bounds, Partition, Waiter};
pub use producers::{ProducerState, Producers, RememberedBatch, next_sequence};
pub use sizes::{Measure, Sizes};
pub use state::{EntryContext, EpochStart, PartitionState};
pub use trim::{last_row_before, last_row_where};
