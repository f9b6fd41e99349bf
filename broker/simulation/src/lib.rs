//! What simulations of a node and of a cluster are made of: a process in which nothing is random but a seed, and
//! a disk that syncs late and forgets. The network is `ottla_raft::MemoryNetwork`; the clock is tokio's, paused.

pub mod child;
mod disk;

pub use disk::{Disk, DiskStore, Lie};
