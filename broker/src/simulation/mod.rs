//! The simulated cluster: brokers as `node.rs` builds them, their clients, and everything that goes wrong, in one
//! thread whose only source of chance is a seed. A seed is one history, to the byte.
//!
//! Real: the API handlers, coordinators, controller, metadata, reconciliation, membership and registration of this
//! crate, and all of `ottla_raft` with openraft. Simulated: sockets (a Kafka frame is handed over whole),
//! the network (`MemoryNetwork`), the store (`MemoryStore` on a disk that syncs late and forgets what is not
//! synced), time (tokio's, paused) and wall clocks. Not there: RocksDB, gRPC, retention and compaction, the
//! forming of a cluster, controllers without brokers, and clocks that run at different speeds.
//!
//! Rules beside those of `tests/src/checker/mod.rs`:
//!
//! | rule | meaning |
//! | --- | --- |
//! | TwoLeaders | a replication group has at most one leader in a leader epoch |
//! | WatermarkBack | a replica's high watermark never goes back while it is there |
//! | GroupSplit | two members never own one partition in the same generation of a group |
//! | OffsetRegress | a committed offset is never lost, moved back, or made up, whoever is a member |
//! | ProducerIdTwice | no producer id is given to two producers |
//! | LostTopic | a topic that the controller said is there stays there |
//! | Stuck | when all is well again, everything that was asked for happens, and all nodes come to the same |
//!
//! `make sim SEEDS=N` runs N seeds, `make sim SEED=S` one, and shows where its history is.

mod clients;
mod commits;
mod connection;
mod faults;
mod journal;
mod judge;
mod process;
mod tests;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_proto::ids::NodeId;
use ottla_tests::lies::Lie;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use clients::{Client, Member, Operator, PARTITIONS, Producer, Reader, TOPIC};
use faults::Misfortune;
use journal::{Counts, Violation};
use world::World;

const STEPS: u64 = 16;
/// How long things may take when nothing is wrong any more.
const SETTLE: Duration = Duration::from_secs(90);
const GROUPS: [(&str, NodeId); 2] = [("pair", 2), ("single", 1)];

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub lie: Lie,
    pub disks: ottla_simulation::Lie,
}

pub const WHOLE: Broken = Broken {
    lie: Lie::None,
    disks: ottla_simulation::Lie::None,
};

pub struct Outcome {
    pub violations: Vec<Violation>,
    pub counts: Counts,
    /// Everything that was seen, a line each, with its microsecond.
    pub history: String,
}

/// Runs a seed to its end.
pub fn run(seed: u64, broken: Broken) -> Outcome {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(simulate(seed, broken))
}

async fn simulate(seed: u64, broken: Broken) -> Outcome {
    // Every other cluster has a broker more than a partition has replicas.
    let size = world::VOTERS + (seed % 2) as NodeId;
    let world = World::new(seed, size, broken.lie, broken.disks);
    world.nodes().for_each(|node| world.start(node));
    let watching = tokio::spawn(judge::watch(world.clone()));

    let soon = Instant::now() + SETTLE;
    let mut client = Client::new(&world, 100);
    if !clients::create_topic(&mut client, TOPIC, PARTITIONS, soon).await {
        stuck(&world, "no topic could be made");
        return end(&world);
    }
    let until = Instant::now() + Duration::from_millis(500 * STEPS);
    let mut tasks: Vec<(String, JoinHandle<()>)> = Vec::new();
    for partition in 0..PARTITIONS {
        let (producer, reader) = (110 + partition, 120 + partition);
        let producer = Producer::new(&world, producer, partition);
        let reader = Reader::new(&world, reader, partition);
        let name = |what: &str| format!("{what} {partition}");
        tasks.push((name("producer"), tokio::spawn(producer.run(until))));
        tasks.push((name("reader"), tokio::spawn(reader.run(until))));
    }
    for (at, (group, size)) in (0..).zip(GROUPS) {
        for number in 0..size {
            let member = Member::new(&world, 130 + 10 * at + number, group);
            let name = format!("member {number} of {group}");
            tasks.push((name, tokio::spawn(member.run(until))));
        }
    }
    let operator = tokio::spawn(Operator::new(&world, 101).run(until));

    let mut misfortune = Misfortune::new(&world);
    for _ in 0..STEPS {
        misfortune.pause().await;
        misfortune.step().await;
    }
    world.journal.note("all is well again");
    world.heal();

    let deadline = Instant::now() + SETTLE;
    for (name, task) in tasks {
        match timeout_at(deadline, task).await {
            Ok(done) => done.expect("a client does not panic"),
            Err(_) => stuck(&world, &name),
        }
    }
    let made = match timeout_at(deadline, operator).await {
        Ok(made) => made.expect("the operator does not panic"),
        Err(_) => {
            stuck(&world, "the operator");
            BTreeSet::new()
        }
    };
    finish(&world, deadline + SETTLE).await;
    judge::find_topics(&world, &made);
    watching.abort();
    end(&world)
}

/// Reads everything once more.
async fn finish(world: &Arc<World>, deadline: Instant) {
    for (at, (group, _)) in (0..).zip(GROUPS) {
        if !clients::read_commits(world, 150 + at, group, deadline).await {
            stuck(world, &format!("the offsets of {group}"));
        }
    }
    for partition in 0..PARTITIONS {
        match clients::read_all(world, 160 + partition, partition, deadline).await {
            Some(read) => world
                .journal
                .add(ottla_tests::history::Event::Complete(read)),
            None => stuck(world, &format!("reading partition {partition}")),
        }
    }
    if let Err(why) = judge::settle(world, deadline).await {
        stuck(world, &why);
    }
    judge::read_replicas(world);
}

fn stuck(world: &World, what: &str) {
    let text = format!("{what}\n{}", judge::describe(world));
    world.journal.violation("Stuck", text);
}

fn end(world: &World) -> Outcome {
    world.journal.note("end");
    let (violations, counts, history) = world.journal.end();
    Outcome {
        violations,
        counts,
        history,
    }
}
