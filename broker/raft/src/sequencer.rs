//! The sequencer: one task per group that turns waiting requests into log entries.
//!
//! Group commit without a timer: while an entry is on its way to the disk, requests queue; what has
//! queued becomes the next entry. Under load a second entry starts as soon as a full one has
//! gathered, so that building overlaps with syncing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use ottla_proto::limits::{GROUP_ENTRIES_IN_FLIGHT, GROUP_ENTRY_BATCHES, GROUP_ENTRY_BYTES};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::command::{Command, GroupEntry, Outcome, Payload};
use crate::group::{AppendError, Raft};
use crate::groups::Clock;
use crate::types;

pub(crate) struct Request {
    /// The leader epoch that the request is for; under another one it is refused.
    pub epoch: i32,
    pub commands: Vec<Command>,
    pub bytes: usize,
    pub reply: oneshot::Sender<Result<Vec<Outcome>, AppendError>>,
    /// Given back when the outcome is known: what bounds record bytes in flight.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Requests of one entry, in its order, with how many commands each brought.
type Replies = Vec<(
    usize,
    oneshot::Sender<Result<Vec<Outcome>, AppendError>>,
    Option<OwnedSemaphorePermit>,
)>;
type InFlight = FuturesOrdered<BoxFuture<'static, (Replies, Result<Vec<Outcome>, AppendError>)>>;

pub(crate) async fn run(
    raft: Raft,
    mut requests: mpsc::UnboundedReceiver<Request>,
    clock: Clock,
    producer_expiration_ms: Arc<AtomicI64>,
    lost: watch::Receiver<u64>,
) {
    let mut waiting = VecDeque::new();
    let mut waiting_bytes = 0;
    let mut in_flight = InFlight::new();
    let mut open = true;
    while open || !in_flight.is_empty() || !waiting.is_empty() {
        tokio::select! {
            biased;
            Some((replies, result)) = in_flight.next() => answer(replies, result),
            request = requests.recv(), if open => match request {
                None => open = false,
                Some(request) => push(&mut waiting, &mut waiting_bytes, request),
            },
        }
        while let Ok(request) = requests.try_recv() {
            push(&mut waiting, &mut waiting_bytes, request);
        }
        let may_send = |in_flight: &InFlight, bytes: usize| {
            in_flight.is_empty()
                || (bytes >= GROUP_ENTRY_BYTES && in_flight.len() < GROUP_ENTRIES_IN_FLIGHT)
        };
        while !waiting.is_empty() && may_send(&in_flight, waiting_bytes) {
            let (epoch, commands, replies) = take_entry(&mut waiting, &mut waiting_bytes);
            let expiration_ms = producer_expiration_ms.load(Ordering::Relaxed);
            let payload = Payload(Arc::new(GroupEntry::new(clock(), expiration_ms, commands)));
            let outcome = propose(&raft, payload, epoch, lost.clone()).await;
            in_flight.push_back(Box::pin(async { (replies, outcome.await) }));
        }
    }
}

fn push(waiting: &mut VecDeque<Request>, waiting_bytes: &mut usize, request: Request) {
    *waiting_bytes += request.bytes;
    waiting.push_back(request);
}

/// Whole requests from the front, up to the size of an entry, at least one, all for one leader epoch.
fn take_entry(
    waiting: &mut VecDeque<Request>,
    waiting_bytes: &mut usize,
) -> (i32, Vec<Command>, Replies) {
    let epoch = waiting.front().map_or(0, |request| request.epoch);
    let mut commands = Vec::new();
    let mut replies = Vec::new();
    let mut bytes = 0;
    while let Some(next) = waiting.front() {
        let full = bytes + next.bytes > GROUP_ENTRY_BYTES
            || commands.len() + next.commands.len() > GROUP_ENTRY_BATCHES;
        if (full && !commands.is_empty()) || next.epoch != epoch {
            break;
        }
        let Some(request) = waiting.pop_front() else {
            break;
        };
        bytes += request.bytes;
        replies.push((request.commands.len(), request.reply, request.permit));
        commands.extend(request.commands);
    }
    *waiting_bytes -= bytes;
    (epoch, commands, replies)
}

/// Hands the entry to Raft now, in order, for the leader epoch alone; the returned future waits for its
/// outcome, or until this replica has been without a majority for so long that nobody knows.
async fn propose(
    raft: &Raft,
    payload: Payload,
    epoch: i32,
    mut lost: watch::Receiver<u64>,
) -> impl Future<Output = Result<Vec<Outcome>, AppendError>> + Send + 'static {
    let (responder, outcome) = ProgressResponder::complete_only();
    let leader = types::leader(epoch);
    let sent = raft
        .write(payload)
        .with_leader(leader)
        .responder(responder)
        .await;
    lost.mark_unchanged();
    async move {
        sent.map_err(|_| AppendError::Stopped)?;
        let result = tokio::select! {
            biased;
            result = outcome => result,
            Ok(()) = lost.changed() => return Err(AppendError::Unknown),
        };
        match result {
            Ok(Ok(written)) => Ok(written.data),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(AppendError::NotLeader),
            Ok(Err(_)) => Err(AppendError::Unknown),
            Err(_) => Err(AppendError::Stopped),
        }
    }
}

fn answer(replies: Replies, result: Result<Vec<Outcome>, AppendError>) {
    let mut outcomes = result.map(Vec::into_iter);
    for (count, reply, permit) in replies {
        let part = match &mut outcomes {
            Ok(outcomes) => Ok(outcomes.by_ref().take(count).collect()),
            Err(error) => Err(error.clone()),
        };
        // The caller may have gone; its records are written all the same.
        let _ = reply.send(part);
        drop(permit);
    }
}
