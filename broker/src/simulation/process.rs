//! One life of a broker's process: the node as `node.rs` builds it, on a store, a network and a clock of the
//! simulation. It ends as kill -9 ends one.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use futures_util::future::BoxFuture;
use ottla_proto::config::ServerConfig;
use ottla_proto::ids::NodeId;
use ottla_proto::memory::{MIN_MEMORY_BYTES, MemoryShares};
use ottla_proto::peer::{ControlReply, ControlRequest};
use ottla_raft::{Clock, Groups};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::world::World;
use crate::calls::{CallError, Calls};
use crate::control::ControlService;
use crate::identity::Identity;
use crate::node::{Node, Quorum};
use crate::services::Services;

/// Tasks that end with their process.
#[derive(Clone)]
pub struct Tasks(Arc<Mutex<Option<JoinSet<()>>>>);

impl Tasks {
    fn new() -> Tasks {
        Tasks(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }

    /// What a dead process is given goes nowhere.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *self.0.lock().expect("no holder panics") {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    fn end(&self) {
        let tasks = self.0.lock().expect("no holder panics").take();
        drop(tasks);
    }
}

pub struct Process {
    pub groups: Arc<Groups>,
    pub tasks: Tasks,
    control: OnceLock<Arc<ControlService>>,
    node: Mutex<Option<Node>>,
    failed: OnceLock<String>,
}

impl Process {
    /// Starts as `server.rs` does; it is at work once it has [`Process::services`].
    pub fn start(
        world: &Arc<World>,
        config: ServerConfig,
        identity: Identity,
        groups: Arc<Groups>,
        clock: Clock,
    ) -> Arc<Process> {
        let process = Arc::new(Process {
            groups,
            tasks: Tasks::new(),
            control: OnceLock::new(),
            node: Mutex::default(),
            failed: OnceLock::new(),
        });
        let calls = MemoryCalls {
            world: Arc::downgrade(world),
            node: identity.node_id,
        };
        let started = process.clone().run(config, identity, calls, clock);
        process.tasks.spawn(started);
        process
    }

    async fn run(
        self: Arc<Process>,
        config: ServerConfig,
        identity: Identity,
        calls: MemoryCalls,
        clock: Clock,
    ) {
        let memory = MemoryShares::of(MIN_MEMORY_BYTES);
        let start = async {
            let quorum = Quorum::start(Arc::new(config), &identity, &self.groups, clock).await?;
            let _ = self.control.set(quorum.control.clone());
            Node::start(quorum, &identity, Some(Arc::new(calls)), &memory, &|_| ()).await
        };
        match start.await {
            Ok(node) => *self.node.lock().expect("no holder panics") = Some(node),
            Err(error) => {
                let _ = self.failed.set(error.to_string());
            }
        }
    }

    /// What clients are served with, once it is there.
    pub fn services(&self) -> Option<Arc<Services>> {
        let node = self.node.lock().expect("no holder panics");
        node.as_ref().map(|node| node.services.clone())
    }

    /// Why it did not start.
    pub fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Hands over what it leads, as a process that is asked to stop.
    pub async fn leave(&self) {
        let node = self.node.lock().expect("no holder panics").take();
        if let Some(node) = node {
            node.leave().await;
        }
    }

    /// Nothing of it runs any more.
    pub async fn end(&self) {
        self.tasks.end();
        let node = self.node.lock().expect("no holder panics").take();
        drop(node);
        self.groups.shutdown().await;
    }
}

/// Control calls over the simulated network.
struct MemoryCalls {
    world: Weak<World>,
    node: NodeId,
}

impl Calls for MemoryCalls {
    fn call(
        &self,
        to: NodeId,
        request: ControlRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<ControlReply, CallError>> {
        let (world, from) = (self.world.upgrade(), self.node);
        Box::pin(async move {
            let gone = || CallError::NotTaken("the simulation is over".into());
            let call = exchange(world.ok_or_else(gone)?, from, to, request);
            let late = |_| CallError::Unknown("no answer in time".into());
            timeout_at(deadline, call).await.map_err(late)?
        })
    }
}

async fn exchange(
    world: Arc<World>,
    from: NodeId,
    to: NodeId,
    request: ControlRequest,
) -> Result<ControlReply, CallError> {
    let broke = |_| CallError::Unknown("the connection broke".into());
    world.network.carry(from, to).await.map_err(broke)?;
    let refused = || CallError::NotTaken("connection refused".into());
    let process = world.process(to).ok_or_else(refused)?;
    let control = process.control.get().cloned().ok_or_else(refused)?;
    let (reply, answer) = oneshot::channel();
    process.tasks.spawn(async move {
        let _ = reply.send(control.answer(from, request).await);
    });
    drop(process);
    let died = |_| CallError::Unknown("the node died".into());
    let answer = answer.await.map_err(died)?;
    world.network.carry(to, from).await.map_err(broke)?;
    Ok(answer)
}
