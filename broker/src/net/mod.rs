//! From sockets to frames and back: listeners, connections, and the door to peers on the same port.

mod answers;
mod connection;
mod limits;
mod listener;

pub use listener::{Bound, Network};
