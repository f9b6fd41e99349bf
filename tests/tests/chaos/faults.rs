//! What can happen to hosts, how it begins and how it ends.

use std::time::Duration;

use ottla_tests::client::{ClientError, code};
use ottla_tests::cluster::NODES;
use ottla_tests::network::{CUT, End, Trouble};
use ottla_tests::random::Random;

use crate::hosts::Hosts;
use crate::replicas;

/// Records are as old as producers' clocks say; a broker refuses those of more than an hour ahead of its own.
const CLOCK_OFF_MS: u64 = 50 * 60 * 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// kill -9.
    Kill(i32),
    KillAll,
    /// The host loses power: so many bytes of the newest unsynced write stay.
    PowerLoss(i32, u32),
    PowerLossAll(u32),
    /// SIGTERM.
    Terminate(i32),
    /// SIGSTOP, SIGCONT.
    Pause(i32),
    /// The node ends, and comes back with an empty disk. Its replicas were in sync.
    Wipe(i32),
    /// Nobody reaches the node, it reaches nobody.
    CutOff(i32),
    /// As `CutOff`, but clients reach it.
    CutFromPeers(i32),
    /// Only clients don't reach it.
    CutFromClients(i32),
    /// Two nodes do not reach each other, the third reaches both.
    CutPair(i32, i32),
    /// From the first to the second nothing comes through; the other way it does.
    CutOneWay(i32, i32),
    /// What the node sends to the others is lost.
    Mute(i32),
    /// What the others send to the node is lost.
    Deaf(i32),
    /// So many percent of all packets are lost, between the nodes and to and from clients.
    Loss(u32),
    /// What the node is sent goes through a narrow pipe.
    SlowLink(i32),
    /// Each sync takes that much longer, in microseconds.
    SlowSyncs(i32, u32),
    /// Replicas move: those of partitions that node N leads by preference to the list N modulo 3. They come back
    /// when the cluster is to be whole.
    Move(Vec<Vec<i32>>),
    /// The time of day jumps by that much, in milliseconds, and back.
    ClockJump(i32, i64),
}

impl Fault {
    pub fn draw(random: &mut Random) -> Fault {
        let node = NODES[random.below(3) as usize];
        let other = other(node, random);
        match random.below(21) {
            0 | 1 => Fault::Kill(node),
            2 => Fault::KillAll,
            3 => Fault::PowerLoss(node, torn(random)),
            4 => Fault::PowerLossAll(torn(random)),
            5 => Fault::Terminate(node),
            6 | 7 => Fault::Pause(node),
            8 => Fault::Wipe(node),
            9 => Fault::CutOff(node),
            10 => Fault::CutFromPeers(node),
            11 => Fault::CutFromClients(node),
            12 => Fault::CutPair(node, other),
            13 => Fault::CutOneWay(node, other),
            14 => match random.one_in(2) {
                true => Fault::Mute(node),
                false => Fault::Deaf(node),
            },
            15 => Fault::Loss(1 + random.below(15) as u32),
            16 => Fault::SlowLink(node),
            17 => Fault::SlowSyncs(node, 1000 * (1 + random.below(400)) as u32),
            18 | 19 => Fault::Move((0..3).map(|_| some(random)).collect()),
            _ => {
                let off = random.below(2 * CLOCK_OFF_MS) as i64 - CLOCK_OFF_MS as i64;
                Fault::ClockJump(node, off)
            }
        }
    }

    /// Whether this can happen while the other one lasts.
    pub fn goes_with(&self, other: &Fault) -> bool {
        let nodes = (self.stopped(), other.stopped());
        nodes.0.iter().all(|id| !nodes.1.contains(id))
            // One replica less is enough while a disk is made good, and bandwidth is one setting of a node.
            && !matches!((self, other), (Fault::Wipe(_), _) | (_, Fault::Wipe(_)))
            && !matches!((self, other), (Fault::SlowLink(a), Fault::SlowLink(b)) if a == b)
            && !matches!((self, other), (Fault::SlowSyncs(a, _), Fault::SlowSyncs(b, _)) if a == b)
            && !matches!((self, other), (Fault::ClockJump(a, _), Fault::ClockJump(b, _)) if a == b)
    }

    /// The nodes whose processes this ends or pauses.
    fn stopped(&self) -> Vec<i32> {
        match self {
            Fault::Kill(id)
            | Fault::PowerLoss(id, _)
            | Fault::Terminate(id)
            | Fault::Pause(id)
            | Fault::Wipe(id) => vec![*id],
            Fault::KillAll | Fault::PowerLossAll(_) => NODES.to_vec(),
            _ => vec![],
        }
    }

    pub async fn begin(&self, hosts: &mut Hosts) {
        match self {
            Fault::Kill(id) => hosts.node(*id).kill9(),
            Fault::KillAll => hosts.cluster.kill9_all(),
            Fault::PowerLoss(id, torn) => hosts.lose_power(&[*id], *torn).await,
            Fault::PowerLossAll(torn) => hosts.lose_power(&NODES, *torn).await,
            Fault::Terminate(id) => hosts.node(*id).signal_terminate(),
            Fault::Pause(id) => hosts.node(*id).pause(),
            Fault::Wipe(id) => wipe(hosts, *id).await,
            Fault::Move(lists) => begin_move(hosts, lists).await,
            Fault::SlowLink(id) => hosts.network.set_slow(*id, true).expect("tc works"),
            Fault::SlowSyncs(id, us) => hosts.disk(*id).slow_syncs(*us),
            Fault::ClockJump(id, off_ms) => hosts.clock(*id).set_off_ms(*off_ms),
            network => hosts.add_troubles(&network.troubles()),
        }
    }

    /// What was stopped starts; whether it comes up is seen later.
    pub async fn end(&self, hosts: &mut Hosts) {
        match self {
            Fault::Kill(id) | Fault::PowerLoss(id, _) | Fault::Wipe(id) => hosts.node(*id).spawn(),
            Fault::KillAll | Fault::PowerLossAll(_) => hosts.cluster.spawn_all(),
            Fault::Terminate(id) => {
                hosts.node(*id).wait_until_ended().await;
                hosts.node(*id).spawn();
            }
            Fault::Pause(id) => hosts.node(*id).resume(),
            Fault::Move(_) => {}
            Fault::SlowLink(id) => hosts.network.set_slow(*id, false).expect("tc works"),
            Fault::SlowSyncs(id, _) => hosts.disk(*id).slow_syncs(0),
            Fault::ClockJump(id, _) => hosts.clock(*id).set_off_ms(0),
            network => hosts.remove_troubles(&network.troubles()),
        }
    }

    fn troubles(&self) -> Vec<Trouble> {
        let one_way = |from, to| Trouble {
            from,
            to,
            lost_percent: CUT,
        };
        let both = |a, b| [one_way(a, b), one_way(b, a)];
        let node = End::Node;
        let peers = |id: i32| NODES.into_iter().filter(move |peer| *peer != id).map(node);
        match *self {
            Fault::CutOff(id) => {
                let others = peers(id).chain([End::Clients]);
                others.flat_map(|other| both(node(id), other)).collect()
            }
            Fault::CutFromPeers(id) => peers(id).flat_map(|peer| both(node(id), peer)).collect(),
            Fault::CutFromClients(id) => both(node(id), End::Clients).into(),
            Fault::CutPair(a, b) => both(node(a), node(b)).into(),
            Fault::CutOneWay(from, to) => vec![one_way(node(from), node(to))],
            Fault::Mute(id) => peers(id).map(|peer| one_way(node(id), peer)).collect(),
            Fault::Deaf(id) => peers(id).map(|peer| one_way(peer, node(id))).collect(),
            Fault::Loss(lost_percent) => {
                let ends = || NODES.into_iter().map(node).chain([End::Clients]);
                let pairs = ends().flat_map(|from| ends().map(move |to| (from, to)));
                let pairs = pairs.filter(|(from, to)| from != to);
                let lossy = |(from, to)| Trouble {
                    from,
                    to,
                    lost_percent,
                };
                pairs.map(lossy).collect()
            }
            _ => vec![],
        }
    }
}

/// Half of the time the newest write of each file is torn, not gone.
pub fn torn(random: &mut Random) -> u32 {
    match random.one_in(2) {
        true => random.below(100_000) as u32,
        false => 0,
    }
}

/// One node, or all in some order.
fn some(random: &mut Random) -> Vec<i32> {
    let mut nodes = NODES.to_vec();
    nodes.rotate_left(random.below(3) as usize);
    if random.one_in(2) {
        nodes.swap(1, 2);
    }
    if random.one_in(2) {
        nodes.truncate(1);
    }
    nodes
}

/// Asks for the move once; who is asked may be gone, or refuse for want of a controller.
async fn begin_move(hosts: &Hosts, lists: &[Vec<i32>]) {
    let asked = async {
        let mut connection = hosts.places().any().await?;
        let plan = |now: &[i32]| lists[now[0] as usize % lists.len()].clone();
        replicas::reassign(&mut connection, plan).await
    };
    if let Err(error) = asked.await {
        println!("           no move: {error}");
        let unknown =
            matches!(error, ClientError::Kafka { code, .. } if code == code::UNKNOWN_SERVER_ERROR);
        assert!(!unknown, "a refusal has a reason");
    }
}

fn other(node: i32, random: &mut Random) -> i32 {
    let others: Vec<i32> = NODES.into_iter().filter(|id| *id != node).collect();
    others[random.below(2) as usize]
}

/// A disk may be lost only while every other one has everything. The node is seen to leave the replicas in
/// sync before its successor comes: otherwise nobody could tell when that has caught up.
async fn wipe(hosts: &mut Hosts, id: i32) {
    hosts.make_whole().await;
    hosts.node(id).kill9();
    let others: Vec<i32> = NODES.into_iter().filter(|other| *other != id).collect();
    hosts.cluster.wait_for_in_sync(&others).await;
    hosts.node(id).wipe();
}

/// How long something lasts: often shorter than it takes to notice, sometimes much longer.
pub fn hold(random: &mut Random) -> Duration {
    let ms = match random.below(6) {
        0 => random.below(300),
        1 | 2 => 300 + random.below(1200),
        3 | 4 => 1500 + random.below(2500),
        _ => 4000 + random.below(6000),
    };
    Duration::from_millis(ms)
}
