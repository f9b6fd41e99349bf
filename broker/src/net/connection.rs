//! One client connection: a reader that takes frames in order and a writer that answers in the same
//! order. Hot path: a produced record is read once into the frame's buffer and never copied here.
//!
//! The reader runs the first stage of each request (its place in the log), the writer awaits the
//! second. Between them is a short queue: a client that does not read its answers stops being read.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ottla_proto::limits::{
    FRAME_WAIT_MS, READ_BUFFER_BYTES, REQUESTS_IN_FLIGHT_PER_CONNECTION, RESPONSE_WAIT_MS,
    SMALL_READ_BYTES, WHOLE_FRAME_BYTES, WRITE_SLICES,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::timeout;

use crate::api::{self, Peer, Pending, Reply};
use crate::services::Services;

pub(super) async fn serve(
    stream: TcpStream,
    peer: Arc<Peer>,
    services: Arc<Services>,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let (queue, answers) = mpsc::channel(REQUESTS_IN_FLIGHT_PER_CONNECTION);
    let config = services.metadata.config();
    let reader = Reader {
        read,
        buffer: BytesMut::new(),
        max_frame_bytes: config.connections.request_max_bytes as usize,
        max_idle: config.connections.max_idle_ms.map(Duration::from_millis),
        services,
        peer,
        stopped,
    };
    let writer = tokio::spawn(write_answers(write, answers));
    let result = reader.run(queue).await;
    // The queue is closed: the writer ends after the answers that are still owed.
    let written = writer.await.map_err(io::Error::other)?;
    result.and(written)
}

struct Reader {
    read: OwnedReadHalf,
    buffer: BytesMut,
    max_frame_bytes: usize,
    max_idle: Option<Duration>,
    services: Arc<Services>,
    peer: Arc<Peer>,
    stopped: watch::Receiver<bool>,
}

impl Reader {
    async fn run(mut self, queue: mpsc::Sender<Pending>) -> io::Result<()> {
        while let Some((frame, permit)) = self.next_frame(&queue).await? {
            let pending = api::start(&self.services, &self.peer, frame)
                .await
                .map_err(io::Error::other)?;
            drop(permit);
            if queue.send(pending).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The next whole frame; `None` when the client has closed or the broker stops.
    async fn next_frame(
        &mut self,
        queue: &mpsc::Sender<Pending>,
    ) -> io::Result<Option<(Bytes, Option<OwnedSemaphorePermit>)>> {
        self.buffer.reserve(SMALL_READ_BYTES);
        if !self.fill(4, Some(queue)).await? {
            return self.ended(self.buffer.is_empty());
        }
        let length = self.buffer.get_i32();
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|n| *n <= self.max_frame_bytes)
        else {
            let message = format!(
                "a frame of {length} bytes; socket.request.max.bytes is {}",
                self.max_frame_bytes
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        let wait = Duration::from_millis(FRAME_WAIT_MS);
        match timeout(wait, self.fill_frame(length)).await?? {
            Some(permit) => Ok(Some((self.buffer.split_to(length).freeze(), permit))),
            None => self.ended(false),
        }
    }

    /// What the end of the stream means: nothing, between frames or when the broker stops.
    fn ended<T>(&self, between_frames: bool) -> io::Result<Option<T>> {
        if between_frames || *self.stopped.borrow() {
            Ok(None)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Reads the rest of a frame; `None` at the end of the stream. What a frame takes above
    /// `READ_BUFFER_BYTES` comes out of a budget that all connections share, as the bytes arrive:
    /// announcing a frame costs nothing. At the budget's end, clients wait to be read.
    async fn fill_frame(
        &mut self,
        length: usize,
    ) -> io::Result<Option<Option<OwnedSemaphorePermit>>> {
        let mut held: Option<OwnedSemaphorePermit> = None;
        let mut granted = length.min(READ_BUFFER_BYTES);
        // Frames of an ordinary size get their buffer at once, so that it is never copied to grow;
        // what is not written yet takes no memory.
        self.make_room(length.min(WHOLE_FRAME_BYTES));
        while self.fill(granted, None).await? {
            if granted == length {
                return Ok(Some(held));
            }
            let more = granted.min(length - granted);
            let permit = tokio::select! {
                permit = self.services.reserve_request(more) => permit,
                _ = self.stopped.wait_for(|s| *s) => return Ok(None),
            };
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            granted += more;
            self.make_room(granted);
        }
        Ok(None)
    }

    /// Room for `bytes` in all.
    fn make_room(&mut self, bytes: usize) {
        self.buffer.reserve(bytes.saturating_sub(self.buffer.len()));
    }

    /// Reads until `wanted` bytes are buffered; false at the end of the stream or when the broker
    /// stops. Between frames the connection may idle for `connections.max.idle.ms`, and longer while
    /// an answer is owed to it.
    async fn fill(
        &mut self,
        wanted: usize,
        between_frames: Option<&mpsc::Sender<Pending>>,
    ) -> io::Result<bool> {
        while self.buffer.len() < wanted {
            let read = tokio::select! {
                read = self.read.read_buf(&mut self.buffer) => read?,
                _ = self.stopped.wait_for(|s| *s) => return Ok(false),
                _ = idle(self.max_idle) => match between_frames {
                    Some(queue) if queue.capacity() < queue.max_capacity() => continue,
                    _ => return Err(io::ErrorKind::TimedOut.into()),
                },
            };
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn idle(max_idle: Option<Duration>) {
    match max_idle {
        Some(max_idle) => tokio::time::sleep(max_idle).await,
        None => std::future::pending().await,
    }
}

async fn write_answers(
    mut write: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Pending>,
) -> io::Result<()> {
    while let Some(pending) = answers.recv().await {
        let reply = pending.await.map_err(io::Error::other)?;
        send(&mut write, reply).await?;
    }
    Ok(())
}

/// Writes all segments. A client that takes nothing for `RESPONSE_WAIT_MS` is gone.
async fn send(write: &mut OwnedWriteHalf, reply: Reply) -> io::Result<()> {
    let Reply {
        mut segments,
        permit,
    } = reply;
    let mut first = 0;
    while first < segments.len() {
        let end = segments.len().min(first + WRITE_SLICES);
        let slices: Vec<IoSlice> = segments[first..end]
            .iter()
            .map(|s| IoSlice::new(s))
            .collect();
        let wait = Duration::from_millis(RESPONSE_WAIT_MS);
        let mut written = timeout(wait, write.write_vectored(&slices)).await??;
        if written == 0 && segments[first..end].iter().any(|s| !s.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while first < segments.len() && written >= segments[first].len() {
            written -= segments[first].len();
            first += 1;
        }
        if let Some(partly) = segments.get_mut(first) {
            partly.advance(written);
        }
    }
    drop(permit);
    metrics::counter!("kafka_server_socketservermetrics_responses_total").increment(1);
    Ok(())
}
