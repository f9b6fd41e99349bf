//! How a client finds the broker that it needs: the only one there is, or in a cluster the leader of a
//! partition and the coordinator of a group, which change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{ClientError, Connection, code};

/// A broker that does not answer for this long is asked for nothing more: another one may know.
const LOOK_UP_WAIT: Duration = Duration::from_secs(1);
/// What real clients call `request.timeout.ms`, shorter: long enough that a broker which was paused or cut
/// off for a while answers in the end, to a client that has waited for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the next one is asked.
const LOOK_UP_PAUSE: Duration = Duration::from_millis(30);
/// A cluster that is whole has a leader long before that.
const SETTLE_WAIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Places {
    brokers: Arc<[SocketAddr]>,
    /// What stands in front of a broker and is asked in its place.
    detours: Arc<[(SocketAddr, SocketAddr)]>,
    /// The broker that is asked next.
    turn: Arc<AtomicUsize>,
    /// In a cluster, how long a broker may be silent before another one is asked.
    patience: Duration,
}

enum Sought<'a> {
    Leader(&'a str, i32),
    Coordinator(&'a str),
}

impl From<SocketAddr> for Places {
    fn from(address: SocketAddr) -> Places {
        Places::of(&[address])
    }
}

impl Places {
    pub fn of(brokers: &[SocketAddr]) -> Places {
        assert!(!brokers.is_empty(), "a client knows at least one broker");
        Places {
            brokers: brokers.into(),
            detours: Arc::new([]),
            turn: Arc::default(),
            patience: PATIENCE,
        }
    }

    /// The same for a client that soon gives up on a silent broker.
    pub fn impatient(&self, patience: Duration) -> Places {
        Places {
            patience,
            ..self.clone()
        }
    }

    /// The same by way of proxies: each with its broker's address before it.
    pub fn through(&self, detours: &[(SocketAddr, SocketAddr)]) -> Places {
        Places {
            detours: detours.into(),
            ..self.clone()
        }
    }

    fn detour(&self, broker: SocketAddr) -> SocketAddr {
        let mut detours = self.detours.iter();
        let found = detours.find(|(address, _)| *address == broker);
        found.map_or(broker, |(_, proxy)| *proxy)
    }

    /// Whether there is more than one broker.
    pub fn is_cluster(&self) -> bool {
        self.brokers.len() > 1
    }

    /// To the partition's leader, as one broker knows it.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<Connection, ClientError> {
        self.find(Sought::Leader(topic, partition)).await
    }

    /// To the group's coordinator, as one broker knows it.
    pub async fn coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        self.find(Sought::Coordinator(group)).await
    }

    /// To one of the brokers, whatever it leads.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        match self.is_cluster() {
            true => Connection::open_within(self.next_address(), self.patience).await,
            false => Connection::open(self.next_address()).await,
        }
    }

    async fn find(&self, sought: Sought<'_>) -> Result<Connection, ClientError> {
        if !self.is_cluster() {
            return Connection::open(self.brokers[0]).await;
        }
        let found = self.try_find(sought).await;
        if found.is_err() {
            tokio::time::sleep(LOOK_UP_PAUSE).await;
        }
        found
    }

    async fn try_find(&self, sought: Sought<'_>) -> Result<Connection, ClientError> {
        let mut broker = self.next().await?;
        let address = match sought {
            Sought::Leader(topic, partition) => broker.leader(topic, partition).await?,
            Sought::Coordinator(group) => broker.coordinator(group).await?,
        };
        Connection::open_within(self.detour(address), self.patience).await
    }

    async fn next(&self) -> Result<Connection, ClientError> {
        Connection::open_within(self.next_address(), LOOK_UP_WAIT).await
    }

    fn next_address(&self) -> SocketAddr {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.detour(self.brokers[turn % self.brokers.len()])
    }
}

/// Does something until it works: brokers may be about to elect, to load or to come back. What a client
/// must not be told ends it at once.
pub async fn settled<T>(what: &str, action: impl AsyncFn() -> Result<T, ClientError>) -> T {
    let began = Instant::now();
    loop {
        match action().await {
            Ok(value) => return value,
            Err(error) if passes(&error) && began.elapsed() < SETTLE_WAIT => {
                tokio::time::sleep(LOOK_UP_PAUSE).await;
            }
            Err(error) => panic!("{what}: {error}, {:?} after the first try", began.elapsed()),
        }
    }
}

/// Whether a client would come back after this.
pub fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Kafka { code, .. } => code::is_retriable(*code),
        other => other.is_disconnect(),
    }
}
