use ottla_proto::limits::PRODUCER_ID_BLOCK;

use uuid::Uuid;

use super::*;
use crate::MemoryLog;
use crate::alter_configs::{Change, Resource};
use crate::create_topics::NewTopic;
use crate::tests::{registration, server};

fn topic(name: &str, num_partitions: i32) -> CreateTopics {
    let topic = NewTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor: 1,
        ..NewTopic::default()
    };
    CreateTopics {
        topics: vec![topic],
        validate_only: false,
    }
}

/// A bootstrapped cluster with the live broker 1.
async fn controller(now: Instant) -> (MemoryLog, Controller<MemoryLog>) {
    let log = MemoryLog::default();
    let controller = Controller::new(log.clone(), server(&[]));
    controller.bootstrap("c").await.unwrap().unwrap();
    start_broker(&controller, 1, now).await;
    (log, controller)
}

async fn start_broker(controller: &Controller<MemoryLog>, id: NodeId, now: Instant) {
    let request = registration(id, None, 1);
    let broker_epoch = controller
        .register_broker(&request, now)
        .await
        .unwrap()
        .unwrap();
    let beat = Heartbeat {
        broker_id: id,
        broker_epoch,
        ..Heartbeat::default()
    };
    controller.heartbeat(&beat, now).await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_hold_in_the_image() {
    let now = Instant::now();
    let (log, controller) = controller(now).await;
    controller.bootstrap("c").await.unwrap().unwrap();
    assert!(controller.bootstrap("d").await.unwrap().is_err());
    let reply = controller.create_topics(&topic("a", 3)).await.unwrap();
    let id = reply[0].1.as_ref().unwrap().topic_id;
    assert_eq!(
        controller.image().topic_by_id(id).unwrap().partitions.len(),
        3
    );
    assert_eq!(log.batches().len(), 4, "one batch per change");
    let keys = [TopicKey::Id(id)];
    controller.delete_topics(&keys).await.unwrap()[0]
        .1
        .as_ref()
        .unwrap();
    assert_eq!(controller.image().topic_count(), 0);
    assert_eq!(log.barriers(), 1);
}

#[tokio::test]
async fn concurrent_requests_get_ids_of_their_own() {
    let (_, controller) = controller(Instant::now()).await;
    let controller = Arc::new(controller);
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let controller = controller.clone();
            tokio::spawn(async move {
                controller
                    .create_topics(&topic(&format!("t{n}"), 2))
                    .await
                    .unwrap();
                controller
                    .allocate_producer_ids(1, 0)
                    .await
                    .unwrap()
                    .unwrap()
                    .first
            })
        })
        .collect();
    let mut blocks = Vec::new();
    for task in tasks {
        blocks.push(task.await.unwrap());
    }
    blocks.sort_unstable();
    assert!(
        blocks
            .into_iter()
            .eq((0..50).map(|n| n * PRODUCER_ID_BLOCK))
    );
    assert_eq!(controller.image().partition_count(), 100);
}

#[tokio::test]
async fn an_append_without_an_answer_is_waited_for() {
    let (log, controller) = controller(Instant::now()).await;
    log.time_out_next();
    let error = controller.create_topics(&topic("a", 2)).await.unwrap_err();
    assert_eq!(error, ControllerError::Append(AppendError::Timeout));
    assert!(controller.image().topic("a").is_none());
    // It comes through after all, and what follows builds on it.
    controller.create_topics(&topic("b", 1)).await.unwrap()[0]
        .1
        .as_ref()
        .unwrap();
    let image = controller.image();
    assert_eq!(image.topic("a").unwrap().partitions[1].id.0, 2);
    assert_eq!(image.topic("b").unwrap().partitions[0].id.0, 3);
    assert_eq!(log.barriers(), 2);
}

#[tokio::test]
async fn decides_only_while_it_leads() {
    let now = Instant::now();
    let (log, controller) = controller(now).await;
    log.set_leader_epoch(None);
    let not_controller = ControllerError::Append(AppendError::NotController);
    let refused = controller.create_topics(&topic("a", 1)).await.unwrap_err();
    assert_eq!(refused, not_controller);
    let beat = Heartbeat {
        broker_id: 1,
        ..Heartbeat::default()
    };
    assert_eq!(
        controller.heartbeat(&beat, now).await.unwrap_err(),
        not_controller
    );
    log.set_leader_epoch(Some(2));
    controller.create_topics(&topic("a", 1)).await.unwrap()[0]
        .1
        .as_ref()
        .unwrap();
    assert_eq!(log.barriers(), 2, "a new epoch starts with a barrier");
}

#[tokio::test]
async fn silent_brokers_are_fenced() {
    let start = Instant::now();
    let (log, controller) = controller(start).await;
    start_broker(&controller, 2, start).await;
    let timeout = Duration::from_millis(server(&[]).lifecycle.session_timeout_ms);
    let beat = Heartbeat {
        broker_id: 2,
        broker_epoch: 1,
        ..Heartbeat::default()
    };
    let later = start + timeout / 2;
    controller.heartbeat(&beat, later).await.unwrap().unwrap();
    assert!(controller.fence_expired(later).await.unwrap().is_empty());
    let end = start + timeout;
    assert_eq!(controller.fence_expired(end).await.unwrap(), [1]);
    assert!(controller.image().broker(1).unwrap().fenced);
    // A session that ended frees the id; one that goes on does not.
    let mut other = registration(2, None, 5);
    other.log_dirs = vec![Uuid::from_u128(99)];
    let taken = controller.register_broker(&other, end).await.unwrap();
    assert_eq!(taken, Err(RegisterError::Duplicate(2)));
    let free = controller
        .register_broker(&registration(1, None, 5), end)
        .await
        .unwrap();
    assert_eq!(free, Ok(2));
    // A controller that takes over gives the unfenced ones time.
    log.set_leader_epoch(Some(2));
    let much_later = end + 10 * timeout;
    assert!(
        controller
            .fence_expired(much_later)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        controller
            .fence_expired(much_later + timeout)
            .await
            .unwrap(),
        [2]
    );
}

#[tokio::test]
async fn dynamic_defaults_of_all_brokers_count() {
    let (_, controller) = controller(Instant::now()).await;
    let alter = async |resource, key: &str, value: &str| {
        let configs = vec![(key.to_owned(), Some(value.to_owned()))];
        let request = AlterConfigs {
            resources: vec![(resource, Change::Replace(configs))],
            validate_only: false,
        };
        controller
            .alter_configs(&request)
            .await
            .unwrap()
            .remove(0)
            .1
    };
    controller.create_topics(&topic("a", 1)).await.unwrap();
    let (min, max) = ("min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms");
    let a = || Resource::Topic("a".to_owned());
    alter(a(), min, "20").await.unwrap();
    alter(Resource::Broker(None), max, "10").await.unwrap();
    alter(a(), min, "21").await.unwrap_err();
    alter(a(), min, "9").await.unwrap();
    let mut request = topic("b", 1);
    request.topics[0].configs = vec![(min.to_owned(), Some("11".to_owned()))];
    controller.create_topics(&request).await.unwrap()[0]
        .1
        .as_ref()
        .unwrap_err();
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let (_, controller) = controller(Instant::now()).await;
    let name = |n: usize| format!("{n:05}-{}", "x".repeat(240));
    let topics = (0..9000)
        .map(|n| topic(&name(n), 1).topics.remove(0))
        .collect();
    let request = CreateTopics {
        topics,
        validate_only: false,
    };
    let error = controller.create_topics(&request).await.unwrap_err();
    assert!(matches!(error, ControllerError::TooLarge(_)));
    assert_eq!(controller.image().topic_count(), 0);
    // The largest number of partitions fits.
    controller
        .create_topics(&topic("wide", 10_000))
        .await
        .unwrap()[0]
        .1
        .as_ref()
        .unwrap();
}
