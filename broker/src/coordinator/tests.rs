//! Shards at work on a replication group of one, over memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ottla_coordinator::{
    Command, CommitOffsets, CommitPartition, CommitTopic, FetchGroup, FetchOffsets, GroupConfig,
    GroupError, GroupState, Heartbeat, JoinGroup, Joined, Protocol, Response, SyncGroup,
};
use ottla_log::MemoryStore;
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};
use ottla_raft::{Group, Groups};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::bounds::Bounds;
use super::task::{Request, Task};
use super::{CoordinatorError, ask};
use crate::topics::Replica;

const WAIT: Duration = Duration::from_secs(10);

fn clock() -> ottla_raft::Clock {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
    };
    Arc::new(move || now().as_millis() as i64)
}

/// A partition that this process leads.
struct World {
    replica: Replica,
    loads: Arc<Semaphore>,
    config: GroupConfig,
    _groups: Groups,
}

impl World {
    async fn new() -> World {
        let groups = Groups::new(
            Arc::new(MemoryStore::default()),
            clock(),
            &MemoryShares::of(MIN_MEMORY_BYTES),
        );
        let group: Arc<Group> = groups.start_alone(GroupId(1), 7).await.expect("it starts");
        group
            .wait_for_leadership(WAIT)
            .await
            .expect("alone, it leads");
        let config = GroupConfig {
            initial_rebalance_delay_ms: 20,
            ..GroupConfig::default()
        };
        World {
            replica: Replica {
                partition: group.partition(PartitionId(4)),
                group,
            },
            loads: Arc::new(Semaphore::new(1)),
            config,
            _groups: groups,
        }
    }

    fn start(&self) -> (mpsc::Sender<Request>, JoinHandle<()>) {
        let (sender, requests) = mpsc::channel(8);
        let task = Task {
            name: "__consumer_offsets-0".into(),
            replica: self.replica.clone(),
            config: self.config.clone(),
            clock: clock(),
            loads: self.loads.clone(),
            bounds: Bounds::new(16 << 20),
            requests,
        };
        (sender, tokio::spawn(task.run()))
    }

    /// Ends the task and starts another, which knows only the log.
    async fn restart(
        &self,
        (sender, task): (mpsc::Sender<Request>, JoinHandle<()>),
    ) -> (mpsc::Sender<Request>, JoinHandle<()>) {
        drop(sender);
        within(task).await.expect("it ends without a panic");
        self.start()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(WAIT, future).await.expect("in time")
}

fn commit(group: &str, partition: i32, offset: i64) -> Command {
    Command::CommitOffsets(CommitOffsets {
        group_id: group.into(),
        generation_id: -1,
        member_id: String::new(),
        group_instance_id: None,
        producer: None,
        retention_time_ms: None,
        topics: vec![CommitTopic {
            name: "orders".into(),
            partitions: vec![CommitPartition {
                partition,
                offset,
                leader_epoch: -1,
                metadata: "note".into(),
            }],
        }],
    })
}

/// All committed offsets of a group.
async fn offsets(shard: &mpsc::Sender<Request>, group: &str) -> Vec<(i32, i64, String)> {
    let command = Command::FetchOffsets(FetchOffsets {
        groups: vec![FetchGroup {
            group_id: group.into(),
            topics: None,
        }],
        require_stable: false,
    });
    let groups = loop {
        match within(ask(shard.clone(), command.clone())).await {
            Ok(Response::FetchOffsets(groups)) => break groups,
            Err(CoordinatorError::LoadInProgress) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    let partitions = groups
        .into_iter()
        .flat_map(|g| g.topics)
        .flat_map(|t| t.partitions);
    partitions
        .map(|p| (p.partition, p.offset, p.metadata))
        .collect()
}

fn join(group: &str) -> Command {
    Command::JoinGroup(JoinGroup {
        group_id: group.into(),
        member_id: String::new(),
        group_instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"subscription"),
        }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        client_id: "test".into(),
        client_host: "/127.0.0.1".into(),
        requires_known_member_id: false,
        supports_skip_assignment: false,
        reason: None,
    })
}

async fn joined(shard: &mpsc::Sender<Request>, group: &str) -> Joined {
    match within(ask(shard.clone(), join(group))).await {
        Ok(Response::Join(Ok(joined))) => joined,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn commits_outlive_the_task() {
    let world = World::new().await;
    let shard = world.start();
    let commits = (0..50).map(|p| ask(shard.0.clone(), commit("g", p, i64::from(p) * 10)));
    for answer in within(futures_util::future::join_all(commits)).await {
        let Ok(Response::CommitOffsets(topics)) = answer else {
            panic!("{answer:?}");
        };
        assert!(
            topics[0]
                .partitions
                .iter()
                .all(|(_, error)| error.is_none())
        );
    }
    let expected: Vec<_> = (0..50)
        .map(|p| (p, i64::from(p) * 10, "note".to_owned()))
        .collect();
    assert_eq!(offsets(&shard.0, "g").await, expected);
    let shard = world.restart(shard).await;
    assert_eq!(offsets(&shard.0, "g").await, expected);
}

#[tokio::test]
async fn a_group_forms_by_its_timer_and_is_restored() {
    let world = World::new().await;
    let shard = world.start();
    let joined = joined(&shard.0, "g").await;
    assert_eq!((joined.generation_id, joined.members.len()), (1, 1));
    let sync = Command::SyncGroup(SyncGroup {
        group_id: "g".into(),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"all of it"))],
    });
    match within(ask(shard.0.clone(), sync)).await {
        Ok(Response::Sync(Ok(synced))) => assert_eq!(synced.assignment, "all of it"),
        other => panic!("{other:?}"),
    }
    let shard = world.restart(shard).await;
    // ListGroups waits for the load.
    match within(ask(shard.0.clone(), Command::ListGroups { states: vec![] })).await {
        Ok(Response::ListGroups(groups)) => {
            assert_eq!(groups.len(), 1);
            assert_eq!(groups[0].state, GroupState::Stable);
        }
        other => panic!("{other:?}"),
    }
    let heartbeat = |member_id: String| {
        Command::Heartbeat(Heartbeat {
            group_id: "g".into(),
            generation_id: 1,
            member_id,
            group_instance_id: None,
        })
    };
    let known = within(ask(shard.0.clone(), heartbeat(joined.member_id))).await;
    assert_eq!(known, Ok(Response::Heartbeat(Ok(()))));
    let unknown = within(ask(shard.0.clone(), heartbeat("nobody".into()))).await;
    assert_eq!(
        unknown,
        Ok(Response::Heartbeat(Err(GroupError::UnknownMemberId)))
    );
}

#[tokio::test]
async fn who_waits_is_told_when_the_task_ends() {
    let mut world = World::new().await;
    world.config.initial_rebalance_delay_ms = 600_000;
    let (sender, task) = world.start();
    let waiting = tokio::spawn({
        let sender = sender.clone();
        async move { ask(sender, join("g")).await }
    });
    // The join is in the shard as soon as the group is listed.
    loop {
        match within(ask(sender.clone(), Command::ListGroups { states: vec![] })).await {
            Ok(Response::ListGroups(groups)) if groups.is_empty() => tokio::task::yield_now().await,
            Ok(_) => break,
            other => panic!("{other:?}"),
        }
    }
    drop(sender);
    within(task).await.expect("it ends without a panic");
    let told = within(waiting).await.expect("no panic");
    assert_eq!(told, Err(CoordinatorError::NotCoordinator));
}

#[tokio::test]
async fn while_loading_clients_are_refused_and_listing_waits() {
    let world = World::new().await;
    let shard = world.start();
    within(ask(shard.0.clone(), commit("g", 0, 1)))
        .await
        .expect("committed");
    let permit = world.loads.clone().acquire_owned().await.expect("open");
    let shard = world.restart(shard).await;
    let list = tokio::spawn({
        let sender = shard.0.clone();
        async move { ask(sender.clone(), Command::ListGroups { states: vec![] }).await }
    });
    let refused = within(ask(shard.0.clone(), commit("g", 0, 2))).await;
    assert_eq!(refused, Err(CoordinatorError::LoadInProgress));
    assert!(!list.is_finished());
    drop(permit);
    match within(list).await.expect("no panic") {
        Ok(Response::ListGroups(groups)) => assert_eq!(groups[0].group_id, "g"),
        other => panic!("{other:?}"),
    }
    assert_eq!(offsets(&shard.0, "g").await, [(0, 1, "note".into())]);
}

#[tokio::test]
async fn what_was_not_appended_is_forgotten() {
    let world = World::new().await;
    let (sender, _task) = world.start();
    within(ask(sender.clone(), commit("g", 0, 1)))
        .await
        .expect("committed");
    let partition = world.replica.partition.id;
    let remove = ottla_raft::Command::Remove { partition };
    let removed = world.replica.group.append(vec![remove], 0, None);
    within(removed.outcome()).await.expect("removed");
    let refused = within(ask(sender.clone(), commit("h", 0, 2))).await;
    assert_eq!(refused, Err(CoordinatorError::NotCoordinator));
    assert_eq!(offsets(&sender, "h").await, []);
}
