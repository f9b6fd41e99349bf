//! The worker as a member of its group: it joins, is told what to run, and says that it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::JoinGroupResponse;
use ottla_connect::cluster::Unit;
use ottla_connect::cluster::assign::Leader;
use ottla_connect::cluster::protocol::{Assignment, CONFIG_MISMATCH, Subscription};
use tokio::sync::{oneshot, watch};

use super::client::{Coordinator, GroupError, check};
use super::runner::Order;
use super::shared::Shared;
use super::store::Store;
use crate::system::now_ms;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(200);
/// What a rejoin may take beyond the rebalance's time-out.
const JOIN_MORE: Duration = Duration::from_secs(5);
const LEAVE_WAIT: Duration = Duration::from_secs(3);

/// The worker's keys of the group.
pub struct Keys {
    pub bootstrap: Vec<String>,
    pub client_id: String,
    pub group: String,
    pub session: Duration,
    pub heartbeat: Duration,
    pub rebalance: Duration,
    pub max_delay_ms: i64,
    pub sync: Duration,
    /// Of this worker's REST API.
    pub url: String,
}

pub struct Member {
    keys: Keys,
    shared: Arc<Shared>,
    store: Arc<Store>,
    orders: Sender<Order>,
    stop: watch::Receiver<bool>,
    coordinator: Option<Coordinator>,
    id: String,
    generation: i32,
    leader: Option<Leader>,
    /// As the leader: what was assigned in the last round.
    assigned: BTreeSet<Unit>,
    /// As the leader: when units that wait are given away.
    round_due: Option<Instant>,
    /// Until when the worker runs tasks without having heard of the group.
    valid_until: Instant,
}

/// Why a generation is over.
enum Over {
    Rejoin,
    Stopped,
}

impl Member {
    pub fn new(
        keys: Keys,
        shared: Arc<Shared>,
        store: Arc<Store>,
        orders: Sender<Order>,
        stop: watch::Receiver<bool>,
    ) -> Member {
        Member {
            keys,
            shared,
            store,
            orders,
            stop,
            coordinator: None,
            id: String::new(),
            generation: -1,
            leader: None,
            assigned: BTreeSet::new(),
            round_due: None,
            valid_until: Instant::now(),
        }
    }

    /// Until the worker is told to stop.
    pub async fn run(mut self) {
        loop {
            let done = self.session().await;
            self.rebalancing();
            match done {
                Ok(Over::Rejoin) => continue,
                Ok(Over::Stopped) => break,
                Err(error) => {
                    tracing::warn!("group {}: {error}", self.keys.group);
                    self.after(&error).await;
                }
            }
            if *self.stop.borrow() {
                break;
            }
            if Instant::now() >= self.valid_until && !self.shared.mine().is_empty() {
                tracing::warn!("no word from the group's coordinator: the tasks stop");
                self.lose().await;
            }
            tokio::time::sleep(RETRY).await;
        }
        self.drop_all().await;
        if let (Some(coordinator), false) = (&mut self.coordinator, self.id.is_empty())
            && let Err(error) = coordinator.leave(&self.id, LEAVE_WAIT).await
        {
            tracing::warn!("leaving the group: {error}");
        }
    }

    fn rebalancing(&self) {
        self.shared.view().leader_url = None;
    }

    /// A heartbeat or join that was sent then was answered. Tasks stop after two thirds of the session, to
    /// be done when it ends.
    fn heard(&mut self, sent: Instant) {
        self.valid_until = sent + self.keys.session * 2 / 3;
        self.shared.view().valid_until = Some(self.valid_until);
    }

    /// Longest wait for an answer.
    fn patience(&self) -> Duration {
        let third = self.keys.session / 3;
        if self.shared.mine().is_empty() {
            return third;
        }
        let left = self.valid_until.saturating_duration_since(Instant::now());
        third.min(left).max(Duration::from_millis(50))
    }

    /// What an error says about this member.
    async fn after(&mut self, error: &GroupError) {
        let code = match error {
            GroupError::Code { code, .. } => *code,
            _ => {
                self.coordinator = None;
                return;
            }
        };
        match ResponseError::try_from_code(code) {
            Some(ResponseError::CoordinatorLoadInProgress) => {}
            Some(ResponseError::UnknownMemberId) | Some(ResponseError::IllegalGeneration) => {
                self.lose().await
            }
            Some(ResponseError::CoordinatorNotAvailable) | Some(ResponseError::NotCoordinator) => {
                self.coordinator = None
            }
            Some(ResponseError::InconsistentGroupProtocol) => tracing::error!(
                "group {} has members that are no workers of Ottla: a group of Kafka Connect's workers is \
                 stopped first",
                self.keys.group
            ),
            Some(ResponseError::InvalidSessionTimeout) => tracing::error!(
                "session.timeout.ms is out of what the brokers allow (group.min.session.timeout.ms)"
            ),
            Some(ResponseError::GroupAuthorizationFailed) => {
                tracing::error!("the worker may not use group {}", self.keys.group);
            }
            _ => self.coordinator = None,
        }
    }

    async fn drop_all(&mut self) {
        let (done, stopped) = oneshot::channel();
        if self.orders.send(Order::DropAll { done }).is_ok() {
            let _ = stopped.await;
        }
    }

    /// The group counts without this worker: others get its units, so that it must not run them.
    async fn lose(&mut self) {
        self.drop_all().await;
        self.id.clear();
        self.leader = None;
    }

    /// One generation: joins, is told what to run, lives until the next.
    async fn session(&mut self) -> Result<Over, GroupError> {
        if self.coordinator.is_none() {
            let keys = &self.keys;
            let wait = self.patience();
            let found = Coordinator::find(&keys.bootstrap, &keys.client_id, &keys.group, wait);
            self.coordinator = Some(found.await?);
        }
        let Some(joined) = self.join().await? else {
            return Ok(Over::Stopped);
        };
        let Some(assignment) = self.sync(&joined).await? else {
            return Ok(Over::Rejoin);
        };
        if assignment.error == CONFIG_MISMATCH {
            tracing::info!("the leader reads configurations yet");
            tokio::time::sleep(RETRY).await;
            return Ok(Over::Rejoin);
        }
        check("assignment", assignment.error)?;
        self.live(assignment).await
    }

    fn subscription(&self) -> Subscription {
        Subscription {
            url: self.keys.url.clone(),
            config_offset: self.shared.configs().offset(),
            owned: self.shared.mine().iter().cloned().collect(),
        }
    }

    /// None if the worker is told to stop meanwhile.
    async fn join(&mut self) -> Result<Option<JoinGroupResponse>, GroupError> {
        let metadata = self.subscription().encode();
        let Some(coordinator) = &mut self.coordinator else {
            return Err(GroupError::Malformed("no coordinator".into()));
        };
        let wait = self.keys.rebalance + JOIN_MORE;
        let (session, rebalance) = (self.keys.session, self.keys.rebalance);
        let answer = loop {
            let join = coordinator.join(&self.id, metadata.clone(), session, rebalance, wait);
            let answer = tokio::select! {
                answer = join => answer?,
                () = stopped(&mut self.stop) => {
                    // The answer that is due would be taken for that to the next request.
                    self.coordinator = None;
                    return Ok(None);
                }
            };
            if answer.error_code != ResponseError::MemberIdRequired.code() {
                break answer;
            }
            self.id = answer.member_id.to_string();
        };
        check("JoinGroup", answer.error_code)?;
        // The coordinator counts from its answer.
        self.heard(Instant::now() - session / 3);
        self.id = answer.member_id.to_string();
        self.generation = answer.generation_id;
        Ok(Some(answer))
    }

    /// None if the group rebalances already.
    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Option<Assignment>, GroupError> {
        let assignments = if joined.leader == joined.member_id {
            self.decide(joined).await
        } else {
            self.leader = None;
            Vec::new()
        };
        let wait = self.keys.rebalance + JOIN_MORE;
        let Some(coordinator) = &mut self.coordinator else {
            return Err(GroupError::Malformed("no coordinator".into()));
        };
        let sent = Instant::now();
        let answer = coordinator
            .sync(&self.id, self.generation, assignments, wait)
            .await?;
        if answer.error_code == ResponseError::RebalanceInProgress.code() {
            return Ok(None);
        }
        check("SyncGroup", answer.error_code)?;
        self.heard(sent);
        let assignment = Assignment::decode(&answer.assignment);
        assignment
            .map(Some)
            .map_err(|e| GroupError::Malformed(format!("assignment: {e}")))
    }

    /// As the leader: who runs what.
    async fn decide(&mut self, joined: &JoinGroupResponse) -> Vec<(String, bytes::Bytes)> {
        let mut members = BTreeMap::new();
        for member in &joined.members {
            match Subscription::decode(&member.metadata) {
                Ok(said) => {
                    members.insert(member.member_id.to_string(), said);
                }
                Err(error) => tracing::warn!("{}'s subscription: {error}", member.member_id),
            }
        }
        let newest = members.values().map(|m| m.config_offset).max().unwrap_or(0);
        let mut read = self.shared.read.subscribe();
        let there = read.wait_for(|offset| *offset >= newest);
        let up_to_date = tokio::time::timeout(self.keys.sync, there).await.is_ok();
        let (units, config_offset) = {
            let configs = self.shared.configs();
            (configs.units(), configs.offset())
        };
        let common = Assignment {
            leader: self.id.clone(),
            leader_url: self.keys.url.clone(),
            config_offset,
            ..Assignment::default()
        };
        if !up_to_date {
            let refused = Assignment {
                error: CONFIG_MISMATCH,
                ..common
            };
            return members.into_keys().map(|m| (m, refused.encode())).collect();
        }
        let owned = members
            .into_iter()
            .map(|(m, said)| (m, said.owned.into_iter().collect()));
        let owned = owned.collect();
        let leader = self.leader.get_or_insert_default();
        let round = leader.assign(&units, &owned, self.keys.max_delay_ms, now_ms());
        let delay = Duration::from_millis(round.delay_ms.max(0) as u64);
        self.round_due = (round.delay_ms > 0).then(|| Instant::now() + delay);
        self.assigned = units;
        tracing::info!(
            "generation {}: {} units for {} workers{}",
            self.generation,
            self.assigned.len(),
            owned.len(),
            self.round_due.map_or(String::new(), |_| format!(
                "; what a worker left behind waits for {delay:?}"
            ))
        );
        let changes = round.changes.into_iter().map(|(member, change)| {
            let assignment = Assignment {
                assigned: change.assigned,
                revoked: change.revoked,
                delay_ms: i32::try_from(round.delay_ms).unwrap_or(i32::MAX),
                ..common.clone()
            };
            (member, assignment.encode())
        });
        changes.collect()
    }

    /// Runs what is assigned, and says so to the coordinator until there is something new.
    async fn live(&mut self, assignment: Assignment) -> Result<Over, GroupError> {
        let leads = self.leader.is_some();
        {
            let mut view = self.shared.view();
            view.generation = self.generation;
            view.is_leader = leads;
            view.leader_url = Some(assignment.leader_url.clone());
        }
        // What is revoked must have stopped before the next join says so.
        let mut rejoin = !assignment.revoked.is_empty();
        let (done, mut changed) = oneshot::channel();
        let order = Order::Change {
            generation: self.generation,
            assigned: assignment.assigned,
            revoked: assignment.revoked,
            done,
        };
        if self.orders.send(order).is_err() {
            return Ok(Over::Stopped);
        }
        let mut settled = false;
        let mut beat = tokio::time::interval(self.keys.heartbeat);
        let mut read = self.shared.read.subscribe();
        // What was read before this worker led.
        read.mark_changed();
        loop {
            if settled && rejoin {
                return Ok(Over::Rejoin);
            }
            let due = self
                .round_due
                .filter(|_| leads)
                .map(tokio::time::Instant::from_std);
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopped(&mut self.stop) => return Ok(Over::Stopped),
                _ = &mut changed, if !settled => settled = true,
                _ = beat.tick() => {
                    rejoin |= self.beat().await?;
                    if leads {
                        self.store.tend();
                    }
                }
                () = due, if !rejoin => rejoin = true,
                _ = read.changed(), if leads => {
                    self.store.tend();
                    rejoin |= self.shared.configs().units() != self.assigned;
                }
            }
        }
    }

    /// Whether the group wants all to join again.
    async fn beat(&mut self) -> Result<bool, GroupError> {
        let wait = self.patience();
        let Some(coordinator) = &mut self.coordinator else {
            return Err(GroupError::Malformed("no coordinator".into()));
        };
        let sent = Instant::now();
        let code = coordinator
            .heartbeat(&self.id, self.generation, wait)
            .await?;
        if code != ResponseError::RebalanceInProgress.code() {
            check("Heartbeat", code)?;
        }
        self.heard(sent);
        Ok(code == ResponseError::RebalanceInProgress.code())
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that whoever could tell it is gone.
    let _ = stop.wait_for(|s| *s).await;
}
