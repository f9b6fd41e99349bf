//! What the REST API asks of a worker, be it alone or one of many.

use ottla_connect::cluster::configs::Target;
use ottla_connect::config::Props;
use ottla_connect::config::files::InitialState;

use crate::task::Counts;
use crate::worker::{Worker, WorkerError};

/// What is said about a connector.
#[derive(Clone, Debug)]
pub struct Info {
    pub name: String,
    pub config: Props,
    pub state: String,
    /// `host:port` of the worker that says so.
    pub worker_id: String,
    pub tasks: Vec<TaskInfo>,
}

#[derive(Clone, Debug)]
pub struct TaskInfo {
    pub id: u32,
    pub state: String,
    /// Why it failed.
    pub trace: Option<String>,
    pub worker_id: String,
    /// Of a task that runs here.
    pub counts: Option<Counts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Task(u32),
    Connector {
        include_tasks: bool,
        only_failed: bool,
    },
}

/// Where a request that changes something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Here,
    /// The worker with this REST API, as `http://host:port`.
    There(String),
    /// Nobody knows now.
    Nowhere(String),
}

/// All methods may wait for threads or brokers.
pub trait Herder: Send + Sync + 'static {
    fn worker(&self) -> &Worker;

    /// Who changes connectors, or restarts this task.
    fn place(&self, task: Option<(&str, u32)>) -> Place;

    fn names(&self) -> Vec<String>;

    fn info(&self, name: &str) -> Result<Info, WorkerError>;

    /// Starts a connector, or starts it anew with another configuration. Whether it is new.
    fn put(
        &self,
        name: &str,
        shown: Props,
        state: Option<InitialState>,
        replace: bool,
    ) -> Result<bool, WorkerError>;

    fn remove(&self, name: &str) -> Result<(), WorkerError>;

    fn set_target(&self, name: &str, target: Target) -> Result<(), WorkerError>;

    fn restart(&self, name: &str, what: Restart) -> Result<(), WorkerError>;

    /// Stops all tasks, each after it has finished what it can.
    fn stop(&self);
}
