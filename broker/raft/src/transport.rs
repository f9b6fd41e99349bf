//! The door to other nodes: ordered, two-way connections that carry [`Frame`]s. What they run on (sockets,
//! or memory in tests) is the owner's business; this crate decides what is said on them.

use futures_util::future::BoxFuture;
use ottla_proto::ids::NodeId;
use ottla_proto::peer::Frame;
use tokio::sync::mpsc;

/// What a connection is for. Bulk never stands in front of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Log entries of all groups.
    Replication,
    /// Votes, heartbeats and other small calls.
    Control,
    /// One snapshot transfer.
    Snapshot,
}

impl Channel {
    pub fn name(self) -> &'static str {
        match self {
            Channel::Replication => "replication",
            Channel::Control => "control",
            Channel::Snapshot => "snapshot",
        }
    }

    pub fn from_name(name: &str) -> Option<Channel> {
        let all = [Channel::Replication, Channel::Control, Channel::Snapshot];
        all.into_iter().find(|channel| channel.name() == name)
    }
}

/// A connection's end. It is closed when either half is dropped on either side.
pub struct Connection {
    /// Bounded: a send waits while the other side does not read.
    pub sender: mpsc::Sender<Frame>,
    pub receiver: mpsc::Receiver<Frame>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The node's system answers that nobody listens: its process is gone.
    #[error("connection refused")]
    Refused,
    /// No answer, no route, another cluster: it says nothing about the process.
    #[error("{0}")]
    Unreachable(String),
}

pub trait Transport: Send + Sync + 'static {
    /// Opens a connection to `node`.
    fn connect(
        &self,
        node: NodeId,
        channel: Channel,
    ) -> BoxFuture<'static, Result<Connection, ConnectError>>;
}

/// A broker of a cluster of one has nobody to talk to.
pub(crate) struct NoTransport;

impl Transport for NoTransport {
    fn connect(
        &self,
        node: NodeId,
        _: Channel,
    ) -> BoxFuture<'static, Result<Connection, ConnectError>> {
        let why = format!("node {node} has no address: this node runs alone");
        Box::pin(std::future::ready(Err(ConnectError::Unreachable(why))))
    }
}

/// The node that a replica lives on: the upper half of its id. The lower half tells the node's data
/// directories apart, old ones among them, so that a replica which lost its data never votes as the
/// one that had it.
pub fn node_of(replica: u64) -> NodeId {
    (replica >> 32) as NodeId
}

/// The id of the replica of `node` in the data directory known as `directory`.
pub fn replica_id(node: NodeId, directory: u32) -> u64 {
    (node as u32 as u64) << 32 | directory as u64
}
