//! What a handler may know of a request besides its body.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OnceCell, OwnedSemaphorePermit, watch};

use super::Api;
use crate::services::Services;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// Name of the listener it came in by: it decides which addresses Metadata tells.
    pub listener: Arc<str>,
    /// True once it sends nothing more: nobody waits for new records or members any longer.
    pub gone: watch::Receiver<bool>,
}

pub struct RequestContext {
    pub api: &'static Api,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
    pub peer: Arc<Peer>,
    /// Taken by a handler whose answer may be large, and held until the answer's memory is counted.
    pub(super) place: OnceCell<OwnedSemaphorePermit>,
}

impl RequestContext {
    /// Waits until few enough large answers are being made. To be called before the first part of a
    /// large answer is in memory, and not while anything else is waited for.
    pub(super) async fn wait_for_place(&self, services: &Services) {
        let place = || services.fetch_room.place();
        self.place.get_or_init(place).await;
    }
}

/// The bytes are no request that can be answered: the connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("{0}")]
    Guard(#[from] ottla_wire::guard::GuardError),
    #[error("api key {0} is not served")]
    NotServed(i16),
    #[error("the body does not decode: {0}")]
    Decode(String),
    #[error("the response does not encode: {0}")]
    Encode(String),
    #[error("no memory for an answer of {0} bytes")]
    NoRoom(usize),
    /// A produce with acks=0 failed: as there is no answer, closing says so.
    #[error("records for which no answer was asked got error {0}")]
    Unanswered(i16),
    #[error("{api} version {version} is not served")]
    Version { api: &'static str, version: i16 },
}

impl Malformed {
    pub(super) fn guard(error: ottla_wire::guard::GuardError) -> Malformed {
        match error {
            ottla_wire::guard::GuardError::UnknownApi(key) => Malformed::NotServed(key),
            error => Malformed::Guard(error),
        }
    }

    pub(super) fn decode(error: impl std::fmt::Display) -> Malformed {
        Malformed::Decode(error.to_string())
    }
}
