//! Reading a group's log: recent entries from memory, older ones from their rows; with record data for
//! followers, without it for apply and replay.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_log::{BATCH_HEAD_BYTES, StoreError, batch_span, has_lost_records};
use ottla_proto::ids::PartitionId;

use crate::command::{Command, GroupEntry, Outcome, Payload};
use crate::group_log::{GroupLog, lock};
use crate::rows;
use crate::types::{Entry, EntryPayload, LogId};
use crate::wire::{self, WireError};

impl GroupLog {
    /// Entries `from..to` as far as the log has them. Those read from disk come without bodies.
    pub(crate) fn entries(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        match self.recent_entries(from, to, max_bytes) {
            Ok(found) => Ok(found),
            Err(first_recent) => self.entries_on_disk(from, to.min(first_recent), max_bytes),
        }
    }

    /// Entries that are not applied yet; `Err` with the first of them if `from` lies before it.
    pub(crate) fn recent_entries(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, u64> {
        let tail = lock(&self.tail);
        let first = tail.recent.front().map_or(u64::MAX, |e| e.log_id.index);
        if from < first {
            return Err(first);
        }
        let skip = (from - first) as usize;
        let wanted = to.saturating_sub(from) as usize;
        let entries = tail.recent.iter().skip(skip).take(wanted);
        Ok(within(entries.cloned(), max_bytes))
    }

    fn entries_on_disk(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let found = self.store.raft_rows(self.id, from, to, max_bytes)?;
        found
            .iter()
            .map(|(index, row)| rows::decode_entry(*index, row))
            .collect()
    }

    /// Entries as a follower needs them, up to `max_bytes` of record data, at least one. Where the data
    /// has been compacted or trimmed away, or is damaged, the entry comes without it: a follower that
    /// has it finds that out, and one that lacks it gets a snapshot. Blocks on the disk.
    pub(crate) fn entries_with_data(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let first_recent = match self.recent_entries(from, to, max_bytes) {
            Ok(found) => return Ok(found),
            Err(first) => first,
        };
        // Rows are small: a fraction of the bytes brings plenty of them.
        let rows = self.entries_on_disk(from, to.min(first_recent), max_bytes / 16)?;
        let mut whole: Vec<Entry> = Vec::new();
        for Entry {
            log_id,
            mut payload,
        } in within(rows.into_iter(), max_bytes)
        {
            if log_id.index != from + whole.len() as u64 {
                break;
            }
            if let EntryPayload::Normal(decoded) = payload {
                let entry = match self.with_data(&decoded.0) {
                    Ok(found) => found,
                    Err(error) => {
                        let (group, index) = (self.id, log_id.index);
                        tracing::debug!(%error, %group, index, "an entry's data can't be read back");
                        rows::without_data(decoded)?
                    }
                };
                payload = EntryPayload::Normal(Payload(Arc::new(entry)));
            }
            whole.push(Entry { log_id, payload });
        }
        Ok(whole)
    }

    /// Whether this replica's log has the entry.
    pub(crate) fn has(&self, id: LogId) -> Result<bool, StoreError> {
        if lock(&self.tail).purged >= Some(id) {
            return Ok(true);
        }
        let found = self.entries(id.index, id.index + 1, 1)?;
        Ok(found.first().is_some_and(|entry| entry.log_id == id))
    }

    /// Whether this replica has nothing, neither a log nor what a snapshot brought.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.tail).last.is_none()
    }

    /// Notes that a follower needs an entry that can't be read back with its data.
    pub(crate) fn note_unreadable(&self, index: u64) {
        self.unreadable.fetch_max(index + 1, Ordering::AcqRel);
    }

    fn with_data(&self, entry: &GroupEntry) -> Result<GroupEntry, WireError> {
        let decided = entry.commands.iter().zip(entry.outcomes());
        let mut appended = decided.filter_map(|(command, outcome)| match (command, outcome) {
            (Command::Append { meta, .. }, Outcome::Appended { base_offset }) => {
                Some((meta.partition, *base_offset, meta.offsets))
            }
            _ => None,
        });
        wire::with_bodies(entry, || {
            let (partition, base_offset, offsets) =
                appended.next().ok_or(WireError::Missing("an append"))?;
            self.body(partition, base_offset, offsets)
        })
    }

    /// The body of one batch, exactly as it was appended. A compacted one has the same offsets, and may
    /// even be as long; its number of records tells.
    fn body(&self, id: PartitionId, base_offset: i64, offsets: i32) -> Result<Bytes, WireError> {
        if let Some(body) = self.partition(id).cached_body(base_offset) {
            return Ok(body);
        }
        let found = self.store.batches(id, base_offset, base_offset + 1, 1)?;
        let batch = found
            .into_iter()
            .next()
            .ok_or(WireError::Missing("a batch"))?;
        match (batch_span(&batch), has_lost_records(&batch)) {
            (Some((base, last)), Some(false))
                if base == base_offset && last + 1 == base + offsets as i64 =>
            {
                Ok(batch.slice(BATCH_HEAD_BYTES..))
            }
            (_, Some(true)) => Err(WireError::Wrong("a batch that was compacted")),
            _ => Err(WireError::Wrong("a batch of other offsets than its row")),
        }
    }
}

/// The first entries, as many as have `max_bytes` of record data, at least one.
fn within(entries: impl Iterator<Item = Entry>, max_bytes: usize) -> Vec<Entry> {
    let mut bytes = 0usize;
    let mut fits = |entry: &Entry| {
        let first = bytes == 0;
        let size = match &entry.payload {
            EntryPayload::Normal(payload) => payload.0.size_bytes(),
            _ => 0,
        };
        bytes = bytes.saturating_add(size).max(1);
        first || bytes <= max_bytes
    };
    entries.take_while(|entry| fits(entry)).collect()
}
