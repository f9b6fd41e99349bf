//! openraft's storage traits over [`GroupLog`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use ottla_log::Op;
use ottla_proto::limits::{GROUP_ENTRY_BYTES, RAFT_READ_BYTES};

use crate::group_log::GroupLog;
use crate::install::Image;
use crate::off_reactor;
use crate::rows::Checkpoint;
use crate::types::{Entry, LogId, StoredMembership, TypeConfig, Vote};

/// The log, and its reader.
#[derive(Clone)]
pub(crate) struct LogStorage(pub Arc<GroupLog>);

impl RaftLogReader<TypeConfig> for LogStorage {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let from = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(i) => i + 1,
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        let mut entries = Vec::new();
        let mut next = from;
        while next < to {
            let found = self.0.entries(next, to, RAFT_READ_BYTES)?;
            let Some(last) = found.last() else { break };
            next = last.log_id.index + 1;
            entries.extend(found);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.vote())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        // What a follower is sent: about one entry at a time.
        if let Ok(recent) = self.0.recent_entries(start, end, GROUP_ENTRY_BYTES) {
            return Ok(recent);
        }
        let log = self.0.clone();
        let read = move || log.entries_with_data(start, end, GROUP_ENTRY_BYTES);
        Ok(off_reactor(read).await?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = LogStorage;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (last_purged_log_id, last_log_id) = self.0.log_state();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> LogStorage {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        Ok(self.0.save_vote(vote).await?)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.0.installed().await;
        let done = Box::new(move |result: Result<(), _>| {
            callback.io_completed(result.map_err(io::Error::from))
        });
        Ok(self.0.append(entries, done)?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        Ok(self.0.truncate_after(last_log_id).await?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.0.purge(log_id);
        Ok(())
    }
}

/// The state machine: applying moves high watermarks. Its snapshot is the group's checkpoint.
pub(crate) struct StateMachine(pub Arc<GroupLog>);

/// What a snapshot carries to another replica; nothing where it stays here.
pub(crate) struct SnapshotData(pub Option<Arc<Image>>);

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.0.applied();
        Ok((applied.applied, applied.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let outcomes = self.0.apply(&entry);
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointBuilder {
        let (checkpoint, ops) = self.0.checkpoint_ops();
        CheckpointBuilder {
            log: self.0.clone(),
            checkpoint,
            ops,
        }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let empty = || io::Error::new(io::ErrorKind::InvalidData, "a snapshot without data");
        Ok(self.0.install(snapshot.0.ok_or_else(empty)?).await?)
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        // Of what is applied now: a follower that needs it gets the newest there is.
        let image = self.0.image();
        let checkpoint = image.checkpoint.clone();
        let data = SnapshotData(Some(Arc::new(image)));
        Ok(checkpoint
            .applied
            .is_some()
            .then(|| snapshot(&checkpoint, data)))
    }
}

/// Writes a checkpoint that was taken between two entries.
pub(crate) struct CheckpointBuilder {
    log: Arc<GroupLog>,
    checkpoint: Checkpoint,
    ops: Vec<Op>,
}

impl RaftSnapshotBuilder<TypeConfig> for CheckpointBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        self.log.write(std::mem::take(&mut self.ops)).await?;
        self.log.checkpoint_stored(self.checkpoint.clone());
        Ok(snapshot(&self.checkpoint, SnapshotData(None)))
    }
}

fn snapshot(
    checkpoint: &Checkpoint,
    snapshot: SnapshotData,
) -> SnapshotOf<TypeConfig, SnapshotData> {
    let meta = SnapshotMetaOf::<TypeConfig> {
        last_log_id: checkpoint.applied,
        last_membership: checkpoint.membership.clone(),
    };
    SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot }
}
