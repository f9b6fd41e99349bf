//! Producers and readers together: the load under which a broker is killed or attacked.
//!
//! Producers send only what they are allowed to, so that the size of a run does not depend on the
//! machine, and a fault can be placed at "after so many acknowledgements".
//!
//! On one broker each client works on all partitions. In a cluster, where a partition's leader is looked
//! for, each works on one; and every other producer soon gives up on a silent leader, so that some of
//! them have gone to its successor while others still wait for its answer.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::checker::{self, Summary, Violation};
use crate::client::{ClientError, Connection, Topic, code};
use crate::history::Recorder;
use crate::places::{Places, settled};
use crate::producer::{Acknowledged, Producer, Trouble};
use crate::random::Random;
use crate::reader::{Follower, read_complete};

/// An impatient client's wait for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Broken, or just slow? After this long without the acknowledgements waited for, broken.
const PROGRESS_WAIT: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// In a cluster a multiple of the partitions.
    pub producers: u32,
    /// In a cluster of each partition.
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
    places: Places,
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
        places: impl Into<Places>,
        topic: &str,
        shape: Shape,
        random: &mut Random,
    ) -> Load {
        let places = places.into();
        let mut connection = places.any().await.expect("the broker is up");
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
            let round = name / shape.partitions as u32;
            let patient = !places.is_cluster() || round.is_multiple_of(2);
            let places = match patient {
                true => places.clone(),
                false => places.impatient(PATIENCE),
            };
            let home = places
                .is_cluster()
                .then_some(name as i32 % shape.partitions);
            let producer = Producer::new(name, places, topic, shape.partitions, recorder.clone());
            tokio::spawn(produce(
                producer,
                home,
                shape,
                random.fork(),
                credits.clone(),
                count.clone(),
            ))
        });
        let followers = followers(&places, topic, shape, &recorder);
        let readers = followers
            .into_iter()
            .map(|follower| tokio::spawn(follower.run(stopped.clone())));
        let (producers, readers) = (producers.collect(), readers.collect());
        let topic = topic.to_owned();
        Load {
            topic,
            places,
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

    /// Lets the producers send at a steady rate from now on, however many of them can, until the pace is dropped.
    pub fn pace(&self, batches_per_second: usize) -> Pace {
        const TICKS_PER_SECOND: u64 = 20;
        const SECONDS_SAVED: usize = 1;
        let credits = self.credits.clone();
        let portion = batches_per_second / TICKS_PER_SECOND as usize;
        Pace(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(1000 / TICKS_PER_SECOND));
            loop {
                ticks.tick().await;
                if credits.available_permits() < batches_per_second * SECONDS_SAVED {
                    credits.add_permits(portion);
                }
            }
        }))
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
            places,
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
            places,
            shape,
            recorder,
            acknowledged,
            trouble,
        }
    }
}

/// See [`Load::pace`].
pub struct Pace(JoinHandle<()>);

impl Drop for Pace {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A load that has ended, and what it left.
pub struct Stopped {
    topic: String,
    places: Places,
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
        for known in &self.acknowledged {
            let partition = known.batch.partition;
            let answer = settled("a duplicate is answered", async || {
                let mut leader = self.places.leader(&self.topic, partition).await?;
                let records = known.records.clone();
                let answer = leader.produce(&self.topic, partition, records).await?;
                match answer.error_code {
                    moved if self.places.is_cluster() && code::is_misdirected(moved) => {
                        Err(ClientError::Kafka {
                            what: "Produce",
                            code: moved,
                        })
                    }
                    _ => Ok(answer),
                }
            })
            .await;
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
        self.read_back().await;
        self.assert_kept()
    }

    /// Checks every promise; where one is broken, the history is written to a file for a person to read.
    pub fn assert_kept(&self) -> Summary {
        let (summary, violations) = self.findings();
        if !violations.is_empty() {
            let name = format!("ottla-history-{}-{}.txt", self.topic, std::process::id());
            let path = std::env::temp_dir().join(name);
            let written = self.write_history(&path);
            let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
            panic!(
                "{summary:?}; history in {} ({written:?}); broken promises:\n{}",
                path.display(),
                list.join("\n")
            );
        }
        summary
    }

    /// What the history shows, and every broken promise.
    pub fn findings(&self) -> (Summary, Vec<Violation>) {
        self.recorder.look(checker::check)
    }

    fn write_history(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        self.recorder.look(|history| {
            let mut events = history.events.iter();
            events.try_for_each(|event| writeln!(file, "{event:?}"))
        })
    }

    /// Every partition from start to end, and the committed offsets become part of the history.
    pub async fn read_back(&self) {
        for partition in 0..self.shape.partitions {
            settled(&format!("partition {partition} is read back"), async || {
                let mut leader = self.places.leader(&self.topic, partition).await?;
                read_complete(&mut leader, 0, &self.topic, partition, &self.recorder).await
            })
            .await;
        }
        for follower in followers(&self.places, &self.topic, self.shape, &self.recorder) {
            settled("committed offsets are read back", async || {
                let mut coordinator = self.places.coordinator(&follower.group()).await?;
                follower.committed(&mut coordinator).await
            })
            .await;
        }
    }

    /// As [`Stopped::read_back`], the partitions only, from a node that leads them all.
    pub async fn read_from(&self, node: i32, address: SocketAddr) -> Result<(), ClientError> {
        let mut leader = Connection::open(address).await?;
        for partition in 0..self.shape.partitions {
            let node = u32::try_from(node).expect("nodes count from 1");
            read_complete(&mut leader, node, &self.topic, partition, &self.recorder).await?;
        }
        Ok(())
    }
}

/// On one broker they follow all partitions, in a cluster one each.
fn followers(places: &Places, topic: &str, shape: Shape, recorder: &Recorder) -> Vec<Follower> {
    let shares: Vec<_> = match places.is_cluster() {
        true => (0..shape.partitions).map(|p| p..p + 1).collect(),
        false => std::iter::once(0..shape.partitions).collect(),
    };
    let shares = (0..shape.readers).flat_map(|_| shares.clone());
    let follower = |(partitions, name)| Follower {
        name,
        places: places.clone(),
        topic: topic.to_owned(),
        partitions,
        recorder: recorder.clone(),
    };
    shares.zip(1..).map(follower).collect()
}

async fn produce(
    mut producer: Producer,
    home: Option<i32>,
    shape: Shape,
    mut random: Random,
    credits: Arc<Semaphore>,
    count: watch::Sender<u64>,
) -> Producer {
    while next_credit(&mut producer, &credits, &count).await {
        let partition = home.unwrap_or_else(|| random.below(shape.partitions as u64) as i32);
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
