//! Folders without damage.

use std::time::Duration;

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{DeleteRecordsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::batch::{Batch, Record};
use ottla_tests::broker::Broker;
use ottla_tests::load::{Load, Shape};
use ottla_tests::random::Random;
use ottla_tests::within;

use super::*;

async fn delete_records(broker: &Broker, topic: &'static str, offset: i64) {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(0)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(topic)))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer = connect(broker).await.call(2, &request).await;
    let answer = answer.expect("it is answered");
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_whole_after_a_stop_and_after_a_kill() {
    within(120, "whole folders", async {
        let mut broker = Broker::start().await;
        create(&broker, TOPIC, &[]).await;
        create(&broker, "gone", &[]).await;
        create(&broker, "empty", &[]).await;
        produce(&broker, TOPIC, 0..40).await;
        produce(&broker, "gone", 0..10).await;
        doctor(&broker).assert(NOT_CHECKED, &["a broker has it open", "process"]);
        flush(&mut broker).await;
        produce(&broker, TOPIC, 40..60).await;
        delete_records(&broker, TOPIC, 25).await;
        connect(&broker)
            .await
            .delete_topic("gone")
            .await
            .expect("deleted");
        broker.terminate().await;
        let before = contents(&broker.data());
        let verdict = doctor(&broker).assert(WHOLE, &["doctor-0", "doctor-2", "empty-0", "MB/s"]);
        assert!(before == contents(&broker.data()), "the folder was changed");
        let line = verdict.text.lines().find(|l| l.starts_with("doctor-0"));
        let cells: Vec<_> = line.expect("a line").split_whitespace().collect();
        assert!(cells.contains(&"25") && cells.contains(&"60"), "{cells:?}");

        broker.restart().await;
        produce(&broker, TOPIC, 60..80).await;
        broker.kill9();
        let before = contents(&broker.data());
        let json = doctor_with(&broker.data(), &["--json"]).assert(WHOLE, &["\"damaged\":false"]);
        assert!(json.text.contains("\"log_end_offset\":80"), "{}", json.text);
        assert!(before == contents(&broker.data()), "the folder was changed");
    })
    .await;
}

/// Kills while batches are in flight, and while records are compacted, expired and removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_whole_after_many_kills() {
    const KILLS: u64 = 12;
    const SHAPE: Shape = Shape {
        producers: 4,
        readers: 1,
        partitions: 4,
        batch_records: 16,
        value_bytes: 600,
        one_fat_in: 20,
        fat_bytes: 300_000,
    };
    let seed = Random::seed();
    println!("OTTLA_SEED={seed}");
    let mut random = Random::new(seed);
    within(300, "kills", async move {
        let mut broker = Broker::start_with(&[
            ("log.cleaner.backoff.ms", "1"),
            ("log.roll.ms", "1"),
            ("log.cleaner.min.cleanable.ratio", "0.01"),
            ("log.retention.check.interval.ms", "20"),
        ])
        .await;
        create(&broker, "compacted", &[("cleanup.policy", "compact")]).await;
        create(&broker, "short", &[("retention.bytes", "200000")]).await;
        let mut load = Load::start(broker.address, "load", SHAPE, &mut random).await;
        for round in 0..KILLS {
            produce(&broker, "short", round * 20..round * 20 + 20).await;
            keyed(&broker, "compacted", round).await;
            let before = load.acknowledged_batches();
            load.allow(100);
            load.wait_for_acknowledged(before + random.below(90)).await;
            tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
            match random.one_in(3) {
                true => flush(&mut broker).await,
                false => {
                    broker.kill9();
                    let verdict = doctor(&broker).assert(WHOLE, &[]);
                    assert!(verdict.text.contains("load-0"), "{}", verdict.text);
                    broker.restart().await;
                }
            }
        }
        drop(load.stop().await);
        broker.terminate().await;
        doctor(&broker).assert(WHOLE, &["whole, compacted"]);
    })
    .await;
}

/// The same keys again and again, so that compaction has work.
async fn keyed(broker: &Broker, topic: &str, round: u64) {
    let mut connection = connect(broker).await;
    for number in 0..20 {
        let mut record = Record::of(format!("{round} {number}"), 1_700_000_000_000);
        record.key = Some(format!("key {}", number % 5).into());
        let batch = Batch::plain(vec![record]).encode();
        let sent = connection.produce(topic, 0, batch).await;
        assert_eq!(sent.expect("answered").error_code, 0);
    }
}
