//! The state machine against a model: a store that takes an object once, and crashes at any moment.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::policy;
use crate::audit::{Counts, Link};
use crate::rotate::{Commit, Incoming, ObjectId, Outputs, Plan, RotationPolicy, Segment, plan};
use crate::sink::Passed;

/// What is in the log: offsets with their output, in any of two schemas; some are skipped.
#[derive(Clone, Debug)]
struct Entry {
    output: u8,
    schema: u64,
    skipped: bool,
}

struct World {
    log: Vec<Entry>,
    stable: bool,
    policy: RotationPolicy,
    /// Objects by output, schema and first offset: what a conditional PUT made.
    store: BTreeMap<(String, u64, i64), Vec<i64>>,
    /// By their numbers.
    manifests: BTreeMap<u64, Segment>,
    committed: Commit,
}

impl World {
    /// Runs from the last commit until the log ends, or a crash after `steps`.
    fn run(&mut self, steps: usize, mut clock: i64) -> bool {
        let plan = Plan::decode(self.committed.offset, &self.committed.metadata).unwrap();
        let mut outputs = Outputs::restore(
            self.policy.clone(),
            self.stable,
            self.committed.offset,
            plan,
        )
        .unwrap();
        let mut contents: BTreeMap<ObjectId, Vec<i64>> = BTreeMap::new();
        let mut left = steps;
        for offset in self.committed.offset..self.log.len() as i64 {
            clock += 7;
            let entry = &self.log[offset as usize];
            if entry.skipped {
                outputs.advance(offset + 1, Passed::Filtered).unwrap();
            } else {
                let output = match outputs.replayed_output(offset, entry.schema) {
                    Some(output) => output.to_owned(),
                    None if self.stable => format!("out-{}", entry.output),
                    None => format!("at-{}", clock / 50),
                };
                let record = Incoming {
                    output: &output,
                    schema: entry.schema,
                    offset,
                    time_ms: Some(offset),
                    bytes: 10,
                };
                if let Some(id) = outputs.append(record, clock).unwrap().object {
                    contents.entry(id).or_default().push(offset);
                }
            }
            outputs.tick(clock);
            if !self.work(&mut outputs, &mut contents, &mut left, offset % 3 == 0) {
                return false;
            }
        }
        outputs.close_all();
        while outputs.floor() < self.log.len() as i64 {
            if !self.work(&mut outputs, &mut contents, &mut left, true) {
                return false;
            }
            outputs.close_all();
        }
        true
    }

    /// Commits, and writes what may be written; false is a crash.
    fn work(
        &mut self,
        outputs: &mut Outputs,
        contents: &mut BTreeMap<ObjectId, Vec<i64>>,
        left: &mut usize,
        write: bool,
    ) -> bool {
        let mut step = || {
            *left = left.saturating_sub(1);
            *left > 0
        };
        let (commit, version) = outputs.commit();
        assert!(commit.metadata.len() <= plan::MAX_METADATA_BYTES);
        assert!(
            commit.offset >= self.committed.offset,
            "the floor never falls"
        );
        if !step() {
            return false;
        }
        self.committed = commit;
        outputs.durable(version);
        if !write {
            return step();
        }
        let mut ready: Vec<_> = outputs.writable().cloned().collect();
        // In any order.
        ready.reverse();
        for object in ready {
            let records = contents.remove(&object.id).unwrap();
            assert_eq!(records.len() as u64, object.records);
            assert_eq!(
                (records[0], *records.last().unwrap()),
                (object.first, object.last)
            );
            let name = (object.output.clone(), object.schema, object.first);
            let there = self.store.entry(name).or_insert_with(|| records.clone());
            assert_eq!(
                *there, records,
                "an object that exists has the same records"
            );
            if !step() {
                return false;
            }
            outputs.written(object.id);
        }
        if let Some(segment) = outputs.segment().filter(|s| s.complete) {
            let there = self
                .manifests
                .entry(segment.link.sequence)
                .or_insert(segment);
            assert_eq!(*there, segment, "a manifest that exists is the same");
            if !step() {
                return false;
            }
            outputs.manifested(hash(&segment));
        }
        step()
    }

    /// The manifests are a chain that accounts for every offset.
    fn check_manifests(&self) {
        let mut link = Link::default();
        let mut next = 0;
        for segment in self.manifests.values() {
            assert_eq!((segment.link, segment.first), (link, next));
            let range = &self.log[segment.first as usize..=segment.last as usize];
            let filtered = range.iter().filter(|e| e.skipped).count() as u64;
            let counts = Counts {
                written: range.len() as u64 - filtered,
                filtered,
                ..Counts::default()
            };
            assert_eq!(segment.counts, counts);
            link = Link {
                sequence: link.sequence + 1,
                previous: Some(hash(segment)),
            };
            next = segment.last + 1;
        }
        assert_eq!(next, self.log.len() as i64);
        // No object has offsets of two manifests.
        for offsets in self.store.values() {
            let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
            let of = |s: &&Segment| s.first <= first && last <= s.last;
            assert_eq!(self.manifests.values().filter(of).count(), 1);
        }
    }
}

/// Stands for the hash of a manifest.
fn hash(segment: &Segment) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&segment.last.to_be_bytes());
    hash[8..16].copy_from_slice(&segment.counts.filtered.to_be_bytes());
    hash
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever crashes when: each record that is not skipped is in exactly one object.
    #[test]
    fn exactly_once(
        log in proptest::collection::vec((0..6u8, 0..2u64, prop::bool::weighted(0.1)), 1..150),
        crashes in proptest::collection::vec(1..120usize, 0..8),
        stable in any::<bool>(),
        chained in any::<bool>(),
        records in proptest::option::of(1..6u64),
        interval in proptest::option::of(3..30i64),
        idle in proptest::option::of(10..60i64),
    ) {
        let log: Vec<_> = log.into_iter().map(|(output, schema, skipped)| Entry { output, schema, skipped }).collect();
        check(log, crashes, stable, RotationPolicy {
            records_max: records,
            record_interval_ms: interval,
            idle_ms: idle,
            chained: chained && stable,
            ..policy()
        });
    }
}

fn check(log: Vec<Entry>, crashes: Vec<usize>, stable: bool, policy: RotationPolicy) {
    let kept: Vec<i64> = (0..log.len() as i64)
        .filter(|o| !log[*o as usize].skipped)
        .collect();
    let chained = policy.chained;
    let mut world = World {
        log,
        stable,
        policy,
        store: BTreeMap::new(),
        manifests: BTreeMap::new(),
        committed: Commit {
            offset: 0,
            metadata: String::new(),
        },
    };
    let mut clock = 0;
    for steps in crashes {
        world.run(steps, clock);
        clock += 100_000;
    }
    assert!(world.run(usize::MAX, clock));
    let mut found: Vec<i64> = world.store.values().flatten().copied().collect();
    found.sort_unstable();
    assert_eq!(found, kept);
    if chained {
        world.check_manifests();
    }
}

/// The same with so many outputs that plans overflow and cuts are made, and crash in the middle.
#[test]
fn exactly_once_through_cuts() {
    let entry = |i: u64| Entry {
        output: (i.wrapping_mul(2_654_435_761) >> 7) as u8,
        schema: i * 31 % 5,
        skipped: i.is_multiple_of(17),
    };
    for round in 0..12usize {
        let log = (0..4000).map(|i| entry(i + round as u64 * 7)).collect();
        let crashes = (0..10)
            .map(|i| 500 + (i * 977 + round * 331) % 4500)
            .collect();
        let policy = RotationPolicy {
            records_max: Some(3),
            idle_ms: Some(5000),
            chained: round % 2 == 1,
            ..policy()
        };
        check(log, crashes, true, policy);
    }
}
