//! The task that owns one shard.
//!
//! Commands that have queued are handled together and share a batch. Appends are pipelined: the
//! loop goes on while they are being replicated, and [`Replies`] keeps back what depends on them.
//! Whatever goes wrong ends in [`Serving::fail`]: everyone who waits is told to retry, and the shard
//! is loaded again if this broker still leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use ottla_coordinator::{Command, Decision, Event, GroupConfig, Record, Response, Shard, Token};
use ottla_proto::limits::{
    COORDINATOR_APPENDS_IN_FLIGHT, COORDINATOR_BATCH_BYTES, COORDINATOR_COMMANDS_PER_BATCH,
    COORDINATOR_QUEUE, COORDINATOR_RELOAD_WAIT_MS,
};
use ottla_raft::{AppendError, Outcome};
use ottla_wire::batch::{BatchBuilder, BatchHeader};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::CoordinatorError;
use super::bounds::{Bounds, Part};
use super::load::load;
use super::replies::Replies;
use crate::topics::{Replica, append_command};

pub type Answer = Result<Response, CoordinatorError>;

pub struct Request {
    pub command: Command,
    pub reply: oneshot::Sender<Answer>,
}

impl Request {
    fn refuse(self, error: CoordinatorError) {
        // The client may be gone.
        let _ = self.reply.send(Err(error));
    }

    /// Commands that are about all groups wait for the load; a client's command is refused.
    fn waits_for_load(&self) -> bool {
        matches!(
            self.command,
            Command::ListGroups { .. } | Command::TopicsDeleted(_)
        )
    }
}

/// How a phase of the task ended.
enum End {
    /// Nobody can send commands any longer.
    Stopped,
    /// Load again, if this broker leads.
    Again,
}

pub struct Task {
    pub name: String,
    pub replica: Replica,
    pub config: GroupConfig,
    pub clock: ottla_raft::Clock,
    pub loads: Arc<Semaphore>,
    pub bounds: Arc<Bounds>,
    pub requests: mpsc::Receiver<Request>,
}

impl Task {
    /// Loads and serves for as long as this broker leads the partition. Commands that are left are
    /// dropped, which tells their senders.
    pub async fn run(mut self) {
        while let Some(epoch) = self.replica.group.leader_epoch() {
            let end = match self.load().await {
                Ok((shard, deferred)) => {
                    Serving::new(&self, epoch, shard)
                        .run(&mut self.requests, deferred)
                        .await
                }
                Err(end) => end,
            };
            if matches!(end, End::Stopped) {
                break;
            }
        }
    }

    /// The loaded shard and the commands that waited for it. Others are refused meanwhile.
    async fn load(&mut self) -> Result<(Shard, Vec<Request>), End> {
        let started = Instant::now();
        let mut deferred = Vec::new();
        let (replica, config) = (self.replica.clone(), self.config.clone());
        let mut loading = Box::pin(load(
            replica,
            config,
            self.clock.clone(),
            self.loads.clone(),
        ));
        let loaded = loop {
            tokio::select! {
                // An empty partition is loaded at once, and nobody is refused.
                biased;
                loaded = &mut loading => break loaded,
                request = self.requests.recv() => match request {
                    None => return Err(End::Stopped),
                    Some(r) if r.waits_for_load() && deferred.len() < COORDINATOR_QUEUE => deferred.push(r),
                    Some(r) => r.refuse(CoordinatorError::LoadInProgress),
                },
            }
        };
        match loaded {
            Ok((shard, loaded)) => {
                if loaded.records > 0 {
                    let (records, unreadable) = (loaded.records, loaded.unreadable);
                    let took_ms = started.elapsed().as_millis() as u64;
                    tracing::info!(
                        partition = self.name,
                        records,
                        unreadable,
                        took_ms,
                        "loaded groups"
                    );
                }
                Ok((shard, deferred))
            }
            Err(error) => {
                tracing::error!(partition = self.name, %error, "groups could not be loaded");
                for request in deferred {
                    request.refuse(CoordinatorError::NotAvailable);
                }
                Err(self.pause().await)
            }
        }
    }

    /// Refuses commands for a while.
    async fn pause(&mut self) -> End {
        let until = Instant::now() + Duration::from_millis(COORDINATOR_RELOAD_WAIT_MS);
        loop {
            tokio::select! {
                () = sleep_until(until) => return End::Again,
                request = self.requests.recv() => match request {
                    None => return End::Stopped,
                    Some(request) => request.refuse(CoordinatorError::NotAvailable),
                },
            }
        }
    }
}

/// A loaded shard at work, in one leader epoch.
struct Serving {
    name: String,
    replica: Replica,
    clock: ottla_raft::Clock,
    epoch: i32,
    shard: Shard,
    /// What the shard holds of what all share.
    part: Part,
    next_token: Token,
    /// Who gets the reply to a token; also those whose reply is held back.
    senders: HashMap<Token, oneshot::Sender<Answer>>,
    replies: Replies<(Token, Response)>,
    /// In the order of the log.
    appends: FuturesOrdered<BoxFuture<'static, Result<Vec<Outcome>, AppendError>>>,
}

impl Serving {
    fn new(task: &Task, epoch: i32, shard: Shard) -> Serving {
        Serving {
            name: task.name.clone(),
            replica: task.replica.clone(),
            clock: task.clock.clone(),
            epoch,
            shard,
            part: Part::new(task.bounds.clone()),
            next_token: 0,
            senders: HashMap::new(),
            replies: Replies::default(),
            appends: FuturesOrdered::new(),
        }
    }

    async fn run(mut self, requests: &mut mpsc::Receiver<Request>, deferred: Vec<Request>) -> End {
        self.account();
        for request in deferred {
            self.handle([request]);
        }
        loop {
            if self.replica.group.leader_epoch() != Some(self.epoch) {
                return self.fail(CoordinatorError::NotCoordinator).await;
            }
            let room = self.appends.len() < COORDINATOR_APPENDS_IN_FLIGHT;
            let due_in = self.due_in();
            if room && due_in == Some(Duration::ZERO) {
                self.tick();
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                Some(outcome) = self.appends.next() => {
                    if let Err(error) = self.appended(outcome) {
                        return self.fail(error).await;
                    }
                }
                request = requests.recv(), if room => match request {
                    None => return self.stop().await,
                    Some(late) if self.replica.group.leader_epoch() != Some(self.epoch) => {
                        late.refuse(CoordinatorError::LoadInProgress);
                    }
                    Some(first) => {
                        let queued = std::iter::from_fn(|| requests.try_recv().ok());
                        self.handle(std::iter::once(first).chain(queued));
                    }
                },
                () = sleep(due_in.unwrap_or_default()), if room && due_in.is_some() => {}
            }
        }
    }

    /// Time until the shard's next deadline.
    fn due_in(&self) -> Option<Duration> {
        let deadline_ms = self.shard.next_deadline_ms()?;
        let wait_ms = deadline_ms.saturating_sub((self.clock)()).max(0);
        Some(Duration::from_millis(wait_ms as u64))
    }

    fn tick(&mut self) {
        let now_ms = (self.clock)();
        let decision = self.shard.tick(now_ms);
        let (records, replies) = self.take(decision);
        self.account();
        self.commit(now_ms, &records, replies);
    }

    /// Handles commands, up to what makes a batch.
    fn handle(&mut self, requests: impl IntoIterator<Item = Request>) {
        let now_ms = (self.clock)();
        let mut records: Vec<Record> = Vec::new();
        let mut replies = Vec::new();
        let mut bytes = 0;
        for (count, request) in (1..).zip(requests) {
            let token = self.next_token;
            self.next_token += 1;
            self.senders.insert(token, request.reply);
            self.account();
            let decision = self.shard.handle(now_ms, token, request.command);
            let (new, answers) = self.take(decision);
            bytes += new.iter().map(record_bytes).sum::<usize>();
            records.extend(new);
            replies.extend(answers);
            if count >= COORDINATOR_COMMANDS_PER_BATCH || bytes >= COORDINATOR_BATCH_BYTES {
                break;
            }
        }
        self.account();
        self.commit(now_ms, &records, replies);
    }

    /// Says what the shard holds, and lets it take what is left.
    fn account(&mut self) {
        let left = self.part.update(self.shard.usage());
        self.shard.may_take(left);
    }

    fn take(&self, decision: Decision) -> (Vec<Record>, Vec<(Token, Response)>) {
        assert_eq!(decision.producer, None, "no command names a producer");
        for event in &decision.events {
            note(&self.name, event);
        }
        (decision.records, decision.replies)
    }

    /// Appends the records, and answers the replies in their time.
    fn commit(&mut self, now_ms: i64, records: &[Record], replies: Vec<(Token, Response)>) {
        for records in batches(records) {
            let mut builder = BatchBuilder::new();
            for record in records {
                builder.append(Some(&record.key), record.value.as_deref(), now_ms);
            }
            let batch = builder.build();
            let header = BatchHeader::parse(&batch).expect("it was just built");
            let append = append_command(self.replica.partition.id, &batch, &header);
            let group = &self.replica.group;
            let commands = vec![append.command];
            let ticket = group.append_in_epoch(self.epoch, commands, append.bytes, None);
            self.appends.push_back(Box::pin(ticket.outcome()));
            self.replies.appended();
        }
        for reply in replies {
            self.replies.push(reply);
        }
        self.release();
    }

    /// Sends the replies that nothing holds back any longer.
    fn release(&mut self) {
        while let Some((token, response)) = self.replies.pop() {
            let sender = self.senders.remove(&token);
            let sender = sender.expect("each token is answered once");
            // The client may be gone; what it asked for is done all the same.
            let _ = sender.send(Ok(response));
        }
    }

    /// The oldest append is decided.
    fn appended(
        &mut self,
        outcome: Result<Vec<Outcome>, AppendError>,
    ) -> Result<(), CoordinatorError> {
        match outcome.as_deref() {
            Ok([Outcome::Appended { .. }]) => {
                self.replies.committed();
                self.release();
                return Ok(());
            }
            Ok([Outcome::UnknownPartition]) => {
                tracing::info!(partition = self.name, "the partition is gone");
                return Err(CoordinatorError::NotCoordinator);
            }
            Ok(outcomes) => unreachable!("a plain append of one batch became {outcomes:?}"),
            Err(error) => {
                tracing::warn!(partition = self.name, %error, "group records were not appended");
            }
        }
        Err(match outcome {
            Err(AppendError::NotLeader) => CoordinatorError::NotCoordinator,
            // They may be in the log: what the next load finds is what counts.
            _ => CoordinatorError::NotAvailable,
        })
    }

    /// The state here is not what the log says. Returns once it is certain what the log says.
    async fn fail(mut self, error: CoordinatorError) -> End {
        for (_, sender) in self.senders.drain() {
            let _ = sender.send(Err(error));
        }
        while self.appends.next().await.is_some() {}
        End::Again
    }

    /// Answers what is committed, then whoever still waits.
    async fn stop(mut self) -> End {
        while let Some(outcome) = self.appends.next().await {
            if self.appended(outcome).is_err() {
                break;
            }
        }
        self.fail(CoordinatorError::NotCoordinator).await;
        End::Stopped
    }
}

fn record_bytes(record: &Record) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, |value| value.len())
}

/// Splits records into batches: as many as fit, at least one each.
fn batches(mut records: &[Record]) -> impl Iterator<Item = &[Record]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |record: &&Record| {
            bytes += record_bytes(record);
            bytes <= COORDINATOR_BATCH_BYTES
        };
        let count = records.iter().take_while(fits).count();
        let (batch, rest) = records.split_at(count.max(1).min(records.len()));
        records = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

/// A line in the log for what an operator may want to know of a group.
fn note(partition: &str, event: &Event) {
    match event {
        Event::Rebalancing {
            group_id,
            generation_id,
            reason,
        } => tracing::info!(
            partition,
            group_id,
            generation_id,
            reason,
            "group rebalances"
        ),
        Event::Formed {
            group_id,
            generation_id,
            members,
        } => tracing::info!(
            partition,
            group_id,
            generation_id,
            members,
            "group has a new generation"
        ),
        Event::Stabilized {
            group_id,
            generation_id,
        } => {
            metrics::counter!(
                "kafka_server_group_coordinator_metrics_group_completed_rebalance_total"
            )
            .increment(1);
            tracing::info!(partition, group_id, generation_id, "group is stable");
        }
        Event::MemberRemoved {
            group_id,
            member_id,
            reason,
        } => tracing::info!(
            partition,
            group_id,
            member_id,
            reason,
            "member left the group"
        ),
        Event::Emptied {
            group_id,
            generation_id,
        } => tracing::info!(partition, group_id, generation_id, "group has no members"),
        Event::Expired {
            group_id,
            offsets,
            group_removed,
        } => {
            metrics::counter!("kafka_server_group_coordinator_metrics_offset_expiration_total")
                .increment(*offsets as u64);
            tracing::info!(
                partition,
                group_id,
                offsets,
                group_removed,
                "offsets expired"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(bytes: usize) -> Record {
        Record {
            key: Bytes::from(vec![0; bytes]),
            value: None,
        }
    }

    #[test]
    fn batches_keep_the_order_and_the_bound() {
        let sizes = [
            10,
            COORDINATOR_BATCH_BYTES,
            5,
            COORDINATOR_BATCH_BYTES - 5,
            1,
        ];
        let records = sizes.map(record);
        let split: Vec<usize> = batches(&records).map(<[Record]>::len).collect();
        assert_eq!(split, [1, 1, 2, 1]);
        assert_eq!(batches(&records).flatten().count(), records.len());
    }

    #[test]
    fn a_record_above_the_bound_has_a_batch_of_its_own() {
        let records = [1, 2 * COORDINATOR_BATCH_BYTES, 1].map(record);
        let split: Vec<usize> = batches(&records).map(<[Record]>::len).collect();
        assert_eq!(split, [1, 1, 1]);
        assert_eq!(batches(&[]).count(), 0);
    }
}
