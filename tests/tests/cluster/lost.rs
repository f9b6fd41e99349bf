//! A node that comes back with another disk, and a majority that is gone.

use ottla_tests::client::{ClientError, Topic};
use ottla_tests::cluster::{Cluster, NODES};
use ottla_tests::history;
use ottla_tests::load::Load;
use ottla_tests::places::settled;

use crate::restarts::{end, judge};
use crate::{SHAPE, alone};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_is_made_good_and_one_more_node_may_go() {
    alone(400, "lost disk", async |mut random| {
        let mut cluster = Cluster::start(&[]).await;
        let mut load = Load::start(cluster.places(), "load", SHAPE, &mut random).await;
        more(&mut load).await;
        let lost = NODES[random.below(3) as usize];
        let others: Vec<_> = NODES.into_iter().filter(|id| *id != lost).collect();
        cluster.node(lost).kill9();
        more(&mut load).await;
        // Only a replica that has left the ones in sync is seen to be one of them again.
        cluster.wait_for_in_sync(&others).await;
        cluster.node(lost).wipe();
        cluster.node(lost).spawn();
        more(&mut load).await;
        cluster.wait_until_whole().await;

        // What is acknowledged from here on needs the new replica.
        let gone = others[random.below(2) as usize];
        cluster.node(gone).kill9();
        more(&mut load).await;
        let stopped = load.stop().await;
        println!("node {lost} lost its disk, node {gone} is down");
        stopped.assert_sequences_known().await;
        stopped.check().await;
        cluster.node(gone).spawn();
        cluster.wait_until_whole().await;
        judge(&mut cluster, &stopped).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_acknowledges_nothing() {
    alone(400, "minority", async |mut random| {
        let mut cluster = Cluster::start(&[]).await;
        let places = cluster.places();
        let mut load = Load::start(places.clone(), "load", SHAPE, &mut random).await;
        more(&mut load).await;
        let topic = Topic {
            name: "alone",
            partitions: SHAPE.partitions,
            configs: &[],
        };
        let mut connection = places.any().await.expect("the broker is up");
        connection.create_topic(topic).await.expect("a topic");
        cluster.wait_until_whole().await;

        let left = NODES[random.below(3) as usize];
        let others: Vec<_> = NODES.into_iter().filter(|id| *id != left).collect();
        let mut survivor = cluster.connect(left).await;
        for id in &others {
            cluster.node(*id).kill9();
        }
        for partition in 0..SHAPE.partitions {
            let record = history::batch(0, partition, 100);
            let answer = survivor.produce("alone", partition, record).await;
            println!("node {left} alone, partition {partition}: {answer:?}");
            match answer {
                Ok(answer) => assert_ne!(answer.error_code, 0, "acknowledged: {answer:?}"),
                // No answer is none, and the connection cannot be used for another question.
                Err(_) => survivor = cluster.connect(left).await,
            }
        }
        for id in &others {
            cluster.node(*id).spawn();
        }
        cluster.wait_until_whole().await;
        for partition in 0..SHAPE.partitions {
            settled("a majority acknowledges", async || {
                let mut leader = places.leader("alone", partition).await?;
                let record = history::batch(1, partition, 100);
                let answer = leader.produce("alone", partition, record).await?;
                match answer.error_code {
                    0 => Ok(()),
                    code => Err(ClientError::Kafka {
                        what: "Produce",
                        code,
                    }),
                }
            })
            .await;
        }
        more(&mut load).await;
        let stopped = end(&mut cluster, load).await;
        judge(&mut cluster, &stopped).await;
    })
    .await;
}

async fn more(load: &mut Load) {
    const BATCHES: u64 = 300;
    let before = load.acknowledged_batches();
    load.allow(BATCHES as usize);
    load.wait_for_acknowledged(before + BATCHES).await;
}
