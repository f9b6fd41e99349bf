//! Topics made, deleted and made again.

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::client::{ClientError, Connection, FetchAsk, Topic, code, fetch_request};
use ottla_tests::within;
use uuid::Uuid;

use crate::{Bench, TEST_SECONDS, small};

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// The error code.
async fn delete(connection: &mut Connection, topic: &str) -> i16 {
    match connection.delete_topic(topic).await {
        Ok(()) => 0,
        Err(ClientError::Kafka { code, .. }) => code,
        Err(error) => panic!("DeleteTopics is answered: {error}"),
    }
}

/// Until metadata says that the topic is gone, which DeleteTopics does not promise.
async fn wait_until_gone(connection: &mut Connection, topic: &str) {
    while connection.metadata(topic).await.unwrap().topics[0].error_code
        != code::UNKNOWN_TOPIC_OR_PARTITION
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_topic_made_again_is_another_topic() {
    within(TEST_SECONDS, "made again", async {
        let mut bench = Bench::start().await;
        let (topic, first) = (bench.topic.clone(), bench.topic_id);
        bench.append(&small(3)).await;
        assert_eq!(delete(&mut bench.connection, &topic).await, 0);
        wait_until_gone(&mut bench.connection, &topic).await;
        let second = bench
            .connection
            .create_topic(Topic {
                name: &topic,
                partitions: 1,
                configs: &[],
            })
            .await
            .unwrap();
        assert_ne!(first, second);
        assert_eq!(bench.connection.topic_id(&topic).await.unwrap(), second);
        let end = bench.connection.list_offset(&topic, 0, -1).await.unwrap();
        assert_eq!(
            (end.error_code, end.offset),
            (0, 0),
            "the new topic is empty"
        );
        for (topic_id, error) in [(first, code::UNKNOWN_TOPIC_ID), (second, 0)] {
            let request = fetch_request(&[FetchAsk {
                topic_id,
                ..FetchAsk::of("", 0, 0)
            }]);
            let answer = bench
                .connection
                .call::<FetchRequest>(13, &request)
                .await
                .unwrap();
            assert_eq!(answer.responses[0].partitions[0].error_code, error);
        }
        assert_eq!(bench.append(&small(2)).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_topic_stays_deleted_after_kill9() {
    within(TEST_SECONDS, "deleted", async {
        let mut bench = Bench::restartable().await;
        let (topic, first) = (bench.topic.clone(), bench.topic_id);
        bench.append(&small(3)).await;
        assert_eq!(delete(&mut bench.connection, &topic).await, 0);
        wait_until_gone(&mut bench.connection, &topic).await;
        bench.broker.kill9();
        bench.broker.restart().await;
        bench.reconnect().await;
        let metadata = bench.connection.metadata(&topic).await.unwrap();
        assert_eq!(
            metadata.topics[0].error_code,
            code::UNKNOWN_TOPIC_OR_PARTITION
        );
        let second = bench
            .connection
            .create_topic(Topic {
                name: &topic,
                partitions: 2,
                configs: &[],
            })
            .await
            .unwrap();
        assert_ne!(first, second);
        assert_eq!(
            bench.append(&small(2)).await,
            0,
            "nothing of the old topic is left"
        );
    })
    .await;
}

#[tokio::test]
async fn requests_that_must_fail() {
    within(TEST_SECONDS, "CreateTopics", async {
        let mut bench = Bench::start().await;
        let taken = bench.topic.clone();
        let fresh = format!("fresh-{}", Uuid::new_v4());
        let cases: [(&str, i32, i16); 9] = [
            (&taken, 1, code::TOPIC_ALREADY_EXISTS),
            ("", 1, 17),
            (".", 1, 17),
            ("..", 1, 17),
            ("a/b", 1, 17),
            ("räksmörgås", 1, 17),
            (&"x".repeat(250), 1, 17),
            (&fresh, 0, 37),
            (&fresh, -2, 37),
        ];
        for (topic, partitions, error) in cases {
            let made = bench
                .connection
                .create_topic(Topic {
                    name: topic,
                    partitions,
                    configs: &[],
                })
                .await;
            match made {
                Err(ClientError::Kafka { code, .. }) => {
                    assert_eq!(code, error, "{topic:?} with {partitions}")
                }
                other => panic!("{topic:?} with {partitions}: {other:?}"),
            }
        }
        for configs in [
            [("no.such.config", "1")],
            [("retention.ms", "soon")],
            [("cleanup.policy", "maybe")],
        ] {
            let made = bench
                .connection
                .create_topic(Topic {
                    name: &fresh,
                    partitions: 1,
                    configs: &configs,
                })
                .await;
            assert!(
                matches!(made, Err(ClientError::Kafka { code: 40, .. })),
                "{configs:?}: {made:?}"
            );
        }
        let unknown = bench.connection.metadata(&fresh).await.unwrap();
        assert_eq!(
            unknown.topics[0].error_code,
            code::UNKNOWN_TOPIC_OR_PARTITION,
            "nothing was made"
        );
        assert_eq!(
            delete(&mut bench.connection, "absent").await,
            code::UNKNOWN_TOPIC_OR_PARTITION
        );
    })
    .await;
}

/// -1 asks for the broker's defaults; a manual assignment must name brokers that exist.
#[tokio::test]
async fn defaults_and_assignments() {
    within(TEST_SECONDS, "defaults", async {
        let mut bench = Bench::start().await;
        let own = bench
            .connection
            .metadata(&bench.topic)
            .await
            .unwrap()
            .brokers[0]
            .node_id;
        let topic = |partitions: i32, factor: i16| {
            let fresh = format!("fresh-{}", Uuid::new_v4());
            CreatableTopic::default()
                .with_name(name(&fresh))
                .with_num_partitions(partitions)
                .with_replication_factor(factor)
        };
        let assigned = |broker| {
            let assignment = CreatableReplicaAssignment::default()
                .with_partition_index(0)
                .with_broker_ids(vec![broker]);
            topic(-1, -1).with_assignments(vec![assignment])
        };
        let topics = vec![
            topic(-1, -1),
            topic(3, 1),
            assigned(own),
            assigned((own.0 + 77).into()),
            topic(1, 5),
        ];
        let request = CreateTopicsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(10_000);
        let answer = bench.connection.call(7, &request).await.unwrap();
        let seen: Vec<(i16, i32)> = answer
            .topics
            .iter()
            .map(|t| (t.error_code, t.num_partitions))
            .collect();
        assert_eq!(seen[..3], [(0, 1), (0, 3), (0, 1)]);
        assert!(
            [39, 38].contains(&seen[3].0),
            "a broker that does not exist: error {}",
            seen[3].0
        );
        assert_eq!(seen[4].0, 38, "INVALID_REPLICATION_FACTOR");
    })
    .await;
}

/// Null topics are all of them, an empty list is none; the controller is a broker that is listed.
#[tokio::test]
async fn metadata_of_all_and_of_none() {
    within(TEST_SECONDS, "Metadata", async {
        let mut bench = Bench::start().await;
        let ask = |topics| {
            MetadataRequest::default()
                .with_topics(topics)
                .with_allow_auto_topic_creation(false)
        };
        let all = bench.connection.call(12, &ask(None)).await.unwrap();
        let named: Vec<_> = all.topics.iter().filter_map(|t| t.name.clone()).collect();
        assert!(named.contains(&name(&bench.topic)), "{named:?}");
        let none = bench.connection.call(12, &ask(Some(vec![]))).await.unwrap();
        assert!(none.topics.is_empty());
        for answer in [all, none] {
            assert!(
                answer
                    .brokers
                    .iter()
                    .any(|b| b.node_id == answer.controller_id),
                "{answer:?}"
            );
            assert_eq!(
                answer.brokers[0].port,
                i32::from(bench.broker.address.port())
            );
            assert!(
                answer.cluster_id.is_some_and(|id| id.len() == 22),
                "a cluster id is 22 letters"
            );
        }
    })
    .await;
}
