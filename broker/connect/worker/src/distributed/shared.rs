//! What the parts of a distributed worker know together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use ottla_connect::cluster::Unit;
use ottla_connect::cluster::configs::Configs;
use ottla_connect::cluster::statuses::Statuses;
use tokio::sync::watch;

use crate::task::Counts;

/// The worker's place in the group.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub generation: i32,
    pub is_leader: bool,
    /// Of the leader's REST API; none while the group rebalances.
    pub leader_url: Option<String>,
    /// Until when this worker counts as a member, by what it has heard.
    pub valid_until: Option<Instant>,
}

impl View {
    /// Whether this worker may write as the leader. A round under way leaves it the leader until it hears
    /// of another.
    pub fn leads(&self, now: Instant) -> bool {
        self.is_leader && self.valid_until.is_some_and(|v| now < v)
    }
}

pub struct Shared {
    configs: Mutex<Configs>,
    statuses: Mutex<Statuses>,
    view: Mutex<View>,
    /// What this worker is to run.
    mine: Mutex<BTreeSet<Unit>>,
    /// What the tasks that run here have done.
    counts: Mutex<BTreeMap<Unit, Counts>>,
    /// Up to where the configurations have been read.
    pub read: watch::Sender<i64>,
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            configs: Mutex::default(),
            statuses: Mutex::default(),
            view: Mutex::default(),
            mine: Mutex::default(),
            counts: Mutex::default(),
            read: watch::Sender::new(0),
        }
    }

    pub fn configs(&self) -> MutexGuard<'_, Configs> {
        lock(&self.configs)
    }

    pub fn statuses(&self) -> MutexGuard<'_, Statuses> {
        lock(&self.statuses)
    }

    pub fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    pub fn mine(&self) -> MutexGuard<'_, BTreeSet<Unit>> {
        lock(&self.mine)
    }

    pub fn counts(&self) -> MutexGuard<'_, BTreeMap<Unit, Counts>> {
        lock(&self.counts)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it is held")
}
