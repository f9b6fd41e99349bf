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
//! 4. A replica serves as leader only after it has applied an entry of its own term, and only while a
//!    majority has answered it lately (see [`Group::leader_epoch`]).
//! 5. A replica that lost something never votes as the one that had it: it has another replica id.

mod codec;
mod command;
mod cut;
mod group;
mod group_log;
mod groups;
mod id_set;
mod install;
mod lease;
mod link;
mod maxima;
mod members;
mod memory_network;
mod mend;
mod network;
mod partition;
mod peers;
mod producer_memory;
mod producers;
mod read_back;
mod restored;
mod rows;
mod sequencer;
mod serve;
mod sizes;
mod snapshot_receive;
mod snapshot_send;
mod staged;
mod state;
mod step;
mod storage;
mod sweep;
mod throttle;
mod transport;
mod trim;
mod types;
pub mod verify;
mod watch;
mod wire;

pub use codec::{RowReader, RowWriter};
pub use command::{BatchMeta, Command, GroupEntry, Outcome, Payload, ProducerMeta};
pub use group::{AppendError, Group, Ticket};
pub use groups::{Clock, GroupError, Groups, Tuning};
pub use maxima::Maxima;
pub use members::{GroupStatus, MemberProgress, MembershipError};
pub use memory_network::{Faults, MemoryNetwork};
pub use partition::{Bounds, Partition, Waiter};
pub use producers::{ProducerState, Producers, RememberedBatch, next_sequence};
pub use sizes::{Measure, Sizes};
pub use state::{EntryContext, EpochStart, PartitionState};
pub use transport::{Channel, ConnectError, Connection, Transport, node_of, replica_id};
pub use trim::{last_row_before, last_row_where};

use ottla_log::StoreError;

/// Runs what blocks on the disk where it holds nobody up. On a runtime of one thread (simulations, whose
/// store does not block) it runs in place, so that the order of events depends on nothing else.
pub async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    use tokio::runtime::{Handle, RuntimeFlavor};
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| StoreError::Io(e.to_string().into()))?
}
