//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords, committed offsets.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use kafka_protocol::messages::{DeleteRecordsRequest, OffsetForLeaderEpochRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::batch::{Batch, Codec, Record, now_ms};
use ottla_tests::client::{FetchAsk, code};
use ottla_tests::within;

use crate::{Bench, TEST_SECONDS, small};

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

impl Bench {
    async fn offset(&mut self, timestamp: i64) -> i64 {
        let version = if timestamp < -4 { 9 } else { 8 };
        let found = self
            .connection
            .list_offset_at(version, &self.topic, 0, timestamp)
            .await
            .unwrap();
        assert_eq!(found.error_code, 0, "timestamp {timestamp}");
        found.offset
    }

    /// Error code and low watermark.
    pub async fn delete_records(&mut self, partition: i32, before: i64) -> (i16, i64) {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(partition)
            .with_offset(before);
        let topic = DeleteRecordsTopic::default()
            .with_name(name(&self.topic))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        let answer = self.connection.call(2, &request).await.unwrap();
        let partition = &answer.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark)
    }

    /// As [`Bench::delete_records`] for several entries of one request.
    async fn delete_records_of(&mut self, topics: &[&[(i32, i64)]]) -> Vec<Vec<(i16, i64)>> {
        let partition = |&(index, before): &(i32, i64)| {
            DeleteRecordsPartition::default()
                .with_partition_index(index)
                .with_offset(before)
        };
        let topic = |partitions: &&[(i32, i64)]| {
            DeleteRecordsTopic::default()
                .with_name(name(&self.topic))
                .with_partitions(partitions.iter().map(partition).collect())
        };
        let request = DeleteRecordsRequest::default()
            .with_topics(topics.iter().map(topic).collect())
            .with_timeout_ms(10_000);
        let answer = self.connection.call(2, &request).await.unwrap();
        let outcomes = answer.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            partitions
                .map(|p| (p.error_code, p.low_watermark))
                .collect()
        });
        outcomes.collect()
    }

    async fn end_of_epoch(&mut self, current: i32, epoch: i32) -> EpochEndOffset {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name(&self.topic))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic]);
        let answer = self.connection.call(4, &request).await.unwrap();
        answer.topics[0].partitions[0].clone()
    }

    async fn leader_epoch(&mut self) -> i32 {
        let metadata = self.connection.metadata(&self.topic).await.unwrap();
        metadata.topics[0].partitions[0].leader_epoch
    }
}

#[tokio::test]
async fn special_timestamps() {
    within(TEST_SECONDS, "special timestamps", async {
        let mut bench = Bench::start().await;
        assert_eq!(
            (bench.offset(-1).await, bench.offset(-2).await),
            (0, 0),
            "an empty partition"
        );
        assert_eq!(
            bench.offset(-3).await,
            -1,
            "no newest timestamp in an empty partition"
        );
        let now = now_ms();
        let stamps = [now - 50, now - 10, now - 20, now - 30];
        for stamp in stamps {
            bench
                .append(&Batch::plain(vec![
                    Record::of("v", stamp),
                    Record::of("v", stamp - 1000),
                ]))
                .await;
        }
        bench.delete_records(0, 1).await;
        assert_eq!(bench.offset(-1).await, 8, "latest");
        assert_eq!(bench.offset(-2).await, 1, "earliest");
        let newest = bench
            .connection
            .list_offset_at(8, &bench.topic, 0, -3)
            .await
            .unwrap();
        assert_eq!(
            (newest.offset, newest.timestamp),
            (2, now - 10),
            "the newest timestamp"
        );
        assert_eq!(
            bench.offset(-4).await,
            1,
            "earliest local: everything is local"
        );
        assert_eq!(
            bench.offset(-5).await,
            -1,
            "latest tiered: nothing is tiered"
        );
    })
    .await;
}

/// The first record at or after a time, also inside compressed batches.
#[tokio::test]
async fn by_time() {
    within(TEST_SECONDS, "by time", async {
        for codec in [Codec::None, Codec::Gzip, Codec::Lz4] {
            let mut bench = Bench::start().await;
            let start = now_ms() - 100_000;
            for batch in 0..5 {
                let records = (0..10)
                    .map(|n| Record::of("v", start + 1000 * batch + 10 * n))
                    .collect();
                bench.append(&Batch::plain(records).with_codec(codec)).await;
            }
            let cases = [
                (start - 1, 0, start),
                (start, 0, start),
                (start + 1, 1, start + 10),
                (start + 90, 9, start + 90),
                (start + 91, 10, start + 1000),
                (start + 2035, 24, start + 2040),
                (start + 4090, 49, start + 4090),
                (start + 4091, -1, -1),
            ];
            for (time, offset, timestamp) in cases {
                let found = bench
                    .connection
                    .list_offset(&bench.topic, 0, time)
                    .await
                    .unwrap();
                let seen = (found.error_code, found.offset, found.timestamp);
                assert_eq!(
                    seen,
                    (0, offset, timestamp),
                    "{codec:?} at {}",
                    time - start
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_partitions() {
    within(TEST_SECONDS, "unknown", async {
        let mut bench = Bench::start().await;
        for (topic, partition) in [("absent".to_owned(), 0), (bench.topic.clone(), 9)] {
            let found = bench
                .connection
                .list_offset(&topic, partition, -1)
                .await
                .unwrap();
            assert_eq!(
                found.error_code,
                code::UNKNOWN_TOPIC_OR_PARTITION,
                "{topic} {partition}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn end_offsets_of_epochs() {
    within(TEST_SECONDS, "epochs", async {
        let mut bench = Bench::restartable().await;
        bench.append(&small(3)).await;
        let first = bench.leader_epoch().await;
        let found = bench.end_of_epoch(first, first).await;
        assert_eq!(
            (found.error_code, found.leader_epoch, found.end_offset),
            (0, first, 3)
        );
        assert_eq!(
            bench.end_of_epoch(first + 1, first).await.error_code,
            code::UNKNOWN_LEADER_EPOCH
        );
        let beyond = bench.end_of_epoch(first, first + 5).await;
        assert_eq!(
            (beyond.error_code, beyond.leader_epoch, beyond.end_offset),
            (0, -1, -1),
            "an epoch to come"
        );

        bench.broker.kill9();
        bench.broker.restart().await;
        bench.reconnect().await;
        let second = bench.leader_epoch().await;
        assert!(
            second > first,
            "a new leadership has a new epoch: {first}, then {second}"
        );
        assert_eq!(bench.append(&small(4)).await, 3);
        let old = bench.end_of_epoch(second, first).await;
        assert_eq!(
            (old.error_code, old.leader_epoch, old.end_offset),
            (0, first, 3),
            "where the old epoch ended"
        );
        let new = bench.end_of_epoch(second, second).await;
        assert_eq!(
            (new.error_code, new.leader_epoch, new.end_offset),
            (0, second, 7)
        );
        assert_eq!(
            bench.end_of_epoch(first, first).await.error_code,
            code::FENCED_LEADER_EPOCH
        );
        // A consumer that had read up to 5 in the first epoch goes on at 5.
        assert_eq!(bench.delete_records(0, 5).await, (0, 5));
        let gone = bench.end_of_epoch(second, first).await;
        assert_eq!(
            (gone.error_code, gone.leader_epoch, gone.end_offset),
            (0, first, 5)
        );
        let ask = FetchAsk {
            leader_epoch: first,
            ..FetchAsk::of(&bench.topic, 0, 0)
        };
        assert_eq!(
            bench.connection.fetch(ask).await.unwrap().error_code,
            code::FENCED_LEADER_EPOCH
        );
    })
    .await;
}

#[tokio::test]
async fn deleted_records_stay_deleted() {
    within(TEST_SECONDS, "DeleteRecords", async {
        let mut bench = Bench::restartable().await;
        for _ in 0..4 {
            bench.append(&small(5)).await;
        }
        assert_eq!(
            bench.delete_records(0, 21).await.0,
            code::OFFSET_OUT_OF_RANGE,
            "above the high watermark"
        );
        assert_eq!(
            bench.delete_records(3, 1).await.0,
            code::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(bench.delete_records(0, 7).await, (0, 7));
        assert_eq!(
            bench.delete_records(0, 3).await,
            (0, 7),
            "the log start offset never moves back"
        );
        for round in 0..3 {
            assert_eq!(
                (bench.offset(-2).await, bench.offset(-1).await),
                (7, 20),
                "round {round}"
            );
            let below = bench
                .connection
                .fetch(FetchAsk::of(&bench.topic, 0, 6))
                .await
                .unwrap();
            assert_eq!(below.error_code, code::OFFSET_OUT_OF_RANGE, "round {round}");
            let at = bench
                .connection
                .fetch(FetchAsk::of(&bench.topic, 0, 7))
                .await
                .unwrap();
            assert_eq!(
                (at.error_code, at.log_start_offset),
                (0, 7),
                "round {round}"
            );
            match round {
                0 => bench.broker.kill9(),
                _ => bench.broker.terminate().await,
            }
            bench.broker.restart().await;
            bench.reconnect().await;
        }
        assert_eq!(
            bench.delete_records(0, -1).await,
            (0, 20),
            "-1 is the high watermark"
        );
        assert_eq!(bench.append(&small(1)).await, 20);
    })
    .await;
}

#[tokio::test]
async fn committed_offsets_survive_kill9() {
    within(TEST_SECONDS, "commits", async {
        let mut bench = Bench::restartable().await;
        let topic = bench.topic.clone();
        assert_eq!(
            bench.connection.find_coordinator("g").await.unwrap().1,
            i32::from(bench.broker.address.port())
        );
        assert_eq!(
            committed(&mut bench, &topic).await,
            -1,
            "an unknown group has no offset, and no error"
        );
        for offset in [5, 9] {
            bench
                .connection
                .commit("g", &topic, 0, offset)
                .await
                .unwrap();
            assert_eq!(committed(&mut bench, &topic).await, offset);
            bench.broker.kill9();
            bench.broker.restart().await;
            bench.reconnect().await;
            assert_eq!(committed(&mut bench, &topic).await, offset, "after kill -9");
        }
    })
    .await;
}

/// The committed offset of group `g`; a coordinator that still loads is asked again, as clients do.
async fn committed(bench: &mut Bench, topic: &str) -> i64 {
    loop {
        match bench.connection.committed("g", topic, 0).await {
            Ok(offset) => return offset,
            Err(ottla_tests::client::ClientError::Kafka { code, .. })
                if code::is_retriable(code) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Kafka's rule for a null value (a tombstone) and an empty one: they are not the same.
#[tokio::test]
async fn null_and_empty_values_differ() {
    within(TEST_SECONDS, "null", async {
        let mut bench = Bench::start().await;
        let stamp = now_ms();
        let values = [None, Some(Bytes::new()), Some(Bytes::from_static(b"v"))];
        let records = values.map(|value| Record {
            key: Some(Bytes::from_static(b"k")),
            value,
            timestamp_ms: stamp,
        });
        bench.append(&Batch::plain(records.to_vec())).await;
        let data = bench
            .connection
            .fetch(FetchAsk::of(&bench.topic, 0, 0))
            .await
            .unwrap();
        let read = ottla_tests::batch::read_all(data.records.unwrap()).unwrap();
        let back: Vec<Record> = read[0]
            .records
            .iter()
            .map(|(_, record)| record.clone())
            .collect();
        assert_eq!(back, records);
    })
    .await;
}

/// Each entry is answered, and the highest offset counts, wherever in the request it stands.
#[tokio::test]
async fn records_of_a_partition_that_is_named_twice_are_deleted_once() {
    within(TEST_SECONDS, "DeleteRecords twice", async {
        let mut bench = Bench::start().await;
        bench.append(&small(20)).await;
        let asked: [&[(i32, i64)]; 3] = [&[(0, 5), (0, 9), (3, 1)], &[(0, 2)], &[(0, 21)]];
        let answered = bench.delete_records_of(&asked).await;
        let unknown = (code::UNKNOWN_TOPIC_OR_PARTITION, -1);
        let beyond = (code::OFFSET_OUT_OF_RANGE, -1);
        assert_eq!(
            answered,
            [vec![(0, 9), (0, 9), unknown], vec![(0, 9)], vec![beyond]]
        );
        assert_eq!((bench.offset(-2).await, bench.offset(-1).await), (9, 20));
    })
    .await;
}

/// Each kind of question is known from a version on (KIP-734, KIP-405, KIP-1005).
#[tokio::test]
async fn questions_without_a_time_have_their_versions() {
    within(TEST_SECONDS, "ListOffsets versions", async {
        let mut bench = Bench::start().await;
        bench.append(&small(3)).await;
        for (timestamp, first) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9)] {
            for version in 1..=10 {
                let topic = bench.topic.clone();
                let asked = bench
                    .connection
                    .list_offset_at(version, &topic, 0, timestamp);
                let error_code = asked.await.unwrap().error_code;
                let expected = if version < first {
                    code::UNSUPPORTED_VERSION
                } else {
                    0
                };
                assert_eq!(error_code, expected, "{timestamp} in v{version}");
            }
        }
    })
    .await;
}
