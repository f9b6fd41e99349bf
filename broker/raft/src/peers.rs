//! The other nodes, as this node reaches them: links that all groups share, and who is there.
//!
//! A node's process is taken for gone only when its system says that nobody listens (the dial is
//! refused) while no connection of its own is open here any more. A slow, paused or unreachable node
//! never looks like that.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use ottla_proto::ids::NodeId;
use ottla_proto::limits::{
    PEER_DIAL_MS, PEER_IN_FLIGHT_BYTES, PEER_REDIAL_MAX_MS, PEER_REDIAL_MIN_MS, SNAPSHOT_TRANSFERS,
};
use tokio::sync::{Semaphore, watch};

use crate::link::Link;
use crate::throttle::Throttle;
use crate::transport::{Channel, ConnectError, Connection, Transport};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Unknown,
    Connected,
    /// Its process is gone.
    Gone,
}

pub(crate) struct Peers {
    pub transport: Arc<dyn Transport>,
    /// Of snapshots that leave this node.
    pub throttle: Arc<Throttle>,
    nodes: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    /// Counts changes of anybody's presence.
    changes: watch::Sender<u64>,
}

impl Peers {
    pub fn new(transport: Arc<dyn Transport>) -> Arc<Peers> {
        Arc::new(Peers {
            transport,
            throttle: Arc::default(),
            nodes: Mutex::default(),
            changes: watch::Sender::new(0),
        })
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        self.nodes
            .lock()
            .expect("no code panics while it holds the peers")
    }

    /// The peer; from its first use on a connection to it is kept.
    pub fn get(self: &Arc<Self>, node: NodeId) -> Arc<Peer> {
        let mut nodes = self.nodes();
        if let Some(found) = nodes.get(&node) {
            return found.clone();
        }
        let peer = Arc::new(Peer {
            node,
            transport: self.transport.clone(),
            replication: Slot::default(),
            control: Slot::default(),
            permits: Arc::new(Semaphore::new(PEER_IN_FLIGHT_BYTES)),
            transfers: Semaphore::new(SNAPSHOT_TRANSFERS),
            throttle: self.throttle.clone(),
            presence: Mutex::new(Presence::Unknown),
            inbound: AtomicUsize::new(0),
        });
        nodes.insert(node, peer.clone());
        tokio::spawn(keep(Arc::downgrade(&peer), Arc::downgrade(self)));
        peer
    }

    pub fn presence(&self, node: NodeId) -> Presence {
        let peer = self.nodes().get(&node).cloned();
        peer.map_or(Presence::Unknown, |peer| peer.presence())
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn set(&self, peer: &Peer, presence: Presence) {
        let before = std::mem::replace(&mut *peer.presence_lock(), presence);
        if before != presence {
            tracing::debug!(node = peer.node, ?before, now = ?presence, "a peer's presence changed");
            self.changes.send_modify(|n| *n += 1);
        }
    }

    /// Counts a connection that `node` has opened, until the guard is dropped.
    pub fn inbound(self: &Arc<Self>, node: NodeId) -> Inbound {
        let peer = self.get(node);
        peer.inbound.fetch_add(1, Ordering::AcqRel);
        Inbound(peer)
    }

    /// Ends every link and lets go of every peer.
    pub fn close(&self) {
        for peer in std::mem::take(&mut *self.nodes()).values() {
            peer.close();
        }
    }
}

pub(crate) struct Inbound(Arc<Peer>);

impl Drop for Inbound {
    fn drop(&mut self) {
        self.0.inbound.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A link that is made when it is needed, once.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<Option<Arc<Link>>>);

pub(crate) struct Peer {
    pub node: NodeId,
    transport: Arc<dyn Transport>,
    replication: Slot,
    control: Slot,
    /// Bytes of appends on their way.
    pub permits: Arc<Semaphore>,
    /// Snapshots on their way.
    pub transfers: Semaphore,
    pub throttle: Arc<Throttle>,
    presence: Mutex<Presence>,
    inbound: AtomicUsize,
}

impl Peer {
    fn presence_lock(&self) -> MutexGuard<'_, Presence> {
        self.presence
            .lock()
            .expect("no code panics while it holds a presence")
    }

    fn presence(&self) -> Presence {
        *self.presence_lock()
    }

    /// The link of a channel, dialled if there is none.
    pub async fn link(&self, channel: Channel) -> Result<Arc<Link>, ConnectError> {
        let slot = match channel {
            Channel::Replication => &self.replication,
            _ => &self.control,
        };
        let mut slot = slot.0.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = Link::start(self.connect(channel).await?);
        *slot = Some(link.clone());
        Ok(link)
    }

    pub async fn connect(&self, channel: Channel) -> Result<Connection, ConnectError> {
        let dial = self.transport.connect(self.node, channel);
        match tokio::time::timeout(Duration::from_millis(PEER_DIAL_MS), dial).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Unreachable(
                "no answer to the dial".to_owned(),
            )),
        }
    }

    fn close(&self) {
        for slot in [&self.replication, &self.control] {
            if let Ok(mut slot) = slot.0.try_lock()
                && let Some(link) = slot.take()
            {
                link.close();
            }
        }
    }
}

/// Keeps a control link to the peer, and notes what that shows of its presence.
async fn keep(peer: Weak<Peer>, peers: Weak<Peers>) {
    let mut pause_ms = PEER_REDIAL_MIN_MS;
    loop {
        let Some(strong) = peer.upgrade() else { return };
        let dialled = strong.link(Channel::Control).await;
        let Some(all) = peers.upgrade() else { return };
        match dialled {
            Ok(link) => {
                all.set(&strong, Presence::Connected);
                pause_ms = PEER_REDIAL_MIN_MS;
                drop((strong, all));
                link.closed().await;
                drop(link);
                let (Some(strong), Some(all)) = (peer.upgrade(), peers.upgrade()) else {
                    return;
                };
                all.set(&strong, Presence::Unknown);
            }
            Err(error) => {
                let gone =
                    error == ConnectError::Refused && strong.inbound.load(Ordering::Acquire) == 0;
                all.set(
                    &strong,
                    if gone {
                        Presence::Gone
                    } else {
                        Presence::Unknown
                    },
                );
                drop((strong, all));
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(PEER_REDIAL_MAX_MS);
            }
        }
    }
}
