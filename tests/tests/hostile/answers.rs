//! Small requests that ask for large answers.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    DescribeGroupsRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::broker::Broker;
use ottla_tests::client::{Connection, Topic, frame};

use crate::attack;

/// What answers may hold, and sockets' buffers.
const ANSWERS_BYTES: u64 = 150 << 20;
const SMALL: &[(&str, &str)] = &[("ottla.memory.bytes", "268435456")];
const PARTITIONS: i32 = 400;
/// As long as `offset.metadata.max.bytes` allows.
const METADATA_BYTES: usize = 4096;

const ALL_OF_ONE_GROUP: i16 = 5;
const SEVERAL_GROUPS: i16 = 8;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Commits an offset with all the metadata there may be for every partition: 1.6 MB to answer.
async fn commit(broker: &Broker) -> Connection {
    let mut connection = Connection::open(broker.address).await.expect("accepted");
    let topic = Topic {
        name: "wide",
        partitions: PARTITIONS,
        configs: &[],
    };
    connection.create_topic(topic).await.expect("a topic");
    for first in (0..PARTITIONS).step_by(100) {
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(1)
                .with_committed_metadata(Some(text(&"m".repeat(METADATA_BYTES))))
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text("wide")))
            .with_partitions((first..first + 100).map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text("wide")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        loop {
            let answer = connection.call(8, &request).await.expect("an answer");
            let mut codes = answer.topics[0].partitions.iter().map(|p| p.error_code);
            if codes.all(|code| code == 0) {
                break;
            }
            // The coordinator is being made.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    connection
}

/// Whatever is named again and again is answered once.
#[tokio::test(flavor = "multi_thread")]
async fn one_thing_named_many_times() {
    attack(
        "named many times",
        ANSWERS_BYTES,
        SMALL,
        |broker, _| async move {
            let mut connection = commit(&broker).await;
            let all = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text("wide")))
                .with_topics(None);
            let request = OffsetFetchRequest::default().with_groups(vec![all; 5000]);
            let answer = connection.call(SEVERAL_GROUPS, &request).await.unwrap();
            let groups: Vec<usize> = answer
                .groups
                .iter()
                .map(|g| g.topics[0].partitions.len())
                .collect();
            assert_eq!(groups, [PARTITIONS as usize]);

            let topic = OffsetFetchRequestTopics::default()
                .with_name(TopicName(text("wide")))
                .with_partition_indexes(vec![7; 50]);
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text("wide")))
                .with_topics(Some(vec![topic; 1000]));
            let request = OffsetFetchRequest::default().with_groups(vec![group]);
            let answer = connection.call(SEVERAL_GROUPS, &request).await.unwrap();
            let topics = &answer.groups[0].topics;
            assert_eq!((topics.len(), topics[0].partitions.len()), (1, 1));

            let request =
                DescribeGroupsRequest::default().with_groups(vec![GroupId(text("wide")); 20_000]);
            let answer = connection.call(5, &request).await.unwrap();
            assert_eq!(answer.groups.len(), 1);
            broker
        },
    )
    .await;
}

/// Many ask for 1.6 MB each, and take nothing.
#[tokio::test(flavor = "multi_thread")]
async fn large_answers_that_nobody_takes() {
    attack(
        "answers not taken",
        ANSWERS_BYTES,
        SMALL,
        |broker, _| async move {
            let _committed = commit(&broker).await;
            let request = OffsetFetchRequest::default()
                .with_group_id(GroupId(text("wide")))
                .with_topics(None);
            let request = frame(ALL_OF_ONE_GROUP, 1, &request).unwrap();
            let mut silent = Vec::new();
            for _ in 0..300 {
                let mut connection = Connection::open(broker.address).await.expect("accepted");
                connection
                    .write(&request)
                    .await
                    .expect("a request is taken");
                silent.push(connection);
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            broker
        },
    )
    .await;
}
