//! Kafka's configuration keys: what they are called, what they mean here, and the configuration of a
//! server and of a topic.
//!
//! - [`definitions`] holds one table for topics and one for brokers: name, type, default, range, doc,
//!   and what this server does with the key ([`definitions::Effect`]).
//! - [`properties`] reads `server.properties` as Java does.
//! - [`ServerConfig::load`] puts file, environment and `--override` together, reports everything that
//!   is wrong at once, and resolves typed values. [`ServerConfig::with_dynamic`] lays dynamic broker
//!   configs over it.
//! - [`topic_config`] is what is in force for a topic; [`validate_topic_configs`] checks what somebody
//!   asks for.
//! - [`describe_topic`] and [`describe_broker`] are the substance of DescribeConfigs, [`alter`] and
//!   [`replace`] of IncrementalAlterConfigs and AlterConfigs.
//! - [`reference_markdown`] is the page that people read.
//!
//! Invariants. No key is ignored in silence: it is honoured, reported as being without effect, or
//! refused. Nothing here reads a clock, the file system or the environment by itself, and nothing
//! from outside makes it panic. A secret is never in a message or an answer.
//!
//! To add a key: one row in the table of its area; if the server honours it, a field in
//! `server/sections.rs` or `topic_config.rs`.

mod alter;
mod check;
pub mod definitions;
mod describe;
mod environment;
mod error;
mod nearest;
pub mod properties;
mod reference;
mod server;
mod topic_config;
mod values;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use alter::{AlterOp, Alteration, Scope, alter, replace};
pub use check::Fault;
pub use describe::{
    ConfigEntry, ConfigSynonym, describe_broker, describe_cluster_default, describe_topic,
};
pub use error::ConfigError;
pub use nearest::nearest;
pub use reference::reference_markdown;
pub use server::{
    Cleaner, ConfigErrors, ConfigProblem, Connections, Fetch, Groups, HostPort, Lifecycle,
    Listener, Listeners, LogFormat, Notice, Offsets, QuorumVoter, Roles, SecurityProtocol,
    ServerConfig, TopicCreation, Transactions, notices_line,
};
pub use topic_config::{
    Compaction, TimestampType, TopicConfig, topic_config, validate_topic_config,
    validate_topic_configs,
};
pub use values::{Origin, Setting, Source, Values};
