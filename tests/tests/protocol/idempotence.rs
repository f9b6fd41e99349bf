//! Sequences of idempotent producers (KIP-98), and that they survive.

use ottla_tests::client::code;
use ottla_tests::within;

use crate::{Bench, TEST_SECONDS, small};

/// Batches of three records from one producer.
struct Sender {
    bench: Bench,
    producer_id: i64,
    epoch: i16,
}

impl Sender {
    async fn start() -> Sender {
        Sender::on(Bench::start().await).await
    }

    async fn on(mut bench: Bench) -> Sender {
        let (producer_id, epoch) = bench
            .connection
            .init_producer_id()
            .await
            .expect("a producer id");
        Sender {
            bench,
            producer_id,
            epoch,
        }
    }

    async fn send(&mut self, sequence: i32) -> (i16, i64) {
        self.send_as(self.producer_id, self.epoch, sequence).await
    }

    /// Error code and base offset.
    async fn send_as(&mut self, producer_id: i64, epoch: i16, sequence: i32) -> (i16, i64) {
        let batch = small(3).by(producer_id, epoch, sequence).encode();
        let answer = self
            .bench
            .connection
            .produce(&self.bench.topic, 0, batch)
            .await
            .expect("Produce is answered");
        (answer.error_code, answer.base_offset)
    }
}

const REFUSED: (i16, i64) = (code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);

#[tokio::test]
async fn duplicates_get_their_offset_back() {
    within(TEST_SECONDS, "duplicates", async {
        let mut sender = Sender::start().await;
        for n in 0..8 {
            assert_eq!(sender.send(3 * n).await, (0, 3 * i64::from(n)));
        }
        for n in (3..8).rev() {
            assert_eq!(
                sender.send(3 * n).await,
                (0, 3 * i64::from(n)),
                "one of the last five"
            );
        }
        let (error, _) = sender.send(0).await;
        let old = [
            code::OUT_OF_ORDER_SEQUENCE_NUMBER,
            code::DUPLICATE_SEQUENCE_NUMBER,
        ];
        assert!(
            old.contains(&error),
            "older than the last five: error {error}"
        );
        let end = sender
            .bench
            .connection
            .list_offset(&sender.bench.topic, 0, -1)
            .await
            .unwrap();
        assert_eq!(end.offset, 24, "nothing was appended twice");
    })
    .await;
}

#[tokio::test]
async fn gaps_are_refused() {
    within(TEST_SECONDS, "gaps", async {
        let mut sender = Sender::start().await;
        assert_eq!(sender.send(0).await, (0, 0));
        assert_eq!(sender.send(6).await, REFUSED);
        assert_eq!(sender.send(4).await, REFUSED);
        assert_eq!(
            sender.send(1).await,
            REFUSED,
            "overlaps the first batch without being it"
        );
        assert_eq!(sender.send(3).await, (0, 3));
        assert_eq!(sender.send(6).await, (0, 6));
    })
    .await;
}

#[tokio::test]
async fn epochs_only_rise() {
    within(TEST_SECONDS, "epochs", async {
        let mut sender = Sender::start().await;
        let (id, epoch) = (sender.producer_id, sender.epoch);
        assert_eq!(sender.send(0).await, (0, 0));
        assert_eq!(
            sender.send_as(id, epoch + 1, 3).await,
            REFUSED,
            "a new epoch begins at sequence 0"
        );
        assert_eq!(sender.send_as(id, epoch + 1, 0).await, (0, 3));
        assert_eq!(
            sender.send_as(id, epoch, 3).await,
            (code::INVALID_PRODUCER_EPOCH, -1)
        );
        assert_eq!(sender.send_as(id, epoch + 1, 3).await, (0, 6));
    })
    .await;
}

/// Kafka takes any first sequence from a producer whose state it does not have: it may have expired.
#[tokio::test]
async fn a_producer_without_state_begins_anywhere_and_wraps() {
    within(TEST_SECONDS, "wrap", async {
        let mut sender = Sender::start().await;
        assert_eq!(sender.send(i32::MAX - 2).await, (0, 0));
        assert_eq!(sender.send(0).await, (0, 3), "after 2^31 - 1 comes 0");
        assert_eq!(
            sender.send(i32::MAX - 2).await,
            (0, 0),
            "a duplicate of the first"
        );
        assert_eq!(sender.send(3).await, (0, 6));
    })
    .await;
}

#[tokio::test]
async fn partitions_count_apart() {
    within(TEST_SECONDS, "partitions", async {
        let mut bench = Bench::with_topic(2, &[]).await;
        let (id, epoch) = bench.connection.init_producer_id().await.unwrap();
        for partition in [0, 1] {
            let batch = small(3).by(id, epoch, 0).encode();
            let answer = bench
                .connection
                .produce(&bench.topic, partition, batch)
                .await
                .unwrap();
            assert_eq!((answer.error_code, answer.base_offset), (0, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn producer_ids_are_new_each_time_and_after_kill9() {
    within(TEST_SECONDS, "producer ids", async {
        let mut bench = Bench::restartable().await;
        let mut ids = std::collections::BTreeSet::new();
        for round in 0..3 {
            for _ in 0..20 {
                let (id, epoch) = bench.connection.init_producer_id().await.unwrap();
                assert!(
                    id >= 0 && epoch == 0 && ids.insert(id),
                    "round {round}: id {id} epoch {epoch}"
                );
            }
            bench.broker.kill9();
            bench.broker.restart().await;
            bench.reconnect().await;
        }
    })
    .await;
}

#[tokio::test]
async fn sequences_survive_kill9_and_sigterm() {
    within(TEST_SECONDS, "sequences", async {
        let mut sender = Sender::on(Bench::restartable().await).await;
        for n in 0..7 {
            assert_eq!(sender.send(3 * n).await, (0, 3 * i64::from(n)));
        }
        for round in 0..4 {
            match round % 2 {
                0 => sender.bench.broker.kill9(),
                _ => sender.bench.broker.terminate().await,
            }
            sender.bench.broker.restart().await;
            sender.bench.reconnect().await;
            let next = 7 + round;
            for n in next - 5..next {
                assert_eq!(
                    sender.send(3 * n).await,
                    (0, 3 * i64::from(n)),
                    "round {round}: a duplicate"
                );
            }
            assert_eq!(
                sender.send(3 * next + 3).await,
                REFUSED,
                "round {round}: a gap"
            );
            assert_eq!(
                sender.send(3 * next).await,
                (0, 3 * i64::from(next)),
                "round {round}: the next"
            );
        }
    })
    .await;
}
