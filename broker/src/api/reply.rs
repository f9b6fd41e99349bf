//! An encoded answer.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use ottla_proto::limits::FETCH_ROOM_BYTES_MIN;
use tokio::sync::OwnedSemaphorePermit;

use super::errors::Refusal;
use super::{Malformed, RequestContext};
use crate::room::FetchRoom;

pub struct Reply {
    /// The frame, length included, in the parts it is written in. Empty: nothing is sent (acks=0).
    pub segments: Vec<Bytes>,
    /// Given back once the bytes are written: what bounds fetch memory.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Reply {
    pub fn none() -> Reply {
        Reply {
            segments: Vec::new(),
            permit: None,
        }
    }

    pub fn segments(segments: Vec<Bytes>, permit: Option<OwnedSemaphorePermit>) -> Reply {
        Reply { segments, permit }
    }

    /// Takes room for the answer, if it is large; waits for it if few others do.
    pub(super) async fn charge(&mut self, room: &FetchRoom, waits: bool) -> Result<(), Malformed> {
        let bytes = self.segments.iter().map(Bytes::len).sum();
        if bytes > FETCH_ROOM_BYTES_MIN && self.permit.is_none() {
            let charged = match waits {
                true => room.charge(bytes).await,
                false => room.try_charge(bytes),
            };
            self.permit = Some(charged.ok_or(Malformed::NoRoom(bytes))?);
        }
        Ok(())
    }

    /// Header and body in the request's version.
    pub fn encode<T: Encodable + HeaderVersion>(
        context: &RequestContext,
        body: &T,
    ) -> Result<Reply, Malformed> {
        Reply::encode_as(context, body, context.version)
    }

    pub(super) fn encode_as<T: Encodable + HeaderVersion>(
        context: &RequestContext,
        body: &T,
        version: i16,
    ) -> Result<Reply, Malformed> {
        let fail = |e: String| Malformed::Encode(format!("{} v{version}: {e}", context.api.name));
        let header = ResponseHeader::default().with_correlation_id(context.correlation_id);
        let header_version = T::header_version(version);
        let mut frame = BytesMut::with_capacity(256);
        frame.put_i32(0);
        header
            .encode(&mut frame, header_version)
            .map_err(|e| fail(e.to_string()))?;
        body.encode(&mut frame, version)
            .map_err(|e| fail(e.to_string()))?;
        let length = i32::try_from(frame.len() - 4).map_err(|e| fail(e.to_string()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(Reply::segments(vec![frame.freeze()], None))
    }
}

/// What is left of the largest answer.
pub(super) struct Space {
    version: i16,
    left_bytes: usize,
}

impl Space {
    pub fn new(room: &FetchRoom, version: i16) -> Space {
        let left_bytes = room.answer_bytes();
        Space {
            version,
            left_bytes,
        }
    }

    /// The part, or `otherwise` if it would make the answer too large.
    pub fn fit<T: Encodable>(&mut self, part: T, otherwise: impl FnOnce(Refusal) -> T) -> T {
        let fits = |part: &T| {
            let bytes = part.compute_size(self.version).ok()?;
            self.left_bytes.checked_sub(bytes)
        };
        match fits(&part) {
            Some(left_bytes) => {
                self.left_bytes = left_bytes;
                part
            }
            None => otherwise(Refusal::new(
                ResponseError::PolicyViolation,
                "the answer would be too large: ask for less at once",
            )),
        }
    }
}
