//! Snapshots of the metadata, which the active controller writes into the metadata log so that nobody has
//! to read it from its first record (KIP-630). See `ottla_proto::metadata::Follower` for how they are read.

use ottla_controller::{AppendError, MetadataLog};
use ottla_proto::limits::METADATA_SNAPSHOT_BATCH_BYTES;
use ottla_proto::metadata::{self, MetadataRecord};
use ottla_wire::batch::BatchBuilder;

use crate::metadata::{Metadata, Unsaved};

/// Writes one if the configuration wants it by now, and lets the log begin behind what it covers.
pub async fn write_if_due(metadata: &Metadata) -> Result<(), AppendError> {
    let wanted = metadata.config().metadata_snapshots.clone();
    let Unsaved { bytes, since_ms } = metadata.unsaved();
    let age_ms = metadata.now_ms().saturating_sub(since_ms);
    let is_old = wanted.max_age_ms > 0 && age_ms >= wanted.max_age_ms as i64;
    let Some(epoch) = metadata.leader_epoch() else {
        return Ok(());
    };
    if bytes == 0 || (bytes < wanted.max_change_bytes && !is_old) {
        return Ok(());
    }
    let image = metadata.image();
    let covers = image.applied_offset();
    let records = metadata::snapshot(&image);
    for batch in batches(&records, covers, metadata.now_ms()) {
        metadata.append_batch(epoch, batch).await?;
    }
    metadata.cut_before(epoch, covers + 1).await?;
    tracing::info!(
        offset = covers,
        records = records.len(),
        "wrote a snapshot of the metadata"
    );
    Ok(())
}

/// The snapshot's records, in batches of bounded size.
fn batches(
    records: &[MetadataRecord],
    covers: i64,
    now_ms: i64,
) -> impl Iterator<Item = BatchBuilder> {
    let key = metadata::snapshot_key(covers);
    let mut left = records.iter().peekable();
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let (mut builder, mut bytes) = (BatchBuilder::new(), 0);
        while let Some(record) = left.peek() {
            let value = metadata::encode(record);
            if bytes > 0 && bytes + value.len() > METADATA_SNAPSHOT_BATCH_BYTES {
                return Some(builder);
            }
            bytes += value.len();
            builder.append(Some(&key), Some(&value), now_ms);
            left.next();
        }
        is_done = true;
        builder.append(Some(&key), None, now_ms);
        Some(builder)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::content;
    use ottla_proto::metadata::{Content, records};

    #[test]
    fn every_record_is_in_one_batch_and_the_last_says_so() {
        let count = 20_000;
        let feature = |level| {
            let name = "f".repeat(100);
            MetadataRecord::Feature(records::Feature { name, level })
        };
        let all: Vec<_> = (0..count).map(feature).collect();
        let (mut read, mut ends) = (Vec::new(), Vec::new());
        for builder in batches(&all, 7, 1) {
            let batch = builder.build();
            assert!(batch.len() < 2 * METADATA_SNAPSHOT_BATCH_BYTES);
            match content(&batch).unwrap() {
                Content::Snapshot(part) => {
                    assert_eq!(part.covers, 7);
                    read.extend(part.records);
                    ends.push(part.is_last);
                }
                Content::Changes(changes) => panic!("{} changes", changes.len()),
            }
        }
        assert_eq!(read, all);
        assert!(ends.len() > 2);
        assert_eq!(ends.iter().position(|end| *end), Some(ends.len() - 1));
        let empty: Vec<_> = batches(&[], 7, 1).collect();
        assert_eq!(empty.len(), 1);
    }
}
