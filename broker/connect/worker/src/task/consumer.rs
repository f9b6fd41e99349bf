//! The consumer of a task: what it is assigned, from where it reads, what it commits.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ottla_connect::config::{Props, whole_regex};
use ottla_connect::data::{RawHeader, RawRecord, TimestampType};
use ottla_connect::error::ConnectError;
use ottla_connect::rotate::Commit;
use ottla_connect::sink::{Assigned, TopicPartition};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Longest wait for an answer of the brokers.
const ASK_WAIT: Duration = Duration::from_secs(30);
/// What one task's client holds of records that are not polled yet.
const QUEUED_KILOBYTES: &str = "16384";

/// What happened to the assignment during a poll, in its order.
pub enum Event {
    Assigned(Vec<Assigned>),
    Revoked(Vec<TopicPartition>),
    Failed(String),
}

pub struct Context {
    events: Mutex<Vec<Event>>,
    /// `auto.offset.reset`
    reset: String,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!("Kafka client: {error}: {reason}");
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let event = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            match self.starts(consumer, list) {
                Ok((starts, assigned)) => {
                    let done = if cooperative {
                        consumer.incremental_assign(&starts)
                    } else {
                        consumer.assign(&starts)
                    };
                    match done {
                        Ok(()) => Event::Assigned(assigned),
                        Err(error) => Event::Failed(error.to_string()),
                    }
                }
                Err(message) => Event::Failed(message),
            }
        } else {
            let revoked = list.elements().iter().map(partition).collect();
            let done = if cooperative {
                consumer.incremental_unassign(list)
            } else {
                consumer.unassign()
            };
            if let Err(error) = done {
                tracing::warn!("revoked partitions: {error}");
            }
            Event::Revoked(revoked)
        };
        self.events
            .lock()
            .expect("no panic while it is held")
            .push(event);
    }
}

fn partition(
    element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>,
) -> TopicPartition {
    TopicPartition {
        topic: element.topic().to_owned(),
        partition: element.partition(),
    }
}

impl Context {
    /// Where reading begins: what is committed, or what `auto.offset.reset` says. Named, so that the sink
    /// and the client agree.
    fn starts(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(TopicPartitionList, Vec<Assigned>), String> {
        let wrong = |e: KafkaError| format!("committed offsets cannot be read: {e}");
        let committed = consumer
            .committed_offsets(list.clone(), ASK_WAIT)
            .map_err(wrong)?;
        // Told with the metadata, so it waits for nothing that the offsets have not waited for.
        let cluster_id = consumer.client().fetch_cluster_id(ASK_WAIT);
        let mut starts = TopicPartitionList::new();
        let mut assigned = Vec::new();
        for element in committed.elements() {
            element.error().map_err(wrong)?;
            let partition = partition(&element);
            let (offset, metadata) = match element.offset() {
                Offset::Offset(offset) => (offset, element.metadata().to_owned()),
                _ => (self.beginning(consumer, &partition)?, String::new()),
            };
            starts
                .add_partition_offset(
                    &partition.topic,
                    partition.partition,
                    Offset::Offset(offset),
                )
                .map_err(wrong)?;
            assigned.push(Assigned {
                partition,
                committed: Commit { offset, metadata },
                cluster_id: cluster_id.clone(),
            });
        }
        Ok((starts, assigned))
    }

    fn beginning(&self, consumer: &BaseConsumer<Self>, tp: &TopicPartition) -> Result<i64, String> {
        let marks = consumer.fetch_watermarks(&tp.topic, tp.partition, ASK_WAIT);
        let (low, high) = marks.map_err(|e| format!("{}-{}: {e}", tp.topic, tp.partition))?;
        match self.reset.as_str() {
            "latest" | "largest" | "end" => Ok(high),
            "none" | "error" => Err(format!(
                "{}-{} has no committed offset, and auto.offset.reset is none",
                tp.topic, tp.partition
            )),
            _ => Ok(low),
        }
    }
}

pub struct TaskConsumer {
    inner: BaseConsumer<Context>,
    subscription: Subscription,
}

enum Subscription {
    Topics,
    /// Matched against the names of topics here, because patterns are Java's.
    Pattern {
        pattern: regex::Regex,
        found: Vec<String>,
        next_look_ms: i64,
    },
}

/// Between two looks for new topics of a pattern.
const LOOK_MS: i64 = 30_000;

/// How a commit ended.
pub enum Committed {
    Yes,
    /// The partitions are somebody else's by now, or nobody knows: what was to be committed is not.
    No(String),
}

impl TaskConsumer {
    pub fn start(
        mut config: ClientConfig,
        group: &str,
        connector: &Props,
    ) -> Result<TaskConsumer, ConnectError> {
        let reset = config
            .get("auto.offset.reset")
            .unwrap_or("earliest")
            .to_owned();
        if config.get("group.id").is_none() {
            config.set("group.id", group);
        }
        config
            .set(
                "auto.offset.reset",
                if reset == "none" { "error" } else { &reset },
            )
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("queued.max.messages.kbytes", QUEUED_KILOBYTES);
        let context = Context {
            events: Mutex::new(Vec::new()),
            reset,
        };
        let wrong = |e: KafkaError| ConnectError::config(format!("consumer: {e}"));
        let inner: BaseConsumer<Context> = config.create_with_context(context).map_err(wrong)?;
        let topics = connector.get("topics").map_or("", String::as_str);
        let topics: Vec<&str> = topics
            .split(',')
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .collect();
        let subscription = if topics.is_empty() {
            let pattern = connector.get("topics.regex").map_or("", String::as_str);
            let pattern = whole_regex(pattern)
                .map_err(|e| ConnectError::config(format!("topics.regex: {e}")))?;
            Subscription::Pattern {
                pattern,
                found: Vec::new(),
                next_look_ms: 0,
            }
        } else {
            inner.subscribe(&topics).map_err(wrong)?;
            Subscription::Topics
        };
        Ok(TaskConsumer {
            inner,
            subscription,
        })
    }

    /// Subscribes to what the pattern matches by now.
    pub fn look_for_topics(&mut self, now_ms: i64) -> Result<(), ConnectError> {
        let Subscription::Pattern {
            pattern,
            found,
            next_look_ms,
        } = &mut self.subscription
        else {
            return Ok(());
        };
        if now_ms < *next_look_ms {
            return Ok(());
        }
        *next_look_ms = now_ms + LOOK_MS;
        let metadata = match self.inner.fetch_metadata(None, ASK_WAIT) {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!("topics cannot be listed: {error}");
                return Ok(());
            }
        };
        let names = metadata.topics().iter().map(|t| t.name());
        let mut now: Vec<String> = names
            .filter(|n| pattern.is_match(n))
            .map(str::to_owned)
            .collect();
        now.sort();
        if now != *found && !now.is_empty() {
            let names: Vec<&str> = now.iter().map(String::as_str).collect();
            let subscribed = self.inner.subscribe(&names);
            subscribed.map_err(|e| ConnectError::config(format!("consumer: {e}")))?;
            *found = now;
        }
        Ok(())
    }

    pub fn events(&self) -> Vec<Event> {
        let mut events = self
            .inner
            .context()
            .events
            .lock()
            .expect("no panic while it is held");
        std::mem::take(&mut events)
    }

    pub fn poll(&self, wait: Duration) -> Option<KafkaResult<RawRecord>> {
        let message = self.inner.poll(wait)?;
        Some(message.map(|m| record(&m)))
    }

    /// Commits, and waits until the group's coordinator has it.
    pub fn commit(&self, offsets: &[(TopicPartition, Commit)]) -> Result<Committed, ConnectError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (tp, commit) in offsets {
            let mut element = list.add_partition(&tp.topic, tp.partition);
            let set = element.set_offset(Offset::Offset(commit.offset));
            set.map_err(|e| ConnectError::data(e.to_string()))?;
            element.set_metadata(&commit.metadata);
        }
        match self.inner.commit(&list, CommitMode::Sync) {
            Ok(()) => Ok(Committed::Yes),
            Err(error) => {
                let code = error.rdkafka_error_code();
                let hopeless = [
                    RDKafkaErrorCode::OffsetMetadataTooLarge,
                    RDKafkaErrorCode::GroupAuthorizationFailed,
                    RDKafkaErrorCode::TopicAuthorizationFailed,
                    RDKafkaErrorCode::InvalidCommitOffsetSize,
                ];
                if code.is_some_and(|c| hopeless.contains(&c)) {
                    return Err(ConnectError::data(format!(
                        "offsets cannot be committed: {error}"
                    )));
                }
                Ok(Committed::No(error.to_string()))
            }
        }
    }

    pub fn pause(&self, partitions: &HashSet<TopicPartition>) {
        if let Err(error) = self.inner.pause(&listed(partitions)) {
            tracing::warn!("pause: {error}");
        }
    }

    pub fn resume(&self, partitions: &HashSet<TopicPartition>) {
        if let Err(error) = self.inner.resume(&listed(partitions)) {
            tracing::warn!("resume: {error}");
        }
    }
}

fn listed(partitions: &HashSet<TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for tp in partitions {
        list.add_partition(&tp.topic, tp.partition);
    }
    list
}

fn record(message: &BorrowedMessage<'_>) -> RawRecord {
    let (timestamp, timestamp_type) = match message.timestamp() {
        Timestamp::NotAvailable => (None, TimestampType::NoTimestamp),
        Timestamp::CreateTime(ms) => (Some(ms), TimestampType::CreateTime),
        Timestamp::LogAppendTime(ms) => (Some(ms), TimestampType::LogAppendTime),
    };
    let headers = message.headers().map_or(Vec::new(), |headers| {
        let headers = headers.iter().map(|h| RawHeader {
            key: h.key.to_owned(),
            value: h.value.map(Bytes::copy_from_slice),
        });
        headers.collect()
    });
    RawRecord {
        topic: message.topic().into(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: timestamp.filter(|ms| *ms >= 0),
        timestamp_type,
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers,
    }
}
