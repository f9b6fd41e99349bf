//! What runs connectors: workers, their tasks, the REST API, and the sinks.
//!
//! | module | what |
//! | --- | --- |
//! | [`worker`] | keys of a worker, checks of connectors', what makes a task |
//! | `herder` | what the REST API asks of a worker |
//! | `standalone` | connectors of a worker that is alone |
//! | `distributed` | connectors that workers share |
//! | `task` | one thread with a consumer and a sink: reads, converts, puts, commits |
//! | `kafka` | clients of the brokers, from Kafka's keys |
//! | `dead_letters` | the producer of dead letters |
//! | `plugins` | connector classes: their keys, checks and sinks |
//! | `s3`, `opensearch` | the sinks |
//! | `net` | which hosts a connector may talk to |
//! | `rest` | Kafka Connect's REST API |
//! | `metrics` | what `/metrics` tells |
//! | [`audit`] | `ottla audit verify` |
//! | [`cli`] | `ottla connect-standalone`, `ottla connect-distributed`, `ottla connector` |
//!
//! The runtime knows sinks by [`ottla_connect::sink::SinkTask`] alone. Plans, names, formats of records and
//! what an error means are decided in `ottla_connect`, which does no input or output.

pub mod audit;
pub mod cli;
mod dead_letters;
mod distributed;
mod groups;
mod herder;
mod kafka;
mod metrics;
mod net;
mod opensearch;
mod plugins;
mod rest;
mod s3;
mod standalone;
mod system;
mod task;
pub mod worker;
