//! A network in memory, with faults that a seed draws: for tests and simulations.
//!
//! It behaves as TCP does: a connection keeps its order, or it breaks. A cut swallows what is sent and says
//! nothing; a dead process closes its connections and refuses new ones. Time is tokio's, so a paused
//! clock makes it a simulation.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ottla_proto::ids::NodeId;
use ottla_proto::peer::Frame;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::groups::Groups;
use crate::transport::{Channel, ConnectError, Connection, Transport};

/// Frames on one half of a connection that are sent and not read.
const DEPTH: usize = 16;

/// What goes wrong by itself. Chances are in thousandths, for each frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub min_delay: Duration,
    pub max_delay: Duration,
    /// The connection breaks instead of delivering.
    pub break_per_mille: u64,
    /// A frame of the control channel is lost, and nothing tells.
    pub drop_per_mille: u64,
    /// A frame of the control channel comes twice.
    pub duplicate_per_mille: u64,
}

struct State {
    random: u64,
    faults: Faults,
    nodes: HashMap<NodeId, Weak<Groups>>,
    /// Closed when the process dies.
    lives: HashMap<NodeId, watch::Sender<bool>>,
    /// (from, to): nothing gets through.
    cuts: HashSet<(NodeId, NodeId)>,
    /// (from, to): what a frame takes, whatever the faults say.
    delays: HashMap<(NodeId, NodeId), Duration>,
}

impl State {
    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }
}

#[derive(Clone)]
pub struct MemoryNetwork(Arc<Mutex<State>>);

impl MemoryNetwork {
    pub fn new(seed: u64) -> MemoryNetwork {
        MemoryNetwork(Arc::new(Mutex::new(State {
            random: seed,
            faults: Faults::default(),
            nodes: HashMap::new(),
            lives: HashMap::new(),
            cuts: HashSet::new(),
            delays: HashMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no code panics while it holds the network")
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// What `node` reaches the others by.
    pub fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        let network = self.clone();
        Arc::new(End { network, node })
    }

    /// `node` serves from now on.
    pub fn listen(&self, node: NodeId, groups: &Arc<Groups>) {
        let mut state = self.state();
        state.nodes.insert(node, Arc::downgrade(groups));
        state.lives.insert(node, watch::Sender::new(true));
    }

    /// The process of `node` dies: its connections close, and dials are refused.
    pub fn kill(&self, node: NodeId) {
        let mut state = self.state();
        state.nodes.remove(&node);
        if let Some(life) = state.lives.remove(&node) {
            life.send_replace(false);
        }
    }

    /// From now on nothing gets from `from` to `to`.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state().cuts.insert((from, to));
    }

    /// From now on a frame takes this long from `from` to `to`.
    pub fn delay(&self, from: NodeId, to: NodeId, takes: Duration) {
        self.state().delays.insert((from, to), takes);
    }

    /// Nothing gets to or from `node`.
    pub fn isolate(&self, node: NodeId, others: impl IntoIterator<Item = NodeId>) {
        for other in others {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.cuts.clear();
        state.delays.clear();
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.state().cuts.contains(&(from, to))
    }

    fn life(&self, node: NodeId) -> Option<watch::Receiver<bool>> {
        self.state().lives.get(&node).map(|life| life.subscribe())
    }

    /// Carries one message of another connection than this network makes itself; returns when it arrives, and
    /// never where the way is cut. Who sends one after the other keeps their order.
    ///
    /// # Errors
    /// The connection breaks.
    pub async fn carry(&self, from: NodeId, to: NodeId) -> Result<(), ConnectError> {
        let fate = self.fate(from, to, Channel::Replication);
        let (delay, _) = fate.ok_or_else(|| ConnectError::Unreachable("it broke".to_owned()))?;
        tokio::time::sleep(delay).await;
        if self.is_cut(from, to) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// How long a frame takes, and how often it comes; `None`: the connection breaks.
    fn fate(&self, from: NodeId, to: NodeId, channel: Channel) -> Option<(Duration, u32)> {
        let mut state = self.state();
        let faults = state.faults;
        let spread = faults
            .max_delay
            .saturating_sub(faults.min_delay)
            .as_micros() as u64;
        let delay = faults.min_delay + Duration::from_micros(state.draw(spread + 1));
        let set = state.delays.get(&(from, to));
        let delay = set.copied().unwrap_or(delay);
        let control = channel == Channel::Control;
        if state.draw(1000) < faults.break_per_mille {
            return None;
        }
        let drop = state.draw(1000) < faults.drop_per_mille && control;
        let twice = state.draw(1000) < faults.duplicate_per_mille && control;
        Some((delay, if drop { 0 } else { 1 + twice as u32 }))
    }

    /// One direction of a connection.
    fn half(
        &self,
        (from, to): (NodeId, NodeId),
        channel: Channel,
        lives: [watch::Receiver<bool>; 2],
    ) -> (mpsc::Sender<Frame>, mpsc::Receiver<Frame>) {
        let (sender, sent) = mpsc::channel(DEPTH);
        let (deliver, receiver) = mpsc::channel(DEPTH);
        let relay = Relay {
            network: self.clone(),
            from,
            to,
            channel,
        };
        let [mut a, mut b] = lives;
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = a.wait_for(|alive| !alive) => {}
                _ = b.wait_for(|alive| !alive) => {}
                () = relay.run(sent, deliver) => {}
            }
        });
        (sender, receiver)
    }
}

struct Relay {
    network: MemoryNetwork,
    from: NodeId,
    to: NodeId,
    channel: Channel,
}

impl Relay {
    async fn run(self, mut sent: mpsc::Receiver<Frame>, deliver: mpsc::Sender<Frame>) {
        let (on_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(DEPTH);
        let travel = async {
            while let Some((at, bytes)) = arriving.recv().await {
                tokio::time::sleep_until(at).await;
                if self.network.is_cut(self.from, self.to) {
                    // What is lost in the middle is lost for this connection; nobody is told.
                    std::future::pending::<()>().await;
                }
                // Through bytes, as on a wire.
                let frame = Frame::decode(&bytes[..]).expect("a frame that was just encoded");
                if deliver.send(frame).await.is_err() {
                    return;
                }
            }
        };
        let send = async {
            while let Some(frame) = sent.recv().await {
                let (delay, times) = match self.network.fate(self.from, self.to, self.channel) {
                    Some(fate) => fate,
                    None => return,
                };
                for _ in 0..times {
                    let at = Instant::now() + delay;
                    if on_way.send((at, frame.encode_to_vec())).await.is_err() {
                        return;
                    }
                }
            }
            drop(on_way);
            std::future::pending::<()>().await;
        };
        let gone = deliver.clone();
        tokio::select! {
            biased;
            () = gone.closed() => {}
            () = travel => {}
            () = send => {}
        }
    }
}

struct End {
    network: MemoryNetwork,
    node: NodeId,
}

impl Transport for End {
    fn connect(
        &self,
        node: NodeId,
        channel: Channel,
    ) -> BoxFuture<'static, Result<Connection, ConnectError>> {
        let (network, from) = (self.network.clone(), self.node);
        Box::pin(async move {
            let delay = network.state().faults.min_delay;
            tokio::time::sleep(delay * 2).await;
            if network.is_cut(from, node) || network.is_cut(node, from) {
                std::future::pending::<()>().await;
            }
            let groups = network.state().nodes.get(&node).and_then(Weak::upgrade);
            let (Some(groups), Some(theirs)) = (groups, network.life(node)) else {
                return Err(ConnectError::Refused);
            };
            let Some(ours) = network.life(from) else {
                return Err(ConnectError::Unreachable("this process is dead".to_owned()));
            };
            let lives = [ours, theirs];
            let (sender, receives) = network.half((from, node), channel, lives.clone());
            let (sends, receiver) = network.half((node, from), channel, lives);
            tokio::spawn(async move {
                let connection = Connection {
                    sender: sends,
                    receiver: receives,
                };
                groups.serve(from, channel, connection).await;
            });
            Ok(Connection { sender, receiver })
        })
    }
}
