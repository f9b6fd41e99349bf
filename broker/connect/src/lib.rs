//! The pure core of Ottla's connect runtime, which reads and does what Kafka Connect's files say.
//!
//! | module | what |
//! | --- | --- |
//! | [`data`] | schemas, values, records |
//! | [`config`] | keys, files, secrets, validation answers |
//! | [`converter`] | bytes to data and back |
//! | [`transform`] | single message transforms and predicates |
//! | [`errors`] | retries, tolerance, dead letters |
//! | [`partition`] | which output a record goes to, names of objects and indexes |
//! | [`rotate`] | when objects are closed, and the plans that make them exactly once |
//! | [`sink`] | what the runtime asks of a sink |
//! | [`audit`] | manifests that prove delivery |
//! | [`cluster`] | workers that share connectors: protocol, assignment, their topics |
//! | [`time`] | date patterns and time zones |
//!
//! What is absent: sockets, async, clocks, files, the environment, a Kafka client, and any sink. They are
//! built on this. Nothing that comes from a record or a file makes it panic.

pub mod audit;
pub mod cluster;
pub mod config;
pub mod converter;
pub mod data;
pub mod error;
pub mod errors;
pub mod partition;
pub mod rotate;
pub mod sink;
pub mod time;
pub mod transform;
