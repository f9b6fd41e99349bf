//! Looks inside the nodes: while they run, and when all is well again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_response::PartitionData;
use ottla_proto::ids::{GroupId, NodeId, PartitionId};
use ottla_raft::Partition;
use ottla_tests::history::{Event, Read};
use ottla_tests::reader::decode;
use tokio::time::Instant;

use super::clients::{PARTITIONS, TOPIC};
use super::process::Process;
use super::world::World;
use crate::topics::Replica;

const LOOK_MS: u64 = 10;
const READ_BYTES: usize = 1 << 20;

/// Watches for ever: who leads, and high watermarks, which never go back while a replica is there.
pub async fn watch(world: Arc<World>) {
    let mut marks: BTreeMap<(NodeId, PartitionId), (Arc<Partition>, i64)> = BTreeMap::new();
    loop {
        for (node, process) in world.running() {
            let mut groups = process.groups.all();
            groups.sort_by_key(|group| group.id);
            for group in groups {
                if let Some(epoch) = group.leader_epoch() {
                    world.journal.leads(group.id, epoch, node);
                }
                for id in group.partition_ids() {
                    let partition = group.partition(id);
                    let mark = partition.bounds().high_watermark;
                    let before = marks.insert((node, id), (partition.clone(), mark));
                    // A replica of another life, or one that came back, begins anew.
                    let is_back = |(of, old): &(_, i64)| Arc::ptr_eq(of, &partition) && *old > mark;
                    if let Some((_, before)) = before.filter(is_back) {
                        let text = format!("{id} on {node}: {mark} after {before}");
                        world.journal.violation("WatermarkBack", text);
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// Waits until every node serves, has the same metadata, and every replica has all records of its partition.
/// Says what is not so in time.
pub async fn settle(world: &Arc<World>, until: Instant) -> Result<(), String> {
    loop {
        let unsettled = match unsettled(world) {
            None => return Ok(()),
            Some(why) => why,
        };
        if Instant::now() >= until {
            return Err(unsettled);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn unsettled(world: &Arc<World>) -> Option<String> {
    let mut images = Vec::new();
    for (node, process) in world.running() {
        if let Some(why) = process.failed() {
            return Some(format!("{node} did not start: {why}"));
        }
        let Some(services) = process.services() else {
            return Some(format!("{node} has not started"));
        };
        images.push((node, services.metadata.current()));
    }
    for (node, image) in &images {
        if image != &images[0].1 {
            let (one, other) = (images[0].1.applied_offset(), image.applied_offset());
            let first = images[0].0;
            return Some(format!("metadata: {first} is at {one}, {node} at {other}"));
        }
        if let Some(moving) = image.groups().find(|group| group.is_moving()) {
            return Some(format!("{} is moving", moving.id));
        }
    }
    for index in 0..PARTITIONS {
        let ends: BTreeSet<i64> = replicas(world, index)
            .into_iter()
            .map(|(_, replica)| replica.partition.bounds().high_watermark)
            .collect();
        if ends.len() != 1 {
            return Some(format!("the ends of {index} are {ends:?}"));
        }
        if replicas(world, index).len() < 3 {
            return Some(format!("partition {index} has lost replicas"));
        }
    }
    None
}

fn replicas(world: &World, index: i32) -> Vec<(NodeId, Replica)> {
    let replica = |(node, process): (NodeId, Arc<Process>)| {
        let topic = process.services()?.topics.by_name(TOPIC).ok()?;
        Some((node, topic.replica(index).ok()?.clone()))
    };
    world.running().into_iter().filter_map(replica).collect()
}

/// Tells the journal all that each replica has, for the checker to compare.
pub fn read_replicas(world: &World) {
    let now = world.journal.now();
    for index in 0..PARTITIONS {
        for (node, replica) in replicas(world, index) {
            let end = replica.partition.bounds().high_watermark;
            let mut all = Read {
                reader: node as u32,
                partition: index,
                asked_at: now,
                answered_at: now,
                fetch_offset: 0,
                high_watermark: end,
                records: Vec::new(),
            };
            loop {
                let next = all.records.last().map_or(0, |seen| seen.offset + 1);
                let group = &replica.group;
                let found = group.read(&replica.partition, next, end, READ_BYTES);
                let found = found.expect("memory can be read").concat();
                if next >= end || found.is_empty() {
                    break;
                }
                let data = PartitionData::default()
                    .with_partition_index(index)
                    .with_high_watermark(end)
                    .with_records(Some(found.into()));
                match decode(node as u32, data, (now, now), next) {
                    Ok(read) if !read.records.is_empty() => all.records.extend(read.records),
                    other => {
                        let text = format!("partition {index} on {node} at {next}: {other:?}");
                        world.journal.violation("Unreadable", text);
                        break;
                    }
                }
            }
            world.journal.add(Event::Complete(all));
        }
    }
}

/// lost-topic: what the controller said is there, every node's metadata has.
pub fn find_topics(world: &World, made: &BTreeSet<String>) {
    for (node, process) in world.running() {
        let Some(services) = process.services() else {
            continue;
        };
        let image = services.metadata.current();
        for name in made {
            if image.topic(name).is_none() {
                let text = format!("{name} is not in the metadata of {node}");
                world.journal.violation("LostTopic", text);
            }
        }
    }
}

/// Groups and their leaders, for who wonders why nothing settles.
pub fn describe(world: &World) -> String {
    let mut lines = String::new();
    for (node, process) in world.running() {
        let mut groups = process.groups.all();
        groups.sort_by_key(|group| group.id);
        for group in groups {
            let GroupId(id) = group.id;
            let (epoch, members) = (group.leader_epoch(), group.members());
            let leader = group.leader();
            lines += &format!("  node {node} group {id}: {epoch:?} {leader:x?} {members:x?}\n");
        }
    }
    lines
}
