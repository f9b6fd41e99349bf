//! An encoded answer.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use tokio::sync::OwnedSemaphorePermit;

use super::{Malformed, RequestContext};

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
