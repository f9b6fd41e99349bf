//! What two Ottla processes must agree on: ids, limits, configuration keys, metadata records and
//! the image they replay into, and the RPC messages between brokers.
pub mod config;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod metadata;
pub mod peer;
