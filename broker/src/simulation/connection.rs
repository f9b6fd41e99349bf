//! A client's connection to a broker over the simulated network: frames in order, answered in order by the real
//! API handlers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kafka_protocol::messages::ApiKey;
use ottla_proto::ids::NodeId;
use ottla_tests::client::{FETCH, OFFSET_FETCH, PRODUCE};
use ottla_tests::lies::{self, Lie};
use tokio::sync::{mpsc, oneshot, watch};

use super::process::Process;
use super::world::World;
use crate::api::{self, Peer};
use crate::services::Services;

/// A request without its length, and where its answer goes.
type Asked = (Bytes, oneshot::Sender<Bytes>);
/// An answer on its way; `None` closes the connection.
type Answering = (BoxFuture<'static, Option<Bytes>>, oneshot::Sender<Bytes>);

pub struct Connection {
    requests: mpsc::UnboundedSender<Asked>,
}

impl Connection {
    /// `None`: refused, or broken on the way.
    pub async fn open(world: &Arc<World>, client: NodeId, broker: NodeId) -> Option<Connection> {
        world.network.carry(client, broker).await.ok()?;
        let process = world.process(broker)?;
        let services = process.services()?;
        let (requests, incoming) = mpsc::unbounded_channel();
        let (outgoing, answers) = mpsc::unbounded_channel();
        let server = Server {
            world: world.clone(),
            process: process.clone(),
            services,
            client,
            broker,
        };
        let tasks = &process.tasks;
        tasks.spawn(write(world.clone(), (broker, client), answers));
        tasks.spawn(server.read(incoming, outgoing));
        Some(Connection { requests })
    }

    /// Sends a request, behind those before it. The answer is an error if the connection or the broker ends first.
    pub fn send(&self, frame: Bytes) -> oneshot::Receiver<Bytes> {
        let (reply, answer) = oneshot::channel();
        let _ = self.requests.send((frame, reply));
        answer
    }
}

struct Server {
    world: Arc<World>,
    process: Arc<Process>,
    services: Arc<Services>,
    client: NodeId,
    broker: NodeId,
}

impl Server {
    async fn read(
        self,
        mut incoming: mpsc::UnboundedReceiver<Asked>,
        outgoing: mpsc::UnboundedSender<Answering>,
    ) {
        let (gone, is_gone) = watch::channel(false);
        let peer = Arc::new(Peer {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener: "PLAINTEXT".into(),
            gone: is_gone,
        });
        while let Some((frame, reply)) = incoming.recv().await {
            let carried = self.world.network.carry(self.client, self.broker).await;
            if carried.is_err() {
                break;
            }
            let Some(answer) = self.answer(&peer, frame).await else {
                break;
            };
            if outgoing.send((answer, reply)).is_err() {
                break;
            }
        }
        gone.send_replace(true);
    }

    /// What the broker answers, or what the lie makes of it.
    async fn answer(
        &self,
        peer: &Arc<Peer>,
        frame: Bytes,
    ) -> Option<BoxFuture<'static, Option<Bytes>>> {
        let (key, version, id) = asked(&frame)?;
        let is = |api: ApiKey, at: i16| key == api as i16 && version == at;
        let is_produce = is(ApiKey::Produce, PRODUCE);
        let lie = self.world.lie;
        if lie == Lie::AckAtOnce && is_produce {
            let acknowledgement = lies::acknowledgement(frame.clone(), id)?;
            let pending = api::start(&self.services, peer, frame).await.ok()?;
            self.process
                .tasks
                .spawn(async move { drop(pending.answer.await) });
            return Some(Box::pin(async move { Some(acknowledgement) }));
        }
        let frame = match lie == Lie::ForgetProducers && is_produce {
            true => lies::without_producers(frame)?,
            false => frame,
        };
        let is_stale = lie == Lie::StaleReads && is(ApiKey::Fetch, FETCH);
        let is_lost = lie == Lie::ForgetProducers && is_produce;
        let is_old = lie == Lie::OldOffsets && is(ApiKey::OffsetFetch, OFFSET_FETCH);
        let pending = api::start(&self.services, peer, frame).await.ok()?;
        let world = self.world.clone();
        Some(Box::pin(async move {
            let reply = pending.answer.await.ok()?;
            let answer = Bytes::from(reply.segments.concat()).slice(4..);
            if is_stale {
                return Some(lies::as_last_known(answer, &world.lies)?.0);
            }
            if is_old {
                return lies::old_offsets(answer, &world.lies);
            }
            (!is_lost || !lies::loses_answer(&world.lies)).then_some(answer)
        }))
    }
}

/// API key, version and correlation id of a frame.
fn asked(frame: &[u8]) -> Option<(i16, i16, i32)> {
    let key = i16::from_be_bytes(frame.get(..2)?.try_into().ok()?);
    let version = i16::from_be_bytes(frame.get(2..4)?.try_into().ok()?);
    let id = i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
    Some((key, version, id))
}

async fn write(
    world: Arc<World>,
    (broker, client): (NodeId, NodeId),
    mut answers: mpsc::UnboundedReceiver<Answering>,
) {
    while let Some((answer, reply)) = answers.recv().await {
        let Some(answer) = answer.await else {
            return;
        };
        if world.network.carry(broker, client).await.is_err() {
            return;
        }
        let _ = reply.send(answer);
    }
}
