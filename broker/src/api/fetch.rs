//! Fetch v4 to v17 (KIP-74, KIP-98, KIP-227, KIP-320, KIP-392, KIP-516). Hot path.
//!
//! Answers name no leader (KIP-951's fields stay empty). What has to be read from disk is bounded by
//! a room that all fetches share: where that is short, an answer has fewer records, or none.
//! With `replica.selector.class` set to Kafka's RackAwareReplicaSelector, a consumer in another rack than the
//! leader is sent to an in-sync replica in its own, which serves what it has seen committed (KIP-392).
//! Every answer has session id 0: no fetch session is kept, which KIP-227 allows. read_committed
//! equals read_uncommitted until there are transactions. A fetch waits on the high watermarks of its
//! partitions and is woken by them, never by a timer that looks again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::protocol::StrBytes;
use ottla_log::StoreError;
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{COLD_READS_PER_FETCH, FETCH_READ_BYTES};
use ottla_proto::metadata::Image;
use ottla_raft::Waiter;
use ottla_wire::fetch;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::errors::Refusal;
use super::{Malformed, Reply, RequestContext};
use crate::services::Services;
use crate::topics::{Replica, ServedTopic, Unavailable};

/// One partition of a fetch.
struct Asked {
    index: i32,
    offset: i64,
    max_bytes: usize,
    target: Result<(Replica, Role), Refusal>,
}

/// As what this broker answers for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leader,
    /// The leader, to a consumer that had better ask this broker.
    Pointer(NodeId),
    /// A follower, to a consumer in its rack.
    Nearest,
}

struct AskedTopic {
    name: StrBytes,
    id: Uuid,
    served: Option<Arc<ServedTopic>>,
    partitions: Vec<Asked>,
}

pub(super) async fn handle(
    services: Arc<Services>,
    context: RequestContext,
    request: FetchRequest,
) -> Result<Reply, Malformed> {
    let version = context.version;
    let (min_bytes, max_wait_ms) = (
        request.min_bytes.max(0) as usize,
        request.max_wait_ms.max(0) as u64,
    );
    let config = services.metadata.config();
    let max_bytes = (request.max_bytes.max(0) as usize).min(config.fetch.max_bytes as usize);
    let deadline = Instant::now() + Duration::from_millis(max_wait_ms);
    if request.session_epoch > 0 {
        let error_code = ResponseError::FetchSessionIdNotFound.code();
        let response = fetch::FetchResponse {
            error_code,
            ..Default::default()
        };
        return Ok(reply(&context, response, None));
    }
    let topics = resolve(&services, version, request);
    let gone = context.peer.gone.clone();
    wait_for_bytes(&services, &topics, min_bytes, deadline, gone).await;
    let (answers, permit) = read(&services, &topics, max_bytes, deadline).await;
    count(&services, &context, &topics, &answers);
    let response = fetch::FetchResponse {
        topics: answers,
        ..Default::default()
    };
    Ok(reply(&context, response, permit))
}

fn reply(
    context: &RequestContext,
    response: fetch::FetchResponse,
    permit: Option<OwnedSemaphorePermit>,
) -> Reply {
    let encoded = fetch::encode(response, context.version, context.correlation_id);
    Reply::segments(encoded.segments, permit)
}

fn resolve(services: &Services, version: i16, request: FetchRequest) -> Vec<AskedTopic> {
    let image = services.metadata.current();
    let config = services.metadata.config();
    let rack = Some(&*request.rack_id)
        .filter(|rack| config.replication.nearest_replica && version >= 11 && !rack.is_empty());
    let role = |replica: &Replica, p: &FetchPartition| {
        let epoch = if version >= 9 {
            p.current_leader_epoch
        } else {
            -1
        };
        match (replica.lead(epoch), rack) {
            (Ok(_), None) => Ok(Role::Leader),
            (Ok(_), Some(rack)) => {
                Ok(nearest(&image, replica, rack, p.partition).map_or(Role::Leader, Role::Pointer))
            }
            (Err(Unavailable::NotLeader), Some(rack)) if config.rack.as_deref() == Some(rack) => {
                replica.follow(&image, epoch).map(|()| Role::Nearest)
            }
            (Err(error), _) => Err(error),
        }
    };
    let asked = |topic: &Result<Arc<crate::topics::ServedTopic>, Unavailable>,
                 p: FetchPartition| {
        let target = topic
            .as_ref()
            .map_err(|e| Refusal::from(*e))
            .and_then(|topic| {
                let replica = topic.replica(p.partition)?;
                Ok((replica.clone(), role(replica, &p)?))
            });
        Asked {
            index: p.partition,
            offset: p.fetch_offset,
            max_bytes: p.partition_max_bytes.max(0) as usize,
            target,
        }
    };
    let topics = request.topics.into_iter().map(|t| {
        let topic = if version >= 13 {
            services.topics.by_id(t.topic_id)
        } else {
            services.topics.by_name(&t.topic)
        };
        let partitions = t.partitions.into_iter().map(|p| asked(&topic, p)).collect();
        AskedTopic {
            name: t.topic.0,
            id: t.topic_id,
            served: topic.ok(),
            partitions,
        }
    });
    topics.collect()
}

/// Another broker in the consumer's rack that has what the leader has. None if the leader is there, too.
fn nearest(image: &Image, replica: &Replica, rack: &str, partition: i32) -> Option<NodeId> {
    let group = image.group(replica.group.id)?;
    let is_there = |id: &&NodeId| {
        let broker = image.broker(**id).filter(|broker| broker.is_active());
        broker.is_some_and(|broker| broker.rack.as_deref() == Some(rack))
    };
    let there: Vec<&NodeId> = group.in_sync.iter().filter(is_there).collect();
    match there.contains(&&replica.group.node()) || there.is_empty() {
        true => None,
        false => Some(*there[partition as usize % there.len()]),
    }
}

impl Role {
    /// Whether the replica still is what it was taken for.
    fn check(self, replica: &Replica) -> Result<(), Unavailable> {
        match self {
            Role::Leader | Role::Pointer(_) => replica.lead(-1).map(|_| ()),
            Role::Nearest => Ok(()),
        }
    }
}

impl Asked {
    /// Bytes that can be read now, up to `enough`. Anything to be told at once counts as enough.
    fn available(&self, enough: usize) -> usize {
        let Ok((replica, role @ (Role::Leader | Role::Nearest))) = &self.target else {
            return enough;
        };
        let bounds = replica.partition.bounds();
        if self.offset < bounds.log_start_offset
            || self.offset > bounds.high_watermark
            || role.check(replica).is_err()
        {
            // A consumer may be sent here before the records that it has read up to are.
            let is_ahead = *role == Role::Nearest && self.offset > bounds.high_watermark;
            return if is_ahead { 0 } else { enough };
        }
        if self.offset == bounds.high_watermark {
            return 0;
        }
        replica
            .partition
            .cached_bytes(self.offset, enough)
            .unwrap_or(enough)
            .min(self.max_bytes.max(1))
    }
}

/// Returns when `min_bytes` can be read, something is to be told, or the time is up.
async fn wait_for_bytes(
    services: &Services,
    topics: &[AskedTopic],
    min_bytes: usize,
    deadline: Instant,
    mut gone: watch::Receiver<bool>,
) {
    let asked = || topics.iter().flat_map(|t| &t.partitions);
    let enough = || {
        let mut bytes = 0;
        asked().any(|a| {
            bytes += a.available(min_bytes.max(1));
            bytes >= min_bytes
        })
    };
    if min_bytes == 0 || asked().next().is_none() || enough() {
        return;
    }
    let watching = Watching::new(
        asked()
            .filter_map(|a| a.target.as_ref().ok())
            .map(|(replica, _)| replica.clone())
            .collect(),
    );
    // Watching began after the first look: look again before the first wait.
    let mut stopping = services.stopping.clone();
    while !enough() {
        tokio::select! {
            _ = watching.waiter.changed() => {}
            _ = tokio::time::sleep_until(deadline) => return,
            _ = stopping.wait_for(|s| *s) => return,
            _ = gone.wait_for(|g| *g) => return,
        }
    }
}

/// A long poll's registration at its partitions, taken back however the poll ends.
struct Watching {
    waiter: Arc<Waiter>,
    replicas: Vec<Replica>,
}

impl Watching {
    fn new(replicas: Vec<Replica>) -> Watching {
        let waiter = Arc::new(Waiter::default());
        replicas.iter().for_each(|r| r.partition.watch(&waiter));
        Watching { waiter, replicas }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.replicas
            .iter()
            .for_each(|r| r.partition.unwatch(&self.waiter));
    }
}

/// A read that has to go to the disk.
struct Cold {
    /// Topic and partition in the request.
    at: (usize, usize),
    replica: Replica,
    offset: i64,
    end: i64,
    budget: usize,
}

impl Cold {
    async fn read(self) -> ((usize, usize), usize, Result<Vec<Bytes>, StoreError>) {
        let result = self
            .replica
            .read_cold(self.offset, self.end, self.budget)
            .await;
        (self.at, self.budget, result)
    }
}

/// Reads what the limits allow: of each partition its own, of all together `max_bytes`; the first
/// batch of the first partition that has one is returned whatever its size (KIP-74).
async fn read<'a>(
    services: &Services,
    topics: &'a [AskedTopic],
    max_bytes: usize,
    deadline: Instant,
) -> (Vec<fetch::Topic<'a>>, Option<OwnedSemaphorePermit>) {
    let mut left = max_bytes;
    let mut left_on_disk = services.fetch_room.fetch_bytes();
    let mut none_yet = true;
    let mut cold: Vec<Cold> = Vec::new();
    let mut answers = Vec::with_capacity(topics.len());
    for (t, topic) in topics.iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (p, asked) in topic.partitions.iter().enumerate() {
            let (mut answer, readable) = asked.begin();
            if let Some((replica, end)) = readable {
                let budget = asked.max_bytes.min(left);
                if budget > 0 || none_yet {
                    match replica.partition.read_cached(asked.offset, end, budget) {
                        Some(records) => answer.records = fitting(records, budget, none_yet),
                        None if left_on_disk == 0 => {}
                        None => {
                            let budget = budget.min(FETCH_READ_BYTES).min(left_on_disk);
                            left = left.saturating_sub(budget);
                            left_on_disk -= budget;
                            cold.push(Cold {
                                at: (t, p),
                                replica: replica.clone(),
                                offset: asked.offset,
                                end,
                                budget,
                            });
                        }
                    }
                    let bytes: usize = answer.records.iter().map(Bytes::len).sum();
                    left = left.saturating_sub(bytes);
                    none_yet &= bytes == 0 && cold.is_empty();
                }
            }
            partitions.push(answer);
        }
        answers.push(fetch::Topic {
            name: &topic.name,
            id: topic.id,
            partitions,
        });
    }
    let mut permit = None;
    if !cold.is_empty() {
        permit = read_disk(services, cold, deadline, &mut answers).await;
    }
    (answers, permit)
}

/// Reads from disk what there is room for, and answers how much room the records take.
async fn read_disk(
    services: &Services,
    mut cold: Vec<Cold>,
    deadline: Instant,
    answers: &mut [fetch::Topic<'_>],
) -> Option<OwnedSemaphorePermit> {
    let room = &services.fetch_room;
    let wanted: usize = cold.iter().map(|c| c.budget.max(1)).sum();
    let mut permit = room.reserve(wanted, deadline).await?;
    let mut left = permit.num_permits();
    cold.retain_mut(|c| {
        let is_read = left > 0;
        c.budget = c.budget.min(left);
        left -= c.budget.max(1).min(left);
        is_read
    });
    let first = cold.first()?.at;
    let mut done = stream::iter(cold.into_iter().map(Cold::read)).buffered(COLD_READS_PER_FETCH);
    let mut bytes = 0;
    while let Some(((t, p), budget, result)) = done.next().await {
        let answer = &mut answers[t].partitions[p];
        match result {
            Ok(records) => answer.records = fitting(records, budget, (t, p) == first),
            Err(error) => answer.error_code = Refusal::from(error).code,
        }
        bytes += answer.records.iter().map(Bytes::len).sum::<usize>();
    }
    let spare = permit.num_permits().saturating_sub(bytes);
    drop(permit.split(spare));
    if bytes > permit.num_permits() {
        // A batch that is larger than what was asked for.
        match room.try_charge(bytes - permit.num_permits()) {
            Some(more) => permit.merge(more),
            None => {
                let partitions = answers.iter_mut().flat_map(|t| &mut t.partitions);
                partitions.for_each(|p| p.records.clear());
                return None;
            }
        }
    }
    Some(permit)
}

/// A single batch that exceeds the budget goes out only where nothing else has.
fn fitting(records: Vec<Bytes>, budget: usize, whatever_size: bool) -> Vec<Bytes> {
    let bytes: usize = records.iter().map(Bytes::len).sum();
    if bytes > budget && !whatever_size {
        Vec::new()
    } else {
        records
    }
}

impl Asked {
    /// The answer without records, and where to read them from up to which offset.
    fn begin(&self) -> (fetch::Partition, Option<(&Replica, i64)>) {
        let mut answer = fetch::Partition {
            index: self.index,
            ..Default::default()
        };
        let (replica, role) = match &self.target {
            Ok((replica, role)) => (replica, *role),
            Err(refusal) => {
                answer.error_code = refusal.code;
                return (answer, None);
            }
        };
        if let Err(error) = role.check(replica) {
            answer.error_code = Refusal::from(error).code;
            return (answer, None);
        }
        let bounds = replica.partition.bounds();
        answer.high_watermark = bounds.high_watermark;
        answer.last_stable_offset = bounds.high_watermark;
        answer.log_start_offset = bounds.log_start_offset;
        if self.offset < bounds.log_start_offset || self.offset > bounds.high_watermark {
            let removed = replica.partition.with_state(|s| s.removed);
            let error = if removed {
                ResponseError::UnknownTopicOrPartition
            } else {
                ResponseError::OffsetOutOfRange
            };
            answer.error_code = error.code();
            return (answer, None);
        }
        if let Role::Pointer(elsewhere) = role {
            answer.preferred_read_replica = elsewhere;
            return (answer, None);
        }
        let readable =
            (self.offset < bounds.high_watermark).then_some((replica, bounds.high_watermark));
        (answer, readable)
    }
}

fn count(
    services: &Services,
    context: &RequestContext,
    topics: &[AskedTopic],
    answers: &[fetch::Topic],
) {
    let answered = answers.iter().flat_map(|t| &t.partitions);
    answered.for_each(|p| context.api.counts.outcome(p.error_code));
    for (topic, answer) in topics.iter().zip(answers) {
        let records = answer.partitions.iter().flat_map(|p| &p.records);
        let bytes: usize = records.map(Bytes::len).sum();
        if let (Some(served), 1..) = (&topic.served, bytes) {
            served.counts.add_out(bytes);
            services.topics.counts.add_out(bytes);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use proptest::prelude::*;

    use super::super::Api;
    use super::super::responses::{
        come_back_as, id, int16, int32, int64, list, outcome, payload, str_bytes,
    };
    use super::*;

    #[derive(Debug)]
    struct Outcome {
        error_code: i16,
        topics: Vec<(StrBytes, Uuid, Vec<fetch::Partition>)>,
    }

    fn partition() -> impl Strategy<Value = fetch::Partition> {
        let read = (int64(), int64(), list(payload()));
        (int32(), outcome(read)).prop_map(|(index, outcome)| match outcome {
            Ok((high_watermark, log_start_offset, records)) => fetch::Partition {
                index,
                high_watermark,
                last_stable_offset: high_watermark,
                log_start_offset,
                records,
                ..Default::default()
            },
            Err(refusal) => {
                let asked = Asked {
                    index,
                    offset: 0,
                    max_bytes: 0,
                    target: Err(refusal),
                };
                asked.begin().0
            }
        })
    }

    /// An error of the request as a whole is possible from v7 on.
    fn any_outcome(version: i16) -> impl Strategy<Value = Outcome> {
        let topic = (str_bytes(), id(), list(partition()));
        (int16(), list(topic)).prop_map(move |(error_code, topics)| Outcome {
            error_code: if version >= 7 { error_code } else { 0 },
            topics,
        })
    }

    fn encoded(context: &RequestContext, outcome: &Outcome) -> Reply {
        let topics = outcome
            .topics
            .iter()
            .map(|(name, id, partitions)| fetch::Topic {
                name,
                id: *id,
                partitions: partitions.clone(),
            });
        let response = fetch::FetchResponse {
            error_code: outcome.error_code,
            topics: topics.collect(),
            ..Default::default()
        };
        reply(context, response, None)
    }

    fn seen(version: i16, outcome: Outcome) -> FetchResponse {
        let partition = |p: fetch::Partition| {
            PartitionData::default()
                .with_partition_index(p.index)
                .with_error_code(p.error_code)
                .with_high_watermark(p.high_watermark)
                .with_last_stable_offset(p.last_stable_offset)
                .with_log_start_offset(if version >= 5 { p.log_start_offset } else { -1 })
                .with_aborted_transactions(None)
                .with_records(Some(p.records.concat().into()))
        };
        let topics = outcome.topics.into_iter().map(|(name, id, partitions)| {
            let topic = match version {
                13.. => FetchableTopicResponse::default().with_topic_id(id),
                _ => FetchableTopicResponse::default().with_topic(name.into()),
            };
            topic.with_partitions(partitions.into_iter().map(partition).collect())
        });
        FetchResponse::default()
            .with_error_code(outcome.error_code)
            .with_responses(topics.collect())
    }

    pub(in crate::api) fn come_back(api: &'static Api, version: i16) -> Result<u32, String> {
        come_back_as(
            api,
            version,
            any_outcome(version).boxed(),
            |context, outcome| {
                let reply = encoded(context, &outcome);
                Ok((reply, seen(version, outcome)))
            },
        )
    }
}
