use super::*;
use proptest::prelude::*;

type Owned = BTreeMap<MemberId, BTreeSet<Unit>>;

fn units(connectors: usize, tasks: u32) -> BTreeSet<Unit> {
    let mut units = BTreeSet::new();
    for c in 0..connectors {
        let name = format!("c{c}");
        units.insert(Unit::Connector(name.clone()));
        units.extend((0..tasks).map(|t| Unit::Task(name.clone(), t)));
    }
    units
}

fn members(names: &[&str]) -> Owned {
    let names = names.iter().map(|n| (n.to_string(), BTreeSet::new()));
    names.collect()
}

/// The members do as they are told. How many units have moved or stopped.
fn follow(owned: &mut Owned, round: &Round) -> usize {
    let mut revoked = 0;
    for (member, change) in &round.changes {
        let set = owned.get_mut(member).expect("a member");
        for unit in &change.revoked {
            assert!(set.remove(unit), "{unit} is not {member}'s");
            revoked += 1;
        }
        set.extend(change.assigned.iter().cloned());
    }
    let all: usize = owned.values().map(BTreeSet::len).sum();
    let distinct: BTreeSet<_> = owned.values().flatten().collect();
    assert_eq!(all, distinct.len(), "a unit is at two members");
    revoked
}

/// Rounds until nothing changes. How many units were revoked.
fn settle(leader: &mut Leader, units: &BTreeSet<Unit>, owned: &mut Owned) -> usize {
    let mut revoked = 0;
    for _ in 0..4 {
        let round = leader.assign(units, owned, 0, 0);
        revoked += follow(owned, &round);
        if round.changes.values().all(|c| *c == Change::default()) {
            return revoked;
        }
    }
    panic!("it does not settle: {owned:?}");
}

fn check_balanced(units: &BTreeSet<Unit>, owned: &Owned) {
    let run: BTreeSet<Unit> = owned.values().flatten().cloned().collect();
    assert_eq!(&run, units);
    for kind in [false, true] {
        let load = |set: &BTreeSet<Unit>| set.iter().filter(|u| u.is_task() == kind).count();
        let loads: Vec<_> = owned.values().map(load).collect();
        let (least, most) = (loads.iter().min(), loads.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{loads:?}");
    }
}

#[test]
fn a_worker_that_comes_gets_its_share_and_no_more_moves() {
    let (mut leader, units) = (Leader::default(), units(1, 8));
    let mut owned = members(&["a", "b"]);
    assert_eq!(settle(&mut leader, &units, &mut owned), 0);
    owned.insert("c".into(), BTreeSet::new());
    assert_eq!(settle(&mut leader, &units, &mut owned), 2);
    check_balanced(&units, &owned);
}

#[test]
fn work_of_a_worker_that_left_waits_for_it() {
    let (mut leader, units) = (Leader::default(), units(1, 4));
    let mut owned = members(&["a", "b"]);
    settle(&mut leader, &units, &mut owned);
    let gone = owned.remove("b").unwrap();
    let round = leader.assign(&units, &owned, 1000, 50);
    assert_eq!(
        (round.delay_ms, &round.changes["a"]),
        (1000, &Change::default())
    );
    let round = leader.assign(&units, &owned, 1000, 450);
    assert_eq!(
        (round.delay_ms, &round.changes["a"]),
        (600, &Change::default())
    );
    let mut late = leader.clone();
    let round = late.assign(&units, &owned, 1000, 1050);
    assert_eq!(round.delay_ms, 0);
    assert_eq!(
        round.changes["a"].assigned.iter().collect::<BTreeSet<_>>(),
        gone.iter().collect()
    );
    // It comes back, as another member.
    owned.insert("b2".into(), BTreeSet::new());
    let round = leader.assign(&units, &owned, 1000, 500);
    assert_eq!(round.delay_ms, 0);
    assert_eq!(
        round.changes["b2"].assigned.iter().collect::<BTreeSet<_>>(),
        gone.iter().collect()
    );
    assert_eq!(round.changes["a"], Change::default());
}

#[test]
fn what_waits_and_is_deleted_is_forgotten_and_what_is_new_does_not_wait() {
    let mut leader = Leader::default();
    let mut owned = members(&["a", "b"]);
    settle(&mut leader, &units(2, 2), &mut owned);
    owned.remove("b");
    let round = leader.assign(&units(3, 2), &owned, 1000, 0);
    assert!(round.delay_ms > 0);
    follow(&mut owned, &round);
    assert!(owned["a"].contains(&Unit::Connector("c2".into())));
    let mut rest: BTreeSet<Unit> = owned["a"].clone();
    rest.remove(&Unit::Connector("c2".into()));
    let round = leader.assign(&rest, &owned, 1000, 1);
    assert_eq!(round.delay_ms, 0);
    assert_eq!(round.changes["a"].revoked, [Unit::Connector("c2".into())]);
}

#[test]
fn a_unit_at_two_members_stops_at_one() {
    let (mut leader, units) = (Leader::default(), units(1, 0));
    let mut owned = members(&["a", "b"]);
    owned.values_mut().for_each(|set| set.extend(units.clone()));
    let round = leader.assign(&units, &owned, 0, 0);
    let revoked: usize = round.changes.values().map(|c| c.revoked.len()).sum();
    assert_eq!(revoked, 1);
}

#[test]
fn a_new_leader_gives_what_nobody_runs_at_once() {
    let round = Leader::default().assign(&units(1, 2), &members(&["a"]), 1000, 0);
    assert_eq!((round.delay_ms, round.changes["a"].assigned.len()), (0, 3));
}

proptest! {
    /// Whatever comes and goes: all settles, balanced, and nothing moves that need not.
    #[test]
    fn balanced_and_sticky(
        steps in proptest::collection::vec((1usize..5, 0u32..7, 1usize..6), 1..8),
    ) {
        let mut leader = Leader::default();
        let mut owned = Owned::new();
        for (connectors, tasks, workers) in steps {
            let units = units(connectors, tasks);
            for w in 0..6 {
                if w < workers {
                    owned.entry(format!("w{w}")).or_default();
                } else {
                    owned.remove(&format!("w{w}"));
                }
            }
            let before = owned.clone();
            let stale = before.values().flatten().filter(|u| !units.contains(u)).count();
            // At least this many must move: what members have above the larger share.
            let mut excess = 0;
            for kind in [false, true] {
                let total = units.iter().filter(|u| u.is_task() == kind).count();
                let (share, mut more) = (total / workers, total % workers);
                let of = |set: &BTreeSet<Unit>| set.iter().filter(|u| u.is_task() == kind && units.contains(u)).count();
                let mut loads: Vec<usize> = before.values().map(of).collect();
                loads.sort_by_key(|l| std::cmp::Reverse(*l));
                for load in loads {
                    let may = share + usize::from(more > 0);
                    more = more.saturating_sub(1);
                    excess += load.saturating_sub(may);
                }
            }
            let revoked = settle(&mut leader, &units, &mut owned);
            check_balanced(&units, &owned);
            prop_assert_eq!(revoked, stale + excess);
        }
    }
}
