//! The metadata log is cut behind snapshots: who was away meanwhile, who starts again and who comes with an
//! empty disk all know what is there, and the folders are whole.

use std::collections::BTreeSet;
use std::process::Command;

use ottla_tests::broker::binary;
use ottla_tests::client::Topic;
use ottla_tests::cluster::{Cluster, NODES, wait_for};

use crate::alone;

const ROUNDS: usize = 3;
const TOPICS: usize = 15;
const WRITTEN: &str = "wrote a snapshot of the metadata";
/// So few that many snapshots are written.
const EVERY_BYTES: &str = "4000";

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_log_that_was_cut_tells_everything() {
    alone(300, "metadata snapshots", async |_| {
        let key = "metadata.log.max.record.bytes.between.snapshots";
        let mut cluster = Cluster::start(&[(key, EVERY_BYTES)]).await;
        let away = 3;
        cluster.node(away).kill9();
        let mut wanted = BTreeSet::new();
        for round in 0..ROUNDS {
            let before = snapshots(&cluster);
            change(&cluster, round, &mut wanted).await;
            wait_for("a snapshot", async || match snapshots(&cluster) {
                count if count > before => Ok(()),
                count => Err(format!("{count}")),
            })
            .await;
        }

        cluster.node(away).spawn();
        cluster.wait_until_whole().await;
        assert_all_know(&cluster, &wanted).await;
        cluster.kill9_all();
        cluster.spawn_all();
        cluster.wait_until_whole().await;
        assert_all_know(&cluster, &wanted).await;
        cluster.node(1).kill9();
        std::fs::remove_dir_all(cluster.node(1).data()).expect("the folder is there");
        cluster.node(1).spawn();
        cluster.wait_until_whole().await;
        assert_all_know(&cluster, &wanted).await;

        cluster.stop_all().await;
        for id in NODES {
            let data = cluster.node(id).data();
            let checked = Command::new(binary()).arg("doctor").arg(data).output();
            let checked = checked.expect("the program runs");
            let text = String::from_utf8_lossy(&checked.stdout).into_owned();
            assert!(checked.status.success(), "node {id}:\n{text}");
        }
    })
    .await;
}

/// Makes topics, and deletes every third again.
async fn change(cluster: &Cluster, round: usize, wanted: &mut BTreeSet<String>) {
    let mut connection = cluster.connect(1).await;
    for number in 0..TOPICS {
        let name = format!("topic-{round}-{number}");
        let topic = Topic {
            name: &name,
            partitions: 3,
            configs: &[("retention.ms", "86400000")],
        };
        connection.create_topic(topic).await.expect("it is made");
        if number % 3 == 0 {
            connection.delete_topic(&name).await.expect("it goes");
        } else {
            wanted.insert(name);
        }
    }
}

/// How many were written, by whichever node.
fn snapshots(cluster: &Cluster) -> usize {
    let written = |id: i32| cluster.log(id).matches(WRITTEN).count();
    NODES.into_iter().map(written).sum()
}

async fn assert_all_know(cluster: &Cluster, wanted: &BTreeSet<String>) {
    for id in NODES {
        let topics = cluster.topics(id).await.expect("the node is up");
        let names = topics.iter().filter_map(|t| t.name.as_ref());
        let names: BTreeSet<String> = names.map(|name| name.to_string()).collect();
        let missing: Vec<_> = wanted.difference(&names).collect();
        let surplus = names.difference(wanted).filter(|n| n.starts_with("topic-"));
        let surplus: Vec<_> = surplus.collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "node {id} misses {missing:?}, and has {surplus:?}"
        );
    }
}
