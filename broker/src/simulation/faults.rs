//! What goes wrong, drawn from the seed.

use std::sync::Arc;
use std::time::Duration;

use ottla_proto::ids::NodeId;
use ottla_raft::Faults;
use ottla_tests::random::Random;

use super::world::World;

/// How far wall clocks go wrong.
const SKEW_MS: u64 = 20_000;
const SLOWEST_SYNC_MS: u64 = 400;

pub struct Misfortune {
    world: Arc<World>,
    random: Random,
    /// A disk may be lost once: the others have all it had.
    disks_to_lose: u32,
}

impl Misfortune {
    pub fn new(world: &Arc<World>) -> Misfortune {
        let mut random = Random::new(world.seed);
        world.network.set_faults(Faults {
            min_delay: Duration::from_micros(200),
            max_delay: Duration::from_micros(400 + random.below(20_000)),
            break_per_mille: random.below(4),
            drop_per_mille: random.below(50),
            duplicate_per_mille: random.below(50),
        });
        Misfortune {
            world: world.clone(),
            random,
            disks_to_lose: 1,
        }
    }

    fn node(&mut self) -> NodeId {
        1 + self.random.below(self.world.size as u64) as NodeId
    }

    pub async fn pause(&mut self) {
        let pause = Duration::from_millis(50 + self.random.below(900));
        tokio::time::sleep(pause).await;
    }

    /// One thing goes wrong, or well again.
    pub async fn step(&mut self) {
        let (node, other) = (self.node(), self.node());
        let (world, is_up) = (self.world.clone(), self.world.process(node).is_some());
        let note = |what: String| world.journal.note(what);
        match self.random.below(16) {
            0..=2 if is_up => self.crash(node).await,
            0..=5 if !is_up => self.start(node),
            3 if is_up && self.random.one_in(3) => {
                note("the power fails".to_owned());
                for node in world.nodes() {
                    world.crash(node, self.random.below(1000)).await;
                }
                world.nodes().for_each(|node| self.start(node));
            }
            6 | 7 if node != other => {
                note(format!("cut {node} to {other}"));
                world.network.cut(node, other);
            }
            8 => {
                note(format!("isolate {node}"));
                world
                    .network
                    .isolate(node, world.nodes().filter(|other| *other != node));
            }
            9 => {
                // With its clients: what it has not answered, nobody learns.
                note(format!("unplug {node}"));
                let all = world.nodes().chain(100..200);
                world
                    .network
                    .isolate(node, all.filter(|other| *other != node));
            }
            10 if node != other => {
                let delay = Duration::from_millis(self.random.below(300));
                note(format!("{node} to {other} takes {delay:?}"));
                world.network.delay(node, other, delay);
            }
            11 => {
                let delay = Duration::from_millis(1 + self.random.below(SLOWEST_SYNC_MS));
                note(format!("the disk of {node} takes {delay:?}"));
                world.slow_disk(node, delay);
            }
            12 => {
                let skew_ms = self.random.below(2 * SKEW_MS) as i64 - SKEW_MS as i64;
                note(format!("the clock of {node} is {skew_ms} ms ahead"));
                world.skew(node, skew_ms);
            }
            13 if is_up => {
                note(format!("stop {node}"));
                world.stop(node).await;
                note(format!("{node} has stopped"));
            }
            _ => {
                note("heal".to_owned());
                world.network.heal();
                for node in world.nodes() {
                    world.slow_disk(node, Duration::from_micros(300 + self.random.below(3000)));
                }
            }
        }
    }

    async fn crash(&mut self, node: NodeId) {
        let luck = self.random.below(1000);
        self.world.journal.note(format_args!("crash {node}"));
        self.world.crash(node, luck).await;
    }

    fn start(&mut self, node: NodeId) {
        if self.disks_to_lose > 0 && self.random.one_in(10) {
            self.disks_to_lose -= 1;
            self.world
                .journal
                .note(format_args!("{node} has a new disk"));
            self.world.wipe(node);
        }
        self.world.journal.note(format_args!("start {node}"));
        self.world.start(node);
    }
}
