//! Connectors against a real broker, a real S3 server and a real OpenSearch, as processes that are killed.
//!
//! `OTTLA_CONNECT_KILLS` kills (default 8) at moments drawn from `OTTLA_SEED`.

mod audit;
mod distributed;
mod files;
mod once;
mod opensearch;
mod rest;
mod search;
mod search_once;
mod search_secure;
mod seaweed;
mod sinks;
mod worker;
