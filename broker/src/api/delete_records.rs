//! DeleteRecords v0 to v2 (KIP-107): raises log start offsets. -1 stands for the high watermark.
//!
//! A partition that is named twice is trimmed once, to the higher offset. Answers once the new log start
//! offset is durable. The disk space comes back afterwards.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_proto::config::TopicConfig;
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::{BATCH_OVERHEAD_BYTES, GROUP_ENTRY_BATCHES};
use ottla_proto::metadata::is_internal_topic;
use ottla_raft::{Command, Group, Outcome};
use tokio::time::{Instant, timeout_at};

use super::RequestContext;
use super::brokers;
use super::errors::{NONE, Refusal, offset_of};
use crate::retention;
use crate::services::Services;
use crate::topics::{Replica, ServedTopic, Unavailable};

/// What a client cannot take for an offset.
const NO_LOW_WATERMARK: i64 = -1;
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let deadline = brokers::deadline(request.timeout_ms);
    let mut trims = Trims::default();
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let served = services.topics.by_name(&topic.name);
        let partitions = topic.partitions.into_iter().map(|p| {
            let index = p.partition_index;
            (index, trims.add(&served, index, p.offset))
        });
        asked.push((topic.name, partitions.collect::<Vec<_>>()));
    }
    let outcomes = trims.carry_out(services, deadline).await;
    let topics = asked.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, place)| {
            let outcome = place.and_then(|place| outcomes.of(place));
            result(index, outcome)
        });
        DeleteRecordsTopicResult::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

/// What one request trims: a list of commands per replication group, each partition once.
#[derive(Default)]
struct Trims {
    groups: Vec<(Arc<Group>, Vec<Target>)>,
    places: HashMap<PartitionId, Place>,
}

/// A partition and its new log start offset.
type Target = (Replica, i64);
/// Which command of which group.
type Place = (usize, usize);

impl Trims {
    fn add(
        &mut self,
        topic: &Result<Arc<ServedTopic>, Unavailable>,
        index: i32,
        offset: i64,
    ) -> Result<Place, Refusal> {
        let topic = topic.as_ref().map_err(|error| *error)?;
        let replica = topic.replica(index)?;
        replica.lead(-1)?;
        check(&topic.topic.name, &topic.config)?;
        let log_start_offset = target(offset, replica.partition.bounds().high_watermark)?;
        if let Some(&(group, at)) = self.places.get(&replica.partition.id) {
            let (_, told) = &mut self.groups[group].1[at];
            *told = log_start_offset.max(*told);
            return Ok((group, at));
        }
        let same = |(group, _): &(Arc<Group>, _)| group.id == replica.group.id;
        let group = self.groups.iter().position(same).unwrap_or_else(|| {
            self.groups.push((replica.group.clone(), Vec::new()));
            self.groups.len() - 1
        });
        let list = &mut self.groups[group].1;
        list.push((replica.clone(), log_start_offset));
        let place = (group, list.len() - 1);
        self.places.insert(replica.partition.id, place);
        Ok(place)
    }

    async fn carry_out(self, services: &Services, deadline: Instant) -> Outcomes {
        let mut outcomes = Vec::with_capacity(self.groups.len());
        let mut trimmed = Vec::new();
        for (group, list) in self.groups {
            let answered = append(services, &group, &list, deadline).await;
            if answered.is_ok() {
                trimmed.extend(list.into_iter().map(|(replica, _)| replica));
            }
            outcomes.push(answered);
        }
        if !trimmed.is_empty() {
            tokio::task::spawn_blocking(move || trimmed.iter().for_each(retention::reclaim));
        }
        Outcomes(outcomes)
    }
}

/// Raises the log start offsets of one group's partitions.
async fn append(
    services: &Services,
    group: &Group,
    list: &[Target],
    deadline: Instant,
) -> Result<Vec<Outcome>, Refusal> {
    let command = |(replica, log_start_offset): &Target| Command::Trim {
        partition: replica.partition.id,
        log_start_offset: *log_start_offset,
    };
    let late = || Refusal::from(ResponseError::RequestTimedOut);
    let mut outcomes = Vec::with_capacity(list.len());
    for part in list.chunks(GROUP_ENTRY_BATCHES) {
        let groups = services.topics.groups();
        let room = groups.reserve(part.len() * BATCH_OVERHEAD_BYTES);
        let room = timeout_at(deadline, room).await.map_err(|_| late())?;
        let ticket = group.append(part.iter().map(command).collect(), 0, Some(room));
        let answered = timeout_at(deadline, ticket.outcome()).await;
        outcomes.extend(answered.map_err(|_| late())??);
    }
    Ok(outcomes)
}

struct Outcomes(Vec<Result<Vec<Outcome>, Refusal>>);

impl Outcomes {
    fn of(&self, (group, at): Place) -> Result<i64, Refusal> {
        let list = self.0[group].as_ref().map_err(Clone::clone)?;
        let missing = || Err(ResponseError::UnknownServerError.into());
        list.get(at).map_or_else(missing, offset_of)
    }
}

/// Records that only compaction may take, and the coordinators' own, are not deleted.
fn check(topic: &str, config: &TopicConfig) -> Result<(), Refusal> {
    if is_internal_topic(topic) {
        let message = format!("Cannot delete records of internal topic {topic}");
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    match config.cleanup_delete {
        true => Ok(()),
        false => Err(ResponseError::PolicyViolation.into()),
    }
}

/// The log start offset that is asked for.
fn target(offset: i64, high_watermark: i64) -> Result<i64, Refusal> {
    match offset {
        HIGH_WATERMARK => Ok(high_watermark),
        offset if (0..=high_watermark).contains(&offset) => Ok(offset),
        _ => Err(ResponseError::OffsetOutOfRange.into()),
    }
}

fn result(index: i32, outcome: Result<i64, Refusal>) -> DeleteRecordsPartitionResult {
    let (low_watermark, error_code) = match outcome {
        Ok(log_start_offset) => (log_start_offset, NONE),
        Err(refusal) => (NO_LOW_WATERMARK, refusal.code),
    };
    DeleteRecordsPartitionResult::default()
        .with_partition_index(index)
        .with_low_watermark(low_watermark)
        .with_error_code(error_code)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{int32, int64, list, outcome, str_bytes};
    use super::*;
    use ottla_proto::config::{ServerConfig, topic_config};

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<DeleteRecordsResponse> {
        let partition = (int32(), outcome(int64()));
        let partition = partition.prop_map(|(index, outcome)| result(index, outcome));
        let topic = (str_bytes(), list(partition)).prop_map(|(name, partitions)| {
            DeleteRecordsTopicResult::default()
                .with_name(name.into())
                .with_partitions(partitions)
        });
        list(topic)
            .prop_map(|topics| DeleteRecordsResponse::default().with_topics(topics))
            .boxed()
    }

    pub(in crate::api) fn as_of(_: i16, response: DeleteRecordsResponse) -> DeleteRecordsResponse {
        response
    }

    #[test]
    fn offsets_up_to_the_high_watermark() {
        let target = |offset| target(offset, 10).map_err(|refusal| refusal.code);
        assert_eq!((target(-1), target(0), target(10)), (Ok(10), Ok(0), Ok(10)));
        for offset in [-2, 11, i64::MIN, i64::MAX] {
            assert_eq!(target(offset), Err(ResponseError::OffsetOutOfRange.code()));
        }
    }

    #[test]
    fn the_topic_must_allow_it() {
        let server = ServerConfig::load(None, [], &[]).unwrap().0;
        let refused = |topic: &str, policy: &str| {
            let own = [("cleanup.policy".to_owned(), policy.to_owned())].into();
            check(topic, &topic_config(&server, &own).unwrap())
                .err()
                .map(|refusal| refusal.code)
        };
        assert_eq!(refused("a", "delete"), None);
        assert_eq!(refused("a", "compact,delete"), None);
        assert_eq!(
            refused("a", "compact"),
            Some(ResponseError::PolicyViolation.code())
        );
        assert_eq!(
            refused("__consumer_offsets", "delete"),
            Some(ResponseError::InvalidTopicException.code())
        );
    }
}
