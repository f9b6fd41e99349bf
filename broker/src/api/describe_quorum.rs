//! DescribeQuorum v0 to v2 (KIP-595, KIP-836, KIP-853): the metadata quorum, as the active controller sees
//! it. Other brokers hand the request on to it.
//!
//! The metadata's Raft log holds more than its records (elections, changes of members), and members
//! follow by its entries. So the offsets told here count entries of that log, all of them alike; the
//! offsets of `__cluster_metadata-0` are lower.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ottla_proto::config::ServerConfig;
use ottla_proto::metadata::{CLUSTER_METADATA_TOPIC, Image};
use ottla_raft::{GroupStatus, MemberProgress};
use uuid::Uuid;

use super::RequestContext;
use super::errors::{NONE, Refusal};
use crate::services::Services;

/// Timestamps that are not known.
const NEVER: i64 = -1;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let Some(status) = services.metadata.quorum() else {
        return refused(ResponseError::NotLeaderOrFollower.into());
    };
    let image = services.metadata.current();
    let config = services.metadata.config();
    let quorum = Quorum {
        leader: services.metadata.node_id(),
        status,
        now_ms: services.metadata.now_ms(),
    };
    let asked = request.topics.into_iter().map(|topic| {
        let indexes = topic.partitions.into_iter().map(|p| p.partition_index);
        (topic.topic_name.0, indexes.collect())
    });
    let nodes = endpoints(&config, &quorum.status);
    response(
        context.version,
        once(asked),
        &quorum,
        |replica| directory(&image, replica),
        nodes,
    )
}

/// The quorum at one moment, seen from its leader.
#[derive(Clone, Debug)]
struct Quorum {
    leader: i32,
    status: GroupStatus,
    now_ms: i64,
}

/// What is named twice is answered once.
fn once(
    asked: impl Iterator<Item = (StrBytes, Vec<i32>)>,
) -> BTreeMap<StrBytes, BTreeSet<i32>> {
    let mut topics: BTreeMap<_, BTreeSet<i32>> = BTreeMap::new();
    for (name, indexes) in asked {
        topics.entry(name).or_default().extend(indexes);
    }
    topics
}

fn response(
    version: i16,
    asked: BTreeMap<StrBytes, BTreeSet<i32>>,
    quorum: &Quorum,
    directory: impl Fn(u64) -> Uuid,
    nodes: Vec<Node>,
) -> DescribeQuorumResponse {
    let topics = asked.into_iter().map(|(name, indexes)| {
        let partitions = indexes.into_iter().map(|index| {
            match (&*name, index) {
                (CLUSTER_METADATA_TOPIC, 0) => described(version, quorum, &directory),
                _ => unknown(index),
            }
        });
        TopicData::default()
            .with_partitions(partitions.collect())
            .with_topic_name(TopicName(name))
    });
    DescribeQuorumResponse::default()
        .with_error_code(NONE)
        .with_error_message(None)
        .with_topics(topics.collect())
        .with_nodes(if version >= 2 { nodes } else { Vec::new() })
}

fn refused(refusal: Refusal) -> DescribeQuorumResponse {
    DescribeQuorumResponse::default()
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
}

fn unknown(index: i32) -> PartitionData {
    let refusal = Refusal::new(
        ResponseError::UnknownTopicOrPartition,
        "Only the quorum of __cluster_metadata-0 can be described",
    );
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
}

fn described(version: i16, quorum: &Quorum, directory: &impl Fn(u64) -> Uuid) -> PartitionData {
    let status = &quorum.status;
    let (voters, observers): (Vec<_>, Vec<_>) = status.members.iter().partition(|m| m.voter);
    let states = |members: Vec<&MemberProgress>| {
        let states = members.into_iter().map(|member| {
            let state = state(member, status.end, quorum.now_ms);
            match version {
                2.. => state.with_replica_directory_id(directory(member.replica)),
                1 => state,
                _ => state
                    .with_last_fetch_timestamp(NEVER)
                    .with_last_caught_up_timestamp(NEVER),
            }
        });
        states.collect()
    };
    PartitionData::default()
        .with_partition_index(0)
        .with_error_code(NONE)
        .with_error_message(None)
        .with_leader_id(BrokerId(quorum.leader))
        .with_leader_epoch(status.leader_epoch)
        .with_high_watermark(status.committed as i64)
        .with_current_voters(states(voters))
        .with_observers(states(observers))
}

/// A member that has answered nothing for a while may lack what it was not asked about since.
fn state(member: &MemberProgress, end: u64, now_ms: i64) -> ReplicaState {
    let at = |ago: Duration| now_ms.saturating_sub(ago.as_millis() as i64);
    let caught_up = match (member.caught_up, member.answered) {
        (Some(caught_up), Some(answered)) => Some(caught_up.max(answered)),
        _ => None,
    };
    ReplicaState::default()
        .with_replica_id(BrokerId(member.node))
        .with_log_end_offset(end.saturating_sub(member.lag_entries) as i64)
        .with_last_fetch_timestamp(member.answered.map_or(NEVER, at))
        .with_last_caught_up_timestamp(caught_up.map_or(NEVER, at))
}

/// The data folder that a replica lives in; zero for one that its node has no more.
fn directory(image: &Image, replica: u64) -> Uuid {
    let broker = image.broker(ottla_raft::node_of(replica));
    let broker = broker.filter(|broker| broker.replica_id() == replica);
    let directory = broker.and_then(|broker| broker.log_dirs.first());
    directory.copied().unwrap_or_default()
}

/// Where the voters listen as controllers.
fn endpoints(config: &ServerConfig, status: &GroupStatus) -> Vec<Node> {
    let name = config.listeners.controller_names.first();
    let name = name.map_or("CONTROLLER", |name| name);
    let listener = |name: &str, host: &str, port| {
        Listener::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_host(StrBytes::from_string(host.to_owned()))
            .with_port(port)
    };
    let of = |id: i32| -> Vec<Listener> {
        if let Some(voter) = config.quorum_voters.iter().find(|voter| voter.id == id) {
            return vec![listener(name, &voter.host, voter.port)];
        }
        let own = config.listeners.controller.iter();
        let own = own.filter(|_| id == config.node_id);
        own.map(|l| listener(&l.name, &l.host, l.port)).collect()
    };
    let voters = status.members.iter().filter(|member| member.voter);
    let nodes = voters.map(|member| {
        Node::default()
            .with_node_id(BrokerId(member.node))
            .with_listeners(of(member.node))
    });
    nodes.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{id, int32, list, refusal, str_bytes, text};
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn member() -> impl Strategy<Value = MemberProgress> {
        let ago = || option::of((0u64..1 << 40).prop_map(Duration::from_millis));
        let numbers = (any::<u64>(), any::<bool>(), 0u64..1 << 40);
        (numbers, ago(), ago()).prop_map(|((replica, voter, lag_entries), caught_up, answered)| {
            MemberProgress {
                replica,
                node: ottla_raft::node_of(replica),
                voter,
                lag_entries,
                caught_up,
                answered,
            }
        })
    }

    fn quorum() -> impl Strategy<Value = Quorum> {
        let ends = (0u64..1 << 62, 0u64..1 << 62);
        (int32(), int32(), ends, list(member()), 0i64..1 << 50).prop_map(
            |(leader, leader_epoch, (end, committed), members, now_ms)| Quorum {
                leader,
                status: GroupStatus {
                    leader_epoch,
                    end,
                    committed,
                    members,
                },
                now_ms,
            },
        )
    }

    pub(in crate::api) fn responses(version: i16) -> BoxedStrategy<DescribeQuorumResponse> {
        let ours = Just((StrBytes::from_static_str(CLUSTER_METADATA_TOPIC), vec![0, 1, 0]));
        let asked = list(prop_oneof![ours, (str_bytes(), list(int32()))]);
        let listener = (text(), text(), any::<u16>()).prop_map(|(name, host, port)| {
            Listener::default()
                .with_name(StrBytes::from_string(name))
                .with_host(StrBytes::from_string(host))
                .with_port(port)
        });
        let node = (int32(), list(listener)).prop_map(|(id, listeners)| {
            Node::default()
                .with_node_id(BrokerId(id))
                .with_listeners(listeners)
        });
        let told = (asked, quorum(), id(), list(node));
        let told = told.prop_map(move |(asked, quorum, directory, nodes)| {
            response(version, once(asked.into_iter()), &quorum, |_| directory, nodes)
        });
        prop_oneof![4 => told, 1 => refusal().prop_map(refused)].boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: DescribeQuorumResponse,
    ) -> DescribeQuorumResponse {
        if version < 2 {
            response.error_message = Some(StrBytes::default());
            let topics = response.topics.iter_mut();
            for partition in topics.flat_map(|topic| &mut topic.partitions) {
                partition.error_message = Some(StrBytes::default());
            }
        }
        response
    }

    #[test]
    fn a_silent_member_was_caught_up_when_it_answered() {
        let member = |lag_entries, caught_up, answered| MemberProgress {
            replica: 2 << 32,
            node: 2,
            voter: true,
            lag_entries,
            caught_up,
            answered,
        };
        let ms = |ms| Some(Duration::from_millis(ms));
        for (lag, caught_up, answered, expected) in [
            (0, ms(0), ms(0), (100, 5000, 5000)),
            (0, ms(0), ms(700), (100, 4300, 4300)),
            (30, ms(2000), ms(5), (70, 4995, 3000)),
            (30, None, ms(5), (70, 4995, NEVER)),
            (200, ms(10), None, (0, NEVER, NEVER)),
        ] {
            let told = state(&member(lag, caught_up, answered), 100, 5000);
            let told = (
                told.log_end_offset,
                told.last_fetch_timestamp,
                told.last_caught_up_timestamp,
            );
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn describes_one_partition_only() {
        let quorum = Quorum {
            leader: 1,
            status: GroupStatus {
                leader_epoch: 3,
                end: 10,
                committed: 9,
                members: vec![],
            },
            now_ms: 0,
        };
        let name = StrBytes::from_static_str;
        let asked = [
            (name(CLUSTER_METADATA_TOPIC), vec![0, 0, 1]),
            (name("a"), vec![0]),
            (name(CLUSTER_METADATA_TOPIC), vec![0]),
        ];
        let told = response(2, once(asked.into_iter()), &quorum, |_| Uuid::nil(), vec![]);
        let told: Vec<_> = told.topics.iter().flat_map(|topic| {
            let name = topic.topic_name.to_string();
            let told = topic.partitions.iter();
            told.map(move |p| (name.clone(), p.partition_index, p.error_code, p.high_watermark))
        }).collect();
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        let metadata = CLUSTER_METADATA_TOPIC.to_owned();
        assert_eq!(
            told,
            [
                (metadata.clone(), 0, NONE, 9),
                (metadata, 1, unknown, 0),
                ("a".to_owned(), 0, unknown, 0),
            ]
        );
    }
}
