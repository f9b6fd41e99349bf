//! Raft's messages as `peer.proto` has them. One conversion per direction; what comes from a peer is
//! checked here, so that nothing behind it sees a malformed one.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use ottla_log::StoreError;
use ottla_proto::peer;

use crate::command::{Command, GroupEntry, Outcome, Payload};
use crate::rows;
use crate::types::{self, Entry, EntryPayload, LogId, TypeConfig, Vote};

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a peer's message lacks {0}")]
    Missing(&'static str),
    #[error("a peer's message has {0}")]
    Wrong(&'static str),
    #[error(transparent)]
    Row(#[from] StoreError),
}

type Result<T> = std::result::Result<T, WireError>;

pub(crate) fn put_log_id(id: &LogId) -> peer::LogId {
    peer::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn put_last(id: Option<&LogId>) -> Option<peer::LogId> {
    id.map(put_log_id)
}

pub(crate) fn log_id(id: &peer::LogId) -> LogId {
    types::log_id(id.term, id.index)
}

pub(crate) fn put_vote(vote: &Vote) -> peer::Vote {
    peer::Vote {
        term: vote.leader_id().term(),
        replica: *vote.leader_id().node_id(),
        committed: vote.is_committed(),
    }
}

pub(crate) fn vote(vote: &Option<peer::Vote>) -> Result<Vote> {
    let vote = vote.as_ref().ok_or(WireError::Missing("a vote"))?;
    Ok(match vote.committed {
        true => Vote::new_committed(vote.term, vote.replica),
        false => Vote::new(vote.term, vote.replica),
    })
}

/// An entry as its leader has it: decided, with the bodies of what was appended.
pub(crate) fn put_entry(entry: &Entry) -> peer::Entry {
    let mut bodies = Vec::new();
    let without_data = is_without_data(entry);
    if let EntryPayload::Normal(payload) = &entry.payload
        && !without_data
    {
        let decided = payload.0.commands.iter().zip(payload.0.outcomes());
        bodies.extend(
            decided.filter_map(|(command, outcome)| match (command, outcome) {
                (Command::Append { body, .. }, Outcome::Appended { .. }) => Some(body.clone()),
                _ => None,
            }),
        );
    }
    peer::Entry {
        index: entry.log_id.index,
        row: rows::encode_entry(entry),
        bodies_crc: checksum(&bodies),
        bodies,
        without_data,
    }
}

pub(crate) fn is_without_data(entry: &Entry) -> bool {
    matches!(&entry.payload, EntryPayload::Normal(payload) if payload.0.without_data)
}

/// CRC-32 (IEEE) of all of them.
pub(crate) fn checksum(bodies: &[Bytes]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    bodies.iter().for_each(|body| crc.update(body));
    crc.finalize()
}

/// An entry to be appended here. It is undecided again, and remembers what its leader decided.
pub(crate) fn entry(entry: peer::Entry) -> Result<Entry> {
    if checksum(&entry.bodies) != entry.bodies_crc {
        return Err(WireError::Wrong("bodies that do not match their checksum"));
    }
    let mut decoded = rows::decode_entry(entry.index, &entry.row)?;
    let mut bodies = entry.bodies.into_iter();
    if let EntryPayload::Normal(payload) = decoded.payload {
        let mut next = || bodies.next().ok_or(WireError::Missing("a body"));
        let undecided = match entry.without_data {
            true => rows::without_data(payload)?.undecided(),
            false => with_bodies(&payload.0, &mut next)?.undecided(),
        };
        decoded.payload = EntryPayload::Normal(Payload(undecided.into()));
    }
    match bodies.next() {
        None => Ok(decoded),
        Some(_) => Err(WireError::Wrong("more bodies than appends")),
    }
}

/// The entry with the body that `next` gives for each append that was appended. The body's length is
/// what the row says.
pub(crate) fn with_bodies<E: From<WireError>>(
    entry: &GroupEntry,
    mut next: impl FnMut() -> std::result::Result<Bytes, E>,
) -> std::result::Result<GroupEntry, E> {
    let mut commands = Vec::with_capacity(entry.commands.len());
    for (command, outcome) in entry.commands.iter().zip(entry.outcomes()) {
        commands.push(match (command, outcome) {
            (Command::Append { meta, .. }, Outcome::Appended { .. }) => {
                let body = next()?;
                if body.len() + ottla_log::BATCH_HEAD_BYTES != meta.size_bytes as usize {
                    return Err(WireError::Wrong("a body of another length than its row").into());
                }
                Command::Append { meta: *meta, body }
            }
            (command, _) => command.clone(),
        });
    }
    let (time_ms, expiration_ms) = (entry.time_ms, entry.producer_expiration_ms);
    Ok(GroupEntry::new(time_ms, expiration_ms, commands).decided(entry.outcomes().to_vec()))
}

/// Bytes that an append costs on its way: what permits are taken for.
pub(crate) fn append_bytes(request: &AppendEntriesRequest<TypeConfig>) -> usize {
    let bodies = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.size_bytes(),
        _ => 64,
    };
    128 + request.entries.iter().map(bodies).sum::<usize>()
}

pub(crate) fn put_append(request: &AppendEntriesRequest<TypeConfig>) -> peer::Append {
    peer::Append {
        vote: Some(put_vote(&request.vote)),
        previous: put_last(request.prev_log_id.as_ref()),
        commit: put_last(request.leader_commit.as_ref()),
        entries: request.entries.iter().map(put_entry).collect(),
        ..Default::default()
    }
}

pub(crate) fn append(append: peer::Append) -> Result<AppendEntriesRequest<TypeConfig>> {
    let prev_log_id = append.previous.as_ref().map(log_id);
    let mut next = prev_log_id.map_or(0, |id| id.index.saturating_add(1));
    let mut entries = Vec::with_capacity(append.entries.len());
    for sent in append.entries {
        if sent.index != next {
            return Err(WireError::Wrong("entries that do not follow each other"));
        }
        next = next.saturating_add(1);
        entries.push(entry(sent)?);
    }
    Ok(AppendEntriesRequest {
        vote: vote(&append.vote)?,
        prev_log_id,
        entries,
        leader_commit: append.commit.as_ref().map(log_id),
    })
}

type AppendResult = peer::append_reply::Result;

pub(crate) fn put_append_result(result: StreamAppendResult<TypeConfig>) -> AppendResult {
    match result {
        Ok(last) => AppendResult::Matched(peer::Matched {
            last: put_last(last.as_ref()),
        }),
        Err(StreamAppendError::Conflict(id)) => AppendResult::Conflict(put_log_id(&id)),
        Err(StreamAppendError::HigherVote(vote)) => AppendResult::HigherVote(put_vote(&vote)),
    }
}

/// `Err` is why the session failed.
pub(crate) fn append_result(
    result: Option<AppendResult>,
) -> std::result::Result<StreamAppendResult<TypeConfig>, String> {
    Ok(match result {
        Some(AppendResult::Matched(matched)) => Ok(matched.last.as_ref().map(log_id)),
        Some(AppendResult::Conflict(id)) => Err(StreamAppendError::Conflict(log_id(&id))),
        Some(AppendResult::HigherVote(higher)) => {
            let higher = vote(&Some(higher)).map_err(|e| e.to_string())?;
            Err(StreamAppendError::HigherVote(higher))
        }
        Some(AppendResult::Failed(why)) => return Err(why),
        Some(AppendResult::Lacks(index)) => return Err(format!("it lacks entry {index}")),
        None => return Err("an append was answered without a result".to_owned()),
    })
}

pub(crate) fn put_vote_request(request: &VoteRequest<TypeConfig>) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(put_vote(&request.vote)),
        last: put_last(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request(request: &peer::VoteRequest) -> Result<VoteRequest<TypeConfig>> {
    let mut decoded = VoteRequest::new(vote(&request.vote)?, request.last.as_ref().map(log_id));
    decoded.leadership_transfer = request.leadership_transfer;
    Ok(decoded)
}

pub(crate) fn put_vote_reply(reply: &VoteResponse<TypeConfig>) -> peer::VoteReply {
    peer::VoteReply {
        vote: Some(put_vote(&reply.vote)),
        granted: reply.vote_granted,
        last: put_last(reply.last_log_id.as_ref()),
    }
}

pub(crate) fn vote_reply(reply: &peer::VoteReply) -> Result<VoteResponse<TypeConfig>> {
    let last = reply.last.as_ref().map(log_id);
    Ok(VoteResponse::new(vote(&reply.vote)?, last, reply.granted))
}

pub(crate) fn put_transfer(request: &TransferLeaderRequest<TypeConfig>) -> peer::TransferLeader {
    peer::TransferLeader {
        from_leader: Some(put_vote(request.from_leader())),
        to: *request.to_node_id(),
        last: put_last(request.last_log_id()),
    }
}

pub(crate) fn transfer(
    request: &peer::TransferLeader,
) -> Result<TransferLeaderRequest<TypeConfig>> {
    let last = request.last.as_ref().map(log_id);
    Ok(TransferLeaderRequest::new(
        vote(&request.from_leader)?,
        request.to,
        last,
    ))
}
