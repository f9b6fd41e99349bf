//! The workers' three topics: made or checked at the start, read as long as the worker lives, written.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_connect::cluster::Entry;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long brokers may be away when a worker starts.
const START_WAIT: Duration = Duration::from_secs(60);
const ASK_WAIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Longest wait of a reader: how soon it hears of the end.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// One topic as the worker's keys describe it.
pub struct Wanted {
    /// The key that names it.
    pub key: &'static str,
    pub name: String,
    /// -1: as the broker makes them.
    pub partitions: i32,
    pub replication: i32,
    /// What is in it.
    pub what: &'static str,
    pub single: bool,
}

impl Wanted {
    /// Makes the topic if it is missing; what is there must be compacted. Its number of partitions.
    pub async fn ensure(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        client: &BaseConsumer,
    ) -> Result<i32, String> {
        let began = Instant::now();
        loop {
            match self.try_ensure(admin, client).await {
                Err(Trouble::Passing(why)) if began.elapsed() < START_WAIT => {
                    tracing::warn!("topic {}, to be tried again: {why}", self.name);
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(Trouble::Passing(why) | Trouble::Wrong(why)) => return Err(why),
                Ok(partitions) => return Ok(partitions),
            }
        }
    }

    async fn try_ensure(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        client: &BaseConsumer,
    ) -> Result<i32, Trouble> {
        let passing = |e: KafkaError| Trouble::Passing(format!("{}: {e}", self.name));
        let options = AdminOptions::new().request_timeout(Some(ASK_WAIT));
        let new = NewTopic::new(
            &self.name,
            self.partitions,
            TopicReplication::Fixed(self.replication),
        )
        .set("cleanup.policy", "compact");
        let made = admin.create_topics([&new], &options).await;
        for result in made.map_err(passing)? {
            match result {
                Ok(_) => tracing::info!("topic {} is made, for {}", self.name, self.what),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) if is_passing(code) => {
                    return Err(Trouble::Passing(code.to_string()));
                }
                Err((_, code)) => {
                    return Err(Trouble::Wrong(format!(
                        "Topic '{}' of '{}' cannot be made: {code}",
                        self.name, self.key
                    )));
                }
            }
        }
        self.check_policy(admin, &options).await?;
        let metadata = client
            .fetch_metadata(Some(&self.name), ASK_WAIT)
            .map_err(passing)?;
        let partitions = metadata
            .topics()
            .first()
            .map_or(0, |t| t.partitions().len());
        if partitions == 0 {
            return Err(Trouble::Passing(format!(
                "{} has no partitions yet",
                self.name
            )));
        }
        if self.single && partitions != 1 {
            return Err(Trouble::Wrong(format!(
                "Topic '{}' supplied via the '{}' property is required to have a single partition in order \
                 to guarantee consistency of {}, but found {partitions} partitions.",
                self.name, self.key, self.what
            )));
        }
        Ok(partitions as i32)
    }

    async fn check_policy(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        options: &AdminOptions,
    ) -> Result<(), Trouble> {
        let topic = ResourceSpecifier::Topic(&self.name);
        let described = admin.describe_configs([&topic], options).await;
        let described = described.map_err(|e| Trouble::Passing(e.to_string()))?;
        for resource in described {
            let resource = resource.map_err(|code| Trouble::Passing(code.to_string()))?;
            let entry = resource
                .entry_map()
                .get("cleanup.policy")
                .map(|e| e.value.clone());
            let policy = entry.flatten().unwrap_or_default();
            if policy != "compact" {
                return Err(Trouble::Wrong(format!(
                    "Topic '{}' supplied via the '{}' property is required to have 'cleanup.policy=compact' \
                     to guarantee consistency and durability of {}, but found the topic currently has \
                     'cleanup.policy={policy}'.",
                    self.name, self.key, self.what
                )));
            }
        }
        Ok(())
    }
}

enum Trouble {
    /// Brokers that are not there yet.
    Passing(String),
    Wrong(String),
}

fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        BrokerTransportFailure, NotController, OperationTimedOut, RequestTimedOut,
    };
    [
        NotController,
        RequestTimedOut,
        OperationTimedOut,
        BrokerTransportFailure,
    ]
    .contains(&code)
}

/// The end of a partition is no error to log.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!("Kafka client: {error}: {reason}");
        }
    }
}

impl ConsumerContext for Quiet {}

/// Reads a topic from its beginning, in a thread of its own, until told to stop.
///
/// `each` gets offset, key and value; `caught_up` is called once, when all that was there has been read.
pub fn follow(
    mut config: ClientConfig,
    topic: &str,
    partitions: i32,
    stop: Arc<AtomicBool>,
    mut each: impl FnMut(i64, &str, Option<&[u8]>) + Send + 'static,
    caught_up: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, String> {
    // The group is a name only: partitions are assigned by hand, and nothing is committed.
    config
        .set("group.id", format!("ottla-connect-{topic}"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    let wrong = |e: KafkaError| format!("{topic}: {e}");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(wrong)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let added = list.add_partition_offset(topic, partition, Offset::Beginning);
        added.map_err(wrong)?;
    }
    consumer.assign(&list).map_err(wrong)?;
    let name = topic.to_owned();
    let body = move || {
        let mut caught_up = Some(caught_up);
        let mut ended = HashSet::new();
        while !stop.load(Ordering::Relaxed) {
            match consumer.poll(POLL_WAIT) {
                None => {}
                Some(Ok(message)) => match message.key().map(std::str::from_utf8) {
                    Some(Ok(key)) => each(message.offset(), key, message.payload()),
                    _ => tracing::warn!("{name}: the key at {} is no text", message.offset()),
                },
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                    if ended.len() == partitions as usize
                        && let Some(caught_up) = caught_up.take()
                    {
                        caught_up();
                    }
                }
                Some(Err(error)) => tracing::warn!("{name}: {error}"),
            }
        }
    };
    let thread = std::thread::Builder::new().name(format!("follow-{topic}"));
    thread.spawn(body).map_err(|e| format!("no thread: {e}"))
}

/// Sends an entry; it is durable when the future says so.
pub fn send(
    producer: &FutureProducer,
    topic: &str,
    partition: Option<i32>,
    entry: &Entry,
) -> Result<DeliveryFuture, String> {
    let mut record = FutureRecord::<str, [u8]>::to(topic).key(&entry.key);
    record.partition = partition;
    record.payload = entry.value.as_deref();
    let sent = producer.send_result(record);
    sent.map_err(|(error, _)| format!("{topic}: {error}"))
}
