//! The header before every request.
//!
//! Version 1: api key (int16), api version (int16), correlation id (int32), client id (nullable
//! string with an int16 length, in every version). Version 2 adds tagged fields, and goes with the
//! flexible versions of an API (KIP-482). Version 0 went with an API that Kafka 4 has no more.

use super::{GuardError, schema};
use crate::varint::read_unsigned;

/// A request's header, borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
    /// Where the body begins in the frame.
    pub size_bytes: usize,
}

/// Reads the header at the front of a frame, which begins after the frame's length.
///
/// The version may be one that is not supported, so that an answer can say so: the header's shape
/// depends only on whether it is below the API's first flexible one. An unknown api key leaves the
/// shape unknown and is an error.
pub fn header(frame: &[u8]) -> Result<RequestHeader<'_>, GuardError> {
    const TRUNCATED: GuardError = GuardError::Truncated {
        field: "RequestHeader",
    };
    let (&[k0, k1, v0, v1, c0, c1, c2, c3, l0, l1], mut rest) =
        frame.split_first_chunk::<10>().ok_or(TRUNCATED)?;
    let api_key = i16::from_be_bytes([k0, k1]);
    let api_version = i16::from_be_bytes([v0, v1]);
    let api = schema::find(api_key).ok_or(GuardError::UnknownApi(api_key))?;
    let client_id = match i16::from_be_bytes([l0, l1]) {
        -1 => None,
        size => {
            let malformed = GuardError::Malformed { field: "ClientId" };
            let size = usize::try_from(size).map_err(|_| malformed)?;
            let (text, after) = rest.split_at_checked(size).ok_or(TRUNCATED)?;
            rest = after;
            Some(std::str::from_utf8(text).map_err(|_| malformed)?)
        }
    };
    if api.is_flexible(api_version) {
        rest = skip_tags(rest).ok_or(TRUNCATED)?;
    }
    Ok(RequestHeader {
        api_key,
        api_version,
        correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        client_id,
        size_bytes: frame.len() - rest.len(),
    })
}

/// Skips tagged fields; none is defined for request headers. Each takes two bytes at least.
fn skip_tags(mut rest: &[u8]) -> Option<&[u8]> {
    let count = read_unsigned(&mut rest)? as usize;
    for _ in 0..count {
        read_unsigned(&mut rest)?;
        let size = read_unsigned(&mut rest)? as usize;
        rest = rest.get(size..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::messages;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    fn encode(
        key: i16,
        api_version: i16,
        client_id: Option<&'static str>,
        header: i16,
    ) -> BytesMut {
        let mut out = BytesMut::new();
        let mut message = messages::RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(api_version)
            .with_correlation_id(77)
            .with_client_id(client_id.map(StrBytes::from_static_str));
        if header == 2 {
            message = message.with_unknown_tagged_field(9, b"abc"[..].into());
        }
        message.encode(&mut out, header).unwrap();
        out
    }

    #[test]
    fn both_versions_are_read() {
        for (version, shape) in [(8, 1), (9, 2), (13, 2), (99, 2)] {
            for client_id in [None, Some(""), Some("consumer-1")] {
                let mut frame = encode(3, version, client_id, shape);
                let size_bytes = frame.len();
                frame.extend_from_slice(b"body");
                assert_eq!(
                    header(&frame),
                    Ok(RequestHeader {
                        api_key: 3,
                        api_version: version,
                        correlation_id: 77,
                        client_id,
                        size_bytes
                    })
                );
                for cut in 0..size_bytes {
                    assert!(header(&frame[..cut]).is_err(), "{cut} of {size_bytes}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_api_and_a_bad_client_id_are_refused() {
        assert_eq!(
            header(&encode(4, 0, None, 1)),
            Err(GuardError::UnknownApi(4))
        );
        assert_eq!(
            header(&encode(-1, 0, None, 1)),
            Err(GuardError::UnknownApi(-1))
        );
        let mut frame = encode(3, 0, Some("ab"), 1);
        frame[10] = 0xff;
        assert_eq!(
            header(&frame),
            Err(GuardError::Malformed { field: "ClientId" })
        );
        frame[8..10].copy_from_slice(&(-2i16).to_be_bytes());
        assert_eq!(
            header(&frame),
            Err(GuardError::Malformed { field: "ClientId" })
        );
    }
}
