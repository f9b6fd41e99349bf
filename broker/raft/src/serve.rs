//! The answering end of a connection from another node.
//!
//! Appends of one session go to its group in their order; sessions do not wait for each other. Calls
//! are answered as they finish. What is read but not answered is bounded in bytes and in number.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use openraft::raft::AppendEntriesRequest;
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::{PEER_CALLS, PEER_FRAME_BYTES, PEER_IN_FLIGHT_BYTES, PEER_SESSIONS};
use ottla_proto::peer::{
    Append, AppendReply, Call, CallReply, Frame, TransferLeader, VoteRequest, append_reply, call,
    call_reply,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::group::Group;
use crate::groups::Directory;
use crate::snapshot_receive;
use crate::transport::{Channel, Connection};
use crate::types::{self, TypeConfig};
use crate::wire;

enum Answer {
    Append(AppendReply),
    Call(CallReply),
    Pong(u64),
}

type Answers = mpsc::UnboundedSender<Answer>;
type Request = (u64, AppendEntriesRequest<TypeConfig>, OwnedSemaphorePermit);

/// Serves a connection until it ends.
pub(crate) async fn serve(
    directory: Arc<Directory>,
    node: NodeId,
    channel: Channel,
    connection: Connection,
) {
    if channel == Channel::Snapshot {
        return snapshot_receive::receive(directory, node, connection).await;
    }
    let Connection {
        sender,
        mut receiver,
    } = connection;
    let (answers, waiting) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write(waiting, sender));
    let mut server = Server {
        directory,
        node,
        sessions: BTreeMap::new(),
        bytes: Arc::new(Semaphore::new(2 * PEER_IN_FLIGHT_BYTES)),
        calls: Arc::new(Semaphore::new(PEER_CALLS)),
        answers,
    };
    while let Some(frame) = receiver.recv().await {
        if writer.is_finished() {
            break;
        }
        server.frame(frame).await;
    }
    // Sessions end with their queues; what they had begun goes on in the group.
    writer.abort();
}

/// Sends what has been answered, as much at a time as there is.
async fn write(mut waiting: mpsc::UnboundedReceiver<Answer>, sender: mpsc::Sender<Frame>) {
    while let Some(first) = waiting.recv().await {
        let mut frame = Frame::default();
        let mut next = Some(first);
        let mut count = 0;
        while let Some(answer) = next {
            match answer {
                Answer::Append(reply) => frame.append_replies.push(reply),
                Answer::Call(reply) => frame.call_replies.push(reply),
                Answer::Pong(id) => frame.pong = id,
            }
            count += 1;
            next = match count < PEER_FRAME_BYTES / 256 {
                true => waiting.try_recv().ok(),
                false => None,
            };
        }
        if sender.send(frame).await.is_err() {
            return;
        }
    }
}

struct Server {
    directory: Arc<Directory>,
    node: NodeId,
    sessions: BTreeMap<u64, mpsc::UnboundedSender<Request>>,
    bytes: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    answers: Answers,
}

impl Server {
    /// The group here that a message is for. Nobody speaks for another node's replica.
    fn group(&self, id: u32, from: u64, to: u64) -> Result<Arc<Group>, String> {
        self.directory.asked(self.node, GroupId(id), from, to)
    }

    async fn frame(&mut self, frame: Frame) {
        if frame.ping != 0 {
            let _ = self.answers.send(Answer::Pong(frame.ping));
        }
        for call in frame.calls {
            self.call(call).await;
        }
        for append in frame.appends {
            self.append(append).await;
        }
        for session in frame.ended_sessions {
            self.sessions.remove(&session);
        }
    }

    async fn append(&mut self, append: Append) {
        let (session, sequence, single) = (append.session, append.sequence, append.single);
        let failed = |why: String| AppendReply {
            session,
            sequence,
            result: Some(append_reply::Result::Failed(why)),
        };
        // An append of a session that failed before: its failure has been told.
        if sequence > 0 && !self.sessions.contains_key(&session) {
            return;
        }
        let group = match self.group(append.group, append.from, append.to) {
            Ok(group) => group,
            Err(why) => {
                self.sessions.remove(&session);
                return drop(self.answers.send(Answer::Append(failed(why))));
            }
        };
        let request = match wire::append(append) {
            Ok(request) => request,
            Err(error) => {
                self.sessions.remove(&session);
                tracing::warn!(%error, node = self.node, group = %group.id, "refused entries from a peer");
                return drop(self.answers.send(Answer::Append(failed(error.to_string()))));
            }
        };
        if let Some(index) = lacking(&group, &request) {
            self.sessions.remove(&session);
            let result = Some(append_reply::Result::Lacks(index));
            let reply = AppendReply {
                session,
                sequence,
                result,
            };
            return drop(self.answers.send(Answer::Append(reply)));
        }
        let bytes = wire::append_bytes(&request).min(2 * PEER_IN_FLIGHT_BYTES) as u32;
        let permit = self.bytes.clone().acquire_many_owned(bytes).await;
        let permit = permit.expect("the semaphore is never closed");
        if single {
            let answers = self.answers.clone();
            tokio::spawn(single_append(group, session, request, permit, answers));
            return;
        }
        if sequence == 0 {
            if self.sessions.len() >= PEER_SESSIONS {
                let why = "too many sessions on one connection".to_owned();
                return drop(self.answers.send(Answer::Append(failed(why))));
            }
            let (queue, requests) = mpsc::unbounded_channel();
            self.sessions.insert(session, queue);
            let run = run_session(group, session, requests, self.answers.clone());
            tokio::spawn(types::seeded(session, run));
        }
        if let Some(queue) = self.sessions.get(&session) {
            // A session that has ended by itself has said why.
            let _ = queue.send((sequence, request, permit));
        }
    }

    async fn call(&mut self, call: Call) {
        let permit = self.calls.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let group = self.group(call.group, call.from, call.to);
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let id = call.id;
            let result = match group {
                Ok(group) => answer(&group, call).await,
                Err(why) => call_reply::Result::Failed(why),
            };
            let result = Some(result);
            let _ = answers.send(Answer::Call(CallReply { id, result }));
            drop(permit);
        });
    }
}

/// The first entry that came without data and is not in this replica's log. For a replica that has nothing at
/// all that is the group's first one: it is to begin with a snapshot, whose membership is of today. In the log
/// it would come by memberships that are over, perhaps one in which it was the only voter, and act on them.
fn lacking(group: &Group, request: &AppendEntriesRequest<TypeConfig>) -> Option<u64> {
    if request.prev_log_id.is_none() && group.log.is_empty() {
        return request.entries.first().map(|entry| entry.log_id.index);
    }
    let mut without = request.entries.iter().filter(|e| wire::is_without_data(e));
    let lacks = without.find(|e| !group.log.has(e.log_id).unwrap_or(false));
    lacks.map(|entry| entry.log_id.index)
}

async fn single_append(
    group: Arc<Group>,
    session: u64,
    request: AppendEntriesRequest<TypeConfig>,
    permit: OwnedSemaphorePermit,
    answers: Answers,
) {
    let previous = request.prev_log_id;
    let last = request.entries.last().map(|e| e.log_id).or(previous);
    let result = match group.raft.append_entries(request).await {
        // `into_stream_result` takes a conflict without a previous log id for impossible; so it is.
        Ok(response) => wire::put_append_result(response.into_stream_result(previous, last)),
        Err(error) => append_reply::Result::Failed(error.to_string()),
    };
    let _ = answers.send(Answer::Append(AppendReply {
        session,
        sequence: 0,
        result: Some(result),
    }));
    drop(permit);
}

/// Hands a session's appends to the group in order, and answers each.
async fn run_session(
    group: Arc<Group>,
    session: u64,
    requests: mpsc::UnboundedReceiver<Request>,
    answers: Answers,
) {
    let handed = Arc::new(Mutex::new(VecDeque::new()));
    let hand = handed.clone();
    let input = futures_util::stream::unfold(requests, |mut requests| async {
        let request = requests.recv().await?;
        Some((request, requests))
    });
    let input = input.map(move |(sequence, request, permit): Request| {
        let mut handed = hand
            .lock()
            .expect("no code panics while it holds the queue");
        handed.push_back((sequence, permit));
        request
    });
    let mut results = Box::pin(group.raft.stream_append(input));
    while let Some(result) = results.next().await {
        let next = handed
            .lock()
            .expect("no code panics while it holds the queue")
            .pop_front();
        let Some((sequence, permit)) = next else {
            return;
        };
        let result = match result {
            Ok(result) => wire::put_append_result(result),
            Err(fatal) => append_reply::Result::Failed(fatal.to_string()),
        };
        let result = Some(result);
        let _ = answers.send(Answer::Append(AppendReply {
            session,
            sequence,
            result,
        }));
        drop(permit);
    }
}

async fn answer(group: &Group, call: Call) -> call_reply::Result {
    let answered = match call.kind {
        Some(call::Kind::Vote(request)) => vote(group, &request, false).await,
        Some(call::Kind::PreVote(request)) => vote(group, &request, true).await,
        Some(call::Kind::TransferLeader(request)) => transfer(group, &request).await,
        Some(call::Kind::Removed(at)) => {
            group.note_removed(wire::log_id(&at));
            Ok(call_reply::Result::Done(String::new()))
        }
        None => Err("a call of a kind that this release does not know".to_owned()),
    };
    answered.unwrap_or_else(call_reply::Result::Failed)
}

async fn vote(
    group: &Group,
    request: &VoteRequest,
    pre_vote: bool,
) -> Result<call_reply::Result, String> {
    let request = wire::vote_request(request).map_err(|e| e.to_string())?;
    if !request.leadership_transfer && Instant::now() < group.votes_from {
        return Err("this replica has just started, and may have promised not to vote".to_owned());
    }
    // It may have had a log and have acknowledged what the candidate lacks: who leaves a group deletes its rows.
    if group.log.is_empty() {
        return Err(
            "this replica has nothing, and may have had more than the candidate".to_owned(),
        );
    }
    let reply = match pre_vote {
        true => group.raft.pre_vote(request).await,
        false => group.raft.vote(request).await,
    };
    let reply = reply.map_err(|e| e.to_string())?;
    Ok(call_reply::Result::Vote(wire::put_vote_reply(&reply)))
}

async fn transfer(group: &Group, request: &TransferLeader) -> Result<call_reply::Result, String> {
    let request = wire::transfer(request).map_err(|e| e.to_string())?;
    let answer = group.raft.handle_transfer_leader(request).await;
    let refused = answer.map_err(|e| e.to_string())?.err();
    let why = refused.map(|why| why.to_string()).unwrap_or_default();
    Ok(call_reply::Result::Done(why))
}
