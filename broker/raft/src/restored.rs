//! A group as its rows tell of it, before anything is served.

use std::collections::HashMap;

use ottla_log::{StateKey, Store, StoreError, Tag};
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_proto::limits::MEND_READ_BYTES;

use crate::id_set::IdSet;
use crate::rows::{self, Checkpoint};
use crate::state::PartitionState;
use crate::types::{LogId, Vote};

/// What a group's rows tell at a start.
#[derive(Default)]
pub(crate) struct Restored {
    pub checkpoint: Checkpoint,
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub partitions: HashMap<PartitionId, PartitionState>,
    pub removed: IdSet,
}

impl Restored {
    pub(crate) fn read(id: GroupId, store: &dyn Store) -> Result<Restored, StoreError> {
        let read = |tag| store.state(StateKey::group(tag, id));
        let checkpoint = read(Tag::Checkpoint)?
            .map(|r| rows::decode_checkpoint(&r))
            .transpose()?
            .unwrap_or_default();
        let vote = read(Tag::Vote)?
            .map(|r| rows::decode_vote(&r))
            .transpose()?;
        let purged = read(Tag::Purged)?
            .map(|r| rows::decode_purged(&r))
            .transpose()?
            .flatten();
        let removed = read(Tag::Removed)?
            .map(|r| rows::decode_removed(&r))
            .transpose()?
            .unwrap_or_default();
        let mut partitions = HashMap::new();
        for (number, row) in store.states(Tag::Partition, id)? {
            partitions.insert(PartitionId(number), rows::decode_partition(&row)?);
        }
        let last = match store.last_raft_row(id)? {
            Some((index, row)) => Some(rows::decode_log_id(index, &row)?),
            None => purged,
        };
        Ok(Restored {
            checkpoint,
            vote,
            purged,
            last,
            partitions,
            removed,
        })
    }

    /// Whether data was lost since the group was last made consistent with what is stored.
    pub(crate) fn needs_mending(id: GroupId, store: &dyn Store) -> Result<bool, StoreError> {
        if store.losses() == 0 {
            return Ok(false);
        }
        let row = store.state(StateKey::group(Tag::Mended, id))?;
        let mended = row.and_then(|r| Some(u64::from_be_bytes(r[..].try_into().ok()?)));
        Ok(mended.unwrap_or(0) < store.losses())
    }

    /// The first row behind the checkpoint that is missing.
    pub(crate) fn hole(&self, id: GroupId, store: &dyn Store) -> Result<Option<u64>, StoreError> {
        let mut next = self.checkpoint.applied.map_or(0, |id| id.index + 1);
        let end = self.last.map_or(0, |id| id.index + 1);
        while next < end {
            let found = store.raft_rows(id, next, end, MEND_READ_BYTES)?;
            let whole = found.iter().zip(next..).take_while(|((i, _), n)| i == n);
            let count = whole.count();
            next += count as u64;
            if count < found.len() || found.is_empty() {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }
}
