//! What the disk says of a partition's compaction, after a start and wherever nobody knows.

use ottla_log::{Store, StoreError, batch_span};
use ottla_proto::ids::PartitionId;
use ottla_proto::limits::CLEANER_READ_BYTES;
use ottla_raft::{Measure, Sizes};

use super::state::{CleanerState, Left};
use super::survey::{self, Extent};
use super::{extent, row_key};
use crate::topics::Replica;

/// A partition's row.
pub enum Row {
    /// It was never compacted.
    None,
    Whole(CleanerState),
    /// There is one, and it cannot be used: compaction begins anew.
    Unusable(String),
    /// It speaks of what is not applied yet. Soon it will be.
    TooEarly,
}

pub fn row(store: &dyn Store, replica: &Replica, log: &Extent) -> Result<Row, StoreError> {
    let Some(row) = store.state(row_key(replica))? else {
        return Ok(Row::None);
    };
    let state = match CleanerState::decode(&row) {
        Ok(state) => state,
        Err(error) => return Ok(Row::Unusable(error.to_string())),
    };
    Ok(match survey::is_row_of(log, &state) {
        true => Row::Whole(state),
        // A leader has applied all that was there before it.
        false if replica.lead(-1).is_err() => Row::TooEarly,
        false => Row::Unusable("it goes beyond the log's end".into()),
    })
}

/// Makes sure that the partition knows what compaction has left of it, which retention by size goes by:
/// from its row or, where that does not say, from the batches themselves. Blocks on the disk. False if
/// it cannot be told yet.
pub fn learn_sizes(store: &dyn Store, replica: &Replica) -> Result<bool, StoreError> {
    let look = || {
        let Some(log) = extent(replica) else {
            // Empty, or nothing of it is applied yet.
            return match replica.lead(-1) {
                Ok(_) => Ok(Sizes::default()),
                Err(_) => Err(NotYet::Early),
            };
        };
        match row(store, replica, &log)? {
            Row::None => Ok(Sizes::default()),
            Row::Whole(CleanerState {
                left: Left::Known(sizes),
                ..
            }) => Ok(sizes),
            Row::TooEarly => Err(NotYet::Early),
            Row::Whole(_) | Row::Unusable(_) => Ok(measure(store, replica.partition.id, &log)?),
        }
    };
    match replica.partition.learn_sizes(look) {
        Ok(()) => Ok(replica.partition.knows_sizes()),
        Err(NotYet::Early) => Ok(false),
        Err(NotYet::Store(error)) => Err(error),
    }
}

enum NotYet {
    Early,
    Store(StoreError),
}

impl From<StoreError> for NotYet {
    fn from(error: StoreError) -> NotYet {
        NotYet::Store(error)
    }
}

/// Goes through the whole log.
pub fn measure(store: &dyn Store, id: PartitionId, log: &Extent) -> Result<Sizes, StoreError> {
    tracing::info!(partition = %id, "the size of a compacted log is measured batch by batch");
    let mut left = Measure::default();
    let mut next = log.log_start_offset;
    loop {
        let batches = store.batches(id, next, log.end.offset, CLEANER_READ_BYTES)?;
        for batch in &batches {
            let (base, last) = batch_span(batch).ok_or_else(|| StoreError::Damaged {
                what: format!("the batch of {id} at offset {next}"),
                detail: "too short".into(),
            })?;
            left.batch(base, batch.len() as u64);
            next = last + 1;
        }
        if batches.is_empty() || next >= log.end.offset {
            return Ok(left.end(log.end.offset, log.end.position_bytes));
        }
    }
}
