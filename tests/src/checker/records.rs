//! The rules about records.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Findings, Rule, Summary};
use crate::history::{Event, History, Id, Nanos, Read, Sent};

/// What is known of one partition.
#[derive(Default)]
struct Partition<'a> {
    /// Numbers sent so far, by producer: `0..sent`.
    sent: HashMap<u32, u64>,
    last_send_at: Nanos,
    acks: Vec<(Sent, Option<i64>, Nanos)>,
    reads: Vec<&'a Read>,
    complete: Vec<&'a Read>,
}

pub(super) fn check(history: &History, found: &mut Findings) -> Summary {
    let mut summary = Summary::default();
    let partitions = gather(history, &mut summary, found);
    for (index, partition) in &partitions {
        let places = one_record_per_offset(*index, partition, found);
        one_offset_per_record(*index, &places, found);
        order_of_sends(*index, &places, found);
        for read in partition.reads.iter().chain(&partition.complete) {
            no_gaps(*index, read, found);
        }
        nothing_lost(*index, partition, found);
        visible_at_once(*index, partition, found);
        nothing_taken_back(*index, partition, found);
        replicas_agree(*index, partition, found);
    }
    summary
}

fn gather<'a>(
    history: &'a History,
    summary: &mut Summary,
    found: &mut Findings,
) -> BTreeMap<i32, Partition<'a>> {
    let mut partitions: BTreeMap<i32, Partition<'a>> = BTreeMap::new();
    for event in &history.events {
        match event {
            Event::Send { batch, at } => {
                summary.sent_records += u64::from(batch.count);
                let partition = partitions.entry(batch.partition).or_default();
                partition.last_send_at = partition.last_send_at.max(*at);
                let sent = partition.sent.entry(batch.producer).or_default();
                *sent = (*sent).max(batch.first + u64::from(batch.count));
            }
            Event::Ack {
                batch,
                base_offset,
                at,
            } => {
                summary.acknowledged_records += u64::from(batch.count);
                partitions.entry(batch.partition).or_default().acks.push((
                    *batch,
                    *base_offset,
                    *at,
                ));
            }
            Event::Failed { batch, error, .. } => {
                found.add(Rule::FailedSend, || {
                    format!("{batch:?} was answered with {error}")
                });
            }
            Event::ReadFailed {
                reader,
                partition,
                offset,
                error,
            } => {
                found.add(Rule::FailedRead, || {
                    format!("reader {reader}: partition {partition} at {offset}: {error}")
                });
            }
            Event::Read(read) => {
                summary.reads += 1;
                partitions
                    .entry(read.partition)
                    .or_default()
                    .reads
                    .push(read);
            }
            Event::Complete(read) => {
                summary.stored_records += read.records.len() as u64;
                partitions
                    .entry(read.partition)
                    .or_default()
                    .complete
                    .push(read);
            }
            Event::CommitAcked { .. } => summary.commits_acknowledged += 1,
            Event::CommitSent { .. } | Event::CommitRead { .. } => {}
        }
    }
    partitions
}

/// inconsistent-offsets and foreign. Returns what lies where, from reads and acknowledgements.
fn one_record_per_offset(
    index: i32,
    partition: &Partition<'_>,
    found: &mut Findings,
) -> BTreeMap<i64, Id> {
    let mut places: BTreeMap<i64, Id> = BTreeMap::new();
    let mut put = |offset: i64, id: Id, source: &str, found: &mut Findings| {
        let there = *places.entry(offset).or_insert(id);
        if there != id {
            found.add(Rule::InconsistentOffsets, || {
                format!("partition {index} offset {offset} held {there:?}, and {id:?} for {source}")
            });
        }
    };
    for (batch, base_offset, _) in &partition.acks {
        let Some(base_offset) = base_offset else {
            continue;
        };
        for step in 0..u64::from(batch.count) {
            let id = Id {
                producer: batch.producer,
                number: batch.first + step,
            };
            put(base_offset + step as i64, id, "an acknowledgement", found);
        }
    }
    for read in partition.complete.iter().chain(&partition.reads) {
        for seen in &read.records {
            let known = seen.id.filter(|id| {
                partition
                    .sent
                    .get(&id.producer)
                    .is_some_and(|sent| id.number < *sent)
            });
            match known {
                Some(id) => put(seen.offset, id, "a reader", found),
                None => found.add(Rule::Foreign, || {
                    format!(
                        "partition {index} offset {} has {:?}, which nobody sent",
                        seen.offset, seen.id
                    )
                }),
            }
        }
    }
    places
}

fn one_offset_per_record(index: i32, places: &BTreeMap<i64, Id>, found: &mut Findings) {
    let mut offsets: HashMap<Id, i64> = HashMap::with_capacity(places.len());
    for (offset, id) in places {
        if let Some(other) = offsets.insert(*id, *offset) {
            found.add(Rule::Duplicate, || {
                format!("partition {index} has {id:?} at {other} and at {offset}")
            });
        }
    }
}

fn order_of_sends(index: i32, places: &BTreeMap<i64, Id>, found: &mut Findings) {
    let mut last: HashMap<u32, u64> = HashMap::new();
    for (offset, id) in places {
        if let Some(before) = last.insert(id.producer, id.number)
            && before > id.number
        {
            found.add(Rule::NonmonotonicSend, || {
                format!("partition {index} offset {offset} has {id:?} after {before}")
            });
        }
    }
}

fn no_gaps(index: i32, read: &Read, found: &mut Findings) {
    for (expected, seen) in (read.fetch_offset..).zip(&read.records) {
        if seen.offset != expected {
            found.add(Rule::PollSkip, || {
                format!(
                    "reader {} of partition {index}: offset {} where {expected} was due",
                    read.reader, seen.offset
                )
            });
            return;
        }
    }
}

/// lost-write and unseen.
fn nothing_lost(index: i32, partition: &Partition<'_>, found: &mut Findings) {
    for (batch, _, at) in &partition.acks {
        if !partition.complete.iter().any(|read| read.asked_at >= *at) {
            found.add(Rule::Unseen, || {
                format!("partition {index} was not read to its end after the ack of {batch:?}")
            });
            return;
        }
    }
    for read in &partition.complete {
        let stored: HashSet<Id> = read.records.iter().filter_map(|seen| seen.id).collect();
        for (batch, base_offset, at) in partition
            .acks
            .iter()
            .filter(|(_, _, at)| *at <= read.asked_at)
        {
            let missing = (0..u64::from(batch.count))
                .map(|step| Id {
                    producer: batch.producer,
                    number: batch.first + step,
                })
                .find(|id| !stored.contains(id));
            if let Some(id) = missing {
                found.add(Rule::LostWrite, || {
                    format!(
                        "partition {index}: {id:?}, acknowledged at {base_offset:?} ({at} ns), is not in the read of \
                         {} to {}",
                        read.fetch_offset, read.high_watermark
                    )
                });
            }
        }
    }
}

/// realtime: a read that starts after an acknowledgement has a high watermark beyond it.
fn visible_at_once(index: i32, partition: &Partition<'_>, found: &mut Findings) {
    let mut acks: Vec<(Nanos, i64)> = partition
        .acks
        .iter()
        .filter_map(|(batch, base_offset, at)| {
            base_offset.map(|base| (*at, base + i64::from(batch.count) - 1))
        })
        .collect();
    acks.sort_unstable();
    let mut reads: Vec<&Read> = partition
        .reads
        .iter()
        .chain(&partition.complete)
        .copied()
        .collect();
    reads.sort_unstable_by_key(|read| read.asked_at);
    let mut acks = acks.into_iter().peekable();
    let (mut newest, mut acked_at) = (-1, 0);
    for read in reads {
        while let Some((at, offset)) = acks.next_if(|(at, _)| *at < read.asked_at) {
            if offset > newest {
                (newest, acked_at) = (offset, at);
            }
        }
        if read.high_watermark <= newest {
            found.add(Rule::Realtime, || {
                format!(
                    "partition {index}: offset {newest} was acknowledged at {acked_at} ns, reader {} asked at {} and was \
                     told at {} of a high watermark of {}",
                    read.reader, read.asked_at, read.answered_at, read.high_watermark
                )
            });
        }
    }
}

/// taken-back: a read that starts after another one was answered sees at least its high watermark, and a
/// complete one its records; that they are the same records, inconsistent-offsets says.
fn nothing_taken_back(index: i32, partition: &Partition<'_>, found: &mut Findings) {
    let all = || partition.reads.iter().chain(&partition.complete).copied();
    let mut earlier: Vec<&Read> = all().collect();
    earlier.sort_unstable_by_key(|read| read.answered_at);
    let mut later: Vec<&Read> = all().collect();
    later.sort_unstable_by_key(|read| read.asked_at);
    let mut earlier = earlier.into_iter().peekable();
    // What has been shown: the end of the log, and the first offset after the records.
    let (mut end, mut next) = (0, 0);
    for read in later {
        while let Some(shown) = earlier.next_if(|shown| shown.answered_at < read.asked_at) {
            end = end.max(shown.high_watermark);
            next = next.max(shown.records.last().map_or(0, |seen| seen.offset + 1));
        }
        if read.high_watermark < end {
            found.add(Rule::TakenBack, || {
                format!(
                    "partition {index}: a high watermark of {end} was shown, a later read by {} saw {}",
                    read.reader, read.high_watermark
                )
            });
        }
        if read.high_watermark < next {
            found.add(Rule::TakenBack, || {
                format!(
                    "partition {index}: records up to {next} were shown, a later read by {} saw an end at {}",
                    read.reader, read.high_watermark
                )
            });
        }
    }
    let shown = partition.reads.iter().flat_map(|read| {
        let offsets = read.records.iter().map(|seen| seen.offset);
        offsets.map(|offset| (read.answered_at, offset))
    });
    let shown: Vec<(Nanos, i64)> = shown.collect();
    for read in &partition.complete {
        let there: HashSet<i64> = read.records.iter().map(|seen| seen.offset).collect();
        let gone = shown.iter().find(|(at, offset)| {
            *at < read.asked_at && *offset >= read.fetch_offset && !there.contains(offset)
        });
        if let Some((_, offset)) = gone {
            found.add(Rule::TakenBack, || {
                format!("partition {index}: offset {offset} was read, and is not there later")
            });
        }
    }
}

/// replicas-differ: each node's last complete read, if nobody sent anything afterwards.
fn replicas_agree(index: i32, partition: &Partition<'_>, found: &mut Findings) {
    let settled = partition.complete.iter().copied();
    let settled = settled.filter(|read| read.reader != 0 && read.asked_at > partition.last_send_at);
    let mut replicas: BTreeMap<u32, &Read> = BTreeMap::new();
    replicas.extend(settled.map(|read| (read.reader, read)));
    let mut replicas = replicas.into_iter();
    let Some((first, one)) = replicas.next() else {
        return;
    };
    for (node, other) in replicas {
        let ends = |read: &Read| (read.fetch_offset, read.high_watermark);
        if one.records != other.records || ends(one) != ends(other) {
            found.add(Rule::ReplicasDiffer, || {
                let (a, b) = (one.records.len(), other.records.len());
                let same = one.records.iter().zip(&other.records);
                let same = same.take_while(|(a, b)| a == b).count();
                format!(
                    "partition {index}: node {first} has {a} records ({:?}), node {node} {b} ({:?}); the first {same} are the same",
                    ends(one), ends(other)
                )
            });
        }
    }
}
