//! One client connection: a reader that takes frames in order and a writer that answers in the same
//! order (`answers.rs`). Hot path: a produced record is read once into the frame's buffer and not
//! copied here, unless its frame is small.
//!
//! The reader runs the first stage of each request (its place in the log), the writer awaits the
//! second. Between them is a short queue: a client that does not read its answers stops being read.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use ottla_proto::limits::{
    CLOSED_CHECK_MS, COPIED_FRAME_BYTES, FRAME_STEP_BYTES_MIN, FRAME_STEP_MS, FRAME_STEPS,
    FRAME_WAIT_MS, READ_BUFFER_BYTES, REQUESTS_IN_FLIGHT_PER_CONNECTION, SMALL_READ_BYTES,
    WHOLE_FRAME_BYTES,
};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::answers::{Queued, Writer};
use crate::api::{self, Peer};
use crate::room::Room;
use crate::services::Services;

/// The key of Produce, in the first two bytes of its frames.
const PRODUCE: [u8; 2] = [0, 0];

pub(super) async fn serve(
    stream: TcpStream,
    address: IpAddr,
    listener: Arc<str>,
    services: Arc<Services>,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let (queue, answers) = mpsc::channel(REQUESTS_IN_FLIGHT_PER_CONNECTION);
    let (gone, is_gone) = watch::channel(false);
    let config = services.metadata.config();
    let reader = Reader {
        read,
        buffer: BytesMut::new(),
        max_frame_bytes: config.connections.request_max_bytes as usize,
        max_idle: config.connections.max_idle_ms.map(Duration::from_millis),
        peer: Arc::new(Peer {
            address,
            listener,
            gone: is_gone.clone(),
        }),
        gone,
        unanswered: Arc::new(Semaphore::new(READ_BUFFER_BYTES)),
        services: services.clone(),
        stopped,
    };
    let writer = tokio::spawn(Writer::new(write, answers, is_gone, services).run());
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
    /// True once the client sends nothing more: what it asked for is done, but waits end.
    gone: watch::Sender<bool>,
    /// Bytes that unanswered requests may have without asking for room; a larger one needs them all.
    unanswered: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// A whole request, and what it holds.
struct Request {
    frame: Bytes,
    room: Room,
}

impl Reader {
    async fn run(mut self, queue: mpsc::Sender<Queued>) -> io::Result<()> {
        let result = self.read_all(&queue).await;
        self.gone.send_replace(true);
        result
    }

    async fn read_all(&mut self, queue: &mpsc::Sender<Queued>) -> io::Result<()> {
        while let Some(Request { frame, room }) = self.next_frame(queue).await? {
            let pending = api::start(&self.services, &self.peer, frame)
                .await
                .map_err(io::Error::other)?;
            let queued = Queued::new(pending, room);
            let queued = match queue.try_send(queued) {
                Ok(()) => continue,
                Err(mpsc::error::TrySendError::Closed(_)) => break,
                Err(mpsc::error::TrySendError::Full(queued)) => queued,
            };
            if !matches!(self.wait(queue, queue.send(queued)).await, Some(Ok(()))) {
                break;
            }
        }
        Ok(())
    }

    /// The next whole frame; `None` when the client has closed or the broker stops.
    async fn next_frame(&mut self, queue: &mpsc::Sender<Queued>) -> io::Result<Option<Request>> {
        self.buffer.reserve(SMALL_READ_BYTES);
        if !self.fill(4, None, queue, true).await? {
            return self.ended(self.buffer.is_empty());
        }
        let length = self.buffer.get_i32();
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|n| *n <= self.max_frame_bytes)
        else {
            return Err(too_large(length.into(), self.max_frame_bytes));
        };
        match self.read_frame(length, queue).await? {
            Some(request) => Ok(Some(request)),
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

    /// Reads the rest of a frame; `None` at the end of the stream. Announcing a frame costs nothing:
    /// what it takes above `READ_BUFFER_BYTES` comes out of a room that all connections share. Its
    /// clock stands still while it waits for that.
    async fn read_frame(
        &mut self,
        length: usize,
        queue: &mpsc::Sender<Queued>,
    ) -> io::Result<Option<Request>> {
        let mut granted = length.min(READ_BUFFER_BYTES);
        let is_copied = length <= COPIED_FRAME_BYTES;
        // Frames of an ordinary size get their buffer at once, so that it is never copied to grow;
        // what is not written yet takes no memory.
        self.make_room(length.min(WHOLE_FRAME_BYTES));
        let wait = Duration::from_millis(FRAME_WAIT_MS);
        let exactly = (!is_copied).then_some(granted);
        if !timeout(wait, self.fill(granted, exactly, queue, false)).await?? {
            return Ok(None);
        }
        let is_produce = self.buffer.starts_with(&PRODUCE);
        let largest_bytes = self.services.request_room.largest_bytes(is_produce);
        if length > largest_bytes {
            return Err(too_large(length as i64, largest_bytes));
        }
        let mut room = Room::new();
        let unanswered = self.unanswered.clone();
        let unanswered = unanswered.acquire_many_owned(granted as u32);
        let Some(unanswered) = self.wait(queue, unanswered).await else {
            return Ok(None);
        };
        room.push(unanswered.expect("the semaphore is never closed"));
        while granted < length {
            let services = self.services.clone();
            let next = services.request_room.next(is_produce, granted, length);
            let Some((permit, bytes)) = self.wait(queue, next).await else {
                return Ok(None);
            };
            room.push(permit);
            granted += bytes;
            self.make_room(granted);
            if !self.fill_in_time(granted, length, queue).await? {
                return Ok(None);
            }
        }
        let frame = if is_copied {
            let frame = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            frame
        } else {
            // What follows must not keep this frame's memory alive, nor the other way round.
            let rest = BytesMut::from(&self.buffer[length..]);
            let mut whole = std::mem::replace(&mut self.buffer, rest);
            whole.truncate(length);
            whole.freeze()
        };
        Ok(Some(Request { frame, room }))
    }

    /// Room for `bytes` in all.
    fn make_room(&mut self, bytes: usize) {
        self.buffer.reserve(bytes.saturating_sub(self.buffer.len()));
    }

    /// As [`Reader::fill`], for a frame that holds room: it has to come at a pace.
    async fn fill_in_time(
        &mut self,
        wanted: usize,
        length: usize,
        queue: &mpsc::Sender<Queued>,
    ) -> io::Result<bool> {
        let step = (length / FRAME_STEPS).max(FRAME_STEP_BYTES_MIN);
        let wait = Duration::from_millis(FRAME_STEP_MS);
        while self.buffer.len() < wanted {
            let goal = wanted.min(self.buffer.len() + step);
            if !timeout(wait, self.fill(goal, Some(wanted), queue, false)).await?? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads until `wanted` bytes are buffered, and not more than `most`; false at the end of the
    /// stream or when the broker stops. Between frames the connection may idle for
    /// `connections.max.idle.ms`, and longer while an answer is owed to it.
    async fn fill(
        &mut self,
        wanted: usize,
        most: Option<usize>,
        queue: &mpsc::Sender<Queued>,
        between_frames: bool,
    ) -> io::Result<bool> {
        while self.buffer.len() < wanted {
            let most = most.map_or(usize::MAX, |most| most.saturating_sub(self.buffer.len()));
            let mut buffer = (&mut self.buffer).limit(most);
            let read = tokio::select! {
                read = self.read.read_buf(&mut buffer) => read?,
                _ = self.stopped.wait_for(|s| *s) => return Ok(false),
                // No answer can be written any more.
                () = queue.closed() => return Ok(false),
                () = idle(self.max_idle) => {
                    if between_frames && queue.capacity() < queue.max_capacity() {
                        continue;
                    }
                    return Err(io::ErrorKind::TimedOut.into());
                }
            };
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for something other than the client, and notices meanwhile if it goes: answers before
    /// this one may wait for it. `None` when the connection is over.
    async fn wait<T>(
        &self,
        queue: &mpsc::Sender<Queued>,
        something: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(something);
        loop {
            tokio::select! {
                biased;
                done = &mut something => return Some(done),
                () = queue.closed() => return None,
                () = tokio::time::sleep(Duration::from_millis(CLOSED_CHECK_MS)) => {
                    let ready = self.read.ready(Interest::READABLE).now_or_never();
                    if matches!(ready, Some(Ok(ready)) if ready.is_read_closed()) {
                        self.gone.send_replace(true);
                    }
                }
            }
        }
    }
}

fn too_large(length: i64, largest_bytes: usize) -> io::Error {
    let message = format!("a frame of {length} bytes; the largest is {largest_bytes}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

async fn idle(max_idle: Option<Duration>) {
    match max_idle {
        Some(max_idle) => tokio::time::sleep(max_idle).await,
        None => std::future::pending().await,
    }
}
