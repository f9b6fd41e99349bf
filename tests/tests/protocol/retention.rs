//! Records that go by age and by size, and what stays of them after a restart.

use std::time::Duration;

use ottla_tests::batch::{Batch, Record, now_ms};
use ottla_tests::broker::Broker;
use ottla_tests::client::{FetchAsk, code};
use ottla_tests::within;

use crate::{Bench, TEST_SECONDS, small};

/// A broker that looks for old records all the time.
const EAGER: &[(&str, &str)] = &[
    ("log.retention.check.interval.ms", "20"),
    ("log.initial.task.delay.ms", "0"),
];
const HOUR_MS: i64 = 3_600_000;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

async fn bench(configs: &[(&str, &str)]) -> Bench {
    Bench::on(Broker::start_with(EAGER).await, 1, configs).await
}

/// One batch of about 64 KB, so that each has its own place in the index.
fn large(timestamp_ms: i64) -> Batch {
    Batch::plain(vec![Record::of(vec![b'v'; 66_000], timestamp_ms)])
}

impl Bench {
    async fn earliest(&mut self) -> i64 {
        self.edge(EARLIEST).await
    }

    pub async fn edge(&mut self, timestamp: i64) -> i64 {
        let found = self
            .connection
            .list_offset(&self.topic, 0, timestamp)
            .await
            .unwrap();
        assert_eq!(found.error_code, 0);
        found.offset
    }

    async fn wait_for_earliest(&mut self, offset: i64) {
        within(TEST_SECONDS, "log start offset", async {
            while self.earliest().await < offset {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(self.earliest().await, offset);
    }

    async fn fetch_code(&mut self, offset: i64) -> i16 {
        let ask = FetchAsk {
            topic_id: self.topic_id,
            ..FetchAsk::of(&self.topic, 0, offset)
        };
        self.connection.fetch(ask).await.unwrap().error_code
    }

    /// Several looks have gone by: a second topic lost its old record meanwhile.
    pub async fn let_looks_pass(&mut self) {
        let (topic, _) = crate::new_topic(&mut self.connection, 1, &[("retention.ms", "1")]).await;
        for offset in 0..3 {
            let old = Batch::plain(vec![Record::of("old", now_ms() - HOUR_MS)]);
            let sent = self
                .connection
                .produce(&topic, 0, old.encode())
                .await
                .unwrap();
            assert_eq!((sent.error_code, sent.base_offset), (0, offset));
            while self
                .connection
                .list_offset(&topic, 0, EARLIEST)
                .await
                .unwrap()
                .offset
                <= offset
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test]
async fn records_go_by_age() {
    let mut bench = bench(&[("retention.ms", "600000")]).await;
    for _ in 0..5 {
        bench.append(&large(now_ms() - HOUR_MS)).await;
    }
    bench.append(&large(now_ms())).await;
    // The last old one shares its interval of the index with the young one's beginning.
    within(TEST_SECONDS, "log start offset", async {
        while bench.earliest().await < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    bench.let_looks_pass().await;
    let earliest = bench.earliest().await;
    assert!((4..=5).contains(&earliest), "{earliest}");
    assert_eq!(bench.edge(LATEST).await, 6);
    assert_eq!(bench.fetch_code(3).await, code::OFFSET_OUT_OF_RANGE);
    assert_eq!(bench.fetch_code(earliest).await, 0);
}

#[tokio::test]
async fn a_log_whose_records_are_all_old_becomes_empty_and_goes_on() {
    let mut bench = bench(&[("retention.ms", "600000")]).await;
    let old = Batch::plain(vec![Record::of("old", now_ms() - HOUR_MS); 7]);
    bench.append(&old).await;
    bench.wait_for_earliest(7).await;
    assert_eq!(bench.append(&small(1)).await, 7);
    bench.broker.kill9();
    bench.broker.restart().await;
    bench.reconnect().await;
    assert_eq!((bench.earliest().await, bench.edge(LATEST).await), (7, 8));
}

#[tokio::test]
async fn records_go_by_size_but_never_below_it() {
    let mut bench = bench(&[("retention.bytes", "200000"), ("retention.ms", "-1")]).await;
    for _ in 0..10 {
        bench.append(&large(now_ms())).await;
    }
    // Four of 66 KB are the fewest that make 200,000 bytes.
    bench.wait_for_earliest(6).await;
    bench.let_looks_pass().await;
    assert_eq!(bench.earliest().await, 6);
    bench.broker.terminate().await;
    bench.broker.restart().await;
    bench.reconnect().await;
    bench.let_looks_pass().await;
    assert_eq!((bench.earliest().await, bench.edge(LATEST).await), (6, 10));
}

#[tokio::test]
async fn a_young_record_keeps_what_follows_it() {
    let mut bench = bench(&[("retention.ms", "600000")]).await;
    for timestamp_ms in [now_ms(), now_ms() - HOUR_MS, now_ms() - HOUR_MS] {
        bench.append(&large(timestamp_ms)).await;
    }
    bench.let_looks_pass().await;
    assert_eq!(bench.earliest().await, 0);
}

/// As long as it is there, a younger record keeps what follows it; then it does not. One from the future is
/// younger than all that is left, another one is not.
#[tokio::test]
async fn a_younger_record_keeps_nothing_once_it_is_deleted() {
    for (place, ahead_ms) in [(0, 1000 * HOUR_MS), (1, 1000 * HOUR_MS), (0, 0), (1, 0)] {
        let mut bench = bench(&[
            ("retention.ms", "600000"),
            ("message.timestamp.after.max.ms", "9223372036854775807"),
        ])
        .await;
        let younger = Record::of("younger", now_ms() + ahead_ms);
        for at in 0..7 {
            if at == place {
                bench.append(&Batch::plain(vec![younger.clone()])).await;
            }
            bench.append(&large(now_ms() - HOUR_MS)).await;
        }
        bench.append(&large(now_ms())).await;
        bench.let_looks_pass().await;
        assert!(bench.earliest().await <= place);
        assert_eq!(bench.delete_records(0, place + 1).await, (0, place + 1));
        within(TEST_SECONDS, "log start offset", async {
            while bench.earliest().await < 7 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!((7..=8).contains(&bench.earliest().await));
    }
}

#[tokio::test]
async fn without_the_delete_policy_or_a_limit_everything_stays() {
    for configs in [
        &[("retention.ms", "-1"), ("retention.bytes", "-1")][..],
        &[
            ("cleanup.policy", "compact"),
            ("retention.ms", "1"),
            ("retention.bytes", "1"),
        ][..],
    ] {
        let mut bench = bench(configs).await;
        for _ in 0..3 {
            bench.append(&large(now_ms() - HOUR_MS)).await;
        }
        bench.let_looks_pass().await;
        assert_eq!(bench.earliest().await, 0, "{configs:?}");
    }
}

#[tokio::test]
async fn retention_follows_the_configuration_as_it_changes() {
    let mut bench = bench(&[("retention.ms", "-1")]).await;
    bench.append(&large(now_ms() - HOUR_MS)).await;
    bench.let_looks_pass().await;
    assert_eq!(bench.earliest().await, 0);
    bench.alter_topic("retention.ms", "1000").await;
    bench.wait_for_earliest(1).await;
}

impl Bench {
    pub async fn alter_topic(&mut self, key: &str, value: &str) {
        let altered = self.connection.alter_topic(&self.topic, key, value).await;
        altered.expect("it may be altered");
    }
}
