//! The active controller is killed: partitions that others lead go on without it, and another one takes over.

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use ottla_tests::batch::read_all;
use ottla_tests::client::{ClientError, FetchAsk, Topic, checked, code};
use ottla_tests::cluster::{Cluster, NODES, wait_for};
use ottla_tests::history;
use ottla_tests::load::Load;
use ottla_tests::places::{Places, settled};

use crate::restarts::{end, judge};
use crate::{SHAPE, alone};

const TOPIC: &str = "steady";
const RECORDS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_controller_stops_nothing() {
    alone(400, "killed controller", async |mut random| {
        // Leaderships stay where they are, but for those of the dead.
        let mut cluster = Cluster::start(&[("auto.leader.rebalance.enable", "false")]).await;
        let places = cluster.places();
        let load = Load::start(places.clone(), "load", SHAPE, &mut random).await;
        load.allow(1000);
        make(&cluster, 1, TOPIC).await;
        cluster.wait_until_whole().await;

        let controller = cluster.controller(1, None).await;
        let asked = *NODES.iter().find(|id| **id != controller).expect("three");
        let others = led_by_others(&cluster.topics(asked).await.expect("topics"), controller);
        assert!(!others.is_empty(), "every node leads something");
        cluster.node(controller).kill9();
        for partition in &others {
            append_and_read(&places, *partition).await;
        }
        let next = cluster.controller(asked, Some(controller)).await;
        println!("controller {controller}, then {next}; partitions {others:?} of others went on");
        make(&cluster, asked, "made-without-it").await;
        cluster.node(controller).spawn();
        let stopped = end(&mut cluster, load).await;
        judge(&mut cluster, &stopped).await;
    })
    .await;
}

fn led_by_others(topics: &[MetadataResponseTopic], controller: i32) -> Vec<i32> {
    let is_it = |t: &&MetadataResponseTopic| t.name.as_ref().is_some_and(|n| &*n.0 == TOPIC);
    let topic = topics.iter().find(is_it).expect("the topic is there");
    let partitions = topic.partitions.iter();
    let others = partitions.filter(|p| p.leader_id.0 != controller);
    others.map(|p| p.partition_index).collect()
}

async fn append_and_read(places: &Places, partition: i32) {
    for number in 0..RECORDS {
        settled("a record is acknowledged", async || {
            let mut leader = places.leader(TOPIC, partition).await?;
            let record = history::batch(number, partition, 100);
            let answer = leader.produce(TOPIC, partition, record).await?;
            checked("Produce", answer.error_code, ())
        })
        .await;
    }
    let read = settled("records are read", async || {
        let mut leader = places.leader(TOPIC, partition).await?;
        let data = leader.fetch(FetchAsk::of(TOPIC, partition, 0)).await?;
        checked("Fetch", data.error_code, ())?;
        Ok(data.records.unwrap_or_default())
    })
    .await;
    let batches = read_all(read).expect("batches are whole");
    let records = batches.into_iter().flat_map(|batch| batch.records);
    let values = records.filter_map(|(_, record)| record.value);
    let mut names = values.map(|value| {
        let name = history::name_of(&value, partition);
        name.expect("a record that was sent").number
    });
    // A record whose answer was lost is there twice: this producer is not idempotent.
    let mut next = 0;
    names.all(|number| {
        assert!(
            number == next || number + 1 == next,
            "{number} after {next}"
        );
        next = number + 1;
        true
    });
    assert_eq!(next, RECORDS, "partition {partition}");
}

/// Makes a topic by way of this node, however long there is no controller.
async fn make(cluster: &Cluster, asked: i32, name: &str) {
    wait_for("a topic is made", async || {
        let topic = Topic {
            name,
            partitions: SHAPE.partitions,
            configs: &[],
        };
        match cluster.connect(asked).await.create_topic(topic).await {
            Ok(_) => Ok(()),
            // An earlier try, whose outcome was not known.
            Err(ClientError::Kafka { code, .. }) if code == code::TOPIC_ALREADY_EXISTS => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}
