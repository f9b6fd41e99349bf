use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_log::StateKey;
use proptest::prelude::*;

use super::*;
use crate::command::{BatchMeta, GroupEntry, Payload};
use crate::rows::Checkpoint;
use crate::state::EntryContext;
use crate::types::{self, StoredMembership, Vote};

const GROUP: GroupId = GroupId(4);
const PARTITION: PartitionId = PartitionId(9);

fn meta(offsets: i32) -> BatchMeta {
    BatchMeta {
        partition: PARTITION,
        offsets,
        max_timestamp_ms: 5,
        size_bytes: 30_000,
        producer: None,
    }
}

fn row(index: u64, term: u64, base_offset: i64, offsets: i32) -> Bytes {
    let command = Command::Append {
        meta: meta(offsets),
        body: Bytes::new(),
    };
    let outcomes = vec![Outcome::Appended { base_offset }];
    let entry = GroupEntry::new(0, 1000, vec![command]).decided(outcomes);
    rows::encode_entry(&Entry {
        log_id: types::log_id(term, index),
        payload: EntryPayload::Normal(Payload(entry.into())),
    })
}

/// A group whose checkpoint is at `applied`, after batches of these numbers of offsets, and whose log
/// has the rest.
fn group(batches: &[i32], applied: usize) -> GroupCheck {
    let mut check = GroupCheck::new(GROUP);
    check.state_row(
        StateKey::group(Tag::Vote, GROUP),
        &rows::encode_vote(&Vote::new_committed(2, 7)),
    );
    let mut state = PartitionState::new();
    let context = EntryContext {
        leader_epoch: 2,
        time_ms: 0,
        producer_expiration_ms: 1000,
    };
    let (done, rest) = batches.split_at(applied);
    for offsets in done {
        state.append(&meta(*offsets), state.log_end_offset, &context);
    }
    if applied > 0 {
        let nodes: BTreeSet<u64> = [7].into();
        let membership = types::membership(vec![nodes.clone()], nodes).expect("valid");
        let applied = Some(types::log_id(2, applied as u64 - 1));
        let checkpoint = Checkpoint {
            applied,
            membership: StoredMembership::new(applied, membership),
        };
        let key = StateKey::group(Tag::Checkpoint, GROUP);
        check.state_row(key, &rows::encode_checkpoint(&checkpoint));
        let key = StateKey::partition(GROUP, PARTITION);
        check.state_row(key, &rows::encode_partition(&state));
    }
    let mut base = 0;
    for (index, offsets) in done.iter().chain(rest).enumerate() {
        check.raft_row(index as u64, &row(index as u64, 2, base, *offsets));
        base += i64::from(*offsets);
    }
    check
}

fn details(end: &GroupEnd) -> String {
    let details: Vec<_> = end.problems.iter().map(|p| p.detail.as_str()).collect();
    details.join("; ")
}

proptest! {
    /// Wherever the checkpoint stands: the end is what the partition's own code makes of the log.
    #[test]
    fn the_end_does_not_depend_on_the_checkpoint(
        batches in prop::collection::vec(1..5i32, 1..40), applied: prop::sample::Index,
    ) {
        let applied = applied.index(batches.len() + 1);
        let end = group(&batches, applied).finish();
        prop_assert!(end.is_certain && end.problems.is_empty(), "{}", details(&end));
        let mut state = PartitionState::new();
        let context = EntryContext { leader_epoch: 2, time_ms: 0, producer_expiration_ms: 1000 };
        for offsets in &batches {
            state.append(&meta(*offsets), state.log_end_offset, &context);
        }
        let found = &end.partitions[&PARTITION];
        prop_assert_eq!(found.log_end_offset, state.log_end_offset);
        prop_assert_eq!(found.position_bytes, state.position_bytes);
        prop_assert_eq!(found.indexed_position_bytes, state.indexed_position_bytes);
        prop_assert_eq!(&found.epochs, &state.epochs);
    }

    #[test]
    fn any_rows_are_taken(
        states in prop::collection::vec((0..4usize, prop::collection::vec(any::<u8>(), 0..60)), 0..6),
        rafts in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..60)), 0..6),
    ) {
        let mut check = GroupCheck::new(GROUP);
        for (tag, row) in &states {
            let tag = [Tag::Vote, Tag::Checkpoint, Tag::Purged, Tag::Partition][*tag];
            check.state_row(StateKey { tag, group: GROUP, id: 1 }, row);
        }
        for (index, row) in &rafts {
            check.raft_row(*index, row);
        }
        let end = check.finish();
        prop_assert_eq!(end.problems.is_empty(), states.is_empty() && rafts.is_empty());
    }

    /// Rows whose checksums fit and that say anything at all.
    #[test]
    fn extreme_rows_are_taken(
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<i64>(), any::<i32>()), 1..20),
    ) {
        let mut check = group(&[1, 2], 1);
        for (index, term, base_offset, offsets) in steps {
            check.raft_row(index, &row(index, term, base_offset, offsets));
        }
        check.finish();
    }
}

#[test]
fn what_does_not_follow_is_told() {
    let mut check = group(&[2, 2, 2], 1);
    check.raft_row(4, &row(4, 2, 6, 1));
    let end = check.finish();
    assert!(!end.is_certain);
    assert!(details(&end).contains("rows 3 to 3"), "{}", details(&end));

    let mut check = group(&[2, 2, 2], 1);
    check.raft_row(3, &row(3, 1, 6, 1));
    let end = check.finish();
    assert!(details(&end).contains("row 3 of its log has term 1"));

    let mut check = group(&[2, 2, 2], 1);
    check.raft_row(3, &row(3, 3, 6, 1));
    let end = check.finish();
    assert_eq!(details(&end), "its log has term 3, its vote 2");
    assert_eq!(end.partitions[&PARTITION].epochs.len(), 2);

    let mut check = group(&[2, 2, 2], 1);
    check.raft_row(3, &row(3, 2, 7, 1));
    let end = check.finish();
    assert!(details(&end).contains("puts 1 offsets at 7, after 6"));
    assert!(end.is_certain && end.partitions[&PARTITION].is_unclear);
}
