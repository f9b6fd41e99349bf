//! A Kafka client reduced to what measuring needs: requests are encoded by kafka-protocol (produce
//! frames by hand, see `frame`), answers are read by hand with every length checked (see `read`),
//! because a decoder that trusts a length from the wire could take the harness down with the broker.

pub mod cluster;
pub mod connection;
pub mod fetch;
pub mod frame;
pub mod read;

/// The one version of each API that the harness speaks, the newest that is plain: all are served
/// by Kafka 2.7 to 4.x.
pub mod version {
    pub const PRODUCE: i16 = 9;
    pub const FETCH: i16 = 12;
    pub const LIST_OFFSETS: i16 = 5;
    pub const METADATA: i16 = 7;
    pub const API_VERSIONS: i16 = 0;
    pub const CREATE_TOPICS: i16 = 4;
    pub const INIT_PRODUCER_ID: i16 = 1;
}

/// The client id of every request: shows in the broker's logs and metrics.
pub const CLIENT_ID: &str = "ottla-loadtest";
