//! What closes objects, and what is committed.

mod model;

use proptest::prelude::*;

use super::*;
use crate::audit::{Counts, Link};
use crate::sink::Passed;
use crate::time::{Zone, parse_iso};

fn policy() -> RotationPolicy {
    RotationPolicy {
        records_max: None,
        bytes_max: None,
        record_interval_ms: None,
        schedule_interval_ms: None,
        idle_ms: None,
        zone: Zone::UTC,
        chained: false,
    }
}

fn fresh(policy: RotationPolicy) -> Outputs {
    Outputs::restore(policy, true, 0, Plan::default()).unwrap()
}

fn incoming(output: &str, offset: i64, time: i64) -> Incoming<'_> {
    Incoming {
        output,
        schema: 1,
        offset,
        time_ms: Some(time),
        bytes: 10,
    }
}

/// Appends, and gives the records of the objects that closed.
fn closed(
    outputs: &mut Outputs,
    output: &str,
    offset: i64,
    time: i64,
    now: i64,
) -> Vec<(i64, i64)> {
    let appended = outputs.append(incoming(output, offset, time), now).unwrap();
    ranges(outputs, &appended.closed)
}

fn ranges(outputs: &Outputs, closed: &[ObjectId]) -> Vec<(i64, i64)> {
    let planned = closed.iter().map(|id| outputs.planned(*id).unwrap());
    planned.map(|p| (p.first, p.last)).collect()
}

#[test]
fn by_count_and_size_each_output_alone() {
    let mut o = fresh(RotationPolicy {
        records_max: Some(2),
        bytes_max: Some(1000),
        ..policy()
    });
    assert_eq!(closed(&mut o, "a", 0, 0, 0), []);
    assert_eq!(closed(&mut o, "b", 1, 0, 0), []);
    assert_eq!(closed(&mut o, "a", 2, 0, 0), [(0, 2)]);
    assert_eq!(o.open().count(), 1);
    let large = Incoming {
        bytes: 1000,
        ..incoming("c", 5, 0)
    };
    let appended = o.append(large, 0).unwrap();
    assert_eq!(ranges(&o, &appended.closed), [(5, 5)]);
    assert_eq!(o.floor(), 0);
}

#[test]
fn by_record_time_and_late_records_share_an_object() {
    let mut o = fresh(RotationPolicy {
        record_interval_ms: Some(100),
        ..policy()
    });
    assert_eq!(closed(&mut o, "new", 0, 1000, 0), []);
    assert_eq!(closed(&mut o, "new", 1, 1099, 0), []);
    // Late records do not close anything, and are gathered.
    assert_eq!(closed(&mut o, "old", 2, 5, 0), []);
    assert_eq!(closed(&mut o, "old", 3, 6, 0), []);
    // The record that reaches the bound goes into the next object.
    assert_eq!(closed(&mut o, "new", 4, 1100, 0), [(0, 1)]);
    // Time that passes elsewhere closes it too.
    assert_eq!(closed(&mut o, "new", 5, 1199, 0), [(2, 3)]);
}

#[test]
fn by_the_clock_from_midnight_and_by_idleness() {
    let hour = 3_600_000;
    let mut o = fresh(RotationPolicy {
        schedule_interval_ms: Some(10 * hour),
        idle_ms: Some(hour),
        zone: "Europe/Paris".parse().unwrap(),
        ..policy()
    });
    let now = parse_iso("2026-06-01T17:30:00Z", Zone::UTC).unwrap();
    closed(&mut o, "a", 0, 0, now);
    assert_eq!(o.deadline_ms(), Some(now + hour / 2));
    closed(&mut o, "a", 1, 0, now + hour / 4);
    assert_eq!(o.tick(now + hour / 4), []);
    // 20:00 in Paris comes before the hour without records is over.
    let end = parse_iso("2026-06-01T18:00:00Z", Zone::UTC).unwrap();
    assert_eq!(o.tick(end - 1), []);
    let ids = o.tick(end);
    assert_eq!(ranges(&o, &ids), [(0, 1)]);
    closed(&mut o, "a", 2, 0, end);
    // The last interval of a day ends at midnight; idleness comes first.
    let ids = o.tick(end + hour);
    assert_eq!(ranges(&o, &ids), [(2, 2)]);
    let p = RotationPolicy {
        schedule_interval_ms: Some(10 * hour),
        ..policy()
    };
    let late = parse_iso("2026-06-01T21:00:00Z", Zone::UTC).unwrap();
    assert_eq!(p.scheduled(late), parse_iso("2026-06-02", Zone::UTC));
}

#[test]
fn nothing_is_written_before_its_plan_is_durable() {
    let mut o = fresh(RotationPolicy {
        records_max: Some(1),
        ..policy()
    });
    closed(&mut o, "a", 0, 0, 0);
    assert_eq!(o.writable().count(), 0);
    let (commit, version) = o.commit();
    assert_eq!(commit.offset, 0);
    o.durable(version);
    let id = o.writable().next().unwrap().id;
    o.written(id);
    assert_eq!(
        o.commit().0,
        Commit {
            offset: 1,
            metadata: String::new()
        }
    );
}

/// Ten thousand open outputs: the metadata stays within its bound, by a cut.
#[test]
fn many_outputs_fit_by_a_cut() {
    let mut o = fresh(RotationPolicy {
        records_max: Some(2),
        ..policy()
    });
    for i in 0..10_000 {
        closed(&mut o, &format!("key={i}"), i, 0, 0);
    }
    let mut cut = None;
    for i in 0..10_000 {
        let ids = closed(&mut o, &format!("key={i}"), 10_000 + i, 0, 0);
        let (commit, _) = o.commit();
        assert!(commit.metadata.len() <= plan::MAX_METADATA_BYTES);
        if ids.len() > 1 {
            assert_eq!(cut.replace(i), None, "one cut until it is written");
        }
    }
    assert!(cut.is_some());
    let (_, version) = o.commit();
    o.durable(version);
    let ids: Vec<_> = o.writable().map(|p| p.id).collect();
    ids.into_iter().for_each(|id| o.written(id));
    let (commit, _) = o.commit();
    assert!(commit.offset > 10_000, "{commit:?}");
}

#[test]
fn a_plan_that_cannot_be_made_again_is_an_error() {
    let mut o = fresh(RotationPolicy {
        records_max: Some(2),
        ..policy()
    });
    closed(&mut o, "a", 0, 0, 0);
    closed(&mut o, "a", 3, 0, 0);
    let (commit, _) = o.commit();
    let plan = Plan::decode(commit.offset, &commit.metadata).unwrap();
    let restored = || Outputs::restore(policy(), true, commit.offset, plan.clone()).unwrap();
    let mut gone = restored();
    assert_eq!(
        gone.append(incoming("a", 4, 0), 0).unwrap_err(),
        RotateError::Replay {
            first: 0,
            last: 3,
            at: 4
        }
    );
    let mut moved = restored();
    moved.append(incoming("b", 0, 0), 0).unwrap();
    assert!(moved.append(incoming("a", 3, 0), 0).is_err());
    let mut order = restored();
    assert!(order.advance(2, Passed::Filtered).is_ok());
    assert!(order.append(incoming("a", 1, 0), 0).is_err());
}

fn chained() -> RotationPolicy {
    RotationPolicy {
        records_max: Some(2),
        chained: true,
        ..policy()
    }
}

/// Makes what is planned durable, and writes it.
fn write_all(o: &mut Outputs) {
    let (_, version) = o.commit();
    o.durable(version);
    let ids: Vec<_> = o.writable().map(|p| p.id).collect();
    ids.into_iter().for_each(|id| o.written(id));
}

#[test]
fn a_chain_moves_by_its_manifests_alone() {
    let mut o = fresh(chained());
    closed(&mut o, "a", 0, 0, 0);
    closed(&mut o, "b", 1, 0, 0);
    o.advance(3, Passed::Filtered).unwrap();
    assert_eq!(o.segment(), None);
    assert_eq!(closed(&mut o, "a", 5, 0, 0), [(0, 5), (1, 1)]);
    let first = o.segment().unwrap();
    assert_eq!((first.first, first.last, first.complete), (0, 5, false));
    let counts = Counts {
        written: 3,
        filtered: 1,
        no_record: 2,
        ..Counts::default()
    };
    assert_eq!(first.counts, counts);
    // What is due meanwhile waits.
    closed(&mut o, "a", 6, 0, 0);
    assert_eq!(closed(&mut o, "a", 7, 0, 0), []);
    assert!(o.is_overdue());
    write_all(&mut o);
    assert!(o.segment().unwrap().complete);
    assert_eq!(o.commit().0.offset, 0);
    let ids = o.manifested([7; 32]);
    assert_eq!(ranges(&o, &ids), [(6, 7)]);
    let second = o.segment().unwrap();
    let link = Link {
        sequence: 1,
        previous: Some([7; 32]),
    };
    assert_eq!((second.first, second.last, second.link), (6, 7, link));
    assert_eq!(o.commit().0.offset, 6);
}

#[test]
fn offsets_without_an_object_get_a_manifest_too() {
    let idle = RotationPolicy {
        idle_ms: Some(100),
        ..chained()
    };
    let mut o = fresh(idle);
    o.advance(1, Passed::Skipped).unwrap();
    assert_eq!(o.tick(1000), []);
    assert_eq!(o.deadline_ms(), Some(1100));
    o.tick(1100);
    write_all(&mut o);
    let segment = o.segment().unwrap();
    assert_eq!(
        (segment.first, segment.last, segment.complete),
        (0, 0, true)
    );
    o.manifested([1; 32]);
    assert_eq!(o.commit().0.offset, 1);
    // As many as an object may have records.
    o.advance(3, Passed::DeadLettered).unwrap();
    o.tick(1101);
    assert_eq!(o.segment().unwrap().counts.dead_lettered, 2);
}

#[test]
fn a_manifest_is_made_again_with_the_same_counts_or_not_at_all() {
    let mut o = fresh(chained());
    closed(&mut o, "a", 0, 0, 0);
    o.advance(2, Passed::Filtered).unwrap();
    closed(&mut o, "a", 2, 0, 0);
    let segment = o.segment().unwrap();
    let (commit, _) = o.commit();
    let plan = Plan::decode(commit.offset, &commit.metadata).unwrap();
    let restored = || Outputs::restore(chained(), true, commit.offset, plan.clone()).unwrap();
    let mut same = restored();
    closed(&mut same, "a", 0, 0, 0);
    assert_eq!(same.segment(), None);
    same.advance(2, Passed::Filtered).unwrap();
    assert_eq!(closed(&mut same, "a", 2, 0, 0), [(0, 2)]);
    assert_eq!(same.segment(), Some(segment));
    // Offset 2 is gone by now; those behind the cut are not the segment's.
    let mut gone = restored();
    closed(&mut gone, "a", 0, 0, 0);
    gone.advance(2, Passed::Filtered).unwrap();
    let error = gone.advance(9, Passed::NoRecord).unwrap_err();
    let found = Counts {
        written: 1,
        filtered: 1,
        no_record: 1,
        ..Counts::default()
    };
    assert!(matches!(error, RotateError::Counts { first: 0, last: 2, found: f, .. } if f == found));
}

#[test]
fn a_chain_begins_only_where_nothing_is_half_delivered() {
    let mut o = fresh(RotationPolicy {
        records_max: Some(2),
        ..policy()
    });
    closed(&mut o, "b", 0, 0, 0);
    closed(&mut o, "a", 1, 0, 0);
    closed(&mut o, "a", 2, 0, 0);
    write_all(&mut o);
    let (commit, _) = o.commit();
    let plan = Plan::decode(commit.offset, &commit.metadata).unwrap();
    let refused = Outputs::restore(chained(), true, commit.offset, plan).err();
    assert_eq!(refused, Some(RotateError::Unchained(0)));
}

proptest! {
    #[test]
    fn plans_come_back(settled in 0..1000i64, cut in proptest::option::of(0..1000i64),
                       written in proptest::collection::btree_map("[a-z]{1,5}", 0..9999i64, 0..50),
                       planned in proptest::collection::vec(("[a-z]{1,5}", 0..9999i64, 0..99i64, any::<bool>()), 0..50)) {
        let floor = 77;
        let plan = Plan {
            settled: floor + settled,
            cut: cut.map(|c| c + floor),
            written: written.iter().map(|(o, last)| (plan::OutputKey::of(o, 0), floor + last)).collect(),
            planned: planned.iter().map(|(o, first, len, named)| plan::PlannedObject {
                output: plan::OutputKey::of(o, 0),
                first: floor + first,
                last: floor + first + len,
                name: named.then(|| o.clone()),
            }).collect(),
            chain: None,
        };
        let commit = plan.encode(floor);
        prop_assert_eq!(Plan::decode(floor, &commit.metadata), Ok(plan));
    }

    #[test]
    fn plans_of_chains_come_back(sequence in 0..u64::MAX, hash in any::<[u8; 32]>(), cut in proptest::option::of(0..1000i64),
                                 counts in any::<[u64; 5]>()) {
        let [written, filtered, dead_lettered, skipped, no_record] = counts;
        let counts = Counts { written, filtered, dead_lettered, skipped, no_record };
        let plan = Plan {
            settled: 77,
            cut: cut.map(|c| c + 77),
            chain: Some(Chain {
                link: Link { sequence, previous: (sequence > 0).then_some(hash) },
                counts: cut.map(|_| counts),
            }),
            ..Plan::default()
        };
        let commit = plan.encode(77);
        prop_assert!(commit.metadata.len() < 200);
        prop_assert_eq!(Plan::decode(77, &commit.metadata), Ok(plan));
    }

    #[test]
    fn damaged_plans_are_errors(text in "ottla1:[A-Za-z0-9_-]{0,80}") {
        let _ = Plan::decode(5, &text);
    }
}
