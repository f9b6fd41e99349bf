//! One task: a thread with a consumer and a sink.

mod compacted;
mod consumer;
mod run;

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ottla_connect::config::Props;
use ottla_connect::error::ConnectError;
use ottla_connect::errors::ErrorHandler;
use ottla_connect::sink::SinkTask;
use rdkafka::ClientConfig;
use tokio::runtime::Handle;

use crate::dead_letters::DeadLetters;

/// As Kafka Connect names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Unassigned,
    Running,
    Paused,
    Failed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Unassigned => "UNASSIGNED",
            State::Running => "RUNNING",
            State::Paused => "PAUSED",
            State::Failed => "FAILED",
        }
    }
}

/// What a task has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub records: u64,
    pub bytes: u64,
    pub filtered: u64,
    pub dead_letters: u64,
    /// Of which the output was there already.
    pub duplicates_skipped: u64,
    pub manifests: u64,
    pub commits: u64,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub state: State,
    /// Why it failed, laid out as Java prints it.
    pub trace: Option<String>,
    pub counts: Counts,
}

pub enum Control {
    Pause,
    Resume,
    Stop,
}

/// What makes a task, in its own thread: building a sink or a client may talk.
pub struct Spec {
    pub connector: String,
    pub index: u32,
    pub consumer: ClientConfig,
    pub admin: ClientConfig,
    pub runtime: Handle,
    pub props: Arc<Props>,
    pub handler: ErrorHandler,
    pub commit_interval_ms: i64,
    pub paused: bool,
    pub pipeline: Box<dyn FnOnce() -> Result<ottla_connect::errors::Pipeline, ConnectError> + Send>,
    pub sink: Box<dyn FnOnce() -> Result<Box<dyn SinkTask>, ConnectError> + Send>,
    pub dead_letters: Box<dyn FnOnce() -> Result<Option<DeadLetters>, ConnectError> + Send>,
}

/// A task that was started. Dropping it stops the task and waits.
pub struct Task {
    control: Sender<Control>,
    status: Arc<Mutex<Status>>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    pub fn start(spec: Spec) -> Task {
        let status = Arc::new(Mutex::new(Status {
            state: State::Unassigned,
            trace: None,
            counts: Counts::default(),
        }));
        let (control, commands) = mpsc::channel();
        let seen = status.clone();
        let name = format!("{}-{}", spec.connector, spec.index);
        let body = move || {
            let (connector, index) = (spec.connector.clone(), spec.index);
            let ended = run::run(spec, &commands, &seen);
            let mut status = seen.lock().expect("no panic while it is held");
            match ended {
                Ok(()) => status.state = State::Unassigned,
                Err(error) => {
                    tracing::error!("task {connector}-{index} failed: {error}");
                    status.state = State::Failed;
                    status.trace = Some(error.trace());
                }
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(body);
        if let Err(error) = &thread {
            let mut status = status.lock().expect("no panic while it is held");
            status.state = State::Failed;
            status.trace = Some(format!("no thread: {error}"));
        }
        Task {
            control,
            status,
            thread: thread.ok(),
        }
    }

    pub fn status(&self) -> Status {
        self.status
            .lock()
            .expect("no panic while it is held")
            .clone()
    }

    /// A task that has ended hears nothing any more.
    pub fn tell(&self, control: Control) {
        let _ = self.control.send(control);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.tell(Control::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a task's thread has panicked");
        }
    }
}
