//! Random clients, time and crashes against a model of what must hold.
//!
//! 1. Every token is answered at most once, and all but JoinGroup and SyncGroup at once; when
//!    everyone falls silent, all waiting ones are answered in the end.
//! 2. In one life of a shard, one generation has one leader and generations do not decrease;
//!    stored generations never decrease, crashes or not.
//! 3. A member id or an instance id has one slot.
//! 4. Offsets are what was committed with success, until they are deleted or expire.
//! 5. The log alone makes the same durable state.
//! 6. In the end nothing is left: no member, no timer, no group.

mod model_world;

use model_world::{Action, World};
use proptest::prelude::*;

fn action() -> impl Strategy<Value = Action> {
    let who = 0usize..8;
    prop_oneof![
        6 => (who.clone(), 0u8..3, any::<bool>(), 0u8..4).prop_map(
            |(who, protocols, known, version)| Action::Join { who, protocols, known, version }
        ),
        6 => (who.clone(), -1i32..=0).prop_map(|(who, skew)| Action::Sync { who, skew }),
        3 => (who.clone(), -1i32..=1).prop_map(|(who, skew)| Action::Heartbeat { who, skew }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, twice)| Action::Leave { who, twice }),
        4 => (who.clone(), 0i32..2, 0i64..100).prop_map(
            |(who, partition, offset)| Action::Commit { who, partition, offset }
        ),
        1 => (0usize..3, 0i64..100).prop_map(|(group, offset)| Action::CommitSimple { group, offset }),
        1 => who.clone().prop_map(|who| Action::Restart { who }),
        1 => (0usize..3).prop_map(|group| Action::DeleteOffsets { group }),
        1 => (0usize..3).prop_map(|group| Action::DeleteGroup { group }),
        2 => (0usize..3, 0i64..3, 0i64..100).prop_map(
            |(group, producer, offset)| Action::CommitPending { group, producer, offset }
        ),
        1 => (0i64..3, any::<bool>()).prop_map(
            |(producer, committed)| Action::EndTransaction { producer, committed }
        ),
        1 => Just(Action::TopicsDeleted),
        6 => (0i64..8_000).prop_map(Action::Advance),
        1 => (60_000i64..4_000_000).prop_map(Action::Advance),
        1 => Just(Action::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(actions in prop::collection::vec(action(), 1..150)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.fall_silent();
    }
}
