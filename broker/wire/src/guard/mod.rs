//! A walk over a request's bytes before `kafka-protocol` decodes them.
//!
//! That crate allocates for an array's count as the wire says it, before it reads an element, so
//! twelve bytes can ask for gigabytes and abort the process. [`check`] follows the same schema over
//! the same bytes without allocating anything, and refuses what does not add up: a count that the
//! bytes left cannot hold, a length beyond the end, a null where none may be, a tagged field of the
//! wrong size (KIP-482), and more elements in all than [`GuardLimits`] allows. What it passes, the
//! crate decodes with memory in proportion to the body and the element budget.
//!
//! The walk reads counts and lengths and skips what is between: a Produce request costs a few dozen
//! steps per partition, whatever the records' size. It does not look at values: UTF-8, enums and
//! ranges are for the decoder and the handler.

mod header;
pub mod sample;
mod schema;
mod walk;

pub use header::{RequestHeader, header};
pub use schema::{Api, apis, find};
pub use walk::check;

/// Bounds for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardLimits {
    /// The most array elements and tagged fields in one request, in all its arrays together. An
    /// element decodes into less than 256 bytes, besides the bytes of the body that it points to.
    pub max_elements: usize,
}

impl GuardLimits {
    /// Room for a commit or a fetch of 200,000 partitions: below 50 MB when decoded.
    pub const DEFAULT: GuardLimits = GuardLimits {
        max_elements: 200_000,
    };
}

impl Default for GuardLimits {
    fn default() -> Self {
        GuardLimits::DEFAULT
    }
}

/// Why a request is refused before it is decoded. `field` is the name in Kafka's message definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("api key {0} is unknown")]
    UnknownApi(i16),
    #[error("version {version} of api key {api_key} is not supported")]
    UnsupportedVersion { api_key: i16, version: i16 },
    #[error("{field} ends beyond the request's end")]
    Truncated { field: &'static str },
    #[error("{field} has a malformed length or marker")]
    Malformed { field: &'static str },
    #[error("{field} must not be null")]
    Null { field: &'static str },
    #[error("{field} counts {count} elements, more than the bytes left can hold")]
    Count { field: &'static str, count: u32 },
    #[error("more than {max} elements in one request")]
    TooManyElements { max: usize },
    #[error("tagged field {tag} does not exist in this version or has the wrong size")]
    Tag { tag: u32 },
}
