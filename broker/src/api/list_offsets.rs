//! ListOffsets v1 to v10 (KIP-79, KIP-207, KIP-320, KIP-405, KIP-734, KIP-1005).
//!
//! By time: the first record at or after it. -1 latest, -2 earliest, -3 the record with the highest
//! timestamp, -4 earliest local (the log start offset: all data is local), -5 latest tiered (there
//! is none: -1). read_committed equals read_uncommitted until there are transactions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ottla_proto::limits::FETCH_READ_BYTES;
use ottla_raft::{Bounds, off_reactor};
use ottla_wire::batch;

use super::RequestContext;
use super::errors::Refusal;
use crate::newest::Searched;
use crate::services::Services;
use crate::topics::Replica;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// An offset with the timestamp of its record (-1 where the question was not about time).
type Found = Option<(i64, i64)>;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let served = services.topics.by_name(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let replica = served
                .as_ref()
                .map_err(|e| *e)
                .and_then(|t| t.replica(asked.partition_index).cloned());
            let answer = match replica {
                Ok(replica) => find(services, context.version, &replica, &asked).await,
                Err(error) => Err(error.into()),
            };
            partitions.push(respond(context.version, asked.partition_index, answer));
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn respond(
    version: i16,
    index: i32,
    answer: Result<(Found, i32), Refusal>,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match answer {
        Err(refusal) => response
            .with_error_code(refusal.code)
            .with_offset(-1)
            .with_timestamp(-1),
        Ok((found, epoch)) => {
            let (offset, timestamp) = found.unwrap_or((-1, -1));
            let response = response.with_offset(offset).with_timestamp(timestamp);
            if version >= 4 {
                response.with_leader_epoch(if offset < 0 { -1 } else { epoch })
            } else {
                response
            }
        }
    }
}

async fn find(
    services: &Services,
    version: i16,
    replica: &Replica,
    asked: &ListOffsetsPartition,
) -> Result<(Found, i32), Refusal> {
    let client_epoch = if version >= 4 {
        asked.current_leader_epoch
    } else {
        -1
    };
    let leader_epoch = replica.lead(client_epoch)?;
    let bounds = replica.partition.bounds();
    if version < first_version(asked.timestamp) {
        return Err(ResponseError::UnsupportedVersion.into());
    }
    let found = match asked.timestamp {
        LATEST => return Ok((Some((bounds.high_watermark, -1)), leader_epoch)),
        EARLIEST | EARLIEST_LOCAL => Some((bounds.log_start_offset, -1)),
        LATEST_TIERED => None,
        MAX_TIMESTAMP => latest_record(services, replica, bounds).await?,
        time if time >= 0 => first_at_or_after(services, replica, bounds, time).await?,
        _ => return Err(ResponseError::UnsupportedVersion.into()),
    };
    let epoch = found.map_or(-1, |(offset, _)| {
        replica.partition.with_state(|s| s.epoch_at(offset))
    });
    Ok((found, if epoch < 0 { leader_epoch } else { epoch }))
}

/// From when on clients may ask so (KIP-734, KIP-405, KIP-1005).
fn first_version(timestamp: i64) -> i16 {
    match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => 1,
    }
}

async fn first_at_or_after(
    services: &Services,
    replica: &Replica,
    bounds: Bounds,
    time: i64,
) -> Result<Found, Refusal> {
    if replica.partition.with_state(|s| s.max_timestamp_ms()) < time {
        return Ok(None);
    }
    let (group, id) = (replica.group.clone(), replica.partition.id);
    let seek =
        move || group.seek_timestamp(id, time, bounds.log_start_offset, bounds.high_watermark);
    let from = off_reactor(seek).await?;
    scan(services, replica, bounds, from, time).await
}

/// The first record that has the highest timestamp.
async fn latest_record(
    services: &Services,
    replica: &Replica,
    bounds: Bounds,
) -> Result<Found, Refusal> {
    let (time, from) = replica
        .partition
        .with_state(|s| (s.max_timestamp_ms(), s.max_timestamp_offset()));
    if bounds.log_start_offset == bounds.high_watermark {
        return Ok(None);
    }
    let at = |offset, time| find_in_batch(services, replica, bounds, offset, time);
    if let Some(found) = at(from, time).await? {
        return Ok(Some(found));
    }
    // It was deleted or compacted away: the highest of what is left, by looking at the header of every batch that came
    // since the last look, if what that found is still there.
    let id = replica.partition.id;
    let mut known = services.newest.get(id, bounds.log_start_offset);
    if let Some((offset, time)) = known.best
        && at(offset, time).await? != known.best
    {
        known = Searched::nothing(bounds.log_start_offset);
    }
    let Searched {
        mut best,
        up_to: mut next,
    } = known;
    while next < bounds.high_watermark {
        let (batches, after) = read(services, replica, next, bounds.high_watermark).await?;
        for batch in &batches {
            let header = batch::BatchHeader::parse(batch)?;
            if best.is_none_or(|(_, time)| header.max_timestamp > time) {
                let found = look(services, batch, header.max_timestamp, next).await?;
                best = found.or(best);
            }
        }
        next = after;
        services.newest.put(id, Searched { best, up_to: next });
    }
    Ok(best)
}

/// The first record at or after `time` in the batch that holds `offset`, if there is one.
async fn find_in_batch(
    services: &Services,
    replica: &Replica,
    bounds: Bounds,
    offset: i64,
    time: i64,
) -> Result<Found, Refusal> {
    if !(bounds.log_start_offset..bounds.high_watermark).contains(&offset) {
        return Ok(None);
    }
    let (batches, _) = read(services, replica, offset, offset + 1).await?;
    match batches.first() {
        Some(batch) => look(services, batch, time, bounds.log_start_offset).await,
        None => Ok(None),
    }
}

/// Looks from `from` on for the first record at or after `time`.
async fn scan(
    services: &Services,
    replica: &Replica,
    bounds: Bounds,
    from: i64,
    time: i64,
) -> Result<Found, Refusal> {
    let mut next = from.max(bounds.log_start_offset);
    while next < bounds.high_watermark {
        let (batches, after) = read(services, replica, next, bounds.high_watermark).await?;
        for batch in &batches {
            if batch::BatchHeader::parse(batch)?.max_timestamp < time {
                continue;
            }
            if let Some(found) = look(services, batch, time, bounds.log_start_offset).await? {
                return Ok(Some(found));
            }
        }
        next = after;
    }
    Ok(None)
}

/// Some batches from `offset` on, and the offset after them.
async fn read(
    services: &Services,
    replica: &Replica,
    offset: i64,
    end: i64,
) -> Result<(Vec<bytes::Bytes>, i64), Refusal> {
    let _permit = services.fetch_room.reserve_search(FETCH_READ_BYTES).await;
    let segments = replica.read_cold(offset, end, FETCH_READ_BYTES).await?;
    let batches = batch::split(segments.concat().into())?;
    let last = batches
        .last()
        .map(|b| batch::BatchHeader::parse(b))
        .transpose()?;
    // Nothing there: compaction may have left a hole up to the end.
    Ok((batches, last.map_or(end, |header| header.last_offset() + 1)))
}

/// The first record of a batch at or after `time` and not before `min_offset`. Of a batch that cannot
/// be read inside, what its header says.
async fn look(
    services: &Services,
    batch: &bytes::Bytes,
    time: i64,
    min_offset: i64,
) -> Result<Found, Refusal> {
    let header = batch::BatchHeader::parse(batch)?;
    let batch = batch.clone();
    let most = services.topics.decompressed_bytes;
    let find = move || batch::find_timestamp(&batch, time, min_offset, most);
    Ok(services.topics.look_inside(find).await.unwrap_or_else(|_| {
        let offset = header.base_offset.max(min_offset);
        Some((offset, header.max_timestamp))
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::super::responses::{int32, int64, list, outcome, str_bytes};
    use super::*;

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<ListOffsetsResponse> {
        let answer = outcome((option::of((int64(), int64())), int32()));
        let partition =
            (int32(), answer).prop_map(move |(index, answer)| respond(version, index, answer));
        let topic = (str_bytes(), list(partition)).prop_map(|(name, partitions)| {
            ListOffsetsTopicResponse::default()
                .with_name(name.into())
                .with_partitions(partitions)
        });
        list(topic)
            .prop_map(|topics| ListOffsetsResponse::default().with_topics(topics))
            .boxed()
    }

    /// The mapping leaves the leader epoch out before v4.
    pub(in crate::api) fn as_of(_: i16, response: ListOffsetsResponse) -> ListOffsetsResponse {
        response
    }
}
