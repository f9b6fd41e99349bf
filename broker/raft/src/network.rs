//! openraft's network traits over links to peers.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{EmptyNode, Instant as _};
use ottla_proto::limits::{HEARTBEAT_MS, PEER_IN_FLIGHT_BYTES, PEER_SESSION_APPENDS};
use ottla_proto::peer::{self, AppendReply, Call, call, call_reply};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::group_log::GroupLog;
use crate::lease::Lease;
use crate::link::Link;
use crate::peers::{Peer, Peers};
use crate::snapshot_send;
use crate::storage::SnapshotData;
use crate::transport::{Channel, node_of};
use crate::types::{Instant, TypeConfig};
use crate::wire;

type Append = AppendEntriesRequest<TypeConfig>;
type AppendItem = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Makes the clients of one group on this replica.
pub(crate) struct Network {
    pub log: Arc<GroupLog>,
    pub lease: Arc<Lease>,
    pub replica: u64,
    pub peers: Arc<Peers>,
}

impl Network {
    fn client(&self, target: u64, channel: Channel) -> Client {
        Client {
            log: self.log.clone(),
            lease: self.lease.clone(),
            from: self.replica,
            to: target,
            peer: self.peers.get(node_of(target)),
            channel,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        self.client(target, Channel::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        self.client(target, Channel::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        self.client(target, Channel::Snapshot)
    }
}

/// One replica of the group, as another one reaches it.
pub(crate) struct Client {
    pub log: Arc<GroupLog>,
    lease: Arc<Lease>,
    pub from: u64,
    pub to: u64,
    pub peer: Arc<Peer>,
    channel: Channel,
}

fn unreachable(why: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(why)
}

impl Client {
    /// Asks and waits for the answer, for as long as openraft gives it.
    async fn call(
        &self,
        kind: call::Kind,
        action: RPCTypes,
        option: &RPCOption,
    ) -> Result<call_reply::Result, RPCError<TypeConfig>> {
        let call = Call {
            id: 0,
            group: self.log.id.0,
            from: self.from,
            to: self.to,
            kind: Some(kind),
        };
        let asked = async {
            let link = self
                .peer
                .link(Channel::Control)
                .await
                .map_err(unreachable)?;
            link.call(call).await.map_err(unreachable)
        };
        let reply = match tokio::time::timeout(option.soft_ttl(), asked).await {
            Ok(reply) => reply?,
            Err(_) => {
                let (id, target, timeout) = (self.from, self.to, option.soft_ttl());
                let late = Timeout {
                    action,
                    id,
                    target,
                    timeout,
                };
                return Err(late.into());
            }
        };
        match reply.result {
            Some(call_reply::Result::Failed(why)) => Err(unreachable(why).into()),
            Some(result) => Ok(result),
            None => Err(unreachable("a call was answered without a result").into()),
        }
    }

    async fn ask_vote(
        &self,
        kind: call::Kind,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(kind, RPCTypes::Vote, option).await? {
            call_reply::Result::Vote(reply) => {
                wire::vote_reply(&reply).map_err(|e| unreachable(e).into())
            }
            _ => Err(unreachable("a vote was answered with something else").into()),
        }
    }

    async fn session<S>(&self, input: S) -> Result<Session<S>, RPCError<TypeConfig>> {
        let link = self.peer.link(self.channel).await.map_err(unreachable)?;
        let (id, replies) = link.open_session().map_err(unreachable)?;
        Ok(Session {
            log: self.log.clone(),
            lease: self.lease.clone(),
            open: Some(OpenSession { link, id }),
            from: self.from,
            to: self.to,
            peer: self.peer.clone(),
            single: self.channel == Channel::Control,
            input: Some(input),
            waiting: None,
            sent: VecDeque::new(),
            next: 0,
            replies,
        })
    }
}

/// Tells the other side when the session ends, whyever.
struct OpenSession {
    link: Arc<Link>,
    id: u64,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.link.end_session(self.id);
    }
}

/// Appends on their way to one follower, and their answers in order.
struct Session<S> {
    log: Arc<GroupLog>,
    lease: Arc<Lease>,
    open: Option<OpenSession>,
    from: u64,
    to: u64,
    peer: Arc<Peer>,
    single: bool,
    input: Option<S>,
    /// Taken from the input, and waits for permits.
    waiting: Option<(Append, usize)>,
    sent: VecDeque<Sent>,
    next: u64,
    replies: mpsc::UnboundedReceiver<AppendReply>,
}

/// An append that is not answered yet.
struct Sent {
    sequence: u64,
    term: u64,
    at: Instant,
    _room: OwnedSemaphorePermit,
}

enum Step {
    Reply(Option<AppendReply>),
    Input(Option<Append>),
    Permit(OwnedSemaphorePermit),
}

impl<S: Stream<Item = Append> + Send + Unpin> Session<S> {
    /// The next answer; sends what the input gives meanwhile. `None` after the last.
    async fn next(&mut self) -> Option<AppendItem> {
        loop {
            let done = self.input.is_none() && self.waiting.is_none() && self.sent.is_empty();
            if done || self.open.is_none() {
                return None;
            }
            let room = self.sent.len() < PEER_SESSION_APPENDS;
            let bytes = self.waiting.as_ref().map(|(_, bytes)| *bytes as u32);
            let permits = self.peer.permits.clone();
            let step = tokio::select! {
                biased;
                reply = self.replies.recv() => Step::Reply(reply),
                permit = permits.acquire_many_owned(bytes.unwrap_or(0)), if bytes.is_some() => {
                    Step::Permit(permit.expect("the semaphore is never closed"))
                }
                request = next_of(&mut self.input), if bytes.is_none() && room && self.input.is_some() => {
                    Step::Input(request)
                }
            };
            match step {
                Step::Reply(reply) => {
                    if let Some(item) = self.reply(reply) {
                        return Some(item);
                    }
                }
                Step::Input(None) => self.input = None,
                Step::Input(Some(request)) => self.take(request),
                Step::Permit(permit) => self.send(permit),
            }
        }
    }

    fn take(&mut self, request: Append) {
        let bytes = wire::append_bytes(&request).min(PEER_IN_FLIGHT_BYTES);
        self.waiting = Some((request, bytes));
    }

    fn send(&mut self, permit: OwnedSemaphorePermit) {
        let (Some((request, bytes)), Some(open)) = (self.waiting.take(), &self.open) else {
            return;
        };
        let append = peer::Append {
            group: self.log.id.0,
            from: self.from,
            to: self.to,
            session: open.id,
            sequence: self.next,
            single: self.single,
            ..wire::put_append(&request)
        };
        self.sent.push_back(Sent {
            sequence: self.next,
            term: request.vote.leader_id().term,
            at: Instant::now(),
            _room: permit,
        });
        self.next += 1;
        open.link.append(append, bytes);
    }

    fn reply(&mut self, reply: Option<AppendReply>) -> Option<AppendItem> {
        let Some(reply) = reply else {
            self.open = None;
            let error = NetworkError::from_string("the connection has ended");
            return Some(Err(error.into()));
        };
        // A repeated answer has had its effect.
        let is_next = |sent: &&Sent| sent.sequence == reply.sequence;
        self.sent.front().filter(is_next)?;
        let sent = self.sent.pop_front()?;
        if let Some(peer::append_reply::Result::Lacks(index)) = &reply.result {
            self.log.note_unreadable(*index);
        }
        Some(match wire::append_result(reply.result) {
            Ok(result) => {
                if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                    self.lease.heard(self.to, sent.term, sent.at);
                }
                if result.is_err() {
                    self.open = None;
                }
                Ok(result)
            }
            Err(why) => {
                self.open = None;
                Err(unreachable(why).into())
            }
        })
    }
}

async fn next_of<S: Stream<Item = Append> + Unpin>(input: &mut Option<S>) -> Option<Append> {
    input.as_mut()?.next().await
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: Append,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut session = self.session(futures_util::stream::iter([rpc])).await?;
        match session.next().await {
            Some(result) => Ok(result?.into()),
            None => Err(unreachable("the session ended without an answer").into()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendItem>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = Append> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let opened = tokio::time::timeout(option.hard_ttl(), self.session(input)).await;
            let session = opened.map_err(|_| unreachable("no connection in time"))??;
            let answers = futures_util::stream::unfold(session, |mut session| async move {
                let item = session.next().await?;
                Some((item, session))
            });
            Ok(Box::pin(answers) as BoxStream<'s, AppendItem>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let kind = call::Kind::Vote(wire::put_vote_request(&rpc));
        self.ask_vote(kind, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let kind = call::Kind::PreVote(wire::put_vote_request(&rpc));
        self.ask_vote(kind, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Self::SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = snapshot_send::send(self, vote, snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => {
                    tracing::info!(%error, group = %self.log.id, to = self.to, "a snapshot was not delivered");
                    Err(unreachable(error).into())
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let kind = call::Kind::TransferLeader(wire::put_transfer(&request));
        // What it refuses is told by its vote staying away.
        self.call(kind, RPCTypes::TransferLeader, &option).await?;
        Ok(Ok(()))
    }

    fn backoff(&self) -> Option<openraft::network::Backoff> {
        let pause = Duration::from_millis(HEARTBEAT_MS);
        Some(openraft::network::Backoff::new(std::iter::repeat(pause)))
    }
}
