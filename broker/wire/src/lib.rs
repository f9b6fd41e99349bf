//! Kafka's wire format where `kafka-protocol` does not serve a broker.
//!
//! That crate encodes and decodes requests and responses. Beside it stand:
//!
//! - [`batch`]: the record batch (KIP-98, magic 2): header, checksum, rules for what a client may
//!   append, and the records inside, decoded as slices.
//! - [`compress`]: the four codecs, with a bound on what comes out.
//! - [`guard`]: a walk over a request's bytes before `kafka-protocol` decodes them, because it
//!   allocates whatever an array's count on the wire asks for.
//! - [`fetch`]: an encoder for Fetch responses that leaves the records where they are.
//!
//! Every limit is an argument. The crate has no clock, no I/O and no async runtime.

pub mod batch;
pub mod compress;
pub mod fetch;
pub mod guard;
mod varint;
