//! How fast three replicas on loopback acknowledge entries of a megabyte, and what processor time that
//! takes: `cargo run --release --workspace --example replicate [MEGABYTES]`. Storage keeps rows and
//! forgets record data, so that what is measured is replication: all three nodes in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use ottla_log::{IndexRow, MemoryStore, Op, StateKey, Store, StoreError, Tag, Write};
use ottla_peer::{GrpcTransport, PeerServer};
use ottla_proto::config::HostPort;
use ottla_proto::ids::{GroupId, NodeId, PartitionId};
use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};
use ottla_proto::peer::PeerInfo;
use ottla_raft::{BatchMeta, Command, Groups, Tuning, replica_id};
use tokio::net::TcpListener;
use tokio::sync::watch;

const GROUP: GroupId = GroupId(1);
const BATCH_BYTES: usize = 64 << 10;
const BATCHES: usize = 15;
const WRITERS: usize = 8;

/// Keeps everything but record data.
#[derive(Default)]
struct Forgetful(MemoryStore);

impl Store for Forgetful {
    fn submit(&self, mut write: Write) {
        write
            .ops
            .retain(|op| !matches!(op, Op::PutBatch { .. } | Op::PutIndex { .. }));
        self.0.submit(write);
    }
    fn raft_rows(
        &self,
        g: GroupId,
        from: u64,
        to: u64,
        max: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.0.raft_rows(g, from, to, max)
    }
    fn last_raft_row(&self, g: GroupId) -> Result<Option<(u64, Bytes)>, StoreError> {
        self.0.last_raft_row(g)
    }
    fn batches(
        &self,
        p: PartitionId,
        from: i64,
        to: i64,
        max: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.0.batches(p, from, to, max)
    }
    fn index_at(&self, p: PartitionId, offset: i64) -> Result<Option<IndexRow>, StoreError> {
        self.0.index_at(p, offset)
    }
    fn index_rows(
        &self,
        p: PartitionId,
        from: i64,
        max: usize,
    ) -> Result<Vec<IndexRow>, StoreError> {
        self.0.index_rows(p, from, max)
    }
    fn state(&self, key: StateKey) -> Result<Option<Bytes>, StoreError> {
        self.0.state(key)
    }
    fn states(&self, tag: Tag, group: GroupId) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.0.states(tag, group)
    }
}

type Ports = Arc<Mutex<BTreeMap<NodeId, u16>>>;

async fn start(node_id: NodeId, ports: &Ports) -> Arc<Groups> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    ports.lock().unwrap().insert(node_id, port);
    let me = PeerInfo {
        cluster_id: "bench".to_owned(),
        node_id,
        broker_epoch: -1,
    };
    let book = ports.clone();
    let addresses = Arc::new(move |node: NodeId| {
        let port = book.lock().unwrap().get(&node).copied();
        let host = "127.0.0.1".to_owned();
        let address = port.map(|port| HostPort { host, port });
        address.into_iter().collect()
    });
    let transport = Arc::new(GrpcTransport::new(me.clone(), addresses));
    let store = Arc::new(Forgetful::default());
    let groups = Arc::new(Groups::clustered(
        store,
        Arc::new(|| 0),
        &MemoryShares::of(MIN_MEMORY_BYTES),
        transport,
        Tuning::default(),
    ));
    let server = PeerServer::new(Default::default());
    server.join(me, groups.clone());
    tokio::spawn(async move {
        let (_running, stopped) = watch::channel(false);
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(server.clone().serve(socket, stopped.clone()));
        }
    });
    groups
}

fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
    let time = usage.user_time() + usage.system_time();
    time.num_microseconds() as f64 / 1e6
}

fn entry(writer: u64, body: &Bytes) -> Vec<Command> {
    let batch = |i: usize| Command::Append {
        meta: BatchMeta {
            partition: PartitionId(1 + writer * BATCHES as u64 + i as u64),
            offsets: 64,
            max_timestamp_ms: 0,
            size_bytes: (body.len() + 16) as u32,
            producer: None,
        },
        body: body.clone(),
    };
    (0..BATCHES).map(batch).collect()
}

#[tokio::main]
async fn main() {
    let megabytes: usize = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(4096);
    let ports = Ports::default();
    let members: Vec<u64> = (1..=3).map(|n| replica_id(n, 0)).collect();
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(start(node, &ports).await);
    }
    let mut groups = Vec::new();
    for (node, all) in (1..=3).zip(&nodes) {
        let started = all.start(GROUP, replica_id(node, 0), &members).await;
        groups.push(started.expect("the group starts"));
    }
    let leader = loop {
        if let Some(found) = groups.iter().find(|g| g.leader_epoch().is_some()) {
            break found.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let body = Bytes::from(vec![7u8; BATCH_BYTES - 16]);
    let entry_bytes = BATCHES * BATCH_BYTES;
    let entries = (megabytes << 20) / entry_bytes / WRITERS;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let writers: Vec<_> = (0..WRITERS as u64)
        .map(|writer| {
            let (leader, body) = (leader.clone(), body.clone());
            tokio::spawn(async move {
                for _ in 0..entries {
                    let ticket = leader.append(entry(writer, &body), entry_bytes, None);
                    ticket.outcome().await.expect("acknowledged");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let gigabytes = (entries * WRITERS * entry_bytes) as f64 / 1e9;
    println!(
        "{gigabytes:.2} GB in {seconds:.2} s: {:.0} MB/s acknowledged, {:.2} CPU s/GB for three nodes",
        gigabytes * 1e3 / seconds,
        cpu / gigabytes
    );
}
