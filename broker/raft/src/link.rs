//! The asking end of a connection: sessions of appends and calls of all groups share it.
//!
//! One task writes: it puts whatever waits into frames of about a megabyte, in the order it came, so
//! that groups take turns; there is no timer. One task reads and hands each answer to who waits for
//! it. When the connection ends, everyone who waits hears it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ottla_proto::limits::{PEER_FRAME_BYTES, PEER_LINK_PING_MS, PEER_SILENCE_MS};
use ottla_proto::peer::{Append, AppendReply, Call, CallReply, Frame};
use tokio::sync::{mpsc, oneshot, watch};

use crate::transport::Connection;

enum Item {
    Append(Append, usize),
    Call(Call),
    End(u64),
    Ping(u64),
}

/// Who waits for answers. `None` once the connection has ended.
#[derive(Default)]
struct Waiting {
    sessions: BTreeMap<u64, mpsc::UnboundedSender<AppendReply>>,
    calls: BTreeMap<u64, oneshot::Sender<CallReply>>,
}

pub(crate) struct Link {
    queue: mpsc::UnboundedSender<Item>,
    waiting: Mutex<Option<Waiting>>,
    next_id: AtomicU64,
    closed: watch::Sender<bool>,
}

#[derive(Debug, thiserror::Error)]
#[error("the connection has ended")]
pub(crate) struct Ended;

impl Link {
    pub fn start(connection: Connection) -> Arc<Link> {
        let (queue, items) = mpsc::unbounded_channel();
        let link = Arc::new(Link {
            queue,
            waiting: Mutex::new(Some(Waiting::default())),
            next_id: AtomicU64::new(1),
            closed: watch::Sender::new(false),
        });
        let Connection { sender, receiver } = connection;
        let weak = Arc::downgrade(&link);
        let closed = link.closed.subscribe();
        tokio::spawn(async move {
            write(items, sender, closed).await;
            if let Some(link) = weak.upgrade() {
                link.close();
            }
        });
        tokio::spawn(read(
            Arc::downgrade(&link),
            receiver,
            link.closed.subscribe(),
        ));
        link
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting
            .lock()
            .expect("no code panics while it holds a link")
    }

    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Returns when the connection has ended.
    pub async fn closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub fn close(&self) {
        // Whoever waits hears it by the end of its channel.
        drop(self.waiting().take());
        self.closed.send_replace(true);
    }

    /// A new session: its id, and the answers to its appends.
    pub fn open_session(&self) -> Result<(u64, mpsc::UnboundedReceiver<AppendReply>), Ended> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::unbounded_channel();
        self.waiting()
            .as_mut()
            .ok_or(Ended)?
            .sessions
            .insert(id, sender);
        Ok((id, receiver))
    }

    /// Queues an append of `bytes`. The caller bounds how much it queues.
    pub fn append(&self, append: Append, bytes: usize) {
        // After the end the session's answers have ended, too.
        let _ = self.queue.send(Item::Append(append, bytes));
    }

    pub fn end_session(&self, id: u64) {
        if let Some(waiting) = self.waiting().as_mut() {
            waiting.sessions.remove(&id);
        }
        let _ = self.queue.send(Item::End(id));
    }

    pub async fn call(&self, mut call: Call) -> Result<CallReply, Ended> {
        let (sender, receiver) = oneshot::channel();
        call.id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.waiting()
            .as_mut()
            .ok_or(Ended)?
            .calls
            .insert(call.id, sender);
        let id = call.id;
        let _ = self.queue.send(Item::Call(call));
        let forget = Forget(self, id);
        let reply = receiver.await.map_err(|_| Ended);
        drop(forget);
        reply
    }

    /// True while somebody waits for an answer.
    fn is_asking(&self) -> bool {
        self.waiting()
            .as_ref()
            .is_some_and(|w| !w.calls.is_empty() || !w.sessions.is_empty())
    }

    fn answered(&self, frame: Frame) {
        let mut waiting = self.waiting();
        let Some(waiting) = waiting.as_mut() else {
            return;
        };
        for reply in frame.append_replies {
            if let Some(session) = waiting.sessions.get(&reply.session) {
                let _ = session.send(reply);
            }
        }
        for reply in frame.call_replies {
            if let Some(call) = waiting.calls.remove(&reply.id) {
                let _ = call.send(reply);
            }
        }
    }
}

/// A call that is given up is forgotten.
struct Forget<'a>(&'a Link, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.waiting().as_mut() {
            waiting.calls.remove(&self.1);
        }
    }
}

async fn write(
    mut items: mpsc::UnboundedReceiver<Item>,
    sender: mpsc::Sender<Frame>,
    mut closed: watch::Receiver<bool>,
) {
    loop {
        let first = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            first = items.recv() => first,
        };
        let Some(first) = first else { return };
        let (mut frame, mut bytes) = (Frame::default(), 0);
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Append(append, size) => {
                    bytes += size;
                    frame.appends.push(append);
                }
                Item::Call(call) => frame.calls.push(call),
                Item::End(session) => frame.ended_sessions.push(session),
                Item::Ping(id) => frame.ping = id,
            }
            next = match bytes < PEER_FRAME_BYTES {
                true => items.try_recv().ok(),
                false => None,
            };
        }
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            sent = sender.send(frame) => if sent.is_err() { return },
        }
    }
}

/// Reads answers until the connection ends, or stays silent although somebody waits and a ping went out.
async fn read(
    link: std::sync::Weak<Link>,
    mut receiver: mpsc::Receiver<Frame>,
    mut closed: watch::Receiver<bool>,
) {
    let mut silent_ms = 0;
    loop {
        let wait = Duration::from_millis(PEER_LINK_PING_MS);
        let received = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => break,
            received = tokio::time::timeout(wait, receiver.recv()) => received,
        };
        let Some(link) = link.upgrade() else { break };
        match received {
            Ok(Some(frame)) => {
                silent_ms = 0;
                link.answered(frame);
            }
            Ok(None) => break,
            Err(_) if !link.is_asking() => silent_ms = 0,
            Err(_) => {
                silent_ms += PEER_LINK_PING_MS;
                if silent_ms > PEER_SILENCE_MS {
                    break;
                }
                let _ = link.queue.send(Item::Ping(silent_ms));
            }
        }
    }
    if let Some(link) = link.upgrade() {
        link.close();
    }
}
