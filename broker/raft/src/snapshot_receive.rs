//! Receives a snapshot: says what it has, stages what comes, and has openraft install it at the end.

use std::sync::Arc;

use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use ottla_log::{IndexRow, StoreError};
use ottla_proto::ids::{GroupId, NodeId, PartitionId};
use ottla_proto::limits::{PARTITIONS_PER_CLUSTER, SNAPSHOT_STATES_BYTES, SNAPSHOT_WRITE_BYTES};
use ottla_proto::peer::snapshot_part::Kind;
use ottla_proto::peer::{Frame, SnapshotBegin, SnapshotHave, SnapshotHaves, SnapshotInstalled};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::group::Group;
use crate::groups::Directory;
use crate::install::{Image, StageError};
use crate::rows;
use crate::snapshot_send::{TransferError, get, put};
use crate::staged;
use crate::storage::SnapshotData;
use crate::transport::Connection;
use crate::types::{TypeConfig, Vote};
use crate::wire;

/// Haves that share one message.
const HAVES: usize = 4096;

#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wire(#[from] wire::WireError),
    /// Earlier leaders may have committed memberships that the leader has not applied. A replica that has nothing
    /// waits for those of today, because it may have forgotten what it had. Others must not wait: the leader may
    /// need their answers before it can apply anything.
    #[error(
        "the leader has applied nothing of its own term yet, and this replica has nothing at all"
    )]
    Early,
    #[error("{0}")]
    Refused(String),
}

pub(crate) async fn receive(directory: Arc<Directory>, node: NodeId, connection: Connection) {
    let Connection {
        sender,
        mut receiver,
    } = connection;
    match transfer(&directory, node, &mut receiver, &sender).await {
        Ok(vote) => {
            let vote = Some(wire::put_vote(&vote));
            let _ = put(&sender, Kind::Installed(SnapshotInstalled { vote })).await;
        }
        Err(error) => {
            tracing::info!(%error, node, "a snapshot was not received");
            let _ = put(&sender, Kind::Failed(error.to_string())).await;
        }
    }
    // What was said last is read before the connection goes.
    let _ = receiver.recv().await;
}

async fn transfer(
    directory: &Directory,
    node: NodeId,
    receiver: &mut mpsc::Receiver<Frame>,
    sender: &mpsc::Sender<Frame>,
) -> Result<Vote, ReceiveError> {
    let Kind::Begin(begin) = get(receiver).await? else {
        return Err(TransferError::Unexpected("no beginning").into());
    };
    let group = directory.asked(node, GroupId(begin.group), begin.from, begin.to);
    let group = group.map_err(ReceiveError::Refused)?;
    let Ok(_only) = group.receiving.try_lock() else {
        return Err(ReceiveError::Refused(
            "another transfer is going on".to_owned(),
        ));
    };
    let vote = wire::vote(&begin.vote)?;
    let image = receive_states(receiver, &begin).await?;
    let applied = image.checkpoint.applied;
    let is_early = applied.is_none_or(|id| id.leader_id.term < vote.leader_id().term);
    if is_early && group.log.is_empty() {
        return Err(ReceiveError::Early);
    }
    let ids = image.partitions.iter();
    let ids: Vec<_> = ids
        .map(|(id, state)| (*id, state.log_start_offset))
        .collect();
    send_haves(&group, &ids, sender).await?;
    receive_data(&group, receiver).await?;
    install(&group, vote, image).await
}

async fn receive_states(
    receiver: &mut mpsc::Receiver<Frame>,
    begin: &SnapshotBegin,
) -> Result<Image, ReceiveError> {
    let checkpoint = rows::decode_checkpoint(&begin.checkpoint)?;
    if checkpoint.applied.is_none() {
        return Err(TransferError::Empty.into());
    }
    let removed = rows::decode_removed(&begin.removed)?;
    let mut partitions = Vec::new();
    let mut bytes = 0;
    loop {
        let Kind::States(part) = get(receiver).await? else {
            return Err(TransferError::Unexpected("something else than states").into());
        };
        for state in part.states {
            bytes += state.row.len();
            if bytes > SNAPSHOT_STATES_BYTES || partitions.len() >= PARTITIONS_PER_CLUSTER {
                return Err(TransferError::Unexpected("more states than fit").into());
            }
            let id = PartitionId(state.partition);
            if staged::staged_for(id).is_some() {
                return Err(TransferError::Unexpected("a partition number that is kept").into());
            }
            partitions.push((id, rows::decode_partition(&state.row)?));
        }
        if part.last {
            return Ok(Image {
                checkpoint,
                partitions,
                removed,
            });
        }
    }
}

async fn send_haves(
    group: &Group,
    ids: &[(PartitionId, i64)],
    sender: &mpsc::Sender<Frame>,
) -> Result<(), ReceiveError> {
    let found = group.log.stage(ids);
    let mut haves = ids.iter().zip(found).map(|((id, _), have)| SnapshotHave {
        partition: id.0,
        end_offset: have.end_offset,
        leader_epoch: have.leader_epoch,
    });
    loop {
        let part: Vec<_> = haves.by_ref().take(HAVES).collect();
        let last = part.len() < HAVES;
        put(sender, Kind::Haves(SnapshotHaves { haves: part, last })).await?;
        if last {
            return Ok(());
        }
    }
}

/// Stages data until the end; all of it is in the store when this returns.
async fn receive_data(
    group: &Group,
    receiver: &mut mpsc::Receiver<Frame>,
) -> Result<(), ReceiveError> {
    let room = Arc::new(Semaphore::new(SNAPSHOT_WRITE_BYTES));
    let failed = watch::Sender::new(None::<StoreError>);
    loop {
        let data = match get(receiver).await? {
            Kind::Data(data) => data,
            Kind::End(_) => break,
            _ => return Err(TransferError::Unexpected("something else than data").into()),
        };
        let bytes: usize = data.batches.iter().map(|b| b.len() + 64).sum();
        if wire::checksum(&data.batches) != data.batches_crc {
            let what = "batches that do not match their checksum";
            return Err(TransferError::Unexpected(what).into());
        }
        // Not into the reserve that the rest of the node needs.
        group.log.store().admit(bytes)?;
        let permits = bytes.clamp(1, SNAPSHOT_WRITE_BYTES) as u32;
        let permit = room.clone().acquire_many_owned(permits).await;
        let permit = permit.expect("the semaphore is never closed");
        let failure = failed.clone();
        let done = Box::new(move |result: Result<(), StoreError>| {
            if let Err(error) = result {
                failure.send_replace(Some(error));
            }
            drop(permit);
        });
        let index = data.index.into_iter().map(|row| IndexRow {
            base_offset: row.base_offset,
            max_timestamp_ms: row.max_timestamp_ms,
            interval_timestamp_ms: row.interval_timestamp_ms,
            position_bytes: row.position_bytes,
        });
        let partition = PartitionId(data.partition);
        group
            .log
            .stage_data(partition, data.replace, data.batches, index.collect(), done)?;
    }
    let all = room.acquire_many(SNAPSHOT_WRITE_BYTES as u32).await;
    drop(all.expect("the semaphore is never closed"));
    let failure = failed.borrow().clone();
    failure.map_or(Ok(()), |error| Err(error.into()))
}

async fn install(group: &Group, vote: Vote, image: Image) -> Result<Vote, ReceiveError> {
    let meta = SnapshotMetaOf::<TypeConfig> {
        last_log_id: image.checkpoint.applied,
        last_membership: image.checkpoint.membership.clone(),
    };
    let snapshot = SnapshotData(Some(Arc::new(image)));
    let snapshot = SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot };
    let installed = group.raft.install_full_snapshot(vote, snapshot).await;
    let installed = installed.map_err(|e| ReceiveError::Refused(e.to_string()))?;
    // Where the log had come further meanwhile nothing was installed.
    let left = group.log.discard_staging();
    if !left.is_empty() {
        group.log.write(left).await?;
    }
    Ok(installed.vote)
}
