//! Producers and readers together: the load under which a broker is killed or attacked.
//!
//! Producers send only what they are allowed to, so that the size of a run does not depend on the
//! machine, and a fault can be placed at "after so many acknowledgements".

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::checker::{self, Summary};
use crate::client::{Connection, Topic};
use crate::history::Recorder;
use crate::producer::{Acknowledged, Producer, Trouble};
use crate::random::Random;
use crate::reader::{Follower, read_complete};

/// Broken, or just slow? After this long without the acknowledgements waited for, broken.
const PROGRESS_WAIT: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub producers: u32,
    pub readers: u32,
    pub partitions: i32,
    /// Records in the largest batch; most are smaller.
    pub batch_records: u64,
    pub value_bytes: u64,
    /// One batch in this many is large instead: a few values of `fat_bytes` together.
    pub one_fat_in: u64,
    pub fat_bytes: u64,
}

pub struct Load {
    topic: String,
    address: SocketAddr,
    shape: Shape,
    recorder: Recorder,
    credits: Arc<Semaphore>,
    acknowledged: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    producers: Vec<JoinHandle<Producer>>,
    readers: Vec<JoinHandle<u64>>,
}

impl Load {
    /// Makes the topic and starts every client. Nothing is sent before [`Load::allow`].
    pub async fn start(
        address: SocketAddr,
        topic: &str,
        shape: Shape,
        random: &mut Random,
    ) -> Load {
        let mut connection = Connection::open(address).await.expect("the broker is up");
        let wanted = Topic {
            name: topic,
            partitions: shape.partitions,
            configs: &[],
        };
        connection
            .create_topic(wanted)
            .await
            .expect("a topic can be made");
        let recorder = Recorder::default();
        let credits = Arc::new(Semaphore::new(0));
        let (count, acknowledged) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let producers = (1..=shape.producers).map(|name| {
            let producer = Producer::new(name, address, topic, shape.partitions, recorder.clone());
            tokio::spawn(produce(
                producer,
                shape,
                random.fork(),
                credits.clone(),
                count.clone(),
            ))
        });
        let readers = (1..=shape.readers).map(|name| {
            let (topic, recorder) = (topic.to_owned(), recorder.clone());
            let follower = Follower {
                name,
                address,
                topic,
                partitions: shape.partitions,
                recorder,
            };
            tokio::spawn(follower.run(stopped.clone()))
        });
        let (producers, readers) = (producers.collect(), readers.collect());
        let topic = topic.to_owned();
        Load {
            topic,
            address,
            shape,
            recorder,
            credits,
            acknowledged,
            stop,
            producers,
            readers,
        }
    }

    /// Lets the producers send this many more batches.
    pub fn allow(&self, batches: usize) {
        self.credits.add_permits(batches);
    }

    pub fn acknowledged_batches(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Waits until this many batches are acknowledged in all.
    pub async fn wait_for_acknowledged(&mut self, batches: u64) {
        let reached = self.acknowledged.wait_for(|n| *n >= batches);
        let waited = tokio::time::timeout(PROGRESS_WAIT, reached)
            .await
            .map(|all| all.is_ok());
        if waited != Ok(true) {
            let seen = self.acknowledged_batches();
            let (_, violations) = checker::check(&self.recorder.take());
            panic!("{seen} batches acknowledged, {batches} expected; {violations:#?}");
        }
    }

    /// Sends at a steady rate until told to stop, waiting for each portion to be acknowledged.
    pub async fn keep_busy(&mut self, stop: &watch::Receiver<bool>) {
        const PORTION: u64 = 20;
        const EVERY: Duration = Duration::from_millis(50);
        let mut ticks = tokio::time::interval(EVERY);
        while !*stop.borrow() {
            ticks.tick().await;
            let before = self.acknowledged_batches();
            self.allow(PORTION as usize);
            self.wait_for_acknowledged(before + PORTION).await;
        }
    }

    /// Lets everything in flight settle and stops all clients. The broker must be up.
    pub async fn stop(self) -> Stopped {
        let Load {
            topic,
            address,
            shape,
            recorder,
            credits,
            stop,
            producers,
            readers,
            ..
        } = self;
        credits.close();
        let mut acknowledged = Vec::new();
        let mut trouble = Trouble::default();
        for task in producers {
            let producer = task.await.expect("a producer does not panic");
            trouble += producer.trouble;
            acknowledged.extend(producer.acknowledged.into_iter().flatten());
        }
        stop.send_replace(true);
        for task in readers {
            trouble.disconnects += task.await.expect("a reader does not panic");
        }
        Stopped {
            topic,
            address,
            shape,
            recorder,
            acknowledged,
            trouble,
        }
    }
}

/// A load that has ended, and what it left.
pub struct Stopped {
    topic: String,
    address: SocketAddr,
    shape: Shape,
    recorder: Recorder,
    /// The newest acknowledged batch of each producer and partition.
    acknowledged: Vec<Acknowledged>,
    pub trouble: Trouble,
}

impl Stopped {
    /// Sends each producer's newest batches once more: the broker must know them, and answer with the
    /// offsets that they have.
    pub async fn assert_sequences_known(&self) {
        let mut connection = Connection::open(self.address)
            .await
            .expect("the broker is up");
        for known in &self.acknowledged {
            let partition = known.batch.partition;
            let answer = connection
                .produce(&self.topic, partition, known.records.clone())
                .await;
            let answer = answer.expect("a duplicate is answered");
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (0, known.base_offset),
                "{:?} was acknowledged and sent again",
                known.batch
            );
        }
    }

    /// Reads everything back and checks every promise.
    pub async fn check(&self) -> Summary {
        let mut connection = Connection::open(self.address)
            .await
            .expect("the broker is up");
        for partition in 0..self.shape.partitions {
            let read = read_complete(&mut connection, &self.topic, partition, &self.recorder).await;
            read.unwrap_or_else(|e| panic!("partition {partition} can't be read back: {e}"));
        }
        for name in 1..=self.shape.readers {
            let (topic, recorder) = (self.topic.clone(), self.recorder.clone());
            let (address, partitions) = (self.address, self.shape.partitions);
            let follower = Follower {
                name,
                address,
                topic,
                partitions,
                recorder,
            };
            follower
                .committed(&mut connection)
                .await
                .expect("committed offsets can be read back");
        }
        checker::assert_clean(&self.recorder.take())
    }
}

async fn produce(
    mut producer: Producer,
    shape: Shape,
    mut random: Random,
    credits: Arc<Semaphore>,
    count: watch::Sender<u64>,
) -> Producer {
    while next_credit(&mut producer, &credits, &count).await {
        let partition = random.below(shape.partitions as u64) as i32;
        let sent = producer.send(partition, &sizes(shape, &mut random)).await;
        let Ok(settled) = sent else { return producer };
        count.send_modify(|n| *n += settled);
    }
    if let Ok(settled) = producer.flush().await {
        count.send_modify(|n| *n += settled);
    }
    producer
}

/// Waits for leave to send one more batch; what is in flight settles meanwhile. False at the end.
async fn next_credit(
    producer: &mut Producer,
    credits: &Semaphore,
    count: &watch::Sender<u64>,
) -> bool {
    if let Ok(credit) = credits.try_acquire() {
        credit.forget();
        return true;
    }
    let Ok(settled) = producer.flush().await else {
        return false;
    };
    count.send_modify(|n| *n += settled);
    match credits.acquire().await {
        Ok(credit) => {
            credit.forget();
            true
        }
        Err(_) => false,
    }
}

/// Mostly small batches, many of one record, some as large as may be.
fn sizes(shape: Shape, random: &mut Random) -> Vec<usize> {
    if random.one_in(shape.one_fat_in) {
        let records = 1 + random.below(8);
        return vec![(shape.fat_bytes / records) as usize; records as usize];
    }
    let most = match random.below(4) {
        0 => 1,
        1 | 2 => shape.batch_records.div_ceil(8),
        _ => shape.batch_records,
    };
    let count = 1 + random.below(most);
    (0..count)
        .map(|_| random.below(shape.value_bytes) as usize)
        .collect()
}
