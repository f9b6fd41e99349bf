//! One TCP connection that speaks the Kafka protocol.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer that takes longer than this is a failure, not a wait.
pub const CALL_WAIT: Duration = Duration::from_secs(30);
/// The largest answer a test asks for is far below this.
const MAX_ANSWER_BYTES: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer after {CALL_WAIT:?}")]
    NoAnswer,
    #[error("an answer of {0} bytes")]
    Size(i32),
    #[error("the answer to {asked} came where {expected} was due")]
    Order { expected: i32, asked: i32 },
    #[error("{what}: {error}")]
    Codec { what: String, error: String },
    #[error("{what}: {left} bytes follow the answer")]
    Left { what: String, left: usize },
    #[error("{what}: error {code}")]
    Kafka { what: &'static str, code: i16 },
}

impl ClientError {
    /// Whether the broker was not there, or went away; a client then comes back.
    pub fn is_disconnect(&self) -> bool {
        matches!(self, ClientError::Io(_))
    }
}

pub struct Connection {
    stream: TcpStream,
    next_correlation_id: i32,
    /// How long to wait for an answer before the broker is taken for gone.
    patience: Option<Duration>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Connection, ClientError> {
        let stream = timeout(CALL_WAIT, TcpStream::connect(address))
            .await
            .map_err(|_| ClientError::NoAnswer)??;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            next_correlation_id: 0,
            patience: None,
        })
    }

    /// As [`Connection::open`], by a client that soon goes to another broker: see [`Connection::give_up_after`].
    pub async fn open_within(
        address: SocketAddr,
        patience: Duration,
    ) -> Result<Connection, ClientError> {
        let opened = timeout(patience, Connection::open(address)).await;
        let late = |_| ClientError::Io(io::ErrorKind::TimedOut.into());
        let mut connection = opened.map_err(late)??;
        connection.give_up_after(patience);
        Ok(connection)
    }

    /// From here on an answer that takes longer is a lost connection, not a failure: the client goes
    /// to another broker.
    pub fn give_up_after(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    pub fn peer_address(&self) -> SocketAddr {
        self.stream
            .peer_addr()
            .expect("an open socket has an address")
    }

    /// Sends a request and returns its correlation id; answers come in this order.
    pub async fn send<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<i32, ClientError> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let frame = frame(version, correlation_id, request)?;
        self.write(&frame).await?;
        Ok(correlation_id)
    }

    /// Reads the answer to the request that was sent as `correlation_id`. It must decode to its last byte.
    pub async fn receive<R: Request>(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> Result<R::Response, ClientError> {
        let what = || format!("{} v{version}", name(R::KEY));
        let bad = |error: String| ClientError::Codec {
            what: what(),
            error,
        };
        let mut body = self.read_frame().await?;
        let header_version = R::Response::header_version(version);
        let header =
            ResponseHeader::decode(&mut body, header_version).map_err(|e| bad(e.to_string()))?;
        if header.correlation_id != correlation_id {
            return Err(ClientError::Order {
                expected: correlation_id,
                asked: header.correlation_id,
            });
        }
        let answer = R::Response::decode(&mut body, version).map_err(|e| bad(e.to_string()))?;
        match body.remaining() {
            0 => Ok(answer),
            left => Err(ClientError::Left { what: what(), left }),
        }
    }

    pub async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let correlation_id = self.send(version, request).await?;
        self.receive::<R>(version, correlation_id).await
    }

    /// Writes bytes as they are; for what no client should send.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let (wait, late) = self.wait();
        timeout(wait, self.stream.write_all(bytes))
            .await
            .map_err(|_| late)??;
        Ok(())
    }

    /// How long a broker is waited for, and what it is not to have answered by then.
    fn wait(&self) -> (Duration, ClientError) {
        match self.patience {
            Some(patience) => (patience, ClientError::Io(io::ErrorKind::TimedOut.into())),
            None => (CALL_WAIT, ClientError::NoAnswer),
        }
    }

    /// One answer without its length.
    pub async fn read_frame(&mut self) -> Result<Bytes, ClientError> {
        let (wait, late) = self.wait();
        timeout(wait, self.read_frame_unbounded())
            .await
            .map_err(|_| late)?
    }

    async fn read_frame_unbounded(&mut self) -> Result<Bytes, ClientError> {
        let length = self.stream.read_i32().await?;
        let size = usize::try_from(length)
            .ok()
            .filter(|size| *size <= MAX_ANSWER_BYTES);
        let mut body = BytesMut::zeroed(size.ok_or(ClientError::Size(length))?);
        self.stream.read_exact(&mut body).await?;
        Ok(body.freeze())
    }

    /// Waits until the broker closes the connection, in bounded time; bytes before that are dropped.
    pub async fn wait_until_closed(&mut self) -> Result<(), ClientError> {
        let drain = async {
            let mut sink = vec![0; 64 << 10];
            loop {
                match self.stream.read(&mut sink).await {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(_) => return, // reset: closed as well
                }
            }
        };
        timeout(CALL_WAIT, drain)
            .await
            .map_err(|_| ClientError::NoAnswer)
    }

    /// Says that nothing more comes, and waits a little for the broker to finish with what came. A
    /// request that may wait long (a fetch, a join) is left behind.
    pub async fn finish(mut self) {
        const FINISH_WAIT: Duration = Duration::from_secs(1);
        let _ = self.stream.shutdown().await;
        let _ = timeout(FINISH_WAIT, self.wait_until_closed()).await;
    }

    /// Says that nothing more comes, and goes on reading.
    pub async fn close_half(&mut self) -> Result<(), ClientError> {
        Ok(self.stream.shutdown().await?)
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// A whole frame: length, header, body.
pub fn frame<R: Request>(
    version: i16,
    correlation_id: i32,
    request: &R,
) -> Result<Bytes, ClientError> {
    frame_by("ottla-tests", version, correlation_id, request)
}

/// As [`frame`], by another client id.
pub fn frame_by<R: Request>(
    client_id: &'static str,
    version: i16,
    correlation_id: i32,
    request: &R,
) -> Result<Bytes, ClientError> {
    let bad = |e: String| ClientError::Codec {
        what: format!("{} v{version}", name(R::KEY)),
        error: e,
    };
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(client_id)));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header
        .encode(&mut frame, R::header_version(version))
        .map_err(|e| bad(e.to_string()))?;
    request
        .encode(&mut frame, version)
        .map_err(|e| bad(e.to_string()))?;
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

fn name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| format!("API {key}"), |k| format!("{k:?}"))
}
