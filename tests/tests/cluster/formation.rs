//! How a cluster begins, and what it is then: whichever node is asked.

use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{CreateTopicsRequest, DescribeConfigsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::client::{Connection, code};
use ottla_tests::cluster::{Cluster, NODES};

use crate::alone;

const CREATE_TOPICS: i16 = 7;
const LATE: Duration = Duration::from_secs(2);
const TOPIC_RESOURCE: i8 = 2;

/// Each node is once the late one.
#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_starts_makes_one_cluster() {
    for order in [[3, 2, 1], [1, 3, 2], [2, 1, 3]] {
        alone(150, &format!("start in the order {order:?}"), async |_| {
            let mut cluster = Cluster::prepare(&[]);
            let [first, second, late] = order;
            cluster.node(first).spawn();
            cluster.node(second).spawn();
            tokio::time::sleep(LATE).await;
            cluster.node(late).spawn();
            cluster.wait_until_whole().await;
            assert_one_cluster(&cluster).await;
            cluster.stop_all().await;
        })
        .await;
    }
}

/// As in Kafka 4's sample files: no ids of other nodes anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_enough_to_find_each_other() {
    alone(200, "addresses only", async |_| {
        let mut cluster = Cluster::prepare(&[]);
        cluster.name_addresses_only();
        cluster.node(2).spawn();
        tokio::time::sleep(LATE).await;
        cluster.node(3).spawn();
        cluster.node(1).spawn();
        cluster.wait_until_whole().await;
        assert_one_cluster(&cluster).await;
        let before = cluster.describe(1).await.expect("the node is up");
        let made = create(&mut cluster.connect(1).await, "three", 3).await;
        assert_eq!(made.error_code, 0);
        cluster.stop_all().await;
        // Two of them know the third, and need no word of it.
        cluster.node(2).spawn();
        cluster.node(3).spawn();
        cluster.node(2).wait_until_up().await;
        cluster.controller(2, Some(1)).await;
        // It comes back with an empty disk, and asks.
        let data = cluster.node(1).data();
        std::fs::remove_dir_all(data).expect("the folder is there");
        cluster.node(1).spawn();
        cluster.wait_until_whole().await;
        assert_one_cluster(&cluster).await;
        let after = cluster.describe(1).await.expect("the node is up");
        assert_eq!(before.cluster_id, after.cluster_id);
        cluster.stop_all().await;
    })
    .await;
}

async fn assert_one_cluster(cluster: &Cluster) {
    let mut ids = Vec::new();
    for id in NODES {
        let told = cluster.describe(id).await.expect("the node is up");
        let mut brokers: Vec<_> = told.brokers.iter().map(|b| b.broker_id.0).collect();
        brokers.sort_unstable();
        assert_eq!(brokers, NODES, "says node {id}");
        ids.push(told.cluster_id.to_string());
        cluster.controller(id, None).await;
    }
    assert!(!ids[0].is_empty());
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_have_replicas_on_every_node() {
    alone(200, "topics", async |_| {
        let mut cluster = Cluster::start(&[]).await;
        assert_one_cluster(&cluster).await;
        let mut connection = cluster.connect(1).await;
        let made = create(&mut connection, "three", 3).await;
        assert_eq!((made.error_code, made.replication_factor), (0, 3));
        let made = create(&mut connection, "two", 2).await;
        assert_eq!((made.error_code, made.replication_factor), (0, 3));
        let refused = create(&mut connection, "five", 5).await;
        assert_eq!(refused.error_code, code::INVALID_REPLICATION_FACTOR);
        let message = refused.error_message.expect("a refusal says why");
        println!("{message}");
        assert!(message.contains('5') && message.contains('3'), "{message}");

        cluster.wait_until_whole().await;
        for id in NODES {
            for topic in cluster.topics(id).await.expect("the node is up") {
                let mut leaders: Vec<_> = topic.partitions.iter().map(|p| p.leader_id.0).collect();
                leaders.sort_unstable();
                leaders.dedup();
                assert_eq!(leaders, NODES, "{:?}, says node {id}", topic.name);
                for partition in &topic.partitions {
                    assert_eq!(partition.replica_nodes.len(), 3, "{partition:?}");
                }
            }
        }
        cluster.stop_all().await;
    })
    .await;
}

/// A broker hands on what only the controller decides, and has seen the effect when it answers.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_requests_for_the_controller() {
    alone(200, "forwarding", async |_| {
        let mut cluster = Cluster::start(&[]).await;
        let controller = cluster.controller(1, None).await;
        for id in NODES.into_iter().filter(|id| *id != controller) {
            let mut connection = cluster.connect(id).await;
            for round in 0..10 {
                let name = format!("made-by-{id}-{round}");
                let made = create(&mut connection, &name, 3).await;
                assert_eq!(made.error_code, 0, "{made:?}");
                let known = connection.topic_id(&name).await;
                assert_eq!(known.expect("it is there at once"), made.topic_id);

                let retention = (10_000 + round).to_string();
                let altered = connection.alter_topic(&name, "retention.ms", &retention);
                altered.await.expect("it may be altered");
                let shown = retention_of(&mut connection, &name).await;
                assert_eq!(shown, retention, "in force at once, says node {id}");

                let deleted = connection.delete_topic(&name).await;
                deleted.expect("a topic can be deleted");
                let gone = connection.metadata(&name).await.expect("metadata");
                let code = gone.topics[0].error_code;
                assert_eq!(code, code::UNKNOWN_TOPIC_OR_PARTITION, "gone at once");
            }
        }
        cluster.stop_all().await;
    })
    .await;
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

async fn create(connection: &mut Connection, name: &str, factor: i16) -> CreatableTopicResult {
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(6)
        .with_replication_factor(factor);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer = connection.call(CREATE_TOPICS, &request).await;
    let mut topics = answer.expect("an answer").topics;
    topics.pop().expect("one topic was asked for")
}

async fn retention_of(connection: &mut Connection, topic: &str) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text("retention.ms")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = connection.call(4, &request).await.expect("an answer");
    let value = answer.results[0].configs[0].value.clone();
    value.expect("retention.ms is no secret").to_string()
}
