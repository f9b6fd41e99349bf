//! Connectors against a real broker and a real S3 server, as processes that are killed.
//!
//! `OTTLA_CONNECT_KILLS` kills (default 8) at moments drawn from `OTTLA_SEED`.

mod files;
mod once;
mod rest;
mod seaweed;
mod sinks;
mod worker;
