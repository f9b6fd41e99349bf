//! Nodes of a cluster in one process, on a network and disks in memory, on a clock that is paused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_proto::ids::{GroupId, NodeId, PartitionId};
use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};
use ottla_raft::{
    BatchMeta, Clock, Command, Faults, Group, Groups, MemoryNetwork, Outcome, PartitionState,
    ProducerMeta, Tuning, replica_id,
};
use ottla_simulation::{Disk, DiskStore};
use tokio::time::Instant;

pub const GROUP: GroupId = GroupId(1);
pub const WAIT: Duration = Duration::from_secs(30);

pub fn replica(node: NodeId) -> u64 {
    replica_id(node, 1)
}

pub struct Node {
    pub disk: Disk,
    pub running: Option<Running>,
}

pub struct Running {
    pub groups: Arc<Groups>,
    pub group: Arc<Group>,
    store: Arc<DiskStore>,
}

pub struct Cluster {
    pub network: MemoryNetwork,
    pub nodes: BTreeMap<NodeId, Node>,
    /// The replica that each node has or had last.
    replicas: BTreeMap<NodeId, u64>,
    began: Instant,
    seed: u64,
}

impl Cluster {
    pub fn new(seed: u64) -> Cluster {
        if let Ok(filter) = std::env::var("RUST_LOG") {
            let log = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_test_writer();
            let _ = log.try_init();
        }
        let network = MemoryNetwork::new(seed);
        network.set_faults(Faults {
            min_delay: Duration::from_micros(100),
            max_delay: Duration::from_micros(300),
            ..Faults::default()
        });
        Cluster {
            network,
            nodes: BTreeMap::new(),
            replicas: BTreeMap::new(),
            began: Instant::now(),
            seed,
        }
    }

    /// A cluster whose nodes 1 to `size` are the members of the group.
    pub async fn start(seed: u64, size: NodeId) -> Cluster {
        let mut cluster = Cluster::new(seed);
        let members: Vec<u64> = (1..=size).map(replica).collect();
        for node in 1..=size {
            cluster.run(node, replica(node), &members).await;
        }
        cluster.leader().await;
        cluster
    }

    /// Starts a node, or starts it again.
    pub async fn run(&mut self, node: NodeId, replica: u64, members: &[u64]) {
        self.replicas.insert(node, replica);
        let entry = self.nodes.entry(node).or_insert_with(|| {
            let disk = Disk::default();
            disk.set_sync_delay(Duration::from_micros(500));
            Node {
                disk,
                running: None,
            }
        });
        let store = entry.disk.open();
        let began = self.began;
        let clock: Clock = Arc::new(move || 1_000_000 + began.elapsed().as_millis() as i64);
        let transport = self.network.transport(node);
        let groups = Arc::new(Groups::clustered(
            store.clone(),
            clock,
            &MemoryShares::of(MIN_MEMORY_BYTES),
            transport,
            Tuning::simulated(self.seed),
        ));
        self.network.listen(node, &groups);
        let group = groups
            .start(GROUP, replica, members)
            .await
            .expect("the group starts");
        entry.running = Some(Running {
            groups,
            group,
            store,
        });
    }

    pub async fn restart(&mut self, node: NodeId) {
        self.run(node, self.replica(node), &[]).await;
    }

    pub fn replica(&self, node: NodeId) -> u64 {
        let known = self.replicas.get(&node).copied();
        known.unwrap_or_else(|| replica(node))
    }

    /// The process dies, and with it what its disk has not synced.
    pub async fn crash(&mut self, node: NodeId) {
        self.crash_with_luck(node, 0).await;
    }

    pub async fn crash_with_luck(&mut self, node: NodeId, lucky: usize) {
        let entry = self.nodes.get_mut(&node).expect("a node");
        self.network.kill(node);
        entry.disk.crash(lucky);
        if let Some(running) = entry.running.take() {
            running.groups.shutdown().await;
        }
    }

    pub fn group(&self, node: NodeId) -> Arc<Group> {
        let running = self.nodes[&node].running.as_ref();
        running.expect("the node runs").group.clone()
    }

    pub fn groups(&self, node: NodeId) -> Arc<Groups> {
        let running = self.nodes[&node].running.as_ref();
        running.expect("the node runs").groups.clone()
    }

    pub fn store(&self, node: NodeId) -> Arc<DiskStore> {
        let running = self.nodes[&node].running.as_ref();
        running.expect("the node runs").store.clone()
    }

    pub fn running(&self) -> Vec<NodeId> {
        let up = self.nodes.iter().filter(|(_, n)| n.running.is_some());
        up.map(|(id, _)| *id).collect()
    }

    pub fn leading(&self) -> Option<NodeId> {
        self.running()
            .into_iter()
            .find(|n| self.group(*n).leader_epoch().is_some())
    }

    /// Waits until some node serves as leader.
    pub async fn leader(&self) -> NodeId {
        let mut found = None;
        self.until("a leader", || {
            found = self.leading();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + WAIT;
        while !condition() {
            assert!(Instant::now() < deadline, "no {what} in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Appends through whoever leads, again until it is acknowledged.
    pub async fn append(&self, commands: Vec<Command>) -> Vec<Outcome> {
        let deadline = Instant::now() + WAIT;
        loop {
            assert!(Instant::now() < deadline, "no append in time");
            let group = self.group(self.leader().await);
            let ticket = group.append(commands.clone(), 100, None);
            match tokio::time::timeout(Duration::from_secs(2), ticket.outcome()).await {
                Ok(Ok(outcomes)) => return outcomes,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until all running nodes have applied the same, and compares everything they have.
    pub async fn agree(&self) {
        let nodes = self.running();
        let mut groups: Vec<_> = nodes.iter().map(|n| self.group(*n)).collect();
        groups.sort_by_key(|g| g.leader_epoch().is_none());
        // An append of the leader's term makes all before it known to be committed.
        self.append(vec![batch(99, 1, 0, None)]).await;
        let all = |groups: &[Arc<Group>]| -> Vec<_> { groups.iter().map(ends).collect() };
        self.until("agreement", || {
            all(&groups).windows(2).all(|w| w[0] == w[1])
        })
        .await;
        for group in &groups[1..] {
            for id in groups[0].partition_ids() {
                let (a, b) = (groups[0].partition(id), group.partition(id));
                let what = |p: &PartitionState| {
                    let mut producers: Vec<_> =
                        p.producers.iter().map(|(id, s)| (id, s.clone())).collect();
                    producers.sort_by_key(|(id, _)| *id);
                    (
                        p.log_start_offset,
                        p.log_end_offset,
                        p.epochs.clone(),
                        producers,
                        p.removed,
                    )
                };
                assert_eq!(a.with_state(what), b.with_state(what), "{id}");
                assert!(
                    read(&groups[0], id.0, 0) == read(group, id.0, 0),
                    "data of {id}"
                );
            }
        }
    }
}

fn ends(group: &Arc<Group>) -> BTreeMap<PartitionId, (i64, i64)> {
    let ids = group.partition_ids().into_iter();
    let bounds = ids.map(|id| (id, group.partition(id).bounds()));
    let ends = bounds.map(|(id, b)| (id, (b.log_start_offset, b.high_watermark)));
    ends.filter(|(_, (_, end))| *end > 0).collect()
}

/// A batch of `offsets` records that carries `value`.
pub fn batch(partition: u64, offsets: i32, value: u64, producer: Option<ProducerMeta>) -> Command {
    sized_batch(partition, offsets, value, producer, 84)
}

pub fn sized_batch(
    partition: u64,
    offsets: i32,
    value: u64,
    producer: Option<ProducerMeta>,
    size: usize,
) -> Command {
    let mut body = vec![value as u8; size];
    // last offset delta, at byte 23 of the batch
    body[7..11].copy_from_slice(&(offsets - 1).to_be_bytes());
    body[20..28].copy_from_slice(&value.to_be_bytes());
    // as many records, at byte 57
    body[41..45].copy_from_slice(&offsets.to_be_bytes());
    let meta = BatchMeta {
        partition: PartitionId(partition),
        offsets,
        max_timestamp_ms: value as i64,
        size_bytes: size as u32 + 16,
        producer,
    };
    Command::Append {
        meta,
        body: body.into(),
    }
}

pub fn sequenced(id: i64, sequence: i32) -> Option<ProducerMeta> {
    Some(ProducerMeta {
        id,
        epoch: 0,
        base_sequence: sequence,
        last_sequence: sequence,
    })
}

/// All committed data from `offset` on.
pub fn read(group: &Group, partition: u64, offset: i64) -> Vec<u8> {
    let p = group.partition(PartitionId(partition));
    let (start, end) = (
        p.bounds().log_start_offset.max(offset),
        p.bounds().high_watermark,
    );
    let mut data = Vec::new();
    let mut next = start;
    while next < end {
        let found = group.read(&p, next, end, 1 << 20).expect("read").concat();
        if found.is_empty() {
            break;
        }
        // Walk to the last batch: its base offset and its last offset delta.
        let mut at = 0;
        while at < found.len() {
            let base = i64::from_be_bytes(found[at..at + 8].try_into().unwrap());
            let length = i32::from_be_bytes(found[at + 8..at + 12].try_into().unwrap());
            let delta = i32::from_be_bytes(found[at + 23..at + 27].try_into().unwrap());
            next = base + delta as i64 + 1;
            at += 12 + length as usize;
        }
        data.extend(found);
    }
    data
}

/// (base offset, value) of every batch in the data.
pub fn values(data: &[u8]) -> Vec<(i64, u64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let base = i64::from_be_bytes(data[at..at + 8].try_into().unwrap());
        let length = i32::from_be_bytes(data[at + 8..at + 12].try_into().unwrap());
        let value = u64::from_be_bytes(data[at + 36..at + 44].try_into().unwrap());
        found.push((base, value));
        at += 12 + length as usize;
    }
    found
}
