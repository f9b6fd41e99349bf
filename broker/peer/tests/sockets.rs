//! Three nodes on loopback sockets: groups share links, survive a node, and send snapshots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_log::{MemoryStore, Store};
use ottla_peer::{Addresses, GrpcTransport, PeerServer};
use ottla_proto::config::HostPort;
use ottla_proto::ids::{GroupId, NodeId, PartitionId};
use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};
use ottla_proto::peer::peer_client::PeerClient;
use ottla_proto::peer::{Call, Frame, PeerInfo, call_reply};
use ottla_raft::{
    BatchMeta, Command, ConnectError, Group, Groups, Outcome, Transport, Tuning, replica_id,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};

const WAIT: Duration = Duration::from_secs(60);
const GROUPS: [GroupId; 3] = [GroupId(1), GroupId(2), GroupId(3)];

type Ports = Arc<Mutex<BTreeMap<NodeId, u16>>>;

struct Node {
    groups: Arc<Groups>,
    /// Accepts and serves; ends with its connections when it is dropped.
    serving: JoinSet<()>,
}

fn info(node_id: NodeId) -> PeerInfo {
    PeerInfo {
        cluster_id: "loopback".to_owned(),
        node_id,
        broker_epoch: -1,
    }
}

fn addresses(ports: &Ports) -> Addresses {
    let ports = ports.clone();
    Arc::new(move |node| {
        let port = ports.lock().unwrap().get(&node).copied();
        let at = |port| HostPort {
            host: "127.0.0.1".to_owned(),
            port,
        };
        port.map(at).into_iter().collect()
    })
}

async fn start(node: NodeId, store: Arc<dyn Store>, ports: &Ports) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    ports
        .lock()
        .unwrap()
        .insert(node, listener.local_addr().unwrap().port());
    let transport = Arc::new(GrpcTransport::new(info(node), addresses(ports)));
    let tuning = Tuning {
        checkpoint_entries: 20,
        keep_row_bytes: 4 << 10,
        purge_entries: 16,
        ..Tuning::default()
    };
    let memory = MemoryShares::of(MIN_MEMORY_BYTES);
    let clock = Arc::new(|| 0);
    let groups = Arc::new(Groups::clustered(store, clock, &memory, transport, tuning));
    let server = PeerServer::new(Default::default());
    server.join(info(node), groups.clone());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        let (_running, stopped) = watch::channel(false);
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(server.clone().serve(socket, stopped.clone()));
        }
    });
    Node { groups, serving }
}

fn members() -> Vec<u64> {
    (1..=3).map(|node| replica_id(node, 0)).collect()
}

fn batch(partition: u64, value: u8) -> Command {
    let body = vec![value; 84];
    let mut body = body;
    body[7..11].copy_from_slice(&0i32.to_be_bytes());
    body[41..45].copy_from_slice(&1i32.to_be_bytes());
    let meta = BatchMeta {
        partition: PartitionId(partition),
        offsets: 1,
        max_timestamp_ms: 0,
        size_bytes: 100,
        producer: None,
    };
    Command::Append {
        meta,
        body: body.into(),
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, waited)
        .await
        .unwrap_or_else(|_| panic!("no {what}"));
}

async fn leader(nodes: &BTreeMap<NodeId, Node>, id: GroupId) -> Arc<Group> {
    let find = || {
        let mut groups = nodes.values().filter_map(|n| n.groups.get(id));
        groups.find(|g| g.leader_epoch().is_some())
    };
    until("leader", || find().is_some()).await;
    find().unwrap()
}

async fn append(nodes: &BTreeMap<NodeId, Node>, id: GroupId, value: u8) {
    let appended = async {
        loop {
            let group = leader(nodes, id).await;
            let ticket = group.append(vec![batch(id.0 as u64, value)], 100, None);
            if let Ok(outcomes) = ticket.outcome().await {
                assert!(matches!(outcomes[..], [Outcome::Appended { .. }]));
                return;
            }
        }
    };
    tokio::time::timeout(WAIT, appended)
        .await
        .expect("appended in time");
}

async fn agree(nodes: &BTreeMap<NodeId, Node>, records: i64) {
    for id in GROUPS {
        for node in nodes.values() {
            let partition = node
                .groups
                .get(id)
                .unwrap()
                .partition(PartitionId(id.0 as u64));
            until("agreement", || partition.bounds().high_watermark == records).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_share_links_and_survive_a_node() {
    let ports = Ports::default();
    let stores: BTreeMap<NodeId, Arc<dyn Store>> = (1..=3)
        .map(|n| (n, Arc::new(MemoryStore::default()) as Arc<dyn Store>))
        .collect();
    let mut nodes = BTreeMap::new();
    for node in 1..=3 {
        nodes.insert(node, start(node, stores[&node].clone(), &ports).await);
    }
    for node in 1..=3 {
        for id in GROUPS {
            let started = nodes[&node]
                .groups
                .start(id, replica_id(node, 0), &members())
                .await;
            started.expect("the group starts");
        }
    }
    for id in GROUPS {
        for value in 0..20 {
            append(&nodes, id, value).await;
        }
    }
    agree(&nodes, 20).await;

    // The node that leads the first group goes, with its sockets; the others go on.
    let gone = leader(&nodes, GROUPS[0]).await.node();
    let Node { groups, serving } = nodes.remove(&gone).unwrap();
    drop(serving);
    groups.shutdown().await;
    drop(groups);
    for id in GROUPS {
        for value in 20..100 {
            append(&nodes, id, value).await;
        }
    }
    agree(&nodes, 100).await;

    // It comes back on another port, and by then only a snapshot has what it lacks.
    nodes.insert(gone, start(gone, stores[&gone].clone(), &ports).await);
    for id in GROUPS {
        let started = nodes[&gone]
            .groups
            .start(id, replica_id(gone, 0), &[])
            .await;
        started.expect("the group starts again");
    }
    agree(&nodes, 100).await;
    for id in GROUPS {
        append(&nodes, id, 100).await;
    }
    agree(&nodes, 101).await;
    for node in nodes.values() {
        node.groups.shutdown().await;
    }
}

#[tokio::test]
async fn a_refused_dial_and_a_stranger_are_told_apart() {
    let ports = Ports::default();
    let store = Arc::new(MemoryStore::default());
    let node = start(1, store, &ports).await;
    let channel = ottla_raft::Channel::Control;
    let mut stranger = info(2);
    stranger.cluster_id = "another".to_owned();
    let stranger = GrpcTransport::new(stranger, addresses(&ports));
    let refused = stranger.connect(1, channel).await.err();
    assert!(
        matches!(refused, Some(ConnectError::Unreachable(_))),
        "{refused:?}"
    );
    let friend = GrpcTransport::new(info(2), addresses(&ports));
    assert!(friend.connect(1, channel).await.is_ok());
    let wrong = ports.lock().unwrap()[&1];
    ports.lock().unwrap().insert(7, wrong);
    let other = friend.connect(7, channel).await.err();
    assert!(
        matches!(other, Some(ConnectError::Unreachable(_))),
        "{other:?}"
    );
    assert!(matches!(
        friend.connect(9, channel).await.err(),
        Some(ConnectError::Unreachable(_))
    ));
    drop(node);
    until("the port to be free", || {
        std::net::TcpListener::bind(("127.0.0.1", wrong)).is_ok()
    })
    .await;
    assert_eq!(
        friend.connect(1, channel).await.err(),
        Some(ConnectError::Refused)
    );
}

/// A connection as anybody may open it.
async fn raw(port: u16) -> PeerClient<tonic::transport::Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    PeerClient::new(endpoint.connect().await.expect("HTTP/2"))
}

/// A link on which `frames` are asked; the answers.
async fn link(
    client: &mut PeerClient<tonic::transport::Channel>,
    metadata: &[(&'static str, &str)],
    frames: Vec<Frame>,
) -> Result<Streaming<Frame>, Status> {
    // It stays open after the last.
    let asking = tokio_stream::iter(frames).chain(tokio_stream::pending());
    let mut request = Request::new(asking);
    for (key, value) in metadata {
        request.metadata_mut().insert(*key, value.parse().unwrap());
    }
    client
        .link(request)
        .await
        .map(|answers| answers.into_inner())
}

#[tokio::test]
async fn a_link_is_for_who_has_said_hello() {
    let ports = Ports::default();
    let store = Arc::new(MemoryStore::default());
    let node = start(1, store, &ports).await;
    let port = ports.lock().unwrap()[&1];
    let named = |node: &'static str, cluster: &'static str, channel: &'static str| {
        [
            ("ottla-node", node),
            ("ottla-cluster", cluster),
            ("ottla-channel", channel),
        ]
    };
    let mut client = raw(port).await;
    let mut refused = async |metadata: &[(&'static str, &'static str)], says: &str| {
        let status = link(&mut client, metadata, Vec::new()).await;
        let status = status.expect_err("a stranger");
        assert!(status.message().contains(says), "{status}");
    };
    refused(
        &named("2", "loopback", "control"),
        "the first call is a hello",
    )
    .await;
    let mut client = raw(port).await;
    client.hello(info(2).hello()).await.expect("a peer");
    let other = client.hello(info(3).hello()).await;
    assert!(other.is_err(), "two nodes on one connection");
    let mut refused = async |metadata: &[(&'static str, &'static str)], says: &str| {
        let status = link(&mut client, metadata, Vec::new()).await;
        let status = status.expect_err("a stranger");
        assert!(status.message().contains(says), "{status}");
    };
    refused(&named("2", "another", "control"), "another cluster").await;
    refused(
        &named("3", "loopback", "control"),
        "the hello came from node 2",
    )
    .await;
    refused(
        &named("two", "loopback", "control"),
        "the hello came from node 2",
    )
    .await;
    refused(&named("2", "loopback", "secret"), "channel").await;
    refused(&[], "another cluster").await;

    // Who is known speaks for its own replicas only.
    let call = |id, from| Call {
        id,
        group: 1,
        from: replica_id(from, 0),
        to: replica_id(1, 0),
        kind: None,
    };
    let frame = Frame {
        calls: vec![call(1, 3), call(2, 2)],
        ..Frame::default()
    };
    let metadata = named("2", "loopback", "control");
    let mut answers = link(&mut client, &metadata, vec![frame])
        .await
        .expect("a link");
    let mut said = BTreeMap::new();
    while said.len() < 2 {
        let frame = answers.message().await.unwrap().expect("an answer");
        for reply in frame.call_replies {
            let Some(call_reply::Result::Failed(why)) = reply.result else {
                panic!("{reply:?}")
            };
            said.insert(reply.id, why);
        }
    }
    assert!(said[&1].contains("speaks for replica"), "{said:?}");
    assert!(said[&2].contains("does not run here"), "{said:?}");
    drop(node);
}
