//! Produce v3 to v13 (KIP-98, KIP-467, KIP-516). Versions 0 to 2 are listed but refused. Answers
//! name no leader (KIP-951's fields stay empty). Hot path. acks=1 is as strong as acks=all: every
//! answer follows a sync to disk on a majority.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_proto::ids::GroupId;
use ottla_proto::limits::{BATCH_OVERHEAD_BYTES, PRODUCE_WAIT_MS_MIN};
use ottla_proto::metadata::is_internal_topic;
use ottla_raft::{Command, Group, Outcome, Partition, Ticket};
use tokio::time::{Instant, timeout_at};

use super::brokers;
use super::errors::{NONE, Refusal, offset_of};
use super::{Malformed, Pending, Reply, RequestContext};
use crate::board::TopicCounts;
use crate::services::Services;
use crate::topics::{ServedTopic, Unavailable};

/// What a client asks for that wants all in-sync replicas to have its records.
const ACKS_ALL: i16 = -1;

/// The one client id that may write to internal topics, as in Kafka.
const ADMIN_CLIENT: &str = "__admin_client";

/// The first version whose producers know zstd (KIP-110).
const FIRST_WITH_ZSTD: i16 = 7;

/// Where an answer for one partition comes from.
enum Answer {
    Refused(Refusal),
    /// The `position`th outcome of the ticket of `group`.
    Appended {
        group: GroupId,
        position: usize,
        partition: Arc<Partition>,
        counts: Arc<TopicCounts>,
        bytes: usize,
        records: i32,
        log_append_time_ms: i64,
    },
}

/// Commands of one request for one group.
struct Share {
    group: Arc<Group>,
    commands: Vec<Command>,
    bytes: usize,
}

impl Share {
    /// Copies the records out of a frame of which much else would be kept with them.
    fn copy(&mut self) {
        for command in &mut self.commands {
            if let Command::Append { body, .. } = command {
                *body = Bytes::copy_from_slice(body);
            }
        }
    }

    /// What it holds in memory while it waits: its records and what stands around them.
    fn held_bytes(&self) -> usize {
        self.bytes + self.commands.len() * BATCH_OVERHEAD_BYTES
    }
}

/// A request whose place in the log is taken.
struct Staged {
    topics: Vec<(TopicProduceResponse, Vec<(i32, Answer)>)>,
    tickets: Vec<(GroupId, Ticket)>,
    /// Of the request, if it has one.
    deadline: Option<Instant>,
}

/// The first stage: validates, waits for room, and takes the place in each group's order.
pub(super) async fn start(
    services: &Arc<Services>,
    context: RequestContext,
    request: ProduceRequest,
    frame_bytes: usize,
) -> Pending {
    let acks = request.acks;
    // As in Kafka, the time-out is for acks=all, and is not meant for the leader's own disk.
    let timeout_ms = (request.timeout_ms.max(0) as u64).max(PRODUCE_WAIT_MS_MIN);
    let timeout = Duration::from_millis(timeout_ms);
    let deadline = (acks == ACKS_ALL).then(|| Instant::now() + timeout);
    let refuse_all = (!matches!(acks, -1..=1)).then_some(ResponseError::InvalidRequiredAcks);
    let mut shares: HashMap<GroupId, Share> = HashMap::new();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = match context.version {
            13.. => services.topics.by_id(data.topic_id),
            _ => services.topics.by_name(&data.name),
        };
        let response = TopicProduceResponse::default()
            .with_name(StrBytes::from_string(data.name.to_string()).into())
            .with_topic_id(data.topic_id);
        let mut answers = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let answer = match refuse_all {
                Some(error) => Answer::Refused(error.into()),
                None => stage(services, &topic, partition, acks, &mut shares, &context)
                    .await
                    .unwrap_or_else(Answer::Refused),
            };
            answers.push((index, answer));
        }
        topics.push((response, answers));
    }
    let accepted_bytes: usize = shares.values().map(|share| share.bytes).sum();
    let keeps_much_else = accepted_bytes < frame_bytes - frame_bytes / 8;
    let mut tickets = Vec::with_capacity(shares.len());
    for (id, mut share) in shares {
        if keeps_much_else {
            share.copy();
        }
        let permit = services.topics.groups().reserve(share.held_bytes()).await;
        tickets.push((
            id,
            share
                .group
                .append(share.commands, share.bytes, Some(permit)),
        ));
    }
    let staged = Staged {
        topics,
        tickets,
        deadline,
    };
    let api = context.api;
    let topics = services.topics.clone();
    let answer = async move {
        let response = staged.finish(&topics.counts).await;
        error_codes(&response).for_each(|code| context.api.counts.outcome(code));
        match (acks, first_error(&response)) {
            (0, None) => Ok(Reply::none()),
            (0, Some(error_code)) => Err(Malformed::Unanswered(error_code)),
            _ => Reply::encode(&context, &response),
        }
    };
    Pending {
        api,
        answer: Box::pin(answer),
        holds_frame: false,
    }
}

/// A producer that asked for no answer learns of a failure by the end of its connection, and asks for
/// metadata again.
fn first_error(response: &ProduceResponse) -> Option<i16> {
    error_codes(response).find(|code| *code != NONE)
}

fn error_codes(response: &ProduceResponse) -> impl Iterator<Item = i16> {
    let topics = response.responses.iter();
    topics.flat_map(|t| t.partition_responses.iter().map(|p| p.error_code))
}

async fn stage(
    services: &Services,
    topic: &Result<Arc<ServedTopic>, Unavailable>,
    data: PartitionProduceData,
    acks: i16,
    shares: &mut HashMap<GroupId, Share>,
    context: &RequestContext,
) -> Result<Answer, Refusal> {
    let (version, client_id) = (context.version, context.client_id.as_deref());
    let topic = topic.as_ref().map_err(|e| *e)?;
    if is_internal_topic(&topic.topic.name) && client_id != Some(ADMIN_CLIENT) {
        return Err(ResponseError::InvalidTopicException.into());
    }
    let replica = topic.replica(data.index)?;
    replica.lead(-1)?;
    let enough = topic.config.min_insync_replicas;
    if acks == ACKS_ALL && enough > 1 && brokers::lacks_replicas(services, replica, enough) {
        return Err(ResponseError::NotEnoughReplicas.into());
    }
    let checked = services
        .topics
        .check(
            topic,
            replica.partition.id,
            data.records.unwrap_or_default(),
            version >= FIRST_WITH_ZSTD,
        )
        .await?;
    services.topics.groups().admit(checked.bytes)?;
    if let Command::Append { meta, .. } = &checked.command
        && let Some(producer) = &meta.producer
    {
        let group = &replica.group;
        group.admit_producer(&replica.partition, producer.id)?;
    }
    let new = || Share {
        group: replica.group.clone(),
        commands: Vec::new(),
        bytes: 0,
    };
    let share = shares.entry(replica.group.id).or_insert_with(new);
    share.commands.push(checked.command);
    share.bytes += checked.bytes;
    Ok(Answer::Appended {
        group: replica.group.id,
        position: share.commands.len() - 1,
        partition: replica.partition.clone(),
        counts: topic.counts.clone(),
        bytes: checked.bytes,
        records: checked.records,
        log_append_time_ms: checked.log_append_time_ms,
    })
}

impl Staged {
    /// The second stage: waits until the records are durable and visible, or the client's time is up.
    async fn finish(self, all: &TopicCounts) -> ProduceResponse {
        let mut outcomes = HashMap::with_capacity(self.tickets.len());
        for (group, ticket) in self.tickets {
            let outcome = match self.deadline {
                None => Ok(ticket.outcome().await),
                Some(deadline) => timeout_at(deadline, ticket.outcome()).await,
            };
            let outcome = match outcome {
                Ok(Ok(outcomes)) => Ok(outcomes),
                Ok(Err(error)) => Err(Refusal::from(error)),
                Err(_) => Err(ResponseError::RequestTimedOut.into()),
            };
            outcomes.insert(group, outcome);
        }
        let answer = |index: i32, answer: Answer| match answer {
            Answer::Refused(refusal) => refused(index, &refusal),
            Answer::Appended {
                group,
                position,
                partition,
                counts,
                bytes,
                records,
                log_append_time_ms,
            } => match &outcomes[&group] {
                Err(refusal) => refused(index, refusal),
                Ok(list) => match offset_of(&list[position]) {
                    Err(refusal) => refused(index, &refusal),
                    Ok(base_offset) => {
                        if matches!(list[position], Outcome::Appended { .. }) {
                            counts.add_in(bytes, records);
                            all.add_in(bytes, records);
                        }
                        let log_start_offset = partition.bounds().log_start_offset;
                        appended(index, base_offset, log_append_time_ms, log_start_offset)
                    }
                },
            },
        };
        let responses = self.topics.into_iter().map(|(topic, answers)| {
            topic.with_partition_responses(
                answers
                    .into_iter()
                    .map(|(index, a)| answer(index, a))
                    .collect(),
            )
        });
        ProduceResponse::default().with_responses(responses.collect())
    }
}

fn appended(
    index: i32,
    base_offset: i64,
    log_append_time_ms: i64,
    log_start_offset: i64,
) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(NONE)
        .with_base_offset(base_offset)
        .with_log_append_time_ms(log_append_time_ms)
        .with_log_start_offset(log_start_offset)
}

fn refused(index: i32, refusal: &Refusal) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(refusal.code)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
        .with_error_message(refusal.clone().text())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::responses::{id, int32, int64, list, outcome, str_bytes};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<ProduceResponse> {
        let offsets = outcome((int64(), int64(), int64()));
        let partition = (int32(), offsets).prop_map(|(index, outcome)| match outcome {
            Ok((base, time, start)) => appended(index, base, time, start),
            Err(refusal) => refused(index, &refusal),
        });
        let topic = (str_bytes(), id(), list(partition)).prop_map(|(name, id, partitions)| {
            TopicProduceResponse::default()
                .with_name(name.into())
                .with_topic_id(id)
                .with_partition_responses(partitions)
        });
        list(topic)
            .prop_map(|topics| ProduceResponse::default().with_responses(topics))
            .boxed()
    }

    pub(in crate::api) fn as_of(version: i16, mut response: ProduceResponse) -> ProduceResponse {
        for topic in &mut response.responses {
            match version {
                13.. => topic.name = Default::default(),
                _ => topic.topic_id = Uuid::nil(),
            }
            for partition in &mut topic.partition_responses {
                if version < 8 {
                    partition.error_message = None;
                }
                if version < 5 {
                    partition.log_start_offset = -1;
                }
            }
        }
        response
    }
}
