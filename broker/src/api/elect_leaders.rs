//! ElectLeaders v0 to v2 (KIP-183, KIP-460). The active controller asks the leaders of the partitions' groups
//! to hand over, and answers once the metadata tells of the new leaders.
//!
//! A group's partitions have one leader: an election for one of them moves them all. Raft elects only
//! replicas that hold every acknowledged record, so an unclean election answers as Kafka's does where
//! nobody can be elected: ELECTION_NOT_NEEDED while there is a leader, ELIGIBLE_LEADERS_NOT_AVAILABLE
//! while there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_controller::elect_leaders::{self, ElectLeaders, Election, HandOver};
use ottla_proto::ids::{GroupId, NodeId};
use ottla_proto::limits::ELECTION_TOLD_WAIT_MS;
use tokio::time::Instant;

use super::RequestContext;
use super::errors::{NONE, Refusal};
use crate::services::Services;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Topic, partition, and why it was not elected.
type Results = Vec<(String, i32, Option<Refusal>)>;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let partitions = request.topic_partitions.map(named);
    let election = match election(request.election_type) {
        Ok(election) => election,
        Err(refusal) => return refused(context.version, partitions, refusal),
    };
    if !services.metadata.is_leader() {
        let refusal = ResponseError::NotController.into();
        return refused(context.version, partitions, refusal);
    }
    let asked = ElectLeaders {
        election,
        partitions,
    };
    let plan = elect_leaders::plan(&services.metadata.current(), &asked);
    let stayed = hand_over(services, plan.hand_overs).await;
    let results = plan.partitions.into_iter().map(|(topic, index, result)| {
        let refusal = match result {
            Ok(group) => stayed.get(&group).cloned(),
            Err(error) => Some(Refusal::from(&error)),
        };
        (topic, index, refusal)
    });
    response(results.collect())
}

/// Has the groups handed over. Answers those that were not, or are not known to be.
async fn hand_over(services: &Services, groups: Vec<HandOver>) -> BTreeMap<GroupId, Refusal> {
    let mut of_leader: BTreeMap<NodeId, Vec<HandOver>> = BTreeMap::new();
    for group in groups {
        of_leader.entry(group.leader).or_default().push(group);
    }
    let asked = of_leader.into_iter().map(|(leader, groups)| async move {
        let answer = services.controllers.hand_over(leader, &groups).await;
        (leader, groups, answer)
    });
    let (mut stayed, mut handed) = (BTreeMap::new(), Vec::new());
    for (leader, groups, answer) in join_all(asked).await {
        let failed: BTreeMap<_, _> = match answer {
            Ok(failed) => failed.into_iter().collect(),
            Err(error) => {
                let why = format!("The leader {leader} was not asked: {error}");
                groups.iter().map(|g| (g.group, why.clone())).collect()
            }
        };
        for group in groups {
            match failed.get(&group.group) {
                None => handed.push(group),
                Some(why) => {
                    let error = ResponseError::PreferredLeaderNotAvailable;
                    stayed.insert(group.group, Refusal::new(error, why.clone()));
                }
            }
        }
    }
    stayed.extend(wait_until_told(services, handed).await);
    stayed
}

/// The new leaders tell the controller by themselves.
async fn wait_until_told(services: &Services, mut handed: Vec<HandOver>) -> Vec<(GroupId, Refusal)> {
    let mut image = services.metadata.watch();
    let deadline = Instant::now() + Duration::from_millis(ELECTION_TOLD_WAIT_MS);
    loop {
        {
            let image = image.borrow_and_update();
            let is_told = |handed: &HandOver| {
                let group = image.group(handed.group);
                group.is_none_or(|group| group.leader_epoch > handed.leader_epoch)
            };
            handed.retain(|handed| !is_told(handed));
        }
        let changed = tokio::time::timeout_at(deadline, image.changed());
        if handed.is_empty() || changed.await.is_err() {
            break;
        }
    }
    let late = handed.into_iter().map(|handed| {
        let text = "The leadership is handed over, but not known to the controller yet";
        let refusal = Refusal::new(ResponseError::RequestTimedOut, text);
        (handed.group, refusal)
    });
    late.collect()
}

fn election(election_type: i8) -> Result<Election, Refusal> {
    match election_type {
        PREFERRED => Ok(Election::Preferred),
        UNCLEAN => Ok(Election::Unclean),
        other => Err(Refusal::new(
            ResponseError::InvalidRequest,
            format!("There is no election of type {other}"),
        )),
    }
}

/// What is named twice is elected once.
fn named(topics: Vec<TopicPartitions>) -> BTreeMap<String, BTreeSet<i32>> {
    let mut named: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for topic in topics {
        let indexes = named.entry(topic.topic.to_string()).or_default();
        indexes.extend(topic.partitions);
    }
    named
}

/// The request as a whole; v0 has no place for that but the partitions.
fn refused(
    version: i16,
    partitions: Option<BTreeMap<String, BTreeSet<i32>>>,
    refusal: Refusal,
) -> ElectLeadersResponse {
    let topics = partitions.into_iter().flatten();
    let results = topics.flat_map(|(topic, indexes)| {
        let refusal = refusal.clone();
        let result = move |index| (topic.clone(), index, Some(refusal.clone()));
        indexes.into_iter().map(result)
    });
    let code = if version >= 1 { refusal.code } else { NONE };
    response(results.collect()).with_error_code(code)
}

fn response(results: Results) -> ElectLeadersResponse {
    let mut topics: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
    for (topic, index, refusal) in results {
        let result = PartitionResult::default()
            .with_partition_id(index)
            .with_error_code(refusal.as_ref().map_or(NONE, |refusal| refusal.code))
            .with_error_message(refusal.and_then(Refusal::text));
        topics.entry(topic).or_default().push(result);
    }
    let topics = topics.into_iter().map(|(topic, results)| {
        ReplicaElectionResult::default()
            .with_topic(TopicName(StrBytes::from_string(topic)))
            .with_partition_result(results)
    });
    ElectLeadersResponse::default().with_replica_election_results(topics.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{int8, int32, list, refusal, text};
    use super::*;
    use ottla_controller::elect_leaders::ElectError;
    use proptest::option;
    use proptest::prelude::*;

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<ElectLeadersResponse> {
        use ElectError as E;
        let error = prop_oneof![
            Just(E::UnknownTopic),
            Just(E::NotNeeded),
            int32().prop_map(E::PreferredNotAvailable),
            Just(E::NoUnclean),
        ];
        let error = error.prop_map(|error| Refusal::from(&error));
        let refusal = || option::of(refusal());
        let result = prop_oneof![refusal(), error.prop_map(Some)];
        let told = list((text(), int32(), result)).prop_map(response);
        let asked = option::of(list((text(), list(int32()))));
        let bad = (int8(), asked).prop_filter_map("is an election", move |(kind, asked)| {
            let topics = |topics: Vec<(String, Vec<i32>)>| {
                let topic = |(name, indexes): (String, Vec<i32>)| {
                    TopicPartitions::default()
                        .with_topic(TopicName(StrBytes::from_string(name)))
                        .with_partitions(indexes)
                };
                named(topics.into_iter().map(topic).collect())
            };
            Some(refused(version, asked.map(topics), election(kind).err()?))
        });
        prop_oneof![3 => told, 1 => bad].boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: ElectLeadersResponse,
    ) -> ElectLeadersResponse {
        response
    }

    #[test]
    fn a_refused_request_is_refused_in_every_version() {
        let asked = || Some(BTreeMap::from([("a".to_owned(), BTreeSet::from([0, 3]))]));
        let invalid = ResponseError::InvalidRequest.code();
        for (version, whole) in [(0, NONE), (1, invalid), (2, invalid)] {
            let told = refused(version, asked(), election(2).unwrap_err());
            assert_eq!(told.error_code, whole);
            let partitions = &told.replica_election_results[0].partition_result;
            let codes: Vec<_> = partitions.iter().map(|p| (p.partition_id, p.error_code)).collect();
            assert_eq!(codes, [(0, invalid), (3, invalid)]);
        }
    }
}
