//! One TCP connection to one broker, one request at a time: for everything that is not measured.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::read::{Reader, Truncated};
use super::{CLIENT_ID, version};
use crate::error::{LoadError, Result};

const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// Longer than the slowest CreateTopics.
const REQUEST_TIMEOUT_MS: u64 = 180_000;
/// Metadata of a hundred thousand partitions fits.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What the harness needs served, by name for the error.
const NEEDED: [(ApiKey, &str, i16); 6] = [
    (ApiKey::Produce, "Produce", version::PRODUCE),
    (ApiKey::Fetch, "Fetch", version::FETCH),
    (ApiKey::ListOffsets, "ListOffsets", version::LIST_OFFSETS),
    (ApiKey::Metadata, "Metadata", version::METADATA),
    (ApiKey::CreateTopics, "CreateTopics", version::CREATE_TOPICS),
    (
        ApiKey::InitProducerId,
        "InitProducerId",
        version::INIT_PRODUCER_ID,
    ),
];

/// API key, oldest version, newest version.
pub type ServedApi = (i16, i16, i16);

pub struct Connection {
    pub address: String,
    /// A longer answer is refused.
    pub answer_bytes_max: usize,
    stream: TcpStream,
    buffer: BytesMut,
    correlation_id: i32,
}

/// A bare stream, for callers that write frames of their own.
pub async fn open_stream(address: &str) -> Result<TcpStream> {
    let refused = |cause| LoadError::Connect {
        address: address.to_string(),
        cause,
    };
    let stream = within(CONNECT_TIMEOUT_MS, TcpStream::connect(address))
        .await
        .map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    Ok(stream)
}

async fn within<T>(ms: u64, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(Duration::from_millis(ms), work)
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer in {ms} ms"),
            ))
        })
}

impl Connection {
    pub async fn open(address: &str) -> Result<Self> {
        let stream = open_stream(address).await?;
        Ok(Connection {
            address: address.to_string(),
            answer_bytes_max: ANSWER_BYTES_MAX,
            stream,
            buffer: BytesMut::new(),
            correlation_id: 0,
        })
    }

    /// Connects and checks that the broker serves every version the harness speaks.
    pub async fn open_checked(address: &str) -> Result<Self> {
        let mut connection = Connection::open(address).await?;
        let served = connection.api_versions().await?;
        for (key, api, version) in NEEDED {
            let is_served =
                |(k, min, max): &ServedApi| *k == key as i16 && (*min..=*max).contains(&version);
            if !served.iter().any(is_served) {
                let address = address.to_string();
                return Err(LoadError::Unsupported {
                    address,
                    api,
                    version,
                });
            }
        }
        Ok(connection)
    }

    pub async fn api_versions(&mut self) -> Result<Vec<ServedApi>> {
        let answer = self
            .request(version::API_VERSIONS, &ApiVersionsRequest::default())
            .await?;
        let (code, served) = self.parse(&answer, parse_api_versions)?;
        LoadError::check(code, || format!("{} refused ApiVersions", self.address))?;
        Ok(served)
    }

    /// Sends one request and returns the body of its answer.
    pub async fn request<R: Request>(&mut self, version: i16, request: &R) -> Result<BytesMut> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = encode(self.correlation_id, version, request)?;
        let answer = within(REQUEST_TIMEOUT_MS, self.exchange(&frame)).await;
        let mut answer = answer.map_err(|cause| self.lost(cause))?;
        if answer.len() < 4 || answer.get_i32() != self.correlation_id {
            return Err(self.malformed("an answer to another request"));
        }
        let key = ApiKey::try_from(R::KEY).expect("a request of the crate has a key of the crate");
        if key.response_header_version(version) >= 1 {
            let mut reader = Reader::new(&answer);
            reader
                .skip_tags()
                .map_err(|_| self.malformed("response header"))?;
            let read = answer.len() - reader.remaining();
            answer.advance(read);
        }
        Ok(answer)
    }

    async fn exchange(&mut self, frame: &[u8]) -> io::Result<BytesMut> {
        self.stream.write_all(frame).await?;
        read_frame(&mut self.stream, &mut self.buffer, self.answer_bytes_max).await
    }

    /// Reads an answer's body with one of the parsers of this module's neighbours.
    pub fn parse<T>(
        &self,
        body: &[u8],
        parser: impl FnOnce(&mut Reader<'_>) -> std::result::Result<T, Truncated>,
    ) -> Result<T> {
        parser(&mut Reader::new(body)).map_err(|Truncated| self.malformed("it ends too early"))
    }

    fn lost(&self, cause: io::Error) -> LoadError {
        LoadError::Lost {
            address: self.address.clone(),
            cause,
        }
    }

    fn malformed(&self, what: &str) -> LoadError {
        LoadError::Malformed {
            address: self.address.clone(),
            what: what.into(),
        }
    }
}

fn parse_api_versions(r: &mut Reader<'_>) -> std::result::Result<(i16, Vec<ServedApi>), Truncated> {
    let code = r.i16()?;
    let count = r.array_len(6)?;
    let served = (0..count).map(|_| Ok((r.i16()?, r.i16()?, r.i16()?)));
    Ok((code, served.collect::<std::result::Result<_, _>>()?))
}

/// A whole request frame: length, header, body.
pub fn encode<R: Request>(correlation_id: i32, version: i16, request: &R) -> Result<BytesMut> {
    let key = ApiKey::try_from(R::KEY).expect("a request of the crate has a key of the crate");
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header
        .encode(&mut frame, key.request_header_version(version))
        .and_then(|()| request.encode(&mut frame, version))
        .map_err(|error| LoadError::Usage(format!("cannot encode {key:?}: {error}")))?;
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Reads one frame without its length. `buffer` keeps what was read beyond it.
pub async fn read_frame(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> io::Result<BytesMut> {
    fill(stream, buffer, 4).await?;
    let length = usize::try_from(buffer.get_i32()).unwrap_or(usize::MAX);
    if length > bytes_max {
        let what = format!("a frame of {length} bytes, more than {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    fill(stream, buffer, length).await?;
    Ok(buffer.split_to(length))
}

async fn fill(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut BytesMut,
    bytes: usize,
) -> io::Result<()> {
    while buffer.len() < bytes {
        buffer.reserve(bytes - buffer.len());
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed by the peer",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_split_and_bounded() {
        let mut wire: &[u8] = &[0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 3, 0, 1, 0, 0];
        let mut buffer = BytesMut::new();
        assert_eq!(
            &read_frame(&mut wire, &mut buffer, 10).await.unwrap()[..],
            [1, 2]
        );
        assert_eq!(
            &read_frame(&mut wire, &mut buffer, 10).await.unwrap()[..],
            [3]
        );
        let error = read_frame(&mut wire, &mut buffer, 10).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut short: &[u8] = &[0, 0, 0, 9, 1];
        let error = read_frame(&mut short, &mut BytesMut::new(), 10)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let mut negative: &[u8] = &[0xff, 0xff, 0xff, 0xff];
        let error = read_frame(&mut negative, &mut BytesMut::new(), 10)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn api_versions_are_parsed() {
        let body = [0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 13, 0, 18, 0, 0, 0, 4];
        let parsed = parse_api_versions(&mut Reader::new(&body)).unwrap();
        assert_eq!(parsed, (0, vec![(0, 3, 13), (18, 0, 4)]));
        assert!(parse_api_versions(&mut Reader::new(&body[..17])).is_err());
    }
}
